//! One product's catalog: which databases, tables, columns, files and stored batches there are.
//!
//! A view in SQLite of what the journal says, with one transaction per change. It holds names, sizes, time ranges and sealed keys;
//! values of events never. Lost or damaged, it can be made again from the journal.

mod changes;
mod declared;
mod dropped;
mod objects;
mod rebuilt;
mod records;
mod retention;
mod swaps;
mod trims;
mod twin;

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use base::{DatabaseName, ErrorKind, TableId, TableName, Timestamp};
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous};
use sqlx::{Row, Sqlite, Transaction};
use zones::ObjectName;

pub use changes::Change;
pub use declared::DeclaredRecord;
pub use dropped::{DroppedDatabase, DroppedTable};
pub use rebuilt::{Rebuilt, RebuiltDay};
pub use records::RecordHash;
pub use retention::Retention;
pub use swaps::Swap;
pub use twin::{CatalogStore, MemoryCatalog};

const VERSION: i64 = 1;

const SCHEMA: &str = "
CREATE TABLE progress (
    only INTEGER NOT NULL PRIMARY KEY CHECK (only = 1),
    changed_upto INTEGER NOT NULL
) STRICT;
INSERT INTO progress (only, changed_upto) VALUES (1, 0);
CREATE TABLE databases (
    name TEXT NOT NULL PRIMARY KEY,
    created_at INTEGER NOT NULL
) STRICT;
CREATE TABLE tables (
    id BLOB NOT NULL PRIMARY KEY,
    number INTEGER NOT NULL UNIQUE,
    database TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (database, name)
) STRICT;
CREATE TABLE columns (
    table_id BLOB NOT NULL,
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    seen INTEGER NOT NULL,
    PRIMARY KEY (table_id, name)
) STRICT;
CREATE TABLE files (
    object TEXT NOT NULL PRIMARY KEY,
    table_id BLOB NOT NULL,
    file TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    row_count INTEGER NOT NULL,
    time_min INTEGER NOT NULL,
    time_max INTEGER NOT NULL,
    sealed_key BLOB NOT NULL
) STRICT;
CREATE INDEX files_by_table ON files (table_id);
CREATE TABLE batches (
    table_id BLOB NOT NULL,
    batch BLOB NOT NULL,
    stored_at INTEGER NOT NULL,
    PRIMARY KEY (table_id, batch)
) STRICT, WITHOUT ROWID;
";

/// Why the catalog could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The database failed.
    #[error("the catalog's database failed")]
    Database(#[from] sqlx::Error),
    /// A stored value is not what this version writes.
    #[error("the catalog holds a {what} that cannot be read")]
    Corrupt {
        /// What could not be read.
        what: &'static str,
    },
    /// A swap that begins from what the catalog does not say: it was made before, or files were swapped that whoever asks does not know of.
    #[error("the catalog says something else of the table's files than the change that was asked for begins from: {what}")]
    Stale {
        /// What is not as it was taken to be.
        what: &'static str,
    },
    /// Written by a newer version of Coffer.
    #[error(
        "the catalog was written by a newer version of Coffer (format {found}, this one knows up to {VERSION}): use that version, or a newer one"
    )]
    TooNew {
        /// The format found.
        found: i64,
    },
}

impl CatalogError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Database(_) => ErrorKind::Unavailable,
            Self::Corrupt { .. } | Self::TooNew { .. } => ErrorKind::Corrupt,
            Self::Stale { .. } => ErrorKind::Conflict,
        }
    }
}

/// The id of one stored batch within its table: a keyed hash of the sender's id, or random where there was none.
pub type BatchHash = [u8; 16];

/// A database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseRecord {
    /// Its name.
    pub name: DatabaseName,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRecord {
    /// Its id: another one when a table of that name is made again.
    pub id: TableId,
    /// A small number, unique in the product, for clients that want one.
    pub number: u64,
    /// The database it is in.
    pub database: DatabaseName,
    /// Its name.
    pub name: TableName,
    /// When it was made.
    pub created_at: Timestamp,
    /// Columns in the order of their discovery, each with its `seen` bits; without `time`.
    pub columns: Vec<(String, u8)>,
}

/// A Parquet file of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRecord {
    /// Where it is in the zones.
    pub object: ObjectName,
    /// The table it belongs to.
    pub table: TableId,
    /// The file's own id, bound into its encryption.
    pub file: String,
    /// Size in one zone.
    pub bytes: u64,
    /// Rows.
    pub rows: u64,
    /// Smallest `time`, seconds since the epoch.
    pub time_min: i64,
    /// Largest `time`, seconds since the epoch.
    pub time_max: i64,
    /// The file's key, sealed to the product.
    pub sealed_key: Vec<u8>,
}

/// Everything a catalog holds but the stored batches, which are looked up one by one.
#[derive(Debug, Default)]
pub struct Contents {
    /// All databases.
    pub databases: Vec<DatabaseRecord>,
    /// All tables.
    pub tables: Vec<TableRecord>,
    /// All files.
    pub files: Vec<FileRecord>,
    /// What is declared of tables.
    pub declared: Vec<DeclaredRecord>,
    /// Tables that were dropped and can be brought back. Their columns, files and types are among the others.
    pub dropped: Vec<DroppedTable>,
    /// Databases in the same case.
    pub dropped_databases: Vec<DroppedDatabase>,
    /// How long rows are kept, of tables of which something is said.
    pub retention: Vec<(TableId, Retention)>,
    /// Tables that have rows in files whose raw log was let go.
    pub raw_gone: Vec<TableId>,
    /// Changes to databases and tables in segments of the journal before this number are in the catalog already.
    pub changed_upto: u64,
}

/// One product's catalog.
#[derive(Debug, Clone)]
pub struct Catalog {
    pool: SqlitePool,
}

impl Catalog {
    /// Opens the catalog at `path`, making it if it is not there.
    pub async fn open(path: &Path) -> Result<Self, CatalogError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5));
        // One connection: the warehouse is the only one who ever opens this file, and one writer needs no retries.
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            // What a full disk broke off can leave a transaction behind that never ends, and that all others would wait for.
            .after_release(|connection, _| {
                Box::pin(async move {
                    connection.ping().await?;
                    Ok(!connection.is_in_transaction())
                })
            })
            .connect_with(options)
            .await?;
        let version: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&pool).await?;
        match version {
            0 => {
                let mut tx = pool.begin().await?;
                sqlx::raw_sql(SCHEMA).execute(&mut *tx).await?;
                sqlx::raw_sql("PRAGMA user_version = 1").execute(&mut *tx).await?;
                tx.commit().await?;
            }
            VERSION => {}
            found => return Err(CatalogError::TooNew { found }),
        }
        sqlx::raw_sql(records::SCHEMA).execute(&pool).await?;
        sqlx::raw_sql(declared::SCHEMA).execute(&pool).await?;
        sqlx::raw_sql(objects::SCHEMA).execute(&pool).await?;
        sqlx::raw_sql(dropped::SCHEMA).execute(&pool).await?;
        sqlx::raw_sql(retention::SCHEMA).execute(&pool).await?;
        sqlx::raw_sql(trims::SCHEMA).execute(&pool).await?;
        Ok(Self { pool })
    }

    /// Opens one that is there, to look at and not to change; whoever keeps it may go on meanwhile.
    pub async fn look(path: &Path) -> Result<Self, CatalogError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .read_only(true)
            .busy_timeout(Duration::from_secs(10));
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
        match sqlx::query_scalar("PRAGMA user_version").fetch_one(&pool).await? {
            VERSION => Ok(Self { pool }),
            found => Err(CatalogError::TooNew { found }),
        }
    }

    /// The next files after an object, by its name: all files of a catalog, some at a time.
    pub async fn files_after(&self, object: &str, count: u32) -> Result<Vec<FileRecord>, CatalogError> {
        let files = "SELECT object, table_id, file, bytes, row_count, time_min, time_max, sealed_key FROM files WHERE object > ? \
                     ORDER BY object LIMIT ?";
        let rows = sqlx::query(files).bind(object).bind(i64::from(count)).fetch_all(&self.pool).await?;
        rows.iter().map(file_record).collect()
    }

    /// Whether a file is in the catalog yet.
    pub async fn has_file(&self, object: &ObjectName) -> Result<bool, CatalogError> {
        let there: Option<i64> = sqlx::query_scalar("SELECT 1 FROM files WHERE object = ?")
            .bind(object.as_str())
            .fetch_optional(&self.pool)
            .await?;
        Ok(there.is_some())
    }

    /// The pool, for the tables that the role itself keeps beside the catalog.
    pub fn pool(&self) -> &SqlitePool {
        &self.pool
    }

    /// Reads everything but the batches.
    pub async fn load(&self) -> Result<Contents, CatalogError> {
        let upto: i64 = sqlx::query_scalar("SELECT changed_upto FROM progress")
            .fetch_one(&self.pool)
            .await?;
        let mut contents = Contents {
            changed_upto: u64::try_from(upto).unwrap_or(0),
            ..Contents::default()
        };
        for row in sqlx::query("SELECT name, created_at FROM databases ORDER BY name")
            .fetch_all(&self.pool)
            .await?
        {
            contents.databases.push(DatabaseRecord {
                name: name(&row, "name")?,
                created_at: moment(&row, "created_at")?,
            });
        }
        for row in sqlx::query("SELECT id, number, database, name, created_at FROM tables ORDER BY number")
            .fetch_all(&self.pool)
            .await?
        {
            contents.tables.push(TableRecord {
                id: table_id(&row, "id")?,
                number: unsigned(&row, "number")?,
                database: name(&row, "database")?,
                name: TableName::from_stored(&row.try_get::<String, _>("name")?).map_err(|_| CatalogError::Corrupt { what: "name" })?,
                created_at: moment(&row, "created_at")?,
                columns: Vec::new(),
            });
        }
        (contents.dropped, contents.dropped_databases) = dropped::load(&self.pool).await?;
        let dropped = contents.dropped.iter_mut().map(|dropped| &mut dropped.table);
        let mut places: HashMap<TableId, &mut TableRecord> =
            contents.tables.iter_mut().chain(dropped).map(|table| (table.id, table)).collect();
        for row in sqlx::query("SELECT table_id, name, seen FROM columns ORDER BY table_id, position")
            .fetch_all(&self.pool)
            .await?
        {
            let id = table_id(&row, "table_id")?;
            let seen = u8::try_from(row.try_get::<i64, _>("seen")?).map_err(|_| CatalogError::Corrupt { what: "column" })?;
            if let Some(table) = places.get_mut(&id) {
                table.columns.push((row.try_get("name")?, seen));
            }
        }
        let files = "SELECT object, table_id, file, bytes, row_count, time_min, time_max, sealed_key FROM files ORDER BY time_min, object";
        for row in sqlx::query(files).fetch_all(&self.pool).await? {
            contents.files.push(file_record(&row)?);
        }
        contents.declared = declared::load(&self.pool).await?;
        contents.retention = retention::load(&self.pool).await?;
        contents.raw_gone = trims::load_raw_gone(&self.pool).await?;
        Ok(contents)
    }

    /// Makes a database, as segment `sequence` of the journal says; one that is there already stays as it is.
    pub async fn create_database(&self, database: &DatabaseRecord, sequence: u64) -> Result<(), CatalogError> {
        let mut change = self.change(sequence).await?;
        change.create_database(database).await?;
        change.commit().await
    }

    /// Deletes a database with its tables, as segment `sequence` says. Returns the objects that no table needs any more: they are condemned.
    pub async fn delete_database(&self, database: &DatabaseName, sequence: u64) -> Result<Vec<ObjectName>, CatalogError> {
        let mut change = self.change(sequence).await?;
        let objects = change.delete_database(database).await?;
        change.commit().await.map(|()| objects)
    }

    /// Makes a table, as segment `sequence` says; one that is there already stays as it is.
    pub async fn create_table(&self, table: &TableRecord, sequence: u64) -> Result<(), CatalogError> {
        let mut change = self.change(sequence).await?;
        change.create_table(table).await?;
        change.commit().await
    }

    /// Deletes a table, as segment `sequence` says. Returns the objects that nothing needs any more: they are condemned.
    pub async fn delete_table(&self, table: TableId, sequence: u64) -> Result<Vec<ObjectName>, CatalogError> {
        let mut change = self.change(sequence).await?;
        let objects = change.delete_table(table).await?;
        change.commit().await.map(|()| objects)
    }

    /// Whether a batch is in the table's files already.
    pub async fn is_covered(&self, table: TableId, batch: &BatchHash) -> Result<bool, CatalogError> {
        let found: Option<i64> = sqlx::query_scalar("SELECT 1 FROM batches WHERE table_id = ? AND batch = ?")
            .bind(&table.to_bytes()[..])
            .bind(&batch[..])
            .fetch_optional(&self.pool)
            .await?;
        Ok(found.is_some())
    }

    /// Closes the database; changes after this fail.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Notes that the changes of segment `sequence` are in the catalog, in the transaction that makes them.
async fn changed(tx: &mut Transaction<'_, Sqlite>, sequence: u64) -> Result<(), CatalogError> {
    sqlx::query("UPDATE progress SET changed_upto = max(changed_upto, ?)")
        .bind(signed(sequence + 1))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn forget_table(tx: &mut Transaction<'_, Sqlite>, table: TableId) -> Result<Vec<ObjectName>, CatalogError> {
    let id = table.to_bytes();
    let rows = sqlx::query("SELECT object FROM files WHERE table_id = ?")
        .bind(&id[..])
        .fetch_all(&mut **tx)
        .await?;
    let mut objects = rows.iter().map(|row| name(row, "object")).collect::<Result<Vec<_>, _>>()?;
    objects.extend(objects::staged(tx, table).await?);
    declared::forget(tx, table).await?;
    for statement in [
        "DELETE FROM files WHERE table_id = ?",
        "DELETE FROM columns WHERE table_id = ?",
        "DELETE FROM batches WHERE table_id = ?",
        "DELETE FROM records WHERE table_id = ?",
        "DELETE FROM left_out WHERE table_id = ?",
        "DELETE FROM tables WHERE id = ?",
    ] {
        sqlx::query(statement).bind(&id[..]).execute(&mut **tx).await?;
    }
    objects::condemn(tx, &objects).await?;
    Ok(objects)
}

fn file_record(row: &SqliteRow) -> Result<FileRecord, CatalogError> {
    Ok(FileRecord {
        object: name(row, "object")?,
        table: table_id(row, "table_id")?,
        file: row.try_get("file")?,
        bytes: unsigned(row, "bytes")?,
        rows: unsigned(row, "row_count")?,
        time_min: row.try_get("time_min")?,
        time_max: row.try_get("time_max")?,
        sealed_key: row.try_get("sealed_key")?,
    })
}

fn name<T: std::str::FromStr>(row: &SqliteRow, column: &'static str) -> Result<T, CatalogError> {
    row.try_get::<String, _>(column)?
        .parse()
        .map_err(|_| CatalogError::Corrupt { what: column })
}

fn table_id(row: &SqliteRow, column: &'static str) -> Result<TableId, CatalogError> {
    TableId::try_from(row.try_get::<Vec<u8>, _>(column)?.as_slice()).map_err(|_| CatalogError::Corrupt { what: "table id" })
}

fn moment(row: &SqliteRow, column: &'static str) -> Result<Timestamp, CatalogError> {
    Ok(Timestamp::from_micros(row.try_get(column)?))
}

fn unsigned(row: &SqliteRow, column: &'static str) -> Result<u64, CatalogError> {
    u64::try_from(row.try_get::<i64, _>(column)?).map_err(|_| CatalogError::Corrupt { what: column })
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
