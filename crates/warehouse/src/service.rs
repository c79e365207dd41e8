//! What the gateway may ask of the warehouse.
//!
//! Every method begins by asking what the caller may do, and looks things up only in the caller's own product.

use std::sync::Arc;
use std::time::Duration;

use base::{DatabaseName, ErrorKind, JobId, Op, TableName, Verb};
use edge::{op, raw_pass, status};
use events::{ColumnType, DeclareError, Declared};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::SemaphorePermit;
use tonic::{Request, Response, Status};
use wire::CONFLICT_HEADER;
use wire::v1::warehouse_server::Warehouse as WarehouseRpc;
use wire::v1::{
    AppendRequest, AppendResponse, Chunk, Column, Database, DatabaseRequest, DeclareRequest, Done, Dropped, IssueJobRequest,
    IssueJobResponse, Job, JobRequest, JobResultRequest, KeepRequest, KillJobResponse, ListAsideRequest, ListAsideResponse,
    ListDatabasesRequest, ListDatabasesResponse, ListDroppedRequest, ListDroppedResponse, ListJobsRequest, ListJobsResponse,
    ListTablesResponse, Table, TableRequest, TailRequest, TailResponse, UndropRequest,
};

use crate::arriving::Arrived;
use crate::aside::{Page, list_aside};
use crate::jobs::{self, JobError, OpenedJob, PartsError};
use crate::leases::{LeaseError, Reading};
use crate::product::aside::Beside;
use crate::product::{ProductError, chain};
use crate::tail::{TailError, tail};
use crate::warehouse::{Open, Warehouse};

/// How long a change of types is waited for.
const RETYPED_AT_ONCE: Duration = Duration::from_secs(5);
/// How long whoever looks at rows without a job waits for others who do.
const LOOK_WITHIN: Duration = Duration::from_secs(10);
/// The most jobs that one list returns.
const MAX_JOBS: u64 = 1_000;

/// The methods of `coffer.v1.Warehouse`.
pub(crate) struct Service {
    warehouse: Arc<Warehouse>,
}

type Answer<T> = Result<Response<T>, Status>;

impl Service {
    pub(crate) fn new(warehouse: Arc<Warehouse>) -> Self {
        Self { warehouse }
    }

    async fn open(&self, op: &Op) -> Result<Arc<Open>, Status> {
        self.warehouse.open(op.product).await.map_err(job_failed)
    }

    /// The turn to look at rows without a job.
    async fn look(&self) -> Result<SemaphorePermit<'_>, Status> {
        let turn = tokio::time::timeout(LOOK_WITHIN, self.warehouse.looks.acquire()).await;
        let busy = || status(ErrorKind::TooMuch, "many look at rows just now, try again in a few seconds");
        turn.map_err(|_| busy())?.map_err(|_| busy())
    }

    /// For what reads: the product and the right to read it.
    async fn reading<T>(&self, op: &Op, request: &Request<T>) -> Result<(Arc<Open>, Reading), Status> {
        let pass = raw_pass(request)?;
        let reading = self.warehouse.lease(op, &pass).await.map_err(lease_failed)?;
        Ok((self.open(op).await?, reading))
    }
}

#[tonic::async_trait]
impl WarehouseRpc for Service {
    async fn append(&self, request: Request<AppendRequest>) -> Answer<AppendResponse> {
        let op = op(&request)?;
        let arrived = request.extensions().get::<Arrived>().and_then(Arrived::take);
        let message = request.into_inner();
        let (database, table) = (database(&message.database)?, table(&message.table)?);
        allowed(op.authorize_in(Verb::Append, &database))?;
        let open = self.open(&op).await?;
        let id = Some(message.batch_id.as_str()).filter(|id| !id.is_empty());
        let id = id.map(str::to_owned);
        let (aside, replays) = (message.aside, message.replays);
        let stored = async move {
            let (rows, records) = (message.batches, message.record_ids);
            let beside = Beside { aside, replays, arrived };
            open.product.append(&database, &table, id.as_deref(), rows, &records, beside).await
        };
        let appended = finished(stored).await?.map_err(failed)?;
        if !appended.duplicate {
            self.warehouse.counted(appended.rows);
        }
        Ok(Response::new(AppendResponse {
            rows: appended.rows,
            duplicate: appended.duplicate,
        }))
    }

    async fn create_database(&self, request: Request<DatabaseRequest>) -> Answer<Done> {
        let op = op(&request)?;
        let name = database(&request.get_ref().database)?;
        allowed(op.authorize_in(Verb::Manage, &name))?;
        let open = self.open(&op).await?;
        finished(async move { open.product.create_database(name).await })
            .await?
            .map_err(failed)?;
        Ok(Response::new(Done {}))
    }

    async fn delete_database(&self, request: Request<DatabaseRequest>) -> Answer<Done> {
        let op = op(&request)?;
        let name = database(&request.get_ref().database)?;
        allowed(op.authorize_in(Verb::Manage, &name))?;
        let open = self.open(&op).await?;
        finished(async move { open.product.delete_database(&name).await })
            .await?
            .map_err(failed)?;
        Ok(Response::new(Done {}))
    }

    /// Needs no verb: whoever holds any right to a product may know which databases it may use.
    async fn list_databases(&self, request: Request<ListDatabasesRequest>) -> Answer<ListDatabasesResponse> {
        let op = op(&request)?;
        let databases = self.open(&op).await?.product.databases(op.scope());
        let shown = databases.into_iter().map(|database| Database {
            name: database.name.to_string(),
            rows: database.rows,
            created_at: database.created_at.as_micros(),
            updated_at: database.updated_at.as_micros(),
        });
        Ok(Response::new(ListDatabasesResponse {
            databases: shown.collect(),
        }))
    }

    async fn create_table(&self, request: Request<TableRequest>) -> Answer<Done> {
        let op = op(&request)?;
        let (database, table) = (database(&request.get_ref().database)?, table(&request.get_ref().table)?);
        allowed(op.authorize_in(Verb::Manage, &database))?;
        let open = self.open(&op).await?;
        finished(async move { open.product.create_table(database, table).await })
            .await?
            .map_err(failed)?;
        Ok(Response::new(Done {}))
    }

    async fn delete_table(&self, request: Request<TableRequest>) -> Answer<Done> {
        let op = op(&request)?;
        let (database, table) = (database(&request.get_ref().database)?, table(&request.get_ref().table)?);
        allowed(op.authorize_in(Verb::Manage, &database))?;
        let open = self.open(&op).await?;
        finished(async move { open.product.delete_table(&database, &table).await })
            .await?
            .map_err(failed)?;
        Ok(Response::new(Done {}))
    }

    async fn keep(&self, request: Request<KeepRequest>) -> Answer<Done> {
        let op = op(&request)?;
        let message = request.into_inner();
        let (database, table) = (database(&message.database)?, table(&message.table)?);
        allowed(op.authorize_in(Verb::Manage, &database))?;
        let open = self.open(&op).await?;
        let (keep, keep_raw) = (message.keep, message.keep_raw);
        finished(async move { open.product.set_retention(&database, &table, keep, keep_raw).await })
            .await?
            .map_err(failed)?;
        Ok(Response::new(Done {}))
    }

    async fn undrop(&self, request: Request<UndropRequest>) -> Answer<Done> {
        let op = op(&request)?;
        let message = request.get_ref();
        let name = database(&message.database)?;
        allowed(op.authorize_in(Verb::Manage, &name))?;
        let to = Some(message.r#as.as_str()).filter(|to| !to.is_empty());
        let open = self.open(&op).await?;
        let product = Arc::clone(&open.product);
        if message.table.is_empty() {
            let to = to.map(database).transpose()?;
            if let Some(to) = &to {
                allowed(op.authorize_in(Verb::Manage, to))?;
            }
            finished(async move { product.undrop_database(&name, to).await }).await?
        } else {
            let (table, to) = (table(&message.table)?, to.map(table).transpose()?);
            finished(async move { product.undrop_table(&name, &table, to).await }).await?
        }
        .map_err(failed)?;
        Ok(Response::new(Done {}))
    }

    async fn list_dropped(&self, request: Request<ListDroppedRequest>) -> Answer<ListDroppedResponse> {
        let op = op(&request)?;
        allowed(op.authorize(Verb::Manage))?;
        let product = Arc::clone(&self.open(&op).await?.product);
        let kept = product.drops_kept();
        let shown = product.dropped(op.scope()).into_iter().map(|dropped| Dropped {
            database: dropped.database.to_string(),
            table: dropped.table.map_or_else(String::new, |table| table.to_string()),
            rows: dropped.rows,
            dropped_at: dropped.at.as_micros(),
            kept_until: dropped.at.plus(kept).as_micros(),
            with_database: dropped.with_database,
        });
        Ok(Response::new(ListDroppedResponse { dropped: shown.collect() }))
    }

    /// Needs no verb, like the list of databases.
    async fn list_tables(&self, request: Request<DatabaseRequest>) -> Answer<ListTablesResponse> {
        let op = op(&request)?;
        let name = database(&request.get_ref().database)?;
        if !op.scope().allows(&name) {
            return Err(failed(ProductError::NotFound {
                what: "database",
                name: name.to_string(),
            }));
        }
        let tables = self.open(&op).await?.product.tables(&name).map_err(failed)?;
        let shown = tables.into_iter().map(|table| Table {
            number: table.number,
            name: table.name.to_string(),
            rows: table.rows,
            bytes: table.bytes,
            created_at: table.created_at.as_micros(),
            updated_at: table.updated_at.as_micros(),
            last_event_at: table.last_event_at,
            columns: columns(table.columns.iter().map(|(name, of)| (name.as_str(), *of))),
            declared: columns(table.declared.columns()),
            changing: table.is_changing,
            keep: table.retention.keep,
            keep_raw: table.retention.keep_raw,
        });
        Ok(Response::new(ListTablesResponse { tables: shown.collect() }))
    }

    async fn declare(&self, request: Request<DeclareRequest>) -> Answer<Done> {
        let op = op(&request)?;
        let (database, table) = (database(&request.get_ref().database)?, table(&request.get_ref().table)?);
        allowed(op.authorize_in(Verb::Manage, &database))?;
        let based_on = match &request.get_ref().based_on {
            Some(before) => Some(declared(&before.columns)?),
            None => None,
        };
        let declared = declared(&request.get_ref().columns)?;
        let open = self.open(&op).await?;
        let may_read = op.authorize_in(Verb::Query, &database).is_ok();
        let product = Arc::clone(&open.product);
        // To its end, whether or not the caller waits: catalog and memory must not part.
        let change = async move {
            let id = product.declare(&database, &table, declared, based_on).await?;
            product.retype_quick().await;
            Ok::<_, ProductError>(id)
        };
        let id = finished(change).await?.map_err(failed)?;
        // Whoever may read the rows lends the key to read them again. Without one they wait for somebody who may.
        if may_read && let Ok((_, reading)) = self.reading(&op, &request).await {
            let product = Arc::clone(&open.product);
            let again = self.warehouse.queries.spawn(async move {
                if let Err(error) = product.retype(id, reading.lease(), &reading.token()).await {
                    tracing::warn!(product.id = %product.id, table.id = %id, error = %chain(&error), "a table is not read again under its new types yet");
                }
            });
            // The next query sees it, unless there is much to read: that goes on by itself.
            let _ = tokio::time::timeout(RETYPED_AT_ONCE, again).await;
        }
        Ok(Response::new(Done {}))
    }

    async fn tail(&self, request: Request<TailRequest>) -> Answer<TailResponse> {
        let op = op(&request)?;
        let (database, table) = (database(&request.get_ref().database)?, table(&request.get_ref().table)?);
        allowed(op.authorize_in(Verb::Query, &database))?;
        let (open, reading) = self.reading(&op, &request).await?;
        let count = request.get_ref().count;
        let _turn = self.look().await?;
        let (engine, queries) = (&self.warehouse.engine, &self.warehouse.queries);
        let rows = tail(engine, queries, &open.product, &reading, op.scope(), (&database, &table), count)
            .await
            .map_err(tail_failed)?;
        Ok(Response::new(TailResponse { rows }))
    }

    async fn list_aside(&self, request: Request<ListAsideRequest>) -> Answer<ListAsideResponse> {
        let op = op(&request)?;
        let (database, table) = (database(&request.get_ref().database)?, table(&request.get_ref().table)?);
        allowed(op.authorize_in(Verb::Query, &database))?;
        let (open, reading) = self.reading(&op, &request).await?;
        let page = Page::of(request.get_ref()).map_err(failed)?;
        let _turn = self.look().await?;
        let (engine, queries) = (&self.warehouse.engine, &self.warehouse.queries);
        let listed = list_aside(engine, queries, &open.product, &reading, op.scope(), (&database, &table), page)
            .await
            .map_err(tail_failed)?;
        Ok(Response::new(listed))
    }

    async fn issue_job(&self, request: Request<IssueJobRequest>) -> Answer<IssueJobResponse> {
        let op = op(&request)?;
        let name = database(&request.get_ref().database)?;
        allowed(op.authorize_in(Verb::Query, &name))?;
        let (open, reading) = self.reading(&op, &request).await?;
        let message = request.into_inner();
        let asked = jobs::Request {
            database: name,
            engine: message.engine,
            query: message.query,
            priority: message.priority,
            domain_key: Some(message.domain_key).filter(|key| !key.is_empty()),
        };
        let id = open.jobs.issue(&op, reading, asked).await.map_err(job_failed)?;
        Ok(Response::new(IssueJobResponse { job: id.0 }))
    }

    async fn show_job(&self, request: Request<JobRequest>) -> Answer<Job> {
        let op = op(&request)?;
        allowed(op.authorize(Verb::Query))?;
        let (open, reading) = self.reading(&op, &request).await?;
        let id = JobId(request.get_ref().job);
        let job = reading
            .while_it_lasts(open.jobs.show(id, reading.key()))
            .await?
            .map_err(job_failed)?;
        if in_scope(&op, &job) {
            Ok(Response::new(shown(job)))
        } else {
            Err(job_failed(JobError::NotFound(id)))
        }
    }

    async fn list_jobs(&self, request: Request<ListJobsRequest>) -> Answer<ListJobsResponse> {
        let op = op(&request)?;
        allowed(op.authorize(Verb::Query))?;
        let (open, reading) = self.reading(&op, &request).await?;
        let message = request.get_ref();
        let wanted = Some(message.status.as_str()).filter(|text| !text.is_empty());
        let unknown = |()| status(ErrorKind::Invalid, "a job's status is queued, running, success, error or killed");
        let wanted = wanted.map(str::parse).transpose().map_err(unknown)?;
        let to = message.to.min(message.from.saturating_add(MAX_JOBS - 1));
        let listed = open.jobs.list(message.from, to, wanted, reading.key());
        let jobs = reading.while_it_lasts(listed).await?.map_err(job_failed)?;
        let count = open.jobs.count().await.map_err(job_failed)?;
        let jobs = jobs.into_iter().filter(|job| in_scope(&op, job)).map(shown).collect();
        Ok(Response::new(ListJobsResponse { jobs, count }))
    }

    async fn kill_job(&self, request: Request<JobRequest>) -> Answer<KillJobResponse> {
        let op = op(&request)?;
        allowed(op.authorize(Verb::Query))?;
        let (open, reading) = self.reading(&op, &request).await?;
        let id = JobId(request.get_ref().job);
        let job = reading
            .while_it_lasts(open.jobs.show(id, reading.key()))
            .await?
            .map_err(job_failed)?;
        if !in_scope(&op, &job) {
            return Err(job_failed(JobError::NotFound(id)));
        }
        let former = open.jobs.kill(id).await.map_err(job_failed)?;
        Ok(Response::new(KillJobResponse {
            former_status: former.as_str().to_owned(),
        }))
    }

    type JobResultStream = BoxStream<'static, Result<Chunk, Status>>;

    async fn job_result(&self, request: Request<JobResultRequest>) -> Answer<Self::JobResultStream> {
        let op = op(&request)?;
        allowed(op.authorize(Verb::Query))?;
        let (open, reading) = self.reading(&op, &request).await?;
        let message = request.get_ref();
        let id = JobId(message.job);
        let job = reading
            .while_it_lasts(open.jobs.show(id, reading.key()))
            .await?
            .map_err(job_failed)?;
        if !in_scope(&op, &job) {
            return Err(job_failed(JobError::NotFound(id)));
        }
        let parts = open
            .jobs
            .parts(id, reading, message.offset, message.length)
            .await
            .map_err(job_failed)?;
        let chunk = |part: Result<_, PartsError>| part.map(|bytes: Vec<u8>| Chunk { bytes: bytes.into() }).map_err(part_failed);
        Ok(Response::new(Box::pin(parts.map(chunk))))
    }
}

/// Runs a change to its end even if the caller goes away in the middle: half of it would leave the journal and what is shown apart.
async fn finished<T: Send + 'static>(change: impl Future<Output = T> + Send + 'static) -> Result<T, Status> {
    tokio::spawn(change)
        .await
        .map_err(|_| status(ErrorKind::Internal, ErrorKind::Internal.words()))
}

fn in_scope(op: &Op, job: &OpenedJob) -> bool {
    job.stored.database.parse().is_ok_and(|database| op.scope().allows(&database))
}

fn shown(job: OpenedJob) -> Job {
    let stored = job.stored;
    Job {
        job: stored.id.0,
        database: stored.database,
        engine: stored.engine,
        query: job.query,
        status: stored.status.as_str().to_owned(),
        priority: stored.priority,
        created_at: stored.created_at.as_micros(),
        started_at: stored.started_at.as_micros(),
        ended_at: stored.ended_at.as_micros(),
        result_bytes: stored.result_bytes,
        rows: stored.rows,
        columns: job.columns,
        error: job.error,
        user: stored.user.to_string(),
    }
}

fn database(text: &str) -> Result<DatabaseName, Status> {
    text.parse()
        .map_err(|error: base::NameError| status(ErrorKind::Invalid, error.to_string()))
}

fn table(text: &str) -> Result<TableName, Status> {
    text.parse()
        .map_err(|error: base::NameError| status(ErrorKind::Invalid, error.to_string()))
}

fn columns<'a>(columns: impl Iterator<Item = (&'a str, ColumnType)>) -> Vec<Column> {
    let column = |(name, of): (&str, ColumnType)| Column {
        name: name.to_owned(),
        r#type: of.as_str().to_owned(),
    };
    columns.map(column).collect()
}

/// Checked here again: the gateway may have been taken over.
fn declared(columns: &[Column]) -> Result<Declared, Status> {
    let typed = |column: &Column| {
        let of = ColumnType::from_name(&column.r#type).ok_or_else(|| DeclareError::Type {
            name: column.name.clone(),
            found: column.r#type.clone(),
        });
        of.map(|of| (column.name.clone(), of))
    };
    let columns = columns.iter().map(typed).collect::<Result<Vec<_>, _>>();
    let declared = columns.and_then(Declared::new);
    declared.map_err(|error| status(error.kind(), error.to_string()))
}

fn allowed(answer: Result<(), base::Denied>) -> Result<(), Status> {
    answer.map_err(|denied| status(denied.kind(), denied.to_string()))
}

fn failed(error: ProductError) -> Status {
    let kind = error.kind();
    if matches!(kind, ErrorKind::Corrupt | ErrorKind::Internal | ErrorKind::Unavailable) {
        tracing::warn!(kind = ?kind, error = %chain(&error), "a request failed");
    }
    status(kind, said(kind, &error))
}

fn job_failed(error: JobError) -> Status {
    let kind = error.kind();
    if let JobError::SameDomainKey(first) = &error {
        let mut answer = status(kind, error.to_string());
        if let Ok(id) = first.to_string().parse() {
            answer.metadata_mut().insert(CONFLICT_HEADER, id);
        }
        return answer;
    }
    if matches!(kind, ErrorKind::Corrupt | ErrorKind::Internal | ErrorKind::Unavailable) {
        tracing::warn!(kind = ?kind, error = %chain(&error), "a request about jobs failed");
    }
    status(kind, said(kind, &error))
}

fn lease_failed(error: LeaseError) -> Status {
    let kind = error.kind();
    if matches!(kind, ErrorKind::Internal | ErrorKind::Unavailable) {
        tracing::warn!(kind = ?kind, error = %chain(&error), "no lease of a product's key");
    }
    status(kind, kind.words())
}

fn tail_failed(error: TailError) -> Status {
    match error {
        TailError::Product(error) => failed(error),
        TailError::Query(error) => status(error.kind(), error.to_string()),
        TailError::Ended(ended) => ended.into(),
        TailError::Encode(error) => status(error.kind(), error.to_string()),
        TailError::Broken => status(ErrorKind::Internal, ErrorKind::Internal.words()),
    }
}

fn part_failed(error: PartsError) -> Status {
    match error {
        PartsError::Job(error) => job_failed(error),
        PartsError::Ended(ended) => ended.into(),
    }
}

/// What the caller is told: our own words about their request, and only the kind's words about our own troubles.
fn said(kind: ErrorKind, error: &dyn std::error::Error) -> String {
    match kind {
        ErrorKind::Corrupt | ErrorKind::Internal | ErrorKind::Unavailable => kind.words().to_owned(),
        _ => error.to_string(),
    }
}
