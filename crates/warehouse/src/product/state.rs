//! What is known of a product at this moment.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use base::{DatabaseName, TableId, TableName, Timestamp};
use columns::catalog::{BatchHash, FileRecord, RecordHash, Retention, TableRecord};
use events::{ColumnType, Declared, Seen, TableSchema};
use journal::Segment;
use tokio::sync::Notify;

use super::drop::Dropped;
use super::records::Records;
use super::shape::Shaped;
use crate::entries::RowsHeader;
use crate::memory::Charge;

/// Databases, tables, and where their rows are.
#[derive(Default)]
pub(super) struct State {
    /// When each database was made.
    pub(super) databases: BTreeMap<DatabaseName, Timestamp>,
    /// When those that were dropped were made: by name and when they were dropped.
    pub(super) dropped_databases: BTreeMap<(DatabaseName, Timestamp), Timestamp>,
    /// All tables, dropped ones among them: those have no name.
    pub(super) tables: HashMap<TableId, Table>,
    /// Their names.
    pub(super) names: BTreeMap<(DatabaseName, TableName), TableId>,
    /// Batches in the journal from before this start that are in no file and not read back yet.
    pub(super) sealed: Vec<SealedBatch>,
    /// The largest table number given.
    pub(super) last_number: u64,
}

/// One table.
pub(super) struct Table {
    pub(super) id: TableId,
    pub(super) number: u64,
    pub(super) database: DatabaseName,
    pub(super) name: TableName,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
    /// Set where it was dropped and can be brought back.
    pub(super) dropped: Option<Dropped>,
    /// How long its rows are kept.
    pub(super) retention: Retention,
    /// Whether rows of it are in files whose raw log was let go.
    pub(super) raw_gone: bool,
    /// The columns as queries see them and files hold them, in all rows alike.
    pub(super) schema: TableSchema,
    /// What was declared last. Where it is not what the schema shows, the rows have to be read again.
    pub(super) declared: Arc<Declared>,
    /// Rows that are in the journal and in no file, in the order of their acknowledgement.
    pub(super) memory: Vec<MemoryPart>,
    /// How many batches were put there since the start.
    pub(super) shown: u64,
    pub(super) files: Vec<Arc<FileRecord>>,
    /// Batches that are in memory or sealed. Those in files are in the catalog.
    pub(super) known: HashSet<BatchHash>,
    /// Batches on their way into the journal, and who waits for them.
    pub(super) under_way: HashMap<BatchHash, Arc<Notify>>,
    /// Records that came with an id of their own.
    pub(super) records: Records,
}

/// The rows of one batch.
#[derive(Clone)]
pub(super) struct MemoryPart {
    pub(super) batch: BatchHash,
    /// The ids of those rows that came with one.
    pub(super) records: Arc<[RecordHash]>,
    /// Which rows of the batch in the journal these are, where they are not all.
    pub(super) keep: Option<Arc<[bool]>>,
    pub(super) shaped: Shaped,
    /// For the memory of its rows.
    pub(super) charge: Arc<Charge>,
    pub(super) since: Timestamp,
}

/// A batch in the journal that was not opened since the start.
#[derive(Clone)]
pub(super) struct SealedBatch {
    pub(super) segment: Arc<Segment>,
    /// Which of the segment's entries.
    pub(super) entry: usize,
    pub(super) header: RowsHeader,
    /// Which of its rows are stored elsewhere already, when some are: false for those.
    pub(super) keep: Option<Vec<bool>>,
}

/// What a list of databases says of one.
pub(crate) struct DatabaseSummary {
    pub(crate) name: DatabaseName,
    pub(crate) rows: u64,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

/// What a list of tables says of one.
pub(crate) struct TableSummary {
    pub(crate) number: u64,
    pub(crate) name: TableName,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) last_event_at: i64,
    pub(crate) columns: Vec<(String, ColumnType)>,
    pub(crate) declared: Arc<Declared>,
    pub(crate) retention: Retention,
    /// Whether rows are yet to be read again under what is declared.
    pub(crate) is_changing: bool,
}

impl Table {
    pub(super) fn new(record: TableRecord) -> Self {
        let mut schema = TableSchema::new();
        for (name, seen) in &record.columns {
            schema.insert(name, Seen::from_bits(*seen).unwrap_or_default());
        }
        Self {
            id: record.id,
            number: record.number,
            database: record.database,
            name: record.name,
            created_at: record.created_at,
            updated_at: record.created_at,
            dropped: None,
            retention: Retention::default(),
            raw_gone: false,
            schema,
            declared: Arc::default(),
            memory: Vec::new(),
            shown: 0,
            files: Vec::new(),
            known: HashSet::new(),
            under_way: HashMap::new(),
            records: Records::default(),
        }
    }

    /// The columns as the catalog keeps them.
    pub(super) fn stored_columns(&self) -> Vec<(String, u8)> {
        self.schema
            .discovered()
            .map(|(name, seen)| (name.to_owned(), seen.bits()))
            .collect()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.memory.iter().map(|part| part.charge.bytes()).sum()
    }
}

impl State {
    pub(super) fn table(&self, database: &DatabaseName, name: &TableName) -> Option<&Table> {
        self.names.get(&(database.clone(), name.clone())).and_then(|id| self.tables.get(id))
    }

    pub(super) fn tables_of<'a>(&'a self, database: &'a DatabaseName) -> impl Iterator<Item = &'a Table> {
        self.names
            .iter()
            .filter(move |((of, _), _)| of == database)
            .filter_map(|(_, id)| self.tables.get(id))
    }

    /// The tables that senders made: without those beside them that hold what could not be rows.
    pub(super) fn listed<'a>(&'a self, database: &'a DatabaseName) -> impl Iterator<Item = &'a Table> {
        self.tables_of(database).filter(|table| table.name.of_aside().is_none())
    }

    /// Takes in a table; one of that id stays as it is.
    pub(super) fn insert_table(&mut self, table: Table) {
        self.last_number = self.last_number.max(table.number);
        if !self.tables.contains_key(&table.id) {
            if table.dropped.is_none() {
                self.names.insert((table.database.clone(), table.name.clone()), table.id);
            }
            self.tables.insert(table.id, table);
        }
    }

    /// Takes a table away, and gives back the memory of its rows.
    pub(super) fn remove_table(&mut self, id: TableId) {
        self.sealed.retain(|batch| batch.header.table != id);
        let Some(table) = self.tables.remove(&id) else { return };
        // A table made again under the same name has another id: its name must stay.
        let key = (table.database.clone(), table.name.clone());
        if self.names.get(&key) == Some(&id) {
            self.names.remove(&key);
        }
        for waiting in table.under_way.values() {
            waiting.notify_waiters();
        }
        table.records.wake();
    }

    /// Takes a database and its tables away.
    pub(super) fn remove_database(&mut self, name: &DatabaseName) {
        self.databases.remove(name);
        let ids: Vec<TableId> = self.tables_of(name).map(|table| table.id).collect();
        ids.into_iter().for_each(|id| self.remove_table(id));
    }

    /// Of a database that exists.
    pub(super) fn database_summary(&self, name: &DatabaseName) -> DatabaseSummary {
        let created_at = self.databases.get(name).copied().unwrap_or_default();
        let tables = || self.listed(name);
        DatabaseSummary {
            name: name.clone(),
            rows: tables().map(|table| self.rows(table)).sum(),
            created_at,
            updated_at: tables().map(|table| table.updated_at).max().unwrap_or(created_at),
        }
    }

    pub(super) fn table_summary(&self, table: &Table) -> TableSummary {
        let sealed = self.sealed.iter().filter(|batch| batch.header.table == table.id);
        let newest_sealed = sealed.map(|batch| batch.header.time_max).max();
        let newest_file = table.files.iter().map(|file| file.time_max).max();
        let newest_row = table.memory.iter().filter_map(|part| newest(&part.shaped.rows)).max();
        TableSummary {
            number: table.number,
            name: table.name.clone(),
            rows: self.rows(table),
            bytes: table.files.iter().map(|file| file.bytes).sum(),
            created_at: table.created_at,
            updated_at: table.updated_at,
            last_event_at: newest_sealed.max(newest_file).max(newest_row).unwrap_or(0),
            columns: table
                .schema
                .columns_under(&table.declared)
                .map(|(name, column_type)| (name.to_owned(), column_type))
                .collect(),
            declared: Arc::clone(&table.declared),
            retention: table.retention,
            is_changing: table.is_changing(),
        }
    }

    pub(super) fn rows(&self, table: &Table) -> u64 {
        let files: u64 = table.files.iter().map(|file| file.rows).sum();
        let memory: u64 = table.memory.iter().map(|part| part.shaped.rows.num_rows() as u64).sum();
        let sealed: u64 = self
            .sealed
            .iter()
            .filter(|batch| batch.header.table == table.id)
            .map(|batch| batch.header.rows)
            .sum();
        files + memory + sealed
    }
}

/// The smallest and the largest `time` of a batch; `None` without rows.
pub(super) fn time_range(rows: &RecordBatch) -> Option<(i64, i64)> {
    let time = rows
        .column_by_name(events::TIME)?
        .as_any()
        .downcast_ref::<arrow::array::Int64Array>()?;
    Some((time.iter().flatten().min()?, time.iter().flatten().max()?))
}

fn newest(rows: &RecordBatch) -> Option<i64> {
    time_range(rows).map(|(_, newest)| newest)
}
