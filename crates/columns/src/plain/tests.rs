//! Files as other programs write them, whole and damaged.

use std::io::Write;

use arrow::array::{Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use super::*;

fn written(rows: i64, compression: Compression) -> Vec<u8> {
    let schema = Arc::new(Schema::new(vec![
        Field::new("n", DataType::Int64, true),
        Field::new("word", DataType::Utf8, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
    ]));
    let batch = RecordBatch::try_new(
        Arc::clone(&schema),
        vec![
            Arc::new((0..rows).map(|n| (n % 7 != 0).then_some(n)).collect::<Int64Array>()),
            Arc::new((0..rows).map(|n| Some(format!("word {n}"))).collect::<StringArray>()),
            Arc::new(TimestampMicrosecondArray::from_iter_values((0..rows).map(|n| 1_700_000_000_000_001 + n)).with_timezone("UTC")),
        ],
    )
    .unwrap();
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .set_max_row_group_row_count(Some(1_500))
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

/// All rows of all batches, none of which is too large.
fn rows_of(bytes: &[u8]) -> Result<usize, PlainError> {
    let mut plain = PlainFile::open(file_of(bytes))?;
    let mut rows = 0;
    while let Some(batch) = plain.next_batch()? {
        assert!((1..=ROWS_PER_BATCH).contains(&batch.num_rows()));
        rows += batch.num_rows();
    }
    Ok(rows)
}

#[test]
fn every_row_comes_once_in_small_batches() {
    for compression in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::ZSTD(parquet::basic::ZstdLevel::default()),
    ] {
        let bytes = written(5_000, compression);
        let plain = PlainFile::open(file_of(&bytes)).unwrap();
        assert_eq!(plain.rows(), 5_000);
        let names: Vec<&str> = plain.columns().iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["n", "word", "at"]);
        assert_eq!(rows_of(&bytes).unwrap(), 5_000);
    }
}

#[test]
fn timestamps_come_as_texts_with_all_their_digits() {
    let mut plain = PlainFile::open(file_of(&written(2, Compression::UNCOMPRESSED))).unwrap();
    let batch = plain.next_batch().unwrap().unwrap();
    let at = batch.column_by_name("at").unwrap().as_any().downcast_ref::<StringArray>().unwrap();
    assert_eq!(at.value(1), "2023-11-14 22:13:20.000002 UTC");
    assert!(plain.next_batch().unwrap().is_none() && plain.next_batch().unwrap().is_none());
}

#[test]
fn what_is_not_a_whole_file_is_refused() {
    let good = written(10, Compression::UNCOMPRESSED);
    for bytes in [&b""[..], b"PAR1", b"time,n\n1,2\n3,4\n", &good[..good.len() - 1], &good[1..]] {
        assert!(matches!(rows_of(bytes), Err(PlainError::NotParquet)));
    }
    let mut lies = good.clone();
    let at = lies.len() - 8;
    lies[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(rows_of(&lies), Err(PlainError::NotParquet)));
}

#[test]
fn a_flipped_bit_anywhere_is_no_panic_and_no_endless_reading() {
    let good = written(40, Compression::SNAPPY);
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        // Many bits stand in values and change only those; what counts is that reading ends.
        if let Ok(rows) = rows_of(&bad) {
            assert!(rows <= 1 << 20, "{rows} rows");
        }
    }
}
