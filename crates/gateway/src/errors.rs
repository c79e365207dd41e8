//! What a caller is told when something did not work: the body that every td client can read.
//!
//! Promise: a message that was not written for the caller never reaches one; Unavailable and TooMuch always say when to try again.
//!
//! Start at [`ApiError`]. Does not know which request it was; the front adds the id.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use base::{ErrorKind, RequestId};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::json;

/// A refusal, ready to be sent.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    message: String,
    conflicts_with: Option<String>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl ApiError {
    /// A failure of this kind, in the kind's fixed words.
    pub(crate) fn of(kind: ErrorKind) -> Self {
        Self::new(kind, kind.words())
    }

    /// A failure of this kind, in words meant for the caller.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let error = Self::with_status(edge::http_status(kind), message);
        match kind {
            ErrorKind::TooMuch => error.retry_after(1),
            ErrorKind::Unavailable => error.retry_after(5),
            // What a 401 has to name: the way to show a key.
            ErrorKind::Unauthenticated => error.header(header::WWW_AUTHENTICATE, HeaderValue::from_static("TD1")),
            _ => error,
        }
    }

    /// 400 with advice.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// 404 with the name of what is missing.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// One of the few statuses that only HTTP knows: 405, 408, 415, 416.
    pub(crate) fn with_status(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            conflicts_with: None,
            headers: Vec::new(),
        }
    }

    /// What another role answered, as far as it is for the caller.
    pub(crate) fn from_upstream(status: &tonic::Status) -> Self {
        let kind = edge::kind_of(status);
        let message = match kind {
            ErrorKind::Invalid
            | ErrorKind::Forbidden
            | ErrorKind::NotFound
            | ErrorKind::Conflict
            | ErrorKind::TooLarge
            | ErrorKind::TooMuch
                if !status.message().is_empty() =>
            {
                status.message()
            }
            _ => kind.words(),
        };
        let conflict = status.metadata().get(wire::CONFLICT_HEADER).and_then(|value| value.to_str().ok());
        Self {
            conflicts_with: conflict.map(str::to_owned),
            ..Self::new(kind, message)
        }
    }

    /// Says in how many seconds sending the same again makes sense.
    pub(crate) fn retry_after(mut self, seconds: u64) -> Self {
        self.headers.retain(|(name, _)| name != header::RETRY_AFTER);
        self.header(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)))
    }

    /// Adds a header to the answer.
    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The status it will have.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// The words for the caller.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The answer. Ruby reads `message`, Go `error`, Java `text`; Python shows the body as it is.
    pub(crate) fn respond(self, request: RequestId) -> Response {
        let mut body = json!({
            "error": self.message,
            "message": self.message,
            "text": self.message,
            "severity": "error",
            "request_id": request.to_string(),
        });
        if let Some(job) = self.conflicts_with {
            body["details"] = json!({ "conflicts_with": job });
        }
        let mut response = (self.status, json_body(&body)).into_response();
        for (name, value) in self.headers {
            response.headers_mut().append(name, value);
        }
        response
    }
}

/// 200 with a JSON object.
pub(crate) fn ok(value: &serde_json::Value) -> Response {
    json_body(value).into_response()
}

fn json_body(value: &serde_json::Value) -> impl IntoResponse + use<> {
    (
        [(header::CONTENT_TYPE, "application/json; charset=utf-8")],
        Body::from(value.to_string()),
    )
}

#[cfg(test)]
mod tests {
    use base::{SeededEntropy, Timestamp};
    use http_body_util::BodyExt;

    use super::*;

    async fn sent(error: ApiError) -> (StatusCode, http::HeaderMap, serde_json::Value) {
        let id = RequestId::generate(Timestamp::from_secs(1), &SeededEntropy::new(1));
        let response = error.respond(id);
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (parts.status, parts.headers, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn each_kind_has_the_status_that_clients_expect() {
        for (kind, status) in ErrorKind::ALL.into_iter().zip([400, 401, 403, 404, 409, 413, 429, 503, 500, 500]) {
            let (sent, headers, body) = sent(ApiError::of(kind)).await;
            assert_eq!(sent.as_u16(), status, "{kind:?}");
            assert_eq!(headers.contains_key("retry-after"), kind.is_temporary(), "{kind:?}");
            for field in ["error", "message", "text"] {
                assert_eq!(body[field], kind.words());
            }
            assert_eq!(body["severity"], "error");
            assert_eq!(body["request_id"].as_str().unwrap().len(), 26);
        }
    }

    #[tokio::test]
    async fn messages_of_inner_failures_stay_inside() {
        for kind in [
            ErrorKind::Internal,
            ErrorKind::Corrupt,
            ErrorKind::Unavailable,
            ErrorKind::Unauthenticated,
        ] {
            let (_, _, body) = sent(ApiError::from_upstream(&edge::status(kind, "secret detail"))).await;
            assert_eq!(body["message"], kind.words(), "{kind:?}");
        }
        let (_, _, body) = sent(ApiError::from_upstream(&edge::status(ErrorKind::Invalid, "line 1: no such column"))).await;
        assert_eq!(body["message"], "line 1: no such column");
    }

    #[tokio::test]
    async fn a_conflict_names_the_job_in_the_way() {
        let mut status = edge::status(ErrorKind::Conflict, "used before");
        status.metadata_mut().insert(wire::CONFLICT_HEADER, "17".parse().unwrap());
        let (code, _, body) = sent(ApiError::from_upstream(&status)).await;
        assert_eq!((code.as_u16(), &body["details"]["conflicts_with"]), (409, &json!("17")));
    }
}
