//! What goes into a journal, and where it ended up.

use std::fmt;

use base::WriterId;
use bytes::Bytes;

/// One entry of a journal. Either part may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// In clear, but signed: what has to be known without any key.
    pub header: Bytes,
    /// Sealed.
    pub payload: Bytes,
}

impl Entry {
    /// A sealed entry without a header in clear.
    pub fn sealed(payload: impl Into<Bytes>) -> Self {
        Self {
            header: Bytes::new(),
            payload: payload.into(),
        }
    }

    /// How many bytes it holds up while it waits; the constant stands for what surrounds it.
    pub(crate) fn weight(&self) -> usize {
        self.header.len() + self.payload.len() + 64
    }
}

/// A segment of a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId {
    /// The start of a process that wrote it.
    pub writer: WriterId,
    /// Its place in the whole journal, from 0, without gaps: it goes on from writer to writer.
    pub sequence: u64,
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016x}", self.writer, self.sequence)
    }
}
