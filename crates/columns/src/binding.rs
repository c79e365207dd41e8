//! What ties a file to its place: product, table and file id.

use base::{ProductId, TableId};

/// The prefix of the associated data of every part of a file.
///
/// Given from outside and never stored, so that a file under another name, table or product does not open.
pub fn aad_prefix(product: ProductId, table: TableId, file: &str) -> Vec<u8> {
    place("coffer/columns/1", product, table, file)
}

/// The context that a file's key is sealed for.
pub fn key_context(product: ProductId, table: TableId, file: &str) -> Vec<u8> {
    place("coffer/columns-key/1", product, table, file)
}

// Invariant: the file id comes last, as it alone may hold any character; the parts before it have no slash.
fn place(what: &str, product: ProductId, table: TableId, file: &str) -> Vec<u8> {
    format!("{what}/{product}/{table}/{file}").into_bytes()
}
