//! Stored bytes on their way out, a piece at a time.

use std::collections::VecDeque;
use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::pin::Pin;
use std::time::Duration;

use axum::body::Body;
use bytes::{Buf, Bytes};
use events::Lines;
use flate2::bufread::MultiGzDecoder;
use flate2::{Compression, write::GzEncoder};
use futures::{Stream, StreamExt, stream};
use tonic::Status;
use wire::v1::Chunk;

/// How much is inflated at a time, and about how much is sent at a time.
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
    pub(super) fn inflated(self) -> Content {
        let inflating = Inflating::of(self.pieces);
        Content::of(stream::try_unfold(inflating, |mut inflating| async move {
            Ok(inflating.next().await?.map(|piece| (piece, inflating)))
        }))
    }

    /// Inflated, and each row turned into a line; before them the line of column names, if it is wanted. A row that is longer than `max_row`
    /// breaks the connection.
    pub(super) fn lines(self, lines: Lines, header: bool, max_row: usize) -> Content {
        let mut first = Vec::new();
        if header {
            lines.header(&mut first);
        }
        let rows = Rows {
            inflating: Inflating::of(self.pieces),
            lines,
            kept: Vec::new(),
            try_at: 0,
            max_row,
            ended: false,
        };
        let first = stream::iter((!first.is_empty()).then(|| Ok(Bytes::from(first))));
        let rest = stream::try_unfold(rows, |mut rows| async move { Ok(rows.next().await?.map(|piece| (piece, rows))) });
        Content::of(first.chain(rest))
    }
}

/// What was made of a stored result, a piece at a time.
pub(super) struct Content(Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>);

impl Content {
    fn of(pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Self {
        Self(Box::pin(pieces))
    }

    /// The same, compressed.
    pub(super) fn gzipped(self) -> Self {
        let gzip = GzEncoder::new(Vec::new(), Compression::fast());
        Self::of(stream::try_unfold(Some((self, gzip)), |state| async move {
            let Some((mut content, mut gzip)) = state else { return Ok(None) };
            while gzip.get_ref().len() < PIECE {
                match content.0.next().await {
                    Some(piece) => gzip.write_all(&piece?)?,
                    None => return Ok(Some((Bytes::from(gzip.finish()?), None))),
                }
            }
            let piece = std::mem::take(gzip.get_mut());
            Ok(Some((Bytes::from(piece), Some((content, gzip)))))
        }))
    }
}

impl From<Content> for Body {
    fn from(content: Content) -> Self {
        Self::from_stream(content.0)
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

struct Rows {
    inflating: Inflating,
    lines: Lines,
    /// Rows that are not written yet.
    kept: Vec<u8>,
    /// When so much is there, it is worth looking for a complete row again.
    try_at: usize,
    max_row: usize,
    ended: bool,
}

impl Rows {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let mut lines = Vec::new();
        loop {
            if self.kept.len() >= self.try_at || self.ended {
                // Few bytes can become long lines: the rest of what is kept has its turn with the next piece.
                let taken = self.lines.write(&self.kept, PIECE, &mut lines).map_err(io::Error::other)?;
                self.kept.drain(..taken);
                if !lines.is_empty() {
                    self.try_at = 0;
                    return Ok(Some(lines.into()));
                }
                if self.kept.len() > self.max_row {
                    return Err(io::Error::other("a row of the result is too long for text; ask for msgpack"));
                }
                // A long row is looked at again only when it has doubled, so that the work stays in proportion.
                self.try_at = self.kept.len() * 2;
            }
            match self.ended {
                true if self.kept.is_empty() => return Ok(None),
                true => return Err(ErrorKind::UnexpectedEof.into()),
                false => match self.inflating.next().await? {
                    Some(piece) => self.kept.extend_from_slice(&piece),
                    None => self.ended = true,
                },
            }
        }
    }
}

#[cfg(test)]
mod tests;
