//! Objects in the zones that are no table's files: those that are to become one, and those that nothing needs any more.
//!
//! Promise: an object is noted here before it can be in a zone, and stays noted until it is a table's file or is gone from the zones. So
//! none is left behind for ever, whatever ends in between.

use base::TableId;
use sqlx::{Sqlite, Transaction};
use zones::ObjectName;

use super::{Catalog, CatalogError, name};

/// Made beside the others when they are not there yet.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS staged (
    object TEXT NOT NULL PRIMARY KEY,
    table_id BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS condemned (
    object TEXT NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;
";

/// How many objects are condemned in one transaction.
const AT_ONCE: usize = 1_000;

impl Catalog {
    /// Notes an object that is about to be put into the zones, to become a file of the table by a [`Swap`](super::Swap).
    pub async fn stage(&self, table: TableId, object: &ObjectName) -> Result<(), CatalogError> {
        sqlx::query("INSERT INTO staged (object, table_id) VALUES (?, ?) ON CONFLICT DO NOTHING")
            .bind(object.as_str())
            .bind(&table.to_bytes()[..])
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// Forgets a staged object of which it is certain that it is in no zone and will be in none.
    pub async fn unstage(&self, object: &ObjectName) -> Result<(), CatalogError> {
        sqlx::query("DELETE FROM staged WHERE object = ?")
            .bind(object.as_str())
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// Notes that nothing needs these objects any more: whoever has the catalog open deletes them from the zones once no query can be
    /// reading them, now or after a restart. One that is a table's file is left out.
    pub async fn condemn(&self, objects: &[ObjectName]) -> Result<(), CatalogError> {
        // However many there are, others want the catalog meanwhile.
        for some in objects.chunks(AT_ONCE) {
            let mut tx = self.pool().begin().await?;
            condemn(&mut tx, some).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Condemns whatever was staged and became nobody's file. For a start: later, others may be staging.
    pub async fn condemn_staged(&self) -> Result<u64, CatalogError> {
        let mut tx = self.pool().begin().await?;
        sqlx::query("DELETE FROM staged WHERE object IN (SELECT object FROM files)")
            .execute(&mut *tx)
            .await?;
        sqlx::query("INSERT INTO condemned (object) SELECT object FROM staged WHERE true ON CONFLICT DO NOTHING")
            .execute(&mut *tx)
            .await?;
        let left = sqlx::query("DELETE FROM staged").execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(left.rows_affected())
    }

    /// Up to `most` condemned objects.
    pub async fn condemned(&self, most: u32) -> Result<Vec<ObjectName>, CatalogError> {
        let rows = sqlx::query("SELECT object FROM condemned LIMIT ?")
            .bind(i64::from(most))
            .fetch_all(self.pool())
            .await?;
        rows.iter().map(|row| name(row, "object")).collect()
    }

    /// Forgets condemned objects that are gone from the zones.
    pub async fn forget_condemned(&self, objects: &[ObjectName]) -> Result<(), CatalogError> {
        let mut tx = self.pool().begin().await?;
        for object in objects {
            sqlx::query("DELETE FROM condemned WHERE object = ?")
                .bind(object.as_str())
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Every object that the catalog knows: files, staged and condemned ones.
    pub async fn objects(&self) -> Result<Vec<ObjectName>, CatalogError> {
        let rows = sqlx::query("SELECT object FROM files UNION SELECT object FROM staged UNION SELECT object FROM condemned")
            .fetch_all(self.pool())
            .await?;
        rows.iter().map(|row| name(row, "object")).collect()
    }
}

/// Condemns objects, in the transaction after which nothing needs them.
pub(super) async fn condemn(tx: &mut Transaction<'_, Sqlite>, objects: &[ObjectName]) -> Result<(), CatalogError> {
    for object in objects {
        sqlx::query("DELETE FROM staged WHERE object = ?")
            .bind(object.as_str())
            .execute(&mut **tx)
            .await?;
        // Whatever somebody believes: a file that a table has is needed.
        sqlx::query(
            "INSERT INTO condemned (object) SELECT ?1 WHERE NOT EXISTS (SELECT 1 FROM files WHERE object = ?1) ON CONFLICT DO NOTHING",
        )
        .bind(object.as_str())
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

/// Notes that a staged object has become a file.
pub(super) async fn taken(tx: &mut Transaction<'_, Sqlite>, object: &ObjectName) -> Result<(), CatalogError> {
    sqlx::query("DELETE FROM staged WHERE object = ?")
        .bind(object.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// The staged objects of a table.
pub(super) async fn staged(tx: &mut Transaction<'_, Sqlite>, table: TableId) -> Result<Vec<ObjectName>, CatalogError> {
    let rows = sqlx::query("SELECT object FROM staged WHERE table_id = ?")
        .bind(&table.to_bytes()[..])
        .fetch_all(&mut **tx)
        .await?;
    rows.iter().map(|row| name(row, "object")).collect()
}

#[cfg(test)]
mod tests {
    use base::Timestamp;

    use super::super::{FileRecord, Swap};
    use super::*;

    fn object(number: u8) -> ObjectName {
        ObjectName::new("tables/7/x", &number.to_string(), &[number]).unwrap()
    }

    fn file(number: u8) -> FileRecord {
        FileRecord {
            object: object(number),
            table: TableId::from_bytes([7; 16]),
            file: number.to_string(),
            bytes: 1,
            rows: 1,
            time_min: 0,
            time_max: 0,
            sealed_key: Vec::new(),
        }
    }

    async fn swap(catalog: &Catalog, add: &[FileRecord], remove: &[ObjectName]) -> Result<(), CatalogError> {
        let swap = Swap {
            table: TableId::from_bytes([7; 16]),
            add,
            remove,
            covered: &[],
            records: &[],
            left_out: &[],
            columns: &[],
            at: Timestamp::from_secs(1),
        };
        catalog.swap(&swap).await
    }

    #[tokio::test]
    async fn an_object_is_noted_until_it_is_a_file_or_gone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("catalog.db");
        let catalog = Catalog::open(&path).await.unwrap();
        let table = TableId::from_bytes([7; 16]);
        for number in 1..=4 {
            catalog.stage(table, &object(number)).await.unwrap();
        }
        swap(&catalog, &[file(1)], &[]).await.unwrap();
        catalog.condemn(&[object(1), object(2), object(9)]).await.unwrap();
        assert_eq!(
            catalog.condemned(10).await.unwrap(),
            [object(2), object(9)],
            "a table's file is not condemned"
        );
        swap(&catalog, &[file(3)], &[object(1)]).await.unwrap();
        assert_eq!(catalog.condemned(10).await.unwrap(), [object(1), object(2), object(9)]);
        assert_eq!(
            catalog.objects().await.unwrap(),
            [object(1), object(2), object(3), object(4), object(9)]
        );
        catalog.forget_condemned(&[object(1), object(2)]).await.unwrap();
        catalog.close().await;

        let catalog = Catalog::open(&path).await.unwrap();
        assert_eq!(catalog.condemn_staged().await.unwrap(), 1);
        assert_eq!(catalog.condemned(10).await.unwrap(), [object(4), object(9)]);
        assert_eq!(catalog.condemned(1).await.unwrap().len(), 1);
        catalog.stage(table, &object(5)).await.unwrap();
        catalog.unstage(&object(5)).await.unwrap();
        assert_eq!(catalog.objects().await.unwrap(), [object(3), object(4), object(9)]);
        let files: Vec<_> = catalog.load().await.unwrap().files.into_iter().map(|file| file.object).collect();
        assert_eq!(files, [object(3)]);
    }

    #[tokio::test]
    async fn a_swap_that_fails_condemns_nothing_and_takes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&directory.path().join("catalog.db")).await.unwrap();
        catalog.stage(TableId::from_bytes([7; 16]), &object(1)).await.unwrap();
        swap(&catalog, &[file(1)], &[]).await.unwrap();
        catalog.stage(TableId::from_bytes([7; 16]), &object(2)).await.unwrap();
        let fail = "CREATE TRIGGER told_to_fail BEFORE INSERT ON condemned BEGIN SELECT RAISE(ABORT, 'told to fail'); END";
        sqlx::raw_sql(fail).execute(catalog.pool()).await.unwrap();
        assert!(swap(&catalog, &[file(2)], &[object(1)]).await.is_err());
        sqlx::raw_sql("DROP TRIGGER told_to_fail").execute(catalog.pool()).await.unwrap();

        assert_eq!(catalog.condemned(10).await.unwrap(), []);
        assert_eq!(catalog.condemn_staged().await.unwrap(), 1);
        assert_eq!(catalog.condemned(10).await.unwrap(), [object(2)]);
    }
}
