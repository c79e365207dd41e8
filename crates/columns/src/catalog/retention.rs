//! How long the rows of tables are kept, and files that were let go by that.

use base::TableId;
use sqlx::sqlite::SqlitePool;
use sqlx::{Sqlite, Transaction};
use zones::ObjectName;

use super::{Catalog, CatalogError, objects, table_id, unsigned};

/// Made beside the others when it is not there yet.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS retention (
    table_id BLOB NOT NULL PRIMARY KEY,
    keep INTEGER NOT NULL,
    keep_raw INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

/// How long rows are kept, in seconds; 0 for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// In answers and in files, from their `time` on.
    pub keep: u64,
    /// In the raw log, from when they came.
    pub keep_raw: u64,
}

impl Catalog {
    /// Takes files off a table whose rows are all older than it keeps them. They are condemned.
    pub async fn expire(&self, table: TableId, old: &[ObjectName]) -> Result<(), CatalogError> {
        let mut tx = self.pool.begin().await?;
        for object in old {
            sqlx::query("DELETE FROM files WHERE table_id = ? AND object = ?")
                .bind(&table.to_bytes()[..])
                .bind(object.as_str())
                .execute(&mut *tx)
                .await?;
        }
        objects::condemn(&mut tx, old).await?;
        tx.commit().await?;
        Ok(())
    }
}

pub(super) async fn load(pool: &SqlitePool) -> Result<Vec<(TableId, Retention)>, CatalogError> {
    let rows = sqlx::query("SELECT table_id, keep, keep_raw FROM retention")
        .fetch_all(pool)
        .await?;
    let one = |row: &sqlx::sqlite::SqliteRow| {
        let retention = Retention {
            keep: unsigned(row, "keep")?,
            keep_raw: unsigned(row, "keep_raw")?,
        };
        Ok((table_id(row, "table_id")?, retention))
    };
    rows.iter().map(one).collect()
}

pub(super) async fn put(tx: &mut Transaction<'_, Sqlite>, table: TableId, retention: Retention) -> Result<(), CatalogError> {
    forget(tx, table).await?;
    if retention == Retention::default() {
        return Ok(());
    }
    sqlx::query("INSERT INTO retention (table_id, keep, keep_raw) VALUES (?, ?, ?)")
        .bind(&table.to_bytes()[..])
        .bind(super::signed(retention.keep))
        .bind(super::signed(retention.keep_raw))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub(super) async fn forget(tx: &mut Transaction<'_, Sqlite>, table: TableId) -> Result<(), CatalogError> {
    sqlx::query("DELETE FROM retention WHERE table_id = ?")
        .bind(&table.to_bytes()[..])
        .execute(&mut **tx)
        .await?;
    Ok(())
}
