//! The other roles: where they are, and connections to them that are made when first needed and made again when lost.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::Role;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};

use crate::RoleTls;

const CONNECT: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Channels to other roles over mutual TLS.
pub struct Peers {
    tls: Arc<RoleTls>,
    addresses: BTreeMap<Role, SocketAddr>,
    channels: Mutex<BTreeMap<Role, Channel>>,
}

impl Peers {
    /// Knows where each role is. Connects to none of them yet.
    pub fn new(tls: Arc<RoleTls>, addresses: impl IntoIterator<Item = (Role, SocketAddr)>) -> Self {
        Self {
            tls,
            addresses: addresses.into_iter().collect(),
            channels: Mutex::default(),
        }
    }

    /// The channel to `role`. Calls on it are `Unavailable` while the role cannot be reached.
    ///
    /// To be called inside the async runtime.
    pub fn channel(&self, role: Role) -> Channel {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let address = self.addresses.get(&role).copied();
        channels
            .entry(role)
            .or_insert_with(|| channel(role, address, self.tls.client_config()))
            .clone()
    }

    /// Where `role` is.
    pub fn address(&self, role: Role) -> Option<SocketAddr> {
        self.addresses.get(&role).copied()
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// A lazily connecting channel to `role`, which must show that role's certificate.
pub(crate) fn channel(role: Role, address: Option<SocketAddr>, config: Arc<ClientConfig>) -> Channel {
    endpoint(&role.server_name()).connect_with_connector_lazy(tower::service_fn(move |_| {
        let config = Arc::clone(&config);
        async move {
            let address = address.ok_or_else(|| io::Error::other(format!("no address is known for the {role} role")))?;
            connect(role, address, config).await.map(TokioIo::new)
        }
    }))
}

/// How every channel of ours behaves, whatever carries it.
pub(crate) fn endpoint(host: &str) -> Endpoint {
    // TLS is the connector's business, so the scheme that tonic sees is the plain one.
    Endpoint::from_shared(format!("http://{host}"))
        .expect("a role's name is a host name")
        .connect_timeout(CONNECT)
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
}

async fn connect(role: Role, address: SocketAddr, config: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(role.server_name()).map_err(io::Error::other)?;
    TlsConnector::from(config).connect(name, stream).await
}
