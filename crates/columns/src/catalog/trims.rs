//! That the raw log may hold what went for good, noted until it was looked through to its end; and which tables' raw logs were let go in
//! part.
//!
//! Promise: the first is noted in the transaction by which a table goes, the second before anything is let go, so no start that reads only
//! the end of the journal misses either.

use base::TableId;
use sqlx::sqlite::SqlitePool;
use sqlx::{Sqlite, Transaction};

use super::{Catalog, CatalogError, signed, table_id, unsigned};

/// Made beside the others when they are not there yet. Of a catalog from before these, nobody knows: the raw log is looked through once.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS trims (
    only INTEGER NOT NULL PRIMARY KEY CHECK (only = 1),
    wanted INTEGER NOT NULL,
    done INTEGER NOT NULL
) STRICT;
INSERT OR IGNORE INTO trims (only, wanted, done) VALUES (1, 1, 0);
CREATE TABLE IF NOT EXISTS raw_gone (
    table_id BLOB NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;
";

impl Catalog {
    /// How often trimming was wanted so far, if it was not done since: to be handed to [`trimmed`](Self::trimmed).
    pub async fn wanted_trim(&self) -> Result<Option<u64>, CatalogError> {
        let row = sqlx::query("SELECT wanted, done FROM trims").fetch_one(&self.pool).await?;
        let (wanted, done) = (unsigned(&row, "wanted")?, unsigned(&row, "done")?);
        Ok(Some(wanted).filter(|wanted| *wanted > done))
    }

    /// Notes that trimming begins: until it was done, a start looks through the raw log again.
    pub async fn want_trim(&self) -> Result<(), CatalogError> {
        let mut tx = self.pool.begin().await?;
        want(&mut tx).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Whatever was wanted by then is trimmed, and no object of an earlier form is left.
    pub async fn trimmed(&self, wanted: u64) -> Result<(), CatalogError> {
        sqlx::query("UPDATE trims SET done = max(done, ?)")
            .bind(signed(wanted))
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Notes that rows of a table are in files whose raw log is let go from now on.
    pub async fn let_raw_go(&self, table: TableId) -> Result<(), CatalogError> {
        sqlx::query("INSERT INTO raw_gone (table_id) VALUES (?) ON CONFLICT DO NOTHING")
            .bind(&table.to_bytes()[..])
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

pub(super) async fn want(tx: &mut Transaction<'_, Sqlite>) -> Result<(), CatalogError> {
    sqlx::query("UPDATE trims SET wanted = wanted + 1").execute(&mut **tx).await?;
    Ok(())
}

pub(super) async fn load_raw_gone(pool: &SqlitePool) -> Result<Vec<TableId>, CatalogError> {
    let rows = sqlx::query("SELECT table_id FROM raw_gone").fetch_all(pool).await?;
    rows.iter().map(|row| table_id(row, "table_id")).collect()
}

/// Of a table that went for good.
pub(super) async fn forget(tx: &mut Transaction<'_, Sqlite>, table: TableId) -> Result<(), CatalogError> {
    sqlx::query("DELETE FROM raw_gone WHERE table_id = ?")
        .bind(&table.to_bytes()[..])
        .execute(&mut **tx)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn trimming_is_wanted_until_it_was_done_since() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("catalog.db");
        let catalog = Catalog::open(&path).await.unwrap();
        let first = catalog.wanted_trim().await.unwrap().unwrap();
        let mut change = catalog.change(1).await.unwrap();
        change.delete_table(TableId::from_bytes([7; 16])).await.unwrap();
        change.commit().await.unwrap();
        catalog.trimmed(first).await.unwrap();
        catalog.close().await;

        let catalog = Catalog::open(&path).await.unwrap();
        let second = catalog.wanted_trim().await.unwrap();
        assert_eq!(second, Some(first + 1), "a table went while others were trimmed");
        catalog.trimmed(first + 1).await.unwrap();
        assert_eq!(catalog.wanted_trim().await.unwrap(), None);
        let table = TableId::from_bytes([8; 16]);
        catalog.let_raw_go(table).await.unwrap();
        assert_eq!(catalog.load().await.unwrap().raw_gone, [table]);
    }
}
