//! What can go wrong with zones together, one enum per operation.

use base::ErrorKind;

use crate::ObjectName;

/// Why an object was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// Fewer zones than a majority took it. Nothing of it is left, and nothing of it will appear.
    #[error("{name} was taken by {held} of the {needed} zones it needs, and withdrawn")]
    TooFewZones {
        /// The object.
        name: ObjectName,
        /// How many zones took it.
        held: usize,
        /// How many have to.
        needed: usize,
    },
    /// Fewer zones than a majority took it, and one that may have a copy could not be asked to drop it. It may yet appear.
    #[error("{name} was taken by {held} of the {needed} zones it needs, and could not be withdrawn for certain")]
    Undecided {
        /// The object.
        name: ObjectName,
        /// How many zones took it.
        held: usize,
        /// How many have to.
        needed: usize,
    },
    /// The object was deleted or withdrawn; its name is not used again.
    #[error("{name} was deleted")]
    Deleted {
        /// The object.
        name: ObjectName,
    },
    /// The bytes are not those that the name is for: a mistake of the caller.
    #[error("the bytes to be kept as {name} have another digest")]
    WrongName {
        /// The object.
        name: ObjectName,
    },
}

impl PutError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::TooFewZones { .. } | Self::Undecided { .. } => ErrorKind::Unavailable,
            Self::Deleted { .. } => ErrorKind::Conflict,
            Self::WrongName { .. } => ErrorKind::Internal,
        }
    }
}

/// Why an object could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GetError {
    /// Every zone answered, and none has it.
    #[error("no zone has {name}")]
    NotFound {
        /// The object.
        name: ObjectName,
    },
    /// Every copy that could be read is wrong, and none is elsewhere.
    #[error("every copy of {name} fails verification")]
    Corrupt {
        /// The object.
        name: ObjectName,
    },
    /// No zone that answered has a good copy; one that did not answer may have.
    #[error("no zone that works has a good copy of {name}: {detail}")]
    Unavailable {
        /// The object.
        name: ObjectName,
        /// What the zones said.
        detail: String,
    },
}

impl GetError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::Unavailable { .. } => ErrorKind::Unavailable,
        }
    }
}

/// Why nothing could be listed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no zone works: {detail}")]
pub struct ListError {
    pub(crate) detail: String,
}

impl ListError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Unavailable
    }
}

/// Why it is not certain what the zones hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettleError {
    /// Without a majority of listings an accepted object may be overlooked.
    #[error("{answering} of the {needed} zones that are needed could be listed: {detail}")]
    TooFewZones {
        /// How many zones were listed.
        answering: usize,
        /// How many have to be.
        needed: usize,
        /// What the others said.
        detail: String,
    },
    /// An object that fewer zones than a majority hold could not be copied to one.
    #[error("{name} is in {held} of the {needed} zones it needs and could not be copied: {detail}")]
    NotCopied {
        /// The object.
        name: ObjectName,
        /// How many zones hold it.
        held: usize,
        /// How many have to.
        needed: usize,
        /// What the zones said.
        detail: String,
    },
}

impl SettleError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Unavailable
    }
}
