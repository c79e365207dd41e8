//! What lets a page of another origin send records from a browser, and read the answer.
//!
//! Every origin may: what opens a product is the key that the page shows, never something that the browser adds by itself. Nothing here
//! sets or reads cookies. "With credentials" is allowed only because the browser SDK asks that way; it wants to see its own origin then.
//!
//! Does not know what is sent.

use axum::response::{IntoResponse, Response};
use http::header::{self, HeaderMap, HeaderValue};

use crate::calls::Visit;
use crate::errors::ApiError;

/// The path that browsers send to.
pub(crate) const PATH: &str = "/{database}/{table}";
/// What the SDKs send along, and what a browser asks about.
const HEADERS: &str = "authorization, content-type, content-encoding, accept, user-agent, x-td-write-key, x-td-fetch-api, wp13n-token";

/// `OPTIONS /{database}/{table}`: a browser's question before it sends. It shows no key, and is answered alike for every path.
pub(crate) async fn preflight(_: Visit) -> Result<Response, ApiError> {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "POST"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS),
        (header::ACCESS_CONTROL_MAX_AGE, "7200"),
    ];
    Ok(headers.into_response())
}

/// The origin of a page that asks, where pages may.
pub(crate) fn origin(path: &str, headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(header::ORIGIN).filter(|_| path == PATH).cloned()
}

/// Lets the page of this origin read the answer, a refusal too.
pub(crate) fn allow(origin: Option<HeaderValue>, headers: &mut HeaderMap) {
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
}
