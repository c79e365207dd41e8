//! What becomes of a body that was not read to its end before the answer.
//!
//! A server that stops reading has to break the connection (HTTP/1.1) or the stream (HTTP/2), and many clients lose the answer with it:
//! they are still writing, or they use the connection again. So what is left is read and thrown away, up to a bound.
//!
//! Promise: nothing of it is kept, and it costs no more than [`MOST`] bytes and [`LONGEST`] of somebody's network.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, HttpBody};
use bytes::Bytes;
use futures::{Stream, StreamExt};

/// How many bytes are thrown away before the connection is given up.
const MOST: usize = 32 << 20;
/// How long that may take.
const LONGEST: Duration = Duration::from_secs(10);

/// A body that is read to its end even when nobody wants it any more.
pub(crate) fn lingering(body: Body) -> Body {
    if body.is_end_stream() {
        return body;
    }
    Body::from_stream(Lingering {
        rest: Some(body.into_data_stream()),
    })
}

struct Lingering {
    /// None once it has ended or failed.
    rest: Option<BodyDataStream>,
}

impl Stream for Lingering {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
        let piece = ready!(rest.poll_next_unpin(context));
        if !matches!(piece, Some(Ok(_))) {
            self.rest = None;
        }
        Poll::Ready(piece)
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let Some(rest) = self.rest.take() else { return };
        // Without a runtime there is no connection either.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(LONGEST, throw_away(rest)));
        }
    }
}

async fn throw_away(mut rest: BodyDataStream) {
    let mut left = MOST;
    while let Some(Ok(piece)) = rest.next().await {
        match left.checked_sub(piece.len()) {
            Some(fewer) => left = fewer,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::sync::mpsc;

    use super::*;

    /// A body that is fed by hand.
    fn fed() -> (mpsc::Sender<Bytes>, Body) {
        let (feed, fed) = mpsc::channel(1);
        let pieces = futures::stream::unfold(fed, |mut fed| async move { fed.recv().await.map(|piece| (piece, fed)) });
        (feed, Body::from_stream(pieces.map(Ok::<_, std::io::Error>)))
    }

    #[tokio::test]
    async fn what_nobody_reads_is_taken_all_the_same_up_to_a_bound() {
        let (feed, body) = fed();
        drop(lingering(body));
        let piece = Bytes::from(vec![0; 1 << 20]);

        for _ in 0..MOST >> 20 {
            feed.send(piece.clone()).await.expect("it is still taken");
        }
        feed.send(piece.clone())
            .await
            .expect("the one that is too much is taken to see that it is");
        feed.closed().await;
    }

    #[tokio::test]
    async fn what_is_read_is_handed_on_as_it_is() {
        let (feed, body) = fed();
        tokio::spawn(async move {
            for piece in ["one ", "two"] {
                let _gone = feed.send(Bytes::from(piece)).await;
            }
        });
        let read = lingering(body).collect().await.unwrap().to_bytes();
        assert_eq!(read, "one two");
        assert!(lingering(Body::empty()).is_end_stream());
    }
}
