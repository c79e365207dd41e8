//! A row as csv or tsv.

use std::borrow::Cow;

use super::NESTING;
use crate::bool_text;
use crate::msgpack::{Fault, Reader, Token, push_json};
use crate::text::{BASE64_PREFIX, push_base64, push_double, push_integer};

/// What stands between values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delimiter {
    Comma,
    Tab,
}

impl Delimiter {
    const fn byte(self) -> u8 {
        match self {
            Self::Comma => b',',
            Self::Tab => b'\t',
        }
    }
}

/// The line of column names.
pub(super) fn names(delimiter: Delimiter, columns: &[String], out: &mut Vec<u8>) {
    for (at, name) in columns.iter().enumerate() {
        if at > 0 {
            out.push(delimiter.byte());
        }
        text(delimiter, name.as_bytes(), out);
    }
    out.push(b'\n');
}

pub(super) fn values(delimiter: Delimiter, reader: &mut Reader<'_>, count: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
    for at in 0..count {
        if at > 0 {
            out.push(delimiter.byte());
        }
        value(delimiter, reader, out)?;
    }
    Ok(())
}

fn value(delimiter: Delimiter, reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    match reader.token()? {
        Token::Nil => {}
        Token::Bool(value) => out.extend_from_slice(bool_text(value).as_bytes()),
        Token::Long(value) => push_integer(out, value),
        Token::BigLong(value) => push_integer(out, value),
        Token::Double(value) if value.is_finite() => out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes()),
        Token::Double(value) => push_double(out, value),
        Token::Str(bytes) | Token::Bin(bytes) => text(delimiter, &readable(bytes), out),
        nested @ (Token::Array(_) | Token::Map(_) | Token::Ext(..)) => {
            let mut json = Vec::new();
            push_json(reader, nested, NESTING, &mut json)?;
            text(delimiter, &json, out);
        }
    }
    Ok(())
}

/// As JSON shows them as well.
fn readable(bytes: &[u8]) -> Cow<'_, [u8]> {
    if std::str::from_utf8(bytes).is_ok() {
        return Cow::Borrowed(bytes);
    }
    let mut text = BASE64_PREFIX.to_vec();
    push_base64(&mut text, bytes);
    Cow::Owned(text)
}

fn text(delimiter: Delimiter, text: &[u8], out: &mut Vec<u8>) {
    let special = |byte: &u8| matches!(byte, b'"' | b'\r' | b'\n') || *byte == delimiter.byte();
    if !text.is_empty() && !text.iter().any(special) {
        out.extend_from_slice(text);
        return;
    }
    out.push(b'"');
    for part in text.split_inclusive(|byte| *byte == b'"') {
        out.extend_from_slice(part);
        if part.ends_with(b"\"") {
            out.push(b'"');
        }
    }
    out.push(b'"');
}
