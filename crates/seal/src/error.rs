//! What can be wrong with sealed, wrapped or signed bytes, and with a pass.

use base::{ErrorKind, Role};

/// Why bytes were not opened or not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Too short, too long, or not in the form it should have.
    #[error("{what} does not have the form it should have")]
    Malformed {
        /// The thing that was read.
        what: &'static str,
    },
    /// Written by a later program.
    #[error(
        "{what} has format {found}, which this version of Coffer does not know: a newer version wrote it; use that one, or a newer one"
    )]
    Newer {
        /// The thing that was read.
        what: &'static str,
        /// Its format.
        found: u8,
    },
    /// Another key, another context, or changed bytes: which of them cannot be told.
    #[error("{what} does not open: changed, or for another key or context")]
    DoesNotOpen {
        /// The thing that was to be opened.
        what: &'static str,
    },
    /// The signature is not by the key it should be by, or not over these bytes.
    #[error("the signature of {what} is wrong")]
    BadSignature {
        /// The thing that was signed.
        what: &'static str,
    },
    /// Signed by a role that may not sign this.
    #[error("signed by {found} instead of {expected}")]
    WrongRole {
        /// Who may sign it.
        expected: Role,
        /// Who did.
        found: Role,
    },
}

impl SealError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Corrupt
    }
}

/// Why a pass, or a half of one, is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PassError {
    /// It cannot be read.
    #[error("the pass cannot be read")]
    Malformed,
    /// One of its two halves is not signed as it must be.
    #[error("the {half} is not believed: {source}")]
    Signature {
        /// "assertion" or "grant".
        half: &'static str,
        /// What is wrong with it.
        source: SealError,
    },
    /// The signing certificate of a half was not in force.
    #[error("the {half} was signed with a certificate that is not in force")]
    Certificate {
        /// "assertion" or "grant".
        half: &'static str,
    },
    /// The two halves are not about the same thing.
    #[error("assertion and grant differ in {what}")]
    Mismatch {
        /// The binding that differs.
        what: &'static str,
    },
    /// It is for another role.
    #[error("the pass is for {found}, not for {expected}")]
    Audience {
        /// The role that was shown it.
        expected: Role,
        /// The role it is for.
        found: Role,
    },
    /// It was given to another caller.
    #[error("the pass belongs to another holder")]
    Holder,
    /// It begins in the future.
    #[error("the pass is not valid yet")]
    NotYet,
    /// It has ended.
    #[error("the pass has ended")]
    Expired,
    /// It claims to last longer than any pass may.
    #[error("the pass claims to last longer than a pass may")]
    TooLong,
}

impl PassError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Unauthenticated
    }
}
