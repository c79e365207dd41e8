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
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};

use crate::facts::PersonSeen;
use crate::keys::Hash;
use crate::links::KnownBy;

const VERSION: i64 = 2;

const SCHEMA: &str = "
CREATE TABLE people (
    hash BLOB NOT NULL PRIMARY KEY,
    id INTEGER NOT NULL,
    sealed BLOB NOT NULL,
    named TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX people_by_id ON people (id);
CREATE TABLE applied (
    only INTEGER NOT NULL PRIMARY KEY CHECK (only = 1),
    length INTEGER NOT NULL,
    hash BLOB NOT NULL
) STRICT;
PRAGMA user_version = 2;
";

/// What version 1 had allowed one identity for each person. It is filled again from the journal.
const FORGET_1: &str = "DROP TABLE people; DROP TABLE applied;";

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

/// Of people by their ids, as a JSON array: `?1`, one of their identities, whichever.
const PERSONS: &str = "
SELECT people.id, people.hash, people.sealed FROM json_each(?1) AS wanted CROSS JOIN people ON people.id = wanted.value
GROUP BY people.id";

/// The same, by which columns they are known, and by how many identities of each.
const KNOWN_BY: &str = "
SELECT people.id, people.named, count(*) FROM json_each(?1) AS wanted CROSS JOIN people ON people.id = wanted.value
GROUP BY people.id, people.named";

/// Hashes as one blob: `?1`; sealed identities as one blob: `?2`; id, start, length and column of each as JSON: `?3`.
const INSERT: &str = "
INSERT INTO people (hash, id, sealed, named)
SELECT substr(?1, key * 32 + 1, 32), value ->> 0, substr(?2, value ->> 1, value ->> 2), value ->> 3 FROM json_each(?3) WHERE true
ON CONFLICT DO NOTHING";

/// Why the view could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ViewError {
    #[error("the database of people could not be used")]
    Sql(#[from] sqlx::Error),
    #[error(
        "the database of people was written by a newer version of Coffer (format {0}, this one knows up to {VERSION}): use that version, or a newer one"
    )]
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
        let pool = SqlitePoolOptions::new()
            .max_connections(3)
            // What a full disk broke off can leave a transaction behind that never ends, and that all others would wait for.
            .after_release(|connection, _| {
                Box::pin(async move {
                    connection.ping().await?;
                    Ok(!connection.is_in_transaction())
                })
            })
            .connect_with(options)
            .await?;
        let steps: &[&str] = match sqlx::query_scalar("PRAGMA user_version").fetch_one(&pool).await? {
            0 => &[SCHEMA],
            1 => &[FORGET_1, SCHEMA],
            VERSION => &[],
            other => return Err(ViewError::Version(other)),
        };
        let mut change = pool.begin().await?;
        for step in steps {
            sqlx::raw_sql(*step).execute(&mut *change).await?;
        }
        change.commit().await?;
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

    /// Of these people the hash of an identity, and what is kept of it.
    pub(crate) async fn persons(&self, ids: &[PersonId]) -> Result<HashMap<PersonId, (Hash, Vec<u8>)>, ViewError> {
        let mut found = HashMap::new();
        for chunk in ids.chunks(AT_ONCE) {
            let rows: Vec<(i64, Vec<u8>, Vec<u8>)> = sqlx::query_as(PERSONS).bind(json(chunk)).fetch_all(&self.0).await?;
            for (id, hash, kept) in rows {
                let hash = hash.try_into().map_err(|_| ViewError::Corrupt("a hash"))?;
                found.insert(person_id(id)?, (hash, kept));
            }
        }
        Ok(found)
    }

    /// By what these people are known.
    pub(crate) async fn known_by(&self, ids: &[PersonId]) -> Result<HashMap<PersonId, KnownBy>, ViewError> {
        let mut found: HashMap<PersonId, KnownBy> = HashMap::new();
        for chunk in ids.chunks(AT_ONCE) {
            let rows: Vec<(i64, String, i64)> = sqlx::query_as(KNOWN_BY).bind(json(chunk)).fetch_all(&self.0).await?;
            for (id, column, count) in rows {
                let by = found.entry(person_id(id)?).or_default();
                by.columns.insert(column);
                by.identities += count.unsigned_abs();
            }
        }
        Ok(found)
    }

    /// Those of `ids` that somebody has.
    pub(crate) async fn taken(&self, ids: &[PersonId]) -> Result<Vec<PersonId>, ViewError> {
        let taken: Vec<i64> = sqlx::query_scalar(TAKEN).bind(json(ids)).fetch_all(&self.0).await?;
        taken.into_iter().map(person_id).collect()
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

    /// How many identities there are.
    pub(crate) async fn count(&self) -> Result<u64, ViewError> {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM people").fetch_one(&self.0).await?;
        Ok(count.unsigned_abs())
    }

    /// Ends all connections.
    pub(crate) async fn close(&self) {
        self.0.close().await;
    }
}

/// Ids as a JSON array.
fn json(ids: &[PersonId]) -> String {
    format!("{:?}", ids.iter().map(|id| id.get()).collect::<Vec<_>>())
}

fn person_id(id: i64) -> Result<PersonId, ViewError> {
    PersonId::new(id).map_err(|_| ViewError::Corrupt("an id"))
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
            column: String::new(),
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
        let ids = [PersonId::new(people[9].id).unwrap(), PersonId::new(1).unwrap()];
        let found = view.persons(&ids).await.unwrap();
        assert_eq!(found, HashMap::from([(ids[0], (hashes[9], people[9].sealed.clone()))]));
        assert_eq!(view.taken(&ids).await.unwrap(), ids[..1]);
    }

    #[tokio::test]
    async fn one_person_is_known_by_several_identities() {
        let directory = tempfile::tempdir().unwrap();
        let view = View::open(&directory.path().join("7.sqlite")).await.unwrap();
        let entropy = SeededEntropy::new(1);
        let mut people: Vec<_> = (0..4).map(|index| person(index, &entropy)).collect();
        for (index, column) in ["e\"mail", "device", "device", ""].iter().enumerate() {
            people[index].column = (*column).to_owned();
            people[index].id = people[index / 3 * 3].id;
        }
        view.apply(&Head { length: 1, hash: [5; 32] }, &people).await.unwrap();

        let ids = [0, 3].map(|index: usize| PersonId::new(people[index].id).unwrap());
        let known = view.known_by(&ids).await.unwrap();
        let by = |columns: &[&str], identities| KnownBy {
            columns: columns.iter().map(|column| (*column).to_owned()).collect(),
            identities,
        };
        assert_eq!(known[&ids[0]], by(&["device", "e\"mail"], 3));
        assert_eq!(known[&ids[1]], by(&[""], 1));
        assert_eq!(view.persons(&ids).await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_view_of_the_first_version_is_filled_again() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("7.sqlite");
        let view = View::open(&file).await.unwrap();
        let first =
            "DROP TABLE people; CREATE TABLE people (hash BLOB NOT NULL PRIMARY KEY, id INTEGER NOT NULL UNIQUE, sealed BLOB NOT NULL)
            STRICT, WITHOUT ROWID; INSERT INTO people VALUES (x'00', 1, x'00'); INSERT INTO applied VALUES (1, 3, zeroblob(32));
            PRAGMA user_version = 1";
        sqlx::raw_sql(first).execute(&view.0).await.unwrap();
        view.close().await;

        let view = View::open(&file).await.unwrap();
        assert_eq!((view.applied().await.unwrap(), view.count().await.unwrap()), (Head::default(), 0));
    }
}
