//! Values as text. The text of a number does not depend on which type held it on the way: 5 and 5.0 are both `5`.

use std::io::Write;

/// `true` or `false`.
pub const fn bool_text(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

/// The shortest text that reads back as the same double; whole numbers without a fraction, so that a long that
/// passed through a double column has the same text as one that did not.
pub fn double_text(value: f64) -> String {
    let mut text = Vec::with_capacity(24);
    push_double(&mut text, value);
    String::from_utf8(text).expect("numbers are written in ASCII")
}

/// Appends [`double_text`].
pub(crate) fn push_double(out: &mut Vec<u8>, value: f64) {
    if value.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"Infinity".as_slice() } else { b"-Infinity" });
    } else {
        let mut buffer = ryu::Buffer::new();
        let text = buffer.format_finite(value);
        out.extend_from_slice(text.strip_suffix(".0").unwrap_or(text).as_bytes());
    }
}

/// Appends an integer in decimal.
pub(crate) fn push_integer(out: &mut Vec<u8>, value: impl Into<i128>) {
    // Longs are nearly all there is; i128 formatting is several times slower.
    let value = value.into();
    let written = match i64::try_from(value) {
        Ok(long) => write!(out, "{long}"),
        Err(_) => write!(out, "{value}"),
    };
    written.expect("writing to memory does not fail");
}

/// What stands before the base64 of bytes that are not text.
pub(crate) const BASE64_PREFIX: &[u8] = b"base64:";

/// Appends bytes in standard base64 with padding.
pub(crate) fn push_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .enumerate()
            .fold(0u32, |word, (i, b)| word | u32::from(*b) << (16 - 8 * i));
        for i in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * i)) as usize & 63];
            out.push(if i <= chunk.len() { digit } else { b'=' });
        }
    }
}

/// Appends a JSON string with its quotes.
pub(crate) fn push_json_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut from = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..0x20 => &[],
            _ => continue,
        };
        out.extend_from_slice(&bytes[from..at]);
        if escape.is_empty() {
            write!(out, "\\u{byte:04x}").expect("writing to memory does not fail");
        } else {
            out.extend_from_slice(escape);
        }
        from = at + 1;
    }
    out.extend_from_slice(&bytes[from..]);
    out.push(b'"');
}

/// Appends a double as JSON. JSON has no word for what is not a number: those become strings.
pub(crate) fn push_json_double(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
    } else {
        out.push(b'"');
        push_double(out, value);
        out.push(b'"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_these_texts() {
        let check = |value: f64, text: &str| assert_eq!(double_text(value), text);
        check(0.0, "0");
        check(-0.0, "-0");
        check(5.0, "5");
        check(-1.5, "-1.5");
        check(0.1, "0.1");
        check(0.1 + 0.2, "0.30000000000000004");
        check(f64::from(0.1f32), "0.10000000149011612");
        check(9_007_199_254_740_992.0, "9007199254740992");
        check(1e15, "1000000000000000");
        check(1e16, "1e16");
        check(1.5e300, "1.5e300");
        check(5e-324, "5e-324");
        check(1e-7, "1e-7");
        check(f64::MAX, "1.7976931348623157e308");
        check(f64::NAN, "NaN");
        check(f64::INFINITY, "Infinity");
        check(f64::NEG_INFINITY, "-Infinity");
        assert_eq!((bool_text(true), bool_text(false)), ("true", "false"));
    }

    #[test]
    fn base64_is_the_usual_one() {
        let check = |bytes: &[u8], text: &str| {
            let mut out = Vec::new();
            push_base64(&mut out, bytes);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        };
        check(b"", "");
        check(b"f", "Zg==");
        check(b"fo", "Zm8=");
        check(b"foo", "Zm9v");
        check(b"foobar", "Zm9vYmFy");
        check(&[0xff, 0xfe, 0xfd], "//79");
    }

    #[test]
    fn json_strings_read_back() {
        for text in ["", "plain", "\"\\\n\r\t\u{8}\u{0}\u{1f}", "Grüße 🎉", "a\u{7f}b"] {
            let mut out = Vec::new();
            push_json_string(&mut out, text);
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }
}
