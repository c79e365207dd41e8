//! Stored bytes on their way out, a piece at a time.

use std::collections::VecDeque;
use std::io::{self, BufRead, ErrorKind, Read};
use std::pin::Pin;
use std::time::Duration;

use axum::body::Body;
use bytes::{Buf, Bytes};
use flate2::bufread::MultiGzDecoder;
use futures::{Stream, StreamExt, stream};
use tonic::Status;
use wire::v1::Chunk;

/// How much is inflated at a time.
const PIECE: usize = 64 << 10;

type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// A stored result, opened.
pub(super) struct Stored {
    pieces: Pieces,
}

impl Stored {
    /// Waits for the first piece. `goes_on` is asked before each; a piece may take as long as `patience`.
    pub(super) async fn open<S, G>(pieces: S, goes_on: G, patience: Duration) -> Result<Self, Status>
    where
        S: Stream<Item = Result<Chunk, Status>> + Send + Unpin + 'static,
        G: Fn() -> bool + Send + 'static,
    {
        let mut pieces: Pieces = Box::pin(stream::unfold((pieces, goes_on), move |(mut pieces, goes_on)| async move {
            let piece = tokio::time::timeout(patience, pieces.next()).await;
            let piece = match piece {
                Ok(piece) => piece?.map(|chunk| chunk.bytes),
                Err(_) => Err(Status::unavailable("no piece of the result came in time")),
            };
            let piece = if goes_on() {
                piece
            } else {
                Err(Status::unauthenticated("the key was revoked meanwhile"))
            };
            Some((piece, (pieces, goes_on)))
        }));
        match pieces.next().await {
            None => Ok(Self {
                pieces: Box::pin(stream::empty()),
            }),
            Some(first) => {
                let first = first?;
                Ok(Self {
                    pieces: Box::pin(stream::iter([Ok(first)]).chain(pieces)),
                })
            }
        }
    }

    /// As stored, `length` bytes in all; fewer or more break the connection.
    pub(super) fn exactly(self, length: u64) -> Body {
        Body::from_stream(stream::try_unfold((self.pieces, length), |(mut pieces, left)| async move {
            match pieces.next().await.transpose().map_err(broken)? {
                Some(piece) if piece.len() as u64 <= left => {
                    let left = left - piece.len() as u64;
                    Ok(Some((piece, (pieces, left))))
                }
                None if left == 0 => Ok(None),
                _ => Err(io::Error::other("the result has another length than was said")),
            }
        }))
    }

    /// Inflated.
    pub(super) fn inflated(self) -> Body {
        Body::from_stream(stream::try_unfold(Inflating::of(self.pieces), |mut inflating| async move {
            Ok::<_, io::Error>(inflating.next().await?.map(|piece| (piece, inflating)))
        }))
    }

    /// Inflated, and each row turned into a line of JSON, after the line in `first`.
    pub(super) fn json_lines(self, first: Vec<u8>, max_row: usize) -> Body {
        let rows = Lines {
            inflating: Inflating::of(self.pieces),
            kept: Vec::new(),
            try_at: 0,
            max_row,
            ended: false,
        };
        let first = stream::iter((!first.is_empty()).then(|| Ok::<_, io::Error>(Bytes::from(first))));
        let lines = stream::try_unfold(rows, |mut rows| async move { Ok(rows.next().await?.map(|piece| (piece, rows))) });
        Body::from_stream(first.chain(lines))
    }
}

fn broken(status: Status) -> io::Error {
    io::Error::other(status.code().description())
}

/// What has arrived and was not read yet. Says `WouldBlock` when more is to come.
#[derive(Default)]
struct Arrived {
    pieces: VecDeque<Bytes>,
    ended: bool,
}

impl BufRead for Arrived {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.pieces.front().is_some_and(Bytes::is_empty) {
            self.pieces.pop_front();
        }
        match self.pieces.front() {
            Some(piece) => Ok(piece),
            None if self.ended => Ok(&[]),
            None => Err(ErrorKind::WouldBlock.into()),
        }
    }

    fn consume(&mut self, amount: usize) {
        if let Some(piece) = self.pieces.front_mut() {
            piece.advance(amount.min(piece.len()));
        }
    }
}

impl Read for Arrived {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(into)?;
        self.consume(count);
        Ok(count)
    }
}

struct Inflating {
    pieces: Pieces,
    decoder: MultiGzDecoder<Arrived>,
}

impl Inflating {
    fn of(pieces: Pieces) -> Self {
        Self {
            pieces,
            decoder: MultiGzDecoder::new(Arrived::default()),
        }
    }

    /// The next inflated piece.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let mut into = vec![0; PIECE];
        loop {
            match self.decoder.read(&mut into) {
                Ok(0) => return Ok(None),
                Ok(count) => {
                    into.truncate(count);
                    return Ok(Some(into.into()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => match self.pieces.next().await {
                    Some(piece) => self.decoder.get_mut().pieces.push_back(piece.map_err(broken)?),
                    None => self.decoder.get_mut().ended = true,
                },
                Err(error) => return Err(error),
            }
        }
    }
}

struct Lines {
    inflating: Inflating,
    /// Rows that are not complete yet.
    kept: Vec<u8>,
    /// When so much is there, it is worth looking for a complete row again.
    try_at: usize,
    max_row: usize,
    ended: bool,
}

impl Lines {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let mut lines = Vec::new();
        while lines.is_empty() {
            if self.ended {
                return if self.kept.is_empty() {
                    Ok(None)
                } else {
                    Err(ErrorKind::UnexpectedEof.into())
                };
            }
            match self.inflating.next().await? {
                Some(piece) => self.kept.extend_from_slice(&piece),
                None => self.ended = true,
            }
            if self.kept.len() < self.try_at && !self.ended {
                continue;
            }
            let taken = events::arrays_to_json_lines(&self.kept, &mut lines).map_err(io::Error::other)?;
            self.kept.drain(..taken);
            if self.kept.len() > self.max_row {
                return Err(io::Error::other("a row of the result is too long for JSON; ask for msgpack"));
            }
            // A long row is looked at again only when it has doubled, so that the work stays in proportion.
            self.try_at = self.kept.len() * 2;
        }
        Ok(Some(lines.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use http_body_util::BodyExt;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    async fn opened(stored: &[u8], size: usize) -> Stored {
        let pieces: Vec<_> = stored
            .chunks(size)
            .map(|piece| {
                Ok(Chunk {
                    bytes: Bytes::copy_from_slice(piece),
                })
            })
            .collect();
        Stored::open(stream::iter(pieces), || true, Duration::from_secs(1)).await.unwrap()
    }

    async fn all(body: Body) -> Result<Vec<u8>, axum::Error> {
        body.collect().await.map(|collected| collected.to_bytes().to_vec())
    }

    // [n, "row n"] for each n, as msgpack.
    fn rows(count: u8) -> Vec<u8> {
        (0..count)
            .flat_map(|n| [&[0x92, n % 100, 0xa4][..], b"row ".as_slice()].concat())
            .collect()
    }

    #[tokio::test]
    async fn every_form_says_the_same_however_it_is_cut() {
        let plain = rows(200);
        let stored = [gzip(&plain[..700]), gzip(&plain[700..])].concat();
        let lines: String = (0..200).map(|n| format!("[{},\"row \"]\n", n % 100)).collect();
        for size in [1, 7, 100, 10_000] {
            assert_eq!(all(opened(&stored, size).await.exactly(stored.len() as u64)).await.unwrap(), stored);
            assert_eq!(
                all(opened(&stored, size).await.inflated()).await.unwrap(),
                plain,
                "pieces of {size}"
            );
            let json = all(opened(&stored, size).await.json_lines(b"[\"n\"]\n".to_vec(), 1000))
                .await
                .unwrap();
            assert_eq!(String::from_utf8(json).unwrap(), format!("[\"n\"]\n{lines}"), "pieces of {size}");
        }
    }

    #[tokio::test]
    async fn a_large_result_is_inflated_in_small_pieces() {
        let stored = gzip(&vec![0; 8 << 20]);
        let mut inflating = Inflating::of(opened(&stored, 1000).await.pieces);
        let (mut total, mut largest) = (0, 0);
        while let Some(piece) = inflating.next().await.unwrap() {
            total += piece.len();
            largest = largest.max(piece.len());
        }
        assert_eq!((total, largest), (8 << 20, PIECE));
    }

    #[tokio::test]
    async fn what_is_cut_short_or_too_long_breaks_off() {
        let stored = gzip(&rows(100));
        let cut = &stored[..stored.len() - 9];
        assert!(all(opened(cut, 50).await.inflated()).await.is_err());
        assert!(all(opened(cut, 50).await.json_lines(Vec::new(), 1000)).await.is_err());
        assert!(all(opened(cut, 50).await.exactly(stored.len() as u64)).await.is_err());
        assert!(all(opened(&stored, 50).await.exactly(10)).await.is_err());
        let half_a_row = gzip(&[0x92, 1]);
        assert!(all(opened(&half_a_row, 50).await.json_lines(Vec::new(), 1000)).await.is_err());
    }

    #[tokio::test]
    async fn an_empty_result_is_empty() {
        let stored = gzip(b"");
        assert_eq!(all(opened(&stored, 3).await.inflated()).await.unwrap(), b"");
        assert_eq!(all(opened(&stored, 3).await.json_lines(Vec::new(), 10)).await.unwrap(), b"");
        assert_eq!(all(opened(b"", 3).await.exactly(0)).await.unwrap(), b"");
    }

    #[tokio::test]
    async fn a_refusal_comes_before_the_first_piece_and_a_revocation_between_pieces() {
        let gone = stream::iter([Err::<Chunk, _>(Status::not_found("gone"))]);
        assert!(Stored::open(gone, || true, Duration::from_secs(1)).await.is_err());

        let mut asked = 0;
        let asked = move || {
            asked += 1;
            asked < 3
        };
        let asked = std::sync::Mutex::new(asked);
        let pieces = stream::iter((0..5).map(|_| {
            Ok(Chunk {
                bytes: Bytes::from_static(b"x"),
            })
        }));
        let stored = Stored::open(pieces, move || (asked.lock().unwrap())(), Duration::from_secs(1))
            .await
            .unwrap();
        assert!(all(stored.exactly(5)).await.is_err());
    }
}
