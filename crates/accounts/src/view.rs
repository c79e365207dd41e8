//! The view: what the journal says, in SQLite. It can be deleted at any time and is made again from the journal,
//! apart from the remembered heads of other roles, which are only as old as the view.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use base::{CredentialId, ErrorKind, ProductId, Role, Timestamp, Verbs, WriterId};
use journal::SegmentId;
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Row, Sqlite, Transaction};

use crate::facts::{ColumnsSet, CredentialGranted, Fact, ProductMade, What};
use crate::state::Product;

/// The file's name.
pub(crate) const FILE: &str = "accounts.sqlite";

const VERSION: i64 = 3;

const SCHEMA: &str = "
CREATE TABLE applied (
    writer BLOB NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (writer, sequence)
) STRICT, WITHOUT ROWID;
CREATE TABLE products (
    number INTEGER NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    identity_columns TEXT NOT NULL,
    personal_columns TEXT NOT NULL DEFAULT '',
    link_identities INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE credentials (
    product INTEGER NOT NULL,
    credential BLOB NOT NULL,
    verbs INTEGER NOT NULL,
    granted_at INTEGER NOT NULL,
    PRIMARY KEY (product, credential)
) STRICT, WITHOUT ROWID;
CREATE TABLE heads (
    role TEXT NOT NULL,
    journal TEXT NOT NULL,
    length INTEGER NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (role, journal)
) STRICT, WITHOUT ROWID;
";

/// The head of the audit journal that was signed last. Views of before there was such a thing get it as well.
const AUDIT_HEAD: &str = "
CREATE TABLE IF NOT EXISTS audit_head (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    size INTEGER NOT NULL,
    root BLOB NOT NULL
) STRICT;
";

/// What version 1 lacked. Its journal says nothing about it either.
const SINCE_1: &str = "ALTER TABLE products ADD COLUMN personal_columns TEXT NOT NULL DEFAULT ''; PRAGMA user_version = 2;";
/// The same of version 2.
const SINCE_2: &str = "ALTER TABLE products ADD COLUMN link_identities INTEGER NOT NULL DEFAULT 0; PRAGMA user_version = 3;";

/// Why the view could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// SQLite says no.
    #[error("the database of accounts could not be used, perhaps its disk is full: make room, then try again")]
    Sql(#[from] sqlx::Error),
    /// It was made by a later version of this program.
    #[error(
        "the view was written by a newer version of Coffer (format {0}, this one knows up to {VERSION}): use that version, or a newer one"
    )]
    Version(i64),
    /// It holds something that was never put there.
    #[error("the view holds {0} that cannot be")]
    Corrupt(&'static str),
}

impl ViewError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            // A full disk, most of the time. What the journal took meanwhile is applied before the next change, so trying again is safe.
            Self::Sql(_) => ErrorKind::Unavailable,
            Self::Version(_) | Self::Corrupt(_) => ErrorKind::Corrupt,
        }
    }
}

/// A head as remembered for another role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RememberedHead {
    pub(crate) journal: String,
    pub(crate) length: u64,
    pub(crate) hash: Vec<u8>,
}

/// The database.
#[derive(Debug, Clone)]
pub(crate) struct View(SqlitePool);

impl View {
    /// Opens it, or makes it.
    pub(crate) async fn open(directory: &Path) -> Result<Self, ViewError> {
        let options = SqliteConnectOptions::new()
            .filename(directory.join(FILE))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10))
            .pragma("temp_store", "MEMORY")
            .pragma("secure_delete", "ON");
        let pool = SqlitePoolOptions::new()
            .max_connections(2)
            // What a full disk broke off can leave a transaction behind that never ends, and that all others would wait for.
            .after_release(|connection, _| {
                Box::pin(async move {
                    connection.ping().await?;
                    Ok(!connection.is_in_transaction())
                })
            })
            .connect_with(options)
            .await?;
        let version: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&pool).await?;
        let steps: &[&str] = match version {
            0 => &[SCHEMA, "PRAGMA user_version = 3"],
            1 => &[SINCE_1, SINCE_2],
            2 => &[SINCE_2],
            VERSION => &[],
            later => return Err(ViewError::Version(later)),
        };
        let mut change = pool.begin().await?;
        for step in steps {
            sqlx::raw_sql(*step).execute(&mut *change).await?;
        }
        sqlx::raw_sql(AUDIT_HEAD).execute(&mut *change).await?;
        change.commit().await?;
        Ok(Self(pool))
    }

    /// The segments that are in the view.
    pub(crate) async fn applied(&self) -> Result<HashSet<SegmentId>, ViewError> {
        let rows = sqlx::query("SELECT writer, sequence FROM applied").fetch_all(&self.0).await?;
        let wrong = |_| ViewError::Corrupt("a segment");
        let id = |row: &sqlx::sqlite::SqliteRow| {
            let writer: Vec<u8> = row.try_get(0)?;
            let writer = WriterId::try_from(&writer[..]).map_err(|_| ViewError::Corrupt("a writer"))?;
            Ok(SegmentId {
                writer,
                sequence: u64::try_from(row.try_get::<i64, _>(1)?).map_err(wrong)?,
            })
        };
        rows.iter().map(id).collect()
    }

    /// Puts a segment's facts into the view, all or none. Facts that are there already change nothing.
    pub(crate) async fn apply(&self, facts: &[Fact], segment: &SegmentId) -> Result<(), ViewError> {
        let mut change = self.0.begin().await?;
        for fact in facts {
            match &fact.what {
                Some(What::Product(product)) => add_product(&mut change, product).await?,
                Some(What::Grant(grant)) => add_grant(&mut change, grant).await?,
                Some(What::Columns(columns)) => set_columns(&mut change, columns).await?,
                None => return Err(ViewError::Corrupt("a fact of an unknown kind")),
            }
        }
        sqlx::query("INSERT OR IGNORE INTO applied (writer, sequence) VALUES (?, ?)")
            .bind(&segment.writer.to_bytes()[..])
            .bind(number(segment.sequence))
            .execute(&mut *change)
            .await?;
        change.commit().await?;
        Ok(())
    }

    /// All products, by number.
    pub(crate) async fn products(&self) -> Result<Vec<Product>, ViewError> {
        let rows = sqlx::query(
            "SELECT number, name, created_at, identity_columns, personal_columns, link_identities FROM products ORDER BY number",
        )
        .fetch_all(&self.0)
        .await?;
        rows.iter().map(product).collect()
    }

    /// One product.
    pub(crate) async fn product(&self, id: ProductId) -> Result<Option<Product>, ViewError> {
        let row = sqlx::query(
            "SELECT number, name, created_at, identity_columns, personal_columns, link_identities FROM products WHERE number = ?",
        )
        .bind(number(id.get()))
        .fetch_optional(&self.0)
        .await?;
        row.as_ref().map(product).transpose()
    }

    /// What a credential may do to a product. Always asked by both: an id alone finds nothing.
    pub(crate) async fn verbs(&self, id: ProductId, credential: &CredentialId) -> Result<Option<Verbs>, ViewError> {
        let row = sqlx::query("SELECT verbs FROM credentials WHERE product = ? AND credential = ?")
            .bind(number(id.get()))
            .bind(&credential.to_bytes()[..])
            .fetch_optional(&self.0)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let bits = u32::try_from(row.try_get::<i64, _>(0)?).map_err(|_| ViewError::Corrupt("verbs"))?;
        Verbs::from_bits(bits).map(Some).map_err(|_| ViewError::Corrupt("verbs"))
    }

    /// Which product a credential was granted for.
    pub(crate) async fn product_of(&self, credential: &CredentialId) -> Result<Option<ProductId>, ViewError> {
        let row = sqlx::query("SELECT product FROM credentials WHERE credential = ?")
            .bind(&credential.to_bytes()[..])
            .fetch_optional(&self.0)
            .await?;
        row.map(|row| product_id(row.try_get(0)?)).transpose()
    }

    /// The heads remembered for a role.
    pub(crate) async fn heads(&self, role: Role) -> Result<Vec<RememberedHead>, ViewError> {
        let rows = sqlx::query("SELECT journal, length, hash FROM heads WHERE role = ? ORDER BY journal")
            .bind(role.as_str())
            .fetch_all(&self.0)
            .await?;
        let head = |row: &sqlx::sqlite::SqliteRow| {
            let length = u64::try_from(row.try_get::<i64, _>(1)?).map_err(|_| ViewError::Corrupt("a head"))?;
            Ok(RememberedHead {
                journal: row.try_get(0)?,
                length,
                hash: row.try_get(2)?,
            })
        };
        rows.iter().map(head).collect()
    }

    /// Remembers heads for a role. Only a longer one replaces a shorter one; whether all were taken.
    pub(crate) async fn remember(&self, role: Role, heads: &[RememberedHead]) -> Result<bool, ViewError> {
        let mut change = self.0.begin().await?;
        let mut all = true;
        for head in heads {
            let done = sqlx::query(
                "INSERT INTO heads (role, journal, length, hash) VALUES (?, ?, ?, ?)
                 ON CONFLICT (role, journal) DO UPDATE SET length = excluded.length, hash = excluded.hash
                 WHERE excluded.length > length OR (excluded.length = length AND excluded.hash = hash)",
            )
            .bind(role.as_str())
            .bind(&head.journal)
            .bind(number(head.length))
            .bind(&head.hash)
            .execute(&mut *change)
            .await?;
            all &= done.rows_affected() == 1;
        }
        change.commit().await?;
        Ok(all)
    }

    /// The head of the audit journal that was signed last.
    pub(crate) async fn audit_head(&self) -> Result<Option<(u64, audit::Hash)>, ViewError> {
        let row = sqlx::query("SELECT size, root FROM audit_head").fetch_optional(&self.0).await?;
        let Some(row) = row else { return Ok(None) };
        let wrong = || ViewError::Corrupt("a head of the audit journal");
        let size = u64::try_from(row.try_get::<i64, _>(0)?).map_err(|_| wrong())?;
        let root: Vec<u8> = row.try_get(1)?;
        Ok(Some((size, root.try_into().map_err(|_| wrong())?)))
    }

    /// Keeps it, in place of the one before.
    pub(crate) async fn keep_audit_head(&self, size: u64, root: &audit::Hash) -> Result<(), ViewError> {
        sqlx::query("INSERT OR REPLACE INTO audit_head (one, size, root) VALUES (1, ?, ?)")
            .bind(number(size))
            .bind(&root[..])
            .execute(&self.0)
            .await?;
        Ok(())
    }

    /// Makes it what the first version was.
    #[cfg(test)]
    pub(crate) async fn degrade(&self) {
        let back =
            "ALTER TABLE products DROP COLUMN link_identities; ALTER TABLE products DROP COLUMN personal_columns; PRAGMA user_version = 1";
        sqlx::raw_sql(back).execute(&self.0).await.expect("the view can be changed");
    }

    /// Closes every connection.
    pub(crate) async fn close(&self) {
        self.0.close().await;
    }
}

async fn add_product(change: &mut Transaction<'_, Sqlite>, product: &ProductMade) -> Result<(), ViewError> {
    sqlx::query(
        "INSERT INTO products (number, name, created_at, identity_columns, personal_columns, link_identities) VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT (number) DO NOTHING",
    )
    .bind(number(product.number))
    .bind(&product.name)
    .bind(product.created_at)
    .bind(product.identity_columns.join(","))
    .bind(product.personal_columns.join(","))
    .bind(product.link_identities)
    .execute(&mut **change)
    .await?;
    Ok(())
}

async fn set_columns(change: &mut Transaction<'_, Sqlite>, columns: &ColumnsSet) -> Result<(), ViewError> {
    sqlx::query("UPDATE products SET identity_columns = ?, personal_columns = ?, link_identities = ? WHERE number = ?")
        .bind(columns.identity_columns.join(","))
        .bind(columns.personal_columns.join(","))
        .bind(columns.link_identities)
        .bind(number(columns.product))
        .execute(&mut **change)
        .await?;
    Ok(())
}

async fn add_grant(change: &mut Transaction<'_, Sqlite>, grant: &CredentialGranted) -> Result<(), ViewError> {
    sqlx::query("INSERT INTO credentials (product, credential, verbs, granted_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING")
        .bind(number(grant.product))
        .bind(&grant.credential)
        .bind(i64::from(grant.verbs))
        .bind(grant.granted_at)
        .execute(&mut **change)
        .await?;
    Ok(())
}

fn product(row: &sqlx::sqlite::SqliteRow) -> Result<Product, ViewError> {
    let names = |at| -> Result<Vec<String>, ViewError> {
        let joined: String = row.try_get(at)?;
        Ok(joined.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect())
    };
    Ok(Product {
        id: product_id(row.try_get(0)?)?,
        name: row
            .try_get::<String, _>(1)?
            .parse()
            .map_err(|_| ViewError::Corrupt("a product's name"))?,
        created_at: Timestamp::from_micros(row.try_get(2)?),
        identity_columns: names(3)?,
        personal_columns: names(4)?,
        link_identities: row.try_get(5)?,
    })
}

fn product_id(number: i64) -> Result<ProductId, ViewError> {
    u64::try_from(number)
        .ok()
        .and_then(|number| ProductId::new(number).ok())
        .ok_or(ViewError::Corrupt("a product's number"))
}

// Numbers of products fit (`ProductId`), and neither sequences nor lengths grow past 2^63.
fn number(unsigned: u64) -> i64 {
    i64::try_from(unsigned).unwrap_or(i64::MAX)
}
