//! What is in the zones below `tables/` is what the tables' files are, wherever a process ends; and what a query reads stays while it does.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use events::{ColumnType, Declared};
use futures::StreamExt;
use zones::ObjectName;

use super::*;

/// Deletes what is condemned, and looks whether the zones hold the files of the tables and nothing else.
pub(super) async fn nothing_is_left_over(product: &Product, zones: &Arc<Zones>) {
    product.delete_condemned().await;
    let mut files: Vec<ObjectName> = product
        .read()
        .tables
        .values()
        .flat_map(|table| &table.files)
        .map(|file| file.object.clone())
        .collect();
    files.sort();
    let listed: Vec<ObjectName> = zones.list("tables").await.unwrap().into_iter().map(|object| object.name).collect();
    assert_eq!(listed, files);
    assert_eq!(product.catalog().objects().await.unwrap(), files);
}

fn zones_hold(each: &[Arc<MemoryZone>], object: &ObjectName) -> bool {
    each.iter().any(|zone| zone.holds(object))
}

/// The process ends after `work` was polled so often. True when it came to its end before.
async fn ends_within(polls: usize, work: impl Future<Output = ()>) -> bool {
    let (mut left, mut work) = (polls, pin!(work));
    poll_fn(|cx| match left {
        0 => Poll::Ready(false),
        _ => {
            left -= 1;
            work.as_mut().poll(cx).map(|()| true)
        }
    })
    .await
}

/// What was on its way when the process ended has arrived or never will.
async fn all_quiet(zones: Arc<Zones>) {
    while Arc::strong_count(&zones) > 1 {
        tokio::task::yield_now().await;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Flush,
    Merge,
    Retype,
    Delete,
}

async fn cut_at(work: Work, polls: usize) -> bool {
    let mut house = House::new(100);
    house.settings.flush.merge_files = 2;
    let (each, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    for tag in ["a", "b", "c"] {
        append(&product, Some(tag), batch(&[tag])).await.unwrap();
        product.flush_all().await;
    }
    append(&product, Some("d"), batch(&["d"])).await.unwrap();
    if work == Work::Retype {
        let (web, events) = ("web".parse().unwrap(), "events".parse().unwrap());
        let types = Declared::new([("tag".to_owned(), ColumnType::Json)]).unwrap();
        product.declare(&web, &events, types, None).await.unwrap();
    }
    if work == Work::Delete {
        house.merge(&product).await;
    }
    let done = ends_within(polls, async {
        match work {
            Work::Flush => product.flush_all().await,
            Work::Merge => house.merge(&product).await,
            Work::Retype => product.retype_due(&house.lease(), &CancellationToken::new()).await,
            Work::Delete => product.delete_condemned().await,
        }
    })
    .await;
    drop(product);
    all_quiet(zones).await;

    let zones = house.zones(each.iter().map(|zone| Arc::clone(zone) as Arc<dyn Zone>).collect());
    let product = house.open(&zones).await.unwrap();
    nothing_is_left_over(&product, &zones).await;
    assert_eq!(
        texts(&house.rows(&product, "SELECT cast(count(*) AS varchar) FROM events").await),
        ["4"],
        "{work:?} cut at {polls}"
    );
    for tag in ["a", "b", "c", "d"] {
        assert!(append(&product, Some(tag), batch(&[tag])).await.unwrap().duplicate);
    }
    done
}

#[tokio::test]
async fn wherever_a_process_ends_no_object_is_left_behind_and_no_row_is_lost() {
    for work in [Work::Flush, Work::Merge, Work::Retype, Work::Delete] {
        let mut polls = 0;
        while !cut_at(work, polls).await {
            polls += 1;
            assert!(polls < 1_000, "{work:?} does not end");
        }
        // Without these the test would prove nothing.
        assert!(polls > 2, "{work:?} was cut {polls} times only");
    }
}

#[tokio::test]
async fn what_was_merged_away_stays_while_a_query_reads_it_and_goes_when_the_query_ends() {
    let mut house = House::new(101);
    house.settings.flush.merge_files = 2;
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    for tag in ["a", "b", "c"] {
        append(&product, None, batch(&[tag])).await.unwrap();
        product.flush_all().await;
    }
    let view = product.view(&Scope::Product, &house.private_key).await.unwrap();
    house.merge(&product).await;
    product.delete_condemned().await;
    assert_eq!(zones.list("tables").await.unwrap().len(), 4);

    // The view is gone as soon as the query runs; the query itself goes on reading.
    let engine = Engine::new(Arc::clone(&zones), house.settings.query.clone());
    let mut running = engine
        .run(&view, house.lease(), "web", "SELECT tag FROM events", CancellationToken::new())
        .await
        .unwrap();
    drop(view);
    product.delete_condemned().await;
    let mut tags = Vec::new();
    while let Some(batch) = running.next().await {
        tags.extend(texts(&[batch.unwrap()]));
    }
    tags.sort();
    assert_eq!(tags, ["a", "b", "c"]);
    drop(running);
    nothing_is_left_over(&product, &zones).await;
    assert_eq!(zones.list("tables").await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_deletion_that_fails_is_tried_again_later_and_after_a_restart() {
    let mut house = House::new(102);
    house.settings.flush.merge_files = 2;
    let (each, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    for tag in ["a", "b"] {
        append(&product, None, batch(&[tag])).await.unwrap();
        product.flush_all().await;
    }
    house.merge(&product).await;
    each[0].go_down();
    each[1].go_down();
    product.delete_condemned().await;
    assert_eq!(product.catalog().condemned(10).await.unwrap().len(), 2);
    each[0].come_back();
    each[1].come_back();
    product.delete_condemned().await;
    assert_eq!(product.catalog().condemned(10).await.unwrap().len(), 2, "a moment ago it failed");

    let mut looks = 0;
    while !product.catalog().condemned(10).await.unwrap().is_empty() {
        house.clock.advance(Duration::from_secs(30));
        product.delete_condemned().await;
        looks += 1;
        assert!(looks < 5);
    }
    nothing_is_left_over(&product, &zones).await;
    append(&product, None, batch(&["c"])).await.unwrap();
    product.flush_all().await;
    house.merge(&product).await;
    drop(product);
    nothing_is_left_over(&house.open(&zones).await.unwrap(), &zones).await;
}

#[tokio::test]
async fn what_the_state_shows_is_not_deleted_whatever_the_catalog_says() {
    let house = House::new(105);
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    append(&product, None, batch(&["a"])).await.unwrap();
    product.flush_all().await;
    let condemn = "INSERT INTO condemned (object) SELECT object FROM files";
    sqlx::raw_sql(condemn).execute(product.catalog().pool()).await.unwrap();
    product.condemned_some();
    product.delete_condemned().await;
    assert_eq!(house.tags(&product).await, ["a"]);
}

#[tokio::test]
async fn a_file_that_is_refused_by_the_zones_is_noted_and_taken_away() {
    let house = House::new(103);
    let (each, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    append(&product, None, batch(&["a"])).await.unwrap();
    // Two of three fail: one of them keeps the file all the same.
    each[0].do_and_deny_next_puts(1);
    each[1].fail_next_puts(1);
    product.flush_all().await;
    assert_eq!(product.read().tables.values().map(|table| table.files.len()).sum::<usize>(), 0);
    assert_eq!(product.catalog().objects().await.unwrap(), [], "it was taken back for certain");
    nothing_is_left_over(&product, &zones).await;
    // Of three that are refused while the zones are away, no grave is dug when they are back.
    each[0].go_down();
    each[1].go_down();
    for _ in 0..3 {
        product.flush_all().await;
    }
    each[0].come_back();
    each[1].come_back();
    product.delete_condemned().await;
    assert!(
        !each
            .iter()
            .any(|zone| zone.objects().iter().any(|name| name.as_str().starts_with("tombstones/tables")))
    );
    // One that may yet appear is deleted.
    each[2].hold_puts();
    each[1].fail_next_puts(1);
    product.flush_all().await;
    each[2].let_puts_arrive();
    while product
        .catalog()
        .objects()
        .await
        .unwrap()
        .iter()
        .any(|object| zones_hold(&each, object))
    {
        house.clock.advance(Duration::from_secs(301));
        product.delete_condemned().await;
        tokio::task::yield_now().await;
    }
    product.flush_all().await;
    nothing_is_left_over(&product, &zones).await;
    assert_eq!(house.tags(&product).await, ["a"]);
}

#[tokio::test]
async fn an_object_that_no_catalog_knows_is_not_copied_and_one_that_is_on_its_way_is() {
    let house = House::new(104);
    let (each, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    append(&product, None, batch(&["a"])).await.unwrap();
    each[2].go_down();
    product.flush_all().await;
    drop(product);
    all_quiet(zones).await;
    let planted = Bytes::from_static(b"planted by who owns a zone");
    let strangers = ["tables/7/01hzzzzzzzzzzzzzzzzzzzzzzz", "elsewhere/7"].map(|prefix| ObjectName::new(prefix, "x", &planted).unwrap());
    for stranger in &strangers {
        each[0].plant(stranger, planted.clone());
    }
    each[2].come_back();

    // Nobody has opened the product when the zones begin to catch up.
    let zones = house.zones(each.iter().map(|zone| Arc::clone(zone) as Arc<dyn Zone>).collect());
    let known = crate::known::Known::load(house.directory.path()).await;
    zones.vouch_with(known.vouch(house.installation.key()));
    let staged = Bytes::from_static(b"staged, and in one zone so far");
    let on_its_way = ObjectName::new("tables/7/x", "y", &staged).unwrap();
    known.add([on_its_way.clone()]);
    each[1].plant(&on_its_way, staged);
    let stop = CancellationToken::new();
    let catching_up = zones.spawn_catch_up(stop.clone());
    let all_in =
        |zone: &MemoryZone| each[0].objects().iter().all(|name| zone.holds(name) || strangers.contains(name)) && zone.holds(&on_its_way);
    while !each.iter().all(|zone| all_in(zone)) || zones.status().iter().any(|zone| zone.waiting > 0 || zone.compare) {
        tokio::task::yield_now().await;
    }
    stop.cancel();
    catching_up.await.unwrap();
    for stranger in &strangers {
        assert!(!each[1].holds(stranger) && !each[2].holds(stranger), "{stranger}");
    }
}
