//! Forgetting a person for good.
//!
//! Promise: when [`People::erase`] has answered, nothing that is left opens what was kept of the person in any copy of this role's zones and database,
//! however old, and their personal values in whatever the warehouse stores open with nothing. In order: the vault makes a key for the
//! next epoch; the keyring without the person's group key, the group's other people and the erasure itself are durable in one segment; the vault
//! drops the key of the epoch before. What breaks off between is finished by the next call for the product, or asked for again.

use base::{Op, PersonId, Secret, SecretBytes, Verb};
use seal::DataKey;

use crate::people::{AskError, People, check, hashes};
use crate::receipt::Receipt;

/// Who is to be erased.
pub(crate) enum Whom {
    /// Whoever is known by this.
    Identity(Secret),
    /// Whoever has this id.
    Id(PersonId),
}

/// Somebody was erased.
#[derive(Debug)]
pub(crate) struct Erased {
    pub(crate) receipt: Receipt,
    /// Signed.
    pub(crate) signed: Vec<u8>,
}

impl People {
    /// Erases somebody, with all their identities. Who was erased is so once more, by their id.
    pub(crate) async fn erase(&self, op: &Op, pass: &[u8], whom: Whom) -> Result<Erased, AskError> {
        op.authorize(Verb::Erase)?;
        if let Whom::Identity(identity) = &whom {
            check(std::slice::from_ref(identity), 1)?;
        }
        let ledger = self.ledger(op.product).await?;
        let _one_at_a_time = ledger.erasing.lock().await;
        let ready = self.ready(op, pass).await?;
        let id = match whom {
            Whom::Id(id) => id,
            Whom::Identity(identity) => {
                let hashes = hashes(&ready.keys, vec![identity].into()).await?;
                let found = ready.ledger.find(&hashes).ok_or(AskError::Changing)?;
                match found.into_iter().next().flatten() {
                    Some(id) => id,
                    None => return Err(self.nobody(op, ready.ring.epoch()).await),
                }
            }
        };
        let mut receipt = Receipt {
            product: op.product,
            id,
            erased_at: self.now(),
            epoch: ready.ring.epoch(),
            identities: Vec::new(),
            rewritten: 0,
        };
        if let Some(stone) = ledger.stone(id).await? {
            (receipt.erased_at, receipt.epoch) = (stone.at, stone.epoch);
        } else if ledger.persons(&ready.ring, &[id]).await?.is_empty() {
            return Err(self.nobody(op, ready.ring.epoch()).await);
        } else {
            let next = self.vault.next_people_key(pass, op.request).await;
            let next = next.map_err(|status| AskError::Next(Box::new(status)))?;
            let key = SecretBytes::new(next.key);
            let key = DataKey::try_from(key.reveal()).map_err(crate::keys::LeaseError::NotAKey)?;
            ready.keys.add_people_key(next.epoch, key);
            let erased = ledger.erase(std::sync::Arc::clone(&ready.keys), id, next.epoch).await?;
            let gone = erased.ok_or(AskError::Nobody)?;
            (receipt.erased_at, receipt.epoch) = (gone.at, gone.epoch);
            (receipt.identities, receipt.rewritten) = (gone.identities, gone.people);
        }
        let present = ledger.ring().map_or(receipt.epoch, |ring| ring.epoch);
        let dropped = self.vault.drop_people_keys(op.product, present).await;
        dropped.map_err(|status| AskError::NotDropped {
            id,
            status: Box::new(status),
        })?;
        ready.keys.take_before(present);
        let signed = receipt.signed(&(self.parts.journal.signer)(), self.now());
        tracing::info!(product.id = %op.product, credential.id = %op.actor, request.id = %op.request, "erased a person of product {}", op.product);
        Ok(Erased { receipt, signed })
    }

    /// That there is nobody, which is said only when nothing is left of an erasure that broke off behind its entry.
    async fn nobody(&self, op: &Op, epoch: u64) -> AskError {
        match self.vault.drop_people_keys(op.product, epoch).await {
            Ok(_) => AskError::Nobody,
            Err(status) => AskError::Older(Box::new(status)),
        }
    }
}

impl Whom {
    /// From what a call says: an identity, or an id and no identity.
    pub(crate) fn told(identity: String, id: i64) -> Result<Self, AskError> {
        match (identity.is_empty(), id) {
            (false, 0) => Ok(Self::Identity(Secret::new(identity))),
            (true, id) => PersonId::new(id).map(Self::Id).map_err(|_: base::IdError| AskError::Whom),
            (false, _) => Err(AskError::Whom),
        }
    }
}
