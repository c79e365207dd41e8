//! Query results from msgpack arrays to lines of text: JSON arrays, JSON objects, csv and tsv.
//!
//! A value has one text in all of them: `true`, `12`, the shortest digits that read back as the same double (`0.1`, `5.0`, `1e300`),
//! `NaN` and `Infinity`, the text itself, JSON for what nests, `base64:…` for bytes that are no text. What they add to it:
//!
//! - Arrays and objects are JSON, which has no word for `NaN` and the infinities: those are strings. An object has a key for every column; of
//!   columns that share a name, the second is `name_2`.
//! - csv is RFC 4180 with a line feed at the end of each line, as the tools of td and of Unix write it. Quoted is what holds a comma, a quote or a
//!   line break, and the empty text: NULL is an empty field without quotes. (So a row of one column that is NULL is an empty line.)
//! - tsv is the same with a tab in place of the comma.
//!
//! Start at [`Lines`].

mod delimited;
mod json;

use std::collections::{HashMap, HashSet};

use base::ErrorKind;

use crate::msgpack::{Fault, Nesting, Reader, Token};
use delimited::Delimiter;

/// How deep a result's values may nest. Deeper than anything that got in.
const NESTING: Nesting = Nesting {
    depth: 128,
    keys: usize::MAX,
    out: usize::MAX,
};

/// The stored rows are not what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("row {row} of the result is not a msgpack array with a value for each column")]
pub struct LinesError {
    row: u64,
}

impl LinesError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Corrupt
    }
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineFormat {
    /// A JSON array per row.
    Arrays,
    /// A JSON object per row.
    Objects,
    /// Comma-separated values.
    Csv,
    /// Tab-separated values.
    Tsv,
}

/// Writes the rows of one result, each as a line. In csv and tsv a text that holds line breaks keeps them, in quotes.
#[derive(Debug)]
pub struct Lines {
    form: Form,
    columns: Vec<String>,
    /// For error messages.
    row: u64,
}

#[derive(Debug)]
enum Form {
    Arrays,
    /// What stands before each value.
    Objects(Vec<Vec<u8>>),
    Delimited(Delimiter),
}

impl Lines {
    /// For rows of these columns.
    pub fn new(format: LineFormat, columns: &[&str]) -> Self {
        let form = match format {
            LineFormat::Arrays => Form::Arrays,
            LineFormat::Objects => Form::Objects(json::keys(&distinct(columns))),
            LineFormat::Csv => Form::Delimited(Delimiter::Comma),
            LineFormat::Tsv => Form::Delimited(Delimiter::Tab),
        };
        Self {
            form,
            columns: columns.iter().map(|&name| name.to_owned()).collect(),
            row: 0,
        }
    }

    /// Appends the line of column names. Objects have none: their keys say it in every line.
    pub fn header(&self, out: &mut Vec<u8>) {
        match &self.form {
            Form::Arrays => json::names(&self.columns, out),
            Form::Objects(_) => {}
            Form::Delimited(delimiter) => delimited::names(*delimiter, &self.columns, out),
        }
    }

    /// Appends a line per complete row in `rows` until `out` is `enough` bytes long, and says how many bytes of `rows` they took.
    ///
    /// For streams: keep what is left over, append the next piece, call again. At the end nothing may be left.
    pub fn write(&mut self, rows: &[u8], enough: usize, out: &mut Vec<u8>) -> Result<usize, LinesError> {
        let mut reader = Reader::new(rows);
        let mut done = 0;
        while !reader.is_at_end() && out.len() < enough {
            let complete = out.len();
            match self.line(&mut reader, out) {
                Ok(()) => out.push(b'\n'),
                Err(Fault::Truncated) => {
                    out.truncate(complete);
                    break;
                }
                Err(_) => return Err(LinesError { row: self.row + 1 }),
            }
            self.row += 1;
            done = reader.at();
        }
        Ok(done)
    }

    fn line(&self, reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
        match reader.token()? {
            Token::Array(count) if count as usize == self.columns.len() => {}
            _ => return Err(Fault::Reserved),
        }
        match &self.form {
            Form::Arrays => json::array(reader, self.columns.len(), out),
            Form::Objects(keys) => json::object(reader, keys, out),
            Form::Delimited(delimiter) => delimited::values(*delimiter, reader, self.columns.len(), out),
        }
    }
}

/// Names that can stand in one object: the second `a` is `a_2`.
fn distinct(columns: &[&str]) -> Vec<String> {
    let mut taken = HashSet::new();
    let mut next = HashMap::new();
    let mut names = Vec::with_capacity(columns.len());
    for &column in columns {
        let mut name = column.to_owned();
        while !taken.insert(name.clone()) {
            let number = next.entry(column).or_insert(1_u64);
            *number += 1;
            name = format!("{column}_{number}");
        }
        names.push(name);
    }
    names
}

#[cfg(test)]
mod tests;
