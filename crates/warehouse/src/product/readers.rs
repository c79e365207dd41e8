//! Who may be reading files: so that an object is deleted once nobody is, and no sooner.
//!
//! Promise: whoever took a view before a turn ended counts as reading until the last file of that view is let go. Does not know which
//! files: a long query keeps all that is condemned while it runs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Views by the turn in which they were taken.
#[derive(Debug, Default)]
pub(super) struct Readers(Arc<Mutex<Turns>>);

#[derive(Debug, Default)]
struct Turns {
    now: u64,
    reading: BTreeMap<u64, usize>,
}

/// One view: it reads for as long as this lives.
#[derive(Debug)]
pub(super) struct Reader {
    of: Arc<Mutex<Turns>>,
    turn: u64,
}

impl Readers {
    /// Takes part in this turn. To be called while the state is locked out of which the view is taken.
    pub(super) fn enter(&self) -> Arc<Reader> {
        let mut turns = lock(&self.0);
        let turn = turns.now;
        *turns.reading.entry(turn).or_default() += 1;
        Arc::new(Reader {
            of: Arc::clone(&self.0),
            turn,
        })
    }

    /// Ends this turn and returns its number. What the state does not show by now, nobody sees who enters from here on.
    pub(super) fn end_turn(&self) -> u64 {
        let mut turns = lock(&self.0);
        turns.now += 1;
        turns.now - 1
    }

    /// Whether everybody has left who entered in this turn or before.
    pub(super) fn have_left(&self, turn: u64) -> bool {
        lock(&self.0).reading.keys().next().is_none_or(|oldest| *oldest > turn)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut turns = lock(&self.of);
        if let Some(count) = turns.reading.get_mut(&self.turn) {
            *count -= 1;
            if *count == 0 {
                turns.reading.remove(&self.turn);
            }
        }
    }
}

fn lock(turns: &Mutex<Turns>) -> MutexGuard<'_, Turns> {
    turns.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_over_when_all_who_entered_before_its_end_have_left() {
        let readers = Readers::default();
        assert!(readers.have_left(readers.end_turn()), "nobody was there");
        let (first, second) = (readers.enter(), readers.enter());
        let turn = readers.end_turn();
        let late = readers.enter();
        drop(first);
        assert!(!readers.have_left(turn));
        let again = Arc::clone(&second);
        drop(second);
        assert!(!readers.have_left(turn));
        drop(again);
        assert!(readers.have_left(turn));
        let next = readers.end_turn();
        assert!(!readers.have_left(next) && readers.have_left(turn));
        drop(late);
        assert!(readers.have_left(next));
    }
}
