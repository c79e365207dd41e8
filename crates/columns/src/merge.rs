//! Several inputs in order of time into one, with little of each in memory.
//!
//! Promise: every row that is given comes out once, in order of `time`; rows of the same time in the order of their inputs, and those of
//! one input in the order in which they came. Does not know where rows come from: it says whose turn it is.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, Int64Array, RecordBatch};
use arrow::compute::interleave_record_batch;
use arrow::error::ArrowError;

use crate::OrderError;
use crate::order::{time_at, time_of};

/// Batches that were read to their end are let go of once they are so many bytes.
const MOST_SPENT: usize = 4 << 20;

/// Inputs that are being merged.
#[derive(Debug)]
pub struct Merge {
    inputs: Vec<Input>,
    /// The next row of each input that has one.
    next: BinaryHeap<Reverse<(i64, usize)>>,
    /// What rows are picked from.
    batches: Vec<RecordBatch>,
    picked: Vec<(usize, usize)>,
    /// How many rows come out at once.
    most: usize,
    /// How many bytes the batches take of which all rows are picked, and all batches.
    spent: usize,
    held: usize,
}

#[derive(Debug, Default)]
struct Input {
    current: Option<Current>,
    ended: bool,
}

#[derive(Debug)]
struct Current {
    times: Int64Array,
    /// Which of the batches, and which row of it comes next.
    batch: usize,
    at: usize,
    bytes: usize,
}

/// What is to be done next.
#[derive(Debug)]
pub enum Step {
    /// Give a batch of this input, or say that there is none.
    Give(usize),
    /// The next rows.
    Rows(RecordBatch),
    /// That was all.
    Done,
}

impl Merge {
    /// Merges so many inputs; up to `most` rows come out at once.
    pub fn new(inputs: usize, most: usize) -> Self {
        Self {
            inputs: (0..inputs).map(|_| Input::default()).collect(),
            next: BinaryHeap::new(),
            batches: Vec::new(),
            picked: Vec::new(),
            most: most.max(1),
            spent: 0,
            held: 0,
        }
    }

    /// How many bytes are held.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Gives the next rows of an input, all inputs of one schema; `None` when it has no more.
    pub fn give(&mut self, input: usize, batch: Option<RecordBatch>) -> Result<(), OrderError> {
        let Some(of) = self.inputs.get_mut(input) else { return Ok(()) };
        let Some(batch) = batch else {
            of.ended = true;
            return Ok(());
        };
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let times = time_of(&batch).ok_or(OrderError::NoTime)?.clone();
        let bytes = held_by(&batch).map_err(OrderError::Join)?;
        self.next.push(Reverse((time_at(&times, 0), input)));
        of.current = Some(Current {
            times,
            batch: self.batches.len(),
            at: 0,
            bytes,
        });
        self.batches.push(batch);
        self.held += bytes;
        Ok(())
    }

    /// What is to be done next.
    pub fn step(&mut self) -> Result<Step, OrderError> {
        loop {
            if self.picked.len() >= self.most || self.spent >= MOST_SPENT {
                return self.take_out().map(Step::Rows).map_err(OrderError::Join);
            }
            if let Some(waiting) = self.inputs.iter().position(|input| input.current.is_none() && !input.ended) {
                return Ok(Step::Give(waiting));
            }
            let Some(Reverse((_, input))) = self.next.pop() else {
                if self.picked.is_empty() {
                    return Ok(Step::Done);
                }
                return self.take_out().map(Step::Rows).map_err(OrderError::Join);
            };
            let other = self.next.peek().map(|Reverse(other)| *other);
            let Some(current) = self.inputs.get_mut(input).and_then(|input| input.current.as_mut()) else {
                continue;
            };
            let room = self.most - self.picked.len();
            let first = current.at;
            // The first is the least of all; those after it as long as no other input has an earlier one.
            let mut end = first + 1;
            while end < current.times.len() && end - first < room && other.is_none_or(|other| (time_at(&current.times, end), input) < other)
            {
                end += 1;
            }
            self.picked.extend((first..end).map(|row| (current.batch, row)));
            current.at = end;
            if end < current.times.len() {
                self.next.push(Reverse((time_at(&current.times, end), input)));
            } else {
                self.spent += current.bytes;
                if let Some(input) = self.inputs.get_mut(input) {
                    input.current = None;
                }
            }
        }
    }

    /// The picked rows as one batch. What is read to its end is let go.
    fn take_out(&mut self) -> Result<RecordBatch, ArrowError> {
        let rows = match (self.picked.first(), self.picked.last()) {
            // A run out of one batch, as when inputs follow one another.
            (Some(&(batch, first)), Some(&(last, row))) if batch == last && row + 1 - first == self.picked.len() => {
                self.batches[batch].slice(first, self.picked.len())
            }
            _ => interleave_record_batch(&self.batches.iter().collect::<Vec<_>>(), &self.picked)?,
        };
        self.picked.clear();
        let mut kept = Vec::new();
        for current in self.inputs.iter_mut().filter_map(|input| input.current.as_mut()) {
            kept.push(self.batches[current.batch].clone());
            current.batch = kept.len() - 1;
        }
        self.batches = kept;
        self.held -= self.spent;
        self.spent = 0;
        Ok(rows)
    }
}

/// How many bytes a batch holds. Columns that are one and the same array, as those are that it lacks, count once.
fn held_by(batch: &RecordBatch) -> Result<usize, ArrowError> {
    let mut seen = HashSet::new();
    let columns = batch.columns().iter();
    let different = columns.filter(|column| seen.insert(Arc::as_ptr(column).cast::<()>()));
    different.map(|column| column.to_data().get_slice_memory_size()).sum()
}

#[cfg(test)]
mod tests {
    use arrow::compute::concat_batches;
    use arrow::datatypes::Schema;
    use events::Seen;
    use proptest::prelude::*;

    use super::*;

    /// Rows of these times, each with the number of its input and its place in it.
    fn rows(input: usize, first: usize, times: &[i64]) -> RecordBatch {
        let place = (0..times.len()).map(|row| (input * 10_000 + first + row) as i64);
        let schema = Schema::new(vec![events::time_field(), events::field("place", Seen::LONG)]);
        let columns: Vec<Arc<dyn Array>> = vec![
            Arc::new(Int64Array::from(times.to_vec())),
            Arc::new(Int64Array::from_iter_values(place)),
        ];
        RecordBatch::try_new(Arc::new(schema), columns).unwrap()
    }

    fn merged(inputs: &[Vec<i64>], given: usize, most: usize) -> Vec<(i64, i64)> {
        let mut merge = Merge::new(inputs.len(), most);
        let (mut at, mut out) = (vec![0; inputs.len()], vec![rows(0, 0, &[])]);
        loop {
            match merge.step().unwrap() {
                Step::Give(input) => {
                    let (first, all) = (at[input], &inputs[input]);
                    let end = (first + given).min(all.len());
                    at[input] = end;
                    merge
                        .give(input, (first < end).then(|| rows(input, first, &all[first..end])))
                        .unwrap();
                }
                Step::Rows(batch) => {
                    assert!(batch.num_rows() <= most && batch.num_rows() > 0);
                    out.push(batch);
                }
                Step::Done => break,
            }
        }
        assert_eq!(merge.held(), 0);
        let all = concat_batches(&out[0].schema(), &out).unwrap();
        let column = |nth: usize| all.column(nth).as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec();
        column(0).into_iter().zip(column(1)).collect()
    }

    proptest! {
        #[test]
        fn every_row_comes_out_once_in_order_of_time_and_of_inputs(
            inputs in proptest::collection::vec(proptest::collection::vec(-3_i64..6, 0..40), 0..6),
            given in 1_usize..9,
            most in 1_usize..20,
        ) {
            let inputs: Vec<Vec<i64>> = inputs.into_iter().map(|mut times| { times.sort_unstable(); times }).collect();
            let mut expected: Vec<(i64, i64)> = Vec::new();
            for (input, times) in inputs.iter().enumerate() {
                expected.extend(times.iter().enumerate().map(|(row, time)| (*time, (input * 10_000 + row) as i64)));
            }
            expected.sort_by_key(|(time, _)| *time);
            prop_assert_eq!(merged(&inputs, given, most), expected);
        }
    }

    #[test]
    fn no_more_is_held_than_a_batch_of_each_input_and_what_comes_out_next() {
        let wide = |time: i64| {
            let text = arrow::array::StringArray::from(vec!["x".repeat(1 << 20)]);
            let schema = Schema::new(vec![events::time_field(), events::field("text", Seen::STRING)]);
            RecordBatch::try_new(Arc::new(schema), vec![Arc::new(Int64Array::from(vec![time])), Arc::new(text)]).unwrap()
        };
        let (mut merge, mut given, mut peak, mut out) = (Merge::new(3, 8192), [0_i64; 3], 0, 0);
        loop {
            match merge.step().unwrap() {
                Step::Give(input) => {
                    given[input] += 1;
                    merge.give(input, (given[input] <= 20).then(|| wide(given[input]))).unwrap();
                }
                Step::Rows(rows) => out += rows.num_rows(),
                Step::Done => break,
            }
            peak = peak.max(merge.held());
        }
        assert_eq!(out, 60);
        assert!(peak < MOST_SPENT + (4 << 20), "{peak} bytes");
    }
}
