//! What the vault does: makes keys, judges them, lends them, revokes them.
//!
//! Promise: what is answered is durable first. A fact is appended to the journal, in a majority of zones, then applied
//! to the view; commands run one at a time, so that each is judged against all before it.
//!
//! Start at [`Keyring::authenticate`] (who is it) and [`Keyring::private_key`] (may it read).

use std::sync::Arc;

use base::{Clock, CredentialId, Entropy, ErrorKind, KeyKind, Op, ProductId, Role, SecretBytes, Verb};
use bytes::Bytes;
use journal::{AppendError, Head, Journal, JournalParts, SegmentId};
use seal::{Assertion, DataKey, HolderId, MAX_PASS_LIFETIME, SealError, unwrap, wrap};
use subtle::ConstantTimeEq;
use tokio::sync::Mutex;

use crate::credentials::ProductKey;
use crate::custody::{Lookups, MANAGED, Unlocked};
use crate::entries::{self, CredentialRevoked, Entry, Fact, HeadNoted, HeadsNoted, bound};
use crate::people_keys::DropError;
use crate::root::RootKey;
use crate::view::{CredentialRow, HeadRow, View, ViewError};

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The journal did not take the fact: it has not happened.
    #[error("the vault's journal did not take it")]
    Append(#[from] AppendError),
    /// The view failed.
    #[error(transparent)]
    View(#[from] ViewError),
    /// A stored secret does not open.
    #[error("a stored key does not open")]
    Seal(#[from] SealError),
    /// There is no such thing.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// The credential is unknown, revoked, or not one that leads to this key. Which of them is not said.
    #[error("this credential does not lead to a key")]
    NoHolder,
    /// A product key that is not live.
    #[error("no valid product key was shown")]
    Unauthenticated,
    /// A readable key in customer custody takes another one.
    #[error("this product is in its customer's custody: another key that reads is made for whoever shows one (--key-file)")]
    NeedsKey,
    /// Nobody has shown a key of a product in customer custody lately.
    #[error(
        "this product is in its customer's custody, and nobody has shown this key since the vault started or in the last minutes: try again"
    )]
    Locked,
    /// Nothing could be read any more.
    #[error(
        "this is the last key that reads a product in its customer's custody: without it nothing of the product can ever be read again, by anybody (--lose-everything does it all the same)"
    )]
    LastKey,
    /// The pass does not hold the right that is needed.
    #[error(transparent)]
    Denied(#[from] base::Denied),
    /// What was asked cannot be.
    #[error("{0}")]
    Invalid(&'static str),
    /// A key could not be taken out of the journal: it is there yet.
    #[error(transparent)]
    NotDropped(#[from] DropError),
}

impl KeyringError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Append(error) => error.kind(),
            Self::View(error) => error.kind(),
            Self::Seal(error) => error.kind(),
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::NoHolder | Self::NeedsKey => ErrorKind::Forbidden,
            Self::Locked => ErrorKind::Unavailable,
            Self::LastKey => ErrorKind::Conflict,
            Self::Unauthenticated => ErrorKind::Unauthenticated,
            Self::Denied(denied) => denied.kind(),
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::NotDropped(error) => error.kind(),
        }
    }
}

/// The journal, and facts that are durable there but not yet in the view (because the view failed).
pub(crate) struct Writer {
    pub(crate) journal: Journal,
    pub(crate) unapplied: Vec<(SegmentId, Entry)>,
}

pub(crate) struct Keyring {
    pub(crate) root: RootKey,
    pub(crate) wrapping: DataKey,
    pub(crate) pepper: DataKey,
    pub(crate) view: View,
    pub(crate) unlocked: Unlocked,
    pub(crate) lookups: Lookups,
    // One command at a time, from its check against the view to its fact in the view. Each segment of this journal
    // therefore holds one fact, and "this segment is applied" never covers a fact that is not.
    pub(crate) writer: Mutex<Writer>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    /// What its journal is written with, for taking out of it what has to be forgotten.
    pub(crate) trimming: JournalParts,
}

impl Keyring {
    /// Revokes a product key for ever. Says whether it was live until now.
    pub(crate) async fn revoke(&self, id: CredentialId, lose_everything: bool) -> Result<bool, KeyringError> {
        let mut writer = self.writer().await?;
        let known = self.view.credential(id).await?.ok_or(KeyringError::NotFound("credential"))?;
        if known.revoked_at.is_some() {
            return Ok(false);
        }
        self.may_end(&known, lose_everything).await?;
        let at = entries::now(self.clock.now());
        self.commit(
            &mut writer,
            Fact::Revoked(CredentialRevoked {
                credential: id.to_bytes().to_vec(),
                at,
            }),
        )
        .await?;
        self.unlocked.forget(id);
        tracing::info!(product.id = %known.product, credential.id = %id, "revoked a key of product {}", known.product);
        Ok(true)
    }

    /// Judges a product key; says who it is, once per audience. Every refusal is the same, and takes the same work.
    pub(crate) async fn authenticate(
        &self,
        key: &str,
        audiences: &[Role],
        holder: HolderId,
        lifetime: std::time::Duration,
    ) -> Result<Vec<Assertion>, KeyringError> {
        let (key, row) = self.judge(key).await?;
        let now = self.clock.now();
        let until = now.plus(lifetime.min(MAX_PASS_LIFETIME));
        self.unlock(&key, &row, now, until).await?;
        let assertion = |audience: &Role| {
            let mut id = [0; 16];
            self.entropy.fill(&mut id);
            Assertion {
                credential: row.credential,
                product: row.product,
                audience: *audience,
                holder,
                issued_at: now,
                expires_at: until,
                id,
            }
        };
        Ok(audiences.iter().map(assertion).collect())
    }

    /// The product key with this text, if it is live. Every refusal is the same, and takes the same work.
    pub(crate) async fn judge(&self, text: &str) -> Result<(ProductKey, CredentialRow), KeyringError> {
        let (key, readable) = match ProductKey::parse(text) {
            Some(key) => (key, true),
            None => (ProductKey::nobodys(), false),
        };
        let verifier = key.verifier(&self.pepper);
        let known = self.view.credential_by_verifier(&verifier).await?;
        // The index has compared a keyed hash, whose timing tells nothing about a key; this comparison decides.
        let same = known
            .as_ref()
            .is_some_and(|row| row.verifier.ct_eq(&verifier).into() && row.product == key.product());
        let row = known
            .filter(|row| readable & same & row.revoked_at.is_none())
            .ok_or(KeyringError::Unauthenticated)?;
        Ok((key, row))
    }

    /// The product's private key, for a pass that may query and a credential that the vault itself knows as a key holder.
    pub(crate) async fn private_key(&self, op: &Op) -> Result<SecretBytes, KeyringError> {
        op.authorize(Verb::Query)?;
        // Accounts has a say in what a member may do, never in who holds a key: that list is the vault's own.
        self.live(op, |kind| kind.is_readable()).await?;
        let keys = self.view.product(op.product).await?.ok_or(KeyringError::NoHolder)?;
        if keys.custody != MANAGED {
            return self.unlocked_for(op.actor);
        }
        self.unwrap(&bound::private_key(op.product), &keys.wrapped_private)
    }

    /// The product's private key for nobody's pass: to rebuild with. Whether that may be is decided before.
    ///
    /// A product in its customer's custody has no copy of it here: its key would have to come from the customer, with the order to rebuild.
    pub(crate) async fn private_key_to_rebuild(&self, product: ProductId) -> Result<SecretBytes, KeyringError> {
        let keys = self.view.product(product).await?.ok_or(KeyringError::NotFound("product"))?;
        if keys.custody != MANAGED {
            return Err(KeyringError::Invalid("the key of this product is in its customer's custody"));
        }
        self.unwrap(&bound::private_key(product), &keys.wrapped_private)
    }

    /// The key by which the product's identities are found again, for a pass that may append or query.
    pub(crate) async fn lookup_key(&self, op: &Op) -> Result<SecretBytes, KeyringError> {
        let granted = [Verb::Append, Verb::Query].map(|verb| op.verbs().contains(verb).then_some(verb));
        if granted.iter().all(Option::is_none) {
            op.authorize(Verb::Append)?;
        }
        self.live(op, |kind| granted.into_iter().flatten().any(|verb| kind.verbs().contains(verb)))
            .await?;
        let keys = self.view.product(op.product).await?.ok_or(KeyringError::NoHolder)?;
        self.unwrap(&bound::lookup_key(op.product), &keys.wrapped_lookup)
    }

    /// A product's public key.
    pub(crate) async fn public_key(&self, product: ProductId) -> Result<Vec<u8>, KeyringError> {
        Ok(self
            .view
            .product(product)
            .await?
            .ok_or(KeyringError::NotFound("product"))?
            .public_key)
    }

    // The credential of the pass, if it is this product's, live, and of a kind that may.
    pub(crate) async fn live(&self, op: &Op, may: impl Fn(KeyKind) -> bool) -> Result<CredentialRow, KeyringError> {
        let known = self.view.credential(op.actor).await?;
        known
            .filter(|row| row.product == op.product && row.revoked_at.is_none() && may(row.kind))
            .ok_or(KeyringError::NoHolder)
    }

    /// Puts what is remembered of other roles' journals into this one, as far as it is not there: should the view be lost, a journal
    /// whose end is missing is still found out. Says whether there was anything.
    pub(crate) async fn note_heads(&self) -> Result<bool, KeyringError> {
        let mut writer = self.writer().await?;
        let heads = self.view.not_noted().await?;
        if heads.is_empty() {
            return Ok(false);
        }
        let noted = |(role, head): (String, HeadRow)| HeadNoted {
            role,
            journal: head.journal,
            length: head.length,
            hash: head.hash,
        };
        let fact = Fact::Heads(HeadsNoted {
            heads: heads.into_iter().map(noted).collect(),
            at: entries::now(self.clock.now()),
        });
        self.commit(&mut writer, fact).await?;
        Ok(true)
    }

    /// How far the journal has come, for others to remember; none while the end that was found at the start may give way to another.
    pub(crate) async fn decided(&self) -> Option<Head> {
        self.writer.lock().await.journal.decided()
    }

    pub(crate) async fn writer(&self) -> Result<tokio::sync::MutexGuard<'_, Writer>, KeyringError> {
        let mut writer = self.writer.lock().await;
        self.apply(&mut writer).await?;
        Ok(writer)
    }

    /// Makes a fact durable and then true.
    pub(crate) async fn commit(&self, writer: &mut Writer, fact: Fact) -> Result<(), KeyringError> {
        self.commit_under(writer, Bytes::new(), fact).await
    }

    /// The same, with something that can be read without a key.
    pub(crate) async fn commit_under(&self, writer: &mut Writer, header: Bytes, fact: Fact) -> Result<(), KeyringError> {
        let entry = Entry::of(fact);
        let payload = Bytes::from(entry.to_bytes());
        let segment = writer.journal.append(journal::Entry { header, payload }).await?;
        writer.unapplied.push((segment, entry));
        self.apply(writer).await
    }

    // A fact that is durable stays true even if the view failed just then: it is applied before the next command.
    async fn apply(&self, writer: &mut Writer) -> Result<(), KeyringError> {
        while let Some((segment, entry)) = writer.unapplied.first() {
            self.view
                .apply((segment.writer.to_bytes(), segment.sequence), std::slice::from_ref(entry))
                .await?;
            writer.unapplied.remove(0);
        }
        Ok(())
    }

    pub(crate) fn wrap(&self, bound_to: &[u8], secret: &[u8]) -> Vec<u8> {
        wrap(&self.wrapping, bound_to, secret, &*self.entropy)
    }

    pub(crate) fn unwrap(&self, bound_to: &[u8], wrapped: &[u8]) -> Result<SecretBytes, KeyringError> {
        Ok(unwrap(&self.wrapping, bound_to, wrapped)?)
    }
}
