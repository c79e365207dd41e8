//! Writing a file: sorted rows in, encrypted bytes out.

use std::io::Write;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use base::ErrorKind;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::encryption::encrypt::FileEncryptionProperties;
use parquet::errors::ParquetError;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use seal::DataKey;

use crate::order::{InOrder, OrderError, time_of};

/// How many rows a row group holds: what a query skips or reads as a whole.
pub const ROWS_PER_GROUP: usize = 128 * 1024;
/// How many bytes the values of a row group are once they are decoded, but for a single row that is larger: a bound on what its readers
/// need, however well its rows were squeezed. Nulls do not count, else a table of thousands of columns would have more footer than rows.
pub const BYTES_PER_GROUP: usize = 32 << 20;
/// What the footer says of a column of a row group takes.
const FOOTER_PER_COLUMN: usize = 300;
/// How many bytes are encoded at a time.
const BYTES_PER_PIECE: usize = 4 << 20;
/// A file of more columns is compressed with Snappy: each column of a row group that is written or read has a compressor of its own, of
/// 100 kilobytes and more with Zstandard, used or not. Its numbers have no dictionaries.
const SQUEEZED_COLUMNS: usize = 64;
/// What a column of an open row group takes, whatever is in it, with what compresses it: estimates.
const PER_COLUMN: usize = 12 << 10;
const PER_SQUEEZED: usize = 700 << 10;

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

/// What is in a file that was written to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contents {
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
    /// They could not be put in order.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// The batches differ in schema, or a type cannot be stored.
    #[error("could not write the rows")]
    Parquet(#[from] ParquetError),
    /// A column is not what Arrow says that it is.
    #[error("could not tell how large the rows are")]
    Arrow(#[from] ArrowError),
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
    let schema = batches.first().ok_or(WriteError::NoRows)?.schema();
    let mut writer = FileWriter::new(Vec::new(), &schema, key, aad_prefix, usize::MAX)?;
    for batch in batches {
        writer.write(batch)?;
    }
    writer.into_written()
}

/// Writes all rows that come, as [`write()`] does, with so many bytes of memory for compressing: beside the rows and the file no more is
/// in memory than what comes at once.
///
/// Takes CPU for a while: call it off the async threads.
pub fn write_in_order(rows: InOrder, schema: &Schema, key: &DataKey, aad_prefix: &[u8], memory: usize) -> Result<WrittenFile, WriteError> {
    let mut writer = FileWriter::new(Vec::new(), schema, key, aad_prefix, memory)?;
    for batch in rows {
        writer.write(&batch?)?;
    }
    writer.into_written()
}

/// A file being written, of which no more than a row group is in memory. All that reaches the sink is encrypted.
pub struct FileWriter<W: Write + Send> {
    writer: ArrowWriter<W>,
    columns: usize,
    rows: u64,
    span: Option<(i64, i64)>,
    /// How many bytes the values of the open row group are.
    group: usize,
}

impl<W: Write + Send> FileWriter<W> {
    /// Begins a file under a key that is used for this file only, with so many bytes of memory for compressing: many columns need much to
    /// be compressed well.
    pub fn new(sink: W, schema: &Schema, key: &DataKey, aad_prefix: &[u8], memory: usize) -> Result<Self, WriteError> {
        let time_at = schema.index_of("time").map_err(|_| WriteError::NoTime)?;
        let squeezed = is_squeezed(schema.fields().len(), memory);
        let properties = properties(schema, time_at, squeezed, key, aad_prefix)?;
        Ok(Self {
            writer: ArrowWriter::try_new(sink, std::sync::Arc::new(schema.clone()), Some(properties))?,
            columns: schema.fields().len(),
            rows: 0,
            span: None,
            group: 0,
        })
    }

    /// Writes the next rows: in order of `time`, and none earlier than any before. Takes CPU for a while.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), WriteError> {
        self.note_span(batch)?;
        self.write_pieces(batch)
    }

    fn note_span(&mut self, batch: &RecordBatch) -> Result<(), WriteError> {
        let time = time_of(batch).ok_or(WriteError::NoTime)?;
        for row in 0..time.len() {
            let now = if time.is_null(row) { 0 } else { time.value(row) };
            match &mut self.span {
                Some((_, last)) if now < *last => return Err(WriteError::NotSorted),
                Some((_, last)) => *last = now,
                None => self.span = Some((now, now)),
            }
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    fn write_pieces(&mut self, batch: &RecordBatch) -> Result<(), WriteError> {
        let (rows, bytes) = (batch.num_rows(), values_of(batch)?);
        if rows > 1 && bytes > BYTES_PER_PIECE {
            let half = rows / 2;
            self.write_pieces(&batch.slice(0, half))?;
            return self.write_pieces(&batch.slice(half, rows - half));
        }
        if self.group > 0 && self.group + bytes > BYTES_PER_GROUP {
            self.writer.flush()?;
            self.group = 0;
        }
        self.writer.write(batch)?;
        let open = self.writer.in_progress_rows();
        // A row group that is full of rows was closed in between.
        self.group = if open < rows {
            bytes * open / rows.max(1)
        } else {
            self.group + bytes
        };
        Ok(())
    }

    /// Ends the open row group, so that [`Self::size`] says how large the file is.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        self.writer.flush()?;
        self.group = 0;
        Ok(())
    }

    /// How large the file is so far with its footer, and with the rows that are not encoded to the end yet at most.
    pub fn size(&self) -> u64 {
        let footer = (self.writer.flushed_row_groups().len() + 1) * self.columns * FOOTER_PER_COLUMN;
        (self.writer.bytes_written() + self.writer.in_progress_size() + footer) as u64
    }

    /// How much memory it takes now.
    pub fn memory(&self) -> usize {
        self.writer.memory_size()
    }

    /// Ends the file. Returns where it was written to.
    pub fn finish(self) -> Result<(W, Contents), WriteError> {
        let (time_min, time_max) = self.span.ok_or(WriteError::NoRows)?;
        let contents = Contents {
            rows: self.rows,
            time_min,
            time_max,
        };
        Ok((self.writer.into_inner()?, contents))
    }
}

impl FileWriter<Vec<u8>> {
    fn into_written(self) -> Result<WrittenFile, WriteError> {
        let (bytes, contents) = self.finish()?;
        Ok(WrittenFile {
            bytes: Bytes::from(bytes),
            rows: contents.rows,
            time_min: contents.time_min,
            time_max: contents.time_max,
        })
    }
}

impl<W: Write + Send> std::fmt::Debug for FileWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileWriter").field("rows", &self.rows).finish_non_exhaustive()
    }
}

/// What a file of so many columns takes while it is written, beside what [`FileWriter::memory`] knows of, with `memory` for compressing.
pub fn memory_of_columns(columns: usize, memory: usize) -> usize {
    let each = if is_squeezed(columns, memory) { PER_SQUEEZED } else { PER_COLUMN };
    columns.saturating_mul(each)
}

/// Whether a file of so many columns is compressed well, rather than in little memory.
fn is_squeezed(columns: usize, memory: usize) -> bool {
    columns <= SQUEEZED_COLUMNS && columns * PER_SQUEEZED <= memory
}

/// How many bytes the rows of a batch are, of the batch they may be cut from nothing else.
pub fn bytes_of(batch: &RecordBatch) -> Result<usize, ArrowError> {
    batch.columns().iter().map(|column| column.to_data().get_slice_memory_size()).sum()
}

/// The same without what stands for nulls.
fn values_of(batch: &RecordBatch) -> Result<usize, ArrowError> {
    let of = |column: &ArrayRef| {
        let (all, nulls) = (column.to_data().get_slice_memory_size()?, column.null_count());
        let per_null = column.data_type().primitive_width().unwrap_or(4);
        Ok(all.saturating_sub(nulls * per_null))
    };
    batch.columns().iter().map(of).sum()
}

fn properties(schema: &Schema, time_at: usize, squeezed: bool, key: &DataKey, aad_prefix: &[u8]) -> Result<WriterProperties, WriteError> {
    // The narrow profile: AES-GCM, one key for everything, footer encrypted, prefix not stored. pyarrow opens it too.
    let encryption = FileEncryptionProperties::builder(key.reveal().to_vec())
        .with_aad_prefix(aad_prefix.to_vec())
        .with_aad_prefix_storage(false)
        .build()?;
    let time = i32::try_from(time_at).map_err(|_| WriteError::NoTime)?;
    let compression = if squeezed {
        Compression::ZSTD(ZstdLevel::try_new(1)?)
    } else {
        Compression::SNAPPY
    };
    let mut builder = WriterProperties::builder();
    if !squeezed {
        // A dictionary of numbers takes 80 kilobytes from the beginning.
        for field in schema.fields().iter().filter(|field| field.data_type().is_primitive()) {
            builder = builder.set_column_dictionary_enabled(ColumnPath::from(field.name().as_str()), false);
        }
    }
    Ok(builder
        .set_created_by("coffer".to_owned())
        .set_compression(compression)
        .set_max_row_group_row_count(Some(ROWS_PER_GROUP))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_sorting_columns(Some(vec![SortingColumn {
            column_idx: time,
            descending: false,
            nulls_first: true,
        }]))
        .with_file_encryption_properties(encryption)
        .build())
}
