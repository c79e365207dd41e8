//! Jobs as they are kept: their texts, schemas and messages sealed to the product.

use std::collections::HashSet;
use std::str::FromStr;

use base::{CredentialId, JobId, Timestamp};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{AssertSqlSafe, Row};

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS jobs (
    id INTEGER NOT NULL PRIMARY KEY,
    database TEXT NOT NULL,
    engine TEXT NOT NULL,
    status TEXT NOT NULL,
    priority INTEGER NOT NULL,
    user BLOB NOT NULL,
    domain_key BLOB UNIQUE,
    created_at INTEGER NOT NULL,
    started_at INTEGER NOT NULL DEFAULT 0,
    ended_at INTEGER NOT NULL DEFAULT 0,
    row_count INTEGER NOT NULL DEFAULT 0,
    result_bytes INTEGER NOT NULL DEFAULT 0,
    sealed_query BLOB NOT NULL,
    sealed_key BLOB,
    sealed_columns BLOB,
    sealed_error BLOB
) STRICT;
CREATE INDEX IF NOT EXISTS jobs_by_status ON jobs (status);
";

const COLUMNS: &str = "id, database, engine, status, priority, user, created_at, started_at, ended_at, row_count, result_bytes, \
                       sealed_query, sealed_key, sealed_columns, sealed_error";

/// Where a job is in its life. Only ever moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Queued,
    Running,
    Success,
    Error,
    Killed,
}

impl Status {
    const ALL: [Self; 5] = [Self::Queued, Self::Running, Self::Success, Self::Error, Self::Killed];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Success => "success",
            Self::Error => "error",
            Self::Killed => "killed",
        }
    }
}

impl FromStr for Status {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(())
    }
}

/// A job as stored.
#[derive(Debug, Clone)]
pub(crate) struct StoredJob {
    pub(crate) id: JobId,
    pub(crate) database: String,
    pub(crate) engine: String,
    pub(crate) status: Status,
    pub(crate) priority: i32,
    pub(crate) user: CredentialId,
    pub(crate) created_at: Timestamp,
    pub(crate) started_at: Timestamp,
    pub(crate) ended_at: Timestamp,
    pub(crate) rows: u64,
    pub(crate) result_bytes: u64,
    pub(crate) sealed_query: Vec<u8>,
    pub(crate) sealed_key: Option<Vec<u8>>,
    pub(crate) sealed_columns: Option<Vec<u8>>,
    pub(crate) sealed_error: Option<Vec<u8>>,
}

/// How a job ended.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    pub(crate) rows: u64,
    pub(crate) result_bytes: u64,
    pub(crate) sealed_key: Option<Vec<u8>>,
    pub(crate) sealed_columns: Option<Vec<u8>>,
    pub(crate) sealed_error: Option<Vec<u8>>,
}

/// The jobs of one product.
#[derive(Debug, Clone)]
pub(crate) struct JobStore {
    pool: SqlitePool,
}

impl JobStore {
    /// Opens it.
    pub(crate) async fn open(pool: SqlitePool) -> Result<Self, sqlx::Error> {
        sqlx::raw_sql(SCHEMA).execute(&pool).await?;
        Ok(Self { pool })
    }

    /// Those that are there, to look at and not to change; `None` where there never was one.
    pub(crate) async fn look(pool: SqlitePool) -> Result<Option<Self>, sqlx::Error> {
        let there: Option<i64> = sqlx::query_scalar("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'jobs'")
            .fetch_optional(&pool)
            .await?;
        Ok(there.map(|_| Self { pool }))
    }

    /// The next jobs after one, by their numbers.
    pub(crate) async fn after(&self, id: JobId, count: u32) -> Result<Vec<StoredJob>, sqlx::Error> {
        let sql = format!("SELECT {COLUMNS} FROM jobs WHERE id > ? ORDER BY id LIMIT ?");
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(signed(id.0))
            .bind(count)
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(read).collect()
    }

    /// The jobs that a process before this one left unfinished.
    pub(crate) async fn unfinished(&self) -> Result<Vec<JobId>, sqlx::Error> {
        let rows = sqlx::query("SELECT id FROM jobs WHERE status IN ('queued', 'running')")
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(|row| Ok(JobId(unsigned(row, "id")?))).collect()
    }

    /// The largest number given so far.
    pub(crate) async fn last_id(&self) -> Result<u64, sqlx::Error> {
        let last: Option<i64> = sqlx::query_scalar("SELECT max(id) FROM jobs").fetch_one(&self.pool).await?;
        Ok(last.and_then(|id| u64::try_from(id).ok()).unwrap_or(0))
    }

    /// Enters a queued job.
    pub(crate) async fn insert(&self, job: &StoredJob, domain_key: Option<&[u8]>) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT INTO jobs (id, database, engine, status, priority, user, domain_key, created_at, sealed_query)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(signed(job.id.0))
        .bind(job.database.as_str())
        .bind(job.engine.as_str())
        .bind(job.status.as_str())
        .bind(job.priority)
        .bind(&job.user.to_bytes()[..])
        .bind(domain_key)
        .bind(job.created_at.as_micros())
        .bind(job.sealed_query.as_slice())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The job that was issued under this key.
    pub(crate) async fn by_domain_key(&self, domain_key: &[u8]) -> Result<Option<JobId>, sqlx::Error> {
        let row = sqlx::query("SELECT id FROM jobs WHERE domain_key = ?")
            .bind(domain_key)
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| Ok(JobId(unsigned(&row, "id")?))).transpose()
    }

    /// Notes that a queued job runs now.
    pub(crate) async fn start(&self, id: JobId, at: Timestamp) -> Result<(), sqlx::Error> {
        sqlx::query("UPDATE jobs SET status = 'running', started_at = ? WHERE id = ? AND status = 'queued'")
            .bind(at.as_micros())
            .bind(signed(id.0))
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Notes how a job ended. A job ends once.
    pub(crate) async fn end(&self, id: JobId, status: Status, at: Timestamp, ending: &Ending) -> Result<(), sqlx::Error> {
        sqlx::query(
            "UPDATE jobs SET status = ?, ended_at = ?, row_count = ?, result_bytes = ?, sealed_key = ?, sealed_columns = ?, sealed_error = ?
             WHERE id = ? AND status IN ('queued', 'running')",
        )
        .bind(status.as_str())
        .bind(at.as_micros())
        .bind(signed(ending.rows))
        .bind(signed(ending.result_bytes))
        .bind(ending.sealed_key.as_deref())
        .bind(ending.sealed_columns.as_deref())
        .bind(ending.sealed_error.as_deref())
        .bind(signed(id.0))
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// One job.
    pub(crate) async fn get(&self, id: JobId) -> Result<Option<StoredJob>, sqlx::Error> {
        let sql = format!("SELECT {COLUMNS} FROM jobs WHERE id = ?");
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(signed(id.0))
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// Jobs from index `from` to index `to`, newest first, of one status or of all.
    pub(crate) async fn list(&self, from: u64, to: u64, status: Option<Status>) -> Result<Vec<StoredJob>, sqlx::Error> {
        let count = to.saturating_sub(from).saturating_add(1);
        let sql = format!("SELECT {COLUMNS} FROM jobs WHERE ?1 = '' OR status = ?1 ORDER BY id DESC LIMIT ?2 OFFSET ?3");
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(status.map_or("", Status::as_str))
            .bind(signed(count))
            .bind(signed(from))
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(read).collect()
    }

    /// How many jobs there are.
    pub(crate) async fn count(&self) -> Result<u64, sqlx::Error> {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM jobs").fetch_one(&self.pool).await?;
        Ok(count.unsigned_abs())
    }

    /// The jobs that have a result.
    pub(crate) async fn with_results(&self) -> Result<HashSet<JobId>, sqlx::Error> {
        let rows = sqlx::query("SELECT id FROM jobs WHERE sealed_key IS NOT NULL")
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(|row| Ok(JobId(unsigned(row, "id")?))).collect()
    }

    /// Takes the result away of the job that ended first, and says which it was.
    pub(crate) async fn forget_oldest(&self) -> Result<Option<JobId>, sqlx::Error> {
        let row = sqlx::query(
            "UPDATE jobs SET sealed_key = NULL, result_bytes = 0 WHERE id =
             (SELECT id FROM jobs WHERE sealed_key IS NOT NULL ORDER BY ended_at, id LIMIT 1) RETURNING id",
        )
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| Ok(JobId(unsigned(&row, "id")?))).transpose()
    }

    /// Takes the results of jobs away that ended before `before`, and says which.
    pub(crate) async fn forget_results(&self, before: Timestamp) -> Result<Vec<JobId>, sqlx::Error> {
        let rows =
            sqlx::query("UPDATE jobs SET sealed_key = NULL, result_bytes = 0 WHERE sealed_key IS NOT NULL AND ended_at < ? RETURNING id")
                .bind(before.as_micros())
                .fetch_all(&self.pool)
                .await?;
        rows.iter().map(|row| Ok(JobId(unsigned(row, "id")?))).collect()
    }
}

fn read(row: &SqliteRow) -> Result<StoredJob, sqlx::Error> {
    let moment = |column| Ok::<_, sqlx::Error>(Timestamp::from_micros(row.try_get(column)?));
    let decode = |what: &str| sqlx::Error::Decode(format!("a job's {what} cannot be read").into());
    Ok(StoredJob {
        id: JobId(unsigned(row, "id")?),
        database: row.try_get("database")?,
        engine: row.try_get("engine")?,
        status: row.try_get::<String, _>("status")?.parse().map_err(|()| decode("status"))?,
        priority: row.try_get("priority")?,
        user: CredentialId::try_from(row.try_get::<Vec<u8>, _>("user")?.as_slice()).map_err(|_| decode("user"))?,
        created_at: moment("created_at")?,
        started_at: moment("started_at")?,
        ended_at: moment("ended_at")?,
        rows: unsigned(row, "row_count")?,
        result_bytes: unsigned(row, "result_bytes")?,
        sealed_query: row.try_get("sealed_query")?,
        sealed_key: row.try_get("sealed_key")?,
        sealed_columns: row.try_get("sealed_columns")?,
        sealed_error: row.try_get("sealed_error")?,
    })
}

fn unsigned(row: &SqliteRow, column: &'static str) -> Result<u64, sqlx::Error> {
    u64::try_from(row.try_get::<i64, _>(column)?).map_err(|_| sqlx::Error::Decode(format!("{column} is negative").into()))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
