//! What the audit journal says about the caller's product: shown, and exported. Not of td's API.
//!
//! An admin key sees all that concerns its product, what the operator and other roles did included, and nothing of another's.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{HeaderValue, header};
use tonic::{Status, Streaming};
use wire::v1::{AuditLines, AuditReadRequest};

use crate::calls::Call;
use crate::errors::ApiError;

const MOST: u32 = 1000;

/// `GET /v1/audit`: the last records, or those after a number; one JSON object a line.
pub(crate) async fn some(call: Call) -> Result<Response, ApiError> {
    let params = call.query_params()?;
    let last = params.number("last", 1..=MOST, 100)?;
    let after = match params.get("after") {
        Some(_) => Some(params.number("after", 0..=i64::MAX.unsigned_abs(), 0)?),
        None => None,
    };
    let asked = AuditReadRequest {
        after,
        last,
        ..AuditReadRequest::default()
    };
    lines(&call, asked).await
}

/// `GET /v1/audit/export`: all records, what it takes to check them, and the newest head that vault and accounts signed.
pub(crate) async fn export(call: Call) -> Result<Response, ApiError> {
    let params = call.query_params()?;
    let boundary = params.number("boundary", 0..=i64::MAX.unsigned_abs(), 0)?;
    let asked = AuditReadRequest {
        whole: true,
        boundaries: Some(boundary).filter(|at| *at > 0).into_iter().collect(),
        ..AuditReadRequest::default()
    };
    lines(&call, asked).await
}

async fn lines(call: &Call, asked: AuditReadRequest) -> Result<Response, ApiError> {
    let mut pieces = call.audit(asked, |mut to, ask| async move { to.read(ask).await }).await?;
    // The first piece is waited for, so that a refusal is a status and not a broken body.
    let first = pieces.message().await.map_err(|status| ApiError::from_upstream(&status))?;
    let live = call.watch();
    let body = Body::from_stream(text(first, pieces, live));
    let mut response = Response::new(body);
    let kind = HeaderValue::from_static("application/x-ndjson; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

fn text(
    first: Option<AuditLines>,
    rest: Streaming<AuditLines>,
    live: impl Fn() -> bool + Send + 'static,
) -> impl Stream<Item = Result<Bytes, Status>> + Send {
    let first = futures::stream::iter(first.map(Ok));
    first.chain(rest).map(move |piece| {
        if !live() {
            return Err(Status::unauthenticated("the key was revoked"));
        }
        piece.map(|AuditLines { lines }| {
            let mut text = lines.join("\n");
            if !text.is_empty() {
                text.push('\n');
            }
            Bytes::from(text)
        })
    })
}
