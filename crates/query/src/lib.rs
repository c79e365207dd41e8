//! Queries: SQL over one product's tables, in memory and in encrypted files, and over nothing else.
//!
//! Promise: a statement reads the tables it was handed and changes nothing. It reaches no file, no setting, no
//! environment and no other product; it keeps to its memory and time, writes nothing to disk, and stops within a
//! second of being told to. What opens files ends with the [`Lease`].
//!
//! Start at [`Engine::run`]; whoever writes rows anew reads files with [`OpenFile`]. What may be asked is in [`gate`]; how a table is read is in [`table`].
//! Knows DataFusion. Does not know who asks, where the tables come from or where results go.

mod adapt;
mod catalog;
mod constants;
mod engine;
mod error;
mod expansion;
mod file;
mod functions;
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod lease;
mod memory;
mod naming;
mod reader;
mod result;
mod session;
mod settings;
mod show;
mod steps;
mod stop;
mod table;
#[cfg(test)]
mod tests;
mod types;
mod view;

pub use engine::Engine;
pub use error::QueryError;
pub use file::{FileError, OpenFile, Rows};
pub use lease::{FooterRoom, Footers, Lease};
pub use result::QueryStream;
pub use settings::QuerySettings;
pub use types::engine_type;
pub use view::{DatabaseView, FileView, Held, ProductView, TableView};
