//! The plain port: sends people to the TLS port, and refuses programs without reading what they bring.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::time::Duration;

use axum::body::Body;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, LOCATION};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::connections::{self, Caps, PATIENCE};

const CAPS: Caps = Caps {
    connections: 512,
    per_address: 64,
};
const MAX_HEADER: usize = 16 * 1024;
/// What programs call: told what is wrong instead of being sent on, for they would send their key again.
const APIS: [&str; 2] = ["/v1", "/v3"];
/// Headers that carry a key in one of the protocols we speak.
const KEYS: [&str; 4] = ["authorization", "x-td-write-key", "x-trino-user", "x-presto-user"];
const REFUSAL: &str = "plain HTTP is refused here: use https, and replace any key that was sent in the clear";

/// Answers plain HTTP until `cancel`: a redirect for pages, a refusal for everything else. Reads no body.
pub async fn serve_plain_redirect(listener: TcpListener, https_port: u16, cancel: CancellationToken) -> io::Result<()> {
    let listener = connections::listen(&listener)?;
    connections::accept(listener, CAPS, &cancel, move |stream: TcpStream, _| async move {
        // One request a connection, so that this bounds all of it.
        let _ = timeout(PATIENCE * 2, serve_one(stream, https_port)).await;
    })
    .await;
    Ok(())
}

async fn serve_one(stream: TcpStream, https_port: u16) {
    let service = hyper::service::service_fn(move |request: Request<Incoming>| async move {
        Ok::<_, Infallible>(answer(request.method(), request.uri(), request.headers(), https_port))
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_header_size(MAX_HEADER)
        .keep_alive(false);
    let Ok(parts) = builder.serve_connection(TokioIo::new(stream), service).without_shutdown().await else {
        return;
    };
    let mut stream = parts.io.into_inner();
    // Closing at once would reset the connection under a caller that is still sending, and it would never see the answer.
    if stream.shutdown().await.is_ok() {
        sleep(Duration::from_secs(1)).await;
    }
}

fn answer(method: &Method, uri: &Uri, headers: &HeaderMap, https_port: u16) -> Response<Body> {
    let page = matches!(*method, Method::GET | Method::HEAD);
    let mut response = if !page || is_api(uri.path()) || KEYS.iter().any(|key| headers.contains_key(*key)) {
        refusal(StatusCode::FORBIDDEN, REFUSAL)
    } else {
        match location(uri, headers, https_port) {
            Some(location) => {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
                response.headers_mut().insert(LOCATION, location);
                response
            }
            None => refusal(StatusCode::BAD_REQUEST, "the Host header is missing or is not a host name"),
        }
    };
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn refusal(status: StatusCode, words: &'static str) -> Response<Body> {
    // The words under every name by which one of the public clients looks for them.
    let body = serde_json::json!({ "error": words, "message": words, "text": words, "severity": "error" });
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

// Clients double slashes, and an encoded first segment is no page of ours.
fn is_api(path: &str) -> bool {
    let path = path.trim_start_matches('/');
    let first = path.split('/').next().unwrap_or_default();
    first.contains('%') || APIS.iter().any(|api| first.eq_ignore_ascii_case(&api[1..]))
}

fn location(uri: &Uri, headers: &HeaderMap, https_port: u16) -> Option<HeaderValue> {
    let mut hosts = headers.get_all(HOST).iter();
    let (host, None) = (hosts.next()?.to_str().ok()?, hosts.next()) else {
        return None;
    };
    let host = without_port(host)?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let path = if path.starts_with('/') { path } else { "/" };
    let port = if https_port == 443 {
        String::new()
    } else {
        format!(":{https_port}")
    };
    HeaderValue::from_str(&format!("https://{host}{port}{path}")).ok()
}

/// The host of `host[:port]`, if it is one: a name or an address and nothing else.
fn without_port(host: &str) -> Option<&str> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let end = rest.find(']')?;
            rest[..end].parse::<std::net::Ipv6Addr>().ok()?;
            (&host[..end + 2], &rest[end + 1..])
        }
        None => {
            let end = host.find(':').unwrap_or(host.len());
            let name = &host[..end];
            let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
            if name.is_empty() || name.len() > 253 || !name.bytes().all(plain) {
                return None;
            }
            (name, &host[end..])
        }
    };
    let port_is_one = port.is_empty() || port.strip_prefix(':').is_some_and(|digits| digits.parse::<u16>().is_ok());
    port_is_one.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: Method, path: &str, headers: &[(&'static str, &str)]) -> (u16, Option<String>) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let response = answer(&method, &path.parse().unwrap(), &map, 8443);
        assert_eq!(response.headers()[CONNECTION], "close");
        (
            response.status().as_u16(),
            response.headers().get(LOCATION).map(|l| l.to_str().unwrap().to_owned()),
        )
    }

    #[test]
    fn pages_are_sent_to_the_same_host_and_path() {
        let check = |host: &str, path: &str, to: &str| {
            assert_eq!(
                ask(Method::GET, path, &[("host", host)]),
                (308, Some(to.to_owned())),
                "{host} {path}"
            );
        };
        check("coffer.example", "/", "https://coffer.example:8443/");
        check("coffer.example:8080", "/a/b?c=d", "https://coffer.example:8443/a/b?c=d");
        check("[::1]:80", "/x", "https://[::1]:8443/x");
        check("localhost", "http://elsewhere.example/x", "https://localhost:8443/x");
    }

    #[test]
    fn what_is_not_a_host_is_not_redirected_to() {
        for host in ["", "a b", "a/b", "user@a", "a:b", "a:99999", "[zz]", "[::1", "a\\b", "a:1:2"] {
            assert_eq!(ask(Method::GET, "/", &[("host", host)]).0, 400, "{host:?}");
        }
        assert_eq!(ask(Method::GET, "/", &[]).0, 400);
        assert_eq!(ask(Method::GET, "/", &[("host", "a"), ("host", "b")]).0, 400);
    }

    #[test]
    fn programs_are_refused() {
        for path in ["/v3", "/v3/database/list", "//v3/x", "/V1/statement", "/%763/x"] {
            assert_eq!(ask(Method::GET, path, &[("host", "a")]).0, 403, "{path}");
        }
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH] {
            assert_eq!(ask(method, "/", &[("host", "a")]).0, 403);
        }
        assert_eq!(ask(Method::GET, "/", &[("host", "a"), ("authorization", "TD1 1/x")]).0, 403);
        assert_eq!(ask(Method::GET, "/v3x", &[("host", "a")]).0, 308);
    }
}
