//! Writing a file: sorted rows in, encrypted bytes out.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use base::ErrorKind;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::encryption::encrypt::FileEncryptionProperties;
use parquet::errors::ParquetError;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use seal::DataKey;

use crate::order::time_of;

/// How many rows a row group holds: what a query skips or reads as a whole.
pub const ROWS_PER_GROUP: usize = 128 * 1024;

/// A file that is ready to be placed.
#[derive(Debug, Clone)]
pub struct WrittenFile {
    /// The encrypted file.
    pub bytes: Bytes,
    /// How many rows it holds.
    pub rows: u64,
    /// The earliest `time` in it.
    pub time_min: i64,
    /// The latest `time` in it.
    pub time_max: i64,
}

/// Why a file was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A file without rows says nothing and could not be pruned.
    #[error("there are no rows to write")]
    NoRows,
    /// The column `time` is missing, or is not a long.
    #[error("the rows have no column \"time\" of type long")]
    NoTime,
    /// Readers rely on the order.
    #[error("the rows are not in order of time")]
    NotSorted,
    /// The batches differ in schema, or a type cannot be stored.
    #[error("could not write the rows")]
    Parquet(#[from] ParquetError),
}

impl WriteError {
    /// What the caller can do about it: all of these are mistakes of ours.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }
}

/// Writes `batches` (one schema, in order of `time`) under a key that is used for this file only.
///
/// Takes CPU for a while: call it off the async threads.
pub fn write(batches: &[RecordBatch], key: &DataKey, aad_prefix: &[u8]) -> Result<WrittenFile, WriteError> {
    let (time_min, time_max, rows) = span(batches)?;
    let schema = batches.first().ok_or(WriteError::NoRows)?.schema();
    let time_at = schema.index_of("time").map_err(|_| WriteError::NoTime)?;
    let properties = properties(time_at, key, aad_prefix)?;

    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties))?;
    for batch in batches {
        writer.write(batch)?;
    }
    let bytes = Bytes::from(writer.into_inner()?);
    Ok(WrittenFile {
        bytes,
        rows,
        time_min,
        time_max,
    })
}

fn properties(time_at: usize, key: &DataKey, aad_prefix: &[u8]) -> Result<WriterProperties, WriteError> {
    // The narrow profile: AES-GCM, one key for everything, footer encrypted, prefix not stored. pyarrow opens it too.
    let encryption = FileEncryptionProperties::builder(key.reveal().to_vec())
        .with_aad_prefix(aad_prefix.to_vec())
        .with_aad_prefix_storage(false)
        .build()?;
    let time = i32::try_from(time_at).map_err(|_| WriteError::NoTime)?;
    Ok(WriterProperties::builder()
        .set_created_by("coffer".to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_max_row_group_row_count(Some(ROWS_PER_GROUP))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_sorting_columns(Some(vec![SortingColumn {
            column_idx: time,
            descending: false,
            nulls_first: true,
        }]))
        .with_file_encryption_properties(Arc::clone(&encryption))
        .build())
}

fn span(batches: &[RecordBatch]) -> Result<(i64, i64, u64), WriteError> {
    let (mut first, mut last, mut rows) = (None, i64::MIN, 0);
    for batch in batches {
        let time = time_of(batch).ok_or(WriteError::NoTime)?;
        for row in 0..time.len() {
            let now = if time.is_null(row) { 0 } else { time.value(row) };
            if now < last {
                return Err(WriteError::NotSorted);
            }
            first.get_or_insert(now);
            last = now;
        }
        rows += batch.num_rows() as u64;
    }
    first.map(|first| (first, last, rows)).ok_or(WriteError::NoRows)
}
