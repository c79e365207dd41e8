//! Accepting and driving connections: caps, deadlines, and an end in which requests may finish. Under every listener of ours.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use futures::FutureExt;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::patience::{Answer, Impatient, Times, Turn};

/// How long a caller may take to say what it wants: TLS, the first bytes, each request's header from its first byte on.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How long requests in flight may take to finish when the process ends.
pub(crate) const GRACE: Duration = Duration::from_secs(30);
/// The largest request header, all fields together.
pub(crate) const MAX_HEADER: usize = 64 * 1024;

/// How many connections one listener serves at once. More wait unaccepted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caps {
    pub(crate) connections: usize,
    /// From one address; more are closed at once.
    pub(crate) per_address: usize,
}

/// What connections come from.
pub(crate) trait Accept: Send + Sync {
    type Stream: Send + 'static;
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Option<SocketAddr>)>> + Send;
}

impl Accept for TcpListener {
    type Stream = TcpStream;
    async fn accept(&self) -> io::Result<(TcpStream, Option<SocketAddr>)> {
        let (stream, from) = Self::accept(self).await?;
        // Only a matter of speed.
        let _ = stream.set_nodelay(true);
        Ok((stream, Some(from)))
    }
}

impl Accept for UnixListener {
    type Stream = UnixStream;
    async fn accept(&self) -> io::Result<(UnixStream, Option<SocketAddr>)> {
        Self::accept(self).await.map(|(stream, _)| (stream, None))
    }
}

/// A listener that was bound before the runtime was there.
pub(crate) fn listen(listener: &std::net::TcpListener) -> io::Result<TcpListener> {
    let listener = listener.try_clone()?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Serves until `cancel`, then lets what is open finish for [`GRACE`], then ends it.
pub(crate) async fn accept<L, F, Fut>(listener: L, caps: Caps, cancel: &CancellationToken, serve: F)
where
    L: Accept,
    F: Fn(L::Stream, Option<SocketAddr>) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let (tracker, ended) = (TaskTracker::new(), CancellationToken::new());
    let places = Arc::new(Semaphore::new(caps.connections));
    let addresses = Addresses::default();
    let accepting = async {
        loop {
            // The semaphore is never closed.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let (stream, from) = match listener.accept().await {
                Ok(accepted) => accepted,
                // It was gone before we came to it.
                Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => continue,
                Err(error) => {
                    // Out of descriptors or memory: it passes, and does not end the listener.
                    tracing::debug!(%error, "could not accept a connection");
                    sleep(Duration::from_millis(20)).await;
                    continue;
                }
            };
            let Some(counted) = addresses.enter(from.map(|from| from.ip()), caps.per_address) else {
                tracing::debug!(?from, "closed a connection: too many from one address");
                continue;
            };
            let (serving, ended) = (serve(stream, from), ended.clone());
            tracker.spawn(async move {
                ended.run_until_cancelled(serving).await;
                drop((place, counted));
            });
        }
    };
    cancel.run_until_cancelled(accepting).await;
    drop(listener);
    tracker.close();
    if timeout(GRACE, tracker.wait()).await.is_err() {
        tracing::warn!(connections = tracker.len(), "ended connections that did not finish in time");
        ended.cancel();
        tracker.wait().await;
    }
}

#[derive(Clone, Default)]
struct Addresses(Arc<Mutex<HashMap<IpAddr, usize>>>);

struct Counted(Addresses, Option<IpAddr>);

impl Addresses {
    fn enter(&self, address: Option<IpAddr>, most: usize) -> Option<Counted> {
        if let Some(address) = address {
            let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let count = counts.entry(address).or_default();
            if *count >= most {
                return None;
            }
            *count += 1;
        }
        Some(Counted(self.clone(), address))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Some(address) = self.1 else { return };
        let mut counts = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&address);
            }
        }
    }
}

/// Which protocol a connection speaks: what was agreed in TLS, never guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// Answers the requests of one connection until it ends. Once `closing` is done it takes no more and finishes those at hand.
pub(crate) async fn drive<I, F, Fut>(io: I, protocol: Protocol, answer: F, closing: impl Future<Output = ()>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> Fut,
    Fut: Future<Output = Response<Body>> + Send + 'static,
{
    drive_within(io, protocol, answer, closing, Times::USUAL).await;
}

/// The same with other times.
pub(crate) async fn drive_within<I, F, Fut>(io: I, protocol: Protocol, answer: F, closing: impl Future<Output = ()>, times: Times)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> Fut,
    Fut: Future<Output = Response<Body>> + Send + 'static,
{
    let turn = match protocol {
        Protocol::Http1 => Turn::first(),
        Protocol::Http2 => Turn::not_watched(),
    };
    let service = hyper::service::service_fn(|request| {
        turn.answer();
        let turn = turn.clone();
        let answering = AssertUnwindSafe(answer(request)).catch_unwind();
        async {
            let answer = answering.await.unwrap_or_else(|_| panicked());
            Ok::<_, Infallible>(answer.map(|body| Answer::new(body, turn)))
        }
    });
    let io = TokioIo::new(Impatient::new(io, turn.clone(), times.header));
    let result = match protocol {
        Protocol::Http1 => {
            until_closed(
                http1(times.resting).serve_connection(io, service),
                http1::Connection::graceful_shutdown,
                closing,
            )
            .await
        }
        Protocol::Http2 => until_closed(http2().serve_connection(io, service), http2::Connection::graceful_shutdown, closing).await,
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection broke");
    }
}

async fn until_closed<C>(connection: C, finish: fn(Pin<&mut C>), closing: impl Future<Output = ()>) -> hyper::Result<()>
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut connection = pin!(connection);
    tokio::select! {
        result = connection.as_mut() => result,
        () = closing => {
            finish(connection.as_mut());
            // A stream without end (revocations) would hold the connection for ever.
            timeout(GRACE, connection).await.unwrap_or(Ok(()))
        }
    }
}

fn http1(resting: Duration) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // From the end of one request to the end of the next one's header; what has begun is hurried by `Impatient`.
        .header_read_timeout(resting)
        .max_header_size(MAX_HEADER);
    builder
}

fn http2() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEADER as u32)
        .max_concurrent_streams(256)
        .initial_stream_window_size(2 << 20)
        .initial_connection_window_size(8 << 20)
        .keep_alive_interval(PATIENCE)
        .keep_alive_timeout(PATIENCE);
    builder
}

fn panicked() -> Response<Body> {
    tracing::error!("a handler panicked, this is a mistake of ours");
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}
