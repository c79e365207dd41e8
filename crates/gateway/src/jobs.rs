//! Jobs: issue, status, show, list, kill. What one found is in [`crate::results`].

use axum::response::Response;
use base::{ErrorKind, RequestId};
use serde_json::{Value, json};
use wire::v1::{Column, FindRequest, IssueJobRequest, Job, JobRequest, ListJobsRequest};

use crate::calls::Call;
use crate::dates;
use crate::errors::{ApiError, ok};
use crate::params::Params;
use crate::person_id::Calls;

const PAGE: u64 = 20;
const BOOTING: &str = "booting";
const MAX_DOMAIN_KEY: usize = 255;

/// `POST /v3/job/issue/{engine}/{database}`
pub(crate) async fn issue(mut call: Call) -> Result<Response, ApiError> {
    let engine = match call.segment("engine") {
        engine @ ("trino" | "presto" | "hive") => engine.to_owned(),
        _ => {
            return Err(ApiError::invalid(
                "jobs are of type trino, presto or hive; all three run on the same SQL engine",
            ));
        }
    };
    let database = call.database()?;
    let params = call.body_params().await?;
    let asked = Issue::of(&params, call.settings().max_query)?;
    let query = translated(&call, asked.query).await?;
    let message = IssueJobRequest {
        database: database.to_string(),
        engine,
        query,
        priority: asked.priority,
        domain_key: asked.domain_key.to_owned(),
    };
    let issued = call
        .warehouse(message, |mut to, ask| async move { to.issue_job(ask).await })
        .await?;
    let id = issued.job.to_string();
    tracing::debug!(request.id = %call.request(), product.id = %call.caller.product, job.id = %id, "issued job {id}");
    Ok(ok(&json!({ "job": id, "job_id": id, "database": database.as_str() })))
}

/// What a client says about a job to be.
#[derive(PartialEq, Eq)]
struct Issue<'a> {
    query: &'a str,
    priority: i32,
    domain_key: &'a str,
}

impl<'a> Issue<'a> {
    fn of(params: &'a Params, max_query: usize) -> Result<Self, ApiError> {
        let query = params
            .get("query")
            .ok_or_else(|| ApiError::invalid("the parameter query is missing"))?;
        if query.len() > max_query {
            return Err(ApiError::new(
                ErrorKind::TooLarge,
                format!("the query is longer than {max_query} bytes"),
            ));
        }
        // Rows that would silently stay here instead of going where they should.
        if params.get("result").is_some() || params.get("result_connection_id").is_some() {
            return Err(ApiError::invalid(
                "results are not exported here yet; leave result out and fetch them with job/result",
            ));
        }
        let domain_key = params.get("domain_key").unwrap_or_default();
        if domain_key.len() > MAX_DOMAIN_KEY {
            return Err(ApiError::invalid(format!("a domain key has at most {MAX_DOMAIN_KEY} bytes")));
        }
        params.number("retry_limit", 0..=32u32, 0)?;
        Ok(Self {
            query,
            priority: params.number("priority", -2..=2, 0)?,
            domain_key,
        })
    }
}

/// The query with every `person_id('…')` worked.
async fn translated(call: &Call, query: &str) -> Result<String, ApiError> {
    let calls = Calls::find(query).map_err(|error| ApiError::invalid(error.to_string()))?;
    let (identities, most) = (calls.identities(), call.settings().max_query_identities);
    if identities.len() > most {
        return Err(ApiError::new(
            ErrorKind::TooLarge,
            format!("a query may ask for at most {most} different people by person_id"),
        ));
    }
    // An empty text is nobody's identity, at import as well as here.
    let named: Vec<String> = identities
        .iter()
        .map(|identity| identity.reveal().to_owned())
        .filter(|text| !text.is_empty())
        .collect();
    let mut found = Vec::new();
    if !named.is_empty() {
        let count = named.len();
        found = call
            .identity(FindRequest { identities: named }, |mut to, ask| async move { to.find(ask).await })
            .await?
            .ids;
        if found.len() != count {
            return Err(ApiError::of(ErrorKind::Internal));
        }
    }
    let mut found = found.into_iter();
    let ids: Vec<i64> = identities
        .iter()
        .map(|identity| {
            if identity.reveal().is_empty() {
                0
            } else {
                found.next().unwrap_or(0)
            }
        })
        .collect();
    Ok(calls.replaced(&ids))
}

/// `GET /v3/job/status/{job}`
pub(crate) async fn status(call: Call) -> Result<Response, ApiError> {
    let job = find(&call).await?;
    Ok(ok(&brief(&job)))
}

/// `GET /v3/job/show/{job}`
pub(crate) async fn show(call: Call) -> Result<Response, ApiError> {
    let job = find(&call).await?;
    let mut shown = full(&job);
    shown["debug"] = json!({ "cmdout": "", "stderr": job.error });
    Ok(ok(&shown))
}

/// `GET /v3/job/list`
pub(crate) async fn list(call: Call) -> Result<Response, ApiError> {
    let params = call.query_params()?;
    let (from, to, status) = page(&params, call.settings().max_job_page)?;
    let slower_than = params.number("slower_than", 0..=i64::MAX, -1)?;
    let asked = ListJobsRequest {
        from,
        to,
        status: status.to_owned(),
    };
    let found = call.warehouse(asked, |mut to, ask| async move { to.list_jobs(ask).await }).await?;
    let now = call.now().as_micros();
    let jobs: Vec<Value> = found
        .jobs
        .iter()
        .filter(|job| seconds_run(job, now) > slower_than)
        .map(full)
        .collect();
    Ok(ok(&json!({ "jobs": jobs, "count": found.count, "from": from, "to": to })))
}

/// The indices, both included, and the status that jobs on the page have.
fn page(params: &Params, most: u64) -> Result<(u64, u64, &str), ApiError> {
    let from = params.number("from", 0..=u64::MAX / 2, 0)?;
    let to = params.number("to", 0..=u64::MAX / 2, from.saturating_add(PAGE - 1))?;
    if to < from || to - from >= most {
        return Err(ApiError::invalid(format!(
            "to is not before from, and a page has at most {most} jobs"
        )));
    }
    match params.get("status") {
        None => Ok((from, to, "")),
        Some(status @ ("queued" | "running" | "success" | "error" | "killed")) => Ok((from, to, status)),
        // A state that some clients know and no job here is ever in: `list` answers it by itself.
        Some(BOOTING) => Ok((from, to, BOOTING)),
        Some(_) => Err(ApiError::invalid("status is queued, running, success, error or killed")),
    }
}

/// `POST /v3/job/kill/{job}`
pub(crate) async fn kill(mut call: Call) -> Result<Response, ApiError> {
    let job = number(&call)?;
    call.body_params().await?;
    let killed = call
        .warehouse(JobRequest { job }, |mut to, ask| async move { to.kill_job(ask).await })
        .await?;
    Ok(ok(&json!({ "job_id": job.to_string(), "former_status": killed.former_status })))
}

/// The job in the path, if it is one of the caller's product.
pub(crate) async fn find(call: &Call) -> Result<Job, ApiError> {
    let job = number(call)?;
    call.warehouse(JobRequest { job }, |mut to, ask| async move { to.show_job(ask).await })
        .await
}

fn number(call: &Call) -> Result<u64, ApiError> {
    let text = call.segment("job");
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|_| plain)
        .ok_or_else(|| ApiError::not_found("there is no such job"))
}

fn seconds_run(job: &Job, now: i64) -> i64 {
    let end = if job.ended_at == 0 { now } else { job.ended_at };
    if job.started_at == 0 {
        0
    } else {
        end.saturating_sub(job.started_at) / 1_000_000
    }
}

fn is_success(job: &Job) -> bool {
    job.status == "success"
}

/// What a client that polls reads.
fn brief(job: &Job) -> Value {
    let last = [job.created_at, job.started_at, job.ended_at].into_iter().max().unwrap_or(0);
    json!({
        "job_id": job.job.to_string(),
        "status": job.status,
        "created_at": dates::td(job.created_at),
        "updated_at": dates::td(last),
        "start_at": dates::td(job.started_at),
        "end_at": dates::td(job.ended_at),
        "duration": dates::seconds_between(job.started_at, job.ended_at),
        "cpu_time": null,
        "result_size": if is_success(job) { job.result_bytes.into() } else { Value::Null },
        "num_records": if is_success(job) { job.rows.into() } else { Value::Null },
    })
}

fn full(job: &Job) -> Value {
    let mut shown = brief(job);
    let more = json!({
        "type": job.engine,
        "query": job.query,
        "database": job.database,
        "user_name": job.user,
        "url": "",
        "priority": job.priority,
        "retry_limit": 0,
        // A text here would be taken for the address of an export, and its letters for rows.
        "result": "",
        "hive_result_schema": if is_success(job) { schema(&job.columns).into() } else { Value::Null },
        "organization": null,
    });
    if let (Value::Object(shown), Value::Object(more)) = (&mut shown, more) {
        shown.extend(more);
    }
    shown
}

/// `[[name, type], …]` as JSON in a string.
fn schema(columns: &[Column]) -> String {
    let pairs: Vec<[&str; 2]> = columns
        .iter()
        .map(|column| [column.name.as_str(), column.r#type.as_str()])
        .collect();
    json!(pairs).to_string()
}

/// For the header line of a result.
pub(crate) fn column_names(job: &Job) -> Vec<&str> {
    job.columns.iter().map(|column| column.name.as_str()).collect()
}

/// The job's result, if it has one: an unfinished, failed or killed job has none.
pub(crate) fn finished(job: &Job, request: RequestId) -> Result<(), ApiError> {
    if is_success(job) {
        return Ok(());
    }
    tracing::debug!(request.id = %request, job.id = job.job, "asked for the result of a job that is {}", job.status);
    Err(ApiError::not_found(format!("job {} is {} and has no result", job.job, job.status)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(status: &str) -> Job {
        Job {
            job: 7,
            status: status.into(),
            engine: "trino".into(),
            created_at: 1_700_000_000_000_000,
            started_at: 1_700_000_001_000_000,
            ended_at: if status == "running" { 0 } else { 1_700_000_004_500_000 },
            result_bytes: 20,
            rows: 3,
            columns: vec![Column {
                name: "n".into(),
                r#type: "bigint".into(),
            }],
            ..Job::default()
        }
    }

    fn params(query: &str) -> Params {
        Params::from_query(Some(query)).unwrap()
    }

    #[test]
    fn a_job_shows_strings_where_clients_want_strings() {
        let done = full(&job("success"));
        assert_eq!((&done["job_id"], &done["result"]), (&json!("7"), &json!("")));
        assert_eq!(done["hive_result_schema"], r#"[["n","bigint"]]"#);
        assert_eq!(
            (&done["duration"], &done["result_size"], &done["num_records"]),
            (&json!(3), &json!(20), &json!(3))
        );
        assert_eq!(done["end_at"], "2023-11-14 22:13:24 UTC");
        let running = full(&job("running"));
        for field in ["end_at", "duration", "result_size", "num_records", "hive_result_schema"] {
            assert_eq!(running[field], Value::Null, "{field}");
        }
    }

    #[test]
    fn a_page_is_twenty_jobs_unless_said_otherwise() {
        let of = |query: &str| {
            page(&params(query), 100)
                .map(|(from, to, status)| (from, to, status.to_owned()))
                .ok()
        };
        assert_eq!(of(""), Some((0, 19, String::new())));
        assert_eq!(of("from=5"), Some((5, 24, String::new())));
        assert_eq!(of("from=5&to=5&status=running"), Some((5, 5, "running".to_owned())));
        for wrong in ["from=5&to=4", "to=100", "from=-1", "status=done"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_a_job_would_not_do_is_refused() {
        let status = |query: &str| {
            Issue::of(&params(query), 10)
                .map(|asked| asked.priority)
                .map_err(|error| error.status().as_u16())
        };
        assert_eq!(status("query=SELECT+1&priority=-2&type=trino&engine_version=stable"), Ok(-2));
        for (query, expected) in [
            ("priority=1", 400),
            ("query=SELECT+12345", 413),
            ("query=x&priority=3", 400),
            ("query=x&result=s3://bucket", 400),
            ("query=x&retry_limit=33", 400),
        ] {
            assert_eq!(status(query), Err(expected), "{query}");
        }
    }

    #[test]
    fn only_a_successful_job_has_a_result() {
        let id = RequestId::from_bytes([0; 16]);
        for (status, there) in [
            ("success", true),
            ("error", false),
            ("killed", false),
            ("running", false),
            ("queued", false),
        ] {
            assert_eq!(finished(&job(status), id).is_ok(), there, "{status}");
        }
    }
}
