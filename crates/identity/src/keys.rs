//! Lookup keys: leased from the vault, held for minutes, and with them all that makes this role's disk readable.
//!
//! Invariant: a product's key is here only while some credential, not revoked, has shown a pass for it in the last minutes.
//! When the last of them ends, the key goes, and with it the identities at hand.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::{CredentialId, Entropy, ErrorKind, Op, PersonId, ProductId, Secret, SecretBytes, Timestamp};
use edge::kind_of;
use seal::{DataKey, Purpose, SealError, derive, keyed_hash};
use tonic::Status;

use crate::vault::Vault;

/// An identity's keyed hash: how it is found again.
pub(crate) type Hash = [u8; 32];

const KEY_LEN: usize = 32;

/// A product's keys, while they are leased.
pub(crate) struct ProductKeys {
    product: ProductId,
    lookup: DataKey,
    values: DataKey,
    aside: DataKey,
    hot: Mutex<Hot<PersonId>>,
    /// Keys of people whose values were sealed lately.
    hot_keys: Mutex<Hot<DataKey>>,
}

impl ProductKeys {
    fn new(product: ProductId, lookup: DataKey, hot_identities: usize) -> Self {
        let values = derive(lookup.reveal(), Purpose::IdentityValues, product.to_string().as_bytes());
        let aside = derive(lookup.reveal(), Purpose::AsideKeys, product.to_string().as_bytes());
        Self {
            product,
            lookup,
            values,
            aside,
            hot: Mutex::new(Hot::new(hot_identities)),
            hot_keys: Mutex::new(Hot::new(hot_identities)),
        }
    }

    /// How the identity is found again.
    pub(crate) fn hash(&self, identity: &Secret) -> Hash {
        keyed_hash(&self.lookup, identity.reveal().as_bytes())
    }

    /// What is kept of an identity beside the hash: the key for what is sealed for its person, and the identity itself.
    pub(crate) fn seal(&self, hash: &Hash, key: &DataKey, identity: &Secret, entropy: &dyn Entropy) -> Vec<u8> {
        let kept = SecretBytes::new([key.reveal(), identity.reveal().as_bytes()].concat());
        seal::wrap(&self.values, &self.context(hash), kept.reveal(), entropy)
    }

    /// A person's key, out of what is kept of them.
    pub(crate) fn sealing_key(&self, hash: &Hash, kept: &[u8]) -> Result<DataKey, SealError> {
        let opened = seal::unwrap(&self.values, &self.context(hash), kept)?;
        let key = opened.reveal().get(..KEY_LEN).unwrap_or_default();
        DataKey::try_from(key)
    }

    /// A person's identity, likewise.
    #[cfg(test)]
    pub(crate) fn open(&self, hash: &Hash, kept: &[u8]) -> Result<SecretBytes, SealError> {
        let opened = seal::unwrap(&self.values, &self.context(hash), kept)?;
        Ok(SecretBytes::new(opened.reveal()[KEY_LEN..].to_vec()))
    }

    /// A fresh key for what could not be rows of one body, and the same wrapped, to be kept beside it by others.
    pub(crate) fn aside_key(&self, entropy: &dyn Entropy) -> (DataKey, Vec<u8>) {
        let key = DataKey::generate(entropy);
        let wrapped = seal::wrap(&self.aside, &self.aside_context(), key.reveal(), entropy);
        (key, wrapped)
    }

    /// The key that was wrapped, if it was here and for this product.
    pub(crate) fn open_aside(&self, wrapped: &[u8]) -> Result<SecretBytes, SealError> {
        seal::unwrap(&self.aside, &self.aside_context(), wrapped)
    }

    fn aside_context(&self) -> Vec<u8> {
        format!("aside-key/{}", self.product).into_bytes()
    }

    /// What is kept of a person opens in its own row of its own product only.
    fn context(&self, hash: &Hash) -> Vec<u8> {
        [format!("person/{}/", self.product).as_bytes(), hash].concat()
    }

    /// Whose keys these are.
    pub(crate) fn product(&self) -> ProductId {
        self.product
    }

    /// Another key of the product.
    pub(crate) fn derived(&self, purpose: Purpose) -> DataKey {
        derive(self.lookup.reveal(), purpose, self.product.to_string().as_bytes())
    }

    /// The keys at hand of these people, in order.
    pub(crate) fn keys_at_hand(&self, hashes: &[Hash]) -> Vec<Option<DataKey>> {
        let mut hot = lock(&self.hot_keys);
        hashes.iter().map(|hash| hot.get(hash)).collect()
    }

    /// Keeps these keys at hand.
    pub(crate) fn keep_keys(&self, people: impl IntoIterator<Item = (Hash, DataKey)>) {
        let mut hot = lock(&self.hot_keys);
        people.into_iter().for_each(|(hash, key)| hot.put(hash, key));
    }

    /// The ids at hand of these, in order.
    pub(crate) fn at_hand(&self, hashes: &[Hash]) -> Vec<Option<PersonId>> {
        let mut hot = lock(&self.hot);
        hashes.iter().map(|hash| hot.get(hash)).collect()
    }

    /// Keeps these at hand.
    pub(crate) fn keep(&self, people: impl IntoIterator<Item = (Hash, PersonId)>) {
        let mut hot = lock(&self.hot);
        people.into_iter().for_each(|(hash, id)| hot.put(hash, id));
    }
}

impl fmt::Debug for ProductKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProductKeys({}, ***)", self.product)
    }
}

/// What was known of people lately. Two generations: when the younger is full it becomes the older, and what the older held is
/// forgotten.
struct Hot<V> {
    young: HashMap<Hash, V>,
    old: HashMap<Hash, V>,
    most: usize,
}

impl<V: Clone> Hot<V> {
    fn new(most: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            most: most / 2,
        }
    }

    fn get(&mut self, hash: &Hash) -> Option<V> {
        if let Some(value) = self.young.get(hash) {
            return Some(value.clone());
        }
        let value = self.old.remove(hash)?;
        self.put(*hash, value.clone());
        Some(value)
    }

    fn put(&mut self, hash: Hash, value: V) {
        if self.most == 0 {
            return;
        }
        if self.young.len() >= self.most {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash, value);
    }
}

/// Why a product's lookup key could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeaseError {
    #[error("the vault gave no lookup key: {}", .0.message())]
    Refused(Box<Status>),
    #[error("the vault's answer is not a key")]
    NotAKey(#[source] SealError),
}

impl LeaseError {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused(status) => kind_of(status),
            Self::NotAKey(_) => ErrorKind::Internal,
        }
    }
}

/// Who may look up which product's people until when.
#[derive(Debug, Default)]
pub(crate) struct Leases(Mutex<All>);

#[derive(Debug, Default)]
struct All {
    products: HashMap<ProductId, Held>,
    /// How often something was ended from outside.
    ends: u64,
}

#[derive(Debug)]
struct Held {
    keys: Arc<ProductKeys>,
    terms: HashMap<CredentialId, Term>,
}

#[derive(Debug, Clone, Copy)]
struct Term {
    from: Timestamp,
    until: Timestamp,
}

impl Term {
    // A clock that was turned back must not make a lease longer.
    fn holds(&self, now: Timestamp) -> bool {
        self.from <= now && now < self.until
    }
}

impl Leases {
    /// The product's keys for this caller: those that are here, or leased now with the pass that was shown.
    pub(crate) async fn get(
        &self,
        op: &Op,
        pass: &[u8],
        vault: &dyn Vault,
        hot_identities: usize,
        now: Timestamp,
    ) -> Result<Arc<ProductKeys>, LeaseError> {
        if let Some(keys) = self.held(op, now) {
            return Ok(keys);
        }
        let ends = lock(&self.0).ends;
        let lease = vault
            .lookup_key(pass, op.request)
            .await
            .map_err(|status| LeaseError::Refused(Box::new(status)))?;
        let until = now.plus(Duration::from_secs(u64::from(lease.seconds)));
        let key = SecretBytes::new(lease.lookup_key);
        let key = DataKey::try_from(key.reveal()).map_err(LeaseError::NotAKey)?;
        let mut all = lock(&self.0);
        let new = || Held {
            keys: Arc::new(ProductKeys::new(op.product, key, hot_identities)),
            terms: HashMap::new(),
        };
        if all.ends != ends {
            // A revocation was heard while the vault was answering. It may be this caller's: the key is for this call alone.
            return Ok(new().keys);
        }
        let held = all.products.entry(op.product).or_insert_with(new);
        held.terms.insert(op.actor, Term { from: now, until });
        Ok(Arc::clone(&held.keys))
    }

    fn held(&self, op: &Op, now: Timestamp) -> Option<Arc<ProductKeys>> {
        let all = lock(&self.0);
        let held = all.products.get(&op.product)?;
        held.terms
            .get(&op.actor)
            .filter(|term| term.holds(now))
            .map(|_| Arc::clone(&held.keys))
    }

    /// Ends what has ended.
    pub(crate) fn sweep(&self, now: Timestamp) {
        self.end(|_, term| !term.holds(now));
    }

    /// Ends what a revoked credential held.
    pub(crate) fn revoke(&self, credential: CredentialId) {
        lock(&self.0).ends += 1;
        self.end(|holder, _| *holder == credential);
    }

    /// Ends all: some revocations were missed, and whoever still may will get another.
    pub(crate) fn clear(&self) {
        lock(&self.0).ends += 1;
        self.end(|_, _| true);
    }

    /// How many products' keys are here.
    pub(crate) fn len(&self) -> usize {
        lock(&self.0).products.len()
    }

    fn end(&self, ended: impl Fn(&CredentialId, &Term) -> bool) {
        lock(&self.0).products.retain(|_, held| {
            held.terms.retain(|holder, term| !ended(holder, term));
            !held.terms.is_empty()
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use base::SeededEntropy;

    use super::*;

    #[test]
    fn few_identities_stay_at_hand_and_those_in_use_stay_longer() {
        let entropy = SeededEntropy::new(1);
        let mut hot = Hot::new(8);
        let often: Hash = [255; 32];
        hot.put(often, PersonId::random(&entropy));
        for i in 0..100u8 {
            hot.put([i; 32], PersonId::random(&entropy));
            assert!(hot.get(&often).is_some(), "after {i}");
            assert!(hot.young.len() + hot.old.len() <= 8);
        }
        assert!(hot.get(&[0; 32]).is_none());
    }

    /// A vault that answers when it is told to.
    #[derive(Debug, Default)]
    struct Slow {
        asked: tokio::sync::Notify,
        answer: tokio::sync::Notify,
    }

    #[async_trait::async_trait]
    impl Vault for Slow {
        async fn lookup_key(&self, _: &[u8], _: base::RequestId) -> Result<wire::v1::LookupKeyLease, Status> {
            self.asked.notify_one();
            self.answer.notified().await;
            Ok(wire::v1::LookupKeyLease {
                lookup_key: vec![7; 32],
                seconds: 300,
            })
        }

        async fn state_key(&self) -> Result<Vec<u8>, Status> {
            Err(Status::unavailable(""))
        }

        async fn recall(&self) -> Result<Vec<wire::v1::Head>, Status> {
            Err(Status::unavailable(""))
        }

        async fn remember(&self, _: Vec<wire::v1::Head>) -> Result<(), Status> {
            Err(Status::unavailable(""))
        }
    }

    #[tokio::test]
    async fn a_key_that_arrives_after_its_revocation_is_not_kept() {
        let (leases, vault) = (Leases::default(), Slow::default());
        let actor = CredentialId::from_bytes([1; 16]);
        let product = ProductId::new(1).unwrap();
        let request = base::RequestId::from_bytes([1; 16]);
        let verbs = base::Verbs::of(&[base::Verb::Append]);
        let op = Op::from_verified(actor, product, verbs, base::Scope::Product, request, Timestamp::from_secs(1));
        let asking = leases.get(&op, &[1], &vault, 0, Timestamp::from_secs(1));
        let meanwhile = async {
            vault.asked.notified().await;
            leases.revoke(op.actor);
            vault.answer.notify_one();
        };
        let (got, ()) = tokio::join!(asking, meanwhile);
        assert!(got.is_ok());
        assert_eq!(leases.len(), 0);
    }

    #[test]
    fn a_sealed_identity_opens_in_its_own_place_only() {
        let entropy = SeededEntropy::new(2);
        let keys = |product| ProductKeys::new(ProductId::new(product).unwrap(), DataKey::try_from(&[7; 32][..]).unwrap(), 0);
        let ada = Secret::new("ada@example.com".into());
        let hash = keys(1).hash(&ada);
        let key = DataKey::generate(&entropy);
        let sealed = keys(1).seal(&hash, &key, &ada, &entropy);

        assert_eq!(keys(1).open(&hash, &sealed).unwrap().reveal(), b"ada@example.com");
        let sealing = keys(1).sealing_key(&hash, &sealed).unwrap();
        assert_eq!(sealing.reveal(), key.reveal());
        assert!(keys(1).open(&[0; 32], &sealed).is_err() && keys(1).sealing_key(&[0; 32], &sealed).is_err());
        assert!(keys(2).open(&hash, &sealed).is_err() && keys(2).sealing_key(&hash, &sealed).is_err());
        assert!(!format!("{:?}", keys(1)).contains('7'));
    }
}
