//! Results: the stored msgpack.gz of a job as it is, in parts, inflated, or as lines of JSON, csv or tsv; never all of it in memory.
//!
//! Promise: what is sent is what was stored, or the connection breaks; a revoked key's download ends with its next piece.
//! What has parts is msgpack.gz alone: a `Range` of anything else is answered with the whole, as HTTP allows.
//!
//! Start at [`result`]. How a row becomes a line is in [`events::Lines`]. Does not know how results are stored or sealed.

mod stream;

use axum::body::Body;
use axum::response::Response;
use base::{ErrorKind, JobId};
use events::{LineFormat, Lines};
use http::{HeaderValue, StatusCode, header};
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
    Lines { format: LineFormat, gzip: bool },
}

impl Format {
    /// What a client asks for by name; without one, what clients know that name none.
    fn of(name: Option<&str>) -> Option<Self> {
        let name = name.unwrap_or("msgpack");
        let (plain, gzip) = name.strip_suffix(".gz").map_or((name, false), |plain| (plain, true));
        let format = match plain {
            "msgpack" if gzip => return Some(Self::MsgpackGz),
            "msgpack" => return Some(Self::Msgpack),
            "json" => LineFormat::Arrays,
            "jsonl" => LineFormat::Objects,
            "csv" => LineFormat::Csv,
            "tsv" => LineFormat::Tsv,
            _ => return None,
        };
        Some(Self::Lines { format, gzip })
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Msgpack => "application/msgpack",
            Self::MsgpackGz | Self::Lines { gzip: true, .. } => GZIP,
            Self::Lines { format, gzip: false } => match format {
                LineFormat::Arrays => "application/json; charset=utf-8",
                LineFormat::Objects => "application/x-ndjson; charset=utf-8",
                LineFormat::Csv => "text/csv; charset=utf-8",
                LineFormat::Tsv => "text/tab-separated-values; charset=utf-8",
            },
        }
    }
}

/// What is compressed is the content itself, as a file would be: there is no `Content-Encoding` that a client would undo.
const GZIP: &str = "application/gzip";

/// `GET /v3/job/result/{job}`
pub(crate) async fn result(call: Call) -> Result<Response, ApiError> {
    let params = call.query_params()?;
    let format = Format::of(params.get("format")).ok_or_else(|| {
        ApiError::invalid(
            "results are sent as format=msgpack, json, jsonl, csv or tsv, each of them also compressed: msgpack.gz, csv.gz and so on",
        )
    })?;
    let header = params.flag("header")?;
    let job = jobs::find(&call).await?;
    jobs::finished(&job, call.request())?;
    let body = match format {
        Format::MsgpackGz => return stored(&call, &job).await,
        Format::Msgpack => open(&call, &job, 0, 0).await?.inflated(),
        Format::Lines { format, gzip } => {
            let lines = Lines::new(format, &jobs::column_names(&job));
            let stored = open(&call, &job, 0, 0).await?;
            let text = stored.lines(lines, header, call.settings().max_result_row);
            if gzip { text.gzipped() } else { text }
        }
    };
    Ok(answer(StatusCode::OK, format.content_type(), body.into()))
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
    let mut response = answer(status, GZIP, body);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_has_a_name_and_a_type_of_its_own() {
        for (name, expected) in [
            (None, "application/msgpack"),
            (Some("msgpack"), "application/msgpack"),
            (Some("msgpack.gz"), "application/gzip"),
            (Some("json"), "application/json; charset=utf-8"),
            (Some("jsonl"), "application/x-ndjson; charset=utf-8"),
            (Some("csv"), "text/csv; charset=utf-8"),
            (Some("tsv"), "text/tab-separated-values; charset=utf-8"),
            (Some("json.gz"), "application/gzip"),
            (Some("jsonl.gz"), "application/gzip"),
            (Some("csv.gz"), "application/gzip"),
            (Some("tsv.gz"), "application/gzip"),
        ] {
            assert_eq!(Format::of(name).map(Format::content_type), Some(expected), "{name:?}");
        }
        for wrong in ["xml", "CSV", "csv.gz.gz", ".gz", "gz", "msgpack.zst"] {
            assert_eq!(Format::of(Some(wrong)), None, "{wrong}");
        }
    }
}
