//! The raw log lets go of what went for good, and of nothing else.

use base::{DatabaseName, TableName};
use events::{ColumnType, Declared};
use journal::Segment;

use super::*;
use crate::entries::Header;
use crate::product::aside::Beside;

fn web() -> DatabaseName {
    "web".parse().unwrap()
}

async fn put(product: &Product, table: &str, tag: &str) {
    let table: TableName = table.parse().unwrap();
    product
        .append(&web(), &table, Some(tag), batch(&[tag]), &[], Beside::default())
        .await
        .unwrap();
}

impl House {
    fn reader(&self) -> Arc<Lease> {
        Arc::new(Lease::new(self.private_key.clone()))
    }

    async fn trim(&self, product: &Product, with_lease: bool) {
        let lease = with_lease.then(|| self.reader());
        product.trim_due(lease.as_deref(), &CancellationToken::new()).await;
    }

    /// What of the journal can be opened by whoever has the key: of each entry of rows, its table.
    async fn raw(&self, zones: &Arc<Zones>) -> Vec<base::TableId> {
        let key = self.installation.key();
        let name = super::super::journal_name(super::product());
        let found = journal::survey(zones, &key, Role::Warehouse, &name, Some(super::product()))
            .await
            .unwrap();
        assert!(found.damage.is_empty() && found.superseded.is_empty() && found.refused.is_empty());
        let mut tables = Vec::new();
        for segment in found.segments {
            let opened = Segment::open(&segment, zones, &self.private_key).await.unwrap();
            assert_eq!(opened.len(), segment.headers.len());
            for entry in opened {
                if let Header::Rows(rows) = Header::decode(&entry.header).unwrap() {
                    tables.push(rows.table);
                }
            }
        }
        tables
    }
}

/// Two tables of which some rows share a segment, one of them gone for good.
async fn with_one_gone(house: &mut House, zones: &Arc<Zones>) -> (Arc<Product>, base::TableId) {
    house.settings.journal.commit_after = Duration::from_millis(100);
    let product = house.open(zones).await.unwrap();
    with_table(&product).await;
    product.create_table(web(), "gone".parse().unwrap()).await.unwrap();
    put(&product, "gone", "alone").await;
    let before = product.head().length;
    let tags = ["g1", "e1", "g2", "e2", "g3", "e3"];
    let together = tags.map(|tag| put(&product, if tag.starts_with('g') { "gone" } else { "events" }, tag));
    futures::future::join_all(together).await;
    assert!(product.head().length < before + 6, "some are in one segment");
    product.flush_all().await;
    put(&product, "events", "in memory").await;
    let gone: TableName = "gone".parse().unwrap();
    let id = product.table_id(&web(), &gone).unwrap();
    product.delete_table(&web(), &gone).await.unwrap();
    (product, id)
}

#[tokio::test]
async fn rows_that_went_for_good_leave_the_raw_log_and_all_others_stay() {
    let mut house = House::new(90);
    let (each, zones) = house.memory();
    let (product, gone) = with_one_gone(&mut house, &zones).await;
    house.trim(&product, true).await;
    assert_eq!(
        house.raw(&zones).await.iter().filter(|id| **id == gone).count(),
        4,
        "not while it can be brought back"
    );
    house.pass_for_good(&product).await;

    // What shares a segment with others waits for a lease.
    house.trim(&product, false).await;
    let left = house.raw(&zones).await;
    let of_gone = left.iter().filter(|id| **id == gone).count();
    assert!(of_gone < 4, "{of_gone}");
    house.trim(&product, true).await;
    let left = house.raw(&zones).await;
    assert!(!left.contains(&gone));
    assert_eq!(left.len(), 4);
    let objects: Vec<_> = each
        .iter()
        .map(|zone| zone.objects().into_iter().filter(|name| name.is_below("raw")).count())
        .collect();
    assert_eq!(objects[0], objects[1]);

    let all = ["e1", "e2", "e3", "in memory"];
    assert_eq!(house.tags(&product).await, all);
    // Types are changed from what is left of the raw log.
    let typed = Declared::new([("tag".to_owned(), ColumnType::Json)]).unwrap();
    let id = product.declare(&web(), &"events".parse().unwrap(), typed, None).await.unwrap();
    product.retype(id, &house.reader(), &CancellationToken::new()).await.unwrap();
    assert_eq!(
        house
            .rows(&product, "SELECT 1 FROM events")
            .await
            .iter()
            .map(RecordBatch::num_rows)
            .sum::<usize>(),
        4
    );
    product.close().await;
    drop(product);

    // And everything else is made again from it.
    std::fs::remove_dir_all(house.directory.path().join("products")).unwrap();
    let product = house.open(&zones).await.unwrap();
    assert_eq!(
        house
            .rows(&product, "SELECT 1 FROM events")
            .await
            .iter()
            .map(RecordBatch::num_rows)
            .sum::<usize>(),
        4
    );
    for tag in ["e1", "e2", "e3", "in memory"] {
        assert!(append(&product, Some(tag), batch(&[tag])).await.unwrap().duplicate, "{tag}");
    }
    let length = product.head().length;
    house.trim(&product, true).await;
    assert_eq!(product.head().length, length);
}

#[tokio::test]
async fn rows_that_nobody_has_opened_since_a_start_are_found_in_what_is_left_of_their_segments() {
    let mut house = House::new(91);
    let (_, zones) = house.memory();
    let (product, gone) = with_one_gone(&mut house, &zones).await;
    for tag in ["g4", "e4", "g5", "e5"] {
        // Sealed after the start.
        if tag.starts_with('e') {
            put(&product, "events", tag).await;
        }
    }
    drop(product);
    std::fs::remove_dir_all(house.directory.path().join("products")).unwrap();
    let product = house.open(&zones).await.unwrap();
    house.pass_for_good(&product).await;
    assert!(!product.read().sealed.is_empty());
    house.trim(&product, true).await;
    assert!(!house.raw(&zones).await.contains(&gone));
    assert_eq!(house.tags(&product).await, ["e1", "e2", "e3", "e4", "e5", "in memory"]);
}

#[tokio::test]
async fn what_a_crash_left_between_is_finished_after_the_start() {
    let mut house = House::new(92);
    let (each, zones) = house.memory();
    let (product, gone) = with_one_gone(&mut house, &zones).await;
    house.pass_for_good(&product).await;
    // The new forms are there, and nothing could be deleted.
    let key = house.installation.key();
    let name = super::super::journal_name(super::product());
    let found = journal::survey(&zones, &key, Role::Warehouse, &name, Some(super::product()))
        .await
        .unwrap();
    let mut forms = 0;
    for segment in &found.segments {
        let is_kept = |header: &Bytes| !matches!(Header::decode(header).unwrap(), Header::Rows(rows) if rows.table == gone);
        let kept: Vec<usize> = (0..segment.headers.len()).filter(|at| is_kept(&segment.headers[*at])).collect();
        let parts = product.shared.journal_parts();
        let form = journal::trim(&parts, segment, &kept, &product.public_key, Some(&house.private_key))
            .await
            .unwrap();
        forms += usize::from(form.name != segment.name);
    }
    assert!(forms > 1);
    drop(product);
    let product = house.open(&zones).await.unwrap();
    each[0].go_down();
    house.trim(&product, false).await;
    each[0].come_back();
    assert!(!house.raw(&zones).await.contains(&gone));
    assert_eq!(house.tags(&product).await, ["e1", "e2", "e3", "in memory"]);
}

#[tokio::test]
async fn what_went_before_a_checkpoint_leaves_the_raw_log_after_the_next_start() {
    let mut house = House::new(93);
    let (_, zones) = house.memory();
    let (product, gone) = with_one_gone(&mut house, &zones).await;
    house.pass_for_good(&product).await;
    super::starts::checkpointed(&product).await;
    let passed = super::super::checkpoint::load(product.catalog()).await.unwrap();
    assert_eq!(passed, product.journal.head());
    // Nobody has trimmed yet.
    drop(product);
    let product = house.open(&zones).await.unwrap();
    house.trim(&product, false).await;
    drop(product);
    // Some wait for a lease, which comes after another start.
    let product = house.open(&zones).await.unwrap();
    assert!(house.raw(&zones).await.contains(&gone));
    house.trim(&product, true).await;
    assert!(!house.raw(&zones).await.contains(&gone));
    assert_eq!(product.catalog().wanted_trim().await.unwrap(), None);
    drop(product);
    let product = house.open(&zones).await.unwrap();
    assert_eq!(house.tags(&product).await, ["e1", "e2", "e3", "in memory"]);
}
