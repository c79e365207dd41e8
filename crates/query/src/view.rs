//! What a query sees: a snapshot of one product's tables, handed in.

use std::any::Any;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use zones::ObjectName;

/// The databases that one query may see.
#[derive(Debug, Clone, Default)]
pub struct ProductView {
    /// Those within the caller's scope; no other exists for it.
    pub databases: Vec<DatabaseView>,
}

/// One database.
#[derive(Debug, Clone)]
pub struct DatabaseView {
    /// Its name.
    pub name: String,
    /// Its tables.
    pub tables: Vec<TableView>,
}

/// One table at one moment.
#[derive(Debug, Clone)]
pub struct TableView {
    /// Its name.
    pub name: String,
    /// Its present columns, `time` first, fields as the crate `events` makes them.
    pub schema: SchemaRef,
    /// Rows that are not in a file yet. Columns may be missing, or of an older and narrower type.
    pub memory: Vec<RecordBatch>,
    /// Files. Columns may be missing, or of an older and narrower type.
    pub files: Vec<FileView>,
}

/// What whoever made the view wants to be alive for as long as anything reads from it.
pub type Held = Arc<dyn Any + Send + Sync>;

/// One encrypted file.
#[derive(Debug, Clone)]
pub struct FileView {
    /// Where it is.
    pub object: ObjectName,
    /// How long it is.
    pub bytes: u64,
    /// How many rows it holds.
    pub rows: u64,
    /// The earliest `time` in it.
    pub time_min: i64,
    /// The latest `time` in it.
    pub time_max: i64,
    /// Rows of an earlier `time` are not shown, where it holds any.
    pub not_before: Option<i64>,
    /// Its key, sealed to the product.
    pub sealed_key: Vec<u8>,
    /// What every part of it is bound to.
    pub aad_prefix: Vec<u8>,
    /// What its key is sealed for.
    pub key_context: Vec<u8>,
    /// Let go when nothing reads the file any more.
    pub held: Held,
}
