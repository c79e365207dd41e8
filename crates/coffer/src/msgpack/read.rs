//! Reading msgpack that nobody has checked: no panic, no memory on the word of a length, no endless depth.

use serde_json::{Map, Number, Value};

/// Why bytes are no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// They end inside of it.
    Short,
    /// They are no msgpack.
    Damaged,
}

/// The beginning of a value: its kind and what it says of its size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Head {
    Nil,
    Bool(bool),
    Long(i64),
    /// Above the largest long.
    Big(u64),
    Double(f64),
    Text(usize),
    Binary(usize),
    /// Type, and bytes that follow.
    Ext(i8, usize),
    Array(usize),
    Map(usize),
}

/// Deeper values are taken for damage.
const MAX_DEPTH: usize = 128;

/// The head of the value that begins here, and how many bytes it takes.
pub(crate) fn head(bytes: &[u8]) -> Result<(Head, usize), Broken> {
    let lead = *bytes.first().ok_or(Broken::Short)?;
    let number = |size: usize| {
        let bytes = bytes.get(1..=size).ok_or(Broken::Short)?;
        Ok(bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte)))
    };
    // Lengths have 32 bits at most.
    let length = |size| number(size).map(|length| length as usize);
    let ext = |size: usize, length: usize| {
        let kind = bytes.get(1 + size).ok_or(Broken::Short)?;
        Ok((Head::Ext(kind.cast_signed(), length), 2 + size))
    };
    Ok(match lead {
        0..=0x7f => (Head::Long(i64::from(lead)), 1),
        0x80..=0x8f => (Head::Map(usize::from(lead & 15)), 1),
        0x90..=0x9f => (Head::Array(usize::from(lead & 15)), 1),
        0xa0..=0xbf => (Head::Text(usize::from(lead & 31)), 1),
        0xc0 => (Head::Nil, 1),
        0xc1 => return Err(Broken::Damaged),
        0xc2 | 0xc3 => (Head::Bool(lead == 0xc3), 1),
        0xc4..=0xc6 => {
            let size = 1 << (lead - 0xc4);
            (Head::Binary(length(size)?), 1 + size)
        }
        0xc7..=0xc9 => {
            let size = 1 << (lead - 0xc7);
            ext(size, length(size)?)?
        }
        0xca => (Head::Double(f64::from(f32::from_bits(number(4)? as u32))), 5),
        0xcb => (Head::Double(f64::from_bits(number(8)?)), 9),
        0xcc..=0xcf => {
            let size = 1 << (lead - 0xcc);
            let number = number(size)?;
            (i64::try_from(number).map_or(Head::Big(number), Head::Long), 1 + size)
        }
        0xd0..=0xd3 => {
            let size = 1 << (lead - 0xd0);
            let unused = 64 - 8 * size as u32;
            (Head::Long((number(size)? << unused).cast_signed() >> unused), 1 + size)
        }
        0xd4..=0xd8 => ext(0, 1 << (lead - 0xd4))?,
        0xd9..=0xdb => {
            let size = 1 << (lead - 0xd9);
            (Head::Text(length(size)?), 1 + size)
        }
        0xdc | 0xdd => {
            let size = 2 << (lead - 0xdc);
            (Head::Array(length(size)?), 1 + size)
        }
        0xde | 0xdf => {
            let size = 2 << (lead - 0xde);
            (Head::Map(length(size)?), 1 + size)
        }
        0xe0..=0xff => (Head::Long(i64::from(lead.cast_signed())), 1),
    })
}

/// How many bytes the value takes that begins here, with all that is nested in it.
pub(crate) fn skip(bytes: &[u8]) -> Result<usize, Broken> {
    let (mut at, mut values) = (0_usize, 1_u64);
    while values > 0 {
        values -= 1;
        let (head, taken) = head(bytes.get(at..).ok_or(Broken::Short)?)?;
        at += taken;
        match head {
            Head::Text(length) | Head::Binary(length) | Head::Ext(_, length) => at += length,
            Head::Array(count) => values += count as u64,
            Head::Map(count) => values += 2 * count as u64,
            _ => {}
        }
    }
    if at <= bytes.len() { Ok(at) } else { Err(Broken::Short) }
}

/// The value that begins here, as JSON, and how many bytes it takes. Bytes that are no text become `base64:…`; what is not a number, its name.
pub(crate) fn value(bytes: &[u8]) -> Result<(Value, usize), Broken> {
    let mut at = 0;
    let value = nested(bytes, &mut at, MAX_DEPTH)?;
    Ok((value, at))
}

fn nested(bytes: &[u8], at: &mut usize, depth: usize) -> Result<Value, Broken> {
    let depth = depth.checked_sub(1).ok_or(Broken::Damaged)?;
    let (head, taken) = head(bytes.get(*at..).ok_or(Broken::Short)?)?;
    *at += taken;
    let mut take = |length: usize| {
        let taken = bytes.get(*at..at.saturating_add(length)).ok_or(Broken::Short)?;
        *at += length;
        Ok(taken)
    };
    Ok(match head {
        Head::Nil => Value::Null,
        Head::Bool(flag) => Value::Bool(flag),
        Head::Long(number) => Value::from(number),
        Head::Big(number) => Value::from(number),
        Head::Double(number) => Number::from_f64(number).map_or_else(|| events::double_text(number).into(), Value::Number),
        Head::Text(length) | Head::Binary(length) => readable(take(length)?).into(),
        Head::Ext(kind, length) => {
            let data = base64(take(length)?);
            Value::Object(Map::from_iter([("ext".to_owned(), kind.into()), ("data".to_owned(), data.into())]))
        }
        Head::Array(count) => {
            // Not by `with_capacity`: a count may lie.
            let mut items = Vec::new();
            for _ in 0..count {
                items.push(nested(bytes, at, depth)?);
            }
            Value::Array(items)
        }
        Head::Map(count) => {
            let mut pairs = Map::new();
            for _ in 0..count {
                let key = match nested(bytes, at, depth)? {
                    Value::String(key) => key,
                    other => other.to_string(),
                };
                pairs.insert(key, nested(bytes, at, depth)?);
            }
            Value::Object(pairs)
        }
    })
}

fn readable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => format!("base64:{}", base64(bytes)),
    }
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or_default());
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            out.push(if digit > three.len() {
                '='
            } else {
                char::from(ALPHABET[(word >> (18 - 6 * digit)) as usize & 63])
            });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_of_value_is_read() {
        let check = |hex: &str, expected: Value| {
            let bytes = hex::decode(hex).unwrap();
            assert_eq!(value(&bytes), Ok((expected, bytes.len())), "{hex}");
            assert_eq!(skip(&bytes), Ok(bytes.len()), "{hex}");
        };
        check("cc80", json!(128));
        check("cd0100", json!(256));
        check("ce00010000", json!(65_536));
        check("d080", json!(-128));
        check("d1ff00", json!(-256));
        check("d2ffff0000", json!(-65_536));
        check("e0", json!(-32));
        check("ca3fc00000", json!(1.5));
        check("cb7ff8000000000000", json!("NaN"));
        check("c403666f6f", json!("foo"));
        check("c402ff00", json!("base64:/wA="));
        check("c50001ff", json!("base64:/w=="));
        check("d6ff00000001", json!({"ext": -1, "data": "AAAAAQ=="}));
        check("c70305010203", json!({"ext": 5, "data": "AQID"}));
        check("8201a16102a162", json!({"1": "a", "2": "b"}));
        check("dc000191c0", json!([[null]]));
        check("df00000001a16bc3", json!({"k": true}));
    }

    #[test]
    fn lies_and_depth_are_refused() {
        assert_eq!(skip(&[0xdd, 0xff, 0xff, 0xff, 0xff]), Err(Broken::Short));
        assert_eq!(value(&[0xdf, 0xff, 0xff, 0xff, 0xff]), Err(Broken::Short));
        assert_eq!(value(&[0xc1]), Err(Broken::Damaged));
        assert_eq!(skip(&[0x91, 0xc1]), Err(Broken::Damaged));
        assert_eq!(value(&vec![0x91; 1_000_000]), Err(Broken::Damaged));
        assert_eq!(skip(&vec![0x91; 1_000_000]), Err(Broken::Short));
        assert_eq!(value(&[]), Err(Broken::Short));
    }
}
