//! Files: what goes in comes out, and only with the right key, in the right place, unchanged.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int64Type, Schema};
use base::{ErrorKind, ProductId, SeededEntropy, SystemClock, TableId, Timestamp};
use bytes::Bytes;
use events::Seen;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::encryption::decrypt::FileDecryptionProperties;
use seal::DataKey;
use zones::{MemoryZone, ObjectName, Zone, Zones, ZonesSettings};

use super::*;

const MARKER: &str = "marker-9f2c-of-a-value";

fn key(seed: u64) -> DataKey {
    DataKey::generate(&SeededEntropy::new(seed))
}

fn place(file: &str) -> Vec<u8> {
    let table = TableId::generate(Timestamp::from_secs(1), &SeededEntropy::new(1));
    aad_prefix(ProductId::new(7).unwrap(), table, file)
}

fn rows(times: &[i64]) -> RecordBatch {
    let texts = times.iter().map(|time| format!("{MARKER} {time}"));
    let schema = Schema::new(vec![
        events::time_field(),
        events::field("note", Seen::STRING),
        events::field("tags", Seen::JSON),
    ]);
    let tags = StringArray::from(vec![Some("{\"a\":1}"); times.len()]);
    RecordBatch::try_new(
        Arc::new(schema),
        vec![
            Arc::new(Int64Array::from(times.to_vec())),
            Arc::new(StringArray::from_iter_values(texts)),
            Arc::new(tags),
        ],
    )
    .unwrap()
}

fn read(bytes: &Bytes, key: &DataKey, prefix: &[u8]) -> Result<RecordBatch, String> {
    let opened = FileDecryptionProperties::builder(key.reveal().to_vec())
        .with_aad_prefix(prefix.to_vec())
        .build();
    let options = ArrowReaderOptions::new().with_file_decryption_properties(opened.unwrap());
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(bytes.clone(), options);
    let builder = builder.map_err(|error| error.to_string())?;
    let schema = Arc::clone(builder.schema());
    let batches = builder
        .build()
        .unwrap()
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| error.to_string())?;
    concat_batches(&schema, &batches).map_err(|error| error.to_string())
}

async fn placed(bytes: &Bytes) -> (Arc<Zones>, Vec<Arc<MemoryZone>>, ObjectName) {
    let memory: Vec<_> = ["a", "b", "c"].map(|name| Arc::new(MemoryZone::new(name))).into();
    let zones = memory.iter().map(|zone| Arc::clone(zone) as Arc<dyn Zone>).collect();
    let zones = Zones::new(zones, ZonesSettings::default(), Arc::new(SystemClock));
    let name = ObjectName::new("columns/7", "file", bytes).unwrap();
    zones.put(&name, bytes.clone()).await.unwrap();
    (zones, memory, name)
}

#[test]
fn what_is_written_is_read_again_with_its_types_and_what_they_held() {
    let batch = rows(&[1, 2, 2, 9]);
    let file = write(std::slice::from_ref(&batch), &key(1), &place("f")).unwrap();

    assert_eq!((file.rows, file.time_min, file.time_max), (4, 1, 9));
    let again = read(&file.bytes, &key(1), &place("f")).unwrap();
    assert_eq!(again.columns(), batch.columns());
    assert_eq!(events::seen_of(again.schema().field(2)), Seen::JSON);
}

#[test]
fn nothing_can_be_read_without_the_key_in_the_place_it_was_written_for() {
    let file = write(&[rows(&[1, 2])], &key(1), &place("f")).unwrap();

    let seen = |text: &[u8]| file.bytes.windows(text.len()).any(|window| window == text);
    assert!(!seen(b"marker") && !seen(b"note") && !seen(b"time") && !seen(b"columns/1"));
    assert_eq!(&file.bytes[file.bytes.len() - 4..], b"PARE", "the footer is encrypted as well");
    assert!(
        read(&file.bytes, &key(1), &place("f")).is_ok(),
        "else the refusals below prove nothing"
    );
    assert!(read(&file.bytes, &key(2), &place("f")).is_err());
    assert!(read(&file.bytes, &key(1), &place("g")).is_err());
    assert!(read(&file.bytes, &key(1), b"").is_err());
}

#[test]
fn places_differ_in_every_part() {
    let (now, one, two) = (Timestamp::from_secs(1), SeededEntropy::new(1), SeededEntropy::new(2));
    let (table, other) = (TableId::generate(now, &one), TableId::generate(now, &two));
    let product = |number| ProductId::new(number).unwrap();
    let all = [
        aad_prefix(product(1), table, "f"),
        aad_prefix(product(2), table, "f"),
        aad_prefix(product(1), other, "f"),
        aad_prefix(product(1), table, "g"),
        key_context(product(1), table, "f"),
    ];
    for (nth, place) in all.iter().enumerate() {
        assert!(!all[..nth].contains(place), "{}", String::from_utf8_lossy(place));
    }
}

#[test]
fn rows_out_of_order_or_without_time_are_not_written() {
    let refused = |batches: &[RecordBatch]| write(batches, &key(1), b"p").unwrap_err();
    assert!(matches!(refused(&[rows(&[2, 1])]), WriteError::NotSorted));
    assert!(matches!(refused(&[rows(&[2]), rows(&[1])]), WriteError::NotSorted));
    assert!(matches!(refused(&[rows(&[])]), WriteError::NoRows));
    assert!(matches!(refused(&[]), WriteError::NoRows));
    assert!(matches!(refused(&[rows(&[1]).project(&[1]).unwrap()]), WriteError::NoTime));
}

#[test]
fn a_large_file_has_several_row_groups() {
    let times: Vec<i64> = (0..300_000).collect();
    let batch = rows(&times).project(&[0]).unwrap();
    let file = write(&[batch], &key(1), b"p").unwrap();

    let opened = FileDecryptionProperties::builder(key(1).reveal().to_vec())
        .with_aad_prefix(b"p".to_vec())
        .build();
    let options = ArrowReaderOptions::new().with_file_decryption_properties(opened.unwrap());
    let footer = ArrowReaderMetadata::load(&file.bytes, options).unwrap();
    let groups: Vec<_> = footer.metadata().row_groups().iter().map(|group| group.num_rows()).collect();
    assert_eq!(groups, [131_072, 131_072, 37_856]);
    assert!(footer.metadata().row_group(1).column(0).statistics().is_some());
}

#[test]
fn a_row_group_has_few_bytes_where_rows_are_large_and_many_rows_where_columns_are_empty() {
    let groups = |batch: &RecordBatch| {
        let file = write(std::slice::from_ref(batch), &key(1), b"p").unwrap();
        let opened = FileDecryptionProperties::builder(key(1).reveal().to_vec())
            .with_aad_prefix(b"p".to_vec())
            .build();
        let options = ArrowReaderOptions::new().with_file_decryption_properties(opened.unwrap());
        let footer = ArrowReaderMetadata::load(&file.bytes, options).unwrap();
        footer
            .metadata()
            .row_groups()
            .iter()
            .map(|group| group.num_rows())
            .collect::<Vec<_>>()
    };
    let times: arrow::array::ArrayRef = Arc::new(Int64Array::from_iter_values(0..100));
    let large = StringArray::from(vec!["x".repeat(1 << 20); 100]);
    let schema = Schema::new(vec![events::time_field(), events::field("text", Seen::STRING)]);
    let large = groups(&RecordBatch::try_new(Arc::new(schema), vec![times, Arc::new(large)]).unwrap());
    assert!(large.len() >= 4 && large.iter().all(|rows| *rows <= 32), "{large:?}");

    let names = (0..6_000).map(|nth| events::field(&nth.to_string(), Seen::LONG));
    let schema = Schema::new(std::iter::once(events::time_field()).chain(names).collect::<Vec<_>>());
    let mut columns: Vec<arrow::array::ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(0..1_000))];
    columns.extend((0..6_000).map(|_| Arc::new(Int64Array::from(vec![None; 1_000])) as arrow::array::ArrayRef));
    let empty = groups(&RecordBatch::try_new(Arc::new(schema), columns).unwrap());
    assert_eq!(empty, [1_000]);
}

#[test]
fn rows_of_the_same_time_stay_in_the_order_they_came() {
    let batch = |times: &[i64], first: i64| {
        let nth = Int64Array::from_iter_values((0..).map(|n| first + n).take(times.len()));
        let fields = vec![events::time_field(), events::field("nth", Seen::LONG)];
        let times = Int64Array::from(times.to_vec());
        RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![Arc::new(times), Arc::new(nth)]).unwrap()
    };
    let sorted: Vec<RecordBatch> = InOrder::new(vec![batch(&[5, 1, 5], 0), batch(&[1, 5, 0], 3)])
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let [sorted] = sorted.try_into().unwrap();
    let nth = Int64Array::from(vec![5, 1, 3, 0, 2, 4]);
    assert_eq!(sorted.column(0), batch(&[0, 1, 1, 5, 5, 5], 0).column(0));
    assert_eq!(sorted.column(1).as_ref(), &nth as &dyn Array);
    assert!(matches!(InOrder::new(vec![]), Err(OrderError::Nothing)));
    assert!(InOrder::new(vec![batch(&[1], 0), rows(&[2])]).is_err());
}

#[test]
fn rows_in_order_come_in_few_cells_and_few_bytes_however_wide_and_large_they_are() {
    // Fifty batches of as many columns each, every one with columns of its own: 25 million cells, were all laid out.
    let fields = |of: usize| (0..50).map(move |nth| events::field(&format!("{of} {nth}"), Seen::LONG));
    let all: Vec<_> = std::iter::once(events::time_field()).chain((0..50).flat_map(fields)).collect();
    let schema = Arc::new(Schema::new(all));
    let narrow = |of: usize| {
        let named = Schema::new(std::iter::once(events::time_field()).chain(fields(of)).collect::<Vec<_>>());
        let times = Int64Array::from_iter_values((0..200).map(|row| row * 50 + of as i64));
        let mut columns: Vec<ArrayRef> = vec![Arc::new(times)];
        columns.extend((0..50).map(|nth| Arc::new(Int64Array::from(vec![nth; 200])) as ArrayRef));
        RecordBatch::try_new(Arc::new(named), columns).unwrap()
    };
    let batches = (0..50).map(|of| events::adapt(&narrow(of), &schema).unwrap()).collect();
    let (mut rows, mut next) = (0, 0);
    for part in InOrder::new(batches).unwrap() {
        let part = part.unwrap();
        assert!(part.num_rows() * part.num_columns() <= 512 << 10);
        for time in part.column(0).as_primitive::<Int64Type>().values() {
            assert_eq!(*time, next);
            next += 1;
        }
        // Of each row those fifty columns have a value that its batch has.
        let nulls: usize = part.columns().iter().map(|column| column.null_count()).sum();
        assert_eq!(part.num_rows() * 2_500 - nulls, part.num_rows() * 50);
        rows += part.num_rows();
    }
    assert_eq!(rows, 10_000);

    let large = |times: Vec<i64>| {
        let texts = StringArray::from(vec!["x".repeat(1 << 20); times.len()]);
        let named = Schema::new(vec![events::time_field(), events::field("text", Seen::STRING)]);
        RecordBatch::try_new(Arc::new(named), vec![Arc::new(Int64Array::from(times)), Arc::new(texts)]).unwrap()
    };
    for times in [(0..20).collect::<Vec<i64>>(), (0..20).rev().collect()] {
        let mut next = 0;
        for part in InOrder::new(vec![large(times.clone()), large(vec![20]), large(vec![21, 22])]).unwrap() {
            let part = part.unwrap();
            assert!((1..=4).contains(&part.num_rows()));
            for time in part.column(0).as_primitive::<Int64Type>().values() {
                assert_eq!(*time, next);
                next += 1;
            }
        }
        assert_eq!(next, 23);
    }
}

#[tokio::test]
async fn a_footer_is_read_from_the_zones_with_its_key_only() {
    let file = write(&[rows(&[1, 2, 3])], &key(1), &place("f")).unwrap();
    let (zones, _, name) = placed(&file.bytes).await;
    let size = file.bytes.len() as u64;

    let footer = load_footer(&zones, &name, size, &key(1), &place("f")).await.unwrap();
    assert_eq!(footer.file_metadata().num_rows(), 3);
    assert!(footer.column_index().is_some(), "the page index comes with it");

    for (key, place) in [(key(2), place("f")), (key(1), place("g"))] {
        let refused = load_footer(&zones, &name, size, &key, &place).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Corrupt);
    }
}

#[tokio::test]
async fn a_damaged_footer_is_read_from_another_zone() {
    let file = write(&[rows(&[1, 2, 3])], &key(1), &place("f")).unwrap();
    let mut damaged = file.bytes.to_vec();
    let at = damaged.len() - 40;
    damaged[at] ^= 1;
    let size = file.bytes.len() as u64;

    for good_in in 0..3 {
        let (zones, memory, name) = placed(&file.bytes).await;
        for zone in memory.iter().enumerate().filter(|(nth, _)| *nth != good_in).map(|(_, zone)| zone) {
            zone.plant(&name, damaged.clone().into());
        }
        assert!(
            load_footer(&zones, &name, size, &key(1), &place("f")).await.is_ok(),
            "good in zone {good_in} only"
        );
    }

    let (zones, memory, name) = placed(&file.bytes).await;
    for zone in &memory {
        zone.plant(&name, damaged.clone().into());
    }
    let refused = load_footer(&zones, &name, size, &key(1), &place("f")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn no_flipped_bit_near_the_end_is_believed_or_ends_the_process() {
    let file = write(&[rows(&[1])], &key(1), &place("f")).unwrap();
    let (zones, memory, name) = placed(&file.bytes).await;
    let size = file.bytes.len() as u64;
    for back in 1..=200 {
        let mut damaged = file.bytes.to_vec();
        let at = damaged.len() - back;
        damaged[at] ^= 0x80;
        for zone in &memory {
            zone.plant(&name, damaged.clone().into());
        }
        assert!(
            load_footer(&zones, &name, size, &key(1), &place("f")).await.is_err(),
            "{back} from the end"
        );
    }
}
