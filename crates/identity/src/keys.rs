//! Lookup keys: leased from the vault, held for minutes, and with them all that makes this role's disk readable.
//!
//! Invariant: a product's key is here only while some credential, not revoked, has shown a pass for it in the last minutes.
//! When the last of them ends, the key goes, and with it the identities at hand.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::Hash as Key;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::{CredentialId, Entropy, ErrorKind, Op, PersonId, ProductId, Secret, SecretBytes, Timestamp};
use edge::kind_of;
use seal::{DataKey, Purpose, SealError, derive, keyed_hash};
use tonic::Status;

use crate::facts::SealedRing;
use crate::ring::Ring;
use crate::vault::Vault;

/// An identity's keyed hash under the lookup key: how it is found in memory. It is never stored.
pub(crate) type Hash = [u8; 32];

const KEY_LEN: usize = 32;

/// A product's keys, while they are leased.
pub(crate) struct ProductKeys {
    product: ProductId,
    lookup: DataKey,
    values: DataKey,
    aside: DataKey,
    /// Keys of the keyring, by their epochs.
    people: Mutex<BTreeMap<u64, DataKey>>,
    ring: Mutex<Option<Arc<Ring>>>,
    /// Keys of people whose values were sealed lately.
    hot_keys: Mutex<Hot<PersonId, DataKey>>,
}

impl ProductKeys {
    pub(crate) fn new(product: ProductId, lookup: DataKey, people: BTreeMap<u64, DataKey>, hot_people: usize) -> Self {
        let values = derive(lookup.reveal(), Purpose::IdentityValues, product.to_string().as_bytes());
        let aside = derive(lookup.reveal(), Purpose::AsideKeys, product.to_string().as_bytes());
        Self {
            product,
            lookup,
            values,
            aside,
            people: Mutex::new(people),
            ring: Mutex::default(),
            hot_keys: Mutex::new(Hot::new(hot_people)),
        }
    }

    /// How the identity is found again.
    pub(crate) fn hash(&self, identity: &Secret) -> Hash {
        keyed_hash(&self.lookup, identity.reveal().as_bytes())
    }

    /// What the first form keeps of an identity beside the hash: their person's key, and the identity itself.
    pub(crate) fn open_first(&self, hash: &Hash, kept: &[u8]) -> Result<(DataKey, Secret), SealError> {
        const MALFORMED: SealError = SealError::Malformed { what: "person" };
        let opened = seal::unwrap(&self.values, &self.context(hash), kept)?;
        let (key, identity) = opened.reveal().split_at_checked(KEY_LEN).ok_or(MALFORMED)?;
        let identity = std::str::from_utf8(identity).map_err(|_| MALFORMED)?;
        Ok((DataKey::try_from(key)?, Secret::new(identity.to_owned())))
    }

    /// The same as it was once written.
    #[cfg(test)]
    pub(crate) fn seal_first(&self, hash: &Hash, key: &DataKey, identity: &Secret, entropy: &dyn Entropy) -> Vec<u8> {
        let kept = SecretBytes::new([key.reveal(), identity.reveal().as_bytes()].concat());
        seal::wrap(&self.values, &self.context(hash), kept.reveal(), entropy)
    }

    /// The keyring that was sealed, if the key of its epoch is here.
    pub(crate) fn ring(&self, sealed: &SealedRing) -> Result<Arc<Ring>, RingError> {
        let mut ring = lock(&self.ring);
        if let Some(ring) = ring.as_ref().filter(|ring| ring.epoch() == sealed.epoch) {
            return Ok(Arc::clone(ring));
        }
        let key = self.people_key(sealed.epoch).ok_or(RingError::NoKey { epoch: sealed.epoch })?;
        let opened = Arc::new(Ring::open(self.product, sealed, &key)?);
        *ring = Some(Arc::clone(&opened));
        Ok(opened)
    }

    /// The key of an epoch's keyring, if it is here.
    pub(crate) fn people_key(&self, epoch: u64) -> Option<DataKey> {
        lock(&self.people).get(&epoch).cloned()
    }

    /// The newest epoch of which there is a key.
    pub(crate) fn newest_epoch(&self) -> Option<u64> {
        lock(&self.people).keys().next_back().copied()
    }

    /// Another key of the keyring.
    pub(crate) fn add_people_key(&self, epoch: u64, key: DataKey) {
        lock(&self.people).insert(epoch, key);
    }

    /// Takes away the keys of earlier epochs, which nothing here needs any more.
    pub(crate) fn take_before(&self, epoch: u64) -> BTreeMap<u64, DataKey> {
        let mut people = lock(&self.people);
        let kept = people.split_off(&epoch);
        std::mem::replace(&mut people, kept)
    }

    /// How an identity is named in the receipt of an erasure.
    pub(crate) fn receipt_hash(&self, identity: &Secret) -> [u8; 32] {
        keyed_hash(&self.derived(Purpose::Receipts), identity.reveal().as_bytes())
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

    /// The keys at hand of these people, in order, as of a keyring's epoch.
    pub(crate) fn keys_at_hand(&self, epoch: u64, people: &[PersonId]) -> Vec<Option<DataKey>> {
        let mut hot = lock(&self.hot_keys);
        people.iter().map(|id| hot.get(epoch, id)).collect()
    }

    /// Keeps these keys at hand.
    pub(crate) fn keep_keys(&self, epoch: u64, people: impl IntoIterator<Item = (PersonId, DataKey)>) {
        let mut hot = lock(&self.hot_keys);
        people.into_iter().for_each(|(id, key)| hot.put(epoch, id, key));
    }
}

/// Why a keyring was not opened.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum RingError {
    #[error("the vault has no key of epoch {epoch} for the product's people: it was dropped, or what is here is of another time")]
    NoKey { epoch: u64 },
    #[error("the keyring of the product's people does not open: {0}")]
    Seal(#[from] SealError),
}

impl RingError {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            // It may have been renewed just now; who asks again gets the new one, or hears the same.
            Self::NoKey { .. } => ErrorKind::Unavailable,
            Self::Seal(error) => error.kind(),
        }
    }
}

impl fmt::Debug for ProductKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProductKeys({}, ***)", self.product)
    }
}

/// What was known of people lately, as of one keyring's epoch: with the next, which comes when somebody was erased, all of it is
/// forgotten. Two generations: when the younger is full it becomes the older, and what the older held is forgotten.
struct Hot<K, V> {
    epoch: u64,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    most: usize,
}

impl<K: Key + Eq + Copy, V: Clone> Hot<K, V> {
    fn new(most: usize) -> Self {
        Self {
            epoch: 0,
            young: HashMap::new(),
            old: HashMap::new(),
            most: most / 2,
        }
    }

    /// Whether the caller's epoch is the one that this holds something of.
    fn is_of(&mut self, epoch: u64) -> bool {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.young.clear();
            self.old.clear();
        }
        epoch == self.epoch
    }

    fn get(&mut self, epoch: u64, key: &K) -> Option<V> {
        if !self.is_of(epoch) {
            return None;
        }
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let value = self.old.remove(key)?;
        self.put(epoch, *key, value.clone());
        Some(value)
    }

    fn put(&mut self, epoch: u64, key: K, value: V) {
        if self.most == 0 || !self.is_of(epoch) {
            return;
        }
        if self.young.len() >= self.most {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
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
        let people_key = |told: wire::v1::PeopleKey| {
            let key = SecretBytes::new(told.key);
            Ok((told.epoch, DataKey::try_from(key.reveal()).map_err(LeaseError::NotAKey)?))
        };
        let people = lease
            .people_keys
            .into_iter()
            .map(people_key)
            .collect::<Result<BTreeMap<_, _>, LeaseError>>()?;
        let mut all = lock(&self.0);
        let new = || Held {
            keys: Arc::new(ProductKeys::new(op.product, key, people, hot_identities)),
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

    /// Ends what is held of a product: it is not what the vault has now.
    pub(crate) fn forget(&self, product: ProductId) {
        lock(&self.0).products.remove(&product);
    }

    /// Whether a product's keys are here.
    pub(crate) fn holds(&self, product: ProductId) -> bool {
        lock(&self.0).products.contains_key(&product)
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
        hot.put(1, often, PersonId::random(&entropy));
        for i in 0..100u8 {
            hot.put(1, [i; 32], PersonId::random(&entropy));
            assert!(hot.get(1, &often).is_some(), "after {i}");
            assert!(hot.young.len() + hot.old.len() <= 8);
        }
        assert!(hot.get(1, &[0; 32]).is_none());
    }

    #[test]
    fn with_the_next_epoch_nothing_is_at_hand_and_who_is_late_puts_nothing_back() {
        let mut hot = Hot::new(8);
        hot.put(1, [1; 32], 'a');
        assert_eq!((hot.get(1, &[1; 32]), hot.get(2, &[1; 32])), (Some('a'), None));
        hot.put(1, [1; 32], 'a');
        assert_eq!((hot.get(1, &[1; 32]), hot.get(2, &[1; 32])), (None, None));
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
                people_keys: Vec::new(),
            })
        }

        async fn next_people_key(&self, _: &[u8], _: base::RequestId) -> Result<wire::v1::PeopleKey, Status> {
            Err(Status::unavailable(""))
        }

        async fn drop_people_keys(&self, _: ProductId, _: u64) -> Result<(), Status> {
            Err(Status::unavailable(""))
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
    fn an_identity_of_the_first_form_opens_in_its_own_place_only() {
        let entropy = SeededEntropy::new(2);
        let keys = |product| {
            let lookup = DataKey::try_from(&[7; 32][..]).unwrap();
            ProductKeys::new(ProductId::new(product).unwrap(), lookup, BTreeMap::new(), 0)
        };
        let ada = Secret::new("ada@example.com".into());
        let hash = keys(1).hash(&ada);
        let key = DataKey::generate(&entropy);
        let sealed = keys(1).seal_first(&hash, &key, &ada, &entropy);

        let (opened, identity) = keys(1).open_first(&hash, &sealed).unwrap();
        assert_eq!((opened.reveal(), identity.reveal()), (key.reveal(), "ada@example.com"));
        assert!(keys(1).open_first(&[0; 32], &sealed).is_err() && keys(2).open_first(&hash, &sealed).is_err());
        assert!(!format!("{:?}", keys(1)).contains('7'));
    }
}
