//! Footers of Parquet files: of our own, which are encrypted, and of other people's, which are in clear.
//!
//! Held: a footer of ours that opens is the one that was written; a file of somebody else's is read or is an error, and holds as many
//! rows as it says. Neither ends the process: the decoder behind them does panic, and that is caught.

use std::io::Write as _;
use std::sync::{Arc, LazyLock};

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Schema;
use base::{ManualClock, ProductId, SeededEntropy, TableId, Timestamp};
use bytes::Bytes;
use columns::plain::PlainFile;
use events::Seen;
use seal::DataKey;
use tokio::runtime::Runtime;
use zones::{MemoryZone, ObjectName, Zone, Zones, ZonesSettings};

const NOW: Timestamp = Timestamp::from_secs(1_763_900_000);

struct World {
    runtime: Runtime,
    key: DataKey,
    prefix: Vec<u8>,
    file: Bytes,
    /// All that the genuine footer says.
    says: String,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let chance = SeededEntropy::new(1);
    let product = ProductId::new(7).expect("seven is the number of a product");
    let key = DataKey::generate(&chance);
    let prefix = columns::aad_prefix(product, TableId::generate(NOW, &chance), "file");
    let schema = Schema::new(vec![events::time_field(), events::field("note", Seen::STRING)]);
    let texts = StringArray::from(vec!["one", "two", "three"]);
    let rows = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(Int64Array::from(vec![1, 2, 3])), Arc::new(texts)]);
    let file = columns::write(&[rows.expect("the columns fit")], &key, &prefix)
        .expect("it can be written")
        .bytes;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("there are threads");
    let mut world = World {
        runtime,
        key,
        prefix,
        file,
        says: String::new(),
    };
    world.says = world.footer(&world.file).expect("it opens");
    world
});

/// Takes any bytes: the first says as what the others are taken.
pub fn one(data: &[u8]) {
    let Some((&kind, rest)) = data.split_first() else { return };
    match kind {
        b'o' => ours(rest),
        b'e' => ours(&crate::edited(&WORLD.file, rest)),
        b'p' => plain(rest),
        _ => {}
    }
}

fn ours(file: &[u8]) {
    let world = &*WORLD;
    if let Some(says) = world.footer(file) {
        assert_eq!(says, world.says, "a footer that nobody wrote was opened");
    }
}

fn plain(bytes: &[u8]) {
    let mut file = tempfile::tempfile().expect("there is room for a file");
    file.write_all(bytes).expect("there is room for a file");
    let Ok(mut file) = PlainFile::open(file) else { return };
    let mut read = 0;
    loop {
        match file.next_batch() {
            Ok(Some(batch)) => read += batch.num_rows() as u64,
            Ok(None) => break,
            Err(_) => return,
        }
        // A file of a few bytes may hold a value as often as it likes.
        if read > 100_000 {
            return;
        }
    }
    let says = file.rows();
    assert_eq!(read, says, "rows of a file that was read to its end");
}

impl World {
    fn footer(&self, file: &[u8]) -> Option<String> {
        let zones: Vec<_> = ["a", "b", "c"].map(|name| Arc::new(MemoryZone::new(name))).into();
        let name = ObjectName::new("columns/7", "file", file).ok()?;
        let bytes = Bytes::copy_from_slice(file);
        zones.iter().for_each(|zone| zone.plant(&name, bytes.clone()));
        let zones = zones.into_iter().map(|zone| zone as Arc<dyn Zone>).collect();
        self.runtime.block_on(async {
            let zones = Zones::new(zones, ZonesSettings::default(), Arc::new(ManualClock::at(NOW)));
            let footer = columns::load_footer(&zones, &name, file.len() as u64, &self.key, &self.prefix)
                .await
                .ok()?;
            Some(format!("{:?} {:?}", footer.file_metadata(), footer.row_groups()))
        })
    }
}

/// Bytes to begin with.
pub fn seeds() -> Vec<Vec<u8>> {
    let world = &*WORLD;
    let length = world.file.len();
    let at = |back: usize| u16::try_from(length - back).expect("the file is small").to_le_bytes();
    let edit = |back: usize, bits: u8| [&[b'e'][..], &at(back), &[bits]].concat();
    vec![
        [b"o", &world.file[..]].concat(),
        edit(1, 1),
        edit(8, 1),
        edit(5, 128),
        edit(100, 4),
        [b"p", &b"PAR1\x15\x04\x00\x00\x00\x00PAR1"[..]].concat(),
    ]
}
