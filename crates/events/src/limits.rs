//! How much one batch may be.

use serde::{Deserialize, Serialize};

/// Caps on what comes from outside. Each has an error of its own that says what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of a request's body as sent. For whoever reads the body.
    pub max_body: usize,
    /// Bytes of a body once inflated.
    pub max_inflated: usize,
    /// Bytes of one row.
    pub max_row: usize,
    /// How deep arrays and maps may nest inside a row.
    pub max_depth: usize,
    /// Keys in one map.
    pub max_keys: usize,
    /// Bytes of one column's name.
    pub max_name: usize,
    /// Different columns in one batch.
    pub max_columns: usize,
    /// Rows in one batch.
    pub max_rows: usize,
    /// Rows times columns in one batch, empty cells included: what the batch takes in memory.
    pub max_cells: usize,
    /// Bytes of all texts of one batch, after numbers and nested values became text. Never more than 1 GiB.
    pub max_text: usize,
    /// What of one batch cannot be rows and is handed back: so many, ...
    pub max_rejected: usize,
    /// ... and so many bytes of it.
    pub max_rejected_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body: 128 << 20,
            max_inflated: 512 << 20,
            max_row: 1 << 20,
            max_depth: 32,
            max_keys: 1_000,
            max_name: 512,
            max_columns: 10_000,
            max_rows: 8_000_000,
            max_cells: 96_000_000,
            max_text: 512 << 20,
            max_rejected: 100_000,
            max_rejected_bytes: 24 << 20,
        }
    }
}
