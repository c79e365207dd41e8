//! One file, read from its beginning to its end: for who writes its rows anew.
//!
//! Promise: no more of a file is in memory than [`OpenFile::memory`] says. Damage found on the way is reported to the zones, which
//! repair their copies: whoever reads again later may get further.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use base::ErrorKind;
use datafusion::arrow::array::RecordBatch;
use futures::{FutureExt, StreamExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::arrow::async_reader::{ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder};
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use zones::{ObjectName, Zones};

use crate::lease::Lease;
use crate::reader::{ReadFailure, ZoneReader};
use crate::view::FileView;

/// How many rows are decoded at once, and how many bytes of them.
const MOST_ROWS: usize = 8_192;
const MOST_BYTES: u64 = 2 << 20;
/// How large a page of a column can be, how many rows it has, and how much smaller a dictionary is when it is compressed.
const MOST_PAGE: u64 = 1 << 20;
const ROWS_PER_PAGE: u64 = 20_000;
const SQUEEZED: u64 = 8;
/// What each column that is read takes beside its bytes: what decodes and decrypts it, and what decompresses it, if that is Zstandard.
const PER_COLUMN: u64 = 6 << 10;
const PER_ZSTD: u64 = 100 << 10;

/// Why a file could not be read to its end.
#[derive(Debug, thiserror::Error)]
#[error("could not read {object}")]
pub struct FileError {
    object: ObjectName,
    source: ParquetError,
}

impl FileError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match &self.source {
            ParquetError::External(source) => source.downcast_ref::<ReadFailure>().map_or(ErrorKind::Corrupt, ReadFailure::kind),
            _ => ErrorKind::Corrupt,
        }
    }
}

/// A file whose footer has been read.
pub struct OpenFile {
    zones: Arc<Zones>,
    lease: Arc<Lease>,
    file: Arc<FileView>,
    footer: ArrowReaderMetadata,
}

impl OpenFile {
    /// Reads the footer, under a lease.
    pub async fn open(zones: &Arc<Zones>, lease: &Arc<Lease>, file: FileView) -> Result<Self, FileError> {
        let failed = |source| FileError {
            object: file.object.clone(),
            source,
        };
        let footer = lease.footer(zones, &file).await.map_err(|failure| failed(failure.into()))?;
        let footer = ArrowReaderMetadata::try_new(footer, parquet::arrow::arrow_reader::ArrowReaderOptions::new()).map_err(failed)?;
        Ok(Self {
            zones: Arc::clone(zones),
            lease: Arc::clone(lease),
            file: Arc::new(file),
            footer,
        })
    }

    /// How many rows are decoded at once.
    pub fn rows_at_once(&self) -> usize {
        let per_row = groups(self.footer.metadata())
            .map(|group| decoded(group) / rows_of(group).max(1))
            .max()
            .unwrap_or(1);
        usize::try_from(MOST_BYTES / per_row.max(1)).map_or(MOST_ROWS, |rows| rows.clamp(1, MOST_ROWS))
    }

    /// How much memory reading takes at most: the footer, the bytes of a row group, of each column a page, and as many rows as are
    /// decoded at once. Rows can be very different: at worst these are all that the row group holds.
    pub fn memory(&self) -> usize {
        let at_once = self.rows_at_once() as u64;
        let decoder = decoder_of(self.footer.metadata());
        let of = |group: &RowGroupMetaData| {
            let rows = rows_of(group).max(1);
            let columns = group.columns().iter();
            let bytes: u64 = columns
                .map(|column| unsigned(column.compressed_size()) + page_of(column, rows) + decoder)
                .sum();
            bytes + 2 * decoded(group) * at_once.min(rows) / rows
        };
        let group = groups(self.footer.metadata()).map(of).max().unwrap_or(0);
        self.footer.metadata().memory_size() + usize::try_from(group).unwrap_or(usize::MAX / 2)
    }

    /// What the rows of the file have columns for.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.footer.schema().fields().iter().map(|field| field.name().as_str())
    }

    /// All rows, in their order.
    pub fn rows(&self) -> Result<Rows, FileError> {
        self.read(ProjectionMask::all(), self.rows_at_once())
    }

    /// The same, of each row the time only.
    pub fn times(&self) -> Result<Rows, FileError> {
        let time = ProjectionMask::columns(self.footer.parquet_schema(), [events::TIME]);
        self.read(time, MOST_ROWS)
    }

    fn read(&self, columns: ProjectionMask, rows: usize) -> Result<Rows, FileError> {
        let reader = ZoneReader::new(&self.zones, &self.lease, &self.file);
        let stream = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, self.footer.clone())
            .with_projection(columns)
            .with_batch_size(rows)
            .build();
        Ok(Rows {
            zones: Arc::clone(&self.zones),
            object: self.file.object.clone(),
            stream: stream.map_err(|source| FileError {
                object: self.file.object.clone(),
                source,
            })?,
        })
    }
}

impl std::fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OpenFile({})", self.file.object)
    }
}

/// The rows of a file, batch after batch.
pub struct Rows {
    zones: Arc<Zones>,
    object: ObjectName,
    stream: ParquetRecordBatchStream<ZoneReader>,
}

impl Rows {
    /// The next rows; none at the end. After an error nothing more comes.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, FileError> {
        // The decoder trusts lengths that stand in the clear, and panics on some that a flipped bit makes of them.
        let next = AssertUnwindSafe(self.stream.next()).catch_unwind().await;
        let next = next.unwrap_or_else(|_| Some(Err(ParquetError::General("the decoder gave up".to_owned()))));
        match next.transpose() {
            Ok(batch) => Ok(batch),
            Err(source) => {
                let error = FileError {
                    object: self.object.clone(),
                    source,
                };
                if error.kind() == ErrorKind::Corrupt {
                    self.zones.report_corrupt(&self.object).await;
                }
                Err(error)
            }
        }
    }
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rows({})", self.object)
    }
}

fn groups(footer: &ParquetMetaData) -> impl Iterator<Item = &RowGroupMetaData> {
    footer.row_groups().iter()
}

fn rows_of(group: &RowGroupMetaData) -> u64 {
    unsigned(group.num_rows())
}

/// How many bytes the rows of a row group are once they are decoded.
fn decoded(group: &RowGroupMetaData) -> u64 {
    let rows = rows_of(group);
    let of = |column: &ColumnChunkMetaData| match column.unencoded_byte_array_data_bytes() {
        Some(texts) => unsigned(texts) + rows * 5,
        None => (rows * 9).max(unsigned(column.uncompressed_size())),
    };
    group.columns().iter().map(of).sum()
}

/// What reading a column takes, whatever is in it: all columns of a file are compressed alike.
pub(crate) fn decoder_of(footer: &ParquetMetaData) -> u64 {
    let first = groups(footer).flat_map(|group| group.columns().first()).next();
    match first.map(ColumnChunkMetaData::compression) {
        Some(Compression::ZSTD(_)) => PER_COLUMN + PER_ZSTD,
        _ => PER_COLUMN,
    }
}

/// What a page of a column takes, and its dictionary.
fn page_of(column: &ColumnChunkMetaData, rows: u64) -> u64 {
    let all = unsigned(column.uncompressed_size());
    let page = (all * ROWS_PER_PAGE.min(rows) / rows).min(MOST_PAGE);
    let dictionary = column
        .dictionary_page_offset()
        .map_or(0, |from| unsigned(column.data_page_offset() - from));
    page + (dictionary * SQUEEZED).min(all).min(MOST_PAGE)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
