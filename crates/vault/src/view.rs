//! The vault's view of its journal: a SQLite file that is quick to ask and can be made again from the journal.
//!
//! Promise: it holds no secret in clear: keys are wrapped, product keys are there as keyed hashes only.
//!
//! All SQL of the vault is here. What other roles asked to remember ([`View::remember`]) is in this journal only as of a few hours ago,
//! or of the last good stop: writing it there each time would move this journal's own head each time another's moves. Whoever loses the
//! file loses what came after until the roles have told their heads again.

use std::path::Path;
use std::time::Duration;

use base::{CredentialId, ErrorKind, KeyKind, ProductId, Role, Timestamp};
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, Transaction};

use crate::entries::{CredentialCreated, Entry, Fact, HeadNoted, ProductKeysCreated};

const VERSION: i64 = 1;
const TABLES: &[&str] = &[
    "CREATE TABLE applied (writer BLOB NOT NULL, sequence INTEGER NOT NULL, PRIMARY KEY (writer, sequence)) WITHOUT ROWID",
    "CREATE TABLE authority (one INTEGER PRIMARY KEY CHECK (one = 1), certificate BLOB NOT NULL, wrapped_key BLOB NOT NULL)",
    "CREATE TABLE products (product INTEGER PRIMARY KEY, custody TEXT NOT NULL, public_key BLOB NOT NULL, \
     wrapped_private BLOB NOT NULL, wrapped_lookup BLOB NOT NULL, created_at INTEGER NOT NULL)",
    "CREATE TABLE credentials (credential BLOB PRIMARY KEY, product INTEGER NOT NULL, kind TEXT NOT NULL, \
     verifier BLOB NOT NULL UNIQUE, wrapped_private BLOB NOT NULL, created_at INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE INDEX credentials_of_product ON credentials (product)",
    // A table of its own, so that a revocation holds even if it is read before the credential it revokes.
    "CREATE TABLE revoked (credential BLOB PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE heads (role TEXT NOT NULL, journal TEXT NOT NULL, length INTEGER NOT NULL, hash BLOB NOT NULL, \
     PRIMARY KEY (role, journal)) WITHOUT ROWID",
];

/// What of the remembered heads is in the journal. Views of before there was such a thing get it as well.
const NOTED: &str = "CREATE TABLE IF NOT EXISTS noted (role TEXT NOT NULL, journal TEXT NOT NULL, length INTEGER NOT NULL, \
                     hash BLOB NOT NULL, PRIMARY KEY (role, journal)) WITHOUT ROWID";
/// Who keeps a product's private key since it changed; else it is as it was made. Views of before there was such a thing get it as well.
const CUSTODY: &str = "CREATE TABLE IF NOT EXISTS custody (product INTEGER PRIMARY KEY, custody TEXT NOT NULL, \
                       wrapped_private BLOB NOT NULL, at INTEGER NOT NULL)";
/// How long one waits for another who writes.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many heads go into the journal at once.
const NOTED_AT_ONCE: i64 = 10_000;

/// Why the view did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// SQLite failed.
    #[error("the vault's database failed")]
    Sql(#[from] sqlx::Error),
    /// Made by another version.
    #[error(
        "the vault's database was written by a newer version of Coffer (format {0}, this one knows up to {VERSION}): use that version, or a newer one"
    )]
    Version(i64),
    /// Somebody read it all the time, so that what was deleted may be in its files yet.
    #[error("the vault's database was read all the time: what was deleted may be in its files yet")]
    Busy,
    /// A value in it is not what it should be.
    #[error("the vault's database holds a {0} that cannot be read; remove the file, it is made again from the journal")]
    Value(&'static str),
    /// A journal became shorter, or another one.
    #[error("the journal {journal} of the {role} role had {remembered} segments and is now told to have {told}, or they are others")]
    HeadWentBack {
        /// Whose.
        role: Role,
        /// Which.
        journal: String,
        /// The length that was remembered.
        remembered: u64,
        /// The length that was told.
        told: u64,
    },
}

impl ViewError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Sql(_) | Self::Busy => ErrorKind::Unavailable,
            Self::Version(_) => ErrorKind::Internal,
            Self::Value(_) | Self::HeadWentBack { .. } => ErrorKind::Corrupt,
        }
    }
}

/// A product's keys as they are kept.
#[derive(Debug, Clone)]
pub(crate) struct ProductRow {
    pub(crate) custody: String,
    pub(crate) public_key: Vec<u8>,
    pub(crate) wrapped_private: Vec<u8>,
    pub(crate) wrapped_lookup: Vec<u8>,
}

/// A product key as it is kept.
#[derive(Debug, Clone)]
pub(crate) struct CredentialRow {
    pub(crate) credential: CredentialId,
    pub(crate) product: ProductId,
    pub(crate) kind: KeyKind,
    pub(crate) verifier: Vec<u8>,
    pub(crate) created_at: Timestamp,
    pub(crate) revoked_at: Option<Timestamp>,
}

/// A journal's length and the hash of its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeadRow {
    pub(crate) journal: String,
    pub(crate) length: u64,
    pub(crate) hash: Vec<u8>,
}

/// Which segments the view holds: writer and number.
pub(crate) type Position = ([u8; 16], u64);

#[derive(Debug, Clone)]
pub(crate) struct View(SqlitePool);

type StoredProduct = (String, Vec<u8>, Vec<u8>, Vec<u8>);
type StoredCredential = (Vec<u8>, i64, String, Vec<u8>, i64, Option<i64>);
const CREDENTIAL: &str = "SELECT c.credential, c.product, c.kind, c.verifier, c.created_at, r.at FROM credentials c \
                          LEFT JOIN revoked r ON r.credential = c.credential";

impl View {
    /// Opens the file, or makes an empty view.
    pub(crate) async fn open(path: &Path) -> Result<Self, ViewError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(PATIENCE)
            .pragma("temp_store", "memory")
            .pragma("secure_delete", "on");
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            // What a full disk broke off can leave a transaction behind that never ends, and that all others would wait for.
            .after_release(|connection, _| {
                Box::pin(async move {
                    connection.ping().await?;
                    Ok(!connection.is_in_transaction())
                })
            })
            .connect_with(options)
            .await?;
        let (version,): (i64,) = sqlx::query_as("PRAGMA user_version").fetch_one(&pool).await?;
        match version {
            VERSION => {}
            0 => {
                let mut tx = pool.begin().await?;
                for table in TABLES {
                    sqlx::query(*table).execute(&mut *tx).await?;
                }
                sqlx::query("PRAGMA user_version = 1").execute(&mut *tx).await?;
                tx.commit().await?;
            }
            other => return Err(ViewError::Version(other)),
        }
        sqlx::query(NOTED).execute(&pool).await?;
        sqlx::query(CUSTODY).execute(&pool).await?;
        sqlx::query(people_keys::TABLE).execute(&pool).await?;
        Ok(Self(pool))
    }

    /// Opens one that is there, to look at and not to change.
    pub(crate) async fn look(path: &Path) -> Result<Self, ViewError> {
        let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(PATIENCE);
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
        let (version,): (i64,) = sqlx::query_as("PRAGMA user_version").fetch_one(&pool).await?;
        match version {
            VERSION => Ok(Self(pool)),
            other => Err(ViewError::Version(other)),
        }
    }

    /// Which segments have been applied.
    pub(crate) async fn applied(&self) -> Result<std::collections::HashSet<Position>, ViewError> {
        let rows: Vec<(Vec<u8>, i64)> = sqlx::query_as("SELECT writer, sequence FROM applied").fetch_all(&self.0).await?;
        rows.into_iter()
            .map(|(writer, sequence)| Ok((writer.try_into().map_err(|_| ViewError::Value("writer"))?, sequence.cast_unsigned())))
            .collect()
    }

    /// Applies a segment's facts, all or none, once.
    pub(crate) async fn apply(&self, (writer, sequence): Position, entries: &[Entry]) -> Result<(), ViewError> {
        let mut tx = self.0.begin().await?;
        for entry in entries {
            apply(&mut tx, (writer, sequence), entry).await?;
        }
        sqlx::query("INSERT OR IGNORE INTO applied (writer, sequence) VALUES (?, ?)")
            .bind(&writer[..])
            .bind(sequence.cast_signed())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    /// How many products have keys, how many credentials there are, and how many of these are revoked.
    pub(crate) async fn counts(&self) -> Result<(i64, i64, i64), ViewError> {
        let counts = "SELECT (SELECT count(*) FROM products), (SELECT count(*) FROM credentials), (SELECT count(*) FROM revoked)";
        Ok(sqlx::query_as(counts).fetch_one(&self.0).await?)
    }

    /// The authority's certificate and wrapped key.
    pub(crate) async fn authority(&self) -> Result<Option<(Vec<u8>, Vec<u8>)>, ViewError> {
        Ok(sqlx::query_as("SELECT certificate, wrapped_key FROM authority")
            .fetch_optional(&self.0)
            .await?)
    }

    /// Who kept a product's private key when the product was made.
    pub(crate) async fn custody_at_first(&self, product: ProductId) -> Result<Option<String>, ViewError> {
        let row: Option<(String,)> = sqlx::query_as("SELECT custody FROM products WHERE product = ?")
            .bind(number(product))
            .fetch_optional(&self.0)
            .await?;
        Ok(row.map(|(custody,)| custody))
    }

    /// A product's keys.
    pub(crate) async fn product(&self, product: ProductId) -> Result<Option<ProductRow>, ViewError> {
        let row: Option<StoredProduct> = sqlx::query_as(
            "SELECT coalesce(c.custody, p.custody), p.public_key, coalesce(c.wrapped_private, p.wrapped_private), p.wrapped_lookup \
                 FROM products p LEFT JOIN custody c USING (product) WHERE product = ?",
        )
        .bind(number(product))
        .fetch_optional(&self.0)
        .await?;
        Ok(row.map(|(custody, public_key, wrapped_private, wrapped_lookup)| ProductRow {
            custody,
            public_key,
            wrapped_private,
            wrapped_lookup,
        }))
    }

    /// The product key with this verifier.
    pub(crate) async fn credential_by_verifier(&self, verifier: &[u8; 32]) -> Result<Option<CredentialRow>, ViewError> {
        let row: Option<StoredCredential> = sqlx::query_as(sqlx::AssertSqlSafe(format!("{CREDENTIAL} WHERE c.verifier = ?")))
            .bind(&verifier[..])
            .fetch_optional(&self.0)
            .await?;
        row.map(credential).transpose()
    }

    /// The product key with this id.
    pub(crate) async fn credential(&self, id: CredentialId) -> Result<Option<CredentialRow>, ViewError> {
        let row: Option<StoredCredential> = sqlx::query_as(sqlx::AssertSqlSafe(format!("{CREDENTIAL} WHERE c.credential = ?")))
            .bind(&id.to_bytes()[..])
            .fetch_optional(&self.0)
            .await?;
        row.map(credential).transpose()
    }

    /// All products that have keys.
    pub(crate) async fn products(&self) -> Result<Vec<ProductId>, ViewError> {
        let rows: Vec<(i64,)> = sqlx::query_as("SELECT product FROM products ORDER BY product")
            .fetch_all(&self.0)
            .await?;
        let id = |(product,): (i64,)| ProductId::new(product.cast_unsigned()).map_err(|_| ViewError::Value("product"));
        rows.into_iter().map(id).collect()
    }

    /// A product's product keys, oldest first.
    pub(crate) async fn credentials(&self, product: ProductId) -> Result<Vec<CredentialRow>, ViewError> {
        let sql = sqlx::AssertSqlSafe(format!("{CREDENTIAL} WHERE c.product = ? ORDER BY c.created_at, c.credential"));
        let rows: Vec<StoredCredential> = sqlx::query_as(sql).bind(number(product)).fetch_all(&self.0).await?;
        rows.into_iter().map(credential).collect()
    }

    /// The product's private key as it is wrapped under one product key's secret.
    pub(crate) async fn wrapped_for(&self, id: CredentialId) -> Result<Option<Vec<u8>>, ViewError> {
        let row: Option<(Vec<u8>,)> = sqlx::query_as("SELECT wrapped_private FROM credentials WHERE credential = ?")
            .bind(&id.to_bytes()[..])
            .fetch_optional(&self.0)
            .await?;
        Ok(row.map(|(wrapped,)| wrapped).filter(|wrapped| !wrapped.is_empty()))
    }

    /// What was revoked since `since`.
    pub(crate) async fn revoked_since(&self, since: Timestamp) -> Result<Vec<(Timestamp, CredentialId)>, ViewError> {
        let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as("SELECT at, credential FROM revoked WHERE at >= ?")
            .bind(since.as_micros())
            .fetch_all(&self.0)
            .await?;
        rows.into_iter()
            .map(|(at, id)| Ok((Timestamp::from_micros(at), credential_id(&id)?)))
            .collect()
    }

    /// Remembers how far a role's journals have come. Refuses one that went back, and then remembers none of them.
    pub(crate) async fn remember(&self, role: Role, heads: &[HeadRow]) -> Result<(), ViewError> {
        let mut tx = self.0.begin().await?;
        for head in heads {
            let known: Option<(i64, Vec<u8>)> = sqlx::query_as("SELECT length, hash FROM heads WHERE role = ? AND journal = ?")
                .bind(role.as_str())
                .bind(&head.journal)
                .fetch_optional(&mut *tx)
                .await?;
            if let Some((length, hash)) = known {
                let remembered = length.cast_unsigned();
                if head.length < remembered || (head.length == remembered && head.hash != hash) {
                    return Err(ViewError::HeadWentBack {
                        role,
                        journal: head.journal.clone(),
                        remembered,
                        told: head.length,
                    });
                }
            }
            sqlx::query("INSERT OR REPLACE INTO heads (role, journal, length, hash) VALUES (?, ?, ?, ?)")
                .bind(role.as_str())
                .bind(&head.journal)
                .bind(head.length.cast_signed())
                .bind(&head.hash)
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// What a role asked to remember.
    pub(crate) async fn recall(&self, role: Role) -> Result<Vec<HeadRow>, ViewError> {
        let rows: Vec<(String, i64, Vec<u8>)> = sqlx::query_as("SELECT journal, length, hash FROM heads WHERE role = ? ORDER BY journal")
            .bind(role.as_str())
            .fetch_all(&self.0)
            .await?;
        Ok(rows
            .into_iter()
            .map(|(journal, length, hash)| HeadRow {
                journal,
                length: length.cast_unsigned(),
                hash,
            })
            .collect())
    }

    /// What is remembered and not in the journal yet, or as an earlier head only: whose, and the head.
    pub(crate) async fn not_noted(&self) -> Result<Vec<(String, HeadRow)>, ViewError> {
        let rows: Vec<(String, String, i64, Vec<u8>)> = sqlx::query_as(
            "SELECT role, journal, h.length, h.hash FROM heads h LEFT JOIN noted n USING (role, journal) \
             WHERE n.length IS NULL OR n.length < h.length LIMIT ?",
        )
        .bind(NOTED_AT_ONCE)
        .fetch_all(&self.0)
        .await?;
        let head = |(role, journal, length, hash): (String, String, i64, Vec<u8>)| {
            let length = length.cast_unsigned();
            (role, HeadRow { journal, length, hash })
        };
        Ok(rows.into_iter().map(head).collect())
    }

    /// Closes the file.
    pub(crate) async fn close(&self) {
        self.0.close().await;
    }
}

async fn apply(tx: &mut Transaction<'_, Sqlite>, position: Position, entry: &Entry) -> Result<(), ViewError> {
    // A fact of a newer version must not be passed over: what it says could be a revocation.
    let fact = entry.fact.as_ref().ok_or(ViewError::Value("fact"))?;
    let query = match fact {
        Fact::Heads(noted) => return note(tx, &noted.heads).await,
        Fact::PeopleKey(made) => return people_keys::apply(tx, position, made).await,
        Fact::CustomerProduct(made) => {
            insert_product(&made.product).execute(&mut **tx).await?;
            insert_credential(&made.credential)
        }
        Fact::Custody(made) => sqlx::query(
            "INSERT INTO custody (product, custody, wrapped_private, at) VALUES (?, ?, ?, ?) ON CONFLICT (product) DO UPDATE SET \
             custody = excluded.custody, wrapped_private = excluded.wrapped_private, at = excluded.at WHERE excluded.at > at",
        )
        .bind(made.product.cast_signed())
        .bind(&made.custody)
        .bind(&made.wrapped_private)
        .bind(made.at),
        Fact::Authority(made) => sqlx::query("INSERT OR IGNORE INTO authority (one, certificate, wrapped_key) VALUES (1, ?, ?)")
            .bind(&made.certificate)
            .bind(&made.wrapped_key),
        Fact::Product(made) => insert_product(made),
        Fact::Credential(made) => insert_credential(made),
        Fact::Revoked(made) => sqlx::query(
            "INSERT INTO revoked (credential, at) VALUES (?, ?) ON CONFLICT (credential) DO UPDATE SET at = min(at, excluded.at)",
        )
        .bind(&made.credential)
        .bind(made.at),
    };
    query.execute(&mut **tx).await?;
    Ok(())
}

type Insert<'a> = sqlx::query::Query<'a, Sqlite, sqlx::sqlite::SqliteArguments>;

fn insert_product(made: &ProductKeysCreated) -> Insert<'_> {
    sqlx::query(
        "INSERT OR IGNORE INTO products (product, custody, public_key, wrapped_private, wrapped_lookup, created_at) \
         VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(made.product.cast_signed())
    .bind(&made.custody)
    .bind(&made.public_key)
    .bind(&made.wrapped_private)
    .bind(&made.wrapped_lookup)
    .bind(made.at)
}

fn insert_credential(made: &CredentialCreated) -> Insert<'_> {
    sqlx::query(
        "INSERT OR IGNORE INTO credentials (credential, product, kind, verifier, wrapped_private, created_at) \
         VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(&made.credential)
    .bind(made.product.cast_signed())
    .bind(&made.kind)
    .bind(&made.verifier)
    .bind(&made.wrapped_private)
    .bind(made.at)
}

/// A head that is remembered and longer stays.
async fn note(tx: &mut Transaction<'_, Sqlite>, heads: &[HeadNoted]) -> Result<(), ViewError> {
    for head in heads {
        for table in ["noted", "heads"] {
            let sql = format!(
                "INSERT INTO {table} (role, journal, length, hash) VALUES (?, ?, ?, ?) ON CONFLICT (role, journal) \
                 DO UPDATE SET length = excluded.length, hash = excluded.hash WHERE excluded.length > length"
            );
            sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(&head.role)
                .bind(&head.journal)
                .bind(head.length.cast_signed())
                .bind(&head.hash)
                .execute(&mut **tx)
                .await?;
        }
    }
    Ok(())
}

fn credential((id, product, kind, verifier, created_at, revoked_at): StoredCredential) -> Result<CredentialRow, ViewError> {
    Ok(CredentialRow {
        credential: credential_id(&id)?,
        product: ProductId::new(product.cast_unsigned()).map_err(|_| ViewError::Value("product"))?,
        kind: kind.parse().map_err(|_: ErrorKind| ViewError::Value("kind of key"))?,
        verifier,
        created_at: Timestamp::from_micros(created_at),
        revoked_at: revoked_at.map(Timestamp::from_micros),
    })
}

fn credential_id(bytes: &[u8]) -> Result<CredentialId, ViewError> {
    CredentialId::try_from(bytes).map_err(|_| ViewError::Value("credential"))
}

fn number(product: ProductId) -> i64 {
    product.get().cast_signed()
}

pub(crate) mod people_keys;

#[cfg(test)]
mod tests;
