//! How much of the disk results may take: those of one product, and those of all products together.
//!
//! Promise: who may only ask questions cannot fill the disk that zones may share, nor push another product's results out.
//!
//! What is being written holds a [`Held`] for what it has grown to. Does not know which results there are, nor which go first.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::ResultError;

/// How the file of a whole result ends.
pub(crate) const WHOLE: &str = "sealed";

/// What may be taken, and what is.
#[derive(Debug)]
pub(crate) struct Room {
    whose: &'static str,
    limit: u64,
    used: AtomicU64,
    /// The larger room that this one is a part of.
    within: Option<Arc<Self>>,
}

impl Room {
    /// For all products, of which results are below `products` already.
    pub(crate) fn of_all(limit: u64, products: &Path) -> Arc<Self> {
        let below = |product: std::io::Result<std::fs::DirEntry>| product.map_or(0, |product| taken(&product.path().join("results")));
        let used = std::fs::read_dir(products).into_iter().flatten().map(below).sum();
        Arc::new(Self {
            whose: "all products",
            limit,
            used: AtomicU64::new(used),
            within: None,
        })
    }

    /// For one product, of which results are in `results` already, and counted in the whole.
    pub(crate) fn of_one(limit: u64, results: &Path, within: &Arc<Self>) -> Arc<Self> {
        Arc::new(Self {
            whose: "this product",
            limit,
            used: AtomicU64::new(taken(results)),
            within: Some(Arc::clone(within)),
        })
    }

    /// So much is free again.
    pub(super) fn give_back(&self, bytes: u64) {
        // Never below nothing, should a file have gone by itself.
        let less = |used: u64| Some(used.saturating_sub(bytes));
        let _ = self.used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        if let Some(within) = &self.within {
            within.give_back(bytes);
        }
    }

    fn take(&self, bytes: u64) -> Result<(), ResultError> {
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        let taken = self.used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fits);
        taken.map_err(|_| ResultError::NoRoom {
            whose: self.whose,
            limit: self.limit,
        })?;
        match self.within.as_ref().map(|within| within.take(bytes)) {
            Some(Err(full)) => {
                self.used.fetch_sub(bytes, Ordering::SeqCst);
                Err(full)
            }
            _ => Ok(()),
        }
    }

    fn take_anyway(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::SeqCst);
        if let Some(within) = &self.within {
            within.take_anyway(bytes);
        }
    }

    /// How much is taken.
    #[cfg(test)]
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::SeqCst)
    }
}

fn taken(results: &Path) -> u64 {
    let whole = |entry: &std::fs::DirEntry| entry.path().extension().is_some_and(|end| end == WHOLE);
    let entries = std::fs::read_dir(results).into_iter().flatten().flatten().filter(whole);
    entries.map(|entry| entry.metadata().map_or(0, |meta| meta.len())).sum()
}

/// What one result has taken. Dropped, it is given back; kept, it is when the result is removed.
#[derive(Debug)]
pub(super) struct Held {
    room: Arc<Room>,
    bytes: u64,
}

impl Held {
    /// Nothing yet.
    pub(super) fn of(room: &Arc<Room>) -> Self {
        Self {
            room: Arc::clone(room),
            bytes: 0,
        }
    }

    /// Makes it `bytes`, which are on the disk already; an error, and nothing changed, if that is more than there is room for.
    pub(super) fn grow_to(&mut self, bytes: u64) -> Result<(), ResultError> {
        self.room.take(bytes.saturating_sub(self.bytes))?;
        self.bytes = self.bytes.max(bytes);
        Ok(())
    }

    /// Makes it `bytes` and keeps it for as long as there is the file.
    pub(super) fn keep(mut self, bytes: u64) {
        self.room.take_anyway(bytes.saturating_sub(self.bytes));
        self.room.give_back(self.bytes.saturating_sub(bytes));
        self.bytes = 0;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_of_both_rooms_counts_and_all_is_given_back() {
        let nowhere = Path::new("/nonexistent");
        let all = Room::of_all(100, nowhere);
        let (one, other) = (Room::of_one(60, nowhere, &all), Room::of_one(80, nowhere, &all));
        let (mut first, mut second) = (Held::of(&one), Held::of(&other));
        first.grow_to(50).unwrap();
        assert!(matches!(
            first.grow_to(61),
            Err(ResultError::NoRoom {
                whose: "this product",
                limit: 60
            })
        ));
        second.grow_to(50).unwrap();
        assert!(matches!(
            second.grow_to(51),
            Err(ResultError::NoRoom {
                whose: "all products",
                limit: 100
            })
        ));
        assert_eq!((one.used(), other.used(), all.used()), (50, 50, 100));
        first.keep(52);
        drop(second);
        assert_eq!((one.used(), other.used(), all.used()), (52, 0, 52));
        one.give_back(52);
        assert_eq!((one.used(), all.used()), (0, 0));
    }
}
