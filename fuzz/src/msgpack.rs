//! Rows in msgpack.
//!
//! Held: all values that were sent are stored, overflowing or set aside, counted by a reader of its own; what was set aside has left no
//! trace in the rest; and memory is bounded by what was sent.

use std::collections::HashMap;

use events::Syntax;

/// Takes any bytes as a body.
pub fn one(data: &[u8]) {
    for limits in crate::rows::limits() {
        let Ok(decoded) = crate::rows::decode(Syntax::Msgpack, data, &limits) else {
            continue;
        };
        let sent = values_of_rows(data).expect("a body that was taken is msgpack to its end");
        crate::rows::nothing_is_missing(&decoded, &sent);

        let mut rest = Vec::new();
        let mut at = 0;
        for rejected in &decoded.rejected {
            rest.extend_from_slice(&data[at..rejected.sent.start]);
            at = rejected.sent.end;
        }
        rest.extend_from_slice(&data[at..]);
        let again = crate::rows::decode(Syntax::Msgpack, &rest, &limits).expect("what is left was taken before");
        assert!(again.rejected.is_empty(), "what is left is rows");
        assert!(again.batch == decoded.batch, "what was set aside has left a trace");
    }
}

/// How many keys besides `time` have a value, for each value that stands in the body; `None` when it is not msgpack to its end.
fn values_of_rows(mut body: &[u8]) -> Option<Vec<usize>> {
    let mut rows = Vec::new();
    while !body.is_empty() {
        let (head, inner) = head(body)?;
        rows.push(match head {
            Head::Map(pairs) => {
                body = inner;
                let mut keys = HashMap::new();
                for _ in 0..pairs {
                    let (before, after) = (body, skip(body)?);
                    let name = text(&before[..before.len() - after.len()]);
                    let is_nil = after.first() == Some(&0xc0);
                    body = skip(after)?;
                    keys.insert(name, !is_nil);
                }
                keys.iter()
                    .filter(|(name, present)| name.as_deref() != Some(b"time") && **present)
                    .count()
            }
            _ => {
                body = skip(body)?;
                0
            }
        });
    }
    Some(rows)
}

/// What begins a value, as far as its size goes.
enum Head {
    /// So many bytes, and nothing within.
    Flat(usize),
    Array(usize),
    Map(usize),
}

/// The first head, and what stands behind its own bytes.
fn head(bytes: &[u8]) -> Option<(Head, &[u8])> {
    let (&lead, rest) = bytes.split_first()?;
    let sized = |width: usize| {
        let size = rest.get(..width)?.iter().fold(0, |size, byte| size << 8 | usize::from(*byte));
        Some((size, &rest[width..]))
    };
    Some(match lead {
        0xc1 => return None,
        0x80..=0x8f => (Head::Map(usize::from(lead & 15)), rest),
        0x90..=0x9f => (Head::Array(usize::from(lead & 15)), rest),
        0xa0..=0xbf => (Head::Flat(usize::from(lead & 31)), rest),
        0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => (Head::Flat(0), rest),
        0xc4..=0xc6 => sized(1 << (lead - 0xc4)).map(|(size, rest)| (Head::Flat(size), rest))?,
        0xc7..=0xc9 => sized(1 << (lead - 0xc7)).map(|(size, rest)| (Head::Flat(size + 1), rest))?,
        0xca | 0xce | 0xd2 => (Head::Flat(4), rest),
        0xcb | 0xcf | 0xd3 => (Head::Flat(8), rest),
        0xcc | 0xd0 => (Head::Flat(1), rest),
        0xcd | 0xd1 => (Head::Flat(2), rest),
        0xd4..=0xd8 => (Head::Flat(1 + (1 << (lead - 0xd4))), rest),
        0xd9..=0xdb => sized(1 << (lead - 0xd9)).map(|(size, rest)| (Head::Flat(size), rest))?,
        0xdc | 0xdd => sized(2 << (lead - 0xdc)).map(|(size, rest)| (Head::Array(size), rest))?,
        0xde | 0xdf => sized(2 << (lead - 0xde)).map(|(size, rest)| (Head::Map(size), rest))?,
    })
}

/// What stands behind the first value.
fn skip(mut bytes: &[u8]) -> Option<&[u8]> {
    let mut left = 1_usize;
    while left > 0 {
        left -= 1;
        let (head, rest) = head(bytes)?;
        bytes = match head {
            Head::Flat(size) => rest.get(size..)?,
            Head::Array(values) => {
                left += values;
                rest
            }
            Head::Map(pairs) => {
                left += 2 * pairs;
                rest
            }
        };
    }
    Some(bytes)
}

/// What a text or binary value says.
fn text(value: &[u8]) -> Option<Vec<u8>> {
    match (value.first()?, head(value)?) {
        (0xa0..=0xbf | 0xc4..=0xc6 | 0xd9..=0xdb, (Head::Flat(_), text)) => Some(text.to_vec()),
        _ => None,
    }
}
