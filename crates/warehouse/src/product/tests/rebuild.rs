//! Tables made anew from the raw log: the same rows, once, whatever happens in between.

mod again;

use edge::rebuild::{Order, RebuildLog};
use wire::v1::rebuild_operator_server::RebuildOperator;
use wire::v1::{RebuildFinding, RebuildLookRequest};

use super::super::aside::Beside;
use super::super::rebuild::Rebuild;
use super::*;

const MAKE: Order = Order {
    verify: true,
    compare_only: false,
};
const COMPARE: Order = Order {
    verify: true,
    compare_only: true,
};
const DAY: Duration = Duration::from_secs(86_400);

impl House {
    /// One start of a warehouse that rebuilds; what it found.
    async fn rebuild(&self, zones: &Arc<Zones>, order: Order) -> Result<Vec<RebuildFinding>, super::super::ProductError> {
        let (shared, log) = (self.shared(zones).await, RebuildLog::default());
        let rebuild = Rebuild {
            id: product(),
            shared: &shared,
            key: self.private_key.clone(),
            queries: &tokio::runtime::Handle::current(),
            remembered: None,
            run: [7; 16],
            order,
            log: &log,
        };
        Box::pin(rebuild.run()).await?;
        let looked = log
            .looking()
            .look(tonic::Request::new(RebuildLookRequest { from: 0 }))
            .await
            .unwrap();
        Ok(looked.into_inner().findings)
    }

    /// No catalog, no table: as after the loss of everything that is not a raw log.
    async fn lose_views(&self, each: &[Arc<MemoryZone>]) {
        std::fs::remove_dir_all(self.directory.path().join("products")).unwrap();
        for zone in each {
            for object in zone.list("tables").await.unwrap() {
                zone.delete(&object).await.unwrap();
            }
        }
    }
}

/// Table, state, rows and hash of what was found of whole tables.
fn tables(findings: &[RebuildFinding]) -> Vec<(String, String, u64, Vec<u8>)> {
    let whole = findings.iter().filter(|finding| finding.day.is_empty() && !finding.hash.is_empty());
    whole
        .map(|finding| (finding.about.clone(), finding.state.clone(), finding.rows, finding.hash.clone()))
        .collect()
}

/// Objects below a prefix, in any zone.
async fn objects(each: &[Arc<MemoryZone>], prefix: &str) -> usize {
    let mut all = std::collections::BTreeSet::new();
    for zone in each {
        all.extend(zone.list(prefix).await.unwrap());
    }
    all.len()
}

/// Rows of every kind, some in files and some not; what a query says of them.
async fn filled(house: &House, product: &Arc<Product>) -> Vec<String> {
    let web: base::DatabaseName = "web".parse().unwrap();
    with_table(product).await;
    for name in ["typed", "dropped", "empty"] {
        product.create_table(web.clone(), name.parse().unwrap()).await.unwrap();
    }
    let add = async |table: &str, id: Option<&str>, rows: Bytes, records: &[u8]| {
        let table = table.parse().unwrap();
        product.append(&web, &table, id, rows, records, Beside::default()).await.unwrap();
    };
    add("events", Some("one"), batch(&["a", "b"]), &[]).await;
    add("events", Some("one"), batch(&["a", "b"]), &[]).await;
    add("events", None, value(b"\x05"), &[]).await;
    add("events", None, batch(&["r", "s"]), &[[1; 16], [2; 16]].concat()).await;
    product.flush_all().await;
    add("events", None, batch(&["s", "t"]), &[[2; 16], [3; 16]].concat()).await;
    // The column of longs becomes one of doubles, then of texts.
    add("events", None, value(b"\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00"), &[]).await;
    product.flush_all().await;
    add("events", None, value(b"\xa1x"), &[]).await;
    add("typed", None, value(b"\x07"), &[]).await;
    add("typed", None, value(b"\xa1y"), &[]).await;
    add("dropped", None, batch(&["gone"]), &[]).await;
    product.flush_all().await;
    product.delete_table(&web, &"dropped".parse().unwrap()).await.unwrap();
    let declared = events::Declared::new([("value".to_owned(), events::ColumnType::Long)]).unwrap();
    product.declare(&web, &"typed".parse().unwrap(), declared, None).await.unwrap();
    let lease = Lease::new(house.private_key.clone());
    product.retype_due(&lease, &CancellationToken::new()).await;
    add("events", Some("last"), batch(&["in no file"]), &[]).await;
    answers(house, product).await
}

async fn answers(house: &House, product: &Arc<Product>) -> Vec<String> {
    let mut all = Vec::new();
    for sql in [
        "SELECT concat_ws('|', cast(time AS varchar), coalesce(tag, '-'), coalesce(value, '-')) FROM events ORDER BY 1",
        "SELECT concat_ws('|', cast(value AS varchar), coalesce(_overflow, '-')) FROM typed ORDER BY 1",
        "SELECT cast(count(*) AS varchar) FROM empty",
        "SELECT concat_ws('|', table_name, column_name, data_type) FROM information_schema.columns WHERE table_schema = 'web' ORDER BY table_name, ordinal_position",
    ] {
        all.extend(texts(&house.rows(product, sql).await));
    }
    all
}

#[tokio::test]
async fn tables_come_back_from_the_raw_log_and_what_was_dropped_stays_dropped() {
    let house = House::new(70);
    let (each, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    let before = filled(&house, &product).await;
    assert!(
        before.iter().any(|line| line.contains("in no file")) && before.len() > 12,
        "{before:?}"
    );
    product.close().await;
    let compared = house.rebuild(&zones, COMPARE).await.unwrap();
    let hashes = tables(&compared);
    assert_eq!(hashes.len(), 4, "{compared:?}");
    assert!(hashes.iter().all(|(_, state, ..)| state == "ok"), "{compared:?}");

    house.lose_views(&each).await;
    let rebuilt = house.rebuild(&zones, MAKE).await.unwrap();
    assert_eq!(tables(&rebuilt), hashes);
    assert_eq!(objects(&each, "tables").await, 3, "one file for each table that has rows");
    let product = house.open(&zones).await.unwrap();
    assert_eq!(answers(&house, &product).await, before);
    assert!(product.read().sealed.is_empty(), "nothing is left to be read back");

    // What was known is known: of batches, of records.
    let (web, events) = ("web".parse().unwrap(), "events".parse().unwrap());
    assert!(append(&product, Some("one"), batch(&["a", "b"])).await.unwrap().duplicate);
    assert!(append(&product, Some("last"), batch(&["in no file"])).await.unwrap().duplicate);
    let again = product
        .append(&web, &events, None, batch(&["r"]), &[1; 16], Beside::default())
        .await
        .unwrap();
    assert_eq!(again.rows, 0);
    product.close().await;
    assert_eq!(tables(&house.rebuild(&zones, COMPARE).await.unwrap()), hashes);

    // Once more over an intact one: all is as before, and says so.
    let over = house.rebuild(&zones, MAKE).await.unwrap();
    assert_eq!(tables(&over), hashes);
    assert!(
        over.iter().filter(|f| f.says.contains("held that before")).count() == 4 || over.iter().all(|f| f.state == "ok"),
        "{over:?}"
    );
}

#[tokio::test]
async fn an_id_used_again_when_it_was_forgotten_counts_again_and_is_known_for_as_long_as_it_was() {
    let house = House::new(71);
    let (each, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    let (web, events) = ("web".parse().unwrap(), "events".parse().unwrap());
    let send = async |product: &Product, id: u8| {
        let sent = product
            .append(&web, &events, None, batch(&["r"]), &[id; 16], Beside::default())
            .await;
        sent.unwrap().rows
    };
    assert_eq!(send(&product, 1).await + send(&product, 2).await, 2);
    product.close().await;
    house.clock.advance(DAY * 9);
    let product = house.open(&zones).await.unwrap();
    product.flush_due().await;
    assert_eq!(send(&product, 1).await, 1);
    product.close().await;

    house.lose_views(&each).await;
    let rebuilt = tables(&house.rebuild(&zones, MAKE).await.unwrap());
    assert_eq!(rebuilt[0].2, 3);
    let product = house.open(&zones).await.unwrap();
    assert_eq!((send(&product, 1).await, send(&product, 2).await), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_anywhere_it_goes_on_and_nothing_gets_in_twice() {
    let mut house = House::new(72);
    house.settings.flush.table_bytes = 1;
    let (each, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    let tags: Vec<String> = (0..60).map(|number| format!("{number:02}")).collect();
    for tag in &tags {
        append(&product, Some(tag), batch(&[tag])).await.unwrap();
    }
    product.close().await;
    let hashes = tables(&house.rebuild(&zones, COMPARE).await.unwrap());
    house.lose_views(&each).await;

    let begun = house.directory.path().join("products/7/catalog.rebuilding");
    let mut interruptions = 0;
    let mut patience = Duration::from_millis(2);
    let rebuilt = loop {
        // As a process of its own would.
        let zones = house.zones(each.iter().map(|zone| Arc::clone(zone) as Arc<dyn Zone>).collect());
        match tokio::time::timeout(patience, house.rebuild(&zones, MAKE)).await {
            Ok(Ok(done)) => break done,
            // What the one before had begun to write ends beside this one here, as it never does in a process that was killed.
            Ok(Err(_)) => {}
            Err(_) => interruptions += usize::from(begun.exists()),
        }
        patience += Duration::from_millis(7);
        assert!(patience < Duration::from_secs(20), "it never comes to an end");
    };
    assert!(interruptions > 1, "interrupted {interruptions} times");
    assert_eq!(tables(&rebuilt), hashes);
    let product = house.open(&zones).await.unwrap();
    assert_eq!(house.tags(&product).await, tags);
    let files: usize = product.read().tables.values().map(|table| table.files.len()).sum();
    assert_eq!(objects(&each, "tables").await, files, "what interruptions left is gone");
}

#[tokio::test]
async fn a_table_that_does_not_hold_what_the_raw_log_says_is_found() {
    let house = House::new(73);
    let (each, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    for tags in [&["a", "b"], &["c", "d"]] {
        append(&product, None, batch(tags)).await.unwrap();
        product.flush_all().await;
    }
    // A file that the catalog has forgotten, though it knows its batches.
    sqlx::query("DELETE FROM files WHERE object = (SELECT min(object) FROM files)")
        .execute(product.catalog.pool())
        .await
        .unwrap();
    product.close().await;
    let found = house.rebuild(&zones, COMPARE).await.unwrap();
    assert_eq!(tables(&found)[0].1, "different");
    assert!(found[0].says.contains("4 rows"), "{found:?}");

    // Made anew it is whole, and it is said that it was not.
    let found = house.rebuild(&zones, MAKE).await.unwrap();
    assert!(
        found[0].state == "different" && found[0].says.contains("what it held before was something else"),
        "{found:?}"
    );
    let product = house.open(&zones).await.unwrap();
    assert_eq!(house.tags(&product).await, ["a", "b", "c", "d"]);
    product.close().await;
    assert_eq!(tables(&house.rebuild(&zones, COMPARE).await.unwrap())[0].1, "ok");

    // And a gap in the raw log is named, and nothing is made.
    let segments = zones.list("raw").await.unwrap();
    let taken = &segments.iter().map(|listed| &listed.name).nth(2).unwrap();
    for zone in &each {
        zone.delete(taken).await.unwrap();
    }
    let refused = house.rebuild(&zones, MAKE).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corrupt);
    assert!(refused.to_string().contains("segment 2 is missing"), "{refused}");
}

fn web() -> base::DatabaseName {
    "web".parse().unwrap()
}

fn table() -> base::TableName {
    "events".parse().unwrap()
}

/// Everything that is due after so long, raw logs included.
async fn pass(house: &House, product: &Arc<Product>, time: Duration) {
    house.clock.advance(time);
    let lease = Lease::new(house.private_key.clone());
    for _ in 0..3 {
        product.flush_due().await;
        product.delete_condemned().await;
        product.trim_due(Some(&lease), &CancellationToken::new()).await;
    }
}

#[tokio::test]
async fn a_dropped_table_can_be_brought_back_after_a_rebuild_and_one_that_went_for_good_cannot() {
    let house = House::new(74);
    let (each, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    append(&product, Some("one"), batch(&["for good"])).await.unwrap();
    product.delete_table(&web(), &table()).await.unwrap();
    pass(&house, &product, DAY * 8).await;
    product.create_table(web(), table()).await.unwrap();
    append(&product, Some("two"), batch(&["file"])).await.unwrap();
    product.flush_all().await;
    append(&product, Some("three"), batch(&["memory"])).await.unwrap();
    product.delete_table(&web(), &table()).await.unwrap();
    product.close().await;
    let trimmed = each[0].list("raw").await.unwrap();
    assert!(trimmed.iter().any(|object| object.id().contains("-t1")), "{trimmed:?}");

    let compared = tables(&house.rebuild(&zones, COMPARE).await.unwrap());
    assert_eq!(compared.len(), 1);
    assert_eq!(
        (&*compared[0].0, &*compared[0].1, compared[0].2),
        ("product 7: web.events (dropped)", "ok", 2)
    );
    house.lose_views(&each).await;
    assert_eq!(tables(&house.rebuild(&zones, MAKE).await.unwrap()), compared);
    let product = house.open(&zones).await.unwrap();
    assert_eq!(product.dropped(&Scope::Product).len(), 1);
    product.undrop_table(&web(), &table(), None).await.unwrap();
    assert_eq!(house.tags(&product).await, ["file", "memory"]);
    assert!(append(&product, Some("two"), batch(&["file"])).await.unwrap().duplicate);
    let gone = product.undrop_table(&web(), &table(), Some("other".parse().unwrap())).await;
    assert_eq!(gone.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn rows_whose_raw_log_was_let_go_stay_where_there_is_a_catalog_and_it_is_said_where_there_is_none() {
    let house = House::new(75);
    let (each, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    let send = async |product: &Product, id: &str, record: u8| {
        let rows = batch(&[id]);
        let sent = product
            .append(&web(), &table(), Some(id), rows, &[record; 16], Beside::default())
            .await;
        sent.unwrap().rows
    };
    send(&product, "old", 1).await;
    product.flush_all().await;
    product.set_retention(&web(), &table(), None, Some(86_400)).await.unwrap();
    pass(&house, &product, DAY * 2).await;
    send(&product, "new", 2).await;
    product.close().await;
    assert!(each[0].list("raw").await.unwrap().iter().any(|object| object.id().contains("-t1")));

    let compared = house.rebuild(&zones, COMPARE).await.unwrap();
    assert_eq!((&*tables(&compared)[0].1, tables(&compared)[0].2), ("ok", 2), "{compared:?}");
    for _ in 0..2 {
        let made = house.rebuild(&zones, MAKE).await.unwrap();
        assert_eq!((&*tables(&made)[0].1, tables(&made)[0].2), ("ok", 2), "{made:?}");
        assert!(made[0].says.contains("its raw log was let go in part"), "{made:?}");
    }
    let product = house.open(&zones).await.unwrap();
    assert_eq!(house.tags(&product).await, ["new", "old"]);
    assert!(append(&product, Some("old"), batch(&["old"])).await.unwrap().duplicate);
    assert_eq!(send(&product, "again", 1).await, 0, "a record is known as before");
    product.close().await;
    drop(product);

    house.lose_views(&each).await;
    let made = house.rebuild(&zones, MAKE).await.unwrap();
    assert_eq!((&*tables(&made)[0].1, tables(&made)[0].2), ("note", 1), "{made:?}");
    assert!(made[0].says.contains("1 rows that the raw log had were let go"), "{made:?}");
    let product = house.open(&zones).await.unwrap();
    assert_eq!(house.tags(&product).await, ["new"]);
    assert!(append(&product, Some("old"), batch(&["old"])).await.unwrap().duplicate);
}

#[tokio::test]
async fn rows_that_are_older_than_their_table_keeps_them_make_no_difference() {
    let house = House::new(76);
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    append(&product, Some("old"), batch(&["old"])).await.unwrap();
    product.flush_all().await;
    // `batch` is of 1,799,000,000 and now is a million seconds later.
    product.set_retention(&web(), &table(), Some(12 * 86_400), None).await.unwrap();
    pass(&house, &product, DAY).await;
    assert!(product.read().tables.values().all(|table| table.files.is_empty()));
    let now = house.clock.now().as_secs() as u32;
    let row = [
        &[0x82, 0xa4][..],
        b"time",
        &[0xce],
        &now.to_be_bytes(),
        &[0xa3],
        b"tag",
        &[0xa3],
        b"new",
    ]
    .concat();
    append(&product, Some("new"), sent(&row)).await.unwrap();
    product.close().await;

    let compared = house.rebuild(&zones, COMPARE).await.unwrap();
    assert_eq!((&*tables(&compared)[0].1, tables(&compared)[0].2), ("ok", 1), "{compared:?}");
    let made = house.rebuild(&zones, MAKE).await.unwrap();
    assert_eq!(tables(&made)[0].1, "ok", "{made:?}");
    assert!(made[0].says.contains("held that before"), "{made:?}");
    let product = house.open(&zones).await.unwrap();
    assert_eq!(house.tags(&product).await, ["new"]);
}
