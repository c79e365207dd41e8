//! A td client of our own for what the others cannot do: send what is wrong, look at raw answers, and go on through outages.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, Method, Request, header, request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use crate::msgpack::packed_rows;
use crate::wait::until;

/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(60);

/// Speaks the td protocol over TLS, with one key or none. Each request is a connection of its own.
#[derive(Clone)]
pub struct Client {
    port: u16,
    key: Option<String>,
    tls: TlsConnector,
}

/// One connection that stays open, for many requests one after the other.
pub struct Connection {
    client: Client,
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    /// Sends one request.
    pub async fn send(&mut self, method: Method, path: &str, body: Vec<u8>) -> anyhow::Result<Answer> {
        let request = self.client.request(method, path).body(Full::new(Bytes::from(body)))?;
        let exchange = async {
            self.sender.ready().await?;
            let (head, body) = self.sender.send_request(request).await?.into_parts();
            Ok::<_, anyhow::Error>(Answer {
                status: head.status.as_u16(),
                headers: head.headers,
                body: body.collect().await?.to_bytes(),
            })
        };
        tokio::time::timeout(REQUEST, exchange).await.context("no answer in time")?
    }

    /// Sends rows once, under an id or none.
    pub async fn import(&mut self, database: &str, table: &str, id: Option<&str>, rows: &[Value]) -> anyhow::Result<Answer> {
        self.send(Method::PUT, &import_path(database, table, id), packed_rows(rows)).await
    }
}

/// What the server said.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text, whatever it holds.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("no JSON: {}", self.text()))
    }

    /// An error unless the status is exactly 200.
    pub fn ok(self) -> anyhow::Result<Self> {
        ensure!(self.status == 200, "status {}: {}", self.status, self.text());
        Ok(self)
    }
}

impl Client {
    /// A client of the gateway at `port` on this machine that trusts `ca` and nothing else.
    pub fn new(port: u16, ca: &Path, key: Option<&str>) -> anyhow::Result<Self> {
        Self::by_the_clock(port, ca, key, Arc::new(DefaultTimeProvider))
    }

    /// The same, for which it is some other time.
    pub(crate) fn by_the_clock(port: u16, ca: &Path, key: Option<&str>, time: Arc<dyn TimeProvider>) -> anyhow::Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        let certificates = CertificateDer::pem_file_iter(ca).with_context(|| format!("no certificate in {}", ca.display()))?;
        for certificate in certificates {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_details(provider, time)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            port,
            key: key.map(str::to_owned),
            tls: TlsConnector::from(Arc::new(config)),
        })
    }

    /// The same client with another key.
    pub fn with_key(&self, key: &str) -> Self {
        Self {
            key: Some(key.to_owned()),
            ..self.clone()
        }
    }

    /// Sends one request; any answer is fine, even a refusal.
    pub async fn send(&self, method: Method, path: &str, content_type: Option<&str>, body: Vec<u8>) -> anyhow::Result<Answer> {
        self.send_encoded(method, path, content_type, None, body).await
    }

    /// The same with a content encoding, which the body has already.
    pub async fn send_encoded(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        encoding: Option<&str>,
        body: Vec<u8>,
    ) -> anyhow::Result<Answer> {
        let mut request = self.request(method, path);
        for (name, value) in [(header::CONTENT_TYPE, content_type), (header::CONTENT_ENCODING, encoding)] {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                request = request.header(name, value);
            }
        }
        tokio::time::timeout(REQUEST, self.exchange(request.body(Full::new(Bytes::from(body)))?))
            .await
            .context("no answer in time")?
    }

    fn request(&self, method: Method, path: &str) -> request::Builder {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, format!("localhost:{}", self.port));
        match &self.key {
            Some(key) => request.header(header::AUTHORIZATION, format!("TD1 {key}")),
            None => request,
        }
    }

    /// A connection that stays open.
    pub async fn connection(&self) -> anyhow::Result<Connection> {
        let (sender, _) = self.connect().await?;
        let client = self.clone();
        Ok(Connection { client, sender })
    }

    async fn connect(&self) -> anyhow::Result<(SendRequest<Full<Bytes>>, JoinHandle<()>)> {
        let socket = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let stream = self.tls.connect(ServerName::try_from("localhost")?, socket).await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        Ok((sender, tokio::spawn(async { drop(connection.await) })))
    }

    async fn open(&self, request: Request<Full<Bytes>>) -> anyhow::Result<(Parts, Incoming, JoinHandle<()>)> {
        let (mut sender, driver) = self.connect().await?;
        let (head, body) = sender.send_request(request).await?.into_parts();
        Ok((head, body, driver))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
        let (head, body, driver) = self.open(request).await?;
        let body = body.collect().await?.to_bytes();
        driver.abort();
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
        })
    }

    /// A GET.
    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(Method::GET, path, None, Vec::new()).await
    }

    /// A GET of some bytes, both ends included.
    pub async fn get_range(&self, path: &str, first: u64, last: u64) -> anyhow::Result<Answer> {
        let request = self
            .request(Method::GET, path)
            .header(header::RANGE, format!("bytes={first}-{last}"));
        tokio::time::timeout(REQUEST, self.exchange(request.body(Full::default())?))
            .await
            .context("no answer in time")?
    }

    /// A GET whose body is looked at piece by piece and never held. A body that ends early is an error.
    pub async fn get_in_pieces(&self, path: &str, mut look: impl FnMut(&[u8])) -> anyhow::Result<()> {
        let request = self.request(Method::GET, path).body(Full::default())?;
        let (head, mut body, driver) = self.open(request).await?;
        ensure!(head.status == 200, "status {}", head.status);
        loop {
            let Some(frame) = tokio::time::timeout(REQUEST, body.frame()).await.context("no piece in time")? else {
                break;
            };
            if let Some(piece) = frame?.data_ref() {
                look(piece);
            }
        }
        driver.abort();
        Ok(())
    }

    /// A POST of form fields.
    pub async fn post(&self, path: &str, fields: &[(&str, &str)]) -> anyhow::Result<Answer> {
        let escape = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let form: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{}={}", escape(name), escape(value)))
            .collect();
        self.send(
            Method::POST,
            path,
            Some("application/x-www-form-urlencoded"),
            form.join("&").into_bytes(),
        )
        .await
    }

    /// Makes a database and a table in it. What exists already stays.
    pub async fn create_table(&self, database: &str, table: &str) -> anyhow::Result<()> {
        for path in [
            format!("/v3/database/create/{database}"),
            format!("/v3/table/create/{database}/{table}/log"),
        ] {
            let made = self.post(&path, &[]).await?;
            ensure!([200, 409].contains(&made.status), "{path}: status {}: {}", made.status, made.text());
        }
        Ok(())
    }

    /// Sends rows once, under an id or none.
    pub async fn import(&self, database: &str, table: &str, id: Option<&str>, rows: &[Value]) -> anyhow::Result<Answer> {
        let path = import_path(database, table, id);
        self.send(Method::PUT, &path, Some("application/octet-stream"), packed_rows(rows))
            .await
    }

    /// Issues a job; its id.
    pub async fn issue(&self, database: &str, sql: &str) -> anyhow::Result<String> {
        let issued = self
            .post(&format!("/v3/job/issue/trino/{database}"), &[("query", sql)])
            .await?
            .ok()?
            .json()?;
        Ok(issued["job_id"]
            .as_str()
            .with_context(|| format!("no job id in {issued}"))?
            .to_owned())
    }

    /// The state of a job.
    pub async fn job_status(&self, job: &str) -> anyhow::Result<String> {
        let status = self.get(&format!("/v3/job/status/{job}")).await?.ok()?.json()?;
        Ok(status["status"]
            .as_str()
            .with_context(|| format!("no status in {status}"))?
            .to_owned())
    }

    /// Waits until a job is over; how it ended.
    pub async fn ended(&self, job: &str, within: Duration) -> anyhow::Result<String> {
        until(&format!("job {job} ends"), within, || async {
            let status = self.job_status(job).await?;
            ensure!(["success", "error", "killed"].contains(&status.as_str()), "it is {status}");
            Ok(status)
        })
        .await
    }

    /// Asks a question and waits for the rows.
    pub async fn query(&self, database: &str, sql: &str) -> anyhow::Result<Vec<Vec<Value>>> {
        let job = self.issue(database, sql).await?;
        let status = self.ended(&job, REQUEST).await?;
        if status != "success" {
            let shown = self.get(&format!("/v3/job/show/{job}")).await?.ok()?.text();
            bail!("job {job} ended with {status}: {shown}");
        }
        let lines = self.get(&format!("/v3/job/result/{job}?format=json")).await?.ok()?.text();
        lines
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("no JSON array: {line}")))
            .collect()
    }

    /// Asks a question whose answer is one number.
    pub async fn number(&self, database: &str, sql: &str) -> anyhow::Result<i64> {
        let rows = self.query(database, sql).await?;
        rows.first()
            .and_then(|row| row.first())
            .and_then(Value::as_i64)
            .with_context(|| format!("no number in {rows:?}"))
    }
}

fn import_path(database: &str, table: &str, id: Option<&str>) -> String {
    match id {
        Some(id) => format!("/v3/table/import_with_id/{database}/{table}/{id}/msgpack.gz"),
        None => format!("/v3/table/import/{database}/{table}/msgpack.gz"),
    }
}
