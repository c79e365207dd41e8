//! Which objects are a role's own: only those are copied from zone to zone.
//!
//! Whoever owns one zone can put anything into it under a name that fits. Without a word of the role it would be copied to all
//! others, for ever.

use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::ObjectName;

/// Says whether these bytes, which are those that the name is for, are an object of the role. Quick, and the same at any time.
pub type Vouch = Arc<dyn Fn(&ObjectName, &Bytes) -> bool + Send + Sync>;

/// What the role says; until it has said how to tell, everything is its own.
#[derive(Default)]
pub(crate) struct Vouching(OnceLock<Vouch>);

impl Vouching {
    pub(crate) fn set(&self, vouch: Vouch) {
        if self.0.set(vouch).is_err() {
            tracing::error!("a role has said twice which objects are its own; the first word counts");
        }
    }

    pub(crate) fn is_own(&self, name: &ObjectName, bytes: &Bytes) -> bool {
        // A grave was told from a false one by its name.
        name.is_tombstone() || self.0.get().is_none_or(|vouch| vouch(name, bytes))
    }
}

impl fmt::Debug for Vouching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vouching")
    }
}
