//! The few kinds of failure in the whole system.

use std::fmt;

/// What a caller can do about a failure. Only `edge` turns a kind into a status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is wrong; sending it again unchanged will fail again.
    Invalid,
    /// No credential, or one that is not known, ended or revoked.
    Unauthenticated,
    /// The caller is known, and may know that the thing exists, but may not do this.
    Forbidden,
    /// There is no such thing, or the caller may not know of it.
    NotFound,
    /// It exists already, or changed meanwhile.
    Conflict,
    /// Over a limit of size; make it smaller.
    TooLarge,
    /// Too much at once; slow down and send again.
    TooMuch,
    /// Not now; sending the same again is safe.
    Unavailable,
    /// Stored or received bytes fail verification.
    Corrupt,
    /// A mistake of ours.
    Internal,
}

impl ErrorKind {
    /// Every kind, for tables that must be complete.
    pub const ALL: [Self; 10] = [
        Self::Invalid,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::Conflict,
        Self::TooLarge,
        Self::TooMuch,
        Self::Unavailable,
        Self::Corrupt,
        Self::Internal,
    ];

    /// The fixed words a caller gets when the message itself is not for them.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Invalid => "the request is not valid",
            Self::Unauthenticated => "no valid credential was shown",
            Self::Forbidden => "this credential may not do that",
            Self::NotFound => "not found",
            Self::Conflict => "it exists already or was changed meanwhile",
            Self::TooLarge => "the request is larger than the limit",
            Self::TooMuch => "too many requests, slow down and send it again",
            Self::Unavailable => "not available right now, it is safe to try again",
            Self::Corrupt => "stored data failed verification, the operator has been told",
            Self::Internal => "an error inside the server",
        }
    }

    /// Whether sending the very same request again can succeed.
    pub const fn is_temporary(self) -> bool {
        matches!(self, Self::TooMuch | Self::Unavailable)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}
