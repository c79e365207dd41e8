//! One HTTP/1.1 connection over TLS.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::access::Endpoint;
use crate::failure::{Exit, Failure, Outcome};

const PATIENCE: Duration = Duration::from_secs(10);

/// An open connection.
pub(super) struct Connection(SendRequest<Full<Bytes>>);

impl Connection {
    /// Connects and shakes hands.
    pub(super) async fn open(what: &str, to: &Endpoint, tls: &Arc<ClientConfig>) -> Outcome<Self> {
        let failed = |why: String, next: &str| Failure::new(Exit::Temporary, what).why(why).next(next).again_after(Duration::ZERO);
        let connected = tokio::time::timeout(PATIENCE, TcpStream::connect((to.host.as_str(), to.port))).await;
        let stream = match connected {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                return Err(failed(
                    format!("{to} could not be reached: {error}"),
                    "start it with `coffer serve`, or check --endpoint",
                ));
            }
            Err(_) => return Err(failed(format!("{to} did not answer"), "check --endpoint")),
        };
        let _ = stream.set_nodelay(true);
        let shaken = tokio::time::timeout(PATIENCE, TlsConnector::from(Arc::clone(tls)).connect(to.name.clone(), stream)).await;
        let stream = match shaken {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) if error.get_ref().is_some_and(|e| e.is::<rustls::Error>()) => {
                return Err(Failure::new(Exit::Unverified, what)
                    .why(format!("{to} did not show a certificate that can be trusted: {error}"))
                    .next("give the CA's certificate with --ca or COFFER_CA (`ca.pem` in the data directory)"));
            }
            Ok(Err(error)) => return Err(failed(format!("no TLS with {to}: {error}"), "check --endpoint")),
            Err(_) => return Err(failed(format!("{to} did not answer"), "check --endpoint")),
        };
        let (send, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failed(error.to_string(), "try again"))?;
        // Ends with the last sender; what went wrong is told to whoever waits for an answer.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self(send))
    }

    /// Whether it can take another request.
    pub(super) fn is_usable(&self) -> bool {
        !self.0.is_closed()
    }

    /// Sends a request once the connection is free.
    pub(super) async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, hyper::Error> {
        self.0.ready().await?;
        self.0.send_request(request).await
    }
}
