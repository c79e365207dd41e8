//! msgpack, as far as events need it. Reading is in [`read`].

pub(crate) mod read;

/// The head of a map of `count` pairs.
pub(crate) fn map(count: usize, out: &mut Vec<u8>) {
    head(count, 0x80, 0xde, out);
}

/// The head of an array of `count` values.
pub(crate) fn array(count: usize, out: &mut Vec<u8>) {
    head(count, 0x90, 0xdc, out);
}

/// A text. Bytes that are no UTF-8 are carried all the same.
pub(crate) fn text(bytes: &[u8], out: &mut Vec<u8>) {
    let length = bytes.len();
    if length < 32 {
        out.push(0xa0 | length as u8);
    } else if let Ok(length) = u8::try_from(length) {
        out.extend([0xd9, length]);
    } else if let Ok(length) = u16::try_from(length) {
        out.push(0xda);
        out.extend(length.to_be_bytes());
    } else {
        out.push(0xdb);
        out.extend((length as u32).to_be_bytes());
    }
    out.extend_from_slice(bytes);
}

/// Bytes that are not meant to be text.
pub(crate) fn binary(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(0xc6);
    out.extend((bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// An integer.
pub(crate) fn long(value: i64, out: &mut Vec<u8>) {
    if (0..0x80).contains(&value) {
        out.push(value as u8);
    } else {
        out.push(0xd3);
        out.extend(value.to_be_bytes());
    }
}

/// An integer that may be above the largest long.
pub(crate) fn unsigned(value: u64, out: &mut Vec<u8>) {
    match i64::try_from(value) {
        Ok(value) => long(value, out),
        Err(_) => {
            out.push(0xcf);
            out.extend(value.to_be_bytes());
        }
    }
}

/// A floating point number.
pub(crate) fn double(value: f64, out: &mut Vec<u8>) {
    out.push(0xcb);
    out.extend(value.to_be_bytes());
}

/// True or false.
pub(crate) fn boolean(value: bool, out: &mut Vec<u8>) {
    out.push(0xc2 + u8::from(value));
}

/// Nothing.
pub(crate) fn nil(out: &mut Vec<u8>) {
    out.push(0xc0);
}

/// Leaves room for the head of a map or an array whose size is not known yet; [`fill`] writes it.
pub(crate) fn later(out: &mut Vec<u8>) -> usize {
    out.extend([0; 5]);
    out.len() - 5
}

/// Writes the head for which [`later`] left room at `at`.
pub(crate) fn fill(at: usize, is_map: bool, count: usize, out: &mut [u8]) {
    out[at] = if is_map { 0xdf } else { 0xdd };
    out[at + 1..at + 5].copy_from_slice(&(count as u32).to_be_bytes());
}

fn head(count: usize, short: u8, long: u8, out: &mut Vec<u8>) {
    match u16::try_from(count) {
        Ok(few @ 0..=15) => out.push(short | few as u8),
        Ok(many) => {
            out.push(long);
            out.extend(many.to_be_bytes());
        }
        Err(_) => {
            out.push(long + 1);
            out.extend((count as u32).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::read::{Broken, skip, value};
    use super::*;

    fn pack(from: &Value, out: &mut Vec<u8>) {
        match from {
            Value::Null => nil(out),
            Value::Bool(flag) => boolean(*flag, out),
            Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(signed), ..) => long(signed, out),
                (None, Some(big), _) => unsigned(big, out),
                (.., real) => double(real.unwrap_or_default(), out),
            },
            Value::String(words) => text(words.as_bytes(), out),
            Value::Array(items) => {
                array(items.len(), out);
                items.iter().for_each(|item| pack(item, out));
            }
            Value::Object(pairs) => {
                let at = later(out);
                for (key, value) in pairs {
                    text(key.as_bytes(), out);
                    pack(value, out);
                }
                fill(at, true, pairs.len(), out);
            }
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let words = "ä".repeat(40_000);
        for kept in [
            json!(null),
            json!([true, false, 0, 127, 128, -1, i64::MIN, u64::MAX, 1.5, -0.0, 1e300]),
            json!({"a": {"b": [[], {}, "x"]}, "": "y".repeat(31), "c": "z".repeat(32), "d": "z".repeat(256), "e": words}),
            Value::from((0..20).collect::<Vec<i32>>()),
            Value::from(vec![1; 70_000]),
        ] {
            let mut out = Vec::new();
            pack(&kept, &mut out);
            assert_eq!(value(&out), Ok((kept, out.len())));
            assert_eq!(skip(&out), Ok(out.len()));
            assert_eq!(skip(&out[..out.len() - 1]), Err(Broken::Short));
        }
    }

    #[test]
    fn bytes_are_those_of_the_format() {
        let mut out = Vec::new();
        map(1, &mut out);
        text(b"n", &mut out);
        long(-2, &mut out);
        array(16, &mut out);
        unsigned(1 << 63, &mut out);
        binary(b"\xff", &mut out);
        assert_eq!(hex::encode(out), "81a16ed3fffffffffffffffedc0010cf8000000000000000c600000001ff");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let skipped = skip(&bytes);
            if let Ok((_, length)) = value(&bytes) {
                prop_assert_eq!(skipped, Ok(length));
            }
        }
    }
}
