//! Who may say that an object was deleted: whoever has the role's grave key, which no zone has.

use std::fmt;

use bytes::Bytes;

use crate::ObjectName;

/// The key under which a role digs graves. It comes from the role's own secret and must be the same after every start.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct GraveKey([u8; 32]);

impl GraveKey {
    /// Of a secret that no zone knows. The default, all zeros, is for tests.
    pub fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    /// What the grave of `name` holds. Its digest is in the grave's name, so a listing alone tells the true graves.
    pub(crate) fn epitaph(&self, name: &ObjectName) -> Bytes {
        Bytes::from(format!(
            "coffer tombstone 1\n{}\n",
            blake3::keyed_hash(&self.0, name.as_str().as_bytes()).to_hex()
        ))
    }
}

impl fmt::Debug for GraveKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
