//! The keys of products' keyrings of people, as the view has them: each with the segment that holds it, until it is dropped.

use std::time::Duration;

use base::ProductId;
use sqlx::{Sqlite, Transaction};

use super::{Position, View, ViewError, number};
use crate::entries::PeopleKeyMade;

/// Views of before there was such a thing get it as well.
pub(super) const TABLE: &str = "CREATE TABLE IF NOT EXISTS people_keys (product INTEGER NOT NULL, epoch INTEGER NOT NULL, \
                                wrapped BLOB NOT NULL, writer BLOB NOT NULL, sequence INTEGER NOT NULL, \
                                PRIMARY KEY (product, epoch)) WITHOUT ROWID";
/// How often to try to empty the write-ahead log while somebody reads, and how long after each other.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);

type Stored = (i64, Vec<u8>, Vec<u8>, i64);

/// A key as it is kept.
#[derive(Debug, Clone)]
pub(crate) struct PeopleKeyRow {
    pub(crate) epoch: u64,
    pub(crate) wrapped: Vec<u8>,
    /// The segment that holds it.
    pub(crate) position: Position,
}

pub(super) async fn apply(tx: &mut Transaction<'_, Sqlite>, (writer, sequence): Position, made: &PeopleKeyMade) -> Result<(), ViewError> {
    sqlx::query("INSERT OR IGNORE INTO people_keys (product, epoch, wrapped, writer, sequence) VALUES (?, ?, ?, ?, ?)")
        .bind(made.product.cast_signed())
        .bind(made.epoch.cast_signed())
        .bind(&made.wrapped)
        .bind(&writer[..])
        .bind(sequence.cast_signed())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

impl View {
    /// A product's keys that were not dropped, oldest first.
    pub(crate) async fn people_keys(&self, product: ProductId) -> Result<Vec<PeopleKeyRow>, ViewError> {
        let rows: Vec<Stored> = sqlx::query_as("SELECT epoch, wrapped, writer, sequence FROM people_keys WHERE product = ? ORDER BY epoch")
            .bind(number(product))
            .fetch_all(&self.0)
            .await?;
        let row = |(epoch, wrapped, writer, sequence): Stored| {
            Ok(PeopleKeyRow {
                epoch: epoch.cast_unsigned(),
                wrapped,
                position: (writer.try_into().map_err(|_| ViewError::Value("writer"))?, sequence.cast_unsigned()),
            })
        };
        rows.into_iter().map(row).collect()
    }

    /// Forgets a key, which the journal holds no more. Its bytes may be in the write-ahead log until [`View::empty_log`].
    pub(crate) async fn forget_people_key(&self, product: ProductId, epoch: u64) -> Result<(), ViewError> {
        sqlx::query("DELETE FROM people_keys WHERE product = ? AND epoch = ?")
            .bind(number(product))
            .bind(epoch.cast_signed())
            .execute(&self.0)
            .await?;
        Ok(())
    }

    /// Empties the write-ahead log, whose pages may hold what was deleted: nothing of that is in the database's files when this returns.
    /// Waits a little for those who read.
    pub(crate) async fn empty_log(&self) -> Result<(), ViewError> {
        let mut connection = self.0.acquire().await?;
        // The pragma would wait by itself, and others with it.
        sqlx::query("PRAGMA busy_timeout = 0").execute(&mut *connection).await?;
        let mut emptied = Err(ViewError::Busy);
        for _ in 0..TRIES {
            match sqlx::query_as::<_, (i64, i64, i64)>("PRAGMA wal_checkpoint(TRUNCATE)")
                .fetch_one(&mut *connection)
                .await
            {
                Ok((0, _, _)) => emptied = Ok(()),
                Ok(_) => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Err(error) => emptied = Err(error.into()),
            }
            break;
        }
        let patience = format!("PRAGMA busy_timeout = {}", super::PATIENCE.as_millis());
        sqlx::query(sqlx::AssertSqlSafe(patience)).execute(&mut *connection).await?;
        emptied
    }
}
