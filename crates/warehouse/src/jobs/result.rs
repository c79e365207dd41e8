//! A job's result: msgpack.gz, sealed and written as the rows come, read in parts.
//!
//! Promise: a result takes a few megabytes of memory however large it is, and a file is there only for a job that succeeded. What a failed,
//! killed or crashed job wrote goes when its writer is dropped, at the latest when the directory is opened again.
//!
//! Start at [`ResultFiles::begin`]. Does not know jobs' rows in the database, nor what asked for the result.

mod files;
mod room;
mod writer;

use base::ErrorKind;

pub(crate) use files::{PART, ResultFiles, ResultWriter};
pub(crate) use files::{context, job_of};
pub(crate) use room::{Room, WHOLE};

/// Why a result could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResultError {
    #[error("the result takes more than {limit} bytes compressed: add a LIMIT, aggregate, or choose fewer columns")]
    TooLarge { limit: u64 },
    #[error(
        "the results that are kept of {whose} take the {limit} bytes that they may: ask for fewer rows or columns, or wait until older \
         results have gone; an operator can raise jobs.results_per_product and jobs.results_in_all"
    )]
    NoRoom { whose: &'static str, limit: u64 },
    #[error("the warehouse's disk is full and the result was not kept: ask again when there is room, or for fewer rows or columns")]
    Full(#[source] std::io::Error),
    #[error("the result was kept long enough and is gone: issue the job again")]
    Gone,
    #[error("the result could not be written as msgpack")]
    Encode(#[from] events::EncodeError),
    #[error("the result could not be kept or read")]
    Io(#[source] std::io::Error),
    #[error("the kept result does not open")]
    Open(#[from] seal::SealError),
}

impl ResultError {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::NoRoom { .. } => ErrorKind::TooMuch,
            Self::Full(_) | Self::Io(_) => ErrorKind::Unavailable,
            Self::Gone => ErrorKind::NotFound,
            Self::Encode(source) => source.kind(),
            Self::Open(source) => source.kind(),
        }
    }

    /// Whether its words are for whoever asked; others name what is ours.
    pub(crate) fn is_advice(&self) -> bool {
        matches!(self, Self::TooLarge { .. } | Self::NoRoom { .. } | Self::Full(_) | Self::Gone)
    }
}

impl From<std::io::Error> for ResultError {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        match error.kind() {
            Io::StorageFull | Io::QuotaExceeded => Self::Full(error),
            _ => Self::Io(error),
        }
    }
}

#[cfg(test)]
mod tests;
