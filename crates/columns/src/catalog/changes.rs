//! What the journal says of databases and tables, made in the catalog: all that one segment says, in one transaction.

use base::{DatabaseName, TableId, TableName, Timestamp};
use events::ColumnType;
use sqlx::{Sqlite, Transaction};
use zones::ObjectName;

use super::{
    Catalog, CatalogError, DatabaseRecord, Retention, TableRecord, changed, declared, dropped, forget_table, retention, signed, table_id,
    trims,
};

/// The changes of one segment, none of which is made before [`commit`](Self::commit). Each of them made again does nothing.
#[derive(Debug)]
pub struct Change {
    tx: Transaction<'static, Sqlite>,
}

impl Catalog {
    /// Begins the changes of segment `sequence` of the journal.
    pub async fn change(&self, sequence: u64) -> Result<Change, CatalogError> {
        let mut tx = self.pool.begin().await?;
        changed(&mut tx, sequence).await?;
        Ok(Change { tx })
    }
}

impl Change {
    /// Makes them.
    pub async fn commit(self) -> Result<(), CatalogError> {
        Ok(self.tx.commit().await?)
    }

    /// Makes a database; one that is there already stays as it is.
    pub async fn create_database(&mut self, database: &DatabaseRecord) -> Result<(), CatalogError> {
        sqlx::query("INSERT INTO databases (name, created_at) VALUES (?, ?) ON CONFLICT DO NOTHING")
            .bind(database.name.as_str())
            .bind(database.created_at.as_micros())
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// Makes a table; one that is there already stays as it is.
    pub async fn create_table(&mut self, table: &TableRecord) -> Result<(), CatalogError> {
        sqlx::query("INSERT INTO tables (id, number, database, name, created_at) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING")
            .bind(&table.id.to_bytes()[..])
            .bind(signed(table.number))
            .bind(table.database.as_str())
            .bind(table.name.as_str())
            .bind(table.created_at.as_micros())
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// Declares columns in place of those declared before. Of a table that is not there, nothing is kept.
    pub async fn declare(&mut self, table: TableId, columns: &[(String, ColumnType)]) -> Result<(), CatalogError> {
        let there: Option<i64> =
            sqlx::query_scalar("SELECT 1 FROM tables WHERE id = ?1 UNION ALL SELECT 1 FROM dropped WHERE table_id = ?1")
                .bind(&table.to_bytes()[..])
                .fetch_optional(&mut *self.tx)
                .await?;
        if there.is_some() {
            declared::put(&mut self.tx, table, false, columns).await?;
        }
        Ok(())
    }

    /// Deletes a database for good, with the tables that are in it. Returns their objects, which are condemned.
    pub async fn delete_database(&mut self, database: &DatabaseName) -> Result<Vec<ObjectName>, CatalogError> {
        let mut objects = Vec::new();
        for row in sqlx::query("SELECT id FROM tables WHERE database = ?")
            .bind(database.as_str())
            .fetch_all(&mut *self.tx)
            .await?
        {
            objects.extend(self.delete_table(table_id(&row, "id")?).await?);
        }
        sqlx::query("DELETE FROM databases WHERE name = ?")
            .bind(database.as_str())
            .execute(&mut *self.tx)
            .await?;
        Ok(objects)
    }

    /// Deletes a table for good, dropped or not. Returns its objects, which are condemned.
    pub async fn delete_table(&mut self, table: TableId) -> Result<Vec<ObjectName>, CatalogError> {
        let objects = forget_table(&mut self.tx, table).await?;
        dropped::forget(&mut self.tx, table).await?;
        retention::forget(&mut self.tx, table).await?;
        trims::forget(&mut self.tx, table).await?;
        trims::want(&mut self.tx).await?;
        Ok(objects)
    }

    /// Keeps a table's rows for so long.
    pub async fn keep(&mut self, table: TableId, retention: Retention) -> Result<(), CatalogError> {
        retention::put(&mut self.tx, table, retention).await
    }

    /// Sets a table aside: its name is free, all else stays.
    pub async fn drop_table(&mut self, table: TableId, at: Timestamp) -> Result<(), CatalogError> {
        dropped::drop_table(&mut self.tx, table, at).await
    }

    /// Sets a database aside with the tables that are in it.
    pub async fn drop_database(&mut self, database: &DatabaseName, at: Timestamp) -> Result<(), CatalogError> {
        dropped::drop_database(&mut self.tx, database, at).await
    }

    /// Brings a dropped table back under a name.
    pub async fn undrop_table(&mut self, table: TableId, database: &DatabaseName, name: &TableName) -> Result<(), CatalogError> {
        dropped::undrop_table(&mut self.tx, table, database, name).await
    }

    /// Brings the database of this name that was dropped at `at` back as `to`, with the tables that were dropped with it and are yet.
    pub async fn undrop_database(&mut self, database: &DatabaseName, at: Timestamp, to: &DatabaseName) -> Result<(), CatalogError> {
        dropped::undrop_database(&mut self.tx, database, at, to).await
    }

    /// Forgets a dropped database; its tables go one by one.
    pub async fn purge_database(&mut self, database: &DatabaseName, at: Timestamp) -> Result<(), CatalogError> {
        dropped::forget_database(&mut self.tx, database, at).await
    }
}
