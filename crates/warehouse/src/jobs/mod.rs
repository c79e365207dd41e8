//! Jobs: queries that run in the background and whose results are kept for a while.
//!
//! Promise: a job's text, messages and result are at rest only sealed to its product, and a killed job stops within a second.

mod parts;
pub(crate) mod proof;
mod result;
mod store;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base::{DatabaseName, ErrorKind, JobId, Op, ProductId, Scope};
use futures::{FutureExt, StreamExt};
use query::{Engine, QueryError};
use seal::{DataKey, PrivateKey, keyed_hash, open_key, open_with, seal_key, seal_to};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;
use wire::v1::Column;

pub(crate) use parts::PartsError;
use result::{ResultError, ResultFiles, ResultWriter};
pub(crate) use result::{Room, WHOLE, job_of};
use store::Ending;
pub(crate) use store::{JobStore, Status, StoredJob};

use crate::leases::Reading;
use crate::product::{Product, ProductError, chain};
use crate::shared::Shared;

/// Why a job could not be issued, found or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JobError {
    #[error("job {0} does not exist")]
    NotFound(JobId),
    #[error("job {0} has no result to read: it did not succeed, or its result was kept long enough")]
    NoResult(JobId),
    #[error("job {0} was issued under this domain_key before")]
    SameDomainKey(JobId),
    #[error("{limit} jobs of this product are waiting already, wait for some of them")]
    QueueFull { limit: usize },
    #[error("the database of jobs failed")]
    Database(#[from] sqlx::Error),
    #[error("a stored part of the job does not open")]
    Seal(#[from] seal::SealError),
    #[error("a stored part of the job cannot be read")]
    Unreadable,
    #[error(transparent)]
    Result(#[from] ResultError),
    #[error(transparent)]
    Product(#[from] ProductError),
}

impl JobError {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound(_) | Self::NoResult(_) => ErrorKind::NotFound,
            Self::SameDomainKey(_) => ErrorKind::Conflict,
            Self::QueueFull { .. } => ErrorKind::TooMuch,
            Self::Database(_) => ErrorKind::Unavailable,
            Self::Seal(source) => source.kind(),
            Self::Unreadable => ErrorKind::Corrupt,
            Self::Result(source) => source.kind(),
            Self::Product(source) => source.kind(),
        }
    }
}

/// What a caller asks to be run.
pub(crate) struct Request {
    pub(crate) database: DatabaseName,
    pub(crate) engine: String,
    pub(crate) query: String,
    pub(crate) priority: i32,
    pub(crate) domain_key: Option<String>,
}

/// A job with its sealed parts opened.
pub(crate) struct OpenedJob {
    pub(crate) stored: StoredJob,
    pub(crate) query: String,
    pub(crate) columns: Vec<Column>,
    pub(crate) error: String,
}

/// The jobs of one product.
pub(crate) struct Jobs {
    product: Arc<Product>,
    shared: Arc<Shared>,
    engine: Engine,
    queries: Handle,
    store: JobStore,
    files: ResultFiles,
    slots: Semaphore,
    last: AtomicU64,
    active: Mutex<HashMap<JobId, Active>>,
}

/// A job that is not finished.
struct Active {
    /// Ends with the right to read under which it was issued, even if that ended before it was entered here.
    cancel: CancellationToken,
    /// Why it was cancelled, when somebody did.
    reason: Option<Reason>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    Killed,
    Stopping,
}

impl Jobs {
    /// Opens them. Jobs that a process before this one left unfinished end as errors that say so.
    pub(crate) async fn open(product: Arc<Product>, shared: Arc<Shared>, engine: Engine, queries: Handle) -> Result<Arc<Self>, JobError> {
        let store = JobStore::open(product.catalog().pool().clone()).await?;
        let directory = shared.directory.join("products").join(product.id.to_string()).join("results");
        let most = shared.settings.jobs.results_per_product;
        let files = ResultFiles::open(directory, product.id, store.with_results().await?, most, &shared.results).await?;
        let last = AtomicU64::new(store.last_id().await?);
        let slots = Semaphore::new(shared.settings.jobs.running_per_product.max(1));
        let jobs = Arc::new(Self {
            product,
            shared,
            engine,
            queries,
            store,
            files,
            slots,
            last,
            active: Mutex::default(),
        });
        for id in jobs.store.unfinished().await? {
            jobs.end_with(id, Status::Error, "the server was restarted while the job ran: issue it again")
                .await;
        }
        Ok(jobs)
    }

    /// Enters a job and starts it in the background.
    pub(crate) async fn issue(self: &Arc<Self>, op: &Op, reading: Reading, request: Request) -> Result<JobId, JobError> {
        self.product.database_exists(&request.database)?;
        let domain_key = request
            .domain_key
            .as_deref()
            .map(|key| keyed_hash(&self.shared.batch_key, format!("job/{key}").as_bytes()));
        if let Some(key) = &domain_key
            && let Some(first) = self.store.by_domain_key(key).await?
        {
            return Err(JobError::SameDomainKey(first));
        }
        let limit = self.shared.settings.jobs.queued_per_product;
        let id = {
            let mut active = self.active();
            if active.len() >= limit.saturating_add(self.shared.settings.jobs.running_per_product) {
                return Err(JobError::QueueFull { limit });
            }
            let id = JobId(self.last.fetch_add(1, Ordering::Relaxed) + 1);
            active.insert(
                id,
                Active {
                    cancel: reading.token(),
                    reason: None,
                },
            );
            id
        };
        let job = StoredJob {
            id,
            database: request.database.to_string(),
            engine: request.engine,
            status: Status::Queued,
            priority: request.priority,
            user: op.actor,
            created_at: self.shared.clock.now(),
            started_at: base::Timestamp::default(),
            ended_at: base::Timestamp::default(),
            rows: 0,
            result_bytes: 0,
            sealed_query: self.seal(id, "query", request.query.as_bytes()),
            sealed_key: None,
            sealed_columns: None,
            sealed_error: None,
        };
        if let Err(error) = self.store.insert(&job, domain_key.as_ref().map(|key| &key[..])).await {
            self.active().remove(&id);
            // Two requests under one domain key at the same moment: the database let one of them in.
            if let Some(key) = &domain_key
                && let Some(first) = self.store.by_domain_key(key).await?
            {
                return Err(JobError::SameDomainKey(first));
            }
            return Err(error.into());
        }
        self.queries
            .spawn(Arc::clone(self).work(id, op.scope().clone(), reading, request.database, request.query));
        Ok(id)
    }

    async fn work(self: Arc<Self>, id: JobId, scope: Scope, reading: Reading, database: DatabaseName, query: String) {
        let Some(cancel) = self.active().get(&id).map(|job| job.cancel.clone()) else {
            return;
        };
        let slot = tokio::select! {
            biased;
            () = cancel.cancelled() => None,
            slot = self.slot() => slot,
        };
        let done = match slot {
            None => Err(Failed {
                kind: ErrorKind::Unavailable,
                message: QueryError::Cancelled.to_string(),
            }),
            Some(_slot) => {
                if let Err(error) = self.store.start(id, self.shared.clock.now()).await {
                    tracing::warn!(job.id = %id, error = %error, "could not note that a job runs");
                }
                tokio::select! {
                    biased;
                    () = cancel.cancelled() => Err(Failed { kind: ErrorKind::Unavailable, message: QueryError::Cancelled.to_string() }),
                    done = AssertUnwindSafe(self.run(id, &scope, &reading, &database, &query, cancel.clone())).catch_unwind() => done.unwrap_or_else(|_| Err(Failed::inside())),
                }
            }
        };
        let reason = self.active().get(&id).and_then(|job| job.reason);
        match (done, reason) {
            (_, Some(Reason::Killed)) => self.end_with(id, Status::Killed, "the job was killed").await,
            (_, Some(Reason::Stopping)) => {
                self.end_with(id, Status::Error, "the server was stopped while the job ran: issue it again")
                    .await
            }
            (_, None) if reading.has_ended() => self.end_with(id, Status::Error, "the right to read ended while the job ran").await,
            (Ok(ending), None) => self.end(id, Status::Success, &ending).await,
            (Err(failed), None) => {
                tracing::info!(product.id = %self.product.id, job.id = %id, kind = ?failed.kind, "job {id} failed");
                self.end_with(id, Status::Error, &failed.message).await;
            }
        }
        self.active().remove(&id);
    }

    /// Waits until the job may run: first among those of its product, then among all. So a product with many jobs does not keep others
    /// waiting for longer than the jobs that it may run at once.
    async fn slot(&self) -> Option<(SemaphorePermit<'_>, SemaphorePermit<'_>)> {
        let own = self.slots.acquire().await.ok()?;
        Some((own, self.shared.running.acquire().await.ok()?))
    }

    async fn run(
        &self,
        id: JobId,
        scope: &Scope,
        reading: &Reading,
        database: &DatabaseName,
        query: &str,
        cancel: CancellationToken,
    ) -> Result<Ending, Failed> {
        let mut lap = edge::Lap::begin();
        let view = self.product.view(scope, reading.key()).await?;
        let mut stream = self
            .engine
            .run(&view, Arc::clone(reading.lease()), database.as_str(), query, cancel)
            .await?;
        drop(view);
        let columns: Vec<(String, String)> = stream
            .schema()
            .fields()
            .iter()
            .map(|field| (field.name().clone(), query::engine_type(field.data_type())))
            .collect();
        let key = DataKey::generate(&*self.shared.entropy);
        let sealed_key = seal_key(&self.product.public_key, &key, &self.files.context(id));
        let mut writer = self.files.begin(id, key, self.shared.settings.jobs.result_bytes).await?;
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            // Compressing takes longer than a task may keep its thread.
            writer = tokio::task::spawn_blocking(move || writer.add(&batch).map(|()| writer))
                .await
                .map_err(|_| Failed::inside())??;
            self.take_room(&mut writer).await?;
        }
        let columns = serde_json::to_vec(&columns).map_err(|_| Failed::inside())?;
        let finished = tokio::task::spawn_blocking(move || writer.finish())
            .await
            .map_err(|_| Failed::inside())??;
        let (rows, result_bytes) = finished.keep()?;
        self.shared.stages.took("answer a query", lap.end(), rows);
        Ok(Ending {
            rows,
            result_bytes,
            sealed_key: Some(sealed_key),
            sealed_columns: Some(self.seal(id, "columns", &columns)),
            sealed_error: None,
        })
    }

    /// Takes the room that a result has grown to. The product's older results make way, the oldest first; no other product's do.
    async fn take_room(&self, writer: &mut ResultWriter) -> Result<(), Failed> {
        while let Err(full) = writer.take_room() {
            let oldest = self.store.forget_oldest().await.map_err(|error| {
                tracing::warn!(product.id = %self.product.id, error = %error, "could not make room for a result");
                Failed::inside()
            })?;
            let Some(oldest) = oldest else { return Err(full.into()) };
            tracing::info!(product.id = %self.product.id, job.id = %oldest, "the result of job {oldest} made way for a newer one");
            self.files.remove(oldest).await;
        }
        Ok(())
    }

    async fn end_with(&self, id: JobId, status: Status, message: &str) {
        let ending = Ending {
            sealed_error: Some(self.seal(id, "error", message.as_bytes())),
            ..Ending::default()
        };
        self.end(id, status, &ending).await;
    }

    async fn end(&self, id: JobId, status: Status, ending: &Ending) {
        // A job may be stopped at the moment when its result is in its place.
        if status != Status::Success {
            self.files.remove(id).await;
        }
        if let Err(error) = self.store.end(id, status, self.shared.clock.now(), ending).await {
            tracing::error!(product.id = %self.product.id, job.id = %id, error = %error, "could not note how a job ended");
        }
    }

    /// One job, its texts opened.
    pub(crate) async fn show(&self, id: JobId, key: &PrivateKey) -> Result<OpenedJob, JobError> {
        let stored = self.store.get(id).await?.ok_or(JobError::NotFound(id))?;
        self.open_job(stored, key)
    }

    /// Jobs from index `from` to index `to`, newest first.
    pub(crate) async fn list(&self, from: u64, to: u64, status: Option<Status>, key: &PrivateKey) -> Result<Vec<OpenedJob>, JobError> {
        self.store
            .list(from, to, status)
            .await?
            .into_iter()
            .map(|job| self.open_job(job, key))
            .collect()
    }

    /// How many jobs there are.
    pub(crate) async fn count(&self) -> Result<u64, JobError> {
        Ok(self.store.count().await?)
    }

    /// Stops a job. Returns where it was before.
    pub(crate) async fn kill(&self, id: JobId) -> Result<Status, JobError> {
        let stored = self.store.get(id).await?.ok_or(JobError::NotFound(id))?;
        self.cancel(Reason::Killed, |candidate| candidate == id);
        Ok(stored.status)
    }

    /// Stops everything because the process ends, and waits until that is noted.
    pub(crate) async fn close(&self) {
        self.cancel(Reason::Stopping, |_| true);
        while !self.active().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    fn cancel(&self, reason: Reason, which: impl Fn(JobId) -> bool) {
        for (id, job) in self.active().iter_mut() {
            if which(*id) {
                job.reason.get_or_insert(reason);
                job.cancel.cancel();
            }
        }
    }

    /// The key of a finished job's result, and how long the result is.
    async fn result(&self, id: JobId, key: &PrivateKey) -> Result<(DataKey, u64), JobError> {
        let stored = self.store.get(id).await?.ok_or(JobError::NotFound(id))?;
        let sealed = stored
            .sealed_key
            .filter(|_| stored.status == Status::Success)
            .ok_or(JobError::NoResult(id))?;
        Ok((open_key(key, &sealed, &self.files.context(id))?, stored.result_bytes))
    }

    /// Takes results away that were kept long enough.
    pub(crate) async fn tidy(&self) {
        let keep = self.shared.settings.jobs.keep_results;
        let before = base::Timestamp::from_micros(
            self.shared
                .clock
                .now()
                .as_micros()
                .saturating_sub(i64::try_from(keep.as_micros()).unwrap_or(i64::MAX)),
        );
        match self.store.forget_results(before).await {
            Ok(gone) => {
                for id in gone {
                    self.files.remove(id).await;
                }
            }
            Err(error) => tracing::warn!(product.id = %self.product.id, error = %error, "could not tidy old results"),
        }
    }

    fn open_job(&self, stored: StoredJob, key: &PrivateKey) -> Result<OpenedJob, JobError> {
        let open = |part: &str, sealed: &[u8]| -> Result<Vec<u8>, JobError> { Ok(open_with(key, &self.context(stored.id, part), sealed)?) };
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| JobError::Unreadable);
        let query = text(open("query", &stored.sealed_query)?)?;
        let error = stored
            .sealed_error
            .as_deref()
            .map_or(Ok(String::new()), |sealed| text(open("error", sealed)?))?;
        let columns = match &stored.sealed_columns {
            None => Vec::new(),
            Some(sealed) => {
                let columns: Vec<(String, String)> = serde_json::from_slice(&open("columns", sealed)?).map_err(|_| JobError::Unreadable)?;
                columns.into_iter().map(|(name, r#type)| Column { name, r#type }).collect()
            }
        };
        Ok(OpenedJob {
            query,
            columns,
            error,
            stored,
        })
    }

    fn seal(&self, id: JobId, part: &str, plain: &[u8]) -> Vec<u8> {
        seal_to(&self.product.public_key, &self.context(id, part), plain, &*self.shared.entropy)
    }

    fn context(&self, id: JobId, part: &str) -> Vec<u8> {
        context(self.product.id, id, part)
    }

    fn active(&self) -> MutexGuard<'_, HashMap<JobId, Active>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a job's query failed, in words for the person who asked.
struct Failed {
    kind: ErrorKind,
    message: String,
}

impl Failed {
    fn inside() -> Self {
        Self {
            kind: ErrorKind::Internal,
            message: ErrorKind::Internal.words().to_owned(),
        }
    }
}

impl From<QueryError> for Failed {
    fn from(error: QueryError) -> Self {
        Self {
            kind: error.kind(),
            message: error.to_string(),
        }
    }
}

impl From<ResultError> for Failed {
    fn from(error: ResultError) -> Self {
        let kind = error.kind();
        if kind != ErrorKind::TooLarge {
            tracing::warn!(error = %chain(&error), "a result was not kept");
        }
        let message = if error.is_advice() {
            error.to_string()
        } else {
            kind.words().to_owned()
        };
        Self { kind, message }
    }
}

impl From<ProductError> for Failed {
    fn from(error: ProductError) -> Self {
        tracing::warn!(error = %chain(&error), "a job could not see its tables");
        Self {
            kind: error.kind(),
            message: error.kind().words().to_owned(),
        }
    }
}

/// To what a part of a job is sealed.
fn context(product: ProductId, id: JobId, part: &str) -> Vec<u8> {
    format!("coffer/job/1/{product}/{id}/{part}").into_bytes()
}
