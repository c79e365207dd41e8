//! What ties a file to its place: product, table and file id.

use base::{ProductId, TableId};

/// What a file is tied to. Not a setting: no file, environment or handover can say anything but the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Binding {
    /// Product, table and file id.
    #[default]
    Place,
    /// Nothing: a broken twin, for showing that a proof finds out. Made by no code of the product.
    Nothing,
}

impl Binding {
    /// The same as [`aad_prefix`].
    pub fn aad_prefix(self, product: ProductId, table: TableId, file: &str) -> Vec<u8> {
        match self {
            Self::Place => aad_prefix(product, table, file),
            Self::Nothing => b"coffer/columns/1".to_vec(),
        }
    }

    /// The same as [`key_context`].
    pub fn key_context(self, product: ProductId, table: TableId, file: &str) -> Vec<u8> {
        match self {
            Self::Place => key_context(product, table, file),
            Self::Nothing => b"coffer/columns-key/1".to_vec(),
        }
    }
}

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
