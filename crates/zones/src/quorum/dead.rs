//! Which names were deleted or withdrawn, as far as this process has heard: the graves in the zones are the durable list.
//!
//! A role that deletes for years has many of them, so a name is kept as 16 bytes of its digest. Two names that share those would have to
//! be searched for with more work than anybody has, and whoever can make names could as well delete.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::ObjectName;

#[derive(Debug, Default)]
pub(super) struct Dead(Mutex<HashSet<[u8; 16]>>);

impl Dead {
    pub(super) fn contains(&self, name: &ObjectName) -> bool {
        let all = self.all();
        !all.is_empty() && all.contains(&short(name))
    }

    pub(super) fn insert(&self, name: &ObjectName) {
        self.all().insert(short(name));
    }

    pub(super) fn remove(&self, name: &ObjectName) {
        self.all().remove(&short(name));
    }

    fn all(&self) -> MutexGuard<'_, HashSet<[u8; 16]>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn short(name: &ObjectName) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&blake3::hash(name.as_str().as_bytes()).as_bytes()[..16]);
    short
}
