//! The public API as a client: who to call, which key to show, how to read a refusal.
//!
//! Start at [`Client::new`]. The calls are in [`td`]. A key is never an argument: it comes from a file or the environment.

pub(crate) mod access;
mod audit;
mod connection;
mod dropped;
pub(crate) mod people;
pub(crate) mod rejected;
pub(crate) mod td;

use std::sync::Arc;
use std::time::Duration;

use base::Secret;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use rustls::ClientConfig;

pub(crate) use access::Access;

use crate::failure::{Exit, Failure, Outcome};
use connection::Connection;

/// One caller with one key and one connection, which is opened when needed and again when it was closed.
pub(crate) struct Client {
    endpoint: access::Endpoint,
    tls: Arc<ClientConfig>,
    key: Secret,
    connection: Option<Connection>,
}

impl Client {
    /// Nothing is connected yet.
    pub(crate) fn new(access: Access) -> Self {
        Self {
            endpoint: access.endpoint,
            tls: access.tls,
            key: access.key,
            connection: None,
        }
    }

    /// A further caller beside this one, with a connection of its own.
    pub(crate) fn another(&self) -> Self {
        Self {
            endpoint: self.endpoint.clone(),
            tls: Arc::clone(&self.tls),
            key: self.key.clone(),
            connection: None,
        }
    }

    /// Sends a request and takes the answer if it is 200. `what` is said of a failure. Safe to repeat: `GET`, and imports with an id.
    pub(crate) async fn call(&mut self, what: &str, method: Method, path: &str, content: Content) -> Outcome<Response<Incoming>> {
        let repeatable = method == Method::GET || method == Method::PUT;
        let answer = match self.send(what, &method, path, &content).await {
            // A kept connection may have been closed just when we wrote to it.
            Err(failure) if repeatable && failure.exit == Exit::Temporary => self.send(what, &method, path, &content).await?,
            other => other?,
        };
        if answer.status() == StatusCode::OK {
            Ok(answer)
        } else {
            Err(refusal(what, answer).await)
        }
    }

    async fn send(&mut self, what: &str, method: &Method, path: &str, content: &Content) -> Outcome<Response<Incoming>> {
        let mut connection = match self.connection.take() {
            Some(open) if open.is_usable() => open,
            _ => Connection::open(what, &self.endpoint, &self.tls).await?,
        };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.endpoint.authority)
            .header(header::USER_AGENT, concat!("coffer/", env!("CARGO_PKG_VERSION")))
            .header(header::AUTHORIZATION, authorization(&self.key)?);
        if let Some(kind) = content.kind() {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        let request = request
            .body(http_body_util::Full::new(content.bytes()))
            .map_err(|error| Failure::new(Exit::Failed, what).why(error))?;
        let answer = connection.send(request).await.map_err(|error| {
            Failure::new(Exit::Temporary, what)
                .why(format!("the connection to {} broke: {error}", self.endpoint))
                .next("try again")
                .again_after(Duration::ZERO)
        })?;
        self.connection = Some(connection);
        Ok(answer)
    }
}

/// What goes with a request.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Nothing,
    Form(String),
    Binary(Bytes),
}

impl Content {
    /// Names and values as a web page's form sends them.
    pub(crate) fn form(fields: &[(&str, &str)]) -> Self {
        let pairs: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{}={}", escaped(name), escaped(value)))
            .collect();
        Self::Form(pairs.join("&"))
    }

    fn kind(&self) -> Option<&'static str> {
        match self {
            Self::Nothing => None,
            Self::Form(_) => Some("application/x-www-form-urlencoded"),
            Self::Binary(_) => Some("application/octet-stream"),
        }
    }

    fn bytes(&self) -> Bytes {
        match self {
            Self::Nothing => Bytes::new(),
            Self::Form(text) => Bytes::from(text.clone()),
            Self::Binary(bytes) => bytes.clone(),
        }
    }
}

/// A text inside an address.
pub(crate) fn escaped(text: &str) -> impl std::fmt::Display + '_ {
    const REST: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'_')
        .remove(b'.')
        .remove(b'~');
    percent_encoding::utf8_percent_encode(text, REST)
}

fn authorization(key: &Secret) -> Outcome<header::HeaderValue> {
    let mut value = header::HeaderValue::from_str(&format!("TD1 {}", key.reveal()))
        .map_err(|_| Failure::new(Exit::Refused, "the product key cannot be used").why("it contains characters that no key has"))?;
    value.set_sensitive(true);
    Ok(value)
}

const MOST_WORDS: usize = 64 << 10;

async fn refusal(what: &str, answer: Response<Incoming>) -> Failure {
    use http_body_util::{BodyExt, Limited};
    let status = answer.status();
    let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (mut request, after) = (
        header("x-request-id").or_else(|| header("coffer-request-id")),
        header("retry-after"),
    );
    let body = Limited::new(answer.into_body(), MOST_WORDS)
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let words: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |name: &str| words.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
    request = request.or_else(|| text("request_id"));
    let why = text("message")
        .or_else(|| text("error"))
        .unwrap_or_else(|| format!("the server answered {status}"));
    let exit = exit_of(status);
    let wait = after
        .as_deref()
        .and_then(|seconds| seconds.parse().ok())
        .map_or(Duration::ZERO, Duration::from_secs);
    let next = match exit {
        Exit::NotAllowed if status == StatusCode::UNAUTHORIZED => {
            Some("check the key: `coffer keys list --product NAME` shows which ones live".to_owned())
        }
        Exit::NotAllowed => {
            Some("use a key of another kind: read asks, write sends, admin does both and manages, reveal is told who people are".to_owned())
        }
        Exit::Temporary => Some(after.map_or("try again".into(), |seconds| format!("try again in {seconds} s"))),
        _ => None,
    };
    let failure = Failure::new(exit, what).why(why).request(request);
    let failure = if exit == Exit::Temporary || status.is_server_error() {
        failure.again_after(wait)
    } else {
        failure
    };
    match next {
        Some(next) => failure.next(next),
        None => failure,
    }
}

fn exit_of(status: StatusCode) -> Exit {
    match status.as_u16() {
        401 | 403 => Exit::NotAllowed,
        404 => Exit::NotFound,
        409 => Exit::Conflict,
        408 | 429 | 502..=504 => Exit::Temporary,
        400..=499 => Exit::Refused,
        _ => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_carry_every_character() {
        let Content::Form(text) = Content::form(&[("query", "SELECT 'ä&b=c' \n+ 1"), ("priority", "-1")]) else {
            panic!()
        };
        assert_eq!(text, "query=SELECT%20%27%C3%A4%26b%3Dc%27%20%0A%2B%201&priority=-1");
    }

    #[test]
    fn every_status_has_its_exit_code() {
        let check = |status: u16, exit: Exit| assert_eq!(exit_of(StatusCode::from_u16(status).unwrap()), exit, "{status}");
        check(400, Exit::Refused);
        check(401, Exit::NotAllowed);
        check(403, Exit::NotAllowed);
        check(404, Exit::NotFound);
        check(409, Exit::Conflict);
        check(413, Exit::Refused);
        check(429, Exit::Temporary);
        check(500, Exit::Failed);
        check(503, Exit::Temporary);
    }
}
