//! Rows of a file as the msgpack maps that the server takes.
//!
//! Promise: no row is dropped. One that cannot be read as a row of its format, or whose time cannot be read, becomes a text that
//! holds it as it stands, and is told of.
//!
//! Start at [`Rows::encode`]. Does not know files, chunks or the network.

mod delimited;
mod json;
mod packed;

pub(super) use delimited::{Column, Delimited, Dialect};

use super::time::TimeRule;
use crate::msgpack;

/// How rows of one file are read.
#[derive(Debug)]
pub(super) enum Rows {
    Delimited(Delimited),
    Json(Option<TimeRule>),
    Packed(Option<TimeRule>),
}

impl Rows {
    /// Appends one row. Whether it could be read; if not, its bytes are there as a text.
    pub(super) fn encode(&self, row: &[u8], sound: bool, out: &mut Vec<u8>) -> bool {
        let begin = out.len();
        let read = sound
            && match self {
                Self::Delimited(delimited) => delimited.encode(row, out).is_some(),
                Self::Json(time) => json::encode(row, time.as_ref(), out).is_some(),
                Self::Packed(time) => packed::encode(row, time.as_ref(), out).is_some(),
            };
        if !read {
            out.truncate(begin);
            match self {
                Self::Packed(_) => msgpack::binary(row, out),
                _ => msgpack::text(row, out),
            }
        }
        read
    }

    /// What a row says of its own time, given to `see`; nothing where it says nothing.
    pub(super) fn look_at_time(&self, column: &str, row: &[u8], see: &mut dyn FnMut(&str)) {
        match self {
            Self::Delimited(_) => {}
            Self::Json(_) => json::look_at(column, row, see),
            Self::Packed(_) => packed::look_at(column, row, see),
        }
    }
}

#[cfg(test)]
mod tests;
