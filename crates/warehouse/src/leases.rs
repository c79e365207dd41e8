//! The right to read, held for minutes: products' private keys, leased from the vault.
//!
//! Invariant: a product's key is here only while some credential with a reading verb, not revoked, has shown a pass for it in the
//! last minutes. When the last of them ends, the key goes and with it every decoded footer.
//!
//! Promise: whatever reads holds a [`Reading`], and every reading of a credential ends at the moment its revocation is heard,
//! however long ago it was obtained and whatever it was about to be used for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use base::{CredentialId, ErrorKind, Op, ProductId, Role, SecretBytes, Timestamp};
use edge::revocations::{Ended, Watch};
use edge::{Peers, kind_of, with_pass};
use query::{FooterRoom, Lease};
use seal::PrivateKey;
use tokio_util::sync::CancellationToken;
use wire::v1::LeaseRequest;
use wire::v1::vault_client::VaultClient;

/// A lease is asked for again when it has less than this left, so that it does not end under a query.
const RENEW_BEFORE: Duration = Duration::from_secs(30);

/// Why a product's key could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeaseError {
    #[error("the vault gave no lease")]
    Refused(#[source] Box<tonic::Status>),
    #[error("the vault's answer is not a key")]
    NotAKey(#[source] seal::SealError),
    #[error("the right to read has ended")]
    Ended(#[from] Ended),
}

impl LeaseError {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused(status) => kind_of(status),
            Self::NotAKey(_) => ErrorKind::Internal,
            Self::Ended(ended) => ended.kind(),
        }
    }
}

/// One credential's right to read one product: the lease, and word of its end.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    lease: Arc<Lease>,
    right: Arc<Right>,
}

/// What ends when a credential's right to read does.
#[derive(Debug, Default)]
struct Right {
    over: CancellationToken,
    why: OnceLock<Ended>,
}

impl Right {
    fn end(&self, why: Ended) {
        // Only the first reason counts.
        let _ = self.why.set(why);
        self.over.cancel();
    }

    fn why(&self) -> Ended {
        self.why.get().copied().unwrap_or(Ended::Unheard)
    }
}

impl Reading {
    /// The lease itself.
    pub(crate) fn lease(&self) -> &Arc<Lease> {
        &self.lease
    }

    /// The product's private key.
    pub(crate) fn key(&self) -> &PrivateKey {
        self.lease.private_key()
    }

    /// A token that is cancelled when this ends; cancelling it cancels nothing else.
    pub(crate) fn token(&self) -> CancellationToken {
        self.right.over.child_token()
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.right.over.is_cancelled()
    }

    /// Returns when it has ended.
    pub(crate) async fn ended(&self) -> Ended {
        self.right.over.cancelled().await;
        self.right.why()
    }

    /// What comes of `work`, unless this ends before: then `work` is dropped.
    pub(crate) async fn while_it_lasts<T>(&self, work: impl Future<Output = T>) -> Result<T, Ended> {
        tokio::select! {
            biased;
            ended = self.ended() => Err(ended),
            done = work => Ok(done),
        }
    }
}

/// Who reads which product until when.
pub(crate) struct Leases {
    /// What was revoked. Without it nobody reads.
    watch: Option<Arc<Watch>>,
    /// For the footers of all leases.
    footers: Arc<FooterRoom>,
    all: Mutex<All>,
}

#[derive(Default)]
struct All {
    held: HashMap<ProductId, Held>,
    /// Rights that something still reads under, also those whose lease has been let go since.
    rights: HashMap<CredentialId, Weak<Right>>,
}

/// How long something is lent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Term {
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
}

impl Term {
    // A clock that was turned back must not make a lease longer.
    fn holds(&self, now: Timestamp) -> bool {
        self.from <= now && now < self.until
    }
}

struct Held {
    lease: Arc<Lease>,
    readers: HashMap<CredentialId, (Term, Arc<Right>)>,
    /// Cancelled when the last reader was revoked.
    nobody: CancellationToken,
}

impl Leases {
    pub(crate) fn new(watch: Option<Arc<Watch>>, footers: Arc<FooterRoom>) -> Self {
        Self {
            watch,
            footers,
            all: Mutex::default(),
        }
    }

    /// The product's lease for this caller: the one that is there, or a new one from the vault.
    pub(crate) async fn get(&self, op: &Op, pass: &[u8], peers: &Peers, now: Timestamp) -> Result<Reading, LeaseError> {
        if let Some(reading) = self.held(op.product, op.actor, now) {
            return self.still(op.actor, reading);
        }
        let mut vault = VaultClient::new(peers.channel(Role::Vault));
        let call = with_pass(LeaseRequest {}, pass, op.request);
        let answer = vault
            .lease_product_key(call)
            .await
            .map_err(|status| LeaseError::Refused(Box::new(status)))?
            .into_inner();
        let until = now.plus(Duration::from_secs(u64::from(answer.seconds)));
        let key = SecretBytes::new(answer.private_key);
        let key = PrivateKey::try_from(key.reveal()).map_err(LeaseError::NotAKey)?;
        self.hold(op.product, op.actor, key, Term { from: now, until })
    }

    /// Enters what the vault answered.
    pub(crate) fn hold(&self, product: ProductId, actor: CredentialId, key: PrivateKey, term: Term) -> Result<Reading, LeaseError> {
        let reading = {
            let mut all = self.all();
            let right = all.rights.get(&actor).and_then(Weak::upgrade).unwrap_or_default();
            all.rights.insert(actor, Arc::downgrade(&right));
            let held = all.held.entry(product).or_insert_with(|| Held {
                lease: Arc::new(Lease::sharing(key, &self.footers)),
                readers: HashMap::new(),
                nobody: CancellationToken::new(),
            });
            held.readers.insert(actor, (term, Arc::clone(&right)));
            Reading {
                lease: Arc::clone(&held.lease),
                right,
            }
        };
        self.still(actor, reading)
    }

    /// Invariant: called when the reading is entered. A revocation heard before that is seen here, one heard after it ends what
    /// is entered: there is nothing between.
    fn still(&self, actor: CredentialId, reading: Reading) -> Result<Reading, LeaseError> {
        let ended = match &self.watch {
            Some(watch) if watch.is_revoked(&actor) => Some(Ended::Revoked),
            Some(watch) if watch.may_read() => None,
            _ => Some(Ended::Unheard),
        };
        match ended {
            None => Ok(reading),
            Some(ended) => {
                self.end(actor, ended);
                Err(ended.into())
            }
        }
    }

    fn held(&self, product: ProductId, actor: CredentialId, now: Timestamp) -> Option<Reading> {
        let all = self.all();
        let held = all.held.get(&product)?;
        let lasts = |term: &Term| term.from <= now && term.holds(now.plus(RENEW_BEFORE));
        let (_, right) = held.readers.get(&actor).filter(|(term, _)| lasts(term))?;
        Some(Reading {
            lease: Arc::clone(&held.lease),
            right: Arc::clone(right),
        })
    }

    /// The lease of a product, should somebody have one now, and a token that is cancelled when nobody may read any more.
    pub(crate) fn alive(&self, product: ProductId) -> Option<(Arc<Lease>, CancellationToken)> {
        let all = self.all();
        let held = all.held.get(&product)?;
        Some((Arc::clone(&held.lease), held.nobody.clone()))
    }

    /// Lets go what has run out. What reads under it goes on to its own end, and is still ended by a revocation.
    pub(crate) fn sweep(&self, now: Timestamp) {
        let mut all = self.all();
        all.held.retain(|_, held| {
            held.readers.retain(|_, (term, _)| term.holds(now));
            !held.readers.is_empty()
        });
        all.rights.retain(|_, right| right.strong_count() > 0);
    }

    /// Ends what a revoked credential holds and reads.
    pub(crate) fn revoke(&self, credential: CredentialId) {
        self.end(credential, Ended::Revoked);
    }

    /// Ends everything: nobody has said for too long that anybody may still read.
    pub(crate) fn clear(&self) {
        let mut all = self.all();
        for right in std::mem::take(&mut all.rights).values().filter_map(Weak::upgrade) {
            right.end(Ended::Unheard);
        }
        for (_, held) in all.held.drain() {
            held.nobody.cancel();
        }
    }

    fn end(&self, credential: CredentialId, why: Ended) {
        let mut all = self.all();
        if let Some(right) = all.rights.remove(&credential).and_then(|right| right.upgrade()) {
            right.end(why);
        }
        all.held.retain(|_, held| {
            held.readers.remove(&credential);
            if held.readers.is_empty() {
                held.nobody.cancel();
            }
            !held.readers.is_empty()
        });
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
