//! A row per line: JSON lines and TSV.

use memchr::memchr;

use super::{Damage, Found, Framing, header, mark};

/// Lines; those with nothing but white space in them are none.
#[derive(Debug)]
pub struct Lines {
    begun: bool,
    header: bool,
}

impl Lines {
    /// With a header, the first line is not a row.
    pub fn new(header: bool) -> Self {
        Self { begun: false, header }
    }
}

impl Framing for Lines {
    fn next(&mut self, bytes: &[u8], ended: bool) -> Result<Found, Damage> {
        if !self.begun {
            let Some(length) = mark(bytes, ended) else { return Ok(Found::More) };
            self.begun = true;
            if length > 0 {
                return Ok(Found::Between(length));
            }
        }
        let (to, end) = match memchr(b'\n', bytes) {
            Some(at) => (at, at + 1),
            None if ended => (bytes.len(), bytes.len()),
            None => return Ok(Found::More),
        };
        let line = &bytes[..to];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.iter().all(|byte| matches!(byte, b' ' | b'\r')) {
            return Ok(Found::Between(end));
        }
        if std::mem::take(&mut self.header) {
            header(line)?;
            return Ok(Found::Between(end));
        }
        Ok(Found::Row {
            from: 0,
            to: line.len(),
            end,
            sound: true,
        })
    }
}
