//! One pass from bytes into Arrow columns, discovering the columns and their types on the way.
//!
//! A syntax reads tokens (`msgpack`, `json`) and hands keys and values to [`rows`], which knows columns and limits.

mod column;
mod error;
mod json;
mod msgpack;
mod records;
mod rows;
#[cfg(test)]
mod tests;
mod time;

use std::ops::Range;

use arrow::record_batch::RecordBatch;
use base::Timestamp;

pub use self::error::{DecodeError, RowFault};
pub use self::records::{Address, RecordId, Records};
use self::rows::Rows;
use crate::Limits;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Syntax {
    /// Maps one after the other.
    Msgpack,
    /// An array of objects, or objects one after the other, with line feeds or any white space between them (RFC 8259, and what is
    /// known as JSON lines).
    Json,
    /// What the records ingest takes, in JSON.
    Records(Records),
}

impl Syntax {
    /// Its name in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Msgpack => "msgpack",
            Self::Json | Self::Records(_) => "JSON",
        }
    }
}

/// What a decoder must be told beside the bytes.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// How much one batch may be.
    pub limits: &'a Limits,
    /// The time of rows that come without one.
    pub received_at: Timestamp,
    /// Names of the columns of identities: they get a column however many there are, so that nobody is overlooked, and a row with an
    /// identity that is too long to be one is set aside.
    pub identities: &'a [String],
    /// Names of the personal columns: they get a column as well.
    pub personal: &'a [String],
}

/// A body, read.
#[derive(Debug)]
pub struct Decoded {
    /// The rows: `time` first, then the columns in the order in which they appeared. A key that is null in every row makes no column:
    /// nobody knows its type.
    pub batch: RecordBatch,
    /// What cannot be a row, in order.
    pub rejected: Vec<Rejected>,
    /// Of [`Syntax::Records`], the id that each came with, in order, those included that cannot be rows. Empty for the others.
    pub ids: Vec<Option<RecordId>>,
}

/// Something among the rows of a body that cannot be a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Its number in the body, from 1; the rows that were taken are counted too.
    pub row: usize,
    /// Why.
    pub fault: RowFault,
    /// Where in the body it stands, as it was sent.
    pub sent: Range<usize>,
}

/// Reads a body. What cannot be a row is set aside and the others are taken; only a body of which nobody can tell where a row begins,
/// or that is too much altogether, is refused.
///
/// Within a row the last of several equal keys wins. A row without a time gets `received_at`.
pub fn decode(syntax: Syntax, body: &[u8], told: &Told<'_>) -> Result<Decoded, DecodeError> {
    let max = told.limits.max_inflated;
    if body.len() > max {
        return Err(DecodeError::BodyTooLarge { max });
    }
    let mut rows = Rows::new(told);
    match syntax {
        Syntax::Msgpack => msgpack::read(body, &mut rows)?,
        Syntax::Json => json::read(body, &mut rows)?,
        Syntax::Records(records) => {
            rows.are_records(records);
            json::read_records(body, records.single, &mut rows)?;
        }
    }
    Ok(rows.finish())
}
