//! A product on simulated disks: what was acknowledged is there, once, whatever happens in between.

mod aside;
mod control;
mod crashes;
mod drops;
mod leftovers;
mod memory;
mod merging;
mod rebuild;
mod records;
mod retention;
mod revoked;
mod starts;
mod swaps;
mod trims;
mod types;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, Int64Array, StringArray};
use arrow::record_batch::RecordBatch;
use base::{Clock, Entropy, ErrorKind, ManualClock, ProductId, Role, Scope, SeededEntropy, Timestamp, WriterId};
use bytes::Bytes;
use edge::CurrentSigner;
use events::{Limits, Syntax, Told, decode, to_ipc};
use query::{Engine, Lease};
use seal::{DataKey, InstallationSigner, PrivateKey, Signer};
use tokio_util::sync::CancellationToken;
use zones::{MemoryZone, Zone, Zones, ZonesSettings};

use super::Product;
use crate::memory::Memory;
use crate::settings::WarehouseSettings;
use crate::shared::Shared;

/// What outlives the processes of a test: keys, the clock, the catalog's directory.
struct House {
    clock: Arc<ManualClock>,
    chance: Arc<SeededEntropy>,
    installation: InstallationSigner,
    private_key: PrivateKey,
    batch_key: DataKey,
    directory: tempfile::TempDir,
    settings: WarehouseSettings,
}

impl House {
    fn new(seed: u64) -> Self {
        let chance = Arc::new(SeededEntropy::new(seed));
        let mut settings = WarehouseSettings::default();
        settings.journal.commit_after = Duration::from_millis(1);
        settings.drops.settle = Duration::ZERO;
        Self {
            clock: Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000))),
            installation: InstallationSigner::generate(&*chance),
            private_key: PrivateKey::generate(&*chance),
            batch_key: DataKey::generate(&*chance),
            directory: tempfile::tempdir().unwrap(),
            settings,
            chance,
        }
    }

    /// Zones in memory.
    fn memory(&self) -> (Vec<Arc<MemoryZone>>, Arc<Zones>) {
        let each: Vec<_> = ["a", "b", "c"].map(|name| Arc::new(MemoryZone::new(name))).into();
        let zones = self.zones(each.iter().map(|zone| Arc::clone(zone) as Arc<dyn Zone>).collect());
        (each, zones)
    }

    fn zones(&self, each: Vec<Arc<dyn Zone>>) -> Arc<Zones> {
        let settings = ZonesSettings {
            put_timeout: Duration::from_millis(500),
            ..ZonesSettings::default()
        };
        Zones::new(each, settings, Arc::clone(&self.clock) as Arc<dyn Clock>)
    }

    /// One start of the warehouse.
    async fn open(&self, zones: &Arc<Zones>) -> Result<Arc<Product>, super::ProductError> {
        Product::open(product(), self.private_key.public(), self.shared(zones).await, None).await
    }

    async fn shared(&self, zones: &Arc<Zones>) -> Arc<Shared> {
        let now = self.clock.now();
        let key = Signer::generate(&*self.chance);
        let ends = now.plus(Duration::from_secs(400 * 86_400));
        let certificate = self.installation.certify(Role::Warehouse, key.public_key(), now, ends);
        Arc::new(Shared {
            settings: self.settings.clone(),
            directory: self.directory.path().to_owned(),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            entropy: Arc::clone(&self.chance) as Arc<dyn Entropy>,
            zones: Arc::clone(zones),
            signer: CurrentSigner::new(key.certified(certificate).unwrap()),
            installation: self.installation.key(),
            writer: WriterId::generate(now, &*self.chance),
            batch_key: self.batch_key.clone(),
            memory: Memory::new(self.settings.flush.memory_limit),
            rewriting: Memory::new(self.settings.flush.rewrite_memory),
            known: crate::known::Known::load(self.directory.path()).await,
            running: Arc::new(tokio::sync::Semaphore::new(8)),
            results: crate::jobs::Room::of_all(u64::MAX, self.directory.path()),
            stages: edge::Stages::default(),
        })
    }

    async fn rows(&self, product: &Arc<Product>, sql: &str) -> Vec<RecordBatch> {
        let view = product.view(&Scope::Product, &self.private_key).await.unwrap();
        let engine = Engine::new(Arc::clone(&product.shared.zones), self.settings.query.clone());
        let lease = Arc::new(Lease::new(self.private_key.clone()));
        engine
            .run(&view, lease, "web", sql, CancellationToken::new())
            .await
            .unwrap()
            .collect()
            .await
            .unwrap()
    }

    fn lease(&self) -> Arc<Lease> {
        Arc::new(Lease::new(self.private_key.clone()))
    }

    /// One look at what is to be merged.
    async fn merge(&self, product: &Arc<Product>) {
        product.merge_due(&self.lease(), &CancellationToken::new()).await;
    }

    /// The texts in the column `tag`, sorted.
    async fn tags(&self, product: &Arc<Product>) -> Vec<String> {
        texts(&self.rows(product, "SELECT tag FROM events ORDER BY tag").await)
    }
}

fn product() -> ProductId {
    ProductId::new(7).unwrap()
}

fn texts(batches: &[RecordBatch]) -> Vec<String> {
    let mut all = Vec::new();
    for batch in batches {
        let column = arrow::compute::cast(batch.column(0), &arrow::datatypes::DataType::Utf8).unwrap();
        let column = column.as_any().downcast_ref::<StringArray>().unwrap();
        all.extend((0..column.len()).map(|row| column.value(row).to_owned()));
    }
    all
}

/// A batch as the gateway sends it.
fn sent(body: &[u8]) -> Bytes {
    let told = Told {
        limits: &Limits::default(),
        received_at: Timestamp::from_secs(0),
        identities: &[],
        personal: &[],
    };
    to_ipc(&decode(Syntax::Msgpack, body, &told).unwrap().batch)
}

/// Rows as the gateway sends them, from msgpack written by hand: maps of `time` and `tag`.
fn batch(tags: &[&str]) -> Bytes {
    let mut body = Vec::new();
    for (second, tag) in tags.iter().enumerate() {
        body.push(0x82);
        text(&mut body, "time");
        body.push(0xce);
        body.extend((1_799_000_000 + second as u32).to_be_bytes());
        text(&mut body, "tag");
        text(&mut body, tag);
    }
    sent(&body)
}

/// One row whose column `value` holds `msgpack` as it stands.
fn value(msgpack: &[u8]) -> Bytes {
    let mut body = vec![0x82];
    text(&mut body, "time");
    body.push(1);
    text(&mut body, "value");
    body.extend(msgpack);
    sent(&body)
}

fn text(body: &mut Vec<u8>, text: &str) {
    body.push(0xd9);
    body.push(u8::try_from(text.len()).unwrap());
    body.extend(text.as_bytes());
}

async fn with_table(product: &Product) {
    product.create_database("web".parse().unwrap()).await.unwrap();
    product
        .create_table("web".parse().unwrap(), "events".parse().unwrap())
        .await
        .unwrap();
}

async fn append(product: &Product, id: Option<&str>, rows: Bytes) -> Result<super::append::Appended, super::ProductError> {
    let (web, events) = ("web".parse().unwrap(), "events".parse().unwrap());
    product.append(&web, &events, id, rows, &[], super::aside::Beside::default()).await
}

#[tokio::test]
async fn what_was_acknowledged_is_in_the_next_answer_before_and_after_a_flush_and_a_restart() {
    let house = House::new(1);
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    append(&product, None, batch(&["a", "b"])).await.unwrap();
    assert_eq!(house.tags(&product).await, ["a", "b"]);

    product.flush_all().await;
    append(&product, None, batch(&["c"])).await.unwrap();
    assert_eq!(house.tags(&product).await, ["a", "b", "c"]);
    drop(product);

    // The row "c" was in memory only: it comes back from the journal.
    let product = house.open(&zones).await.unwrap();
    assert_eq!(product.tables(&"web".parse().unwrap()).unwrap()[0].rows, 3);
    assert_eq!(house.tags(&product).await, ["a", "b", "c"]);
}

#[tokio::test]
async fn the_catalog_can_be_made_again_from_the_journal() {
    let house = House::new(2);
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    append(&product, Some("one"), batch(&["a"])).await.unwrap();
    product.flush_all().await;
    append(&product, Some("two"), batch(&["b"])).await.unwrap();
    product.close().await;
    std::fs::remove_dir_all(house.directory.path().join("products")).unwrap();

    let product = house.open(&zones).await.unwrap();
    assert_eq!(house.tags(&product).await, ["a", "b"]);
    assert!(append(&product, Some("one"), batch(&["a"])).await.unwrap().duplicate);
}

#[tokio::test]
async fn a_batch_sent_again_is_stored_once_in_memory_in_a_file_after_a_restart_and_at_the_same_moment() {
    let house = House::new(3);
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    let rows = batch(&["a"]);
    let at_once = futures::future::join_all((0..8).map(|_| append(&product, Some("x"), rows.clone()))).await;
    assert_eq!(at_once.into_iter().filter(|answer| !answer.as_ref().unwrap().duplicate).count(), 1);
    assert!(append(&product, Some("x"), rows.clone()).await.unwrap().duplicate);
    product.flush_all().await;
    assert!(append(&product, Some("x"), rows.clone()).await.unwrap().duplicate);
    append(&product, Some("y"), batch(&["b"])).await.unwrap();
    drop(product);

    let product = house.open(&zones).await.unwrap();
    assert!(append(&product, Some("x"), rows.clone()).await.unwrap().duplicate);
    assert!(append(&product, Some("y"), rows.clone()).await.unwrap().duplicate);
    assert_eq!(house.tags(&product).await, ["a", "b"]);
}

#[tokio::test]
async fn with_two_of_three_zones_gone_rows_are_refused_and_never_appear() {
    let house = House::new(4);
    let (each, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    append(&product, None, batch(&["kept"])).await.unwrap();
    each[1].go_down();
    each[2].go_down();

    let refused = append(&product, Some("r"), batch(&["refused"])).await.unwrap_err();

    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert_eq!(house.tags(&product).await, ["kept"]);
    each[1].come_back();
    each[2].come_back();
    drop(product);
    let product = house.open(&zones).await.unwrap();
    assert_eq!(house.tags(&product).await, ["kept"]);
    assert!(!append(&product, Some("r"), batch(&["refused"])).await.unwrap().duplicate);
    assert_eq!(house.tags(&product).await, ["kept", "refused"]);
}

#[tokio::test]
async fn a_table_made_again_under_its_name_begins_empty() {
    let house = House::new(5);
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    append(&product, Some("x"), batch(&["old"])).await.unwrap();
    product.flush_all().await;
    append(&product, None, batch(&["old in memory"])).await.unwrap();
    let (web, events) = ("web".parse().unwrap(), "events".parse().unwrap());
    product.delete_table(&web, &events).await.unwrap();
    assert_eq!(
        append(&product, None, batch(&["nowhere"])).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    product.create_table(web, events).await.unwrap();
    assert!(!append(&product, Some("x"), batch(&["new"])).await.unwrap().duplicate);
    assert_eq!(house.tags(&product).await, ["new"]);
    drop(product);

    assert_eq!(house.tags(&house.open(&zones).await.unwrap()).await, ["new"]);
}

#[tokio::test]
async fn a_column_widens_over_files_memory_and_restarts_without_changing_a_value() {
    let house = House::new(6);
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    append(&product, None, value(&[42])).await.unwrap();
    product.flush_all().await;
    append(&product, None, value(&[0xcb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0])).await.unwrap();
    let sorted = "SELECT value FROM events ORDER BY value";
    assert_eq!(texts(&house.rows(&product, sorted).await), ["1.5", "42.0"]);
    append(&product, None, value(&[0xa1, b'x'])).await.unwrap();
    product.flush_all().await;
    append(&product, None, value(&[0xc3])).await.unwrap();
    let as_text = ["1.5", "42", "true", "x"];
    assert_eq!(texts(&house.rows(&product, sorted).await), as_text);
    drop(product);

    let product = house.open(&zones).await.unwrap();
    assert_eq!(texts(&house.rows(&product, sorted).await), as_text);
}

#[tokio::test]
async fn small_files_are_merged_into_one_with_the_same_rows() {
    let mut house = House::new(7);
    house.settings.flush.merge_files = 3;
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    for tag in ["a", "b", "c", "d"] {
        append(&product, Some(tag), batch(&[tag])).await.unwrap();
        product.flush_all().await;
    }
    house.merge(&product).await;
    let files = || product.read().tables.values().map(|table| table.files.len()).sum::<usize>();
    assert_eq!(files(), 1);
    assert_eq!(house.tags(&product).await, ["a", "b", "c", "d"]);
    assert!(append(&product, Some("a"), batch(&["a"])).await.unwrap().duplicate);
}

#[tokio::test]
async fn full_memory_asks_senders_to_slow_down() {
    let mut house = House::new(8);
    house.settings.flush.memory_limit = 20_000;
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    let mut accepted = 0;
    let refused = loop {
        match append(&product, None, batch(&["kept"])).await {
            Ok(_) => accepted += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.kind(), ErrorKind::TooMuch);
    product.flush_due().await;
    append(&product, None, batch(&["kept"])).await.unwrap();
    assert_eq!(house.tags(&product).await, vec!["kept"; accepted + 1]);
}

#[tokio::test]
async fn a_batch_that_is_not_what_the_gateway_makes_is_refused() {
    let house = House::new(9);
    let (_, zones) = house.memory();
    let product = house.open(&zones).await.unwrap();
    with_table(&product).await;
    let no_time = RecordBatch::try_from_iter([("a", Arc::new(Int64Array::from(vec![1])) as arrow::array::ArrayRef)]).unwrap();
    for wrong in [Bytes::from_static(b"not arrow"), to_ipc(&no_time)] {
        assert_eq!(append(&product, None, wrong).await.unwrap_err().kind(), ErrorKind::Invalid);
    }
}
