//! Results: the stored msgpack.gz of a job as it is, in parts, inflated, or as lines of JSON; never all of it in memory.
//!
//! Promise: what is sent is what was stored, or the connection breaks; a revoked key's download ends with its next piece.
//!
//! Start at [`result`]. Does not know how results are stored or sealed.

mod stream;

use axum::body::Body;
use axum::response::Response;
use base::{ErrorKind, JobId};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;
use wire::v1::{Job, JobResultRequest};

use crate::calls::Call;
use crate::errors::ApiError;
use crate::jobs;
use crate::ranges::Wanted;
use stream::Stored;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Msgpack,
    MsgpackGz,
    Json,
}

/// `GET /v3/job/result/{job}`
pub(crate) async fn result(call: Call) -> Result<Response, ApiError> {
    let params = call.query_params()?;
    let format = match params.get("format") {
        None | Some("msgpack") => Format::Msgpack,
        Some("msgpack.gz") => Format::MsgpackGz,
        Some("json") => Format::Json,
        Some(_) => return Err(ApiError::invalid("results are sent as format=msgpack, msgpack.gz or json")),
    };
    let header = params.flag("header")?;
    let job = jobs::find(&call).await?;
    jobs::finished(&job, call.request())?;
    match format {
        Format::MsgpackGz => stored(&call, &job).await,
        Format::Msgpack => {
            let body = open(&call, &job, 0, 0).await?.inflated();
            Ok(answer(StatusCode::OK, "application/msgpack", body))
        }
        Format::Json => {
            let mut first = Vec::new();
            if header {
                first = json!(jobs::column_names(&job)).to_string().into_bytes();
                first.push(b'\n');
            }
            let body = open(&call, &job, 0, 0).await?.json_lines(first, call.settings().max_result_row);
            Ok(answer(StatusCode::OK, "application/json; charset=utf-8", body))
        }
    }
}

/// The bytes as they are stored, or a part of them.
async fn stored(call: &Call, job: &Job) -> Result<Response, ApiError> {
    let (total, tag) = (job.result_bytes, tag(job));
    let (status, offset, length) = match Wanted::of(call.headers(), total, &tag) {
        Wanted::Whole => (StatusCode::OK, 0, total),
        Wanted::Part { first, last } => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
        Wanted::Unsatisfiable => {
            let error = ApiError::with_status(StatusCode::RANGE_NOT_SATISFIABLE, format!("the result has {total} bytes"));
            return Err(error.header(header::CONTENT_RANGE, text(format!("bytes */{total}"))));
        }
    };
    let body = open(call, job, offset, length).await?.exactly(length);
    let mut response = answer(status, "application/gzip", body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::ETAG, text(tag));
    if status == StatusCode::PARTIAL_CONTENT {
        headers.insert(
            header::CONTENT_RANGE,
            text(format!("bytes {offset}-{}/{total}", offset + length - 1)),
        );
    }
    Ok(response)
}

/// Opens the stored bytes and waits for the first of them, so that a result that is gone is a status and not a broken body.
async fn open(call: &Call, job: &Job, offset: u64, length: u64) -> Result<Stored, ApiError> {
    let asked = JobResultRequest {
        job: job.job,
        offset,
        length,
    };
    let pieces = call.warehouse(asked, |mut to, ask| async move { to.job_result(ask).await }).await?;
    let patience = call.settings().upstream;
    Stored::open(pieces, call.watch(), patience).await.map_err(|status| {
        if edge::kind_of(&status) == ErrorKind::Internal {
            tracing::warn!(request.id = %call.request(), "a result could not be opened: {}", status.message());
        }
        ApiError::from_upstream(&status)
    })
}

/// Stable: a finished job's result never changes.
fn tag(job: &Job) -> String {
    format!("\"job-{}-{}\"", JobId(job.job), job.result_bytes)
}

fn answer(status: StatusCode, content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn text(value: String) -> HeaderValue {
    // Digits, letters, quotes and slashes only.
    HeaderValue::try_from(value).unwrap_or_else(|_| HeaderValue::from_static(""))
}
