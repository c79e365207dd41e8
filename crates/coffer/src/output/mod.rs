//! Answers as a table for people, or as json, jsonl, csv or tsv for programs.
//!
//! Without a choice: a table on a terminal, tsv elsewhere. In tsv a missing value is `\N` and tab, line feed, carriage return and backslash
//! are escaped with a backslash; in csv a missing value is empty and an empty text is `""`, and lines end with a line feed, as in the csv of
//! the public API.
//!
//! Promise: rows are written as they come and not held, except for a table, whose widths are known at its end. Who has rows without end asks
//! [`Rows::is_full`] and stops there.

mod delimited;
mod table;
#[cfg(test)]
mod tests;

use std::io::{self, BufWriter, Write};

use clap::ValueEnum;
use serde_json::Value;

use crate::failure::{Exit, Failure, Outcome, output_broke};
use crate::terminal;

/// The forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// One array of objects
    Json,
    /// One object per line
    Jsonl,
    /// Comma-separated (RFC 4180)
    Csv,
    /// Tab-separated, with \t, \n, \r, \\ and \N
    Tsv,
}

impl Format {
    /// What was asked for, or what suits the place standard output goes to.
    pub(crate) fn chosen(asked: Option<Self>) -> Self {
        asked.unwrap_or(if terminal::shows_output() { Self::Table } else { Self::Tsv })
    }
}

/// What a table shows of an answer at most: rows, and about how many bytes of them.
const TABLE_ROWS: usize = 10_000;
const TABLE_BYTES: usize = 64 << 20;

/// Rows on their way to a writer.
pub(crate) struct Rows<W: Write> {
    format: Format,
    header: bool,
    columns: Vec<String>,
    waiting: Vec<Vec<Value>>, // table only: widths are known at the end
    waiting_bytes: usize,
    written: u64,
    out: W,
}

/// Rows on their way to standard output.
pub(crate) fn to_stdout(format: Format, header: bool, columns: &[&str]) -> Rows<BufWriter<io::Stdout>> {
    Rows::new(BufWriter::new(io::stdout()), format, header, columns)
}

impl<W: Write> Rows<W> {
    /// Nothing is written yet.
    pub(crate) fn new(out: W, format: Format, header: bool, columns: &[&str]) -> Self {
        Self {
            format,
            header,
            columns: distinct(columns),
            waiting: Vec::new(),
            waiting_bytes: 0,
            written: 0,
            out,
        }
    }

    /// One row, as many values as there are columns.
    pub(crate) fn row(&mut self, values: Vec<Value>) -> Outcome {
        if values.len() != self.columns.len() {
            let why = format!("{} values for {} columns", values.len(), self.columns.len());
            return Err(Failure::new(Exit::Unverified, "the answer is not a table").why(why));
        }
        if self.format == Format::Table {
            self.waiting_bytes += values.iter().map(weight).sum::<usize>();
            self.waiting.push(values);
            return Ok(());
        }
        let first = self.written == 0;
        self.written += 1;
        self.write(first, &values).map_err(broken)
    }

    /// Whether more rows would take more memory than an answer may. Never so in a form that does not hold them.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= TABLE_ROWS || self.waiting_bytes >= TABLE_BYTES
    }

    /// Writes what is left; the number of rows.
    pub(crate) fn finish(mut self) -> Outcome<u64> {
        self.end().map_err(broken)?;
        Ok(self.written)
    }

    fn write(&mut self, first: bool, values: &[Value]) -> io::Result<()> {
        match self.format {
            Format::Table => Ok(()),
            Format::Json => {
                self.out.write_all(if first { b"[\n  " } else { b",\n  " })?;
                object(&mut self.out, &self.columns, values)
            }
            Format::Jsonl => {
                object(&mut self.out, &self.columns, values)?;
                self.out.write_all(b"\n")
            }
            Format::Csv | Format::Tsv => {
                if first && self.header {
                    delimited::names(&mut self.out, self.format, &self.columns)?;
                }
                delimited::values(&mut self.out, self.format, values)
            }
        }
    }

    fn end(&mut self) -> io::Result<()> {
        match self.format {
            Format::Table => {
                self.written = self.waiting.len() as u64;
                let drawn = table::draw(&self.columns, &self.waiting);
                writeln!(self.out, "{drawn}")?;
            }
            Format::Json if self.written == 0 => self.out.write_all(b"[]\n")?,
            Format::Json => self.out.write_all(b"\n]\n")?,
            Format::Csv | Format::Tsv if self.written == 0 && self.header => {
                delimited::names(&mut self.out, self.format, &self.columns)?;
            }
            Format::Jsonl | Format::Csv | Format::Tsv => {}
        }
        self.out.flush()
    }
}

/// About how much memory a value takes.
fn weight(value: &Value) -> usize {
    let content = match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(weight).sum(),
        Value::Object(entries) => entries.iter().map(|(key, value)| key.len() + weight(value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    };
    size_of::<Value>() + content
}

// `SELECT a, a` gives two columns of one name; in an object one of them would be lost.
fn distinct(columns: &[&str]) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(columns.len());
    for column in columns {
        let mut name = (*column).to_owned();
        let mut number = 2;
        while names.contains(&name) {
            name = format!("{column}_{number}");
            number += 1;
        }
        names.push(name);
    }
    names
}

fn object(out: &mut impl Write, columns: &[String], values: &[Value]) -> io::Result<()> {
    // Written by hand, because a JSON map would put the columns into another order.
    for (at, (name, value)) in columns.iter().zip(values).enumerate() {
        out.write_all(if at == 0 { b"{" } else { b"," })?;
        serde_json::to_writer(&mut *out, name)?;
        out.write_all(b":")?;
        serde_json::to_writer(&mut *out, value)?;
    }
    out.write_all(if columns.is_empty() { b"{}" } else { b"}" })
}

fn broken(error: io::Error) -> Failure {
    output_broke(&error)
}
