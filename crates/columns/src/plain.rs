//! Parquet files of other people's, in clear, on this machine: read batch by batch, for imports.
//!
//! Promise: at most [`ROWS_PER_BATCH`] rows are decoded at once, besides a page of each column; what is damaged is an
//! error and never a panic; a timestamp keeps every digit that it has.
//!
//! Start at [`PlainFile::open`]. Does not know keys, zones or our own encrypted files.

mod timestamps;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use base::ErrorKind;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;

/// Rows that are decoded at once.
pub const ROWS_PER_BATCH: usize = 1_024;
/// The largest footer that is read. Writers make one of some kilobytes for each row group.
const MAX_FOOTER: u32 = 256 << 20;
/// What a file begins and ends with.
const MAGIC: &[u8; 4] = b"PAR1";

/// Why a file of somebody else's could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PlainError {
    /// The machine could not read it.
    #[error("the file cannot be read")]
    Read(#[from] std::io::Error),
    /// Not a Parquet file, or only a part of one.
    #[error("it is not a whole Parquet file")]
    NotParquet,
    /// Its footer is beyond what is read.
    #[error("its footer has {bytes} bytes, more than {MAX_FOOTER}")]
    Footer {
        /// How many it has.
        bytes: u32,
    },
    /// Damaged, encrypted, or compressed in a way that is not built in.
    #[error("{0}")]
    Parquet(#[from] ParquetError),
    /// A column could not be decoded.
    #[error("{0}")]
    Arrow(#[from] ArrowError),
    /// The decoder met something that it had not thought of.
    #[error("it is damaged")]
    Damaged,
}

impl PlainError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read(_) => ErrorKind::Unavailable,
            Self::Footer { .. } => ErrorKind::TooLarge,
            _ => ErrorKind::Invalid,
        }
    }
}

/// A file that is being read, from its first row to its last.
pub struct PlainFile {
    columns: Vec<(String, String)>,
    rows: u64,
    reader: ParquetRecordBatchReader,
    over: bool,
}

impl PlainFile {
    /// Reads the footer.
    pub fn open(mut file: File) -> Result<Self, PlainError> {
        check_ends(&mut file)?;
        guarded(|| {
            let builder = ParquetRecordBatchReaderBuilder::try_new(file)?.with_batch_size(ROWS_PER_BATCH);
            let fields = builder.schema().fields().iter();
            let columns = fields.map(|field| (field.name().clone(), field.data_type().to_string())).collect();
            let rows = u64::try_from(builder.metadata().file_metadata().num_rows()).map_err(|_| PlainError::Damaged)?;
            Ok(Self {
                columns,
                rows,
                reader: builder.build()?,
                over: false,
            })
        })
    }

    /// Names and types of the columns, in order.
    pub fn columns(&self) -> &[(String, String)] {
        &self.columns
    }

    /// How many rows the footer says there are.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The next rows; `None` after the last and after an error. Timestamps are texts, such as `2026-11-23 10:00:00.123456 UTC`.
    pub fn next_batch(&mut self) -> Result<Option<RecordBatch>, PlainError> {
        if self.over {
            return Ok(None);
        }
        let reader = &mut self.reader;
        let read = guarded(|| reader.next().transpose()?.map(|batch| with_texts(&batch)).transpose());
        self.over = !matches!(read, Ok(Some(_)));
        read
    }
}

/// The decoder trusts lengths that it reads, and panics on some that a flipped bit makes of them.
fn guarded<T>(read: impl FnOnce() -> Result<T, PlainError>) -> Result<T, PlainError> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or(Err(PlainError::Damaged))
}

/// Looks at both ends before a decoder takes memory on the word of a length in them.
fn check_ends(file: &mut File) -> Result<(), PlainError> {
    let length = file.metadata()?.len();
    if length < 12 {
        return Err(PlainError::NotParquet);
    }
    let (mut head, mut tail) = ([0; 4], [0; 8]);
    file.read_exact(&mut head)?;
    file.seek(SeekFrom::End(-8))?;
    file.read_exact(&mut tail)?;
    file.rewind()?;
    let [a, b, c, d, end @ ..] = tail;
    let bytes = u32::from_le_bytes([a, b, c, d]);
    if &head != MAGIC || &end != MAGIC || u64::from(bytes) > length - 12 {
        return Err(PlainError::NotParquet);
    }
    if bytes > MAX_FOOTER {
        return Err(PlainError::Footer { bytes });
    }
    Ok(())
}

fn with_texts(batch: &RecordBatch) -> Result<RecordBatch, PlainError> {
    let (mut fields, mut arrays) = (Vec::new(), Vec::new());
    for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
        match timestamps::as_texts(array)? {
            Some(texts) => {
                fields.push(Arc::new(field.as_ref().clone().with_data_type(texts.data_type().clone())));
                arrays.push(texts);
            }
            None => {
                fields.push(Arc::clone(field));
                arrays.push(Arc::clone(array));
            }
        }
    }
    let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?)
}

#[cfg(test)]
mod tests;
