//! Messages with rows, charged for before they are read.
//!
//! Promise: of what callers send to be appended no more is taken off the wire than memory allows. A message says first how long it is:
//! what finds no room then is refused with "slow down", and none of it is read.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::{BodyStream, StreamBody};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;

use crate::memory::{Charge, Memory};
use crate::product::ProductError;

/// The method whose messages hold rows.
const APPEND: &str = "/coffer.v1.Warehouse/Append";
/// What stands before each message: whether it is compressed, and four bytes of how long it is.
const HEAD: usize = 5;

/// What was charged for a message, for whoever handles it: in the extensions of its request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arrived(Arc<Mutex<Option<Charge>>>);

impl Arrived {
    /// The charge, to be kept as long as the message is.
    pub(crate) fn take(&self) -> Option<Charge> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, charge: Charge) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(charge);
    }
}

/// The service within, whose messages are charged for.
#[derive(Debug, Clone)]
pub(crate) struct Arriving<S> {
    inner: S,
    memory: Arc<Memory>,
}

impl<S> Arriving<S> {
    pub(crate) fn new(inner: S, memory: Arc<Memory>) -> Self {
        Self { inner, memory }
    }
}

impl<S: NamedService> NamedService for Arriving<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Arriving<S>
where
    S: Service<http::Request<Body>, Error = Infallible>,
{
    type Response = S::Response;
    type Error = Infallible;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> S::Future {
        if request.uri().path() != APPEND {
            return self.inner.call(request);
        }
        let (mut parts, body) = request.into_parts();
        let arrived = Arrived::default();
        parts.extensions.insert(arrived.clone());
        self.inner
            .call(http::Request::from_parts(parts, charged(body, arrived, Arc::clone(&self.memory))))
    }
}

/// The body, which ends with a refusal where its message would be more than memory allows.
fn charged(body: Body, arrived: Arrived, memory: Arc<Memory>) -> Body {
    let mut head = Vec::with_capacity(HEAD);
    let frames = BodyStream::new(body).map(move |frame| {
        let frame = frame?;
        if head.len() < HEAD
            && let Some(bytes) = frame.data_ref()
            && let Some(length) = length_of(&mut head, bytes)
        {
            let charge = memory.charge(length).ok_or_else(|| refused(length, memory.limit()))?;
            arrived.put(charge);
        }
        Ok::<_, Status>(frame)
    });
    Body::new(StreamBody::new(frames))
}

/// How long the message is, once enough of its head has come.
fn length_of(head: &mut Vec<u8>, bytes: &Bytes) -> Option<usize> {
    head.extend(bytes.iter().take(HEAD - head.len()));
    let length: [u8; 4] = head.get(1..HEAD)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(length)).ok()
}

fn refused(bytes: usize, limit: usize) -> Status {
    let said = if bytes > limit {
        ProductError::BatchTooLarge { bytes, limit }
    } else {
        ProductError::MemoryFull
    };
    edge::status(said.kind(), said.to_string())
}

#[cfg(test)]
mod tests {
    use base::ErrorKind;
    use http_body_util::{BodyExt as _, Full};

    use super::*;

    fn body(frames: &[&[u8]]) -> Body {
        let frames: Vec<Bytes> = frames.iter().map(|frame| Bytes::copy_from_slice(frame)).collect();
        let all = futures::stream::iter(frames).flat_map(|frame| BodyStream::new(Full::new(frame)));
        Body::new(StreamBody::new(all))
    }

    #[tokio::test]
    async fn a_message_is_charged_for_by_what_it_says_before_it_is_read() {
        let memory = Memory::new(100);
        let arrived = Arrived::default();
        // Its head comes in two pieces.
        let message = charged(body(&[&[0, 0, 0], &[0, 60, 1, 2], &[3; 58]]), arrived.clone(), Arc::clone(&memory));
        assert_eq!(message.collect().await.unwrap().to_bytes().len(), 65);
        let charge = arrived.take().unwrap();
        assert_eq!((charge.bytes(), memory.used()), (60, 60));

        let refused = charged(body(&[&[0, 0, 0, 0, 41], &[3; 41]]), Arrived::default(), Arc::clone(&memory));
        let status = refused.collect().await.unwrap_err();
        assert_eq!(edge::kind_of(&status), ErrorKind::TooMuch);
        assert_eq!(memory.used(), 60);
        let refused = charged(body(&[&[0, 0, 0, 0, 101], &[3; 101]]), Arrived::default(), Arc::clone(&memory));
        assert_eq!(edge::kind_of(&refused.collect().await.unwrap_err()), ErrorKind::TooLarge);
        drop(charge);
        assert_eq!(memory.used(), 0);
    }
}
