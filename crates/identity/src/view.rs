//! A view of one product's people, in a database of its own: quick to look up in, made from the journal alone.
//!
//! What it holds is what the journal's entries hold, row by row, and no more readable (see `ring`); beside it the number of the last
//! segment that it holds. Rows of the first form are there until they have been moved.
//!
//! Start at [`View::open`] and [`View::apply`]; what can be asked is in `read`. All SQL of this role is here.

mod first;
mod read;

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use base::{ErrorKind, PersonId};
use journal::Head;
use seal::SealError;
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, Transaction};

use crate::facts::{Entry, Erased, Fact, SealedPerson, SealedRing};

pub(crate) use first::OldRow;
pub(crate) use read::Stone;

const VERSION: i64 = 3;

/// Where what is of the first form lies until it is moved.
const SCHEMA_FIRST: &str = "
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
";

const SCHEMA: &str = "
CREATE TABLE persons (id INTEGER NOT NULL PRIMARY KEY, sealed BLOB NOT NULL) STRICT;
CREATE TABLE erased (id INTEGER NOT NULL PRIMARY KEY, at INTEGER NOT NULL, epoch INTEGER NOT NULL) STRICT;
CREATE TABLE ring (only INTEGER NOT NULL PRIMARY KEY CHECK (only = 1), epoch INTEGER NOT NULL, sealed BLOB NOT NULL) STRICT;
CREATE TABLE untrimmed (only INTEGER NOT NULL PRIMARY KEY CHECK (only = 1)) STRICT;
PRAGMA user_version = 3;
";

/// What version 1 had allowed one identity for each person. It is filled again from the journal.
const FORGET_1: &str = "DROP TABLE people; DROP TABLE applied;";

/// Many in one statement, because each statement costs a walk to SQLite's thread and back.
const AT_ONCE: usize = 8_192;

/// Sealed people as one blob: `?1`; id, start and length of each as JSON: `?2`.
const INSERT_PERSONS: &str = "
INSERT OR REPLACE INTO persons (id, sealed) SELECT value ->> 0, substr(?1, value ->> 1, value ->> 2) FROM json_each(?2)";

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
    #[error("what is kept of people does not open: {0}")]
    Seal(#[from] SealError),
    #[error("the identity role is stopping")]
    Stopping,
}

impl ViewError {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            // A full disk, most of the time: nothing was answered, so trying again is safe.
            Self::Sql(_) => ErrorKind::Unavailable,
            Self::Version(_) => ErrorKind::Internal,
            Self::Corrupt(_) => ErrorKind::Corrupt,
            Self::Seal(error) => error.kind(),
            Self::Stopping => ErrorKind::Unavailable,
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
        // Whoever went away while they opened it may be making it just now.
        let mut change = pool.begin_with("BEGIN IMMEDIATE").await?;
        let steps: &[&str] = match sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *change).await? {
            0 => &[SCHEMA_FIRST, SCHEMA],
            1 => &[FORGET_1, SCHEMA_FIRST, SCHEMA],
            2 => &[SCHEMA],
            VERSION => &[],
            other => return Err(ViewError::Version(other)),
        };
        for step in steps {
            sqlx::raw_sql(*step).execute(&mut *change).await?;
        }
        change.commit().await?;
        Ok(Self(pool))
    }

    /// Opens one that is there, to look at and not to change.
    pub(crate) async fn look(file: &Path) -> Result<Self, ViewError> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .read_only(true)
            .busy_timeout(Duration::from_secs(10));
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
        match sqlx::query_scalar("PRAGMA user_version").fetch_one(&pool).await? {
            VERSION => Ok(Self(pool)),
            other => Err(ViewError::Version(other)),
        }
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

    /// Puts the entries of the segment that ends at `head` into the view, all or none.
    pub(crate) async fn apply(&self, head: &Head, entries: &[Entry]) -> Result<(), ViewError> {
        let mut change = self.0.begin().await?;
        for entry in entries {
            match entry {
                Entry::Seen(people) => first::insert(&mut change, people).await?,
                Entry::Change(fact) => apply(&mut change, fact).await?,
            }
        }
        sqlx::query("INSERT OR REPLACE INTO applied (only, length, hash) VALUES (1, ?, ?)")
            .bind(i64::try_from(head.length).map_err(|_| ViewError::Corrupt("a length"))?)
            .bind(head.hash.to_vec())
            .execute(&mut *change)
            .await?;
        change.commit().await?;
        Ok(())
    }

    /// Ends all connections.
    pub(crate) async fn close(&self) {
        self.0.close().await;
    }
}

async fn apply(change: &mut Transaction<'_, Sqlite>, fact: &Fact) -> Result<(), ViewError> {
    match fact {
        Fact::Ring(ring) => put_ring(change, ring).await,
        Fact::Given(given) => insert_persons(change, &given.people).await,
        Fact::Erased(erased) => erase(change, erased).await,
        Fact::Moving(ring) => {
            sqlx::raw_sql("DELETE FROM persons").execute(&mut **change).await?;
            put_ring(change, ring).await
        }
        Fact::Moved(_) => {
            let moved = "DELETE FROM people; INSERT OR IGNORE INTO untrimmed (only) VALUES (1)";
            sqlx::raw_sql(moved).execute(&mut **change).await?;
            Ok(())
        }
    }
}

async fn erase(change: &mut Transaction<'_, Sqlite>, erased: &Erased) -> Result<(), ViewError> {
    let ring = erased.ring.as_ref().ok_or(ViewError::Corrupt("an erasure without a keyring"))?;
    sqlx::query("DELETE FROM persons WHERE id = ?")
        .bind(erased.id)
        .execute(&mut **change)
        .await?;
    insert_persons(change, &erased.people).await?;
    sqlx::query("INSERT OR IGNORE INTO erased (id, at, epoch) VALUES (?, ?, ?)")
        .bind(erased.id)
        .bind(erased.at)
        .bind(ring.epoch.cast_signed())
        .execute(&mut **change)
        .await?;
    put_ring(change, ring).await
}

async fn put_ring(change: &mut Transaction<'_, Sqlite>, ring: &SealedRing) -> Result<(), ViewError> {
    sqlx::query("INSERT OR REPLACE INTO ring (only, epoch, sealed) VALUES (1, ?, ?)")
        .bind(ring.epoch.cast_signed())
        .bind(&ring.sealed)
        .execute(&mut **change)
        .await?;
    Ok(())
}

async fn insert_persons(change: &mut Transaction<'_, Sqlite>, people: &[SealedPerson]) -> Result<(), ViewError> {
    for chunk in people.chunks(AT_ONCE) {
        let (mut sealed, mut places) = (Vec::new(), String::from("["));
        for (index, person) in chunk.iter().enumerate() {
            person_id(person.id)?;
            let comma = if index > 0 { "," } else { "" };
            write!(places, "{comma}[{},{},{}]", person.id, sealed.len() + 1, person.sealed.len()).expect("memory can be written to");
            sealed.extend_from_slice(&person.sealed);
        }
        places.push(']');
        sqlx::query(INSERT_PERSONS).bind(sealed).bind(places).execute(&mut **change).await?;
    }
    Ok(())
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
mod tests;
