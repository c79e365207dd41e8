//! How long a connection may keep its place without saying anything.
//!
//! Promise: a caller has [`PATIENCE`] for the first bytes, and again from the first byte of a request to the end of its header; between two
//! requests a connection may rest, for [`RESTING`]. Bodies are bounded by whoever reads them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use crate::connections::PATIENCE;

/// How long a connection may stay open with nothing under way: longer than clients and proxies keep one to use it again, so that they
/// close it, and not we at the moment when they use it.
const RESTING: Duration = Duration::from_secs(75);

/// How long is waited for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// For the first bytes, and for a whole header from its first byte on.
    pub(crate) header: Duration,
    /// For the next request.
    pub(crate) resting: Duration,
}

impl Times {
    /// The usual ones.
    pub(crate) const USUAL: Self = Self {
        header: PATIENCE,
        resting: RESTING,
    };
}

/// Whose turn it is on a connection that carries one request at a time.
#[derive(Debug, Clone)]
pub(crate) struct Turn(Option<Arc<AtomicU8>>);

const RESTS: u8 = 0;
/// A request has begun and its header is not complete.
const BEGUN: u8 = 1;
/// A request is being answered.
const ANSWERED: u8 = 2;

impl Turn {
    /// Of a connection on which nothing was said yet.
    pub(crate) fn first() -> Self {
        Self(Some(Arc::new(AtomicU8::new(RESTS))))
    }

    /// Of a connection whose protocol has means of its own.
    pub(crate) const fn not_watched() -> Self {
        Self(None)
    }

    /// The header is complete.
    pub(crate) fn answer(&self) {
        self.set(ANSWERED);
    }

    fn set(&self, to: u8) {
        if let Some(turn) = &self.0 {
            turn.store(to, Ordering::SeqCst);
        }
    }

    /// Bytes have come; whether a request begins with them.
    fn begins(&self) -> bool {
        let begins = |turn: &Arc<AtomicU8>| turn.compare_exchange(RESTS, BEGUN, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        self.0.as_ref().is_some_and(begins)
    }

    fn has_begun(&self) -> bool {
        self.0.as_ref().is_some_and(|turn| turn.load(Ordering::SeqCst) == BEGUN)
    }
}

/// An answer's body. When it has gone, the connection rests.
pub(crate) struct Answer {
    body: Body,
    turn: Turn,
}

impl Answer {
    pub(crate) fn new(body: Body, turn: Turn) -> Self {
        Self { body, turn }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.turn.set(RESTS);
    }
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Breaks a connection on which what has begun does not go on.
pub(crate) struct Impatient<I> {
    io: I,
    missing: usize,
    turn: Turn,
    patience: Duration,
    deadline: Pin<Box<Sleep>>,
}

impl<I> Impatient<I> {
    pub(crate) fn new(io: I, turn: Turn, patience: Duration) -> Self {
        const HTTP2_PREFACE: usize = 24;
        Self {
            io,
            missing: HTTP2_PREFACE,
            turn,
            patience,
            deadline: Box::pin(sleep(patience)),
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Impatient<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if let Poll::Ready(result) = Pin::new(&mut self.io).poll_read(cx, buffer) {
            let came = buffer.filled().len() - before;
            self.missing = self.missing.saturating_sub(came);
            if came > 0 && self.turn.begins() {
                let deadline = Instant::now() + self.patience;
                self.deadline.as_mut().reset(deadline);
            }
            return Poll::Ready(result);
        }
        if self.missing == 0 && !self.turn.has_begun() {
            return Poll::Pending;
        }
        ready!(self.deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Impatient<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use http::Response;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::time::timeout;

    use super::*;
    use crate::connections::{Protocol, drive_within};

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    const SOON: Duration = Duration::from_millis(300);
    const LONG: Duration = Duration::from_secs(20);

    /// A connection whose requests are all answered with "hello", after so long.
    fn served(after: Duration, resting: Duration) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(4096);
        let answer = move |_| async move {
            sleep(after).await;
            Response::new(Body::from("hello"))
        };
        let times = Times { header: SOON, resting };
        tokio::spawn(drive_within(theirs, Protocol::Http1, answer, pending(), times));
        ours
    }

    async fn is_answered(stream: &mut DuplexStream) -> bool {
        let mut answer = Vec::new();
        while !answer.ends_with(b"hello") {
            let mut bytes = [0; 512];
            match stream.read(&mut bytes).await {
                Ok(0) | Err(_) => return false,
                Ok(length) => answer.extend_from_slice(&bytes[..length]),
            }
        }
        true
    }

    /// Waits until the connection is closed; how long that took.
    async fn closed(stream: &mut DuplexStream) -> Duration {
        let (begun, mut rest) = (Instant::now(), Vec::new());
        let _ = timeout(LONG / 2, stream.read_to_end(&mut rest)).await.expect("it stays open");
        begun.elapsed()
    }

    #[tokio::test]
    async fn a_connection_rests_between_requests_longer_than_a_request_may_take_to_begin() {
        let mut stream = served(Duration::ZERO, LONG);
        for rest in [0, 1, 4] {
            sleep(SOON * rest).await;
            stream.write_all(REQUEST).await.unwrap();
            assert!(is_answered(&mut stream).await, "after {rest} times as long");
        }
        let mut stream = served(Duration::ZERO, SOON * 2);
        stream.write_all(REQUEST).await.unwrap();
        assert!(is_answered(&mut stream).await);
        assert!(closed(&mut stream).await >= SOON, "and not for ever");
    }

    #[tokio::test]
    async fn whoever_begins_a_request_has_to_complete_its_header_also_after_a_rest() {
        assert!(closed(&mut served(Duration::ZERO, LONG)).await >= SOON / 2);
        let mut stream = served(Duration::ZERO, LONG);
        stream.write_all(REQUEST).await.unwrap();
        assert!(is_answered(&mut stream).await);
        sleep(SOON * 2).await;
        // A byte now and then is no progress.
        let begun = Instant::now();
        for byte in REQUEST.chunks(1) {
            if stream.write_all(byte).await.is_err() {
                break;
            }
            sleep(SOON / 5).await;
        }
        closed(&mut stream).await;
        assert!(begun.elapsed() >= SOON / 2);
    }

    #[tokio::test]
    async fn an_answer_may_take_its_time() {
        let mut stream = served(SOON * 3, LONG);
        for _ in 0..2 {
            stream.write_all(REQUEST).await.unwrap();
            assert!(is_answered(&mut stream).await);
        }
    }
}
