//! Where rows begin and end in the bytes of a file.
//!
//! Promise: what is found depends on the bytes alone, never on how many of them were there when it was looked for. So the same file is
//! always cut at the same places.
//!
//! Start at [`Framing`]. Does not know what a row means.

mod csv;
mod lines;
mod values;

pub use csv::{CsvRows, fields};
pub use lines::Lines;
pub use values::Values;

/// The longest row that is looked for. Servers take far shorter ones.
pub const MAX_ROW: usize = 16 << 20;

/// What begins at the start of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A row in `from..to`; the next thing begins at `end`.
    Row {
        /// Where it begins.
        from: usize,
        /// Behind its last byte.
        to: usize,
        /// Where the next thing begins.
        end: usize,
        /// Whether it keeps to the rules of its form.
        sound: bool,
    },
    /// So many bytes that belong to no row: empty lines, a header, commas.
    Between(usize),
    /// Not all of it is there.
    More,
}

/// The file cannot be read on from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage(
    /// What is wrong there.
    pub &'static str,
);

/// Finds rows one after the other.
pub trait Framing: Send {
    /// What begins at the start of `bytes`, which are not empty. `ended` says that no more bytes will come.
    ///
    /// Asked again with more bytes after [`Found::More`], and with those behind what was found after anything else.
    fn next(&mut self, bytes: &[u8], ended: bool) -> Result<Found, Damage>;

    /// Asked when all bytes were looked at: may a file end here?
    fn end(&self) -> Result<(), Damage> {
        Ok(())
    }
}

/// The length of the mark that Windows programs write before text; `None` when that cannot be said yet.
fn mark(bytes: &[u8], ended: bool) -> Option<usize> {
    const MARK: &[u8] = b"\xef\xbb\xbf";
    match bytes {
        _ if bytes.starts_with(MARK) => Some(MARK.len()),
        _ if !ended && MARK.starts_with(bytes) => None,
        _ => Some(0),
    }
}

/// A header in which lines end as they did on old Macs holds the whole file: its rows would not be seen.
fn header(line: &[u8]) -> Result<(), Damage> {
    let alone = memchr::memchr_iter(b'\r', line).any(|at| line.get(at + 1) != Some(&b'\n'));
    if alone {
        return Err(Damage("its lines end with a carriage return alone; rows end with a line feed"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
