//! Records that bring ids of their own: each is stored once, in whatever company it is sent.

use std::collections::BTreeSet;

use zones::{ForgetfulZone, Power};

use super::super::aside::Beside;
use super::*;

const DAY: Duration = Duration::from_secs(86_400);

/// Ids as the gateway packs them: one for each tag, the same tag the same id; none for "-".
fn ids(tags: &[&str]) -> Vec<u8> {
    let id = |tag: &&str| {
        let mut id = [0; 16];
        if *tag != "-" {
            id[..tag.len()].copy_from_slice(tag.as_bytes());
        }
        id
    };
    tags.iter().flat_map(id).collect()
}

/// Sends records whose tags are their ids; how many were new.
async fn send(product: &Product, tags: &[&str]) -> Result<u64, super::super::ProductError> {
    let (web, events) = ("web".parse().unwrap(), "events".parse().unwrap());
    let appended = product
        .append(&web, &events, None, batch(tags), &ids(tags), Beside::default())
        .await?;
    assert_eq!(appended.duplicate, appended.rows == 0);
    Ok(appended.rows)
}

async fn sent(product: &Product, tags: &[&str]) -> u64 {
    send(product, tags).await.unwrap()
}

#[tokio::test]
async fn a_record_sent_twice_in_a_request_or_in_two_is_stored_once_before_and_after_flush_merge_and_restart() {
    let mut house = House::new(40);
    house.settings.flush.merge_files = 2;
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    assert_eq!(sent(&product, &["a", "b", "a", "-", "-"]).await, 4);
    assert_eq!(sent(&product, &["b", "c", "a"]).await, 1);
    assert_eq!(sent(&product, &["a", "b", "c"]).await, 0);
    assert_eq!(house.tags(&product).await, ["-", "-", "a", "b", "c"]);

    product.flush_all().await;
    assert_eq!(sent(&product, &["a", "d", "c"]).await, 1);
    drop(product);

    // "d" was in memory only: the clear header of its batch says its id, before anybody opens it.
    let product = house.open(&zones).await.unwrap();
    assert_eq!(sent(&product, &["d", "e", "a"]).await, 1);
    assert_eq!(house.tags(&product).await, ["-", "-", "a", "b", "c", "d", "e"]);

    product.flush_all().await;
    house.merge(&product).await;
    assert_eq!(sent(&product, &["a", "b", "c", "d", "e"]).await, 0);
    product.close().await;

    let product = house.open(&zones).await.unwrap();
    assert_eq!(sent(&product, &["e", "d", "c", "b", "a"]).await, 0);
    assert_eq!(house.tags(&product).await, ["-", "-", "a", "b", "c", "d", "e"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_at_once_that_share_records_store_each_once_and_none_waits_for_ever() {
    let house = House::new(41);
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    let all: Vec<String> = (10..30).map(|number| number.to_string()).collect();
    let requests = (0..all.len()).map(|turn| {
        // Each begins elsewhere, and every second one goes the other way round.
        let mut tags: Vec<&str> = all.iter().map(String::as_str).collect();
        tags.rotate_left(turn);
        if turn % 2 == 1 {
            tags.reverse();
        }
        tags.truncate(7);
        let product = &product;
        async move { sent(product, &tags).await }
    });
    let stored = tokio::time::timeout(Duration::from_secs(60), futures::future::join_all(requests))
        .await
        .unwrap();
    assert_eq!(stored.iter().sum::<u64>(), 20);
    assert_eq!(house.tags(&product).await, all);
}

#[tokio::test]
async fn a_request_that_failed_lets_another_store_its_records() {
    let house = House::new(42);
    let (each, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    each[1].go_down();
    each[2].go_down();
    assert_eq!(send(&product, &["a", "b"]).await.unwrap_err().kind(), ErrorKind::Unavailable);
    each[1].come_back();
    each[2].come_back();
    assert_eq!(sent(&product, &["b", "c"]).await, 2);
    assert_eq!(sent(&product, &["a", "b"]).await, 1);
    assert_eq!(house.tags(&product).await, ["a", "b", "c"]);
}

#[tokio::test]
async fn records_are_known_for_seven_days_and_forgotten_afterwards_without_anything_coming_twice() {
    let house = House::new(43);
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    append(&product, Some("import"), batch(&["i"])).await.unwrap();
    sent(&product, &["a", "b"]).await;
    product.flush_all().await;

    // Each start has a certificate of its own, for a day.
    drop(product);
    house.clock.advance(DAY * 7);
    let product = house.open(&zones).await.unwrap();
    product.flush_due().await;
    assert_eq!(sent(&product, &["a", "b", "c"]).await, 1);
    product.flush_all().await;

    drop(product);
    house.clock.advance(DAY + Duration::from_secs(120));
    let product = house.open(&zones).await.unwrap();
    product.flush_due().await;
    let remembered = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM records");
    assert_eq!(remembered.fetch_one(product.catalog().pool()).await.unwrap(), 1, "\"c\" is young");
    assert_eq!(sent(&product, &["c"]).await, 0);
    drop(product);

    // What was forgotten is no reason to read anything of the journal back.
    let product = house.open(&zones).await.unwrap();
    assert_eq!(house.tags(&product).await, ["a", "b", "c", "i"]);
    assert!(append(&product, Some("import"), batch(&["i"])).await.unwrap().duplicate);
    assert_eq!(sent(&product, &["a"]).await, 1, "after eight days it is a new one");
}

#[tokio::test]
async fn records_of_a_batch_that_comes_to_light_late_are_not_there_twice() {
    for flushed in [false, true] {
        let house = House::new(44);
        let (_, zones) = house.memory();
        let product = house.open(&zones).await.unwrap();
        with_table(&product).await;
        sent(&product, &["a", "-"]).await;
        sent(&product, &["b"]).await;
        // As if nobody had heard that these two were durable: their records come again in other company.
        {
            let mut state = product.write();
            let table = state.tables.values_mut().next().unwrap();
            table.memory.clear();
            table.known.clear();
            table.records = crate::product::records::Records::default();
        }
        assert_eq!(sent(&product, &["a", "b", "c"]).await, 3);
        if flushed {
            product.flush_all().await;
        }
        drop(product);

        for life in 0..2 {
            let product = house.open(&zones).await.unwrap();
            let rows = product.tables(&"web".parse().unwrap()).unwrap()[0].rows;
            assert_eq!(rows, 4, "flushed {flushed}, life {life}");
            assert_eq!(house.tags(&product).await, ["-", "a", "b", "c"], "flushed {flushed}, life {life}");
            if life == 0 {
                assert_eq!(sent(&product, &["a", "b", "c"]).await, 0);
            }
            product.flush_all().await;
            house.clock.advance(DAY * 9);
            product.flush_due().await;
        }
        let product = house.open(&zones).await.unwrap();
        assert_eq!(house.tags(&product).await, ["-", "a", "b", "c"], "flushed {flushed}, ids forgotten");

        // Nor when the table is read again from the raw log, where they are twice.
        let (web, events) = ("web".parse().unwrap(), "events".parse().unwrap());
        let columns = events::Declared::new([("tag".to_owned(), events::ColumnType::Long)]).unwrap();
        product.declare(&web, &events, columns, None).await.unwrap();
        let lease = Lease::new(house.private_key.clone());
        product.retype_due(&lease, &CancellationToken::new()).await;
        let overflow = "SELECT _overflow FROM events WHERE tag IS NULL ORDER BY 1";
        let expected = ["-", "a", "b", "c"].map(|tag| format!(r#"{{"tag":"{tag}"}}"#));
        assert_eq!(texts(&house.rows(&product, overflow).await), expected, "flushed {flushed}");
    }
}

#[tokio::test]
async fn an_id_that_was_used_again_when_it_was_forgotten_counts_again_when_the_catalog_is_made_from_the_journal() {
    let house = House::new(47);
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    assert_eq!(sent(&product, &["a", "b"]).await, 2);
    product.flush_all().await;
    drop(product);
    house.clock.advance(DAY * 9);
    let product = house.open(&zones).await.unwrap();
    product.flush_due().await;
    assert_eq!(sent(&product, &["a"]).await, 1, "forgotten after eight days");
    assert_eq!(sent(&product, &["a"]).await, 0, "and known again");
    assert_eq!(house.tags(&product).await, ["a", "a", "b"]);
    product.close().await;
    drop(product);

    std::fs::remove_dir_all(house.directory.path().join("products")).unwrap();
    let product = house.open(&zones).await.unwrap();
    assert_eq!(house.tags(&product).await, ["a", "a", "b"]);
    assert_eq!(sent(&product, &["a"]).await, 0);
}

#[tokio::test]
async fn after_any_power_cut_every_acknowledged_record_is_there_exactly_once() {
    let mut acknowledged = 0;
    for seed in 0..30 {
        acknowledged += lives(seed).await;
    }
    // Without these the test would prove nothing.
    assert!(acknowledged > 500, "only {acknowledged} records were acknowledged");
}

async fn lives(seed: u64) -> usize {
    let (house, power) = (House::new(seed), Power::on());
    let mut each: Vec<ForgetfulZone> = ["a", "b", "c"].map(|name| ForgetfulZone::new(name, &power)).into();
    let chance = |below: usize| house.chance.next_u64() as usize % below;
    // What the senders were told was stored, and what they do not know.
    let (mut stored, mut perhaps) = (BTreeSet::new(), BTreeSet::new());
    for life in 0..4 {
        let shared: Vec<Arc<ForgetfulZone>> = each.into_iter().map(Arc::new).collect();
        let zones = house.zones(shared.iter().map(|zone| Arc::clone(zone) as Arc<dyn Zone>).collect());
        let product = house
            .open(&zones)
            .await
            .unwrap_or_else(|error| panic!("seed {seed}, life {life}: {error}"));
        if life == 0 {
            with_table(&product).await;
            sent(&product, &["first"]).await;
            stored.insert("first".to_owned());
        }
        let rows = house.tags(&product).await;
        let found: BTreeSet<String> = rows.iter().cloned().collect();
        assert_eq!(found.len(), rows.len(), "seed {seed}, life {life}: twice in {rows:?}");
        assert!(stored.is_subset(&found), "seed {seed}, life {life}: missing in {rows:?}");
        assert!(found.is_subset(&(&stored | &perhaps)), "seed {seed}, life {life}: {rows:?}");

        power.cut_after(1 + chance(1_500) as u64);
        for number in 0..10 {
            // New ones, and some that were sent before, whatever became of them.
            let before: Vec<String> = stored.union(&perhaps).cloned().collect();
            let mut tags: Vec<String> = (0..=chance(2)).map(|new| format!("{life} {number:02} {new}")).collect();
            tags.extend((0..2).map(|_| before[chance(before.len())].clone()));
            match send(&product, &tags.iter().map(String::as_str).collect::<Vec<_>>()).await {
                Ok(_) => stored.extend(tags),
                Err(_) => perhaps.extend(tags),
            }
            if chance(4) == 0 {
                product.flush_all().await;
            }
        }
        drop(product);
        power.restore();
        each = shared.iter().map(|zone| zone.crash_by_chance(&*house.chance)).collect();
    }
    stored.len()
}

#[tokio::test]
async fn records_belong_to_their_table_and_their_ids_take_memory_that_is_charged() {
    let house = House::new(45);
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    let (web, other): (base::DatabaseName, base::TableName) = ("web".parse().unwrap(), "other".parse().unwrap());
    product.create_table(web.clone(), other.clone()).await.unwrap();
    sent(&product, &["a"]).await;
    let elsewhere = product
        .append(&web, &other, None, batch(&["a"]), &ids(&["a"]), Beside::default())
        .await
        .unwrap();
    assert_eq!(elsewhere.rows, 1);

    let before = product.shared.memory.used();
    sent(&product, &["x"]).await;
    let with_id = product.shared.memory.used() - before;
    append(&product, None, batch(&["x"])).await.unwrap();
    assert_eq!(product.shared.memory.used() - before, 2 * with_id - 64);
    product.flush_all().await;
    assert_eq!(product.shared.memory.used(), 0);

    product.delete_table(&web, &"events".parse().unwrap()).await.unwrap();
    product.create_table(web, "events".parse().unwrap()).await.unwrap();
    assert_eq!(sent(&product, &["a"]).await, 1, "a table made again begins empty");
}

#[tokio::test]
async fn ids_that_do_not_fit_their_rows_are_refused() {
    let house = House::new(46);
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    let (web, events) = ("web".parse().unwrap(), "events".parse().unwrap());
    for wrong in [&[1; 15][..], &[1; 17], &[1; 48]] {
        let refused = product
            .append(&web, &events, None, batch(&["a", "b"]), wrong, Beside::default())
            .await
            .unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
    }
    let many = vec!["a"; 10_001];
    let refused = product
        .append(&web, &events, None, batch(&many), &ids(&many), Beside::default())
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert_eq!(product.shared.memory.used(), 0);
}
