//! Passes: who somebody is (the vault's assertion) and what they may do (the accounts role's grant).
//!
//! Promise: a pass counts only with both signatures, each by the one role that may make it, both about the same
//! credential, product, audience and holder, shown to that audience by that holder, before its end.
//!
//! Start at [`verify_pass`]. What is signed is what was sent: nothing is encoded again in order to be checked.

use std::{fmt, time::Duration};

use base::{CredentialId, DatabaseName, ErrorKind, ProductId, Role, Scope, Timestamp, Verbs};
use prost::Message;
use subtle::ConstantTimeEq;

use crate::{Domain, InstallationKey, PassError, SealError, Signer, SigningCertificate, sign, verify};

/// The longest that a pass lasts.
pub const MAX_PASS_LIFETIME: Duration = Duration::from_secs(5 * 60);
/// How far a clock may be behind the one that issued: at the start of a pass only, never at its end.
pub const START_LEEWAY: Duration = Duration::from_secs(30);

/// To whom a pass was given: a hash of the caller's TLS public key, which stays the same when its certificate is renewed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct HolderId([u8; 32]);

impl HolderId {
    /// Of a SubjectPublicKeyInfo in DER.
    pub fn of_public_key(spki_der: &[u8]) -> Self {
        Self(blake3::derive_key("coffer/v1/holder", spki_der))
    }

    /// From its 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl TryFrom<&[u8]> for HolderId {
    type Error = SealError;
    fn try_from(bytes: &[u8]) -> Result<Self, SealError> {
        bytes.try_into().map(Self).map_err(|_| SealError::Malformed { what: "holder" })
    }
}

impl fmt::Debug for HolderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HolderId({})", hex::encode(&self.0[..8]))
    }
}

/// The vault says who somebody is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assertion {
    /// The credential that was shown.
    pub credential: CredentialId,
    /// The product it belongs to.
    pub product: ProductId,
    /// The one role to which this may be shown.
    pub audience: Role,
    /// The one caller who may show it.
    pub holder: HolderId,
    /// From when.
    pub issued_at: Timestamp,
    /// Until when: at most [`MAX_PASS_LIFETIME`] later.
    pub expires_at: Timestamp,
    /// Never the same twice.
    pub id: [u8; 16],
}

impl Assertion {
    /// Signs it; believed only from the vault.
    pub fn sign(&self, signer: &Signer) -> Vec<u8> {
        let stored = StoredAssertion {
            credential: self.credential.to_bytes().to_vec(),
            product: self.product.get(),
            audience: self.audience.as_str().to_owned(),
            holder: self.holder.0.to_vec(),
            issued_at: self.issued_at.as_micros(),
            expires_at: self.expires_at.as_micros(),
            id: self.id.to_vec(),
        };
        sign(signer, Domain::PASS_ASSERTION, &stored.encode_to_vec())
    }

    /// Believes it only if the vault signed it and it is in force at `now`.
    pub fn verify(key: &InstallationKey, bytes: &[u8], now: Timestamp) -> Result<Self, PassError> {
        const HALF: &str = "assertion";
        let verified =
            verify(key, Domain::PASS_ASSERTION, Role::Vault, bytes).map_err(|source| PassError::Signature { half: HALF, source })?;
        let stored = StoredAssertion::decode(&*verified.payload).map_err(|_| PassError::Malformed)?;
        let assertion = Self {
            credential: id(&stored.credential)?,
            product: ProductId::new(stored.product).map_err(|_| PassError::Malformed)?,
            audience: role(&stored.audience)?,
            holder: HolderId::try_from(&*stored.holder).map_err(|_| PassError::Malformed)?,
            issued_at: Timestamp::from_micros(stored.issued_at),
            expires_at: Timestamp::from_micros(stored.expires_at),
            id: stored.id.as_slice().try_into().map_err(|_| PassError::Malformed)?,
        };
        if assertion.issued_at > now.plus(START_LEEWAY) {
            return Err(PassError::NotYet);
        }
        if now >= assertion.expires_at {
            return Err(PassError::Expired);
        }
        if assertion.expires_at > assertion.issued_at.plus(MAX_PASS_LIFETIME) {
            return Err(PassError::TooLong);
        }
        in_force(&verified.certificate, HALF, assertion.issued_at, now)?;
        Ok(assertion)
    }
}

/// The accounts role says what somebody may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// BLAKE3 of the signed assertion that this answers.
    pub assertion_hash: [u8; 32],
    /// As in the assertion.
    pub credential: CredentialId,
    /// As in the assertion.
    pub product: ProductId,
    /// As in the assertion.
    pub audience: Role,
    /// As in the assertion.
    pub holder: HolderId,
    /// What may be done.
    pub verbs: Verbs,
    /// In which part of the product.
    pub scope: Scope,
    /// Until when. The pass ends with the earlier of the two ends.
    pub expires_at: Timestamp,
}

impl Grant {
    /// The grant that answers `assertion`, which came as `signed_assertion`.
    pub fn answering(assertion: &Assertion, signed_assertion: &[u8], verbs: Verbs, scope: Scope) -> Self {
        Self {
            assertion_hash: *blake3::hash(signed_assertion).as_bytes(),
            credential: assertion.credential,
            product: assertion.product,
            audience: assertion.audience,
            holder: assertion.holder,
            verbs,
            scope,
            expires_at: assertion.expires_at,
        }
    }

    /// Signs it; believed only from the accounts role.
    pub fn sign(&self, signer: &Signer) -> Vec<u8> {
        let (whole_product, databases) = match &self.scope {
            Scope::Product => (true, Vec::new()),
            Scope::Databases(list) => (false, list.iter().map(|name| name.as_str().to_owned()).collect()),
        };
        let stored = StoredGrant {
            assertion_hash: self.assertion_hash.to_vec(),
            credential: self.credential.to_bytes().to_vec(),
            product: self.product.get(),
            audience: self.audience.as_str().to_owned(),
            holder: self.holder.0.to_vec(),
            verbs: self.verbs.bits(),
            whole_product,
            databases,
            expires_at: self.expires_at.as_micros(),
        };
        sign(signer, Domain::PASS_GRANT, &stored.encode_to_vec())
    }

    /// Believes it only if the accounts role signed it and it has not ended at `now`.
    pub fn verify(key: &InstallationKey, bytes: &[u8], now: Timestamp) -> Result<Self, PassError> {
        Self::verify_since(key, bytes, now, now)
    }

    fn verify_since(key: &InstallationKey, bytes: &[u8], since: Timestamp, now: Timestamp) -> Result<Self, PassError> {
        const HALF: &str = "grant";
        let verified =
            verify(key, Domain::PASS_GRANT, Role::Accounts, bytes).map_err(|source| PassError::Signature { half: HALF, source })?;
        let stored = StoredGrant::decode(&*verified.payload).map_err(|_| PassError::Malformed)?;
        let scope = match (stored.whole_product, stored.databases) {
            (true, list) if list.is_empty() => Scope::Product,
            (true, _) => return Err(PassError::Malformed),
            (false, list) => Scope::Databases(
                list.iter()
                    .map(|name| name.parse::<DatabaseName>())
                    .collect::<Result<_, _>>()
                    .map_err(|_| PassError::Malformed)?,
            ),
        };
        let grant = Self {
            assertion_hash: stored.assertion_hash.as_slice().try_into().map_err(|_| PassError::Malformed)?,
            credential: id(&stored.credential)?,
            product: ProductId::new(stored.product).map_err(|_| PassError::Malformed)?,
            audience: role(&stored.audience)?,
            holder: HolderId::try_from(&*stored.holder).map_err(|_| PassError::Malformed)?,
            verbs: Verbs::from_bits(stored.verbs).map_err(|_: ErrorKind| PassError::Malformed)?,
            scope,
            expires_at: Timestamp::from_micros(stored.expires_at),
        };
        if now >= grant.expires_at {
            return Err(PassError::Expired);
        }
        in_force(&verified.certificate, HALF, since, now)?;
        Ok(grant)
    }
}

/// Both halves, each as it was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// The signed [`Assertion`].
    pub assertion: Vec<u8>,
    /// The signed [`Grant`].
    pub grant: Vec<u8>,
}

impl Pass {
    /// The form in which it travels.
    pub fn encode(&self) -> Vec<u8> {
        StoredPass {
            assertion: self.assertion.clone(),
            grant: self.grant.clone(),
        }
        .encode_to_vec()
    }

    /// Reads one. Believes nothing.
    pub fn decode(bytes: &[u8]) -> Result<Self, PassError> {
        let stored = StoredPass::decode(bytes).map_err(|_| PassError::Malformed)?;
        Ok(Self {
            assertion: stored.assertion,
            grant: stored.grant,
        })
    }

    /// By which a verified pass is found again in a cache.
    pub fn hash(&self) -> [u8; 32] {
        *blake3::hash(&self.encode()).as_bytes()
    }
}

/// What a pass that was believed says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedPass {
    /// Who asks.
    pub credential: CredentialId,
    /// For which product.
    pub product: ProductId,
    /// What may be done.
    pub verbs: Verbs,
    /// In which part of the product.
    pub scope: Scope,
    /// The role to which it may be shown.
    pub audience: Role,
    /// The caller who may show it.
    pub holder: HolderId,
    /// Until when.
    pub expires_at: Timestamp,
    /// Of its assertion: no other pass has it.
    pub id: [u8; 16],
}

/// Believes a pass that `holder` shows to `audience`.
pub fn verify_pass(
    key: &InstallationKey,
    pass: &[u8],
    audience: Role,
    holder: &HolderId,
    now: Timestamp,
) -> Result<VerifiedPass, PassError> {
    let verified = verify_pass_sent_on(key, pass, audience, now)?;
    if verified.holder.0.ct_eq(&holder.0).into() {
        Ok(verified)
    } else {
        Err(PassError::Holder)
    }
}

/// Believes a pass that its `audience` sends on: the role in the certificate of whoever calls now.
///
/// For the vault, which releases a product's key to the role that a pass was shown to.
pub fn verify_pass_sent_on(key: &InstallationKey, pass: &[u8], audience: Role, now: Timestamp) -> Result<VerifiedPass, PassError> {
    let pass = Pass::decode(pass)?;
    let assertion = Assertion::verify(key, &pass.assertion, now)?;
    let grant = Grant::verify_since(key, &pass.grant, assertion.issued_at, now)?;
    let same = |equal: bool, what| if equal { Ok(()) } else { Err(PassError::Mismatch { what }) };
    same(grant.credential == assertion.credential, "credential")?;
    same(grant.product == assertion.product, "product")?;
    same(grant.audience == assertion.audience, "audience")?;
    same(grant.holder == assertion.holder, "holder")?;
    same(
        grant.assertion_hash == *blake3::hash(&pass.assertion).as_bytes(),
        "the assertion that is answered",
    )?;
    if assertion.audience != audience {
        return Err(PassError::Audience {
            expected: audience,
            found: assertion.audience,
        });
    }
    Ok(VerifiedPass {
        credential: assertion.credential,
        product: assertion.product,
        verbs: grant.verbs,
        scope: grant.scope,
        audience,
        holder: assertion.holder,
        expires_at: assertion.expires_at.min(grant.expires_at),
        id: assertion.id,
    })
}

// A certificate that ended after the assertion was made still carries a pass to its own end, minutes later.
fn in_force(certificate: &SigningCertificate, half: &'static str, since: Timestamp, now: Timestamp) -> Result<(), PassError> {
    if certificate.issued_at() <= now.plus(START_LEEWAY) && since < certificate.expires_at() {
        Ok(())
    } else {
        Err(PassError::Certificate { half })
    }
}

fn id(bytes: &[u8]) -> Result<CredentialId, PassError> {
    CredentialId::try_from(bytes).map_err(|_| PassError::Malformed)
}

fn role(name: &str) -> Result<Role, PassError> {
    name.parse().map_err(|_: ErrorKind| PassError::Malformed)
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredAssertion {
    #[prost(bytes = "vec", tag = "1")]
    credential: Vec<u8>,
    #[prost(uint64, tag = "2")]
    product: u64,
    #[prost(string, tag = "3")]
    audience: String,
    #[prost(bytes = "vec", tag = "4")]
    holder: Vec<u8>,
    #[prost(int64, tag = "5")]
    issued_at: i64,
    #[prost(int64, tag = "6")]
    expires_at: i64,
    #[prost(bytes = "vec", tag = "7")]
    id: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredGrant {
    #[prost(bytes = "vec", tag = "1")]
    assertion_hash: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    credential: Vec<u8>,
    #[prost(uint64, tag = "3")]
    product: u64,
    #[prost(string, tag = "4")]
    audience: String,
    #[prost(bytes = "vec", tag = "5")]
    holder: Vec<u8>,
    #[prost(uint32, tag = "6")]
    verbs: u32,
    // Absence must be the smallest right: an empty message grants no database at all.
    #[prost(bool, tag = "7")]
    whole_product: bool,
    #[prost(string, repeated, tag = "8")]
    databases: Vec<String>,
    #[prost(int64, tag = "9")]
    expires_at: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredPass {
    #[prost(bytes = "vec", tag = "1")]
    assertion: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    grant: Vec<u8>,
}

#[cfg(test)]
mod tests;
