//! The right to read, held for minutes: products' private keys, leased from the vault.
//!
//! Invariant: a product's key is here only while some credential with a reading verb, not revoked, has shown a pass for it in the
//! last minutes. When the last of them ends, the key goes and with it every decoded footer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::{CredentialId, ErrorKind, Op, ProductId, Role, SecretBytes, Timestamp};
use edge::{Peers, kind_of, with_pass};
use query::Lease;
use seal::PrivateKey;
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
}

impl LeaseError {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused(status) => kind_of(status),
            Self::NotAKey(_) => ErrorKind::Internal,
        }
    }
}

/// Who reads which product until when.
#[derive(Default)]
pub(crate) struct Leases(Mutex<HashMap<ProductId, Held>>);

struct Held {
    lease: Arc<Lease>,
    until: HashMap<CredentialId, Timestamp>,
}

impl Leases {
    /// The product's lease for this caller: the one that is there, or a new one from the vault.
    pub(crate) async fn get(&self, op: &Op, pass: &[u8], peers: &Peers, now: Timestamp) -> Result<Arc<Lease>, LeaseError> {
        if let Some(lease) = self.held(op.product, op.actor, now.plus(RENEW_BEFORE)) {
            return Ok(lease);
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
        let mut all = self.all();
        let held = all.entry(op.product).or_insert_with(|| Held {
            lease: Arc::new(Lease::new(key)),
            until: HashMap::new(),
        });
        held.until.insert(op.actor, until);
        Ok(Arc::clone(&held.lease))
    }

    fn held(&self, product: ProductId, actor: CredentialId, needed_until: Timestamp) -> Option<Arc<Lease>> {
        let all = self.all();
        let held = all.get(&product)?;
        held.until
            .get(&actor)
            .filter(|until| **until > needed_until)
            .map(|_| Arc::clone(&held.lease))
    }

    /// The lease of a product, should somebody have one now.
    pub(crate) fn alive(&self, product: ProductId) -> Option<Arc<Lease>> {
        self.all().get(&product).map(|held| Arc::clone(&held.lease))
    }

    /// Ends what has ended.
    pub(crate) fn sweep(&self, now: Timestamp) {
        self.all().retain(|_, held| {
            held.until.retain(|_, until| *until > now);
            !held.until.is_empty()
        });
    }

    /// Ends what a revoked credential held.
    pub(crate) fn revoke(&self, credential: CredentialId) {
        self.all().retain(|_, held| {
            held.until.remove(&credential);
            !held.until.is_empty()
        });
    }

    /// Ends all leases: nobody has said for too long that they may still be held.
    pub(crate) fn clear(&self) {
        self.all().clear();
    }

    fn all(&self) -> MutexGuard<'_, HashMap<ProductId, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
