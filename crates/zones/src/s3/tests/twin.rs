//! A store in memory that breaks what it is told to break. It takes any signature.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What a store does that it must not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// `If-None-Match` is not looked at.
    CreatesTwice,
    /// `If-None-Match` is not known.
    CreatesNever,
    /// A write is answered and not carried out where there is something already.
    KeepsFirst,
    ListsNothing,
    ListsDeleted,
    KeepsDeleted,
    IgnoresRange,
    KeepsVersions,
    /// Says that a listing goes on, for ever.
    EndlessListing,
    /// Lists as directories are walked through, not by the bytes of whole keys.
    OrdersPaths,
    /// Answers every write of an object with status 500 and carries it out.
    DoesAndDenies,
    /// Says that an object is longer than anybody has room for, and sends on and on.
    Swamps,
    /// An object was moved to an archive.
    Archives,
    Redirects,
}

#[derive(Debug, Default)]
struct Held {
    objects: BTreeMap<String, Bytes>,
    deleted: BTreeMap<String, Bytes>,
    requests: Vec<String>,
}

/// The store, listening.
#[derive(Debug)]
pub(super) struct Twin {
    place: TempDir,
    port: u16,
    held: Arc<Mutex<Held>>,
    fault: Arc<Mutex<Fault>>,
}

impl Twin {
    pub(super) async fn start(fault: Fault) -> Self {
        let place = tempfile::tempdir().unwrap();
        testkit::stores::certify(place.path()).unwrap();
        let chain = CertificateDer::pem_file_iter(place.path().join("tls.pem")).unwrap();
        let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_file(place.path().join("tls.key")).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (held, fault) = (Arc::<Mutex<Held>>::default(), Arc::new(Mutex::new(fault)));
        let (acceptor, kept, says) = (TlsAcceptor::from(Arc::new(config)), Arc::clone(&held), Arc::clone(&fault));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, kept, says) = (acceptor.clone(), Arc::clone(&kept), Arc::clone(&says));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(socket).await else { return };
                    let service = service_fn(move |request| answer(request, Arc::clone(&kept), *says.lock().unwrap()));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { place, port, held, fault }
    }

    pub(super) fn url(&self) -> String {
        format!("https://localhost:{}/events", self.port)
    }

    pub(super) fn ca(&self) -> PathBuf {
        self.place.path().join("ca.pem")
    }

    pub(super) fn break_it(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    pub(super) fn plant(&self, key: &str, bytes: &'static [u8]) {
        self.held.lock().unwrap().objects.insert(key.to_owned(), Bytes::from_static(bytes));
    }

    pub(super) fn clear(&self) {
        self.held.lock().unwrap().objects.clear();
    }

    pub(super) fn keys(&self) -> Vec<String> {
        self.held.lock().unwrap().objects.keys().cloned().collect()
    }

    /// Method and path of every request so far.
    pub(super) fn requests(&self) -> Vec<String> {
        self.held.lock().unwrap().requests.clone()
    }
}

fn says(status: u16, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::new(body.into())).unwrap()
}

fn refuses(status: u16, code: &str) -> Response<Full<Bytes>> {
    says(status, format!("<Error><Code>{code}</Code><Message>words</Message></Error>"))
}

async fn answer(request: Request<Incoming>, held: Arc<Mutex<Held>>, fault: Fault) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    assert!(head.headers["authorization"].to_str().unwrap().starts_with("AWS4-HMAC-SHA256 "));
    let mut held = held.lock().unwrap();
    held.requests.push(format!("{} {}", head.method, head.uri));
    let query = head.uri.query().unwrap_or_default();
    let Some(key) = head
        .uri
        .path()
        .strip_prefix("/events")
        .map(|key| key.trim_start_matches('/').to_owned())
    else {
        return Ok(refuses(404, "NoSuchBucket"));
    };
    if key.is_empty() {
        return Ok(if query.starts_with("versioning") {
            let status = if fault == Fault::KeepsVersions {
                "<Status>Enabled</Status>"
            } else {
                ""
            };
            says(200, format!("<VersioningConfiguration>{status}</VersioningConfiguration>"))
        } else {
            list(&held, query, fault)
        });
    }
    let is_object = crate::ObjectName::checked(&key).is_ok();
    Ok(match head.method {
        Method::PUT => put(&mut held, &head.headers, key, body, fault, is_object),
        Method::DELETE => {
            if let Some(bytes) = held.objects.get(&key).cloned() {
                held.deleted.insert(key.clone(), bytes);
            }
            if fault != Fault::KeepsDeleted {
                held.objects.remove(&key);
            }
            says(204, "")
        }
        _ if fault == Fault::Redirects => refuses(301, "PermanentRedirect"),
        _ if is_object && fault == Fault::Archives => refuses(403, "InvalidObjectState"),
        _ if is_object && fault == Fault::Swamps => says(200, vec![7; 1 << 20]),
        _ => match held.objects.get(&key) {
            None => refuses(404, "NoSuchKey"),
            Some(bytes) => {
                let range = head.headers.get("range").and_then(|range| range.to_str().ok());
                part(bytes, range.filter(|_| fault != Fault::IgnoresRange))
            }
        },
    })
}

fn put(held: &mut Held, headers: &http::HeaderMap, key: String, body: Bytes, fault: Fault, is_object: bool) -> Response<Full<Bytes>> {
    let only_new = headers.contains_key("if-none-match");
    if only_new && fault == Fault::CreatesNever {
        return refuses(501, "NotImplemented");
    }
    let there = held.objects.contains_key(&key);
    if only_new && there && fault != Fault::CreatesTwice {
        return refuses(412, "PreconditionFailed");
    }
    if !(there && fault == Fault::KeepsFirst) {
        held.objects.insert(key, body);
    }
    if is_object && fault == Fault::DoesAndDenies {
        return refuses(500, "InternalError");
    }
    says(200, "")
}

fn part(bytes: &Bytes, range: Option<&str>) -> Response<Full<Bytes>> {
    let Some((from, to)) = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-')) else {
        return says(200, bytes.clone());
    };
    let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
    if from >= bytes.len() {
        return refuses(416, "InvalidRange");
    }
    says(StatusCode::PARTIAL_CONTENT.as_u16(), bytes.slice(from..bytes.len().min(to + 1)))
}

/// Pages of two.
fn list(held: &Held, query: &str, fault: Fault) -> Response<Full<Bytes>> {
    let value = |name: &str| {
        let found = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let found = found.map(|text| percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned());
        found.unwrap_or_default()
    };
    let (prefix, after) = (value("prefix"), value("continuation-token").max(value("start-after")));
    let mut all = held.objects.clone();
    if fault == Fault::ListsDeleted {
        all.extend(held.deleted.clone());
    }
    if fault == Fault::ListsNothing {
        all.clear();
    }
    let mut keys: Vec<&String> = all.keys().filter(|key| key.starts_with(&prefix)).collect();
    let rank = |key: &str| {
        if fault == Fault::OrdersPaths {
            key.replace('/', "\0")
        } else {
            key.to_owned()
        }
    };
    keys.sort_by_key(|key| rank(key));
    keys.retain(|key| rank(key) > rank(&after));
    let more = keys.len() > 2 || fault == Fault::EndlessListing;
    let page: String = keys
        .iter()
        .take(2)
        .map(|key| format!("<Contents><Key>{key}</Key></Contents>"))
        .collect();
    let last = keys.iter().take(2).next_back().map_or("again", |key| key.as_str());
    let next = if more {
        format!("<NextContinuationToken>{last}</NextContinuationToken>")
    } else {
        String::new()
    };
    says(
        200,
        format!("<ListBucketResult><IsTruncated>{more}</IsTruncated>{next}{page}</ListBucketResult>"),
    )
}
