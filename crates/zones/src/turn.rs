//! Whose turn it is to write to a place that locks nothing. In directories a lock of the role sees to that; a store has none.
//!
//! Every process takes a turn of its own before it reads or writes anything: the next number, created where it must not be there yet, so of
//! several who try at once one gets it. After each write, and after each deletion, it looks whether the number after its own has been taken, and
//! says that it is done only if not.
//!
//! Promise: what a zone says that it has, every process that takes a later turn in it finds there. (Written, then looked and nobody had the
//! next turn; whoever has it took it after that, and lists later still.) So of what a majority acknowledged nothing is missed by a successor
//! that takes its turns after its predecessor has taken all of its own, however many processes believe that they are the writer; who has a
//! successor acknowledges nothing more there, and finds out by the next look at the zone.
//!
//! What a zone says that it has not any more, no such process finds there, or has found it before and copied it elsewhere: so a write that too
//! few zones had is refused only by who has no successor.
//!
//! Numbers are a zone's own: of two processes the one may have the later turn in one zone, and the other in another, if the first reaches a
//! zone only after the second has begun. Knows nothing of how turns are kept: that is a [`TurnStore`].

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;

use crate::ZoneError;

/// How often somebody else may be quicker.
const TRIES: usize = 16;
/// How many turns are kept. Who has lived through more starts of others than these would not find out.
const KEPT: u64 = 1000;
/// How many older ones are removed at once.
const REMOVED: usize = 20;

/// Where turns are kept.
#[async_trait]
pub trait TurnStore: Send + Sync {
    /// All that were taken and are kept, in no order.
    async fn turns(&self) -> Result<Vec<u64>, ZoneError>;
    /// Takes one unless somebody has it; whether it was taken. After an error nobody knows.
    async fn create_turn(&self, turn: u64) -> Result<bool, ZoneError>;
    /// Whether somebody has it.
    async fn is_taken(&self, turn: u64) -> Result<bool, ZoneError>;
    /// Removes an old one. Left behind it takes room and nothing else.
    async fn remove_turn(&self, turn: u64);
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turned {
    /// This process's.
    Ours,
    /// A later process's: this one writes nothing more.
    TakenOver,
    /// Others were quicker each time that one was to be taken.
    Contended,
}

/// A process's turn in one zone.
#[derive(Debug, Default)]
pub struct Turn {
    /// 0 before it has one.
    number: AtomicU64,
    taken_over: AtomicBool,
    /// Held while one is taken: two at once would each be the other's successor.
    taking: tokio::sync::Mutex<()>,
}

impl Turn {
    /// Whether it has one, and has not heard of a later one.
    pub fn is_held(&self) -> bool {
        self.number.load(Ordering::SeqCst) != 0 && !self.taken_over.load(Ordering::SeqCst)
    }

    /// Forgets it: the turns went with all the rest of the zone.
    pub fn forget(&self) {
        self.number.store(0, Ordering::SeqCst);
    }

    /// Takes a turn at the first call; later, sees whether somebody has taken the next one.
    pub async fn take(&self, store: &dyn TurnStore) -> Result<Turned, ZoneError> {
        let _one_at_a_time = self.taking.lock().await;
        if self.number.load(Ordering::SeqCst) != 0 {
            return self.look(store).await;
        }
        for _ in 0..TRIES {
            let turns = store.turns().await?;
            let next = turns.iter().max().map_or(1, |last| last + 1);
            // One whose answer is lost is somebody else's, as far as anybody can say.
            if store.create_turn(next).await? {
                self.number.store(next, Ordering::SeqCst);
                for old in turns.into_iter().filter(|turn| turn + KEPT < next).take(REMOVED) {
                    store.remove_turn(old).await;
                }
                return Ok(Turned::Ours);
            }
        }
        Ok(Turned::Contended)
    }

    /// Looks whether anybody has taken the turn after ours.
    pub async fn look(&self, store: &dyn TurnStore) -> Result<Turned, ZoneError> {
        if self.taken_over.load(Ordering::SeqCst) {
            return Ok(Turned::TakenOver);
        }
        if store.is_taken(self.number.load(Ordering::SeqCst) + 1).await? {
            self.taken_over.store(true, Ordering::SeqCst);
            return Ok(Turned::TakenOver);
        }
        Ok(Turned::Ours)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    use super::*;

    #[derive(Debug, Default)]
    struct Kept {
        turns: Mutex<BTreeSet<u64>>,
        /// Whether the answer to the next creation is lost.
        loses: AtomicBool,
    }

    #[async_trait]
    impl TurnStore for Kept {
        async fn turns(&self) -> Result<Vec<u64>, ZoneError> {
            // Whoever else asks comes in between.
            tokio::task::yield_now().await;
            Ok(self.turns.lock().unwrap().iter().copied().collect())
        }
        async fn create_turn(&self, turn: u64) -> Result<bool, ZoneError> {
            let created = self.turns.lock().unwrap().insert(turn);
            tokio::task::yield_now().await;
            if self.loses.swap(false, Ordering::SeqCst) {
                let (zone, detail) = ("a".to_owned(), "the connection broke".to_owned());
                return Err(ZoneError::Unclear { zone, detail });
            }
            Ok(created)
        }
        async fn is_taken(&self, turn: u64) -> Result<bool, ZoneError> {
            Ok(self.turns.lock().unwrap().contains(&turn))
        }
        async fn remove_turn(&self, turn: u64) {
            self.turns.lock().unwrap().remove(&turn);
        }
    }

    #[tokio::test]
    async fn a_process_that_asks_twice_at_once_is_not_its_own_successor() {
        let (store, turn) = (Kept::default(), Turn::default());
        let both = tokio::join!(turn.take(&store), turn.take(&store));
        assert_eq!((both.0.unwrap(), both.1.unwrap()), (Turned::Ours, Turned::Ours));
        assert_eq!(turn.look(&store).await.unwrap(), Turned::Ours);
        assert_eq!(store.turns().await.unwrap(), [1]);
    }

    #[tokio::test]
    async fn of_processes_that_begin_at_once_each_has_its_own_and_all_but_the_last_are_taken_over() {
        let store = Kept::default();
        let turns: Vec<Turn> = (0..8).map(|_| Turn::default()).collect();
        let taken = futures::future::join_all(turns.iter().map(|turn| turn.take(&store))).await;
        assert!(taken.iter().all(|taken| *taken.as_ref().unwrap() == Turned::Ours), "{taken:?}");
        let looked = futures::future::join_all(turns.iter().map(|turn| turn.look(&store))).await;
        let ours = looked.iter().filter(|looked| *looked.as_ref().unwrap() == Turned::Ours).count();
        assert_eq!((ours, store.turns().await.unwrap().len()), (1, 8));
    }

    #[tokio::test]
    async fn a_turn_whose_answer_was_lost_is_passed_over() {
        let (store, turn) = (Kept::default(), Turn::default());
        store.loses.store(true, Ordering::SeqCst);
        turn.take(&store).await.unwrap_err();
        assert!(!turn.is_held());
        assert_eq!(turn.take(&store).await.unwrap(), Turned::Ours);
        assert_eq!(
            (turn.look(&store).await.unwrap(), store.turns().await.unwrap()),
            (Turned::Ours, vec![1, 2])
        );
    }
}
