//! What is to be recorded, before it has a place in the journal.
//!
//! Promise: nothing in it can say a secret or an identity. What is not a plain name becomes a [`Digest`], whose bytes no formatting shows,
//! and which the vault turns into a keyed hash before anything is written.

use std::fmt;

use base::{CredentialId, ErrorKind, ProductId, Role, Timestamp};
use seal::sha256;

const LONGEST: usize = 200;

/// SHA-256 of something that may be guessable. It is not written down: a keyed hash of it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha256(bytes))
    }

    /// As it came from another role.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// For the way to the vault. Every call is a place to look at twice.
    pub const fn reveal(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(***)")
    }
}

/// What something was done to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// Nothing in particular.
    None,
    /// A name of ours: small letters, digits, `_`, `-`, `.`, `:` and `/`.
    Name(String),
    /// Anything else: an identity, a name that somebody made up, a secret.
    Hidden(Digest),
}

impl Object {
    /// What `text` names. What has any other character than a name has, or is too long for one, is hidden.
    pub fn named(text: &str) -> Self {
        match text {
            "" => Self::None,
            text if is_name(text) => Self::Name(text.to_owned()),
            text => Self::Hidden(Digest::of(text.as_bytes())),
        }
    }
}

fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.:/".contains(&b);
    (1..=LONGEST).contains(&text.len()) && text.bytes().all(plain)
}

/// Who called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Who {
    /// The owner of the data directory, through a local socket.
    Operator,
    /// A role, by its certificate.
    Role(Role),
    /// Somebody without a certificate.
    Nobody,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator => f.write_str("operator"),
            Self::Role(role) => write!(f, "role:{role}"),
            Self::Nobody => f.write_str("nobody"),
        }
    }
}

impl std::str::FromStr for Who {
    type Err = DraftError;
    fn from_str(text: &str) -> Result<Self, DraftError> {
        match text {
            "operator" => Ok(Self::Operator),
            "nobody" => Ok(Self::Nobody),
            text => text
                .strip_prefix("role:")
                .and_then(|role| role.parse().ok())
                .map(Self::Role)
                .ok_or(DraftError("who")),
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Decision {
    /// It may be done. Of what is recorded first: and is begun now.
    Allowed,
    /// It may not.
    Refused,
    /// It was allowed and did not succeed.
    Failed,
}

impl Decision {
    /// The word in a record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

impl std::str::FromStr for Decision {
    type Err = DraftError;
    fn from_str(text: &str) -> Result<Self, DraftError> {
        [Self::Allowed, Self::Refused, Self::Failed]
            .into_iter()
            .find(|decision| decision.as_str() == text)
            .ok_or(DraftError("decision"))
    }
}

/// What cannot be recorded as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the {0} of an audit record is not in the form it should have")]
pub struct DraftError(&'static str);

impl DraftError {
    /// What of it is not.
    pub const fn of(what: &'static str) -> Self {
        Self(what)
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// What is to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// When it was decided.
    pub at: Timestamp,
    /// The role that decided.
    pub role: Role,
    /// Who called it.
    pub who: Who,
    /// On whose behalf.
    pub on_behalf: Option<CredentialId>,
    /// The method, as in the table of calls.
    pub method: String,
    /// What it was about.
    pub object: Object,
    /// Of the whole request.
    pub request: Option<Digest>,
    /// What was decided.
    pub decision: Decision,
    /// Which rule decided.
    pub rule: String,
    /// Of the pass that was shown.
    pub pass: Option<[u8; 16]>,
    /// The product concerned.
    pub product: Option<ProductId>,
    /// How many such events this stands for: more than 1 for those that were too many to be recorded one by one.
    pub count: u64,
}

impl Draft {
    /// Refuses what no record may say, wherever the draft came from.
    pub fn check(&self) -> Result<(), DraftError> {
        let method = |b: u8| b.is_ascii_alphanumeric() || b"/._-".contains(&b);
        if self.method.len() > LONGEST || !self.method.bytes().all(method) {
            return Err(DraftError("method"));
        }
        if !is_name(&self.rule) {
            return Err(DraftError("rule"));
        }
        match &self.object {
            Object::Name(name) if !is_name(name) => Err(DraftError("object")),
            _ => Ok(()),
        }
    }
}
