//! What is declared of tables, and what of it their files show already.

use base::TableId;
use events::ColumnType;
use sqlx::sqlite::SqlitePool;
use sqlx::{Row, Sqlite, Transaction};

use super::swaps::swapped;
use super::{Catalog, CatalogError, Swap, table_id};

/// Made beside the others when they are not there yet.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS declared (
    table_id BLOB NOT NULL,
    shown INTEGER NOT NULL,
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    type TEXT NOT NULL,
    PRIMARY KEY (table_id, shown, name)
) STRICT, WITHOUT ROWID;
";

/// The declared columns of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredRecord {
    /// The table.
    pub table: TableId,
    /// What was declared last.
    pub declared: Vec<(String, ColumnType)>,
    /// What its files show: the same, unless they are to be made anew.
    pub shown: Vec<(String, ColumnType)>,
}

impl Catalog {
    /// Declares columns in place of those declared before, as segment `sequence` of the journal says. Of a table that is not there,
    /// nothing is kept.
    pub async fn declare(&self, table: TableId, columns: &[(String, ColumnType)], sequence: u64) -> Result<(), CatalogError> {
        let mut change = self.change(sequence).await?;
        change.declare(table, columns).await?;
        change.commit().await
    }

    /// Swaps all files of a table for such as show `shown`, in one step with saying so.
    pub async fn retype(&self, swap: &Swap<'_>, shown: &[(String, ColumnType)]) -> Result<(), CatalogError> {
        let mut tx = self.pool.begin().await?;
        swapped(&mut tx, swap).await?;
        put(&mut tx, swap.table, true, shown).await?;
        tx.commit().await?;
        Ok(())
    }

    /// How many batches are in the table's files.
    pub async fn covered(&self, table: TableId) -> Result<u64, CatalogError> {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM batches WHERE table_id = ?")
            .bind(&table.to_bytes()[..])
            .fetch_one(&self.pool)
            .await?;
        u64::try_from(count).map_err(|_| CatalogError::Corrupt { what: "count" })
    }
}

pub(super) async fn load(pool: &SqlitePool) -> Result<Vec<DeclaredRecord>, CatalogError> {
    let mut all: Vec<DeclaredRecord> = Vec::new();
    for row in sqlx::query("SELECT table_id, shown, name, type FROM declared ORDER BY table_id, shown, position")
        .fetch_all(pool)
        .await?
    {
        let table = table_id(&row, "table_id")?;
        if all.last().is_none_or(|last| last.table != table) {
            all.push(DeclaredRecord {
                table,
                declared: Vec::new(),
                shown: Vec::new(),
            });
        }
        let Some(record) = all.last_mut() else { continue };
        let of = ColumnType::from_name(&row.try_get::<String, _>("type")?).ok_or(CatalogError::Corrupt { what: "type" })?;
        let columns = match row.try_get::<i64, _>("shown")? {
            0 => &mut record.declared,
            _ => &mut record.shown,
        };
        columns.push((row.try_get("name")?, of));
    }
    Ok(all)
}

/// Of a table that is deleted.
pub(super) async fn forget(tx: &mut Transaction<'_, Sqlite>, table: TableId) -> Result<(), CatalogError> {
    sqlx::query("DELETE FROM declared WHERE table_id = ?")
        .bind(&table.to_bytes()[..])
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub(super) async fn put(
    tx: &mut Transaction<'_, Sqlite>,
    table: TableId,
    shown: bool,
    columns: &[(String, ColumnType)],
) -> Result<(), CatalogError> {
    let id = table.to_bytes();
    sqlx::query("DELETE FROM declared WHERE table_id = ? AND shown = ?")
        .bind(&id[..])
        .bind(i64::from(shown))
        .execute(&mut **tx)
        .await?;
    for (position, (name, of)) in columns.iter().enumerate() {
        sqlx::query("INSERT INTO declared (table_id, shown, position, name, type) VALUES (?, ?, ?, ?, ?)")
            .bind(&id[..])
            .bind(i64::from(shown))
            .bind(i64::try_from(position).unwrap_or(i64::MAX))
            .bind(name.as_str())
            .bind(of.as_str())
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use base::Timestamp;
    use zones::ObjectName;

    use super::*;
    use crate::catalog::TableRecord;

    #[tokio::test]
    async fn a_declaration_replaces_the_one_before_and_goes_with_its_table() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&directory.path().join("catalog.db")).await.unwrap();
        let id = TableId::from_bytes([7; 16]);
        let columns = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), ColumnType::Json)).collect::<Vec<_>>();
        catalog.declare(id, &columns(&["a"]), 0).await.unwrap();
        assert_eq!(catalog.load().await.unwrap().declared, [], "there is no such table");

        let table = TableRecord {
            id,
            number: 1,
            database: "web".parse().unwrap(),
            name: "events".parse().unwrap(),
            created_at: Timestamp::from_secs(1),
            columns: Vec::new(),
        };
        catalog.create_table(&table, 1).await.unwrap();
        catalog.declare(id, &columns(&["b", "a"]), 2).await.unwrap();
        let object = ObjectName::new("tables/7/x", "file", b"bytes").unwrap();
        catalog.stage(id, &object).await.unwrap();
        let swap = Swap {
            table: id,
            add: &[],
            remove: &[],
            covered: &[],
            records: &[],
            left_out: &[],
            columns: &[],
            at: Timestamp::from_secs(2),
        };
        catalog.retype(&swap, &columns(&["b", "a"])).await.unwrap();
        catalog.declare(id, &columns(&["c"]), 3).await.unwrap();
        let record = DeclaredRecord {
            table: id,
            declared: columns(&["c"]),
            shown: columns(&["b", "a"]),
        };
        assert_eq!(catalog.load().await.unwrap().declared, [record]);

        assert_eq!(catalog.delete_table(id, 4).await.unwrap(), std::slice::from_ref(&object));
        let left = catalog.load().await.unwrap();
        assert_eq!((left.declared, left.changed_upto), (Vec::new(), 5));
        assert_eq!(catalog.condemned(10).await.unwrap(), [object]);
    }
}
