//! One zone: the seam behind which a directory, a bucket or a twin for tests stands.

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use base::ErrorKind;
use bytes::Bytes;

use crate::ObjectName;

/// What a zone answers instead of doing what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ZoneError {
    /// It cannot work now, and nothing was changed: missing, full, read-only, not a directory.
    #[error("zone {zone} is down: {detail}")]
    Down {
        /// The zone.
        zone: String,
        /// Why, in words for an operator.
        detail: String,
    },
    /// It failed on the way, or did not answer in time: the change may or may not have happened, or may happen yet.
    #[error("zone {zone} did not say whether it is done: {detail}")]
    Unclear {
        /// The zone.
        zone: String,
        /// Why, in words for an operator.
        detail: String,
    },
    /// The zone works and does not have the object.
    #[error("zone {zone} has no {name}")]
    NotFound {
        /// The zone.
        zone: String,
        /// What was asked for.
        name: ObjectName,
    },
    /// The object ends before the range that was asked for does.
    #[error("{name} in zone {zone} ends at {length}, the range asked for ends at {wanted}")]
    Short {
        /// The zone.
        zone: String,
        /// What was asked for.
        name: ObjectName,
        /// How long the zone's copy is.
        length: u64,
        /// Where the range ends.
        wanted: u64,
    },
    /// What the zone has under the name is longer than the object can be.
    #[error("{name} in zone {zone} has {length} bytes, it can have {most} at most")]
    Long {
        /// The zone.
        zone: String,
        /// What was asked for.
        name: ObjectName,
        /// How long the zone's copy is.
        length: u64,
        /// How long whoever asked says that it can be.
        most: u64,
    },
    /// What the zone has under the name is no object at all: a link, a pipe, a directory.
    #[error("{name} in zone {zone} is no object: {detail}")]
    Wrong {
        /// The zone.
        zone: String,
        /// What was asked for.
        name: ObjectName,
        /// What it is, in words for an operator.
        detail: String,
    },
}

impl ZoneError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Down { .. } | Self::Unclear { .. } => ErrorKind::Unavailable,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Short { .. } | Self::Long { .. } | Self::Wrong { .. } => ErrorKind::Corrupt,
        }
    }

    /// Whether the zone itself, not the object, is the trouble.
    pub(crate) fn is_about_the_zone(&self) -> bool {
        matches!(self, Self::Down { .. } | Self::Unclear { .. })
    }

    /// The words after the zone's name.
    pub(crate) fn detail(&self) -> String {
        match self {
            Self::Down { detail, .. } | Self::Unclear { detail, .. } => detail.clone(),
            other => other.to_string(),
        }
    }
}

/// A place that keeps objects and fails on its own.
///
/// Every implementation passes the same suite of tests. A `put` that has returned is durable: it survives a power cut.
#[async_trait]
pub trait Zone: Send + Sync + fmt::Debug {
    /// The zone's name, for people.
    fn name(&self) -> &str;

    /// Keeps `bytes` durably under `name`, whole or not at all; what is there under that name is replaced (a repair).
    async fn put(&self, name: &ObjectName, bytes: Bytes) -> Result<(), ZoneError>;

    /// All bytes of an object, as they are: whoever asks compares the digest, and says how many there can be at most. Of more
    /// than that, nothing is read.
    async fn get(&self, name: &ObjectName, most: u64) -> Result<Bytes, ZoneError>;

    /// Exactly these bytes of an object.
    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, ZoneError>;

    /// Every object below `prefix` (whole path segments, empty for all), sorted.
    async fn list(&self, prefix: &str) -> Result<Vec<ObjectName>, ZoneError> {
        self.list_page(prefix, "", usize::MAX).await
    }

    /// The first `most` objects below `prefix` whose names come after `after`, sorted by the bytes of their names: fewer only where
    /// there are no more. `after` need not be the name of anything; before all names is the empty text.
    async fn list_page(&self, prefix: &str, after: &str, most: usize) -> Result<Vec<ObjectName>, ZoneError>;

    /// The same in steps, for a listing with a number of its own: `None` where the zone was asked something and has to be asked more for
    /// the page. So no call takes longer than one answer of a store, and one that lists in no order is not gone through for each page.
    async fn list_step(&self, listing: u64, prefix: &str, after: &str, most: usize) -> Result<Option<Vec<ObjectName>>, ZoneError> {
        let _ = listing;
        self.list_page(prefix, after, most).await.map(Some)
    }

    /// Removes an object durably. Removing what is not there is no error.
    async fn delete(&self, name: &ObjectName) -> Result<(), ZoneError>;

    /// Whether the zone works: it is there, it is the right one, and it can be written to.
    async fn probe(&self) -> Result<(), ZoneError>;

    /// Whether an answer is the end of it: nothing of what was asked for happens any more once the zone has given it, be it an error.
    /// Not so where a network lies between: a request may be done long after its connection broke.
    fn is_final(&self) -> bool {
        false
    }

    /// Whether what the zone lacks says something: not while it has yet to be filled, having been put in a lost one's place.
    /// As the zone last said; does no I/O.
    fn is_complete(&self) -> bool;

    /// Notes durably that it has been filled.
    async fn set_complete(&self) -> Result<(), ZoneError>;
}
