//! What can be asked of a view.

use std::collections::HashMap;

use base::{PersonId, Timestamp};

use super::{AT_ONCE, View, ViewError, json, number, person_id};
use crate::facts::SealedRing;
use crate::ring::ids_of;

/// Of people by their ids, as a JSON array: `?1`.
const PERSONS: &str = "
SELECT persons.id, persons.sealed FROM json_each(?1) AS wanted CROSS JOIN persons ON persons.id = wanted.value";

/// Those of ids, as a JSON array: `?1`, that somebody has or had.
const TAKEN: &str = "
SELECT value FROM json_each(?1) AS wanted
WHERE EXISTS (SELECT 1 FROM persons WHERE id = wanted.value) OR EXISTS (SELECT 1 FROM erased WHERE id = wanted.value)
OR EXISTS (SELECT 1 FROM people WHERE id = wanted.value)";

/// What is left of somebody who was erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stone {
    pub(crate) at: Timestamp,
    /// With the keyring of which epoch they were gone.
    pub(crate) epoch: u64,
}

impl View {
    /// The keyring, if the product has one yet.
    pub(crate) async fn ring(&self) -> Result<Option<SealedRing>, ViewError> {
        let row: Option<(i64, Vec<u8>)> = sqlx::query_as("SELECT epoch, sealed FROM ring").fetch_optional(&self.0).await?;
        Ok(row.map(|(epoch, sealed)| SealedRing {
            epoch: epoch.cast_unsigned(),
            sealed,
        }))
    }

    /// What is kept, sealed, of these people.
    pub(crate) async fn persons(&self, ids: &[PersonId]) -> Result<HashMap<PersonId, Vec<u8>>, ViewError> {
        let mut found = HashMap::new();
        for chunk in ids.chunks(AT_ONCE) {
            let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(PERSONS).bind(json(chunk)).fetch_all(&self.0).await?;
            for (id, sealed) in rows {
                found.insert(person_id(id)?, sealed);
            }
        }
        Ok(found)
    }

    /// The next people after an id, by their ids.
    pub(crate) async fn persons_after(&self, id: i64, count: usize) -> Result<Vec<(PersonId, Vec<u8>)>, ViewError> {
        let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as("SELECT id, sealed FROM persons WHERE id > ? ORDER BY id LIMIT ?")
            .bind(id)
            .bind(number(count))
            .fetch_all(&self.0)
            .await?;
        rows.into_iter().map(|(id, sealed)| Ok((person_id(id)?, sealed))).collect()
    }

    /// Everybody of a group.
    pub(crate) async fn group(&self, group: usize) -> Result<Vec<(PersonId, Vec<u8>)>, ViewError> {
        let (first, last) = ids_of(group);
        let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as("SELECT id, sealed FROM persons WHERE id BETWEEN ? AND ?")
            .bind(first)
            .bind(last)
            .fetch_all(&self.0)
            .await?;
        rows.into_iter().map(|(id, sealed)| Ok((person_id(id)?, sealed))).collect()
    }

    /// Those of `ids` that somebody has, or had.
    pub(crate) async fn taken(&self, ids: &[PersonId]) -> Result<Vec<PersonId>, ViewError> {
        let taken: Vec<i64> = sqlx::query_scalar(TAKEN).bind(json(ids)).fetch_all(&self.0).await?;
        taken.into_iter().map(person_id).collect()
    }

    /// What is left of somebody, if they were erased.
    pub(crate) async fn stone(&self, id: PersonId) -> Result<Option<Stone>, ViewError> {
        let row: Option<(i64, i64)> = sqlx::query_as("SELECT at, epoch FROM erased WHERE id = ?")
            .bind(id.get())
            .fetch_optional(&self.0)
            .await?;
        Ok(row.map(|(at, epoch)| Stone {
            at: Timestamp::from_micros(at),
            epoch: epoch.cast_unsigned(),
        }))
    }

    /// The next ids of people who were erased, after one.
    pub(crate) async fn erased_after(&self, id: i64, count: usize) -> Result<Vec<i64>, ViewError> {
        Ok(sqlx::query_scalar("SELECT id FROM erased WHERE id > ? ORDER BY id LIMIT ?")
            .bind(id)
            .bind(number(count))
            .fetch_all(&self.0)
            .await?)
    }

    /// How many people there are.
    pub(crate) async fn count(&self) -> Result<u64, ViewError> {
        let count: i64 = sqlx::query_scalar("SELECT (SELECT count(*) FROM persons) + (SELECT count(DISTINCT id) FROM people)")
            .fetch_one(&self.0)
            .await?;
        Ok(count.unsigned_abs())
    }
}
