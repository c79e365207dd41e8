//! Rows of the first form, until they have been moved.

use std::fmt::Write as _;

use base::PersonId;
use sqlx::{Sqlite, Transaction};

use super::{AT_ONCE, View, ViewError, number, person_id};
use crate::facts::PersonSeen;
use crate::keys::Hash;

/// Hashes as one blob: `?1`; sealed identities as one blob: `?2`; id, start, length and column of each as JSON: `?3`.
const INSERT: &str = "
INSERT INTO people (hash, id, sealed, named)
SELECT substr(?1, key * 32 + 1, 32), value ->> 0, substr(?2, value ->> 1, value ->> 2), value ->> 3 FROM json_each(?3) WHERE true
ON CONFLICT DO NOTHING";

/// Everything of the next so many people after the id `?1`.
const NEXT: &str = "
SELECT id, hash, sealed, named FROM people WHERE id IN (SELECT DISTINCT id FROM people WHERE id > ?1 ORDER BY id LIMIT ?2)
ORDER BY id";

/// An identity in the first form.
#[derive(Debug)]
pub(crate) struct OldRow {
    pub(crate) id: PersonId,
    pub(crate) hash: Hash,
    pub(crate) sealed: Vec<u8>,
    pub(crate) column: String,
}

/// The first of two that say something of one identity counts.
pub(super) async fn insert(change: &mut Transaction<'_, Sqlite>, people: &[PersonSeen]) -> Result<(), ViewError> {
    for chunk in people.chunks(AT_ONCE) {
        let (mut hashes, mut sealed, mut places) = (Vec::with_capacity(chunk.len() * 32), Vec::new(), String::from("["));
        for (index, person) in chunk.iter().enumerate() {
            if person.hash.len() != 32 || PersonId::new(person.id).is_err() {
                return Err(ViewError::Corrupt("a person in the journal"));
            }
            let comma = if index > 0 { "," } else { "" };
            let column = serde_json::Value::from(person.column.as_str());
            write!(
                places,
                "{comma}[{},{},{},{column}]",
                person.id,
                sealed.len() + 1,
                person.sealed.len()
            )
            .expect("memory can be written to");
            hashes.extend_from_slice(&person.hash);
            sealed.extend_from_slice(&person.sealed);
        }
        places.push(']');
        sqlx::query(INSERT)
            .bind(hashes)
            .bind(sealed)
            .bind(places)
            .execute(&mut **change)
            .await?;
    }
    Ok(())
}

impl View {
    /// Whether anything is of the first form.
    pub(crate) async fn has_first(&self) -> Result<bool, ViewError> {
        let found: Option<i64> = sqlx::query_scalar("SELECT 1 FROM people LIMIT 1").fetch_optional(&self.0).await?;
        Ok(found.is_some())
    }

    /// All that is of the first form of the next people after `id`, so many of them, by their ids.
    pub(crate) async fn first_after(&self, id: i64, people: usize) -> Result<Vec<OldRow>, ViewError> {
        let rows: Vec<(i64, Vec<u8>, Vec<u8>, String)> = sqlx::query_as(NEXT).bind(id).bind(number(people)).fetch_all(&self.0).await?;
        let row = |(id, hash, sealed, column): (i64, Vec<u8>, Vec<u8>, String)| {
            Ok(OldRow {
                id: person_id(id)?,
                hash: hash.try_into().map_err(|_| ViewError::Corrupt("a hash"))?,
                sealed,
                column,
            })
        };
        rows.into_iter().map(row).collect()
    }

    /// Whether the journal may hold entries of the first form all of which were moved.
    pub(crate) async fn is_untrimmed(&self) -> Result<bool, ViewError> {
        let found: Option<i64> = sqlx::query_scalar("SELECT 1 FROM untrimmed").fetch_optional(&self.0).await?;
        Ok(found.is_some())
    }

    /// It does not any more.
    pub(crate) async fn trimmed(&self) -> Result<(), ViewError> {
        sqlx::query("DELETE FROM untrimmed").execute(&self.0).await?;
        // What was deleted must not stay in the write-ahead log; where somebody reads just now, the next checkpoint does it.
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&self.0).await?;
        Ok(())
    }
}
