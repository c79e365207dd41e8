//! The few requests that a zone makes of a store, signed.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base::Clock;
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::Full;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use seal::sha256;

use super::address::Address;
use super::credentials::Credentials;
use super::hosts::Hosts;
use super::sign;
use super::transport::{Answer, Transport, Trouble, WORDS};

/// What stands in a query as it is.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// From here on a digest is worth a thread of its own.
const MUCH: usize = 256 << 10;
/// No agent is named, no language, nothing of this machine.
const AGENT: &str = "coffer";

/// One request.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    /// What is asked for in the zone; nothing for the bucket itself.
    pub(super) name: Option<&'a str>,
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) body: Bytes,
    /// How many bytes a good answer may have.
    pub(super) most: u64,
    pub(super) within: Duration,
}

impl<'a> Ask<'a> {
    pub(super) fn new(method: Method, name: Option<&'a str>, within: Duration) -> Self {
        Self {
            method,
            name,
            query: &[],
            headers: &[],
            body: Bytes::new(),
            most: WORDS,
            within,
        }
    }
}

/// Signs and sends.
pub(super) struct Client {
    address: Address,
    region: String,
    credentials: Credentials,
    transport: Transport,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    /// Reads the credentials and whom to trust; says what is wrong with them. Blocks for a moment.
    pub(super) fn new(
        address: &Address,
        region: &str,
        credentials: &Path,
        ca: Option<&Path>,
        hosts: Hosts,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, String> {
        Ok(Self {
            address: address.clone(),
            region: region.to_owned(),
            credentials: Credentials::read(credentials)?,
            transport: Transport::new(address, hosts, ca)?,
            clock,
        })
    }

    pub(super) async fn send(&self, ask: Ask<'_>) -> Result<Answer, Trouble> {
        let mut path = self.address.bucket_path();
        if let Some(name) = ask.name {
            // Of characters that stand for themselves, as are all that a prefix or an object's name has.
            path = format!("{path}/{}", self.address.key(name));
        }
        let encoded = |text: &str| utf8_percent_encode(text, QUERY).to_string();
        let mut query: Vec<String> = ask
            .query
            .iter()
            .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
            .collect();
        query.sort();
        let query = query.join("&");
        let digest = digest(&ask.body).await;
        let now = self.clock.now();
        let mut headers = vec![
            ("host".to_owned(), self.address.authority()),
            ("x-amz-content-sha256".to_owned(), digest.clone()),
            ("x-amz-date".to_owned(), sign::date(now)),
        ];
        headers.extend(ask.headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let signed = sign::Request {
            method: ask.method.as_str(),
            path: &path,
            query: &query,
            headers: &headers,
            digest: &digest,
        };
        let authorization = sign::authorization(&signed, &self.region, &self.credentials, now);
        let target = if query.is_empty() { path } else { format!("{path}?{query}") };
        let mut request = Request::builder().method(ask.method).uri(target).header(header::USER_AGENT, AGENT);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let mut authorization = http::HeaderValue::try_from(authorization).map_err(|_| unsendable())?;
        authorization.set_sensitive(true);
        let request = request
            .header(header::AUTHORIZATION, authorization)
            .body(Full::new(ask.body))
            .map_err(|_| unsendable())?;
        self.transport.exchange(request, ask.most, ask.within).await
    }
}

fn unsendable() -> Trouble {
    Trouble::NotSent("its address or its credentials cannot be put into a request".into())
}

async fn digest(body: &Bytes) -> String {
    if body.len() < MUCH {
        return hex::encode(sha256(body));
    }
    let bytes = body.clone();
    match tokio::task::spawn_blocking(move || sha256(&bytes)).await {
        Ok(digest) => hex::encode(digest),
        Err(_) => hex::encode(sha256(body)),
    }
}
