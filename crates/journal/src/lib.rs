//! The journal: sealed, signed segments, written once to every zone and never edited.
//!
//! Promise: an entry is accepted only when a majority of zones hold its segment; what was refused never appears. A segment
//! that was changed, moved, forged, or taken out of the middle is noticed; one taken off the end is noticed by whoever
//! remembers the [`Head`].
//!
//! Start at [`Journal::append`] and [`recover`]. The stored form is in `record`.
//! Knows zones and sealing. Does not know HTTP, SQL or what entries mean.

mod chain;
mod entry;
mod error;
mod journal;
pub mod proof;
mod record;
mod recover;
mod segment;
mod settings;
mod trim;

pub use chain::{Damage, Head, Tail};
pub use entry::{Entry, SegmentId};
pub use error::{AppendError, HeadError, OpenError, RecoverError};
pub use journal::{CurrentSigner, Journal, JournalParts};
pub use recover::{Recovered, Refused, find, in_clear, is_segment, read_back, read_back_forms, recover, recover_after, survey};
pub use segment::Segment;
pub use settings::{Acknowledge, JournalSettings};
pub use trim::{TrimError, trim};

#[cfg(test)]
mod tests;
