//! Rows in order of time.

use arrow::array::{Array, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::error::ArrowError;
use base::ErrorKind;

/// Why rows could not be put in order.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// There was no batch, so there is no schema either.
    #[error("nothing to put in order")]
    Nothing,
    /// The column `time` is missing, or is not a long.
    #[error("the rows have no column \"time\" of type long")]
    NoTime,
    /// More rows than one batch can number.
    #[error("{rows} rows are too many for one batch")]
    TooMany {
        /// How many there were.
        rows: usize,
    },
    /// The batches have different schemas.
    #[error("could not join the batches")]
    Join(#[source] ArrowError),
}

impl OrderError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::TooMany { .. } => ErrorKind::TooLarge,
            Self::Nothing | Self::NoTime | Self::Join(_) => ErrorKind::Internal,
        }
    }
}

/// All rows in one batch, ordered by `time`; rows of the same time stay in the order in which they came.
pub fn sort(batches: &[RecordBatch]) -> Result<RecordBatch, OrderError> {
    let schema = batches.first().ok_or(OrderError::Nothing)?.schema();
    let all = match batches {
        [one] => one.clone(),
        many => concat_batches(&schema, many).map_err(OrderError::Join)?,
    };
    let time = time_of(&all).ok_or(OrderError::NoTime)?;
    let rows = u32::try_from(all.num_rows()).map_err(|_| OrderError::TooMany { rows: all.num_rows() })?;
    // A null time cannot come from the decoder; should there be one, it counts as zero, as in `write`.
    let key = |row: u32| if time.is_null(row as usize) { 0 } else { time.value(row as usize) };
    if (1..rows).all(|row| key(row - 1) <= key(row)) {
        return Ok(all);
    }
    let mut order: Vec<u32> = (0..rows).collect();
    order.sort_by_key(|&row| key(row));
    take_record_batch(&all, &UInt32Array::from(order)).map_err(OrderError::Join)
}

/// The column `time`, when it is there and a long.
pub(crate) fn time_of(batch: &RecordBatch) -> Option<&Int64Array> {
    batch.column_by_name("time")?.as_any().downcast_ref()
}
