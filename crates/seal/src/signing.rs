//! Statements of roles: who said it, in which capacity, over exactly which bytes.
//!
//! The vault holds the installation's Ed25519 key and certifies each role's own signing key with it for a day.
//! A signed statement carries the certificate along, so that it can be checked years later with the
//! [`InstallationKey`] alone. Whether the certificate was in force at the time the statement claims is for the reader
//! to ask, with [`SigningCertificate::covers`]: only it knows which time that is.

use std::{fmt, sync::Arc};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, ParsedPublicKey, UnparsedPublicKey};
use base::{Entropy, Role, Timestamp};
use prost::Message;
use zeroize::Zeroizing;

use crate::{DataKey, SealError};

/// What kind of thing is signed: a signature under one domain says nothing under another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Domain(&'static str);

impl Domain {
    /// A role's signing key, certified by the installation.
    pub const CERTIFICATE: Self = Self("coffer/v1/signing-certificate");
    /// Who somebody is: one half of a pass.
    pub const PASS_ASSERTION: Self = Self("coffer/v1/pass-assertion");
    /// What somebody may do: the other half.
    pub const PASS_GRANT: Self = Self("coffer/v1/pass-grant");
    /// A segment of a journal.
    pub const SEGMENT: Self = Self("coffer/v1/segment");
    /// What of a segment of a journal is kept.
    pub const TRIM: Self = Self("coffer/v1/trim");
    /// Length and hash of a journal.
    pub const HEAD: Self = Self("coffer/v1/head");
    /// The state of the audit journal: signed with [`attest`].
    pub const AUDIT_HEAD: Self = Self("coffer/v1/audit-head");
    /// How much of the audit journal concerns a product: signed with [`attest`].
    pub const AUDIT_PRODUCT: Self = Self("coffer/v1/audit-product");
    /// What a file of a table holds and which segments it covers.
    pub const MANIFEST: Self = Self("coffer/v1/manifest");
    /// That a person was erased.
    pub const RECEIPT: Self = Self("coffer/v1/receipt");

    /// The text itself.
    pub const fn as_str(self) -> &'static str {
        self.0
    }

    /// The bytes that are signed: domain with its length, what the signature is bound to, the payload.
    fn to_sign(self, bound_to: &[u8; 32], payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(self.0.len()).expect("a domain is a short text");
        [&[length], self.0.as_bytes(), bound_to, payload].concat()
    }
}

/// The public half of the [`InstallationSigner`]: what everybody trusts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct InstallationKey([u8; 32]);

impl InstallationKey {
    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A short text that no other installation has.
    pub fn name(&self) -> String {
        hex::encode(&self.0[..8])
    }
}

impl TryFrom<&[u8]> for InstallationKey {
    type Error = SealError;
    fn try_from(bytes: &[u8]) -> Result<Self, SealError> {
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| SealError::Malformed { what: "installation key" })
    }
}

impl fmt::Debug for InstallationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InstallationKey({})", hex::encode(self.0))
    }
}

/// The key that certifies signing keys. Only the vault has it.
pub struct InstallationSigner(Ed25519KeyPair);

impl InstallationSigner {
    /// The one that belongs to a derived key: the same key gives the same signer.
    pub fn from_derived(key: &DataKey) -> Self {
        Self(key_pair(key.reveal()))
    }

    /// A fresh one, for tests.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        Self::from_derived(&DataKey::generate(entropy))
    }

    /// What everybody else needs to check its certificates.
    pub fn key(&self) -> InstallationKey {
        InstallationKey(public_key(&self.0))
    }

    /// Says that the holder of `public_key` speaks as `role` between these moments.
    pub fn certify(&self, role: Role, public_key: [u8; 32], issued_at: Timestamp, expires_at: Timestamp) -> SigningCertificate {
        let body = CertificateBody {
            role: role.as_str().to_owned(),
            public_key: public_key.to_vec(),
            issued_at: issued_at.as_micros(),
            expires_at: expires_at.as_micros(),
        }
        .encode_to_vec();
        let signature = self.0.sign(&Domain::CERTIFICATE.to_sign(&[0; 32], &body)).as_ref().to_vec();
        let encoded = SignedCertificate { body, signature }.encode_to_vec();
        SigningCertificate {
            role,
            public_key,
            issued_at,
            expires_at,
            encoded,
        }
    }
}

impl fmt::Debug for InstallationSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InstallationSigner({:?})", self.key())
    }
}

/// A role's signing key as the installation certified it. Not secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningCertificate {
    role: Role,
    public_key: [u8; 32],
    issued_at: Timestamp,
    expires_at: Timestamp,
    // Exactly the bytes that were signed and sent: they are never encoded a second time.
    encoded: Vec<u8>,
}

impl SigningCertificate {
    /// The bytes, as signed.
    pub fn encode(&self) -> Vec<u8> {
        self.encoded.clone()
    }

    /// Reads one and believes it only if the installation signed it. Does not look at the time.
    pub fn decode(key: &InstallationKey, encoded: &[u8]) -> Result<Self, SealError> {
        let malformed = SealError::Malformed {
            what: "signing certificate",
        };
        let outer = SignedCertificate::decode(encoded).map_err(|_| malformed)?;
        UnparsedPublicKey::new(&ED25519, key.as_bytes())
            .verify(&Domain::CERTIFICATE.to_sign(&[0; 32], &outer.body), &outer.signature)
            .map_err(|_| SealError::BadSignature {
                what: "the signing certificate",
            })?;
        let body = CertificateBody::decode(&*outer.body).map_err(|_| malformed)?;
        Ok(Self {
            role: body.role.parse().map_err(|_| malformed)?,
            public_key: body.public_key.as_slice().try_into().map_err(|_| malformed)?,
            issued_at: Timestamp::from_micros(body.issued_at),
            expires_at: Timestamp::from_micros(body.expires_at),
            encoded: encoded.to_vec(),
        })
    }

    /// Who speaks with this key.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The Ed25519 key.
    pub fn public_key(&self) -> &[u8; 32] {
        &self.public_key
    }

    /// From when it may be used.
    pub fn issued_at(&self) -> Timestamp {
        self.issued_at
    }

    /// Until when.
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// Whether it was in force at `at`.
    pub fn covers(&self, at: Timestamp) -> bool {
        self.issued_at <= at && at < self.expires_at
    }
}

/// A role's signing key before the vault has certified it.
#[derive(Debug)]
pub struct UncertifiedSigner(Arc<RoleKey>);

impl UncertifiedSigner {
    /// What is to be certified.
    pub fn public_key(&self) -> [u8; 32] {
        public_key(&self.0.0)
    }

    /// The signer, once certified. Refuses a certificate of another key.
    pub fn certified(self, certificate: SigningCertificate) -> Result<Signer, SealError> {
        Signer {
            key: self.0,
            certificate: certificate.clone(),
        }
        .renewed(certificate)
    }
}

/// A role's signing key and its certificate.
#[derive(Debug, Clone)]
pub struct Signer {
    key: Arc<RoleKey>,
    certificate: SigningCertificate,
}

impl Signer {
    /// A fresh key. It stays in memory and ends with the process.
    pub fn generate(entropy: &dyn Entropy) -> UncertifiedSigner {
        let mut seed = Zeroizing::new([0; 32]);
        entropy.fill(seed.as_mut());
        UncertifiedSigner(Arc::new(RoleKey(key_pair(&seed))))
    }

    /// The certificate that goes along with each signature.
    pub fn certificate(&self) -> &SigningCertificate {
        &self.certificate
    }

    /// The same key under a newer certificate. Refuses a certificate of another key.
    pub fn renewed(&self, certificate: SigningCertificate) -> Result<Self, SealError> {
        if *certificate.public_key() == public_key(&self.key.0) {
            Ok(Self {
                key: Arc::clone(&self.key),
                certificate,
            })
        } else {
            Err(SealError::BadSignature {
                what: "another key's certificate",
            })
        }
    }
}

/// A statement that was believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// What was signed.
    pub payload: Vec<u8>,
    /// By whom. Its time has not been looked at.
    pub certificate: SigningCertificate,
}

/// Signs a small payload; the result carries certificate, payload and signature.
pub fn sign(signer: &Signer, domain: Domain, payload: &[u8]) -> Vec<u8> {
    let certificate = signer.certificate.encode();
    let bound_to = blake3::hash(&certificate);
    let signature = signer.key.0.sign(&domain.to_sign(bound_to.as_bytes(), payload)).as_ref().to_vec();
    SignedStatement {
        certificate,
        payload: payload.to_vec(),
        signature,
    }
    .encode_to_vec()
}

/// Believes a statement only if it was made by `role`, under this `domain`, in this installation.
pub fn verify(key: &InstallationKey, domain: Domain, role: Role, signed: &[u8]) -> Result<Verified, SealError> {
    let statement = SignedStatement::decode(signed).map_err(|_| SealError::Malformed { what: "signed statement" })?;
    let certificate = SigningCertificate::decode(key, &statement.certificate)?;
    if certificate.role != role {
        return Err(SealError::WrongRole {
            expected: role,
            found: certificate.role,
        });
    }
    let bound_to = blake3::hash(&statement.certificate);
    ParsedPublicKey::new(&ED25519, certificate.public_key)
        .map_err(|_| SealError::Malformed {
            what: "signing certificate",
        })?
        .verify_sig(&domain.to_sign(bound_to.as_bytes(), &statement.payload), &statement.signature)
        .map_err(|_| SealError::BadSignature { what: domain.as_str() })?;
    Ok(Verified {
        payload: statement.payload,
        certificate,
    })
}

/// A signature beside what was signed, for readers that are not ours: they need Ed25519, SHA-256 and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attestation {
    /// Of the signer, as the installation certified it.
    pub certificate: Vec<u8>,
    /// Over the domain with its length, SHA-256 of the certificate, and the payload.
    pub signature: Vec<u8>,
}

/// Signs a payload; the result does not carry it. Each domain is for [`sign`] or for this, never for both.
pub fn attest(signer: &Signer, domain: Domain, payload: &[u8]) -> Attestation {
    let certificate = signer.certificate.encode();
    let bound_to = crate::sha256(&certificate);
    let signature = signer.key.0.sign(&domain.to_sign(&bound_to, payload)).as_ref().to_vec();
    Attestation { certificate, signature }
}

/// Believes that `role` of this installation attested the payload; says with which certificate. Does not look at the time.
pub fn verify_attested(
    key: &InstallationKey,
    domain: Domain,
    role: Role,
    payload: &[u8],
    attested: &Attestation,
) -> Result<SigningCertificate, SealError> {
    let certificate = SigningCertificate::decode(key, &attested.certificate)?;
    if certificate.role != role {
        return Err(SealError::WrongRole {
            expected: role,
            found: certificate.role,
        });
    }
    let bound_to = crate::sha256(&attested.certificate);
    UnparsedPublicKey::new(&ED25519, certificate.public_key)
        .verify(&domain.to_sign(&bound_to, payload), &attested.signature)
        .map_err(|_| SealError::BadSignature { what: domain.as_str() })?;
    Ok(certificate)
}

struct RoleKey(Ed25519KeyPair);

impl fmt::Debug for RoleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RoleKey(***)")
    }
}

fn key_pair(seed: &[u8; 32]) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(seed).expect("every 32 bytes are an Ed25519 seed")
}

fn public_key(pair: &Ed25519KeyPair) -> [u8; 32] {
    pair.public_key().as_ref().try_into().expect("an Ed25519 public key has 32 bytes")
}

#[derive(Clone, PartialEq, prost::Message)]
struct CertificateBody {
    #[prost(string, tag = "1")]
    role: String,
    #[prost(bytes = "vec", tag = "2")]
    public_key: Vec<u8>,
    #[prost(int64, tag = "3")]
    issued_at: i64,
    #[prost(int64, tag = "4")]
    expires_at: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SignedCertificate {
    #[prost(bytes = "vec", tag = "1")]
    body: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    signature: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SignedStatement {
    #[prost(bytes = "vec", tag = "1")]
    certificate: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    payload: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    signature: Vec<u8>,
}

#[cfg(test)]
mod tests;
