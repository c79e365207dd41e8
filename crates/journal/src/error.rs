//! What can go wrong with a journal, one enum per operation.

use std::fmt;

use base::ErrorKind;
use seal::SealError;
use zones::{GetError, ListError, ObjectName, SettleError};

use crate::{Damage, SegmentId};

/// Why an entry was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Too few zones took it. Nothing of it will appear.
    #[error("segment {segment} was taken by {held} of the {needed} zones it needs")]
    TooFewZones {
        /// Where it would have been.
        segment: SegmentId,
        /// How many zones took it.
        held: usize,
        /// How many have to.
        needed: usize,
    },
    /// Too few zones took it, and it could not be taken back for certain: it may yet appear, once.
    #[error("segment {segment} was taken by {held} of the {needed} zones it needs and may yet appear")]
    Undecided {
        /// Where it would be.
        segment: SegmentId,
        /// How many zones took it.
        held: usize,
        /// How many have to.
        needed: usize,
    },
    /// As much waits as may wait.
    #[error("{waiting} bytes wait to be written, at most {limit} may")]
    TooMuch {
        /// What waits.
        waiting: usize,
        /// What may.
        limit: usize,
    },
    /// It alone is more than may ever wait, or its header is more than a header may be.
    #[error("the entry has {size} bytes, at most {limit} are possible")]
    TooLarge {
        /// What it has.
        size: usize,
        /// What is possible.
        limit: usize,
    },
    /// The signer's certificate is not in force: nobody would believe the segment.
    #[error("the certificate of the signing key is not in force")]
    NoCertificate,
    /// The journal was closed.
    #[error("the journal is closed")]
    Closed,
    /// A mistake of ours.
    #[error("the segment could not be made: {what}")]
    Internal {
        /// What went wrong.
        what: String,
    },
}

impl AppendError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::TooFewZones { .. } | Self::Undecided { .. } | Self::NoCertificate | Self::Closed => ErrorKind::Unavailable,
            Self::TooMuch { .. } => ErrorKind::TooMuch,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::Internal { .. } => ErrorKind::Internal,
        }
    }
}

/// Why it is not certain what a journal says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    /// The zones could not be listed or settled.
    #[error("journal {journal} cannot be recovered")]
    Settle {
        /// The journal.
        journal: String,
        /// Why.
        source: SettleError,
    },
    /// Nobody says which segments there are.
    #[error("the segments of journal {journal} cannot be listed")]
    List {
        /// The journal.
        journal: String,
        /// Why.
        source: ListError,
    },
    /// A segment could not be read now.
    #[error("a segment of journal {journal} cannot be read")]
    Read {
        /// The journal.
        journal: String,
        /// Why.
        source: GetError,
    },
    /// Whether segments are missing cannot be told while zones are away.
    #[error(
        "journal {journal} cannot be recovered yet: no zone that answers has a good copy of {}, and one that does not may have: \
         bring that zone back, or, if it is lost for good, put an empty directory in its place and a file adopt-as-<zone> into it",
        list(objects)
    )]
    InDoubt {
        /// The journal.
        journal: String,
        /// What cannot be read now.
        objects: Vec<ObjectName>,
    },
    /// A majority of zones holds a segment in a form that only a later program knows.
    #[error(
        "journal {journal} cannot be read by this version of Coffer: a newer version wrote {name} (format {version}); use that one, or a newer one"
    )]
    Newer {
        /// The journal.
        journal: String,
        /// The segment.
        name: ObjectName,
        /// Its version.
        version: u8,
    },
    /// Something is missing or wrong. `survey` shows what is left.
    #[error(
        "journal {journal} is damaged: {}: put a good copy back into any of its zones, and start again",
        list(damage)
    )]
    Damaged {
        /// The journal.
        journal: String,
        /// All that is wrong.
        damage: Vec<Damage>,
    },
}

fn list<T: fmt::Display>(all: &[T]) -> String {
    let mut text: Vec<String> = all.iter().take(5).map(ToString::to_string).collect();
    if all.len() > 5 {
        text.push(format!("and {} more", all.len() - 5));
    }
    text.join("; ")
}

impl RecoverError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Settle { source, .. } => source.kind(),
            Self::List { source, .. } => source.kind(),
            Self::Read { source, .. } => source.kind(),
            Self::InDoubt { .. } => ErrorKind::Unavailable,
            Self::Damaged { .. } | Self::Newer { .. } => ErrorKind::Corrupt,
        }
    }
}

/// Why a journal is not the one that somebody remembers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Its end is missing: an older state.
    #[error("the journal has {found} segments, {remembered} are remembered{}", missed(unreadable))]
    Shorter {
        /// How long it is.
        found: u64,
        /// How long it was.
        remembered: u64,
        /// Objects that cannot be read and say that they belong where something is missed.
        unreadable: Vec<ObjectName>,
    },
    /// It has another history.
    #[error("segment {sequence} of the journal is another one than is remembered")]
    Another {
        /// The segment that differs.
        sequence: u64,
    },
}

fn missed(unreadable: &[ObjectName]) -> String {
    if unreadable.is_empty() {
        return ": bring back the zones that hold the rest".into();
    }
    format!(
        ": what is left of the rest may be {}: put a good copy back into any of its zones, and start again",
        list(unreadable)
    )
}

impl HeadError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Corrupt
    }
}

/// Why a segment's payloads could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It could not be read.
    #[error("a segment cannot be read")]
    Read(#[from] GetError),
    /// It is another one than was recovered, or not whole.
    #[error("{name} is not the segment that was recovered")]
    Changed {
        /// The object.
        name: ObjectName,
    },
    /// It does not open with this key.
    #[error("{name} does not open")]
    Seal {
        /// The object.
        name: ObjectName,
        /// Why.
        source: SealError,
    },
}

impl OpenError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read(source) => source.kind(),
            Self::Changed { .. } => ErrorKind::Corrupt,
            Self::Seal { source, .. } => source.kind(),
        }
    }
}
