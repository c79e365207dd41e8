//! Ids of single records, kept for a while so that a record sent again is not stored again.
//!
//! Beside the batches, not instead of them: a batch is remembered for ever, because after a restart it says what of the journal is in
//! files already. A record's id says only that it was stored, and may be forgotten.

use std::collections::HashSet;

use base::{TableId, Timestamp};
use sqlx::{QueryBuilder, Sqlite, Transaction};

use super::{BatchHash, Catalog, CatalogError};

/// The id of one stored record within its table: a keyed hash of the sender's id.
pub type RecordHash = [u8; 16];

/// Catalogs of before there were record ids get it as well.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS records (
    table_id BLOB NOT NULL,
    record BLOB NOT NULL,
    stored_at INTEGER NOT NULL,
    PRIMARY KEY (table_id, record)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS left_out (
    table_id BLOB NOT NULL,
    batch BLOB NOT NULL,
    kept BLOB NOT NULL,
    PRIMARY KEY (table_id, batch)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS records_by_age ON records (stored_at);
";

/// How many ids one statement names.
const AT_ONCE: usize = 1_000;

impl Catalog {
    /// Which of these records are in the table's files already, and are remembered.
    pub async fn stored_records(&self, table: TableId, records: &[RecordHash]) -> Result<HashSet<RecordHash>, CatalogError> {
        let mut stored = HashSet::new();
        for some in records.chunks(AT_ONCE) {
            let mut query = QueryBuilder::<Sqlite>::new("SELECT record FROM records WHERE table_id = ");
            query.push_bind(table.to_bytes().to_vec()).push(" AND record IN (");
            let mut list = query.separated(", ");
            for record in some {
                list.push_bind(&record[..]);
            }
            query.push(")");
            for record in query.build_query_scalar::<Vec<u8>>().fetch_all(&self.pool).await? {
                let record = record.as_slice().try_into();
                stored.insert(record.map_err(|_| CatalogError::Corrupt { what: "record id" })?);
            }
        }
        Ok(stored)
    }

    /// Notes that a batch needs no replay though it is in no file: other batches have all that is in it.
    pub async fn cover_nothing_of(&self, table: TableId, batch: &BatchHash, at: Timestamp) -> Result<(), CatalogError> {
        let mut tx = self.pool.begin().await?;
        super::swaps::cover(&mut tx, table, std::slice::from_ref(batch), at).await?;
        leave_out(&mut tx, table, batch, &[]).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Which rows of a batch are in the table's files, a word for each; empty when none is, `None` when all are.
    pub async fn left_out(&self, table: TableId, batch: &BatchHash) -> Result<Option<Vec<bool>>, CatalogError> {
        let kept: Option<Vec<u8>> = sqlx::query_scalar("SELECT kept FROM left_out WHERE table_id = ? AND batch = ?")
            .bind(&table.to_bytes()[..])
            .bind(&batch[..])
            .fetch_optional(&self.pool)
            .await?;
        Ok(kept.map(|rows| rows.into_iter().map(|row| row != 0).collect()))
    }

    /// Forgets at most `most` records that were stored before `before`. Returns how many it were.
    pub async fn forget_records(&self, before: Timestamp, most: u32) -> Result<u64, CatalogError> {
        let forgotten = sqlx::query(
            "DELETE FROM records WHERE (table_id, record) IN
             (SELECT table_id, record FROM records WHERE stored_at < ? ORDER BY stored_at LIMIT ?)",
        )
        .bind(before.as_micros())
        .bind(i64::from(most))
        .execute(&self.pool)
        .await?;
        Ok(forgotten.rows_affected())
    }
}

/// Remembers records, in the transaction that puts them into files. One that is remembered already is remembered from now on.
pub(super) async fn remember(
    tx: &mut Transaction<'_, Sqlite>,
    table: TableId,
    records: &[RecordHash],
    at: Timestamp,
) -> Result<(), CatalogError> {
    for some in records.chunks(AT_ONCE) {
        let mut query = QueryBuilder::<Sqlite>::new("INSERT INTO records (table_id, record, stored_at) ");
        query.push_values(some, |mut row, record| {
            row.push_bind(table.to_bytes().to_vec())
                .push_bind(&record[..])
                .push_bind(at.as_micros());
        });
        query.push(" ON CONFLICT (table_id, record) DO UPDATE SET stored_at = max(stored_at, excluded.stored_at)");
        query.build().execute(&mut **tx).await?;
    }
    Ok(())
}

/// Notes which rows of a batch are in the table's files; none when nothing is said.
pub(super) async fn leave_out(
    tx: &mut Transaction<'_, Sqlite>,
    table: TableId,
    batch: &BatchHash,
    keep: &[bool],
) -> Result<(), CatalogError> {
    let kept: Vec<u8> = keep.iter().map(|keep| u8::from(*keep)).collect();
    sqlx::query("INSERT INTO left_out (table_id, batch, kept) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
        .bind(&table.to_bytes()[..])
        .bind(&batch[..])
        .bind(kept)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use base::SeededEntropy;

    use super::super::Swap;
    use super::*;

    async fn swap(catalog: &Catalog, table: TableId, records: &[RecordHash], at: i64) {
        let swap = Swap {
            table,
            add: &[],
            remove: &[],
            covered: &[],
            records,
            left_out: &[],
            columns: &[],
            at: Timestamp::from_secs(at),
        };
        catalog.swap(&swap).await.unwrap();
    }

    fn id(number: u16) -> RecordHash {
        let mut id = [7; 16];
        id[..2].copy_from_slice(&number.to_be_bytes());
        id
    }

    #[tokio::test]
    async fn records_are_remembered_by_table_until_they_are_old() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&directory.path().join("catalog.db")).await.unwrap();
        let chance = SeededEntropy::new(1);
        let [one, other] = [0, 1].map(|_| TableId::generate(Timestamp::from_secs(1), &chance));
        let many: Vec<RecordHash> = (0..2_500).map(id).collect();
        swap(&catalog, one, &many, 100).await;
        swap(&catalog, one, &[id(0), id(3_000)], 200).await;

        let asked: Vec<RecordHash> = (0..4_000).map(id).collect();
        assert_eq!(catalog.stored_records(one, &asked).await.unwrap().len(), 2_501);
        assert_eq!(catalog.stored_records(other, &asked).await.unwrap().len(), 0);
        assert_eq!(catalog.stored_records(one, &[]).await.unwrap().len(), 0);

        let before = Timestamp::from_secs(101);
        assert_eq!(catalog.forget_records(before, 2_000).await.unwrap(), 2_000);
        assert_eq!(catalog.forget_records(before, 2_000).await.unwrap(), 499);
        assert_eq!(catalog.forget_records(before, 2_000).await.unwrap(), 0);
        let left = catalog.stored_records(one, &asked).await.unwrap();
        assert_eq!(left, HashSet::from([id(0), id(3_000)]), "seen again, remembered from then");
    }
}
