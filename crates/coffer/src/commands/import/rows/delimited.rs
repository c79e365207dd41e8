//! CSV and TSV.

use std::borrow::Cow;

use memchr::memchr;

use super::super::frames;
use super::super::guess::Kind;
use super::super::time::TimeRule;
use crate::msgpack;

/// How fields are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Dialect {
    Csv,
    /// With `escapes`, `\t`, `\n`, `\r` and `\\` are one character and `\N` is nothing; without, a backslash is a backslash.
    Tsv {
        escapes: bool,
    },
}

impl Dialect {
    /// The fields of a row; `None` for a field that is missing by what it says.
    pub(in super::super) fn fields(self, row: &[u8]) -> Vec<Option<Cow<'_, [u8]>>> {
        match self {
            Self::Csv => frames::fields(row).map(Some).collect(),
            Self::Tsv { escapes } => row
                .split(|byte| *byte == b'\t')
                .map(|field| match field {
                    b"\\N" if escapes => None,
                    field if escapes && memchr(b'\\', field).is_some() => Some(Cow::Owned(unescaped(field))),
                    field => Some(Cow::Borrowed(field)),
                })
                .collect(),
        }
    }
}

fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut bytes = field.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        let meant = match (byte, bytes.peek()) {
            (b'\\', Some(b't')) => b'\t',
            (b'\\', Some(b'n')) => b'\n',
            (b'\\', Some(b'r')) => b'\r',
            (b'\\', Some(b'\\')) => b'\\',
            _ => {
                out.push(byte);
                continue;
            }
        };
        out.push(meant);
        bytes.next();
    }
    out
}

/// A column.
#[derive(Debug)]
pub(in super::super) struct Column {
    pub(in super::super) name: String,
    pub(in super::super) kind: Kind,
}

/// All that is needed to read a row.
#[derive(Debug)]
pub(in super::super) struct Delimited {
    pub(in super::super) dialect: Dialect,
    pub(in super::super) columns: Vec<Column>,
    pub(in super::super) time: Option<TimeRule>,
}

impl Delimited {
    /// Appends the row as a map without its empty fields.
    pub(super) fn encode(&self, row: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let fields = self.dialect.fields(row);
        if fields.len() != self.columns.len() {
            return None;
        }
        let head = msgpack::later(out);
        let mut pairs = 0;
        for (column, field) in self.columns.iter().zip(&fields) {
            let Some(field) = field.as_deref().filter(|field| !field.is_empty()) else {
                continue;
            };
            let text = std::str::from_utf8(field).ok()?;
            if let Some(rule) = self.time.as_ref().filter(|rule| rule.column == column.name) {
                msgpack::text(events::TIME.as_bytes(), out);
                msgpack::long(rule.seconds(text)?, out);
                pairs += 1;
                if rule.replaces() {
                    continue;
                }
            }
            msgpack::text(column.name.as_bytes(), out);
            column.kind.put(text, out);
            pairs += 1;
        }
        msgpack::fill(head, true, pairs, out);
        Some(())
    }
}
