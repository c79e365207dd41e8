//! Rows on their way to a disk: msgpack, gzip, sealed frames.

use std::io::{self, Write};

use arrow::record_batch::RecordBatch;
use events::MsgpackRows;
use flate2::{Compression, write::GzEncoder};
use seal::{DataKey, FrameSealer};

use super::ResultError;

/// So much msgpack is compressed at a time; a row that is longer, by itself.
pub(super) const CHUNK: usize = 256 << 10;

/// Rows on their way into a gzip of msgpack arrays that is sealed frame by frame.
pub(super) struct RowWriter<W: Write> {
    gzip: GzEncoder<Sealed<W>>,
    chunk: Vec<u8>,
    rows: u64,
    limit: u64,
}

/// What became of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) rows: u64,
    /// Length of the msgpack.gz.
    pub(super) bytes: u64,
}

impl<W: Write> RowWriter<W> {
    /// Onto `out`, under a key that seals nothing else; at most `limit` bytes after compression.
    pub(super) fn new(out: W, key: &DataKey, context: &[u8], limit: u64) -> Self {
        let sealed = Sealed {
            out,
            sealer: FrameSealer::new(key, context),
            ready: Vec::new(),
            length: 0,
        };
        Self {
            gzip: GzEncoder::new(sealed, Compression::fast()),
            chunk: Vec::new(),
            rows: 0,
            limit,
        }
    }

    /// Adds the rows of a batch.
    pub(super) fn add(&mut self, batch: &RecordBatch) -> Result<(), ResultError> {
        let rows = MsgpackRows::new(batch)?;
        for row in 0..batch.num_rows() {
            rows.array(row, &mut self.chunk);
            if self.chunk.len() >= CHUNK {
                self.compress()?;
            }
        }
        self.compress()?;
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// How many bytes it has written so far.
    pub(super) fn length(&self) -> u64 {
        self.gzip.get_ref().length
    }

    fn compress(&mut self) -> Result<(), ResultError> {
        self.gzip.write_all(&self.chunk)?;
        self.chunk.clear();
        // One long row shall not hold its memory for all that follow.
        self.chunk.shrink_to(2 * CHUNK);
        self.within_limit(self.gzip.get_ref().length)
    }

    fn within_limit(&self, length: u64) -> Result<(), ResultError> {
        if length > self.limit {
            Err(ResultError::TooLarge { limit: self.limit })
        } else {
            Ok(())
        }
    }

    /// The end of the gzip and the last frame. Gives back where all of it went.
    pub(super) fn finish(mut self) -> Result<(W, Written), ResultError> {
        self.gzip.try_finish()?;
        self.within_limit(self.gzip.get_ref().length)?;
        let rows = self.rows;
        let Sealed {
            mut out,
            sealer,
            mut ready,
            length,
        } = self.gzip.finish()?;
        sealer.finish(&mut ready);
        out.write_all(&ready)?;
        Ok((out, Written { rows, bytes: length }))
    }

    /// How much memory it holds, apart from what gzip remembers, which is the same for every result.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.chunk.capacity() + self.gzip.get_ref().ready.capacity() + seal::FRAME_LEN as usize
    }
}

/// Seals what is written to it.
struct Sealed<W> {
    out: W,
    sealer: FrameSealer,
    ready: Vec<u8>,
    length: u64,
}

impl<W: Write> Write for Sealed<W> {
    fn write(&mut self, plain: &[u8]) -> io::Result<usize> {
        self.sealer.push(plain, &mut self.ready);
        self.length += plain.len() as u64;
        self.out.write_all(&self.ready)?;
        self.ready.clear();
        Ok(plain.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // What is no whole frame yet is sealed when more follows, or at the end.
        self.out.flush()
    }
}
