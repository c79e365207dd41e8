//! Writes that were given up and may yet arrive.
//!
//! A request that has left cannot be called back: a store that hung may carry it out when it goes on, after a deletion even. As
//! long as that can be, a deletion of the same object is not certain.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::ObjectName;

/// How long after a store answers again it may still be carrying out what was sent before it hung.
const SETTLED: Duration = Duration::from_secs(30);
/// No more writes than these are ever on their way, by far; beyond them every deletion is uncertain.
const MOST: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Late {
    /// When the store first answered after it.
    writes: BTreeMap<ObjectName, Option<Instant>>,
    waiting: bool,
}

impl Late {
    /// A write of `name` was given up.
    pub(super) fn note(&mut self, name: &ObjectName, now: Instant) {
        self.forget_settled(now);
        if self.writes.len() < MOST {
            self.writes.insert(name.clone(), None);
            self.waiting = true;
        }
    }

    /// The store has answered something.
    pub(super) fn answered(&mut self, now: Instant) {
        if std::mem::take(&mut self.waiting) {
            for first in self.writes.values_mut() {
                first.get_or_insert(now);
            }
        }
    }

    /// Whether a write of `name` may yet arrive.
    pub(super) fn may_arrive(&mut self, name: &ObjectName, now: Instant) -> bool {
        self.forget_settled(now);
        self.writes.contains_key(name) || self.writes.len() >= MOST
    }

    fn forget_settled(&mut self, now: Instant) {
        self.writes
            .retain(|_, first| first.is_none_or(|first| now.duration_since(first) < SETTLED));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_may_arrive_until_the_store_has_answered_for_a_while() {
        let name = ObjectName::new("raw/7", "x", b"x").unwrap();
        let other = ObjectName::new("raw/7", "y", b"y").unwrap();
        let (mut late, begun) = (Late::default(), Instant::now());
        late.note(&name, begun);

        let hour = begun + Duration::from_secs(3600);
        assert!(late.may_arrive(&name, hour) && !late.may_arrive(&other, hour));
        late.answered(hour);
        late.answered(hour + SETTLED / 2);
        assert!(late.may_arrive(&name, hour + SETTLED / 2));
        assert!(!late.may_arrive(&name, hour + SETTLED));
    }
}
