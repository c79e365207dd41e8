//! How much memory rows may take that are in no file yet, over all products.
//!
//! Promise: what takes memory holds a [`Charge`] for it, taken before the memory is and given back when it is dropped. Charges
//! together stay within the limit, but for rows that are read back after a start: of these, one segment at a time may go beyond.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arrow::array::{Array, ArrayData};
use arrow::buffer::Buffer;
use arrow::record_batch::RecordBatch;

/// What is taken, and what may be.
#[derive(Debug)]
pub(crate) struct Memory {
    limit: usize,
    used: AtomicUsize,
    /// Somebody was refused since files were last written.
    short: AtomicBool,
    /// Held while a segment is read back.
    turn: tokio::sync::Mutex<()>,
    #[cfg(test)]
    peak: AtomicUsize,
}

impl Memory {
    /// Of `limit` bytes.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            used: AtomicUsize::new(0),
            short: AtomicBool::new(false),
            turn: tokio::sync::Mutex::default(),
            #[cfg(test)]
            peak: AtomicUsize::new(0),
        })
    }

    /// A charge of `bytes`; none if that would pass the limit now.
    pub(crate) fn charge(self: &Arc<Self>, bytes: usize) -> Option<Charge> {
        let mut charge = self.charge_anyway(0);
        charge.resize(bytes).then_some(charge)
    }

    /// A charge of `bytes` even beyond the limit: for what is read back, in turn.
    pub(crate) fn charge_anyway(self: &Arc<Self>, bytes: usize) -> Charge {
        self.used.fetch_add(bytes, Ordering::SeqCst);
        self.note();
        Charge {
            memory: Arc::clone(self),
            bytes,
        }
    }

    /// Waits for the turn to read a segment back.
    pub(crate) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// The most that may be charged.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// How much is charged.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::SeqCst)
    }

    /// Whether rows had better be written to files.
    pub(crate) fn is_pressed(&self) -> bool {
        self.used() > self.limit / 2 || self.short.load(Ordering::SeqCst)
    }

    /// What could be written to files has been: until somebody is refused again, nobody is short of memory.
    pub(crate) fn relieved(&self) {
        self.short.store(false, Ordering::SeqCst);
    }

    /// The most that was ever charged.
    #[cfg(test)]
    pub(crate) fn peak(&self) -> usize {
        self.peak.load(Ordering::SeqCst)
    }

    fn note(&self) {
        #[cfg(test)]
        self.peak.fetch_max(self.used(), Ordering::SeqCst);
    }
}

/// Memory that is spoken for, until this is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    memory: Arc<Memory>,
    bytes: usize,
}

impl Charge {
    /// Makes it `bytes`. False, and nothing changed, if that would pass the limit now; making it smaller is always possible.
    pub(crate) fn resize(&mut self, bytes: usize) -> bool {
        if bytes <= self.bytes {
            self.memory.used.fetch_sub(self.bytes - bytes, Ordering::SeqCst);
            self.bytes = bytes;
            return true;
        }
        let more = bytes - self.bytes;
        let fits = |used: usize| used.checked_add(more).filter(|sum| *sum <= self.memory.limit);
        if self.memory.used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fits).is_err() {
            self.memory.short.store(true, Ordering::SeqCst);
            return false;
        }
        self.bytes = bytes;
        self.memory.note();
        true
    }

    /// How much it is.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}

/// How much memory a batch keeps from being freed.
///
/// Each allocation counts once. Buffers that were not worth compressing share that of the stream they came in, and counted per
/// column, as Arrow does, a few kilobytes in a hundred columns would pass for a megabyte.
pub(crate) fn memory_of(rows: &RecordBatch) -> usize {
    memory_of_both(rows, rows)
}

/// The same of two batches that may share columns.
pub(crate) fn memory_of_both(rows: &RecordBatch, others: &RecordBatch) -> usize {
    let mut seen = BTreeSet::new();
    let mut once = |buffer: &Buffer| {
        if seen.insert(buffer.data_ptr().as_ptr() as usize) {
            buffer.capacity()
        } else {
            0
        }
    };
    let mut bytes = 0;
    for field in rows.schema_ref().fields() {
        bytes += field.metadata().values().map(String::capacity).sum::<usize>();
    }
    let others = if std::ptr::eq(rows, others) { &[] } else { others.columns() };
    for column in rows.columns().iter().chain(others) {
        // Columns of events hold no others.
        let data = column.to_data();
        bytes += std::mem::size_of::<ArrayData>();
        bytes += data.buffers().iter().map(&mut once).sum::<usize>();
        bytes += data.nulls().map_or(0, |nulls| once(nulls.buffer()));
    }
    bytes
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};

    use super::*;

    #[test]
    fn charges_stay_within_the_limit_and_are_given_back() {
        let memory = Memory::new(100);
        let mut first = memory.charge(60).unwrap();
        assert!(memory.is_pressed());
        assert!(memory.charge(41).is_none());
        assert!(!first.resize(101) && first.resize(10) && first.resize(100));
        assert_eq!((memory.used(), first.bytes()), (100, 100));
        assert_eq!(memory.charge_anyway(50).bytes(), 50);
        drop(first);
        assert_eq!((memory.used(), memory.peak()), (0, 150));
        assert!(memory.is_pressed(), "somebody was refused");
        memory.relieved();
        assert!(!memory.is_pressed());
        assert!(memory.charge(usize::MAX).is_none());
    }

    #[test]
    fn an_allocation_that_columns_share_counts_once() {
        let values = Int64Array::from(vec![7; 1000]);
        let columns = (0..50).map(|number| (number.to_string(), Arc::new(values.clone()) as ArrayRef));
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        let size = memory_of(&rows);
        assert!((8000..20_000).contains(&size), "{size}");
    }
}
