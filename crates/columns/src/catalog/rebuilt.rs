//! A catalog that is made anew from the raw log, part by part, so that whoever was interrupted goes on and nothing gets in twice.
//!
//! Beside what every catalog has stands what the raw log said of each part that is in it: what its tables can be compared with afterwards.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use base::{TableId, Timestamp};
use events::ColumnType;
use sqlx::{Connection, SqliteConnection};
use zones::ObjectName;

use super::swaps::swapped;
use super::{BatchHash, Catalog, CatalogError, FileRecord, RecordHash, Swap, declared, records, table_id, unsigned};

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS rebuild (
    only INTEGER NOT NULL PRIMARY KEY CHECK (only = 1),
    mark BLOB NOT NULL,
    done INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS rebuilt (
    table_id BLOB NOT NULL,
    object TEXT,
    earlier INTEGER NOT NULL,
    day INTEGER NOT NULL,
    row_count INTEGER NOT NULL,
    sum BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS rebuilt_batches (
    object TEXT NOT NULL,
    table_id BLOB NOT NULL,
    batch BLOB NOT NULL,
    PRIMARY KEY (object, batch)
) STRICT, WITHOUT ROWID;
";

/// What goes into the catalog together.
#[derive(Debug)]
pub struct Rebuilt<'a> {
    /// The table.
    pub table: TableId,
    /// A new file; none where all that is covered brings no row.
    pub file: Option<&'a FileRecord>,
    /// The batches in it, each with the moment at which it was stored first.
    pub covered: &'a [(BatchHash, Timestamp)],
    /// Records in them that are to be remembered, likewise.
    pub records: &'a [(RecordHash, Timestamp)],
    /// Of batches that are not in it with all their rows, which rows are.
    pub left_out: &'a [(BatchHash, Arc<[bool]>)],
    /// The table's columns.
    pub columns: &'a [(String, u8)],
    /// What the raw log says of these rows.
    pub days: &'a [RebuiltDay],
}

/// Rows of one day, as the raw log says they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RebuiltDay {
    /// Only those of them that were in files before the rebuild.
    pub earlier: bool,
    /// Days since the epoch.
    pub day: i64,
    /// How many.
    pub rows: u64,
    /// What they add up to.
    pub sum: [u8; 16],
}

impl Catalog {
    /// Begins, or goes on with what was begun under the same mark. False when this catalog was begun under another, or is none that is
    /// being rebuilt: then it is to be thrown away.
    pub async fn begin_rebuild(&self, mark: &[u8]) -> Result<bool, CatalogError> {
        if self.rebuild_of(mark).await?.is_some() {
            return Ok(true);
        }
        sqlx::raw_sql(SCHEMA).execute(&self.pool).await?;
        let begun = sqlx::query(
            "INSERT INTO rebuild (only, mark, done) SELECT 1, ?, 0 WHERE (SELECT changed_upto FROM progress) = 0 ON CONFLICT DO NOTHING",
        )
        .bind(mark)
        .execute(&self.pool)
        .await?;
        Ok(begun.rows_affected() == 1)
    }

    /// Whether a rebuild under this mark came to its end here; `None` when there was none.
    pub async fn rebuild_of(&self, mark: &[u8]) -> Result<Option<bool>, CatalogError> {
        let there: Option<i64> = sqlx::query_scalar("SELECT 1 FROM sqlite_schema WHERE name = 'rebuild'")
            .fetch_optional(&self.pool)
            .await?;
        if there.is_none() {
            return Ok(None);
        }
        let done: Option<i64> = sqlx::query_scalar("SELECT done FROM rebuild WHERE mark = ?")
            .bind(mark)
            .fetch_optional(&self.pool)
            .await?;
        Ok(done.map(|done| done != 0))
    }

    /// Adds a part, all of it or nothing. One of which any batch is in already is refused: whoever adds knows what is in.
    pub async fn add_rebuilt(&self, part: &Rebuilt<'_>) -> Result<(), CatalogError> {
        let mut tx = self.pool.begin().await?;
        let swap = Swap {
            table: part.table,
            add: part.file.map(std::slice::from_ref).unwrap_or_default(),
            remove: &[],
            covered: &[],
            records: &[],
            left_out: part.left_out,
            columns: part.columns,
            at: Timestamp::default(),
        };
        swapped(&mut tx, &swap).await?;
        for (batch, at) in part.covered {
            let new = sqlx::query("INSERT INTO batches (table_id, batch, stored_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
                .bind(&part.table.to_bytes()[..])
                .bind(&batch[..])
                .bind(at.as_micros())
                .execute(&mut *tx)
                .await?;
            if new.rows_affected() != 1 {
                return Err(CatalogError::Corrupt { what: "batch twice" });
            }
            if let Some(file) = part.file {
                sqlx::query("INSERT INTO rebuilt_batches (object, table_id, batch) VALUES (?, ?, ?)")
                    .bind(file.object.as_str())
                    .bind(&part.table.to_bytes()[..])
                    .bind(&batch[..])
                    .execute(&mut *tx)
                    .await?;
            }
        }
        // Those of one batch stand together and are of one moment.
        for some in part.records.chunk_by(|(_, one), (_, other)| one == other) {
            let ids: Vec<RecordHash> = some.iter().map(|(record, _)| *record).collect();
            records::remember(&mut tx, part.table, &ids, some[0].1).await?;
        }
        for day in part.days {
            sqlx::query("INSERT INTO rebuilt (table_id, object, earlier, day, row_count, sum) VALUES (?, ?, ?, ?, ?, ?)")
                .bind(&part.table.to_bytes()[..])
                .bind(part.file.map(|file| file.object.as_str()))
                .bind(i64::from(day.earlier))
                .bind(day.day)
                .bind(super::signed(day.rows))
                .bind(&day.sum[..])
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Takes parts out again whose files are not to be used, so that they are made anew. The objects are condemned.
    pub async fn forget_rebuilt(&self, objects: &[ObjectName]) -> Result<(), CatalogError> {
        let mut tx = self.pool.begin().await?;
        for object in objects {
            for statement in [
                "DELETE FROM batches WHERE (table_id, batch) IN (SELECT table_id, batch FROM rebuilt_batches WHERE object = ?)",
                "DELETE FROM rebuilt_batches WHERE object = ?",
                "DELETE FROM rebuilt WHERE object = ?",
                "DELETE FROM files WHERE object = ?",
            ] {
                sqlx::query(statement).bind(object.as_str()).execute(&mut *tx).await?;
            }
        }
        super::objects::condemn(&mut tx, objects).await?;
        sqlx::query("UPDATE rebuild SET done = 0").execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }

    /// The files that were made for parts that can be taken out again.
    pub async fn rebuilt_objects(&self) -> Result<HashSet<ObjectName>, CatalogError> {
        let rows = sqlx::query("SELECT DISTINCT object FROM rebuilt_batches")
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(|row| super::name(row, "object")).collect()
    }

    /// Nothing will be taken out again: which batches each file has is not needed any more.
    pub async fn keep_rebuilt(&self) -> Result<(), CatalogError> {
        sqlx::query("DELETE FROM rebuilt_batches").execute(&self.pool).await?;
        Ok(())
    }

    /// What the raw log says of all parts that are in.
    pub async fn rebuilt_days(&self) -> Result<Vec<(TableId, RebuiltDay)>, CatalogError> {
        use sqlx::Row;
        let rows = sqlx::query("SELECT table_id, earlier, day, row_count, sum FROM rebuilt")
            .fetch_all(&self.pool)
            .await?;
        let day = |row: &sqlx::sqlite::SqliteRow| {
            let sum = row.try_get::<Vec<u8>, _>("sum")?.try_into();
            let day = RebuiltDay {
                earlier: row.try_get::<i64, _>("earlier")? != 0,
                day: row.try_get("day")?,
                rows: unsigned(row, "row_count")?,
                sum: sum.map_err(|_| CatalogError::Corrupt { what: "sum" })?,
            };
            Ok((table_id(row, "table_id")?, day))
        };
        rows.iter().map(day).collect()
    }

    /// Takes over from the catalog at `path` what a table has there, files and all: of rows whose raw log was let go there is nothing
    /// else. Again does nothing.
    pub async fn carry_over(&self, path: &Path, table: TableId) -> Result<(), CatalogError> {
        let mut connection = self.pool.acquire().await?;
        let path = path.to_str().ok_or(CatalogError::Corrupt { what: "path" })?;
        sqlx::query("ATTACH DATABASE ? AS before")
            .bind(path)
            .execute(&mut *connection)
            .await?;
        let carried = carry(&mut connection, table).await;
        sqlx::raw_sql("DETACH DATABASE before").execute(&mut *connection).await?;
        carried
    }

    /// All batches that are in the table's files.
    pub async fn covered_batches(&self, table: TableId) -> Result<HashSet<BatchHash>, CatalogError> {
        let all: Vec<Vec<u8>> = sqlx::query_scalar("SELECT batch FROM batches WHERE table_id = ?")
            .bind(&table.to_bytes()[..])
            .fetch_all(&self.pool)
            .await?;
        let hash = |batch: Vec<u8>| batch.try_into().map_err(|_| CatalogError::Corrupt { what: "batch" });
        all.into_iter().map(hash).collect()
    }

    /// All parts are in: the tables show what is declared of them.
    pub async fn end_rebuild(&self, shown: &[(TableId, Vec<(String, ColumnType)>)]) -> Result<(), CatalogError> {
        let mut tx = self.pool.begin().await?;
        for (table, columns) in shown {
            declared::put(&mut tx, *table, true, columns).await?;
        }
        sqlx::query("UPDATE rebuild SET done = 1").execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }
}

async fn carry(connection: &mut SqliteConnection, table: TableId) -> Result<(), CatalogError> {
    let mut tx = connection.begin().await?;
    for statement in [
        "INSERT OR IGNORE INTO files (object, table_id, file, bytes, row_count, time_min, time_max, sealed_key)
         SELECT object, table_id, file, bytes, row_count, time_min, time_max, sealed_key FROM before.files WHERE table_id = ?",
        "INSERT OR IGNORE INTO columns (table_id, position, name, seen)
         SELECT table_id, position, name, seen FROM before.columns WHERE table_id = ?",
        "INSERT OR IGNORE INTO batches (table_id, batch, stored_at) SELECT table_id, batch, stored_at FROM before.batches WHERE table_id = ?",
        "INSERT OR IGNORE INTO records (table_id, record, stored_at)
         SELECT table_id, record, stored_at FROM before.records WHERE table_id = ?",
        "INSERT OR IGNORE INTO left_out (table_id, batch, kept) SELECT table_id, batch, kept FROM before.left_out WHERE table_id = ?",
        "INSERT OR IGNORE INTO declared (table_id, shown, position, name, type)
         SELECT table_id, shown, position, name, type FROM before.declared WHERE table_id = ? AND shown = 1",
        "INSERT OR IGNORE INTO raw_gone (table_id) VALUES (?)",
    ] {
        sqlx::query(statement).bind(&table.to_bytes()[..]).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{DatabaseRecord, TableRecord};

    #[tokio::test]
    async fn a_rebuild_goes_on_under_its_own_mark_only_and_a_part_gets_in_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("catalog.db");
        let catalog = Catalog::open(&path).await.unwrap();
        assert_eq!(catalog.rebuild_of(b"one").await.unwrap(), None);
        assert!(catalog.begin_rebuild(b"one").await.unwrap());
        assert!(!catalog.begin_rebuild(b"two").await.unwrap());

        let table = TableId::from_bytes([7; 16]);
        let record = TableRecord {
            id: table,
            number: 1,
            database: "web".parse().unwrap(),
            name: "events".parse().unwrap(),
            created_at: Timestamp::from_secs(1),
            columns: Vec::new(),
        };
        catalog.create_table(&record, 0).await.unwrap();
        let day = RebuiltDay {
            earlier: false,
            day: 20_000,
            rows: 2,
            sum: [9; 16],
        };
        let (long_ago, lately) = (Timestamp::from_secs(10), Timestamp::from_secs(1_000));
        let part = Rebuilt {
            table,
            file: None,
            covered: &[([1; 16], long_ago), ([2; 16], lately)],
            records: &[([3; 16], long_ago), ([4; 16], lately), ([5; 16], lately)],
            left_out: &[([2; 16], Arc::from([true, false]))],
            columns: &[("tag".into(), 16)],
            days: &[day],
        };
        catalog.add_rebuilt(&part).await.unwrap();
        let again = Rebuilt {
            covered: &[([8; 16], lately), ([2; 16], lately)],
            ..part
        };
        assert!(catalog.add_rebuilt(&again).await.is_err(), "one of its batches is in");
        catalog.close().await;

        let catalog = Catalog::open(&path).await.unwrap();
        assert!(catalog.begin_rebuild(b"one").await.unwrap());
        assert_eq!(catalog.rebuilt_days().await.unwrap(), [(table, day)]);
        assert_eq!(catalog.covered_batches(table).await.unwrap(), HashSet::from([[1; 16], [2; 16]]));
        assert_eq!(catalog.left_out(table, &[2; 16]).await.unwrap(), Some(vec![true, false]));
        assert_eq!(
            catalog.forget_records(Timestamp::from_secs(11), 10).await.unwrap(),
            1,
            "as old as it was"
        );
        assert_eq!(catalog.rebuild_of(b"one").await.unwrap(), Some(false));
        let columns = vec![("tag".to_owned(), ColumnType::Json)];
        catalog.end_rebuild(&[(table, columns.clone())]).await.unwrap();
        assert_eq!(catalog.rebuild_of(b"one").await.unwrap(), Some(true));
        let contents = catalog.load().await.unwrap();
        assert_eq!(
            (contents.tables[0].columns.as_slice(), &contents.declared[0].shown),
            (part.columns, &columns)
        );
    }

    #[tokio::test]
    async fn a_part_whose_file_is_no_good_is_taken_out_and_can_be_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&directory.path().join("catalog.db")).await.unwrap();
        assert!(catalog.begin_rebuild(b"one").await.unwrap());
        let table = TableId::from_bytes([7; 16]);
        let file = |number: u8| FileRecord {
            object: ObjectName::new("tables/7/x", &number.to_string(), &[number]).unwrap(),
            table,
            file: number.to_string(),
            bytes: 1,
            rows: 1,
            time_min: 0,
            time_max: 0,
            sealed_key: Vec::new(),
        };
        let day = RebuiltDay {
            earlier: false,
            day: 20_000,
            rows: 1,
            sum: [9; 16],
        };
        let at = Timestamp::from_secs(10);
        let (one, other) = (file(1), file(2));
        let part = |file, covered| Rebuilt {
            table,
            file: Some(file),
            covered,
            records: &[],
            left_out: &[],
            columns: &[],
            days: std::slice::from_ref(&day),
        };
        let (first, second) = ([([1; 16], at), ([2; 16], at)], [([3; 16], at)]);
        catalog.add_rebuilt(&part(&one, &first)).await.unwrap();
        catalog.add_rebuilt(&part(&other, &second)).await.unwrap();
        catalog.end_rebuild(&[]).await.unwrap();

        catalog.forget_rebuilt(std::slice::from_ref(&one.object)).await.unwrap();
        assert_eq!(
            catalog.rebuild_of(b"one").await.unwrap(),
            Some(false),
            "it is not at its end any more"
        );
        assert_eq!(catalog.covered_batches(table).await.unwrap(), HashSet::from([[3; 16]]));
        assert_eq!(catalog.load().await.unwrap().files, std::slice::from_ref(&other));
        assert_eq!(catalog.rebuilt_days().await.unwrap(), [(table, day)]);
        assert_eq!(catalog.condemned(10).await.unwrap(), std::slice::from_ref(&one.object));

        let again = file(3);
        catalog.add_rebuilt(&part(&again, &first)).await.unwrap();
        assert_eq!(catalog.covered_batches(table).await.unwrap().len(), 3);
        catalog.keep_rebuilt().await.unwrap();
        assert_eq!(catalog.load().await.unwrap().files.len(), 2);
    }

    #[tokio::test]
    async fn a_catalog_that_is_in_use_is_none_to_rebuild_into() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&directory.path().join("catalog.db")).await.unwrap();
        let database = DatabaseRecord {
            name: "web".parse().unwrap(),
            created_at: Timestamp::from_secs(1),
        };
        catalog.create_database(&database, 3).await.unwrap();
        assert!(!catalog.begin_rebuild(b"one").await.unwrap());
    }
}
