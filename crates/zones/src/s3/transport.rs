//! Requests over TLS: connections that are kept, and answers that are not longer than they may be.
//!
//! Promise: an error says whether the request can have reached the store. Nothing is tried a second time, except on a new
//! connection when an old one turned out to be closed before anything was sent on it.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::address::Address;
use super::hosts::Hosts;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_millis(500);
/// A connection that was idle for longer is not used again: stores close theirs at some time, and a request that meets that is
/// lost without anybody knowing whether it was carried out.
const IDLE: Duration = Duration::from_secs(10);
/// Bytes in a second with which a transfer is given time beyond what a small request has.
const SLOWEST: u64 = 4 << 20;
/// How many connections are kept.
const KEPT: usize = 32;
/// What an answer that is no object may have: an error, mostly.
pub(super) const WORDS: u64 = 64 << 10;
/// What is made room for before it comes.
const FIRST: u64 = 4 << 20;
/// What a file of certificates may have.
const CERTIFICATES: u64 = 4 << 20;

/// Where systems keep the certificates that they trust.
const SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Whom to trust when nobody is named.
pub(super) fn system_certificates() -> Option<PathBuf> {
    SYSTEM.iter().map(PathBuf::from).find(|path| path.is_file())
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The request has not left: nothing was changed.
    NotSent(String),
    /// It may have arrived.
    Sent(String),
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Whole,
}

/// The body of an answer.
#[derive(Debug)]
pub(super) enum Whole {
    Bytes(Bytes),
    /// Not read: it has at least this many bytes, which is more than was asked for.
    Longer(u64),
}

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    _driver: AbortOnDropHandle<()>,
}

/// Connections to one store.
pub(super) struct Transport {
    address: Address,
    hosts: Hosts,
    tls: TlsConnector,
    name: ServerName<'static>,
    idle: Mutex<Vec<(Connection, Instant)>>,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport")
    }
}

impl Transport {
    /// To a store whose certificate must be of one of the authorities in the file `ca`. Blocks for a moment.
    pub(super) fn new(address: &Address, hosts: Hosts, ca: Option<&Path>) -> Result<Self, String> {
        let system = system_certificates();
        let path = ca
            .or(system.as_deref())
            .ok_or("this system has no file of trusted certificates: give one as `ca`")?;
        let mut roots = RootCertStore::empty();
        let read = File::open(path).and_then(|file| {
            let mut bytes = Vec::new();
            file.take(CERTIFICATES).read_to_end(&mut bytes).map(|_| bytes)
        });
        let bytes = read.map_err(|error| format!("the file of trusted certificates cannot be read: {}", error.kind()))?;
        // A system's own list may hold some that are too old to be understood.
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&bytes).filter_map(Result::ok));
        if roots.is_empty() {
            return Err("the file of trusted certificates has none".into());
        }
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|_| "TLS cannot be used")?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(address.host().to_owned()).map_err(|_| "its host is no name that a certificate can have")?;
        Ok(Self {
            address: address.clone(),
            hosts,
            tls: TlsConnector::from(Arc::new(config)),
            name,
            idle: Mutex::default(),
        })
    }

    /// Sends one request and reads the answer; of an object no more than `most` bytes. What is long may take longer than `within`.
    pub(super) async fn exchange(&self, request: Request<Full<Bytes>>, most: u64, within: Duration) -> Result<Answer, Trouble> {
        let mut deadline = Instant::now() + within + time_for(request.body().size_hint().exact());
        let silent = || format!("no answer within {} ms", within.as_millis());
        let mut request = request;
        let (mut connection, response) = loop {
            let (mut connection, old) = match self.take_idle() {
                Some(connection) => (connection, true),
                None => (self.connect(deadline).await.map_err(Trouble::NotSent)?, false),
            };
            match timeout_at(deadline, connection.sender.try_send_request(request)).await {
                Ok(Ok(response)) => break (connection, response),
                Ok(Err(mut failed)) => match failed.take_message() {
                    Some(unsent) if old => request = unsent,
                    Some(_) => return Err(Trouble::NotSent("it closes every connection".into())),
                    None => return Err(Trouble::Sent(in_words(failed.error()))),
                },
                Err(_) => return Err(Trouble::Sent(silent())),
            }
        };
        let (head, body) = response.into_parts();
        let most = if head.status.is_success() { most } else { WORDS };
        deadline += time_for(body.size_hint().exact().filter(|length| *length <= most));
        let body = timeout_at(deadline, read(body, most)).await;
        let body = body
            .map_err(|_| Trouble::Sent(silent()))?
            .map_err(|error| Trouble::Sent(in_words(&error)))?;
        if matches!(body, Whole::Bytes(_))
            && timeout_at(deadline, connection.sender.ready())
                .await
                .is_ok_and(|ready| ready.is_ok())
        {
            self.keep(connection);
        }
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body,
        })
    }

    async fn connect(&self, deadline: Instant) -> Result<Connection, String> {
        let soon = deadline.min(Instant::now() + CONNECT);
        let addresses = timeout_at(soon, self.hosts.of(self.address.host(), self.address.port())).await;
        let addresses = addresses.map_err(|_| "the address of its host could not be found in time")??;
        let socket = match timeout_at(soon, TcpStream::connect(&addresses[..])).await {
            Ok(Ok(socket)) => socket,
            Ok(Err(error)) => return Err(format!("it cannot be reached: {}", error.kind())),
            Err(_) => return Err(format!("it took no connection within {} ms", CONNECT.as_millis())),
        };
        // Without it a small request may wait for the answer to a larger one.
        let _ = socket.set_nodelay(true);
        let stream = match timeout_at(deadline, self.tls.connect(self.name.clone(), socket)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(format!("no TLS with it: {error}")),
            Err(_) => return Err("it does not answer".into()),
        };
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(WORDS as usize)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| in_words(&error))?;
        let driver = tokio::spawn(async { drop(driver.await) });
        Ok(Connection {
            sender,
            _driver: AbortOnDropHandle::new(driver),
        })
    }

    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(connection, since)| since.elapsed() < IDLE && connection.sender.is_ready());
        idle.pop().map(|(connection, _)| connection)
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.push((connection, Instant::now()));
        }
    }
}

fn time_for(length: Option<u64>) -> Duration {
    Duration::from_millis(length.unwrap_or(0).saturating_mul(1000) / SLOWEST)
}

async fn read(mut body: Incoming, most: u64) -> hyper::Result<Whole> {
    if let Some(length) = body.size_hint().exact().filter(|length| *length > most) {
        return Ok(Whole::Longer(length));
    }
    let expected = body.size_hint().exact().unwrap_or(0);
    // What a store says of its length is not believed beyond this.
    let mut bytes = BytesMut::with_capacity(usize::try_from(expected.min(FIRST)).unwrap_or(0));
    while let Some(frame) = body.frame().await {
        // What follows the body is nobody's.
        let Ok(data) = frame?.into_data() else { continue };
        let length = (bytes.len() + data.len()) as u64;
        if length > most {
            return Ok(Whole::Longer(length));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Whole::Bytes(bytes.freeze()))
}

fn in_words(error: &hyper::Error) -> String {
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        "the connection broke off".into()
    } else {
        format!("the connection failed: {error}")
    }
}
