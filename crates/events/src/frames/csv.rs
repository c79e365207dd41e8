//! CSV: rows that may hold line breaks within quotes, and the fields of one.
//!
//! A row that breaks the rules (a quote that never ends, something behind a closing one) is its first line alone, so that what follows is read as ever.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

use super::{Damage, Found, Framing, header, mark};

/// How far the end of a quote is looked for.
const MAX_QUOTED: usize = 1 << 20;

/// Rows of CSV.
#[derive(Debug)]
pub struct CsvRows {
    begun: bool,
    header: bool,
}

impl CsvRows {
    /// With a header, the first row is not one.
    pub fn new(header: bool) -> Self {
        Self { begun: false, header }
    }
}

impl Framing for CsvRows {
    fn next(&mut self, bytes: &[u8], ended: bool) -> Result<Found, Damage> {
        if !self.begun {
            let Some(length) = mark(bytes, ended) else { return Ok(Found::More) };
            self.begun = true;
            if length > 0 {
                return Ok(Found::Between(length));
            }
        }
        let found = match end_of_row(bytes, ended) {
            End::At(end) => row(bytes, end, true),
            End::More => Found::More,
            End::Unsound => match memchr(b'\n', bytes) {
                Some(at) => row(bytes, at + 1, false),
                None if ended => row(bytes, bytes.len(), false),
                None => Found::More,
            },
        };
        Ok(match found {
            Found::Row { from, to, end, .. } if from == to => Found::Between(end),
            Found::Row { to, end, .. } if std::mem::take(&mut self.header) => {
                header(&bytes[..to])?;
                Found::Between(end)
            }
            other => other,
        })
    }
}

fn row(bytes: &[u8], end: usize, sound: bool) -> Found {
    let line = &bytes[..end];
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let to = line.strip_suffix(b"\r").unwrap_or(line).len();
    Found::Row { from: 0, to, end, sound }
}

enum End {
    At(usize),
    More,
    Unsound,
}

fn end_of_row(bytes: &[u8], ended: bool) -> End {
    let mut at = 0;
    loop {
        if bytes.get(at) == Some(&b'"') {
            match end_of_quote(bytes, at + 1, ended) {
                Quote::Ends(behind) => at = behind,
                Quote::More => return End::More,
                Quote::Never => return End::Unsound,
            }
            match &bytes[at..] {
                [b',', ..] => at += 1,
                [b'\n', ..] => return End::At(at + 1),
                [b'\r', b'\n', ..] => return End::At(at + 2),
                [] | [b'\r'] if ended => return End::At(bytes.len()),
                [] | [b'\r'] => return End::More,
                _ => return End::Unsound,
            }
        } else {
            match memchr2(b',', b'\n', &bytes[at..]) {
                Some(found) if bytes[at + found] == b'\n' => return End::At(at + found + 1),
                Some(found) => at += found + 1,
                None if ended => return End::At(bytes.len()),
                None => return End::More,
            }
        }
    }
}

enum Quote {
    /// Behind the closing quote.
    Ends(usize),
    More,
    Never,
}

fn end_of_quote(bytes: &[u8], mut at: usize, ended: bool) -> Quote {
    let within = &bytes[..bytes.len().min(MAX_QUOTED)];
    let nowhere = || {
        if ended || bytes.len() >= MAX_QUOTED {
            Quote::Never
        } else {
            Quote::More
        }
    };
    loop {
        let Some(found) = within.get(at..).and_then(|rest| memchr(b'"', rest)) else {
            return nowhere();
        };
        at += found + 1;
        match bytes.get(at) {
            Some(b'"') => at += 1,
            Some(_) => return Quote::Ends(at),
            None if ended => return Quote::Ends(at),
            None => return Quote::More,
        }
    }
}

/// The fields of a sound row, quotes taken off.
pub fn fields(row: &[u8]) -> impl Iterator<Item = Cow<'_, [u8]>> {
    let mut rest = Some(row);
    std::iter::from_fn(move || {
        let bytes = rest?;
        let Some(quoted) = bytes.strip_prefix(b"\"") else {
            let (field, behind) = match memchr(b',', bytes) {
                Some(at) => (&bytes[..at], Some(&bytes[at + 1..])),
                None => (bytes, None),
            };
            rest = behind;
            return Some(Cow::Borrowed(field));
        };
        let mut at = 0;
        let mut doubled = false;
        loop {
            at += memchr(b'"', &quoted[at..]).unwrap_or(quoted.len() - at);
            if quoted.get(at + 1) != Some(&b'"') {
                break;
            }
            doubled = true;
            at += 2;
        }
        rest = quoted.get(at + 2..).filter(|_| quoted.get(at + 1) == Some(&b','));
        let field = &quoted[..at];
        Some(if doubled {
            Cow::Owned(undoubled(field))
        } else {
            Cow::Borrowed(field)
        })
    })
}

fn undoubled(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some(at) = memchr(b'"', rest) {
        out.extend_from_slice(&rest[..=at]);
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    out
}
