//! A start: what it reads of the journal, and that nothing is missed by what it does not read.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::JoinHandle;
use tonic::async_trait;
use zones::{ObjectName, ZoneError};

use super::super::ProductError;
use super::super::append::Appended;
use super::*;
use crate::entries::Header;

/// A zone that counts what it is asked to read.
#[derive(Debug)]
struct Counting {
    zone: Arc<MemoryZone>,
    reads: Arc<AtomicUsize>,
}

#[async_trait]
impl Zone for Counting {
    fn name(&self) -> &str {
        self.zone.name()
    }
    async fn put(&self, name: &ObjectName, bytes: Bytes) -> Result<(), ZoneError> {
        self.zone.put(name, bytes).await
    }
    async fn get(&self, name: &ObjectName, most: u64) -> Result<Bytes, ZoneError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.zone.get(name, most).await
    }
    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, ZoneError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.zone.get_range(name, range).await
    }
    async fn list_page(&self, prefix: &str, after: &str, most: usize) -> Result<Vec<ObjectName>, ZoneError> {
        self.zone.list_page(prefix, after, most).await
    }
    async fn delete(&self, name: &ObjectName) -> Result<(), ZoneError> {
        self.zone.delete(name).await
    }
    async fn probe(&self) -> Result<(), ZoneError> {
        self.zone.probe().await
    }
    fn is_complete(&self) -> bool {
        self.zone.is_complete()
    }
    async fn set_complete(&self) -> Result<(), ZoneError> {
        self.zone.set_complete().await
    }
}

/// Opens the product, and says how many reads that took.
async fn opened(house: &House, each: &[Arc<MemoryZone>]) -> (Arc<Product>, usize) {
    let reads = Arc::new(AtomicUsize::new(0));
    let counting = |zone: &Arc<MemoryZone>| -> Arc<dyn Zone> {
        Arc::new(Counting {
            zone: Arc::clone(zone),
            reads: Arc::clone(&reads),
        })
    };
    let product = house.open(&house.zones(each.iter().map(counting).collect())).await.unwrap();
    (product, reads.load(Ordering::SeqCst))
}

/// Flushes, and looks until a checkpoint is made.
pub(super) async fn checkpointed(product: &Product) {
    product.flush_all().await;
    for _ in 0..4 {
        product.advance_checkpoint().await;
    }
}

#[tokio::test]
async fn a_start_reads_what_came_after_the_checkpoint_and_nothing_of_a_thousand_segments_before() {
    let mut house = House::new(140);
    house.settings.journal.commit_after = Duration::ZERO;
    let (each, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    for number in 0..1_000 {
        append(&product, Some(&number.to_string()), batch(&["old"])).await.unwrap();
    }
    assert!(product.head().length >= 1_000);
    checkpointed(&product).await;
    append(&product, Some("new"), batch(&["new"])).await.unwrap();
    drop(product);

    let (product, reads) = opened(&house, &each).await;
    assert!(reads <= 8, "{reads} reads");
    let counted = "SELECT cast(count(*) AS varchar) || ' ' || max(tag) || ' ' || min(tag) FROM events";
    assert_eq!(texts(&house.rows(&product, counted).await), ["1001 old new"]);
    assert!(append(&product, Some("7"), batch(&["old"])).await.unwrap().duplicate);
    assert!(append(&product, Some("new"), batch(&["new"])).await.unwrap().duplicate);
    product.close().await;
    let (product, reads) = opened(&house, &each).await;
    assert!(reads <= 4, "{reads} reads");
    assert_eq!(texts(&house.rows(&product, counted).await), ["1001 old new"]);
}

#[tokio::test]
async fn a_checkpoint_waits_for_rows_in_memory_sealed_ones_and_changes_that_are_not_made() {
    let house = House::new(141);
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    let made = |product: &Arc<Product>| {
        let product = Arc::clone(product);
        async move {
            for _ in 0..4 {
                product.advance_checkpoint().await;
            }
            super::super::checkpoint::load(product.catalog()).await.unwrap().length
        }
    };
    with_table(&product).await;
    let empty = made(&product).await;
    assert_eq!(empty, product.head().length, "a database and a table, and no rows");
    append(&product, None, batch(&["a"])).await.unwrap();
    assert_eq!(made(&product).await, empty);
    drop(product);

    let product = house.open(&zones).await.unwrap();
    assert_eq!(made(&product).await, empty, "the row is sealed");
    assert_eq!(house.tags(&product).await, ["a"]);
    assert_eq!(made(&product).await, empty, "the row is in memory");
    product.flush_all().await;
    let full = made(&product).await;
    assert!(full > empty);

    let fail = "CREATE TRIGGER told_to_fail BEFORE UPDATE ON progress BEGIN SELECT RAISE(ABORT, 'told to fail'); END";
    sqlx::raw_sql(fail).execute(product.catalog().pool()).await.unwrap();
    product.create_database("more".parse().unwrap()).await.unwrap_err();
    assert_eq!(made(&product).await, full, "the database is in the journal only");
    sqlx::raw_sql("DROP TRIGGER told_to_fail")
        .execute(product.catalog().pool())
        .await
        .unwrap();
    product.flush_due().await;
    assert_eq!(made(&product).await, product.head().length);
    drop(product);
    let product = house.open(&zones).await.unwrap();
    assert_eq!(product.databases(&Scope::Product).len(), 2);
    assert_eq!(house.tags(&product).await, ["a"]);
}

#[tokio::test]
async fn an_append_that_breaks_off_is_not_passed_by_a_checkpoint() {
    let house = House::new(142);
    let (each, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    let importing = under_way(&product, &each).await;
    importing.abort();
    assert!(importing.await.unwrap_err().is_cancelled());
    each.iter().for_each(|zone| zone.let_puts_arrive());
    append(&product, Some("y"), batch(&["y"])).await.unwrap();
    checkpointed(&product).await;
    drop(product);

    let product = house.open(&zones).await.unwrap();
    assert_eq!(house.tags(&product).await, ["x", "y"]);
}

#[tokio::test]
async fn a_journal_that_ends_before_the_checkpoint_is_refused() {
    let house = House::new(143);
    let (each, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    append(&product, None, batch(&["a"])).await.unwrap();
    product.close().await;
    drop(product);
    for zone in &each {
        let segments = zone.objects().into_iter().filter(|name| name.is_below("raw"));
        zone.lose(&segments.max_by_key(|name| name.id().to_owned()).unwrap());
    }
    let refused = house.open(&again(&house, &each)).await;
    assert_eq!(refused.map(drop).unwrap_err().kind(), ErrorKind::Corrupt);
}

/// A product with an empty table, after an import of which nobody can say whether it is in the journal: what of it is on its way to two
/// zones has not arrived.
async fn with_an_undecided_import(house: &House, each: &[Arc<MemoryZone>], zones: &Arc<Zones>) -> Arc<Product> {
    let product = house.open(zones).await.unwrap();
    with_table(&product).await;
    each[1..].iter().for_each(|zone| zone.hold_puts());
    let refused = append(&product, Some("x"), batch(&["x"])).await.unwrap_err();
    assert!(
        matches!(refused, ProductError::Journal(journal::AppendError::Undecided { .. })),
        "{refused:?}"
    );
    product
}

/// An import that the journal has taken, and the zones have not: what is put into them waits.
async fn under_way(product: &Arc<Product>, each: &[Arc<MemoryZone>]) -> JoinHandle<Result<Appended, ProductError>> {
    each.iter().for_each(|zone| zone.hold_puts());
    let importing = {
        let product = Arc::clone(product);
        tokio::spawn(async move { append(&product, Some("x"), batch(&["x"])).await })
    };
    while product.journal.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    importing
}

/// The undecided import arrives where it was on its way to.
async fn has_arrived(each: &[Arc<MemoryZone>]) {
    each.iter().for_each(|zone| zone.let_puts_arrive());
    let segments = |zone: &Arc<MemoryZone>| zone.objects().iter().filter(|name| name.is_below("raw")).count();
    while each[1..].iter().any(|zone| segments(zone) < 3) {
        tokio::task::yield_now().await;
    }
}

/// The zones as another process finds them.
fn again(house: &House, each: &[Arc<MemoryZone>]) -> Arc<Zones> {
    house.zones(each.iter().map(|zone| Arc::clone(zone) as Arc<dyn Zone>).collect())
}

async fn passed(product: &Product) -> u64 {
    super::super::checkpoint::load(product.catalog()).await.unwrap().length
}

#[tokio::test]
async fn an_undecided_import_stands_after_every_checkpoint_and_counts_where_it_arrived() {
    let house = House::new(144);
    let (each, zones) = house.memory();
    let product = with_an_undecided_import(&house, &each, &zones).await;
    checkpointed(&product).await;
    assert_eq!((passed(&product).await, product.head().length), (2, 2));
    drop(product);
    has_arrived(&each).await;

    let product = house.open(&again(&house, &each)).await.unwrap();
    assert!(append(&product, Some("x"), batch(&["x"])).await.unwrap().duplicate);
    assert_eq!(house.tags(&product).await, ["x"]);
}

#[tokio::test]
async fn an_import_found_undecided_at_a_start_is_no_duplicate_before_it_is_decided() {
    let house = House::new(147);
    let (each, zones) = house.memory();
    let product = with_an_undecided_import(&house, &each, &zones).await;
    drop(product);
    has_arrived(&each).await;
    // As over stores: what was sent by a dead process may arrive in its place yet.
    each.iter().for_each(|zone| zone.set_final(false));
    each.iter().for_each(|zone| zone.fail_next_puts(1_000_000));
    let product = house.open(&again(&house, &each)).await.unwrap();

    let refused = append(&product, Some("x"), batch(&["x"])).await;

    assert_eq!(refused.map(|done| done.duplicate).unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(product.decided(), None);
    each.iter().for_each(|zone| zone.fail_next_puts(0));
    // While they are seen to work again the zones may take nothing.
    let again = loop {
        match append(&product, Some("x"), batch(&["x"])).await {
            Ok(done) => break done,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    assert!(again.duplicate);
    assert_eq!(product.decided(), Some(product.head()));
    assert_eq!(house.tags(&product).await, ["x"]);
}

#[tokio::test]
async fn checkpoints_go_on_after_an_undecided_import_that_gave_way_to_another() {
    let house = House::new(145);
    let (each, zones) = house.memory();
    let product = with_an_undecided_import(&house, &each, &zones).await;
    each.iter().for_each(|zone| zone.let_puts_arrive());
    // While they are seen to work again the zones may take nothing.
    while append(&product, Some("y"), batch(&["y"])).await.is_err() {
        tokio::task::yield_now().await;
    }
    checkpointed(&product).await;
    assert_eq!((passed(&product).await, product.head().length), (3, 3));
    drop(product);

    let product = house.open(&again(&house, &each)).await.unwrap();
    assert_eq!(house.tags(&product).await, ["y"]);
    assert!(!append(&product, Some("x"), batch(&["x"])).await.unwrap().duplicate);
    assert_eq!(house.tags(&product).await, ["x", "y"]);
}

#[tokio::test]
async fn checkpoints_go_on_after_a_table_went_for_good_while_rows_of_it_came_in() {
    let house = House::new(146);
    let (each, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    let id = product.table_id(&"web".parse().unwrap(), &"events".parse().unwrap()).unwrap();
    let importing = under_way(&product, &each).await;
    // As the end of a purge shows it.
    product.write().remove_table(id);
    each.iter().for_each(|zone| zone.let_puts_arrive());
    let refused = importing.await.unwrap().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFound, "{refused:?}");

    let mut waiting = product.control.lock().await;
    product.change(&mut waiting, Header::DeleteTable { id, at: None }).await.unwrap();
    drop(waiting);
    checkpointed(&product).await;
    assert_eq!((passed(&product).await, product.head().length), (4, 4));
}
