//! JSON read token by token from bytes nobody has checked.
//!
//! Promise: no panic, no recursion deeper than allowed, and no byte is looked at twice by one call.

use crate::Limits;
use crate::decode::RowFault;
use crate::decode::rows::{Stop, Value};

/// A string as read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Text<'a> {
    /// It stands in the body as it is.
    Plain(&'a [u8]),
    /// It had escapes: see [`Scanner::unescaped`].
    Unescaped,
}

/// Bytes, how far they have been read, and where to stop.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
    unescaped: Vec<u8>,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self {
            bytes,
            at,
            end: bytes.len(),
            unescaped: Vec::new(),
        }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Stops after `bytes` more, or at the end. Says whether that is before the end.
    pub(super) fn window(&mut self, bytes: usize) -> bool {
        self.end = self.at.saturating_add(bytes).min(self.bytes.len());
        self.end < self.bytes.len()
    }

    /// Stops at the end only.
    pub(super) fn no_window(&mut self) {
        self.end = self.bytes.len();
    }

    pub(super) fn rewind(&mut self, at: usize) {
        self.at = at;
    }

    /// How many bytes the line still has, without its line feed.
    pub(super) fn line(&self) -> usize {
        let rest = &self.bytes[self.at..];
        memchr::memchr(b'\n', rest).unwrap_or(rest.len())
    }

    /// Passes over the rest of the line and its line feed.
    pub(super) fn skip_line(&mut self) {
        self.at = self.at.saturating_add(self.line()).saturating_add(1).min(self.bytes.len());
    }

    /// From `from` to here, without white space at the end.
    pub(super) fn trimmed(&self, from: usize) -> std::ops::Range<usize> {
        from..from + self.bytes[from..self.at].trim_ascii_end().len()
    }

    /// Whether nothing but white space is left in the window. Passes over it.
    pub(super) fn rest_is_space(&mut self) -> bool {
        self.space();
        self.at >= self.end
    }

    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        if self.at < self.end { Some(self.bytes[self.at]) } else { None }
    }

    #[inline]
    pub(super) fn next(&mut self) -> Option<u8> {
        let next = self.peek()?;
        self.at += 1;
        Some(next)
    }

    #[inline]
    pub(super) fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    #[inline]
    pub(super) fn expect(&mut self, byte: u8) -> Result<(), Stop> {
        match self.next() {
            Some(next) if next == byte => Ok(()),
            Some(_) => Err(Stop::Damaged),
            None => Err(Stop::Truncated),
        }
    }

    /// One of the three words of JSON.
    pub(super) fn word(&mut self, word: &[u8]) -> Result<(), Stop> {
        word.iter().try_for_each(|byte| self.expect(*byte))
    }

    /// The last string that had escapes, without them.
    pub(super) fn unescaped(&self) -> &[u8] {
        &self.unescaped
    }

    /// A string, with its quotes. It may hold bytes that are not UTF-8: that is for the caller to see.
    #[inline]
    pub(super) fn string(&mut self) -> Result<Text<'a>, Stop> {
        self.expect(b'"')?;
        let from = self.at;
        self.at += plain(&self.bytes[from..self.end]);
        match self.peek() {
            Some(b'"') => {
                let text = &self.bytes[from..self.at];
                self.at += 1;
                Ok(Text::Plain(text))
            }
            Some(b'\\') => self.string_with_escapes(from),
            // Control characters are escaped in JSON.
            Some(_) => Err(Stop::Damaged),
            None => Err(Stop::Truncated),
        }
    }

    #[cold]
    fn string_with_escapes(&mut self, from: usize) -> Result<Text<'a>, Stop> {
        self.unescaped.clear();
        self.unescaped.extend_from_slice(&self.bytes[from..self.at]);
        loop {
            match self.next() {
                Some(b'"') => return Ok(Text::Unescaped),
                Some(b'\\') => self.escape()?,
                Some(_) => return Err(Stop::Damaged),
                None => return Err(Stop::Truncated),
            }
            let run = plain(&self.bytes[self.at..self.end]);
            self.unescaped.extend_from_slice(&self.bytes[self.at..self.at + run]);
            self.at += run;
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<(), Stop> {
        let byte = match self.next().ok_or(Stop::Truncated)? {
            byte @ (b'"' | b'\\' | b'/') => byte,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let first = self.hex()?;
                let code = match first {
                    0xd800..0xdc00 => {
                        // Of a pair (RFC 8259, section 7). One alone is no character.
                        if self.word(b"\\u").is_err() {
                            return Err(RowFault::NotUtf8.into());
                        }
                        let second = self.hex()?;
                        if !(0xdc00..0xe000).contains(&second) {
                            return Err(RowFault::NotUtf8.into());
                        }
                        0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
                    }
                    code => code,
                };
                let character = char::from_u32(code).ok_or(RowFault::NotUtf8)?;
                self.unescaped.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(Stop::Damaged),
        };
        self.unescaped.push(byte);
        Ok(())
    }

    fn hex(&mut self) -> Result<u32, Stop> {
        (0..4).try_fold(0, |code, _| {
            let digit = char::from(self.next().ok_or(Stop::Truncated)?).to_digit(16);
            Ok(code << 4 | digit.ok_or(Stop::Damaged)?)
        })
    }

    /// A number: a long or a double where one of them holds it, else its digits.
    pub(super) fn number(&mut self) -> Result<Value<'a>, Stop> {
        let from = self.at;
        let negative = self.peek() == Some(b'-');
        self.at += usize::from(negative);
        let first = self.at;
        let mut magnitude = 0i64;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            magnitude = magnitude.wrapping_mul(10).wrapping_add(i64::from(digit - b'0'));
            self.at += 1;
        }
        let digits = self.at - first;
        if digits == 0 {
            return Err(self.stopped());
        }
        if digits > 1 && self.bytes[first] == b'0' {
            return Err(Stop::Damaged);
        }
        let whole = !matches!(self.peek(), Some(b'.' | b'e' | b'E'));
        if !whole {
            self.fraction()?;
        }
        let text = &self.bytes[from..self.at];
        // Digits, signs and letters of ASCII only.
        let read = std::str::from_utf8(text).map_err(|_| Stop::Damaged)?;
        Ok(match (whole, negative) {
            // So many digits have not wrapped.
            (true, false) if digits <= 18 => Value::Long(magnitude),
            (true, true) if digits <= 18 && magnitude > 0 => Value::Long(-magnitude),
            (true, true) if magnitude == 0 && digits == 1 => Value::Double(-0.0),
            (true, _) => read.parse().map_or(Value::Number(text), Value::Long),
            (false, _) => match read.parse::<f64>() {
                Ok(double) if double.is_finite() => Value::Double(double),
                _ => Value::Number(text),
            },
        })
    }

    /// `.5`, `e-7` or both.
    fn fraction(&mut self) -> Result<(), Stop> {
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Stop> {
        let from = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at > from { Ok(()) } else { Err(self.stopped()) }
    }

    fn stopped(&self) -> Stop {
        if self.peek().is_some() { Stop::Damaged } else { Stop::Truncated }
    }

    /// Appends an array or object as it stands, without the white space between its parts. It may nest `depth` deep, and `out` grow to
    /// `most` bytes.
    pub(super) fn copy(&mut self, limits: &Limits, depth: usize, most: usize, out: &mut Vec<u8>) -> Result<(), Stop> {
        let Some(inner) = depth.checked_sub(1) else {
            return Err(RowFault::TooDeep { max: limits.max_depth }.into());
        };
        let open = self.next();
        let close = if open == Some(b'{') { b'}' } else { b']' };
        out.push(if open == Some(b'{') { b'{' } else { b'[' });
        self.space();
        if self.peek() == Some(close) {
            self.at += 1;
            out.push(close);
            return Ok(());
        }
        let mut count = 0;
        loop {
            self.space();
            if close == b'}' {
                count += 1;
                if count > limits.max_keys {
                    let max = limits.max_keys;
                    return Err(RowFault::TooManyKeys { max }.into());
                }
                self.copy_string(out)?;
                self.space();
                self.expect(b':')?;
                out.push(b':');
                self.space();
            }
            match self.peek() {
                Some(b'{' | b'[') => self.copy(limits, inner, most, out)?,
                Some(b'"') => self.copy_string(out)?,
                _ => self.copy_scalar(out)?,
            }
            if out.len() > most {
                return Err(Stop::TooMuchText);
            }
            self.space();
            match self.next() {
                Some(b',') => out.push(b','),
                Some(byte) if byte == close => {
                    out.push(close);
                    return Ok(());
                }
                Some(_) => return Err(Stop::Damaged),
                None => return Err(Stop::Truncated),
            }
        }
    }

    fn copy_string(&mut self, out: &mut Vec<u8>) -> Result<(), Stop> {
        let from = self.at;
        self.string()?;
        let text = &self.bytes[from..self.at];
        if std::str::from_utf8(text).is_err() {
            return Err(RowFault::NotUtf8.into());
        }
        out.extend_from_slice(text);
        Ok(())
    }

    fn copy_scalar(&mut self, out: &mut Vec<u8>) -> Result<(), Stop> {
        let from = self.at;
        match self.peek() {
            Some(b't') => self.word(b"true")?,
            Some(b'f') => self.word(b"false")?,
            Some(b'n') => self.word(b"null")?,
            _ => {
                self.number()?;
            }
        }
        out.extend_from_slice(&self.bytes[from..self.at]);
        Ok(())
    }

    /// Passes over one value, however deep it nests. Whether it is JSON in all its parts is not looked at.
    pub(super) fn skip(&mut self) -> Result<(), Stop> {
        let mut depth = 0usize;
        loop {
            match self.peek().ok_or(Stop::Truncated)? {
                b'"' => self.skip_string()?,
                b'{' | b'[' => {
                    self.at += 1;
                    depth += 1;
                    continue;
                }
                b'}' | b']' if depth > 0 => {
                    self.at += 1;
                    depth -= 1;
                }
                b',' | b':' | b' ' | b'\t' | b'\r' | b'\n' if depth > 0 => {
                    self.at += 1;
                    continue;
                }
                b',' | b':' | b']' | b'}' => return Err(Stop::Damaged),
                _ => self.skip_word(),
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    fn skip_string(&mut self) -> Result<(), Stop> {
        self.at += 1;
        loop {
            self.at += plain(&self.bytes[self.at..self.end]);
            match self.next().ok_or(Stop::Truncated)? {
                b'"' => return Ok(()),
                b'\\' => {
                    self.next();
                }
                _ => {}
            }
        }
    }

    fn skip_word(&mut self) {
        while let Some(byte) = self.peek()
            && !matches!(byte, b',' | b':' | b'"' | b'{' | b'[' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n')
        {
            self.at += 1;
        }
    }
}

/// How many bytes come before the first that ends a string or is written in another way inside one: quote, backslash, control.
#[inline]
fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    // The high bit of each byte that is zero; perhaps also of one above such a byte, which does not move the first.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let (words, rest) = bytes.as_chunks::<8>();
    for (number, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let quotes = zeros(word ^ (ONES * u64::from(b'"')));
        let backslashes = zeros(word ^ (ONES * u64::from(b'\\')));
        let controls = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let found = quotes | backslashes | controls;
        if found != 0 {
            return number * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    words.len() * 8 + rest.iter().position(special).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_first_special_byte_is_found_wherever_it_stands(bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0x20u8..0xff, Just(b'x')], 0..40)) {
            let slow = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)).unwrap_or(bytes.len());
            prop_assert_eq!(plain(&bytes), slow);
        }
    }

    #[test]
    fn a_value_is_passed_over_to_its_end() {
        let check = |text: &str, rest: &str| {
            let mut scanner = Scanner::new(text.as_bytes(), 0);
            scanner.skip().unwrap();
            assert_eq!(&text[scanner.at..], rest);
        };
        check(r#"{"a":[1,{"b":"}]\""}]} x"#, " x");
        check("12.5e7,3", ",3");
        check("\"a,b\"]", "]");
        check("null\n", "\n");
        check(&format!("{}{} ", "[".repeat(100_000), "]".repeat(100_000)), " ");
        for broken in ["", "[", "\"a", "{\"a\":", ",", "]", "\"\\"] {
            assert!(Scanner::new(broken.as_bytes(), 0).skip().is_err(), "{broken}");
        }
    }
}
