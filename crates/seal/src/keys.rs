//! Keys and what is derived from them. Every HKDF `info` text of the system is in [`Purpose`].

use std::fmt;

use aws_lc_rs::{agreement, hkdf};
use base::{Entropy, SecretBytes};
use hpke::{Deserializable, Kem, Serializable, kem::X25519HkdfSha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::SealError;

type Scalar = <X25519HkdfSha256 as Kem>::PrivateKey;

/// An X25519 public key: what is sealed to it opens with its [`PrivateKey`] only.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl TryFrom<&[u8]> for PublicKey {
    type Error = SealError;

    /// Refuses what is not 32 bytes, and points of small order, to which nothing can be sealed.
    fn try_from(bytes: &[u8]) -> Result<Self, SealError> {
        let malformed = SealError::Malformed { what: "public key" };
        let key: [u8; 32] = bytes.try_into().map_err(|_| malformed)?;
        // Any private key will do: a clamped scalar sends exactly the points of small order to zero, which is an error.
        let any = agreement::PrivateKey::from_private_key(&agreement::X25519, &[0x40; 32]).map_err(|_| malformed)?;
        let point = agreement::UnparsedPublicKey::new(&agreement::X25519, &key);
        agreement::agree(&any, point, malformed, |_| Ok(Self(key)))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", hex::encode(self.0))
    }
}

/// The private half of a [`PublicKey`]. Wiped when dropped, printed as `***`.
#[derive(Clone)]
pub struct PrivateKey(Scalar);

impl PrivateKey {
    /// A fresh one.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        entropy.fill(seed.as_mut());
        Self::from_seed(&seed)
    }

    /// The one that belongs to a derived key: the same key gives the same pair.
    pub fn from_derived(key: &DataKey) -> Self {
        Self::from_seed(key.reveal())
    }

    fn from_seed(seed: &[u8; 32]) -> Self {
        // Every 32 bytes are an X25519 private key once clamped, which reading them does.
        Self(Scalar::from_bytes(seed).expect("32 bytes are a private key"))
    }

    /// The half that may be known.
    pub fn public(&self) -> PublicKey {
        PublicKey(X25519HkdfSha256::sk_to_pk(&self.0).to_bytes().into())
    }

    /// The 32 bytes, to be wrapped or leased.
    pub fn to_secret_bytes(&self) -> SecretBytes {
        let mut bytes = vec![0; 32];
        self.0.write_exact(&mut bytes);
        SecretBytes::new(bytes)
    }

    pub(crate) fn scalar(&self) -> &Scalar {
        &self.0
    }
}

impl TryFrom<&[u8]> for PrivateKey {
    type Error = SealError;
    fn try_from(bytes: &[u8]) -> Result<Self, SealError> {
        Scalar::from_bytes(bytes)
            .map(Self)
            .map_err(|_| SealError::Malformed { what: "private key" })
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(***)")
    }
}

/// A symmetric key of 256 bits. Wiped when dropped, printed as `***`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct DataKey([u8; 32]);

impl DataKey {
    /// A fresh one.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut key = Self([0; 32]);
        entropy.fill(&mut key.0);
        key
    }

    /// The bytes themselves. Every call is a place to look at twice.
    pub fn reveal(&self) -> &[u8; 32] {
        &self.0
    }
}

impl TryFrom<&[u8]> for DataKey {
    type Error = SealError;
    fn try_from(bytes: &[u8]) -> Result<Self, SealError> {
        bytes.try_into().map(Self).map_err(|_| SealError::Malformed { what: "key" })
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(***)")
    }
}

/// What a derived key is for. Two purposes never yield the same key, whatever the secret and the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Wraps small secrets under the root key.
    RootWrapping,
    /// The key pair to which the vault seals its own journal.
    VaultState,
    /// The key under which credentials are hashed to verifiers.
    Pepper,
    /// The Ed25519 key that certifies the roles' signing keys.
    InstallationSigner,
    /// Wraps a product's private key under the secret of one of its product keys.
    CredentialWrapping,
    /// The key pair to which another role seals its journal; the context is the role.
    RoleState,
    /// Wraps values that a role keeps in its database, under its state key.
    RoleValues,
    /// Finds an identity again without knowing it: the keyed hash in the identity role's database.
    IdentityLookup,
    /// Seals what an identity is, in the identity role's journal and database, under the product's lookup key.
    IdentityValues,
    /// Seals personal values, under their owner's key or that of a batch; the context is the product, the owner and the column.
    PersonalValues,
    /// Wraps the keys of personal values that nobody owns, under the product's lookup key.
    PersonalBatches,
    /// Hashes the senders' batch ids and record ids, which stand in clear headers.
    BatchIds,
    /// Hashes rows, to add the hashes up: whether two tables hold the same. The context is the product.
    RowSums,
    /// Marks what a role deleted in its zones.
    Graves,
    /// Seals the results of a job.
    JobResult,
    /// Wraps the keys of what could not be rows and was set aside, under the product's lookup key.
    AsideKeys,
    /// Wraps the secrets of the vault under the key that is split among people; the context is the split.
    RootSealing,
    /// By which a key that was put together from shares is known to be the right one; the context is the split.
    RootCheck,
    /// Marks the vault's sealed secrets as its own where they lie in its zones.
    RootMark,
    /// Hashes what the audit journal must not say: requests, and names that are nobody else's business.
    AuditHashes,
    /// Seals what is kept of people, under the key of their group.
    PeopleSealed,
    /// Hashes an identity for the receipt of its erasure, under the product's lookup key.
    Receipts,
}

impl Purpose {
    const fn info(self) -> &'static [u8] {
        match self {
            Self::RootWrapping => b"coffer/v1/root-wrapping",
            Self::VaultState => b"coffer/v1/vault-state",
            Self::Pepper => b"coffer/v1/pepper",
            Self::InstallationSigner => b"coffer/v1/installation-signer",
            Self::CredentialWrapping => b"coffer/v1/credential-wrapping",
            Self::RoleState => b"coffer/v1/role-state",
            Self::RoleValues => b"coffer/v1/role-values",
            Self::IdentityLookup => b"coffer/v1/identity-lookup",
            Self::IdentityValues => b"coffer/v1/identity-values",
            Self::PersonalValues => b"coffer/v1/personal-values",
            Self::PersonalBatches => b"coffer/v1/personal-batches",
            Self::BatchIds => b"coffer/v1/batch-ids",
            Self::RowSums => b"coffer/v1/row-sums",
            Self::Graves => b"coffer/v1/graves",
            Self::JobResult => b"coffer/v1/job-result",
            Self::AsideKeys => b"coffer/v1/aside-keys",
            Self::RootSealing => b"coffer/v1/root-sealing",
            Self::RootCheck => b"coffer/v1/root-check",
            Self::RootMark => b"coffer/v1/root-mark",
            Self::AuditHashes => b"coffer/v1/audit-hashes",
            Self::PeopleSealed => b"coffer/v1/people-sealed",
            Self::Receipts => b"coffer/v1/receipts",
        }
    }
}

/// HKDF-SHA256 of a secret of high entropy. Not for passwords.
pub fn derive(secret: &[u8], purpose: Purpose, context: &[u8]) -> DataKey {
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(secret);
    // The zero byte ends the purpose, so that no purpose with a context reads as another with a longer name.
    let info = [purpose.info(), &[0], context];
    let mut key = DataKey([0; 32]);
    prk.expand(&info, hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut key.0))
        .expect("HKDF-SHA256 gives 32 bytes");
    key
}

/// Keyed BLAKE3: equal inputs are recognised by whoever has the key, and by nobody else.
pub fn keyed_hash(key: &DataKey, bytes: &[u8]) -> [u8; 32] {
    *blake3::keyed_hash(&key.0, bytes).as_bytes()
}

#[cfg(test)]
mod tests {
    use base::SeededEntropy;

    use super::*;

    #[test]
    fn points_of_small_order_are_not_public_keys() {
        let mut one = [0; 32];
        one[0] = 1;
        for point in [[0; 32], one] {
            assert!(PublicKey::try_from(&point[..]).is_err(), "{point:?}");
        }
        let real = PrivateKey::generate(&SeededEntropy::new(1)).public();
        assert_eq!(PublicKey::try_from(&real.as_bytes()[..]), Ok(real));
        assert!(PublicKey::try_from(&real.as_bytes()[1..]).is_err());
    }

    #[test]
    fn derived_keys_differ_by_secret_purpose_and_context() {
        let keys = [
            derive(b"secret", Purpose::Pepper, b"a"),
            derive(b"secret", Purpose::Pepper, b"b"),
            derive(b"secret", Purpose::RootWrapping, b"a"),
            derive(b"another", Purpose::Pepper, b"a"),
        ];
        let distinct: std::collections::HashSet<_> = keys.iter().map(|k| *k.reveal()).collect();
        assert_eq!(distinct.len(), keys.len());
        assert_eq!(derive(b"secret", Purpose::Pepper, b"a").reveal(), keys[0].reveal());
    }

    #[test]
    fn keys_survive_bytes_and_print_as_stars() {
        let key = PrivateKey::generate(&SeededEntropy::new(2));
        let again = PrivateKey::try_from(key.to_secret_bytes().reveal()).unwrap();
        assert_eq!(again.public(), key.public());
        assert_eq!(format!("{key:?} {:?}", DataKey([7; 32])), "PrivateKey(***) DataKey(***)");
    }
}
