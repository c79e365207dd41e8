//! The view of the audit journal: records by number and by product, the hashes of the tree's parts, and signed heads.
//!
//! Promise: it holds nothing that an export may not say. All of it but the signed heads is made again from the journal.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use audit::{Frontier, Hash, Node, Record, SignedHead, parts};
use base::ErrorKind;
use journal::Head;
use seal::InstallationKey;
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};

const VERSION: i64 = 1;
const TABLES: &[&str] = &[
    "CREATE TABLE records (n INTEGER PRIMARY KEY, product INTEGER NOT NULL, pn INTEGER NOT NULL, line TEXT NOT NULL)",
    "CREATE INDEX records_of_product ON records (product, pn) WHERE product > 0",
    "CREATE TABLE parts (level INTEGER NOT NULL, place INTEGER NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (level, place)) WITHOUT ROWID",
    "CREATE TABLE journal (one INTEGER PRIMARY KEY CHECK (one = 1), length INTEGER NOT NULL, hash BLOB NOT NULL)",
    "CREATE TABLE heads (size INTEGER PRIMARY KEY, line TEXT NOT NULL)",
];

/// Why the view of the audit journal did not answer.
#[derive(Debug, thiserror::Error)]
pub enum AuditViewError {
    /// SQLite failed.
    #[error("the database of the audit journal failed")]
    Sql(#[from] sqlx::Error),
    /// Made by another version.
    #[error(
        "the database of the audit journal was written by a newer version of Coffer (format {0}, this one knows up to {VERSION}): use that version, or a newer one"
    )]
    Version(i64),
    /// A value in it is not what it should be.
    #[error("the database of the audit journal holds a {0} that cannot be right; remove the file, it is made again from the journal")]
    Value(&'static str),
    /// It is not the file that was opened any more.
    #[error("{0} is not the file any more that records are written to: it was removed or replaced; start the installation again")]
    Moved(PathBuf),
    /// A record of the journal does not go on from those before it.
    #[error("record {0} of the audit journal does not follow the one before it")]
    Broken(u64),
    /// A record of the journal cannot be read.
    #[error("a record of the audit journal cannot be read: {0}")]
    Record(#[from] audit::RecordError),
}

impl AuditViewError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Sql(_) | Self::Moved(_) => ErrorKind::Unavailable,
            Self::Version(_) => ErrorKind::Internal,
            Self::Value(_) | Self::Broken(_) | Self::Record(_) => ErrorKind::Corrupt,
        }
    }
}

/// Where the next record goes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Edge {
    pub(crate) tree: Frontier,
    pub(crate) last: Hash,
    pub(crate) of_product: HashMap<u64, u64>,
}

impl Edge {
    /// Goes on by a record, if it follows. Says which parts of the tree are complete now.
    pub(crate) fn follow(&mut self, line: &str) -> Result<(Record, Vec<(Node, Hash)>), AuditViewError> {
        let record = Record::parse(line)?;
        let place = self.tree.size() + 1;
        let before = self.of_product.get(&record.product).copied().unwrap_or(0);
        let counted = if record.product == 0 {
            record.pn == 0
        } else {
            record.pn == before + 1
        };
        if record.n != place || record.previous() != Some(self.last) || !counted {
            return Err(AuditViewError::Broken(place));
        }
        self.last = record.hash();
        if record.product > 0 {
            self.of_product.insert(record.product, record.pn);
        }
        let complete = self.tree.append(self.last);
        Ok((record, complete))
    }
}

/// A record that is to be stored.
pub(crate) struct Stored {
    pub(crate) record: Record,
    pub(crate) line: String,
    pub(crate) complete: Vec<(Node, Hash)>,
}

#[derive(Debug, Clone)]
pub(crate) struct AuditView {
    pool: SqlitePool,
    path: PathBuf,
    file: (u64, u64),
}

fn number(unsigned: u64) -> i64 {
    i64::try_from(unsigned).unwrap_or(i64::MAX)
}

fn hash(bytes: Vec<u8>) -> Result<Hash, AuditViewError> {
    bytes.try_into().map_err(|_| AuditViewError::Value("hash"))
}

impl AuditView {
    /// Opens the file, or makes an empty view.
    pub(crate) async fn open(path: &Path) -> Result<Self, AuditViewError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // What a power cut takes from it is read again from the journal. Signed heads are flushed with the next checkpoint.
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(Duration::from_secs(5))
            .pragma("temp_store", "memory");
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
            other => return Err(AuditViewError::Version(other)),
        }
        Self::of(pool, path)
    }

    /// Opens a file that is there, to read.
    pub(crate) async fn open_to_read(path: &Path) -> Result<Self, AuditViewError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .read_only(true)
            .busy_timeout(Duration::from_secs(5))
            .pragma("temp_store", "memory");
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
        let (version,): (i64,) = sqlx::query_as("PRAGMA user_version").fetch_one(&pool).await?;
        if version != VERSION {
            return Err(AuditViewError::Version(version));
        }
        Self::of(pool, path)
    }

    fn of(pool: SqlitePool, path: &Path) -> Result<Self, AuditViewError> {
        let file = identity(path).ok_or_else(|| AuditViewError::Moved(path.to_owned()))?;
        Ok(Self {
            pool,
            path: path.to_owned(),
            file,
        })
    }

    /// Whether the file at its path is still the one that was opened: what is written into another is seen by nobody.
    pub(crate) fn in_place(&self) -> Result<(), AuditViewError> {
        if identity(&self.path) == Some(self.file) {
            Ok(())
        } else {
            Err(AuditViewError::Moved(self.path.clone()))
        }
    }

    /// How far the journal had come when it was applied last.
    pub(crate) async fn journal(&self) -> Result<Head, AuditViewError> {
        let row: Option<(i64, Vec<u8>)> = sqlx::query_as("SELECT length, hash FROM journal")
            .fetch_optional(&self.pool)
            .await?;
        let Some((length, bytes)) = row else { return Ok(Head::default()) };
        Ok(Head {
            length: length.cast_unsigned(),
            hash: hash(bytes)?,
        })
    }

    /// Stores records, and how far the journal is with them, all or nothing.
    pub(crate) async fn apply(&self, records: &[Stored], journal: Head) -> Result<(), AuditViewError> {
        let mut tx = self.pool.begin().await?;
        for Stored { record, line, complete } in records {
            sqlx::query("INSERT INTO records (n, product, pn, line) VALUES (?, ?, ?, ?)")
                .bind(number(record.n))
                .bind(number(record.product))
                .bind(number(record.pn))
                .bind(line)
                .execute(&mut *tx)
                .await?;
            for (node, hash) in complete {
                sqlx::query("INSERT INTO parts (level, place, hash) VALUES (?, ?, ?)")
                    .bind(i64::from(node.level))
                    .bind(number(node.index))
                    .bind(&hash[..])
                    .execute(&mut *tx)
                    .await?;
            }
        }
        sqlx::query("INSERT OR REPLACE INTO journal (one, length, hash) VALUES (1, ?, ?)")
            .bind(number(journal.length))
            .bind(&journal.hash[..])
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Where the next record goes.
    pub(crate) async fn edge(&self) -> Result<Edge, AuditViewError> {
        let (size,): (i64,) = sqlx::query_as("SELECT coalesce(max(n), 0) FROM records")
            .fetch_one(&self.pool)
            .await?;
        let size = size.cast_unsigned();
        let mut hashes = Vec::new();
        for node in parts(0, size) {
            hashes.push(self.part(node).await?);
        }
        let last = match size.checked_sub(1) {
            Some(index) => self.part(Node { level: 0, index }).await?,
            None => [0; 32],
        };
        let counts: Vec<(i64, i64)> = sqlx::query_as("SELECT product, max(pn) FROM records WHERE product > 0 GROUP BY product")
            .fetch_all(&self.pool)
            .await?;
        Ok(Edge {
            tree: Frontier::of(size, hashes).ok_or(AuditViewError::Value("tree"))?,
            last,
            of_product: counts.into_iter().map(|(p, n)| (p.cast_unsigned(), n.cast_unsigned())).collect(),
        })
    }

    /// The hash of a part of the tree.
    pub(crate) async fn part(&self, node: Node) -> Result<Hash, AuditViewError> {
        let row: Option<(Vec<u8>,)> = sqlx::query_as("SELECT hash FROM parts WHERE level = ? AND place = ?")
            .bind(i64::from(node.level))
            .bind(number(node.index))
            .fetch_optional(&self.pool)
            .await?;
        hash(row.ok_or(AuditViewError::Value("part of the tree"))?.0)
    }

    /// Records with larger numbers than `after`, up to `upto`, of one product or of all (0), the first ones.
    pub(crate) async fn records(&self, product: u64, after: u64, upto: u64, most: u32) -> Result<Vec<(u64, String)>, AuditViewError> {
        let sql = if product == 0 {
            "SELECT n, line FROM records WHERE n > ? AND n <= ? ORDER BY n LIMIT ?"
        } else {
            "SELECT n, line FROM records WHERE n > ? AND n <= ? AND product = ? AND product > 0 ORDER BY pn LIMIT ?"
        };
        let mut query = sqlx::query_as(sql).bind(number(after)).bind(number(upto));
        if product > 0 {
            query = query.bind(number(product));
        }
        let rows: Vec<(i64, String)> = query.bind(i64::from(most)).fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(|(n, line)| (n.cast_unsigned(), line)).collect())
    }

    /// The last records, of one product or of all, in their order.
    pub(crate) async fn last(&self, product: u64, most: u32) -> Result<Vec<(u64, String)>, AuditViewError> {
        let sql = if product == 0 {
            "SELECT n, line FROM records ORDER BY n DESC LIMIT ?"
        } else {
            "SELECT n, line FROM records WHERE product = ? AND product > 0 ORDER BY pn DESC LIMIT ?"
        };
        let mut query = sqlx::query_as(sql);
        if product > 0 {
            query = query.bind(number(product));
        }
        let rows: Vec<(i64, String)> = query.bind(i64::from(most)).fetch_all(&self.pool).await?;
        Ok(rows.into_iter().rev().map(|(n, line)| (n.cast_unsigned(), line)).collect())
    }

    /// Keeps a head that both roles signed, in place of those before: a newer one says all that they say.
    pub(crate) async fn keep(&self, head: &SignedHead, key: &InstallationKey) -> Result<(), AuditViewError> {
        let mut tx = self.pool.begin().await?;
        sqlx::query("DELETE FROM heads WHERE size < ?")
            .bind(number(head.head.size))
            .execute(&mut *tx)
            .await?;
        sqlx::query("INSERT OR REPLACE INTO heads (size, line) VALUES (?, ?)")
            .bind(number(head.head.size))
            .bind(head.to_line(key))
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    /// The newest head that both roles signed.
    pub(crate) async fn newest(&self) -> Result<Option<SignedHead>, AuditViewError> {
        let line = self.newest_line().await?;
        line.map(|line| SignedHead::parse(&line).ok_or(AuditViewError::Value("head")))
            .transpose()
    }

    /// The same as it is kept.
    pub(crate) async fn newest_line(&self) -> Result<Option<String>, AuditViewError> {
        let row: Option<(String,)> = sqlx::query_as("SELECT line FROM heads ORDER BY size DESC LIMIT 1")
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|(line,)| line))
    }

    /// Closes the file.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}
