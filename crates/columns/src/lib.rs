//! Columns: encrypted Parquet files, and the catalog that says which of them make a table.
//!
//! Promise: a file opens only with its own key and for its own product, table and name; moved, renamed or changed
//! it does not open at all. Nothing of its contents, statistics included, is readable without the key.
//!
//! Start at [`write()`], or [`FileWriter`] where there is more than fits into memory, and [`load_footer`]; files are merged with [`merge`]. The catalog is in [`catalog`]; files of other people's, without keys, in [`plain`].
//! Knows Arrow, Parquet and zones. Does not know SQL, who asks, or how keys are leased.

mod binding;
pub mod catalog;
mod digest;
mod footer;
pub mod merge;
mod order;
pub mod plain;
mod read_back;
mod write;

pub use binding::{Binding, aad_prefix, key_context};
pub use digest::{DIGEST_VERSION, Digest, DigestError, DigestKey, Part};
pub use footer::{FooterError, load_footer};
pub use order::{InOrder, OrderError};
pub use read_back::{ReadBackError, read_back};
pub use write::{
    BYTES_PER_GROUP, Contents, FileWriter, ROWS_PER_GROUP, WriteError, WrittenFile, bytes_of, memory_of_columns, write, write_in_order,
};
#[cfg(test)]
mod tests;
