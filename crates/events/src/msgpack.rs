//! msgpack read token by token from bytes nobody has checked.
//!
//! Promise: no panic, no memory taken on the word of a length prefix, no recursion deeper than allowed.

use crate::text::{BASE64_PREFIX, push_base64, push_double, push_integer, push_json_double, push_json_string};

/// Why bytes are not the msgpack we take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The bytes end inside a value.
    Truncated,
    /// A byte that msgpack never uses.
    Reserved,
    /// Nested deeper than allowed.
    TooDeep,
    /// More keys in one map than allowed.
    TooManyKeys,
    /// The key of a map cannot be text.
    KeyNotText,
    /// More text than allowed.
    TooMuchText,
}

/// One value, or the head of a nested one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Token<'a> {
    Nil,
    Bool(bool),
    Long(i64),
    /// Above the largest long.
    BigLong(u64),
    Double(f64),
    Str(&'a [u8]),
    Bin(&'a [u8]),
    /// So many values follow.
    Array(u32),
    /// So many pairs follow.
    Map(u32),
    Ext(i8, &'a [u8]),
}

/// Bytes, how far they have been read, and where to stop.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            end: bytes.len(),
        }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Stops after `bytes` more, or at the end. Says whether that is before the end.
    pub(crate) fn window(&mut self, bytes: usize) -> bool {
        self.end = self.at.saturating_add(bytes).min(self.bytes.len());
        self.end < self.bytes.len()
    }

    /// Goes back to `at`, with all bytes before it once more.
    pub(crate) fn rewind(&mut self, at: usize) {
        self.at = at;
        self.end = self.bytes.len();
    }

    /// Passes over one value, however deep it nests.
    pub(crate) fn skip(&mut self) -> Result<(), Fault> {
        let mut left = 1u64;
        while left > 0 {
            left -= 1;
            match self.token()? {
                Token::Array(values) => left = left.saturating_add(u64::from(values)),
                Token::Map(pairs) => left = left.saturating_add(2 * u64::from(pairs)),
                _ => {}
            }
        }
        Ok(())
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    #[inline]
    fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        if count > self.end - self.at {
            return Err(Fault::Truncated);
        }
        let taken = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    #[inline]
    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn len8(&mut self) -> Result<usize, Fault> {
        Ok(usize::from(self.take_array::<1>()?[0]))
    }

    fn len16(&mut self) -> Result<usize, Fault> {
        Ok(usize::from(u16::from_be_bytes(self.take_array()?)))
    }

    fn len32(&mut self) -> Result<usize, Fault> {
        // A length that the machine cannot address is beyond the end like any other lie.
        usize::try_from(u32::from_be_bytes(self.take_array()?)).map_err(|_| Fault::Truncated)
    }

    fn ext(&mut self, len: usize) -> Result<Token<'a>, Fault> {
        let [kind] = self.take_array()?;
        Ok(Token::Ext(i8::from_be_bytes([kind]), self.take(len)?))
    }

    /// The next value or head.
    #[inline]
    pub(crate) fn token(&mut self) -> Result<Token<'a>, Fault> {
        let [lead] = self.take_array()?;
        Ok(match lead {
            0..=0x7f => Token::Long(i64::from(lead)),
            0x80..=0x8f => Token::Map(u32::from(lead & 0x0f)),
            0x90..=0x9f => Token::Array(u32::from(lead & 0x0f)),
            0xa0..=0xbf => Token::Str(self.take(usize::from(lead & 0x1f))?),
            0xc0 => Token::Nil,
            0xc1 => return Err(Fault::Reserved),
            0xc2 => Token::Bool(false),
            0xc3 => Token::Bool(true),
            0xc4 => Token::Bin({
                let len = self.len8()?;
                self.take(len)?
            }),
            0xc5 => Token::Bin({
                let len = self.len16()?;
                self.take(len)?
            }),
            0xc6 => Token::Bin({
                let len = self.len32()?;
                self.take(len)?
            }),
            0xc7 => {
                let len = self.len8()?;
                self.ext(len)?
            }
            0xc8 => {
                let len = self.len16()?;
                self.ext(len)?
            }
            0xc9 => {
                let len = self.len32()?;
                self.ext(len)?
            }
            0xca => Token::Double(f64::from(f32::from_be_bytes(self.take_array()?))),
            0xcb => Token::Double(f64::from_be_bytes(self.take_array()?)),
            0xcc => Token::Long(i64::from(u8::from_be_bytes(self.take_array()?))),
            0xcd => Token::Long(i64::from(u16::from_be_bytes(self.take_array()?))),
            0xce => Token::Long(i64::from(u32::from_be_bytes(self.take_array()?))),
            0xcf => {
                let value = u64::from_be_bytes(self.take_array()?);
                i64::try_from(value).map_or(Token::BigLong(value), Token::Long)
            }
            0xd0 => Token::Long(i64::from(i8::from_be_bytes(self.take_array()?))),
            0xd1 => Token::Long(i64::from(i16::from_be_bytes(self.take_array()?))),
            0xd2 => Token::Long(i64::from(i32::from_be_bytes(self.take_array()?))),
            0xd3 => Token::Long(i64::from_be_bytes(self.take_array()?)),
            0xd4 => self.ext(1)?,
            0xd5 => self.ext(2)?,
            0xd6 => self.ext(4)?,
            0xd7 => self.ext(8)?,
            0xd8 => self.ext(16)?,
            0xd9 => Token::Str({
                let len = self.len8()?;
                self.take(len)?
            }),
            0xda => Token::Str({
                let len = self.len16()?;
                self.take(len)?
            }),
            0xdb => Token::Str({
                let len = self.len32()?;
                self.take(len)?
            }),
            0xdc => Token::Array(u32::from(u16::from_be_bytes(self.take_array()?))),
            0xdd => Token::Array(u32::from_be_bytes(self.take_array()?)),
            0xde => Token::Map(u32::from(u16::from_be_bytes(self.take_array()?))),
            0xdf => Token::Map(u32::from_be_bytes(self.take_array()?)),
            0xe0..=0xff => Token::Long(i64::from(i8::from_be_bytes([lead]))),
        })
    }
}

/// How large a nested value may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Nesting {
    /// Levels of arrays and maps.
    pub(crate) depth: usize,
    /// Keys in one map.
    pub(crate) keys: usize,
    /// Length that `out` may reach.
    pub(crate) out: usize,
}

/// Appends the value that begins with `token` as JSON.
pub(crate) fn push_json(reader: &mut Reader<'_>, token: Token<'_>, allowed: Nesting, out: &mut Vec<u8>) -> Result<(), Fault> {
    match token {
        Token::Nil => out.extend_from_slice(b"null"),
        Token::Bool(value) => out.extend_from_slice(crate::bool_text(value).as_bytes()),
        Token::Long(value) => push_integer(out, value),
        Token::BigLong(value) => push_integer(out, value),
        Token::Double(value) => push_json_double(out, value),
        Token::Str(bytes) | Token::Bin(bytes) => push_json_bytes(out, bytes),
        Token::Ext(kind, bytes) => push_json_ext(out, kind, bytes),
        Token::Array(count) => {
            let inner = Nesting {
                depth: allowed.depth.checked_sub(1).ok_or(Fault::TooDeep)?,
                ..allowed
            };
            out.push(b'[');
            for i in 0..count {
                if i > 0 {
                    out.push(b',');
                }
                let token = reader.token()?;
                push_json(reader, token, inner, out)?;
            }
            out.push(b']');
        }
        Token::Map(count) => {
            let inner = Nesting {
                depth: allowed.depth.checked_sub(1).ok_or(Fault::TooDeep)?,
                ..allowed
            };
            if count as usize > allowed.keys {
                return Err(Fault::TooManyKeys);
            }
            out.push(b'{');
            for i in 0..count {
                if i > 0 {
                    out.push(b',');
                }
                push_json_key(out, reader.token()?)?;
                out.push(b':');
                let token = reader.token()?;
                push_json(reader, token, inner, out)?;
            }
            out.push(b'}');
        }
    }
    if out.len() > allowed.out { Err(Fault::TooMuchText) } else { Ok(()) }
}

/// Appends an extension value as JSON.
pub(crate) fn push_json_ext(out: &mut Vec<u8>, kind: i8, bytes: &[u8]) {
    out.extend_from_slice(b"{\"ext\":");
    push_integer(out, kind);
    out.extend_from_slice(b",\"data\":\"");
    push_base64(out, bytes);
    out.extend_from_slice(b"\"}");
}

/// Keys that are not text become the text of their value, as JSON has no others.
fn push_json_key(out: &mut Vec<u8>, key: Token<'_>) -> Result<(), Fault> {
    let mut text = Vec::new();
    match key {
        Token::Str(bytes) | Token::Bin(bytes) => {
            push_json_bytes(out, bytes);
            return Ok(());
        }
        Token::Nil => text.extend_from_slice(b"null"),
        Token::Bool(value) => text.extend_from_slice(crate::bool_text(value).as_bytes()),
        Token::Long(value) => push_integer(&mut text, value),
        Token::BigLong(value) => push_integer(&mut text, value),
        Token::Double(value) => push_double(&mut text, value),
        Token::Array(_) | Token::Map(_) | Token::Ext(..) => return Err(Fault::KeyNotText),
    }
    out.push(b'"');
    out.extend_from_slice(&text);
    out.push(b'"');
    Ok(())
}

fn push_json_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        push_json_string(out, text);
    } else {
        out.push(b'"');
        out.extend_from_slice(BASE64_PREFIX);
        push_base64(out, bytes);
        out.push(b'"');
    }
}
