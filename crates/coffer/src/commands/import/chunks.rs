//! A file cut into chunks of whole rows.
//!
//! Promise: every byte of the file is in exactly one chunk, no row is in two, and the same file is always cut at the same places.
//! In memory at once: one chunk, and what was read beyond its end (a block, or one long row).
//!
//! Start at [`Cutter::next_chunk`]. Does not know formats beyond where rows end.

use std::io::{self, Read};

use super::frames::{Damage, Found, Framing, MAX_ROW};

/// How large a chunk grows before it is cut. Part of what makes a chunk's id: other figures make other chunks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    pub(super) rows: usize,
    pub(super) bytes: usize,
    /// Bytes that each row takes beyond its own once it is sent: the names of its columns.
    pub(super) per_row: usize,
    /// Bytes of rows with those beyond their own.
    pub(super) weight: usize,
}

impl Cut {
    pub(super) const BYTES: usize = 8 << 20;
    pub(super) const WEIGHT: usize = 64 << 20;
}

/// A row of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    from: u32,
    to: u32,
    /// Whether it keeps to the rules of its format as far as those of its end go.
    pub(super) sound: bool,
}

/// A part of a file.
#[derive(Debug)]
pub(super) struct Chunk {
    /// Counted from 0.
    pub(super) index: u64,
    /// Where it begins in the file, once unpacked.
    pub(super) start: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) rows: Vec<Row>,
}

impl Chunk {
    /// The bytes of a row.
    pub(super) fn row(&self, row: Row) -> &[u8] {
        &self.bytes[row.from as usize..row.to as usize]
    }

    /// Where in the file a row begins.
    pub(super) fn place(&self, row: Row) -> u64 {
        self.start + u64::from(row.from)
    }

    /// Behind its last byte.
    pub(super) fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

/// Why a file could not be cut to its end.
#[derive(Debug)]
pub(super) enum CutError {
    Read(io::Error),
    /// From this byte on.
    Damaged(u64, Damage),
    /// The row that begins at this byte.
    RowTooLong(u64),
}

const BLOCK: usize = 256 << 10;

/// Cuts.
pub(super) struct Cutter<R> {
    reader: R,
    framing: Box<dyn Framing>,
    cut: Cut,
    /// From the beginning of the chunk at hand.
    buffer: Vec<u8>,
    /// How much of it was looked at.
    at: usize,
    rows: Vec<Row>,
    index: u64,
    start: u64,
    ended: bool,
}

impl<R: Read> Cutter<R> {
    /// At the beginning of what `reader` gives.
    pub(super) fn new(reader: R, framing: Box<dyn Framing>, cut: Cut) -> Self {
        Self {
            reader,
            framing,
            cut,
            buffer: Vec::new(),
            at: 0,
            rows: Vec::new(),
            index: 0,
            start: 0,
            ended: false,
        }
    }

    /// The next chunk; `None` when there are no more bytes. The last one may have no rows.
    pub(super) fn next_chunk(&mut self) -> Result<Option<Chunk>, CutError> {
        loop {
            if self.at < self.buffer.len() {
                let found = self.framing.next(&self.buffer[self.at..], self.ended);
                match found.map_err(|damage| CutError::Damaged(self.here(), damage))? {
                    Found::Row { from, to, end, sound } => {
                        let place = |offset: usize| u32::try_from(self.at + offset).map_err(|_| CutError::RowTooLong(self.here()));
                        let row = Row {
                            from: place(from)?,
                            to: place(to)?,
                            sound,
                        };
                        self.rows.push(row);
                        self.at += end;
                        if self.is_full() {
                            return Ok(Some(self.take()));
                        }
                        continue;
                    }
                    Found::Between(bytes) => {
                        self.at += bytes;
                        continue;
                    }
                    Found::More if self.ended => {
                        return Err(CutError::Damaged(self.here(), Damage("it ends inside a row")));
                    }
                    Found::More if self.buffer.len() - self.at > MAX_ROW => return Err(CutError::RowTooLong(self.here())),
                    Found::More => {}
                }
            }
            if self.ended {
                self.framing.end().map_err(|damage| CutError::Damaged(self.here(), damage))?;
                let rest = !self.buffer.is_empty();
                return Ok(rest.then(|| self.take()));
            }
            self.fill()?;
        }
    }

    fn here(&self) -> u64 {
        self.start + self.at as u64
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= self.cut.rows
            || self.at >= self.cut.bytes
            || self.at.saturating_add(self.rows.len().saturating_mul(self.cut.per_row)) >= self.cut.weight
    }

    fn take(&mut self) -> Chunk {
        let rest = self.buffer.split_off(self.at);
        let chunk = Chunk {
            index: self.index,
            start: self.start,
            bytes: std::mem::replace(&mut self.buffer, rest),
            rows: std::mem::take(&mut self.rows),
        };
        self.index += 1;
        self.start = chunk.end();
        self.at = 0;
        chunk
    }

    /// Reads on. A row that is long already gets as much again, so that it is not looked at from its start too often.
    fn fill(&mut self) -> Result<(), CutError> {
        let wanted = BLOCK.max(self.buffer.len() - self.at);
        let read = self.reader.by_ref().take(wanted as u64).read_to_end(&mut self.buffer);
        self.ended = read.map_err(CutError::Read)? < wanted;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
