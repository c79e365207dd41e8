//! The engine as the warehouse uses it, over zones in memory.

mod damage;
mod depth;
mod limits;
mod refusals;
mod results;
mod shown;

use std::sync::Arc;

use base::{OsEntropy, ProductId, SeededEntropy, SystemClock, TableId, Timestamp};
use bytes::Bytes;
use datafusion::arrow::array::{Array as _, ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::util::display::array_value_to_string;
use events::Seen;
use seal::{DataKey, PrivateKey};
use tokio_util::sync::CancellationToken;
use zones::{MemoryZone, ObjectName, Zone, Zones, ZonesSettings};

use crate::{DatabaseView, Engine, FileView, FooterRoom, Lease, ProductView, QueryError, QuerySettings, TableView};

/// Zones, a product's key and an engine.
struct World {
    memory: Vec<Arc<MemoryZone>>,
    zones: Arc<Zones>,
    key: PrivateKey,
    engine: Engine,
}

impl World {
    fn new() -> Self {
        Self::with(QuerySettings::default())
    }

    fn with(settings: QuerySettings) -> Self {
        let memory: Vec<_> = ["a", "b", "c"].map(|name| Arc::new(MemoryZone::new(name))).into();
        let zones = memory.iter().map(|zone| Arc::clone(zone) as Arc<dyn Zone>).collect();
        let zones = Zones::new(zones, ZonesSettings::default(), Arc::new(SystemClock));
        let engine = Engine::new(Arc::clone(&zones), settings);
        Self {
            memory,
            zones,
            key: PrivateKey::generate(&OsEntropy),
            engine,
        }
    }

    fn lease(&self) -> Arc<Lease> {
        Arc::new(Lease::new(PrivateKey::try_from(self.key.to_secret_bytes().reveal()).unwrap()))
    }

    /// Writes a file of these rows, which must be in order of time.
    async fn file(&self, id: &str, batch: &RecordBatch) -> FileView {
        let (product, entropy) = (ProductId::new(7).unwrap(), SeededEntropy::new(1));
        let table = TableId::generate(Timestamp::from_secs(1), &entropy);
        let (aad_prefix, key_context) = (columns::aad_prefix(product, table, id), columns::key_context(product, table, id));
        let key = DataKey::generate(&OsEntropy);
        let written = columns::write(std::slice::from_ref(batch), &key, &aad_prefix).unwrap();
        let object = ObjectName::new("columns/7", id, &written.bytes).unwrap();
        self.zones.put(&object, written.bytes.clone()).await.unwrap();
        FileView {
            object,
            bytes: written.bytes.len() as u64,
            rows: written.rows,
            time_min: written.time_min,
            time_max: written.time_max,
            not_before: None,
            sealed_key: seal::seal_key(&self.key.public(), &key, &key_context),
            aad_prefix,
            key_context,
            held: Arc::new(()),
        }
    }

    /// Changes an object in the given zones.
    async fn damage(&self, object: &ObjectName, zones: &[usize], change: impl Fn(&mut Vec<u8>)) {
        let good = self.zones.get(object, u64::MAX).await.unwrap();
        let mut bytes = good.to_vec();
        change(&mut bytes);
        for &zone in zones {
            self.memory[zone].plant(object, Bytes::from(bytes.clone()));
        }
    }

    async fn ask(&self, product: &ProductView, sql: &str) -> Result<Vec<RecordBatch>, QueryError> {
        self.engine
            .run(product, self.lease(), "web", sql, CancellationToken::new())
            .await?
            .collect()
            .await
    }

    /// The rows as text: columns by tabs, nulls empty.
    async fn rows(&self, product: &ProductView, sql: &str) -> Vec<String> {
        lines(&self.ask(product, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}")))
    }
}

fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let cell = |column: &ArrayRef, row| array_value_to_string(column, row).unwrap();
    let line = |batch: &RecordBatch, row| {
        batch
            .columns()
            .iter()
            .map(|column| cell(column, row))
            .collect::<Vec<_>>()
            .join("\t")
    };
    batches
        .iter()
        .flat_map(|batch| (0..batch.num_rows()).map(|row| line(batch, row)).collect::<Vec<_>>())
        .collect()
}

fn schema(columns: &[(&str, Seen)]) -> SchemaRef {
    let fields = columns.iter().map(|(name, seen)| events::field(name, *seen));
    Arc::new(Schema::new(std::iter::once(events::time_field()).chain(fields).collect::<Vec<_>>()))
}

fn batch(times: &[i64], columns: &[(&str, Seen, ArrayRef)]) -> RecordBatch {
    let schema = schema(&columns.iter().map(|(name, seen, _)| (*name, *seen)).collect::<Vec<_>>());
    let time: ArrayRef = Arc::new(Int64Array::from(times.to_vec()));
    let arrays = std::iter::once(time)
        .chain(columns.iter().map(|(.., array)| Arc::clone(array)))
        .collect();
    RecordBatch::try_new(schema, arrays).unwrap()
}

fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn longs(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn doubles(values: &[f64]) -> ArrayRef {
    Arc::new(Float64Array::from(values.to_vec()))
}

/// A product with the databases `web` (the given table, named `events`) and `shop`.
fn product(schema: SchemaRef, memory: Vec<RecordBatch>, files: Vec<FileView>) -> ProductView {
    let events = TableView {
        name: "events".into(),
        schema,
        memory,
        files,
    };
    let orders = batch(&[1], &[("amount", Seen::LONG, longs(&[5]))]);
    let orders = TableView {
        name: "orders".into(),
        schema: orders.schema(),
        memory: vec![orders],
        files: vec![],
    };
    ProductView {
        databases: vec![
            DatabaseView {
                name: "web".into(),
                tables: vec![events],
            },
            DatabaseView {
                name: "shop".into(),
                tables: vec![orders],
            },
        ],
    }
}

/// Some rows with an event and a price each.
fn sales(times: std::ops::Range<i64>) -> RecordBatch {
    let times: Vec<i64> = times.collect();
    let names: Vec<&str> = times.iter().map(|time| if time % 2 == 0 { "view" } else { "buy" }).collect();
    let prices: Vec<f64> = times.iter().map(|time| *time as f64 / 2.0).collect();
    batch(
        &times,
        &[("event", Seen::STRING, texts(&names)), ("price", Seen::DOUBLE, doubles(&prices))],
    )
}
