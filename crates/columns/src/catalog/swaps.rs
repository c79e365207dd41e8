//! Files that take the place of rows in memory or of older files, in one step.
//!
//! Promise: no row gets in twice, and none goes without being in another file. A swap that failed may be tried again, whether or not it was
//! made: the same once more does nothing, and another that begins from what is not so any more is refused.

use base::{TableId, Timestamp};
use sqlx::{Sqlite, Transaction};
use zones::ObjectName;

use super::{BatchHash, Catalog, CatalogError, FileRecord, RecordHash, objects, records, signed};

/// One swap: files that take the place of rows in memory or of older files.
#[derive(Debug)]
pub struct Swap<'a> {
    /// The table concerned.
    pub table: TableId,
    /// New files, staged before.
    pub add: &'a [FileRecord],
    /// Files of the table that the new ones replace: condemned with the swap.
    pub remove: &'a [ObjectName],
    /// Batches that are in the new files and need no replay from the journal any more. No file had them before.
    pub covered: &'a [BatchHash],
    /// Records in them that came with an id.
    pub records: &'a [RecordHash],
    /// Of those batches that are not in the new files with all their rows, which rows are.
    pub left_out: &'a [(BatchHash, std::sync::Arc<[bool]>)],
    /// The table's columns as of now.
    pub columns: &'a [(String, u8)],
    /// Now.
    pub at: Timestamp,
}

impl Catalog {
    /// Puts new files in the place of old ones and of rows in memory, all or nothing. The same swap once more does nothing, so one that
    /// failed may be tried again, whether or not it was made; one that begins from other files or rows than the table's is
    /// [`Stale`](CatalogError::Stale).
    pub async fn swap(&self, swap: &Swap<'_>) -> Result<(), CatalogError> {
        let mut tx = self.pool.begin().await?;
        swapped(&mut tx, swap).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// Notes that batches need no replay any more. How many of them were not noted yet.
pub(super) async fn cover(
    tx: &mut Transaction<'_, Sqlite>,
    table: TableId,
    batches: &[BatchHash],
    at: Timestamp,
) -> Result<usize, CatalogError> {
    let mut new = 0;
    for batch in batches {
        let noted = sqlx::query("INSERT INTO batches (table_id, batch, stored_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
            .bind(&table.to_bytes()[..])
            .bind(&batch[..])
            .bind(at.as_micros())
            .execute(&mut **tx)
            .await?;
        new += usize::from(noted.rows_affected() > 0);
    }
    Ok(new)
}

/// Whether all files that a swap adds are the table's already: then it was made before.
async fn was_made(tx: &mut Transaction<'_, Sqlite>, swap: &Swap<'_>) -> Result<bool, CatalogError> {
    let mut there = 0;
    for file in swap.add {
        let found: Option<i64> = sqlx::query_scalar("SELECT 1 FROM files WHERE object = ? AND table_id = ?")
            .bind(file.object.as_str())
            .bind(&swap.table.to_bytes()[..])
            .fetch_optional(&mut **tx)
            .await?;
        there += usize::from(found.is_some());
    }
    Ok(there > 0 && there == swap.add.len())
}

pub(super) async fn swapped(tx: &mut Transaction<'_, Sqlite>, swap: &Swap<'_>) -> Result<(), CatalogError> {
    let table = swap.table.to_bytes();
    if was_made(tx, swap).await? {
        return Ok(());
    }
    for object in swap.remove {
        let removed = sqlx::query("DELETE FROM files WHERE object = ? AND table_id = ?")
            .bind(object.as_str())
            .bind(&table[..])
            .execute(&mut **tx)
            .await?;
        // Whose rows are in another file by now: with the new ones they would be there twice.
        if removed.rows_affected() != 1 {
            return Err(CatalogError::Stale {
                what: "a file to be replaced is not the table's",
            });
        }
    }
    for file in swap.add {
        let added = sqlx::query(
            "INSERT INTO files (object, table_id, file, bytes, row_count, time_min, time_max, sealed_key) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT DO NOTHING",
        )
        .bind(file.object.as_str())
        .bind(&table[..])
        .bind(file.file.as_str())
        .bind(signed(file.bytes))
        .bind(signed(file.rows))
        .bind(file.time_min)
        .bind(file.time_max)
        .bind(file.sealed_key.as_slice())
        .execute(&mut **tx)
        .await?;
        if added.rows_affected() != 1 {
            return Err(CatalogError::Stale {
                what: "a new file is there already",
            });
        }
        objects::taken(tx, &file.object).await?;
    }
    objects::condemn(tx, swap.remove).await?;
    if cover(tx, swap.table, swap.covered, swap.at).await? != swap.covered.len() {
        return Err(CatalogError::Stale {
            what: "rows that come from memory are in a file already",
        });
    }
    records::remember(tx, swap.table, swap.records, swap.at).await?;
    for (batch, keep) in swap.left_out {
        records::leave_out(tx, swap.table, batch, keep).await?;
    }
    for (position, (name, seen)) in swap.columns.iter().enumerate() {
        sqlx::query(
            "INSERT INTO columns (table_id, position, name, seen) VALUES (?, ?, ?, ?)
                 ON CONFLICT (table_id, name) DO UPDATE SET seen = seen | excluded.seen",
        )
        .bind(&table[..])
        .bind(i64::try_from(position).unwrap_or(i64::MAX))
        .bind(name.as_str())
        .bind(i64::from(*seen))
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> TableId {
        TableId::from_bytes([7; 16])
    }

    fn object(number: u8) -> ObjectName {
        ObjectName::new("tables/7/x", &number.to_string(), &[number]).unwrap()
    }

    fn file(number: u8) -> FileRecord {
        FileRecord {
            object: object(number),
            table: table(),
            file: number.to_string(),
            bytes: 1,
            rows: 1,
            time_min: 0,
            time_max: 0,
            sealed_key: Vec::new(),
        }
    }

    fn swap<'a>(add: &'a [FileRecord], remove: &'a [ObjectName], covered: &'a [BatchHash]) -> Swap<'a> {
        Swap {
            table: table(),
            add,
            remove,
            covered,
            records: &[],
            left_out: &[],
            columns: &[],
            at: Timestamp::from_secs(1),
        }
    }

    async fn files(catalog: &Catalog) -> Vec<ObjectName> {
        let files = catalog.load().await.unwrap().files;
        files.into_iter().map(|file| file.object).collect()
    }

    #[tokio::test]
    async fn a_swap_that_was_made_and_said_to_have_failed_is_made_once() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&directory.path().join("catalog.db")).await.unwrap();
        let (from_memory, merged) = ([file(1), file(2)], [file(3)]);
        for _ in 0..2 {
            catalog.swap(&swap(&from_memory, &[], &[[1; 16], [2; 16]])).await.unwrap();
            assert_eq!(files(&catalog).await, [object(1), object(2)]);
        }
        let replaced = [object(1), object(2)];
        for _ in 0..2 {
            catalog.swap(&swap(&merged, &replaced, &[])).await.unwrap();
            assert_eq!(files(&catalog).await, [object(3)]);
            assert_eq!(catalog.condemned(10).await.unwrap(), replaced);
        }

        // The rows from memory once more, in other files, some of them with others that came later.
        for covered in [&[[1; 16]][..], &[[9; 16], [2; 16]]] {
            let again = catalog.swap(&swap(&[file(4)], &[], covered)).await.unwrap_err();
            assert_eq!(again.kind(), base::ErrorKind::Conflict, "{again}");
        }
        assert_eq!(files(&catalog).await, [object(3)]);
        assert!(
            !catalog.is_covered(table(), &[9; 16]).await.unwrap(),
            "a swap that is refused does nothing"
        );
    }

    #[tokio::test]
    async fn a_swap_whose_files_were_replaced_meanwhile_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&directory.path().join("catalog.db")).await.unwrap();
        catalog.swap(&swap(&[file(1), file(2)], &[], &[])).await.unwrap();
        catalog.swap(&swap(&[file(3)], &[object(1)], &[])).await.unwrap();
        let elsewhere = Swap {
            table: TableId::from_bytes([8; 16]),
            ..swap(&[], &[], &[])
        };
        let of_another = [object(2)];
        for refused in [
            swap(&[file(4)], &[object(1), object(2)], &[]),
            swap(&[file(4)], &[object(9)], &[]),
            swap(&[], &[object(1)], &[]),
            swap(&[file(4)], &[object(2), object(2)], &[]),
            swap(&[file(3), file(4)], &[object(2)], &[]),
            Swap {
                remove: &of_another,
                ..elsewhere
            },
        ] {
            let error = catalog.swap(&refused).await.unwrap_err();
            assert!(matches!(error, CatalogError::Stale { .. }), "{refused:?}: {error}");
            assert_eq!(files(&catalog).await, [object(2), object(3)], "{refused:?}");
            assert_eq!(catalog.condemned(10).await.unwrap(), [object(1)], "{refused:?}");
        }
    }
}
