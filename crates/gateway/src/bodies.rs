//! Reading a request's body: so much, so long, and no more of them at once than memory allows.
//!
//! Promise: a body that says it is too large is refused before a byte of it is read, one that does not say so is cut off at
//! the cap, one that stands still is given up, and what all bodies together take has a bound.
//!
//! Start at [`read`]. Does not know what a body holds.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use base::ErrorKind;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::errors::ApiError;

/// How much memory a body takes at a time as it comes.
const STEP: usize = 1 << 20;

/// The bounds of one body.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    /// Bytes.
    pub(crate) max: usize,
    /// What to do when it is larger.
    pub(crate) advice: &'static str,
    /// Without any byte.
    pub(crate) idle: Duration,
    /// In all.
    pub(crate) total: Duration,
}

/// Memory for bodies, shared by all requests.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    kilobytes: Arc<Semaphore>,
}

/// A part of a [`Budget`], given back when dropped.
#[derive(Debug, Default)]
pub(crate) struct Share(Vec<OwnedSemaphorePermit>);

impl Budget {
    /// So many bytes in all.
    pub(crate) fn of(bytes: usize) -> Self {
        Self {
            kilobytes: Arc::new(Semaphore::new((bytes >> 10).clamp(1, Semaphore::MAX_PERMITS))),
        }
    }

    /// Waits for `bytes` of it, in turn.
    pub(crate) async fn wait(&self, bytes: usize, patience: Duration) -> Result<Share, ApiError> {
        let waiting = Arc::clone(&self.kilobytes).acquire_many_owned(kilobytes(bytes));
        match tokio::time::timeout(patience, waiting).await {
            Ok(Ok(permit)) => Ok(Share(vec![permit])),
            _ => Err(busy()),
        }
    }

    /// Takes `bytes` of it now, or says that it is used up.
    fn take(&self, bytes: usize, share: &mut Share) -> Result<(), ApiError> {
        let permit = Arc::clone(&self.kilobytes)
            .try_acquire_many_owned(kilobytes(bytes))
            .map_err(|_| busy())?;
        match share.0.first_mut() {
            Some(held) => held.merge(permit),
            None => share.0.push(permit),
        }
        Ok(())
    }
}

impl Share {
    /// How much it is.
    pub(crate) fn bytes(&self) -> usize {
        self.0.iter().map(|permit| permit.num_permits() << 10).sum()
    }

    /// Gives back what is beyond `bytes`.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let mut kept = kilobytes(bytes) as usize;
        for permit in &mut self.0 {
            let beyond = permit.num_permits().saturating_sub(kept);
            kept -= permit.num_permits() - beyond;
            drop(permit.split(beyond));
        }
    }
}

fn kilobytes(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024).max(1)).unwrap_or(u32::MAX)
}

/// The answer to an import that there is no room for now.
pub(crate) fn busy() -> ApiError {
    ApiError::new(
        ErrorKind::TooMuch,
        "too many imports at once, nothing of this one was stored, send it again in a moment",
    )
}

/// Reads all of `body`.
pub(crate) async fn read(headers: &HeaderMap, body: Body, bounds: &Bounds, budget: Option<&Budget>) -> Result<(Bytes, Share), ApiError> {
    let too_large = || {
        ApiError::new(
            ErrorKind::TooLarge,
            format!("the body is larger than {} bytes; {}", bounds.max, bounds.advice),
        )
    };
    let announced = announced(headers)?;
    if announced.is_some_and(|length| length > bounds.max as u64) {
        return Err(too_large());
    }
    let announced = usize::try_from(announced.unwrap_or(0)).unwrap_or(bounds.max);
    if let Some(budget) = budget {
        // What has no room now is refused before it is sent. Nothing is kept for what is only announced: it may never come.
        budget.take(announced, &mut Share::default())?;
    }
    let mut share = Share::default();
    let mut reserved = 0;
    let deadline = Instant::now() + bounds.total;
    let too_slow = || ApiError::with_status(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time, send it again");
    let mut body = body;
    let mut first: Option<Bytes> = None;
    let mut whole = BytesMut::new();
    loop {
        let frame = timeout_at(deadline.min(Instant::now() + bounds.idle), body.frame())
            .await
            .map_err(|_| too_slow())?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|_| ApiError::invalid("the body ended before it was complete"))?;
        let Ok(data) = frame.into_data() else { continue };
        let so_far = first.as_ref().map_or(0, Bytes::len) + whole.len() + data.len();
        if so_far > bounds.max {
            return Err(too_large());
        }
        if so_far > reserved {
            // A megabyte at a time, and of what was announced no more than that.
            let most = if so_far <= announced { announced } else { bounds.max };
            let more = (so_far - reserved).max(STEP).min(most - reserved);
            if let Some(budget) = budget {
                budget.take(more, &mut share)?;
            }
            reserved += more;
        }
        match first.take() {
            None if whole.is_empty() => first = Some(data),
            None => whole.extend_from_slice(&data),
            Some(earlier) => {
                // Room that is not written to takes no memory.
                whole.reserve(announced.max(so_far));
                whole.extend_from_slice(&earlier);
                whole.extend_from_slice(&data);
            }
        }
    }
    Ok((first.unwrap_or_else(|| whole.freeze()), share))
}

/// What the sender says about the length. The transport has checked that it is told once and truly.
fn announced(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let Some(length) = headers.get(header::CONTENT_LENGTH) else {
        return Ok(None);
    };
    let length = length.to_str().ok().and_then(|text| text.parse().ok());
    length
        .map(Some)
        .ok_or_else(|| ApiError::invalid("the content length is not a number"))
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    fn bounds(max: usize) -> Bounds {
        Bounds {
            max,
            advice: "send less",
            idle: Duration::from_millis(50),
            total: Duration::from_secs(5),
        }
    }

    fn chunks(pieces: &[&'static str]) -> Body {
        let pieces: Vec<Result<Bytes, std::io::Error>> = pieces.iter().map(|piece| Ok(Bytes::from(*piece))).collect();
        Body::from_stream(stream::iter(pieces))
    }

    async fn outcome(headers: &HeaderMap, body: Body, max: usize, budget: Option<&Budget>) -> Result<Bytes, u16> {
        read(headers, body, &bounds(max), budget)
            .await
            .map(|(bytes, _)| bytes)
            .map_err(|error| error.status().as_u16())
    }

    fn announcing(length: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_LENGTH, length.parse().unwrap())])
    }

    #[tokio::test]
    async fn pieces_become_one_body() {
        for pieces in [&[][..], &["abc"], &["", "a", "", "bc"], &["a", "b", "c"]] {
            let expected: String = pieces.concat();
            assert_eq!(
                outcome(&HeaderMap::new(), chunks(pieces), 3, None).await.as_deref(),
                Ok(expected.as_bytes())
            );
        }
    }

    #[tokio::test]
    async fn an_announced_size_is_judged_before_reading() {
        let never = || Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        assert_eq!(outcome(&announcing("4"), never(), 3, None).await, Err(413));
        assert_eq!(outcome(&announcing("99999999999999999999"), never(), 3, None).await, Err(400));
        assert_eq!(outcome(&HeaderMap::new(), chunks(&["ab", "cd"]), 3, None).await, Err(413));
    }

    #[tokio::test]
    async fn a_body_that_stands_still_is_given_up() {
        let stuck = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        assert_eq!(outcome(&announcing("3"), stuck, 3, None).await, Err(408));
    }

    #[tokio::test]
    async fn what_is_only_announced_keeps_nobody_out() {
        let budget = Budget::of(8 << 20);
        let patient = Bounds {
            idle: Duration::from_secs(60),
            ..bounds(4 << 20)
        };
        let trickling = || {
            let first = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"x"))]);
            Body::from_stream(futures::StreamExt::chain(first, stream::pending()))
        };
        let announced = announcing("4194304");
        let mut slow: Vec<_> = (0..3)
            .map(|_| Box::pin(read(&announced, trickling(), &patient, Some(&budget))))
            .collect();
        for body in &mut slow {
            assert!(futures::poll!(body).is_pending());
        }
        assert!(outcome(&HeaderMap::new(), chunks(&["abc"]), 3, Some(&budget)).await.is_ok());
        assert_eq!(
            outcome(&announcing("8388608"), Body::empty(), 8 << 20, Some(&budget)).await,
            Err(429),
            "there is no room for all of that now"
        );
    }

    #[tokio::test]
    async fn what_a_share_is_too_large_goes_back() {
        let budget = Budget::of(8 << 20);
        let mut share = budget.wait(6 << 20, Duration::ZERO).await.unwrap();
        assert!(budget.wait(4 << 20, Duration::ZERO).await.is_err());
        share.shrink(7 << 20);
        assert_eq!(share.bytes(), 6 << 20, "it does not grow");
        share.shrink((1 << 20) - 5);
        assert_eq!(share.bytes(), 1 << 20);
        let other = budget.wait(7 << 20, Duration::ZERO).await.unwrap();
        assert!(budget.wait(1, Duration::ZERO).await.is_err());
        drop(share);
        assert!(budget.wait(1 << 20, Duration::ZERO).await.is_ok());
        drop(other);
    }

    #[tokio::test]
    async fn bodies_share_memory_and_give_it_back() {
        let budget = Budget::of(2 << 20);
        let large = "x".repeat(1 << 20);
        let held = read(&announcing("1048576"), Body::from(large.clone()), &bounds(2 << 20), Some(&budget))
            .await
            .unwrap();

        assert_eq!(
            outcome(&announcing("2097152"), Body::empty(), 2 << 20, Some(&budget)).await,
            Err(429)
        );
        assert!(
            outcome(&HeaderMap::new(), Body::from(format!("{large}x")), 2 << 20, Some(&budget))
                .await
                .is_err(),
            "there is one megabyte"
        );
        drop(held);
        assert!(outcome(&HeaderMap::new(), Body::from(large), 1 << 20, Some(&budget)).await.is_ok());
    }
}
