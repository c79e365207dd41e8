//! Dropped databases and tables that can be brought back yet.
//!
//! A dropped table keeps everything but its name: files, columns, types and the batches that are known stand under its id, so to
//! bring it back is to give it a name again.

use base::{DatabaseName, TableId, TableName, Timestamp};
use sqlx::sqlite::SqlitePool;
use sqlx::{Row, Sqlite, Transaction};

use super::{CatalogError, TableRecord, moment, name, table_id, unsigned};

/// Made beside the others when they are not there yet.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS dropped (
    table_id BLOB NOT NULL PRIMARY KEY,
    number INTEGER NOT NULL UNIQUE,
    database TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    dropped_at INTEGER NOT NULL,
    with_database INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dropped_databases (
    name TEXT NOT NULL,
    dropped_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (name, dropped_at)
) STRICT, WITHOUT ROWID;
";

/// A dropped table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedTable {
    /// What it was.
    pub table: TableRecord,
    /// When it was dropped.
    pub dropped_at: Timestamp,
    /// Whether it went with its database.
    pub with_database: bool,
}

/// A dropped database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedDatabase {
    /// Its name.
    pub name: DatabaseName,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was dropped: no other of its name was at the same moment.
    pub dropped_at: Timestamp,
}

pub(super) async fn load(pool: &SqlitePool) -> Result<(Vec<DroppedTable>, Vec<DroppedDatabase>), CatalogError> {
    let mut tables = Vec::new();
    let statement = "SELECT table_id, number, database, name, created_at, dropped_at, with_database FROM dropped ORDER BY number";
    for row in sqlx::query(statement).fetch_all(pool).await? {
        tables.push(DroppedTable {
            table: TableRecord {
                id: table_id(&row, "table_id")?,
                number: unsigned(&row, "number")?,
                database: name(&row, "database")?,
                name: TableName::from_stored(&row.try_get::<String, _>("name")?).map_err(|_| CatalogError::Corrupt { what: "name" })?,
                created_at: moment(&row, "created_at")?,
                columns: Vec::new(),
            },
            dropped_at: moment(&row, "dropped_at")?,
            with_database: row.try_get::<i64, _>("with_database")? != 0,
        });
    }
    let mut databases = Vec::new();
    let statement = "SELECT name, dropped_at, created_at FROM dropped_databases ORDER BY name, dropped_at";
    for row in sqlx::query(statement).fetch_all(pool).await? {
        databases.push(DroppedDatabase {
            name: name(&row, "name")?,
            created_at: moment(&row, "created_at")?,
            dropped_at: moment(&row, "dropped_at")?,
        });
    }
    Ok((tables, databases))
}

pub(super) async fn drop_table(tx: &mut Transaction<'_, Sqlite>, table: TableId, at: Timestamp) -> Result<(), CatalogError> {
    sqlx::query(
        "INSERT INTO dropped (table_id, number, database, name, created_at, dropped_at, with_database)
         SELECT id, number, database, name, created_at, ?, 0 FROM tables WHERE id = ? ON CONFLICT DO NOTHING",
    )
    .bind(at.as_micros())
    .bind(&table.to_bytes()[..])
    .execute(&mut **tx)
    .await?;
    sqlx::query("DELETE FROM tables WHERE id = ?")
        .bind(&table.to_bytes()[..])
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub(super) async fn drop_database(tx: &mut Transaction<'_, Sqlite>, database: &DatabaseName, at: Timestamp) -> Result<(), CatalogError> {
    sqlx::query(
        "INSERT INTO dropped (table_id, number, database, name, created_at, dropped_at, with_database)
         SELECT id, number, database, name, created_at, ?, 1 FROM tables WHERE database = ? ON CONFLICT DO NOTHING",
    )
    .bind(at.as_micros())
    .bind(database.as_str())
    .execute(&mut **tx)
    .await?;
    sqlx::query(
        "INSERT INTO dropped_databases (name, dropped_at, created_at)
         SELECT name, ?, created_at FROM databases WHERE name = ? ON CONFLICT DO NOTHING",
    )
    .bind(at.as_micros())
    .bind(database.as_str())
    .execute(&mut **tx)
    .await?;
    for statement in ["DELETE FROM tables WHERE database = ?", "DELETE FROM databases WHERE name = ?"] {
        sqlx::query(statement).bind(database.as_str()).execute(&mut **tx).await?;
    }
    Ok(())
}

pub(super) async fn undrop_table(
    tx: &mut Transaction<'_, Sqlite>,
    table: TableId,
    database: &DatabaseName,
    name: &TableName,
) -> Result<(), CatalogError> {
    sqlx::query(
        "INSERT INTO tables (id, number, database, name, created_at)
         SELECT table_id, number, ?, ?, created_at FROM dropped WHERE table_id = ? ON CONFLICT DO NOTHING",
    )
    .bind(database.as_str())
    .bind(name.as_str())
    .bind(&table.to_bytes()[..])
    .execute(&mut **tx)
    .await?;
    forget(tx, table).await
}

pub(super) async fn undrop_database(
    tx: &mut Transaction<'_, Sqlite>,
    database: &DatabaseName,
    at: Timestamp,
    to: &DatabaseName,
) -> Result<(), CatalogError> {
    sqlx::query(
        "INSERT INTO databases (name, created_at)
         SELECT ?, created_at FROM dropped_databases WHERE name = ? AND dropped_at = ? ON CONFLICT DO NOTHING",
    )
    .bind(to.as_str())
    .bind(database.as_str())
    .bind(at.as_micros())
    .execute(&mut **tx)
    .await?;
    sqlx::query(
        "INSERT INTO tables (id, number, database, name, created_at)
         SELECT table_id, number, ?, name, created_at FROM dropped
         WHERE database = ? AND dropped_at = ? AND with_database = 1 ON CONFLICT DO NOTHING",
    )
    .bind(to.as_str())
    .bind(database.as_str())
    .bind(at.as_micros())
    .execute(&mut **tx)
    .await?;
    sqlx::query("DELETE FROM dropped WHERE database = ? AND dropped_at = ? AND with_database = 1")
        .bind(database.as_str())
        .bind(at.as_micros())
        .execute(&mut **tx)
        .await?;
    forget_database(tx, database, at).await
}

pub(super) async fn forget(tx: &mut Transaction<'_, Sqlite>, table: TableId) -> Result<(), CatalogError> {
    sqlx::query("DELETE FROM dropped WHERE table_id = ?")
        .bind(&table.to_bytes()[..])
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub(super) async fn forget_database(tx: &mut Transaction<'_, Sqlite>, database: &DatabaseName, at: Timestamp) -> Result<(), CatalogError> {
    sqlx::query("DELETE FROM dropped_databases WHERE name = ? AND dropped_at = ?")
        .bind(database.as_str())
        .bind(at.as_micros())
        .execute(&mut **tx)
        .await?;
    Ok(())
}
