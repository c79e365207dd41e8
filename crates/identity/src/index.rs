//! Who is known under which identity: in memory only, as long as somebody's lease for the product lasts.
//!
//! Promise: nothing by which an identity is found is ever stored. The index is made from the rows of all people, with the keyring, when
//! it is first needed, and holds keyed hashes and ids, never an identity.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use base::PersonId;

use crate::keys::Hash;

/// Half of a keyed hash tells two identities apart.
type Half = [u8; 16];

/// The index, where it was made.
#[derive(Clone, Default)]
pub(crate) struct Index(Arc<RwLock<Option<HashMap<Half, PersonId>>>>);

impl Index {
    /// Whether it was made.
    pub(crate) fn is_there(&self) -> bool {
        self.read().is_some()
    }

    /// The ids of these, in order. `None` where there is no index.
    pub(crate) fn find(&self, hashes: &[Hash]) -> Option<Vec<Option<PersonId>>> {
        let index = self.read();
        let index = index.as_ref()?;
        Some(hashes.iter().map(|hash| index.get(&half(hash)).copied()).collect())
    }

    /// Makes it, of all there are.
    pub(crate) fn make(&self, all: impl IntoIterator<Item = (Hash, PersonId)>) {
        let made = all.into_iter().map(|(hash, id)| (half(&hash), id)).collect();
        *self.write() = Some(made);
    }

    /// These are known from now on, if there is an index.
    pub(crate) fn add(&self, new: impl IntoIterator<Item = (Hash, PersonId)>) {
        if let Some(index) = self.write().as_mut() {
            index.extend(new.into_iter().map(|(hash, id)| (half(&hash), id)));
        }
    }

    /// These are nobody's from now on.
    pub(crate) fn remove(&self, hashes: &[Hash]) {
        if let Some(index) = self.write().as_mut() {
            for hash in hashes {
                index.remove(&half(hash));
            }
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        *self.write() = None;
    }

    fn read(&self) -> RwLockReadGuard<'_, Option<HashMap<Half, PersonId>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Option<HashMap<Half, PersonId>>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Index({})", if self.is_there() { "there" } else { "not there" })
    }
}

fn half(hash: &Hash) -> Half {
    let mut half = Half::default();
    half.copy_from_slice(&hash[..16]);
    half
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_made_is_not_added_to() {
        let index = Index::default();
        let id = PersonId::new(7).unwrap();
        index.add([([1; 32], id)]);
        assert_eq!(index.find(&[[1; 32]]), None);
        index.make([([1; 32], id)]);
        index.add([([2; 32], id)]);
        index.remove(&[[1; 32]]);
        assert_eq!(index.find(&[[2; 32], [1; 32]]), Some(vec![Some(id), None]));
        index.clear();
        assert!(!index.is_there());
    }
}
