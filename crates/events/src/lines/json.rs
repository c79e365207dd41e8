//! A row as a JSON array or object.

use super::NESTING;
use crate::msgpack::{Fault, Reader, push_json};
use crate::text::push_json_string;

/// What stands before each value of an object: its brace or comma, its key and the colon.
pub(super) fn keys(columns: &[String]) -> Vec<Vec<u8>> {
    let key = |(at, name): (usize, &String)| {
        let mut key = vec![if at == 0 { b'{' } else { b',' }];
        push_json_string(&mut key, name);
        key.push(b':');
        key
    };
    columns.iter().enumerate().map(key).collect()
}

/// The line of column names.
pub(super) fn names(columns: &[String], out: &mut Vec<u8>) {
    out.push(b'[');
    for (at, name) in columns.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        push_json_string(out, name);
    }
    out.extend_from_slice(b"]\n");
}

pub(super) fn array(reader: &mut Reader<'_>, count: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
    out.push(b'[');
    for at in 0..count {
        if at > 0 {
            out.push(b',');
        }
        let token = reader.token()?;
        push_json(reader, token, NESTING, out)?;
    }
    out.push(b']');
    Ok(())
}

pub(super) fn object(reader: &mut Reader<'_>, keys: &[Vec<u8>], out: &mut Vec<u8>) -> Result<(), Fault> {
    for key in keys {
        out.extend_from_slice(key);
        let token = reader.token()?;
        push_json(reader, token, NESTING, out)?;
    }
    out.extend_from_slice(if keys.is_empty() { b"{}" } else { b"}" });
    Ok(())
}
