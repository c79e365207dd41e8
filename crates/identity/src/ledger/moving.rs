//! Before anybody is looked up: the first keyring of a product, the index, and what builds before there were keyrings have left: moved under it, then trimmed from the journal.
//!
//! Promise: whatever is interrupted, nobody is lost and nobody gets a second id. What an attempt moved counts only once all is moved; the next
//! attempt begins anew. Nobody is looked up or given an id meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use base::{PersonId, Role};
use journal::{RecoverError, TrimError};
use seal::SealError;
use zones::PutError;

use super::journal_name;
use super::writer::{GiveError, Writer};
use crate::facts::{Fact, Given, Moved, SECOND, SealedPerson};
use crate::keys::{ProductKeys, RingError};
use crate::look;
use crate::ring::{Known, Person, Ring};
use crate::view::OldRow;

/// People moved in one entry.
const AT_ONCE: usize = 8_192;

#[derive(Debug, thiserror::Error)]
enum TrimFirstError {
    #[error("the journal could not be read back")]
    Read(#[from] RecoverError),
    #[error("a segment could not be trimmed")]
    Trim(#[from] TrimError),
    #[error("an object could not be deleted")]
    Delete(#[from] PutError),
    #[error(transparent)]
    View(#[from] crate::view::ViewError),
}

impl Writer {
    pub(super) async fn prepare(&mut self, keys: &Arc<ProductKeys>) -> Result<(), GiveError> {
        self.catch_up().await?;
        if !self.state.ready.load(Ordering::Acquire) {
            self.bring_under(keys).await?;
        }
        if !self.state.index.is_there() {
            let ring = self.ring(std::iter::once(keys))?;
            self.state.index.make(look::everybody(&self.view, &ring, keys).await?);
        }
        Ok(())
    }

    async fn bring_under(&mut self, keys: &Arc<ProductKeys>) -> Result<(), GiveError> {
        if self.view.has_first().await? {
            self.move_first(keys).await?;
        } else if self.state.ring().is_none() {
            let (ring, key) = self.first_ring(keys)?;
            let sealed = ring.sealed(&key, &*self.parts.journal.entropy);
            self.write(Fact::Ring(sealed)).await?;
        }
        // From here on everybody is under the keyring. Old entries that could not be trimmed are trimmed at another start.
        self.state.ready.store(true, Ordering::Release);
        if self.view.is_untrimmed().await?
            && let Err(error) = self.trim_first().await
        {
            tracing::warn!(product.id = %self.product, error = %super::chain(&error),
                "entries of the first form are in the journal of product {}'s people yet, the next start tries again", self.product);
        }
        Ok(())
    }

    /// Trims what could not be trimmed when it was moved.
    pub(super) async fn trim_what_is_left(&self) -> Result<(), GiveError> {
        if self.view.is_untrimmed().await? {
            let trimmed = self.trim_first().await;
            trimmed.map_err(|error| GiveError::Untrimmed(super::chain(&error)))?;
        }
        Ok(())
    }

    fn first_ring(&self, keys: &ProductKeys) -> Result<(Ring, seal::DataKey), GiveError> {
        let epoch = keys.newest_epoch().unwrap_or(0);
        let key = keys.people_key(epoch).ok_or(RingError::NoKey { epoch })?;
        Ok((Ring::generate(self.product, epoch, &*self.parts.journal.entropy), key))
    }

    async fn move_first(&mut self, keys: &Arc<ProductKeys>) -> Result<(), GiveError> {
        let (ring, key) = self.first_ring(keys)?;
        let (ring, entropy) = (Arc::new(ring), Arc::clone(&self.parts.journal.entropy));
        self.write(Fact::Moving(ring.sealed(&key, &*entropy))).await?;
        let (mut after, mut people) = (0, 0);
        loop {
            let rows = self.view.first_after(after, AT_ONCE).await?;
            let Some(last) = rows.last() else { break };
            after = last.id.get();
            let (keys, ring, entropy) = (Arc::clone(keys), Arc::clone(&ring), Arc::clone(&entropy));
            let moving = tokio::task::spawn_blocking(move || moved(&keys, &ring, rows, &*entropy)).await;
            let given = moving.map_err(|_| GiveError::Closed)??;
            people += given.people.len();
            self.write(Fact::Given(given)).await?;
        }
        self.write(Fact::Moved(Moved {})).await?;
        tracing::info!(product.id = %self.product, people, "moved {people} people of product {} under a keyring", self.product);
        Ok(())
    }

    /// Takes out of the journal what is of the first form, all of which was moved.
    async fn trim_first(&self) -> Result<(), TrimFirstError> {
        let (parts, name) = (&self.parts.journal, journal_name(self.product));
        let head = self.journal.head();
        let read = journal::read_back_forms(
            &parts.zones,
            &self.parts.installation,
            Role::Identity,
            &name,
            Some(self.product),
            &head,
        );
        let (segments, superseded) = read.await?;
        let mut gone = superseded;
        for segment in segments {
            if segment.headers.is_empty() || segment.headers.iter().any(|header| &header[..] == SECOND) {
                continue;
            }
            // Whoever writes this journal puts one entry into a segment.
            let trimmed = journal::trim(parts, &segment, &[], &self.parts.seal_to, None).await?;
            gone.extend((trimmed.name != segment.name).then_some(segment.name));
        }
        for object in &gone {
            parts.zones.delete(object).await?;
        }
        Ok(self.view.trimmed().await?)
    }
}

fn moved(keys: &ProductKeys, ring: &Ring, rows: Vec<OldRow>, entropy: &dyn base::Entropy) -> Result<Given, SealError> {
    let mut given = Given::default();
    let mut people: BTreeMap<PersonId, Person> = BTreeMap::new();
    for row in rows {
        let (key, identity) = keys.open_first(&row.hash, &row.sealed)?;
        let person = people.entry(row.id).or_insert_with(|| Person {
            key,
            identities: Vec::new(),
        });
        person.identities.push(Known {
            identity,
            column: row.column,
        });
    }
    let sealed = |(id, person): (&PersonId, &Person)| SealedPerson {
        id: id.get(),
        sealed: ring.seal_person(*id, person, entropy),
    };
    given.people = people.iter().map(sealed).collect();
    Ok(given)
}
