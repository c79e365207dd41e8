//! csv and tsv.

use std::borrow::Cow;
use std::io::{self, Write};

use serde_json::Value;

use super::Format;

/// The line of column names.
pub(super) fn names(out: &mut impl Write, format: Format, columns: &[String]) -> io::Result<()> {
    line(out, format, columns.iter().map(|name| Some(Cow::Borrowed(name.as_str()))))
}

/// One row.
pub(super) fn values(out: &mut impl Write, format: Format, values: &[Value]) -> io::Result<()> {
    line(out, format, values.iter().map(text))
}

/// A value as plain text; nothing for null. What is nested stays JSON.
pub(super) fn text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(Cow::Borrowed(text)),
        other => Some(Cow::Owned(other.to_string())),
    }
}

fn line<'a>(out: &mut impl Write, format: Format, cells: impl Iterator<Item = Option<Cow<'a, str>>>) -> io::Result<()> {
    let between: &[u8] = if format == Format::Csv { b"," } else { b"\t" };
    for (at, cell) in cells.enumerate() {
        if at > 0 {
            out.write_all(between)?;
        }
        let written = if format == Format::Csv { csv(cell) } else { tsv(cell) };
        out.write_all(written.as_bytes())?;
    }
    out.write_all(b"\n")
}

fn csv(cell: Option<Cow<'_, str>>) -> Cow<'_, str> {
    match cell {
        None => Cow::Borrowed(""),
        Some(text) if text.is_empty() || text.contains([',', '"', '\r', '\n']) => Cow::Owned(format!("\"{}\"", text.replace('"', "\"\""))),
        Some(text) => text,
    }
}

fn tsv(cell: Option<Cow<'_, str>>) -> Cow<'_, str> {
    match cell {
        None => Cow::Borrowed("\\N"),
        Some(text) if text.contains(['\t', '\n', '\r', '\\']) => Cow::Owned(
            text.replace('\\', "\\\\")
                .replace('\t', "\\t")
                .replace('\n', "\\n")
                .replace('\r', "\\r"),
        ),
        Some(text) => text,
    }
}
