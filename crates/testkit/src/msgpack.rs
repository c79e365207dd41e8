//! Rows as td clients send them: concatenated msgpack maps in gzip. Written here once more on purpose: a test that packs with the
//! product's own code would not notice when both are wrong.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use serde_json::Value;

/// `rows` (JSON objects) as a body for import.
pub fn packed_rows(rows: &[Value]) -> Vec<u8> {
    let mut packed = Vec::new();
    for row in rows {
        pack(row, &mut packed);
    }
    gzip(&packed)
}

/// `plain` in gzip.
pub fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).expect("writing to memory does not fail");
    encoder.finish().expect("writing to memory does not fail")
}

fn pack(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(0xc0),
        Value::Bool(no_or_yes) => out.push(0xc2 + u8::from(*no_or_yes)),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(long), _) => {
                out.push(0xd3);
                out.extend(long.to_be_bytes());
            }
            (None, Some(long)) => {
                out.push(0xcf);
                out.extend(long.to_be_bytes());
            }
            (None, None) => {
                out.push(0xcb);
                out.extend(number.as_f64().unwrap_or(f64::NAN).to_be_bytes());
            }
        },
        Value::String(text) => pack_text(text, out),
        Value::Array(items) => {
            out.push(0xdd);
            out.extend(length(items.len()));
            items.iter().for_each(|item| pack(item, out));
        }
        Value::Object(entries) => {
            out.push(0xdf);
            out.extend(length(entries.len()));
            for (key, value) in entries {
                pack_text(key, out);
                pack(value, out);
            }
        }
    }
}

fn pack_text(text: &str, out: &mut Vec<u8>) {
    out.push(0xdb);
    out.extend(length(text.len()));
    out.extend(text.as_bytes());
}

fn length(of: usize) -> [u8; 4] {
    u32::try_from(of).expect("tests send less than 4 GiB").to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_packed_as_the_format_says() {
        let mut packed = Vec::new();
        pack(&serde_json::json!({"a": true}), &mut packed);
        assert_eq!(packed, [0xdf, 0, 0, 0, 1, 0xdb, 0, 0, 0, 1, b'a', 0xc3]);
    }
}
