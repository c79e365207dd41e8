//! Rows in order of time.

use std::collections::HashMap;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch};
use arrow::buffer::OffsetBuffer;
use arrow::compute::interleave_record_batch;
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

/// How many rows come at once, how many cells, empty ones included, and how many bytes their values are; one row always comes.
const ROWS_AT_ONCE: usize = 8_192;
const CELLS_AT_ONCE: usize = 512 << 10;
const BYTES_AT_ONCE: usize = 4 << 20;

/// All rows of batches in order of `time`, a few at a time; rows of the same time stay in the order in which they came.
///
/// Promise: beside the batches themselves it takes eight bytes for each row, and what comes at once. Where batches share columns that
/// they lack, as [`events::Missing`] makes them, no more is ever laid out.
#[derive(Debug)]
pub struct InOrder {
    batches: Vec<Batch>,
    /// The batch and the row, for each row; none where the batches are in order as they follow one another.
    order: Option<Vec<(u32, u32)>>,
    /// Which row comes next: of the order, or of the batch.
    next: usize,
    batch: usize,
    rows_at_once: usize,
}

#[derive(Debug)]
struct Batch {
    rows: RecordBatch,
    /// What tells how long its texts are.
    texts: Vec<OffsetBuffer<i32>>,
    /// What the rest of each row takes.
    fixed: usize,
}

impl InOrder {
    /// Takes batches of one schema.
    pub fn new(batches: Vec<RecordBatch>) -> Result<Self, OrderError> {
        let first = batches.first().ok_or(OrderError::Nothing)?;
        let (schema, columns) = (first.schema(), first.num_columns().max(1));
        if batches.iter().any(|batch| batch.schema_ref() != &schema) {
            return Err(OrderError::Join(ArrowError::SchemaError("the batches differ".to_owned())));
        }
        let batches: Vec<Batch> = batches.into_iter().filter(|batch| batch.num_rows() > 0).map(Batch::of).collect();
        let times = batches.iter().map(|batch| time_of(&batch.rows).ok_or(OrderError::NoTime));
        let times = times.collect::<Result<Vec<_>, _>>()?;
        let in_turn = times.iter().flat_map(|times| (0..times.len()).map(|row| time_at(times, row)));
        let order = (!in_turn.is_sorted()).then(|| order_of(&times)).transpose()?;
        Ok(Self {
            batches,
            order,
            next: 0,
            batch: 0,
            rows_at_once: (CELLS_AT_ONCE / columns).clamp(1, ROWS_AT_ONCE),
        })
    }

    /// The next rows of batches that are in order as they are.
    fn of_batch(&mut self) -> Option<RecordBatch> {
        let batch = self.batches.get(self.batch)?;
        let (first, all) = (self.next, batch.rows.num_rows());
        let mut bytes = 0;
        let fits = |row: &usize| {
            bytes += batch.bytes_of(*row);
            *row == first || bytes <= BYTES_AT_ONCE
        };
        let count = (first..all).take(self.rows_at_once).take_while(fits).count();
        let rows = batch.rows.slice(first, count);
        self.next += count;
        if self.next == all {
            (self.batch, self.next) = (self.batch + 1, 0);
        }
        Some(rows)
    }
}

impl Iterator for InOrder {
    type Item = Result<RecordBatch, OrderError>;

    fn next(&mut self) -> Option<Self::Item> {
        let Some(order) = &self.order else {
            return self.of_batch().map(Ok);
        };
        let mut bytes = 0;
        // Only batches that have some of these rows are asked for them.
        let (mut used, mut place, mut picked) = (Vec::new(), HashMap::new(), Vec::new());
        for (nth, &(batch, row)) in order.iter().skip(self.next).take(self.rows_at_once).enumerate() {
            let of = &self.batches[batch as usize];
            bytes += of.bytes_of(row as usize);
            if nth > 0 && bytes > BYTES_AT_ONCE {
                break;
            }
            let at = *place.entry(batch).or_insert_with(|| {
                used.push(&of.rows);
                used.len() - 1
            });
            picked.push((at, row as usize));
        }
        if picked.is_empty() {
            return None;
        }
        self.next += picked.len();
        Some(interleave_record_batch(&used, &picked).map_err(OrderError::Join))
    }
}

impl Batch {
    fn of(rows: RecordBatch) -> Self {
        let (mut texts, mut fixed) = (Vec::new(), 0);
        for column in rows.columns().iter().filter(|column| column.null_count() < column.len()) {
            fixed += column.data_type().primitive_width().unwrap_or(1);
            texts.extend(column.as_string_opt::<i32>().map(|texts| texts.offsets().clone()));
        }
        Self { rows, texts, fixed }
    }

    /// How many bytes the values of a row are.
    fn bytes_of(&self, row: usize) -> usize {
        let texts = self.texts.iter().map(|texts| (texts[row + 1] - texts[row]) as usize);
        self.fixed + texts.sum::<usize>()
    }
}

fn order_of(times: &[&Int64Array]) -> Result<Vec<(u32, u32)>, OrderError> {
    let rows = times.iter().map(|times| times.len()).sum();
    if u32::try_from(rows).is_err() {
        return Err(OrderError::TooMany { rows });
    }
    let places = times
        .iter()
        .zip(0_u32..)
        .flat_map(|(times, batch)| (0..times.len() as u32).map(move |row| (batch, row)));
    let mut order: Vec<(u32, u32)> = places.collect();
    order.sort_unstable_by_key(|&(batch, row)| (time_at(times[batch as usize], row as usize), batch, row));
    Ok(order)
}

/// A null time cannot come from the decoder; should there be one, it counts as zero, as in `write`.
pub(crate) fn time_at(times: &Int64Array, row: usize) -> i64 {
    if times.is_null(row) { 0 } else { times.value(row) }
}

/// The column `time`, when it is there and a long.
pub(crate) fn time_of(batch: &RecordBatch) -> Option<&Int64Array> {
    batch.column_by_name("time")?.as_any().downcast_ref()
}
