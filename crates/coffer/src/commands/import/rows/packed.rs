//! msgpack, which goes on as it is unless its times must be read.

use super::super::time::TimeRule;
use crate::msgpack;
use crate::msgpack::read::{Head, head, skip};

/// Appends the row. What is no map goes on as it is: the server says what it thinks of it.
pub(super) fn encode(row: &[u8], time: Option<&TimeRule>, out: &mut Vec<u8>) -> Option<()> {
    let as_it_is = |out: &mut Vec<u8>| {
        out.extend_from_slice(row);
        Some(())
    };
    let (Some(rule), Some(pairs)) = (time, Pairs::of(row)) else {
        return as_it_is(out);
    };
    let concerned = |key: &[u8]| key == rule.column.as_bytes() || key == events::TIME.as_bytes();
    if !Pairs::of(row).into_iter().flatten().any(|(key, ..)| concerned(key)) {
        return as_it_is(out);
    }
    let at = msgpack::later(out);
    let mut count = 0;
    for (key, value, pair) in pairs {
        if key == rule.column.as_bytes() {
            match seconds(rule, value)? {
                Some(seconds) => {
                    msgpack::text(events::TIME.as_bytes(), out);
                    msgpack::long(seconds, out);
                    count += 1;
                }
                None if rule.replaces() => continue,
                None => {}
            }
            if rule.replaces() {
                continue;
            }
        } else if key == events::TIME.as_bytes() {
            // Two times, and nobody to say which one counts.
            return None;
        }
        out.extend_from_slice(pair);
        count += 1;
    }
    msgpack::fill(at, true, count, out);
    Some(())
}

/// `Some(None)` where there is no time.
fn seconds(rule: &TimeRule, value: &[u8]) -> Option<Option<i64>> {
    if let Some(seconds) = of_timestamp(value) {
        return Some(Some(seconds));
    }
    match readable(value)? {
        Some(text) => rule.seconds(&text).map(Some),
        None => Some(None),
    }
}

/// A value as the text that a time is read from; `Some(None)` for nothing.
fn readable(value: &[u8]) -> Option<Option<String>> {
    let (kind, taken) = head(value).ok()?;
    Some(Some(match kind {
        Head::Nil => return Some(None),
        Head::Long(number) => number.to_string(),
        Head::Double(number) if number.is_finite() => number.to_string(),
        Head::Text(_) | Head::Binary(_) => match std::str::from_utf8(&value[taken..]).ok()? {
            "" => return Some(None),
            text => text.to_owned(),
        },
        _ => return None,
    }))
}

/// msgpack's own timestamp.
fn of_timestamp(value: &[u8]) -> Option<i64> {
    let (Head::Ext(-1, _), taken) = head(value).ok()? else {
        return None;
    };
    match &value[taken..] {
        [a, b, c, d] => Some(i64::from(u32::from_be_bytes([*a, *b, *c, *d]))),
        bytes @ [_, _, _, _, _, _, _, _] => {
            let word = bytes.iter().fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
            Some((word & ((1 << 34) - 1)).cast_signed())
        }
        [_, _, _, _, seconds @ ..] => seconds.try_into().ok().map(i64::from_be_bytes),
        _ => None,
    }
}

/// Shows the time of a row.
pub(super) fn look_at(column: &str, row: &[u8], see: &mut dyn FnMut(&str)) {
    for (key, value, _) in Pairs::of(row).into_iter().flatten() {
        if key == column.as_bytes()
            && of_timestamp(value).is_none()
            && let Some(text) = readable(value).unwrap_or_else(|| Some(String::from("?")))
        {
            see(&text);
        }
    }
}

/// The pairs of a map whose bytes are all there.
struct Pairs<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Pairs<'a> {
    fn of(row: &'a [u8]) -> Option<Self> {
        match head(row).ok()? {
            (Head::Map(left), taken) => Some(Self { rest: &row[taken..], left }),
            _ => None,
        }
    }
}

impl<'a> Iterator for Pairs<'a> {
    /// The key's text (nothing for a key that is none), the value, and both together.
    type Item = (&'a [u8], &'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let key = skip(self.rest).ok()?;
        let value = skip(self.rest.get(key..)?).ok()?;
        let (pair, rest) = self.rest.split_at_checked(key + value)?;
        self.rest = rest;
        let name = match head(pair) {
            Ok((Head::Text(_) | Head::Binary(_), taken)) => &pair[taken..key],
            _ => b"",
        };
        Some((name, &pair[key..], pair))
    }
}
