//! Events: msgpack and JSON into Arrow in one pass, column types found on the way, Arrow out again.
//!
//! Promise: nothing sent is dropped or changed. A value keeps its column's type where it fits, and its text where it does not;
//! in which order batches came never shows in what a table holds. A row that cannot be one is handed back as it was sent.
//! Bytes from outside never panic, never take memory beyond the stated limits, and never show up in an error message.
//!
//! Start at [`decode`]; how types grow is in [`Seen`], where rows begin and end in text in [`frames`]. Knows Arrow, msgpack and JSON. Does not know HTTP, files, keys or SQL.

mod declared;
mod decode;
mod encode;
mod fit;
pub mod frames;
pub mod identities;
mod inflate;
mod ipc;
mod kinds;
mod limits;
mod lines;
#[cfg(test)]
mod model;
mod msgpack;
pub mod personal;
mod schema;
mod sent;
mod text;
mod types;
mod widen;

pub use declared::{DeclareError, Declared, MAX_DECLARED};
pub use decode::{Address, DecodeError, Decoded, RecordId, Records, Rejected, RowFault, Syntax, Told, decode};
pub use encode::{EncodeError, MsgpackRows, encode_arrays, encode_maps};
pub use fit::{can_overflow, fit, keep_rows, overflow_of};
pub use inflate::{Encoding, InflateError, claimed_size, inflate};
pub use ipc::{IpcError, from_ipc, inflated_len, to_ipc};
pub use limits::Limits;
pub use lines::{LineFormat, Lines, LinesError};
pub use schema::TableSchema;
pub use text::{bool_text, double_text};
pub use types::{ColumnType, OVERFLOW, Seen, TIME, field, seen_of, time_field};
pub use widen::{AdaptError, Missing, adapt, cast_field, widen};
