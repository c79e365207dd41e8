//! JSON to msgpack in one pass, every number as it stands.
//!
//! Promise: integers of 64 bits stay integers and longer ones become text; a number with a point or an exponent becomes a double when
//! nothing of it is lost in that and text when not. Nested values stay nested, keys keep their order.
//! What is not one whole JSON object is refused; no input is a panic or goes deeper than [`MAX_DEPTH`].

use std::borrow::Cow;

use memchr::memchr2;

use super::super::time::TimeRule;
use crate::msgpack;

/// Deeper objects are refused. Servers take far shallower ones.
const MAX_DEPTH: usize = 128;
/// As many significant digits as a double tells apart.
const DIGITS: usize = 17;

/// Appends an object as a map.
pub(super) fn encode(row: &[u8], time: Option<&TimeRule>, out: &mut Vec<u8>) -> Option<()> {
    let mut parser = Parser {
        text: std::str::from_utf8(row).ok()?,
        at: 0,
    };
    parser.white();
    if parser.peek()? != b'{' {
        return None;
    }
    let at = msgpack::later(out);
    let mut pairs = 0;
    parser.members(|parser, key| {
        let begin = out.len();
        let (rule, is_time) = (time.filter(|rule| rule.column == key), key == events::TIME);
        // Two times, and nobody to say which one counts.
        if is_time && time.is_some() && rule.is_none() {
            return None;
        }
        msgpack::text(key.as_bytes(), out);
        let from = parser.at;
        parser.value(MAX_DEPTH, out)?;
        pairs += 1;
        let Some(rule) = rule else { return Some(()) };
        let seconds = match time_text(&parser.text[from..parser.at])? {
            Some(text) => Some(rule.seconds(&text)?),
            None => None,
        };
        if rule.replaces() {
            out.truncate(begin);
            pairs -= 1;
        }
        if let Some(seconds) = seconds {
            msgpack::text(events::TIME.as_bytes(), out);
            msgpack::long(seconds, out);
            pairs += 1;
        }
        Some(())
    })?;
    parser.white();
    if parser.at != parser.text.len() {
        return None;
    }
    msgpack::fill(at, true, pairs, out);
    Some(())
}

/// Shows the time of a row.
pub(super) fn look_at(column: &str, row: &[u8], see: &mut dyn FnMut(&str)) {
    let Ok(text) = std::str::from_utf8(row) else { return };
    let mut parser = Parser { text, at: 0 };
    let mut unused = Vec::new();
    parser.white();
    if parser.peek() != Some(b'{') {
        return;
    }
    // What cannot be read to its end is counted as such when it is sent.
    let _whole = parser.members(|parser, key| {
        let from = parser.at;
        unused.clear();
        parser.value(MAX_DEPTH, &mut unused)?;
        if key == column
            && let Some(text) = time_text(&parser.text[from..parser.at]).unwrap_or(Some(Cow::Borrowed("?")))
        {
            see(&text);
        }
        Some(())
    });
}

/// The text of a time from its JSON; `Some(None)` for nothing, `None` for what cannot be a time.
fn time_text(json: &str) -> Option<Option<Cow<'_, str>>> {
    match json.as_bytes().first()? {
        b'"' => {
            let mut parser = Parser { text: json, at: 0 };
            let text = parser.text()?;
            Some(if text.is_empty() { None } else { Some(text) })
        }
        b'n' => Some(None),
        b'-' | b'0'..=b'9' => Some(Some(Cow::Borrowed(json))),
        _ => None,
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn white(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek() == Some(byte)).then(|| self.at += 1)
    }

    fn word(&mut self, word: &str) -> Option<()> {
        self.text[self.at..].starts_with(word).then(|| self.at += word.len())
    }

    /// The members of an object, each given to `member` in front of its value.
    fn members(&mut self, mut member: impl FnMut(&mut Self, &str) -> Option<()>) -> Option<()> {
        self.take(b'{')?;
        self.white();
        if self.take(b'}').is_some() {
            return Some(());
        }
        loop {
            self.white();
            let key = self.text()?;
            self.white();
            self.take(b':')?;
            self.white();
            member(self, &key)?;
            self.white();
            if self.take(b'}').is_some() {
                return Some(());
            }
            self.take(b',')?;
        }
    }

    fn value(&mut self, depth: usize, out: &mut Vec<u8>) -> Option<()> {
        match self.peek()? {
            b'{' => {
                let depth = depth.checked_sub(1)?;
                let at = msgpack::later(out);
                let mut pairs = 0;
                self.members(|parser, key| {
                    pairs += 1;
                    msgpack::text(key.as_bytes(), out);
                    parser.value(depth, out)
                })?;
                msgpack::fill(at, true, pairs, out);
                Some(())
            }
            b'[' => self.array(depth.checked_sub(1)?, out),
            b'"' => {
                let text = self.text()?;
                msgpack::text(text.as_bytes(), out);
                Some(())
            }
            b't' => self.word("true").map(|()| msgpack::boolean(true, out)),
            b'f' => self.word("false").map(|()| msgpack::boolean(false, out)),
            b'n' => self.word("null").map(|()| msgpack::nil(out)),
            _ => self.number(out),
        }
    }

    fn array(&mut self, depth: usize, out: &mut Vec<u8>) -> Option<()> {
        self.take(b'[')?;
        let at = msgpack::later(out);
        let mut items = 0;
        self.white();
        if self.take(b']').is_none() {
            loop {
                self.white();
                self.value(depth, out)?;
                items += 1;
                self.white();
                if self.take(b']').is_some() {
                    break;
                }
                self.take(b',')?;
            }
        }
        msgpack::fill(at, false, items, out);
        Some(())
    }

    fn text(&mut self) -> Option<Cow<'a, str>> {
        self.take(b'"')?;
        let mut whole: Option<String> = None;
        loop {
            let rest = &self.text[self.at..];
            let found = memchr2(b'"', b'\\', rest.as_bytes())?;
            let plain = &rest[..found];
            if plain.bytes().any(|byte| byte < 0x20) {
                return None;
            }
            self.at += found + 1;
            if rest.as_bytes()[found] == b'"' {
                return Some(match whole {
                    None => Cow::Borrowed(plain),
                    Some(text) => Cow::Owned(text + plain),
                });
            }
            let escaped = self.escape()?;
            let text = whole.get_or_insert_default();
            text.push_str(plain);
            text.push(escaped);
        }
    }

    /// What stands behind a backslash.
    fn escape(&mut self) -> Option<char> {
        let byte = self.peek()?;
        self.at += 1;
        Some(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hex()?;
                if !(0xd800..0xdc00).contains(&first) {
                    return char::from_u32(first);
                }
                self.word("\\u")?;
                let second = self.hex()?.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
                return char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + second);
            }
            _ => return None,
        })
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        self.at += 4;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        u32::from_str_radix(digits, 16).ok()
    }

    fn number(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let from = self.at;
        let _minus = self.take(b'-');
        let first = self.at;
        self.digits()?;
        if self.at - first > 1 && self.text.as_bytes()[first] == b'0' {
            return None;
        }
        let mut whole = true;
        if self.take(b'.').is_some() {
            whole = false;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            whole = false;
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        put_number(&self.text[from..self.at], whole, out);
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let from = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        (self.at > from).then_some(())
    }
}

fn put_number(text: &str, whole: bool, out: &mut Vec<u8>) {
    if whole && text != "-0" {
        if let Ok(long) = text.parse() {
            msgpack::long(long, out);
        } else if let Ok(big) = text.parse() {
            msgpack::unsigned(big, out);
        } else {
            msgpack::text(text.as_bytes(), out);
        }
        return;
    }
    match text.parse() {
        Ok(double) if names(text, double) => msgpack::double(double, out),
        _ => msgpack::text(text.as_bytes(), out),
    }
}

/// Whether nothing of a decimal is lost in this double: it is the double's shortest text, or what the double rounds to at as many digits.
fn names(text: &str, double: f64) -> bool {
    /// So many digits every double holds, unless it is close to nothing.
    const ALWAYS: usize = 15;
    const CLOSE_TO_NOTHING: f64 = 1e-290;
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_matches('0');
    if digits.is_empty() || !double.is_finite() || double == 0.0 || digits.len() > DIGITS {
        return digits.is_empty();
    }
    if digits.len() <= ALWAYS && double.abs() > CLOSE_TO_NOTHING {
        return true;
    }
    let same = |written: String| {
        let written: String = written.chars().take_while(|c| *c != 'e').filter(char::is_ascii_digit).collect();
        written.trim_matches('0') == digits
    };
    same(format!("{double:e}")) || same(format!("{double:.*e}", digits.len() - 1))
}
