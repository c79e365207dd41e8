//! Signed heads: how many records there are and the root of the tree over them. The vault signs, accounts signs after it.
//!
//! What is signed is a short text of lines, so that any program can make it again.

use base::{ErrorKind, Role, Timestamp};
use seal::{Attestation, Domain, InstallationKey, SealError, Signer, attest, verify_attested};

use crate::tree::Hash;

/// Why a head is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// The signature.
    #[error("the signature of the {role} role under it does not hold")]
    Signature {
        /// Whose.
        role: Role,
        /// Why.
        source: SealError,
    },
    /// The signer's certificate was not in force then.
    #[error("the certificate of the {role} role was not in force at the time that it names")]
    Certificate {
        /// Whose.
        role: Role,
    },
}

impl HeadError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Corrupt
    }
}

/// Something that is signed about the journal at one moment.
pub trait Statement {
    /// Under which domain.
    const DOMAIN: Domain;

    /// The text that is signed.
    fn text(&self) -> String;

    /// When it was true.
    fn moment(&self) -> Timestamp;

    /// Signs it.
    fn sign(&self, signer: &Signer) -> Attestation {
        attest(signer, Self::DOMAIN, self.text().as_bytes())
    }

    /// Believes it only from `role`, whose certificate was in force.
    fn believe(&self, key: &InstallationKey, role: Role, attested: &Attestation) -> Result<(), HeadError> {
        let signature = |source| HeadError::Signature { role, source };
        let certificate = verify_attested(key, Self::DOMAIN, role, self.text().as_bytes(), attested).map_err(signature)?;
        if certificate.covers(self.moment()) {
            Ok(())
        } else {
            Err(HeadError::Certificate { role })
        }
    }
}

/// The whole journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeHead {
    /// Which journal: a short text that no other installation has.
    pub journal: String,
    /// How many records.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
    /// When it was so.
    pub at: Timestamp,
}

impl TreeHead {
    /// The name of an installation's audit journal.
    pub fn journal_of(key: &InstallationKey) -> String {
        format!("{}/audit", key.name())
    }
}

impl Statement for TreeHead {
    const DOMAIN: Domain = Domain::AUDIT_HEAD;

    fn text(&self) -> String {
        let Self { journal, size, root, at } = self;
        format!(
            "coffer audit head 1\n{journal}\n{size}\n{}\n{}\n",
            hex::encode(root),
            at.as_micros()
        )
    }

    fn moment(&self) -> Timestamp {
        self.at
    }
}
