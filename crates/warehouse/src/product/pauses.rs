//! What failed is not tried again at once, and after each further failure later.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base::Timestamp;

const FIRST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(300);

/// How long to leave each of them alone.
#[derive(Debug)]
pub(super) struct Pauses<K>(Mutex<HashMap<K, Pause>>);

#[derive(Debug, Clone, Copy)]
struct Pause {
    since: Timestamp,
    length: Duration,
}

impl<K> Default for Pauses<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> Pauses<K> {
    /// Whether it may be worked at.
    pub(super) fn may(&self, of: &K, now: Timestamp) -> bool {
        let pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was turned back must not make a pause longer.
        pauses
            .get(of)
            .is_none_or(|pause| now.since(pause.since) >= pause.length || now < pause.since)
    }

    /// Work at it has ended.
    pub(super) fn ended(&self, of: K, well: bool, now: Timestamp) {
        let mut pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = pauses.remove(&of);
        if !well {
            let length = before.map_or(FIRST, |pause| (pause.length * 2).min(LONGEST));
            pauses.insert(of, Pause { since: now, length });
        }
    }
}

#[cfg(test)]
mod tests {
    use base::TableId;

    use super::*;

    #[test]
    fn what_fails_again_and_again_is_tried_ever_later() {
        let (pauses, table, other) = (Pauses::default(), TableId::from_bytes([1; 16]), TableId::from_bytes([2; 16]));
        let at = Timestamp::from_secs;
        assert!(pauses.may(&table, at(100)));
        pauses.ended(table, false, at(100));
        assert!(!pauses.may(&table, at(101)) && pauses.may(&other, at(101)) && pauses.may(&table, at(102)));
        pauses.ended(table, false, at(102));
        assert!(!pauses.may(&table, at(105)) && pauses.may(&table, at(106)));
        assert!(pauses.may(&table, at(50)), "the clock was turned back");
        for _ in 0..20 {
            pauses.ended(table, false, at(200));
        }
        assert!(!pauses.may(&table, at(499)) && pauses.may(&table, at(500)));
        pauses.ended(table, true, at(500));
        assert!(pauses.may(&table, at(500)));
    }
}
