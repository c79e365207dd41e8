//! The listeners that the world reaches: TLS for everything, and a plain port that only points to it.
//!
//! Promise: nothing that carries a key is answered over plain HTTP, and no caller can hold a connection without saying what it wants.
//!
//! Start at [`serve`]. Does not know routes; the application is handed in.

mod plain;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::ConnectInfo;
use http::Request;
use hyper::body::Incoming;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

pub use plain::serve_plain_redirect;

use crate::connections::{self, Caps, PATIENCE};
use crate::server::agreed_protocol;
use crate::tls::{CurrentCertificate, provider};
use crate::{TlsError, TlsKey};

const CAPS: Caps = Caps {
    connections: 8192,
    per_address: 2048,
};

/// The certificate that the world sees; may be replaced while connections are served.
#[derive(Clone)]
pub struct PublicCertificate(Arc<CurrentCertificate>);

impl PublicCertificate {
    /// Of a chain (leaf first) and its key.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, TlsError> {
        Ok(Self(Arc::new(CurrentCertificate::new(CertifiedKey::from_der(
            chain,
            key,
            &provider(),
        )?))))
    }

    /// Of a chain that the vault made for `key`.
    pub fn of_key(chain: Vec<CertificateDer<'static>>, key: &TlsKey) -> Result<Self, TlsError> {
        Self::new(chain, key.to_rustls())
    }

    /// Shows another one from the next connection on.
    pub fn replace(&self, chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<(), TlsError> {
        self.0.set(CertifiedKey::from_der(chain, key, &provider())?);
        Ok(())
    }

    /// TLS 1.2 and 1.3 with modern suites, post-quantum key exchange preferred, HTTP/2 and HTTP/1.1.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(self.0.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

impl fmt::Debug for PublicCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicCertificate")
    }
}

/// [`PublicCertificate::server_config`] of a certificate that is not replaced.
pub fn server_config(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Arc<ServerConfig>, TlsError> {
    PublicCertificate::new(chain, key)?.server_config()
}

/// Serves `app` over TLS until `cancel`, then lets requests in flight finish. Each request knows its `ConnectInfo<SocketAddr>`.
///
/// Bounds connections, handshakes and headers. The application bounds bodies.
pub async fn serve(listener: TcpListener, tls: Arc<ServerConfig>, app: axum::Router, cancel: CancellationToken) -> io::Result<()> {
    let listener = connections::listen(&listener)?;
    let acceptor = TlsAcceptor::from(tls);
    let app = app.with_state::<()>(());
    let closing = cancel.clone();
    connections::accept(listener, CAPS, &cancel, move |stream: TcpStream, from| {
        serve_one(acceptor.clone(), stream, from, app.clone(), closing.clone())
    })
    .await;
    Ok(())
}

async fn serve_one(acceptor: TlsAcceptor, stream: TcpStream, from: Option<SocketAddr>, app: axum::Router, cancel: CancellationToken) {
    let accepting = cancel.run_until_cancelled(timeout(PATIENCE, acceptor.accept(stream)));
    let Some(Ok(Ok(tls))) = accepting.await else {
        return tracing::debug!(?from, "a TLS handshake did not succeed");
    };
    let protocol = agreed_protocol(&tls);
    let answer = move |request: Request<Incoming>| {
        let app = app.clone();
        async move {
            let mut request = request.map(Body::new);
            if let Some(from) = from {
                request.extensions_mut().insert(ConnectInfo(from));
            }
            match app.oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        }
    };
    connections::drive(tls, protocol, answer, async move { cancel.cancelled().await }).await;
}
