//! The view: one product's people in SQLite. It can be deleted at any time and is made again from the journal.
//!
//! It holds keyed hashes, ids, and sealed together each person's identity and key. Without the product's lookup key, which is never on this disk, it tells
//! how many people there are.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use base::{ErrorKind, PersonId};
use journal::Head;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};

use crate::facts::PersonSeen;
use crate::keys::Hash;

const VERSION: i64 = 1;

const SCHEMA: &str = "
CREATE TABLE people (
    hash BLOB NOT NULL PRIMARY KEY,
    id INTEGER NOT NULL UNIQUE,
    sealed BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE applied (
    only INTEGER NOT NULL PRIMARY KEY CHECK (only = 1),
    length INTEGER NOT NULL,
    hash BLOB NOT NULL
) STRICT;
PRAGMA user_version = 1;
";

/// Many in one statement, because each statement costs a walk to SQLite's thread and back.
const AT_ONCE: usize = 8_192;

/// Hashes travel as one blob, 32 bytes each: `?1`; how many: `?2`.
const FIND: &str = "
WITH RECURSIVE wanted(i) AS (VALUES (0) UNION ALL SELECT i + 1 FROM wanted WHERE i + 1 < ?2)
SELECT wanted.i, people.id FROM wanted CROSS JOIN people ON people.hash = substr(?1, wanted.i * 32 + 1, 32)";

/// The same for what is kept of people.
const FIND_KEPT: &str = "
WITH RECURSIVE wanted(i) AS (VALUES (0) UNION ALL SELECT i + 1 FROM wanted WHERE i + 1 < ?2)
SELECT wanted.i, people.sealed FROM wanted CROSS JOIN people ON people.hash = substr(?1, wanted.i * 32 + 1, 32)";

/// Ids as a JSON array: `?1`.
const TAKEN: &str = "
SELECT people.id FROM json_each(?1) AS wanted CROSS JOIN people ON people.id = wanted.value";

/// Hashes as one blob: `?1`; sealed identities as one blob: `?2`; id, start and length of each as JSON: `?3`.
const INSERT: &str = "
INSERT INTO people (hash, id, sealed)
SELECT substr(?1, key * 32 + 1, 32), value ->> 0, substr(?2, value ->> 1, value ->> 2) FROM json_each(?3) WHERE true
ON CONFLICT DO NOTHING";

/// Why the view could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ViewError {
    #[error("the database of people could not be used")]
    Sql(#[from] sqlx::Error),
    #[error("the database of people has version {0}, this program knows {VERSION}")]
    Version(i64),
    #[error("the database of people holds {0} that cannot be")]
    Corrupt(&'static str),
}

impl ViewError {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            // A full disk, most of the time: nothing was answered, so trying again is safe.
            Self::Sql(_) => ErrorKind::Unavailable,
            Self::Version(_) => ErrorKind::Internal,
            Self::Corrupt(_) => ErrorKind::Corrupt,
        }
    }
}

/// The database.
#[derive(Debug, Clone)]
pub(crate) struct View(SqlitePool);

impl View {
    /// Opens it, or makes it.
    pub(crate) async fn open(file: &Path) -> Result<Self, ViewError> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10))
            .pragma("temp_store", "MEMORY")
            .pragma("secure_delete", "ON");
        let pool = SqlitePoolOptions::new().max_connections(3).connect_with(options).await?;
        match sqlx::query_scalar("PRAGMA user_version").fetch_one(&pool).await? {
            0 => {
                let mut change = pool.begin().await?;
                sqlx::raw_sql(SCHEMA).execute(&mut *change).await?;
                change.commit().await?;
            }
            VERSION => {}
            other => return Err(ViewError::Version(other)),
        }
        Ok(Self(pool))
    }

    /// How much of the journal is in the view.
    pub(crate) async fn applied(&self) -> Result<Head, ViewError> {
        let row: Option<(i64, Vec<u8>)> = sqlx::query_as("SELECT length, hash FROM applied").fetch_optional(&self.0).await?;
        let Some((length, hash)) = row else { return Ok(Head::default()) };
        let length = u64::try_from(length).map_err(|_| ViewError::Corrupt("a length"))?;
        Ok(Head {
            length,
            hash: hash.try_into().map_err(|_| ViewError::Corrupt("a hash"))?,
        })
    }

    /// The ids of those that are known.
    pub(crate) async fn find(&self, hashes: &[Hash]) -> Result<HashMap<Hash, PersonId>, ViewError> {
        let mut found = HashMap::new();
        for chunk in hashes.chunks(AT_ONCE) {
            let rows: Vec<(i64, i64)> = sqlx::query_as(FIND)
                .bind(chunk.concat())
                .bind(number(chunk.len()))
                .fetch_all(&self.0)
                .await?;
            for (index, id) in rows {
                let hash = usize::try_from(index)
                    .ok()
                    .and_then(|index| chunk.get(index))
                    .ok_or(ViewError::Corrupt("a place"))?;
                found.insert(*hash, PersonId::new(id).map_err(|_| ViewError::Corrupt("an id"))?);
            }
        }
        Ok(found)
    }

    /// What is kept, sealed, of those that are known.
    pub(crate) async fn kept(&self, hashes: &[Hash]) -> Result<HashMap<Hash, Vec<u8>>, ViewError> {
        let mut found = HashMap::new();
        for chunk in hashes.chunks(AT_ONCE) {
            let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(FIND_KEPT)
                .bind(chunk.concat())
                .bind(number(chunk.len()))
                .fetch_all(&self.0)
                .await?;
            for (index, kept) in rows {
                let place = usize::try_from(index).ok().and_then(|index| chunk.get(index));
                found.insert(*place.ok_or(ViewError::Corrupt("a place"))?, kept);
            }
        }
        Ok(found)
    }

    /// The hash of the person who has this id, and what is kept of them.
    pub(crate) async fn person(&self, id: PersonId) -> Result<Option<(Hash, Vec<u8>)>, ViewError> {
        let row: Option<(Vec<u8>, Vec<u8>)> = sqlx::query_as("SELECT hash, sealed FROM people WHERE id = ?")
            .bind(id.get())
            .fetch_optional(&self.0)
            .await?;
        let Some((hash, kept)) = row else { return Ok(None) };
        Ok(Some((hash.try_into().map_err(|_| ViewError::Corrupt("a hash"))?, kept)))
    }

    /// Those of `ids` that somebody has.
    pub(crate) async fn taken(&self, ids: &[PersonId]) -> Result<Vec<PersonId>, ViewError> {
        let ids = format!("{:?}", ids.iter().map(|id| id.get()).collect::<Vec<_>>());
        let taken: Vec<i64> = sqlx::query_scalar(TAKEN).bind(ids).fetch_all(&self.0).await?;
        taken
            .into_iter()
            .map(|id| PersonId::new(id).map_err(|_| ViewError::Corrupt("an id")))
            .collect()
    }

    /// Puts the people of the segment that ends at `head` into the view, all or none. Says how many were new to it.
    pub(crate) async fn apply(&self, head: &Head, people: &[PersonSeen]) -> Result<usize, ViewError> {
        let mut change = self.0.begin().await?;
        let mut new = 0;
        for chunk in people.chunks(AT_ONCE) {
            let (mut hashes, mut sealed, mut places) = (Vec::with_capacity(chunk.len() * 32), Vec::new(), String::from("["));
            for (index, person) in chunk.iter().enumerate() {
                if person.hash.len() != 32 || PersonId::new(person.id).is_err() {
                    return Err(ViewError::Corrupt("a person in the journal"));
                }
                let comma = if index > 0 { "," } else { "" };
                write!(places, "{comma}[{},{},{}]", person.id, sealed.len() + 1, person.sealed.len()).expect("memory can be written to");
                hashes.extend_from_slice(&person.hash);
                sealed.extend_from_slice(&person.sealed);
            }
            places.push(']');
            let done = sqlx::query(INSERT)
                .bind(hashes)
                .bind(sealed)
                .bind(places)
                .execute(&mut *change)
                .await?;
            new += usize::try_from(done.rows_affected()).unwrap_or(usize::MAX);
        }
        sqlx::query("INSERT OR REPLACE INTO applied (only, length, hash) VALUES (1, ?, ?)")
            .bind(i64::try_from(head.length).map_err(|_| ViewError::Corrupt("a length"))?)
            .bind(head.hash.to_vec())
            .execute(&mut *change)
            .await?;
        change.commit().await?;
        Ok(new)
    }

    /// How many people there are.
    #[cfg(test)]
    pub(crate) async fn count(&self) -> Result<u64, ViewError> {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM people").fetch_one(&self.0).await?;
        Ok(count.unsigned_abs())
    }

    /// Ends all connections.
    pub(crate) async fn close(&self) {
        self.0.close().await;
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use base::SeededEntropy;

    use super::*;

    fn person(index: u32, entropy: &SeededEntropy) -> PersonSeen {
        let hash = *blake3::hash(&index.to_le_bytes()).as_bytes();
        let sealed = vec![index as u8; index as usize % 50];
        PersonSeen {
            hash: hash.to_vec(),
            id: PersonId::random(entropy).get(),
            sealed,
        }
    }

    #[tokio::test]
    async fn many_people_go_in_and_are_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let view = View::open(&directory.path().join("7.sqlite")).await.unwrap();
        let entropy = SeededEntropy::new(1);
        let people: Vec<_> = (0..AT_ONCE as u32 + 100).map(|index| person(index, &entropy)).collect();
        let head = Head { length: 3, hash: [5; 32] };

        assert_eq!(view.apply(&head, &people).await.unwrap(), people.len());
        assert_eq!(view.apply(&head, &people).await.unwrap(), 0, "the second time nothing is new");

        let hashes: Vec<Hash> = people.iter().map(|p| p.hash.clone().try_into().unwrap()).chain([[0; 32]]).collect();
        let found = view.find(&hashes).await.unwrap();
        assert_eq!(found.len(), people.len());
        assert!(people.iter().zip(&hashes).all(|(person, hash)| found[hash].get() == person.id));
        assert_eq!(view.applied().await.unwrap(), head);
        assert_eq!(view.count().await.unwrap(), people.len() as u64);
        let sealed: Vec<u8> = sqlx::query_scalar("SELECT sealed FROM people WHERE hash = ?")
            .bind(&hashes[49][..])
            .fetch_one(&view.0)
            .await
            .unwrap();
        assert_eq!(sealed, people[49].sealed);
        let kept = view.kept(&hashes).await.unwrap();
        assert_eq!(kept.len(), people.len());
        assert!(people.iter().zip(&hashes).all(|(person, hash)| kept[hash] == person.sealed));
        let found = view.person(PersonId::new(people[9].id).unwrap()).await.unwrap();
        assert_eq!(found, Some((hashes[9], people[9].sealed.clone())));
        assert_eq!(view.person(PersonId::new(1).unwrap()).await.unwrap(), None);
        let ids = [PersonId::new(people[9].id).unwrap(), PersonId::new(1).unwrap()];
        assert_eq!(view.taken(&ids).await.unwrap(), ids[..1]);
    }
}
