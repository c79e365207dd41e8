//! Keys under which products' keyrings of people are sealed, one for each epoch: made, lent, and dropped for good.
//!
//! Promise: when [`Keyring::drop_people_keys`] has answered, no object of a majority of zones and no file of the vault holds a key that it
//! dropped, and the deletion reaches every further zone as soon as that is there. So every older copy of a keyring is unreadable, wherever it
//! lies; only who copied the vault's own zones and the root key before has its key yet.
//!
//! The fact that made a key has a segment to itself. Dropping the key trims that segment to nothing, which needs no other key and leaves
//! the journal's chain whole (docs/decisions/0012-trimmed-segments.md). The newest key of a product is never dropped.

use base::{ErrorKind, Op, ProductId, Role, SecretBytes, Verb, WriterId};
use bytes::Bytes;
use journal::{RecoverError, SegmentId, TrimError};
use seal::DataKey;
use zones::{ObjectName, PutError, Zones};

use crate::entries::{self, Fact, PeopleKeyMade, bound};
use crate::keyring::Writer;
use crate::keyring::{Keyring, KeyringError};
use crate::open::JOURNAL;

/// Why a key was not dropped.
#[derive(Debug, thiserror::Error)]
pub enum DropError {
    /// Its segment could not be found or read.
    #[error("the segment that holds a key to be dropped could not be read")]
    Read(#[from] RecoverError),
    /// No zone that answers has it.
    #[error("the segment that holds a key to be dropped is in no zone that answers")]
    Gone,
    /// The segment could not be trimmed.
    #[error("the segment that holds a key to be dropped could not be trimmed")]
    Trim(#[from] TrimError),
    /// The object that holds the key could not be deleted.
    #[error("the object that holds a key to be dropped could not be deleted")]
    Delete(#[from] PutError),
}

impl DropError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read(error) => error.kind(),
            Self::Gone => ErrorKind::Unavailable,
            Self::Trim(error) => error.kind(),
            Self::Delete(error) => error.kind(),
        }
    }
}

/// The key of one epoch.
pub(crate) struct PeopleKey {
    epoch: u64,
    key: SecretBytes,
}

impl PeopleKey {
    /// As it is lent.
    pub(crate) fn told(&self) -> wire::v1::PeopleKey {
        wire::v1::PeopleKey {
            epoch: self.epoch,
            key: self.key.reveal().to_vec(),
        }
    }
}

/// What stands in clear over the fact that made a key: enough for anybody to see that it is gone.
pub(crate) fn header(product: ProductId, epoch: u64) -> Bytes {
    Bytes::from(format!("people-key/{product}/{epoch}"))
}

impl Keyring {
    /// A product's keys that were not dropped, oldest first; the first is made now where there is none. Whether the caller may have them was
    /// asked before: they go with the lookup key.
    pub(crate) async fn people_keys(&self, product: ProductId) -> Result<Vec<PeopleKey>, KeyringError> {
        if self.view.people_keys(product).await?.is_empty() {
            let mut writer = self.writer().await?;
            if self.view.people_keys(product).await?.is_empty() {
                self.make_people_key(&mut writer, product, 1).await?;
            }
        }
        let rows = self.view.people_keys(product).await?;
        let key = |row: crate::view::people_keys::PeopleKeyRow| {
            Ok(PeopleKey {
                epoch: row.epoch,
                key: self.unwrap(&bound::people_key(product, row.epoch), &row.wrapped)?,
            })
        };
        rows.into_iter().map(key).collect()
    }

    /// A key for the next epoch, for a pass that may erase and a credential of which the vault itself knows that it may.
    pub(crate) async fn next_people_key(&self, op: &Op) -> Result<PeopleKey, KeyringError> {
        op.authorize(Verb::Erase)?;
        self.live(op, |kind| kind.verbs().contains(Verb::Erase)).await?;
        let mut writer = self.writer().await?;
        let newest = self.view.people_keys(op.product).await?.last().map_or(0, |row| row.epoch);
        self.make_people_key(&mut writer, op.product, newest + 1).await
    }

    /// Drops the keys of all epochs before `below`, but never the newest. Says how many.
    pub(crate) async fn drop_people_keys(&self, product: ProductId, below: u64) -> Result<u64, KeyringError> {
        let dropped = self.drop_rows(product, below).await?;
        // Also where there was none: an earlier call may have ended before it came to this. Whoever reads slowly keeps nobody from writing.
        self.view.empty_log().await?;
        Ok(dropped)
    }

    async fn drop_rows(&self, product: ProductId, below: u64) -> Result<u64, KeyringError> {
        let _writer = self.writer().await?;
        let mut rows = self.view.people_keys(product).await?;
        let newest = rows.pop().map_or(0, |row| row.epoch);
        if below > newest {
            return Err(KeyringError::Invalid("the newest key of a product's people is never dropped"));
        }
        rows.retain(|row| row.epoch < below);
        let dropped = rows.len() as u64;
        for row in rows {
            let (writer, sequence) = row.position;
            let writer = WriterId::from_bytes(writer);
            self.trim_away(SegmentId { writer, sequence }).await?;
            self.view.forget_people_key(product, row.epoch).await?;
            tracing::info!(product.id = %product, epoch = row.epoch, "dropped a key of the people of product {product}");
        }
        Ok(dropped)
    }

    async fn make_people_key(&self, writer: &mut Writer, product: ProductId, epoch: u64) -> Result<PeopleKey, KeyringError> {
        self.view.product(product).await?.ok_or(KeyringError::NotFound("product"))?;
        let key = DataKey::generate(&*self.entropy);
        let fact = Fact::PeopleKey(PeopleKeyMade {
            product: product.get(),
            epoch,
            wrapped: self.wrap(&bound::people_key(product, epoch), key.reveal()),
            at: entries::now(self.clock.now()),
        });
        self.commit_under(writer, header(product, epoch), fact).await?;
        tracing::info!(product.id = %product, epoch, "made a key for the people of product {product}");
        let key = SecretBytes::new(key.reveal().to_vec());
        Ok(PeopleKey { epoch, key })
    }

    /// Leaves of a segment its signed head.
    async fn trim_away(&self, id: SegmentId) -> Result<(), DropError> {
        let parts = &self.trimming;
        let key = self.root.installation().key();
        let found = journal::find(&parts.zones, &key, Role::Vault, JOURNAL, None, id).await?;
        let (segment, superseded) = found.ok_or(DropError::Gone)?;
        let trimmed = journal::trim(parts, &segment, &[], &self.root.journal().public(), None).await?;
        // After a crash between the two, the trimmed form is found and the one before it is among the superseded.
        let before = (trimmed.name != segment.name).then_some(segment.name);
        for object in superseded.iter().chain(&before) {
            parts.zones.delete(object).await?;
        }
        Ok(())
    }
}

/// Deletes what a process that ended between trimming and deleting left.
pub(crate) async fn sweep(zones: &Zones, superseded: &[ObjectName]) {
    for object in superseded {
        if let Err(error) = zones.delete(object).await {
            tracing::warn!(object.name = %object, %error, "an earlier form of a segment could not be deleted, it is tried again at the next start");
        }
    }
}
