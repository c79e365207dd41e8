//! Forgetting somebody: their group is written anew under a fresh key, without them.

use std::sync::Arc;

use base::{PersonId, Timestamp};

use super::writer::{GiveError, Writer};
use crate::facts::{Erased, Fact, SealedPerson};
use crate::keys::{ProductKeys, RingError};
use crate::look;
use crate::ring::group;
use crate::view::ViewError;

/// Somebody is gone from the live system.
#[derive(Debug, Clone)]
pub(crate) struct Gone {
    pub(crate) at: Timestamp,
    /// Of the keyring without them.
    pub(crate) epoch: u64,
    /// Their identities, hashed for the receipt.
    pub(crate) identities: Vec<[u8; 32]>,
    /// How many other people were written anew.
    pub(crate) people: u64,
}

impl Writer {
    pub(super) async fn erase(&mut self, keys: &Arc<ProductKeys>, id: PersonId, epoch: u64) -> Result<Option<Gone>, GiveError> {
        self.catch_up().await?;
        // Else somebody would be erased of whom older entries, which no keyring closes, tell who they were.
        self.trim_what_is_left().await?;
        let ring = self.ring(std::iter::once(keys))?;
        let key = keys.people_key(epoch).ok_or(RingError::NoKey { epoch })?;
        if epoch <= ring.epoch() {
            let (asked, present) = (epoch, ring.epoch());
            return Err(GiveError::Epoch { asked, present });
        }
        let Some(person) = look::persons(&self.view, &ring, &[id]).await?.remove(&id) else {
            return Ok(None);
        };
        let hashes: Vec<_> = person.identities.iter().map(|known| keys.hash(&known.identity)).collect();
        let others = self.view.group(group(id)).await?;

        let at = self.parts.journal.clock.now();
        let entropy = Arc::clone(&self.parts.journal.entropy);
        let work = move || {
            let next = ring.renewed(epoch, group(id), &*entropy);
            let mut erased = Erased {
                id: id.get(),
                at: at.as_micros(),
                ring: Some(next.sealed(&key, &*entropy)),
                people: Vec::new(),
            };
            for (other, sealed) in others {
                if other != id {
                    let person = ring.open_person(other, &sealed)?;
                    let sealed = next.seal_person(other, &person, &*entropy);
                    erased.people.push(SealedPerson { id: other.get(), sealed });
                }
            }
            Ok::<_, ViewError>(erased)
        };
        let erased = tokio::task::spawn_blocking(work).await.map_err(|_| GiveError::Closed)??;
        let people = erased.people.len() as u64;
        // From here on nobody is found by what was theirs, unless nothing comes of it.
        self.state.index.remove(&hashes);
        let written = self.write(Fact::Erased(erased)).await;
        if written.is_err() && self.behind.is_empty() {
            self.state.index.add(hashes.into_iter().map(|hash| (hash, id)));
        }
        written?;
        tracing::info!(product.id = %self.product, epoch, people, "wrote the people of product {} anew without somebody", self.product);
        Ok(Some(Gone {
            at,
            epoch,
            identities: person.identities.iter().map(|known| keys.receipt_hash(&known.identity)).collect(),
            people,
        }))
    }
}
