//! Proof of what is at rest in the tables: a live Parquet file opens with its own key and in its own place only, for pyarrow as for us; and
//! of all the bits in it there is none that can be flipped so that a row is another and nobody notices.

mod keys;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use base::{ProductId, Role, TableId};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::encryption::decrypt::FileDecryptionProperties;
use seal::{DataKey, PrivateKey};
use serde_json::{Value, json};
use testkit::{Installation, Product, python, until};

const DATABASE: &str = "parquet";
const ROWS: i64 = 200;
/// How many single bits are flipped, spread over the whole file.
const FLIPS: u64 = 10_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_live_file_opens_with_its_key_in_its_place_and_no_flipped_bit_changes_a_row() -> anyhow::Result<()> {
    let mut installation = Installation::prepare(env!("CARGO_BIN_EXE_coffer")).await?;
    installation.configure("[warehouse.flush]\nafter = \"1s\"\n")?;
    installation.up().await?;
    let product = installation.product("parquet").await?;
    let client = installation.client(&product.admin_key)?;
    client.create_table(DATABASE, "events").await?;
    client.import(DATABASE, "events", None, &rows()).await?.ok()?;
    let file = until("the rows are in a file", Duration::from_secs(60), || {
        File::of(&installation, &product)
    })
    .await?;

    let place = installation.aside("file.parquet");
    fs::write(&place, &file.bytes)?;
    let expected = installation.aside("rows.json");
    fs::write(&expected, json!(rows()).to_string())?;
    let flips = FLIPS.to_string();
    let said = python(
        "parquet_file.py",
        &[
            ("FILE", &place.to_string_lossy()),
            ("ROWS", &expected.to_string_lossy()),
            ("KEY", &hex::encode(file.key.reveal())),
            ("PREFIX", &hex::encode(&file.prefix)),
            ("FLIPS", &flips),
        ],
    )
    .await?;
    eprintln!("pyarrow: {}", said.stdout.trim());

    let genuine = file.read(&file.bytes).context("it does not open")?;
    ensure!(genuine.num_rows() as i64 == ROWS, "{} rows", genuine.num_rows());
    let bits = file.bytes.len() as u64 * 8;
    let (mut refused, mut same) = (0, 0);
    for flip in 0..FLIPS {
        let bit = flip * bits / FLIPS;
        let mut bytes = file.bytes.to_vec();
        bytes[usize::try_from(bit / 8)?] ^= 1 << (bit % 8);
        match file.read(&bytes.into()) {
            None => refused += 1,
            Some(read) => {
                ensure!(read == genuine, "bit {bit} changes rows");
                same += 1;
            }
        }
    }
    eprintln!("ours: {refused} flips refused, {same} without effect");
    ensure!(refused > FLIPS * 3 / 4, "only {refused} of {FLIPS} flips are noticed");

    // The file was live: the rows that it holds are those of the table.
    let count = client.number(DATABASE, "SELECT count(*) FROM events").await?;
    ensure!(count == ROWS, "{count} rows in the table");
    installation.finish().await
}

fn rows() -> Vec<Value> {
    let row = |n: i64| {
        json!({
            "time": 1_700_000_000 + n, "n": n * n, "price": n as f64 / 4.0, "even": n % 2 == 0,
            "name": format!("Größe {n} ✓"), "tags": {"n": [n, null]},
        })
    };
    (0..ROWS).map(row).collect()
}

/// A file of the table, as it lies in a zone, and what opens it.
struct File {
    bytes: Bytes,
    key: DataKey,
    prefix: Vec<u8>,
}

impl File {
    async fn of(installation: &Installation, product: &Product) -> anyhow::Result<Self> {
        let catalog = catalog_in(&installation.data().join("roles/warehouse"))?;
        let value = async |column: &str| {
            let query = format!("SELECT CAST({column} AS BLOB) FROM files");
            keys::value(&catalog, &query).await
        };
        let (object, name) = (String::from_utf8(value("object").await?)?, String::from_utf8(value("file").await?)?);
        let table = TableId::try_from(&value("table_id").await?[..])?;
        let number = ProductId::new(product.number)?;
        let private = PrivateKey::try_from(&keys::private_key(installation, product).await?[..])?;
        let context = columns::key_context(number, table, &name);
        Ok(Self {
            bytes: fs::read(installation.zone(Role::Warehouse, "a").join(object))?.into(),
            key: seal::open_key(&private, &value("sealed_key").await?, &context)?,
            prefix: columns::aad_prefix(number, table, &name),
        })
    }

    /// All rows of `bytes`, read with the decoder that queries use; `None` when it refuses them or gives up.
    fn read(&self, bytes: &Bytes) -> Option<RecordBatch> {
        let read = || {
            let opened = FileDecryptionProperties::builder(self.key.reveal().to_vec())
                .with_aad_prefix(self.prefix.clone())
                .build()
                .ok()?;
            let options = ArrowReaderOptions::new().with_file_decryption_properties(opened);
            let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(bytes.clone(), options).ok()?;
            let schema = Arc::clone(builder.schema());
            let batches = builder.build().ok()?.collect::<Result<Vec<_>, _>>().ok()?;
            concat_batches(&schema, &batches).ok()
        };
        catch_unwind(AssertUnwindSafe(read)).ok().flatten()
    }
}

fn catalog_in(directory: &Path) -> anyhow::Result<std::path::PathBuf> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            if let Ok(found) = catalog_in(&path) {
                return Ok(found);
            }
        } else if path.ends_with("catalog.db") {
            return Ok(path);
        }
    }
    anyhow::bail!("there is no catalog in {}", directory.display())
}
