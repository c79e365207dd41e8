//! What is known to wait to be copied to a zone, and since when.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

use base::Timestamp;

use crate::ObjectName;

/// Beyond this many names the queue gives way to a comparison of listings.
const MOST: usize = 100_000;

#[derive(Debug, Default)]
pub(super) struct Waiting {
    names: BTreeMap<ObjectName, One>,
    bytes: u64,
}

#[derive(Debug)]
struct One {
    since: Timestamp,
    bytes: u64,
}

impl Waiting {
    /// False when there is no room for more names.
    pub(super) fn add(&mut self, name: ObjectName, bytes: Option<u64>, now: Timestamp) -> bool {
        if let Some(known) = self.names.get_mut(&name) {
            if known.bytes == 0 {
                known.bytes = bytes.unwrap_or_default();
                self.bytes = self.bytes.saturating_add(known.bytes);
            }
            return true;
        }
        if self.names.len() >= MOST {
            return false;
        }
        let bytes = bytes.unwrap_or_default();
        self.bytes = self.bytes.saturating_add(bytes);
        self.names.insert(name, One { since: now, bytes });
        true
    }

    pub(super) fn remove(&mut self, name: &ObjectName) {
        if let Some(one) = self.names.remove(name) {
            self.bytes = self.bytes.saturating_sub(one.bytes);
        }
    }

    pub(super) fn contains(&self, name: &ObjectName) -> bool {
        self.names.contains_key(name)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// Of those objects whose length is known.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.names.values().map(|one| one.since).min()
    }

    /// Up to `count` names after `last`.
    pub(super) fn after(&self, last: Option<&ObjectName>, count: usize) -> Vec<ObjectName> {
        let from = last.map_or(Unbounded, Excluded);
        self.names
            .range((from, Unbounded))
            .take(count)
            .map(|(name, _)| name.clone())
            .collect()
    }
}
