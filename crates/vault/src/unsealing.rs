//! Shares that were shown, until they are enough.
//!
//! Promise: what is no share of the present root key is named and not kept; what the shares give is compared with the check value before
//! it is believed, and if it is another key all shares are forgotten; wrong attempts are bounded in time.

use std::time::Duration;

use base::{ErrorKind, Timestamp};
use seal::DataKey;
use seal::shares::{Share, ShareError, combine};

use crate::sealed_root::SealedRoot;

/// How many wrong shares are judged in [`WINDOW`].
const MOST_WRONG: usize = 10;
const WINDOW: Duration = Duration::from_secs(60);

/// Why a share was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnsealError {
    /// Not a share, or a damaged one.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// Of another split.
    #[error(
        "share {number} belongs to the set {shown}, and the root key is known by the set {expected}: it is of another installation, or of before the last `coffer vault rekey`"
    )]
    Foreign {
        /// The number in it.
        number: u8,
        /// Its set.
        shown: String,
        /// The present set.
        expected: String,
    },
    /// Well-formed, of this set, and not what was given out.
    #[error("share {number} is not the one that was given out: it was changed")]
    Changed {
        /// The number in it.
        number: u8,
    },
    /// The shares are right one by one and give another key.
    #[error("the shares together do not give the root key: all of them are forgotten, begin again")]
    NotTheKey,
    /// Too many wrong ones.
    #[error("too many wrong shares were shown: wait a minute")]
    TooMany,
}

impl UnsealError {
    /// What the caller can do about it.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Share(error) => error.kind(),
            Self::Foreign { .. } | Self::Changed { .. } => ErrorKind::Invalid,
            Self::NotTheKey => ErrorKind::Corrupt,
            Self::TooMany => ErrorKind::TooMuch,
        }
    }
}

/// What was shown so far.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    shares: Vec<Share>,
    wrong: Vec<Timestamp>,
}

impl Shown {
    /// How many good shares there are.
    pub(crate) fn count(&self) -> u8 {
        u8::try_from(self.shares.len()).unwrap_or(u8::MAX)
    }

    /// Judges a share; the root key, once there are enough. The same share again changes nothing.
    pub(crate) fn show(&mut self, sealed: &SealedRoot, text: &str, now: Timestamp) -> Result<Option<DataKey>, UnsealError> {
        self.wrong.retain(|at| now.since(*at) < WINDOW);
        if self.wrong.len() >= MOST_WRONG {
            return Err(UnsealError::TooMany);
        }
        let taken = self.take(sealed, text);
        if taken.is_err() {
            self.wrong.push(now);
        }
        taken
    }

    fn take(&mut self, sealed: &SealedRoot, text: &str) -> Result<Option<DataKey>, UnsealError> {
        let share = judged(sealed, text)?;
        if self.shares.iter().all(|shown| shown.number() != share.number()) {
            self.shares.push(share);
        }
        if self.count() < sealed.threshold() {
            return Ok(None);
        }
        let key = combine(&self.shares);
        // Whatever comes out, the shares have done what they were shown for.
        self.shares.clear();
        key.ok().filter(|key| sealed.is_key(key)).map(Some).ok_or(UnsealError::NotTheKey)
    }
}

/// The root key, from shares that are shown all at once.
pub(crate) fn key_of(sealed: &SealedRoot, texts: &[impl AsRef<str>]) -> Result<DataKey, UnsealError> {
    let shares = texts
        .iter()
        .map(|text| judged(sealed, text.as_ref()))
        .collect::<Result<Vec<_>, _>>()?;
    let key = combine(&shares)?;
    if sealed.is_key(&key) {
        Ok(key)
    } else {
        Err(UnsealError::NotTheKey)
    }
}

fn judged(sealed: &SealedRoot, text: &str) -> Result<Share, UnsealError> {
    let share = Share::parse(text)?;
    let number = share.number();
    if share.set() != sealed.set() {
        return Err(UnsealError::Foreign {
            number,
            shown: hex::encode(share.set()),
            expected: hex::encode(sealed.set()),
        });
    }
    if !sealed.is_share(&share) {
        return Err(UnsealError::Changed { number });
    }
    Ok(share)
}

#[cfg(test)]
mod tests;
