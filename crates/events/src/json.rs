//! Query results from msgpack arrays to lines of JSON, for clients that ask for the `json` format.

use base::ErrorKind;

use crate::msgpack::{Fault, Nesting, Reader, Token, push_json};

/// How deep a result's values may nest. Deeper than anything that got in.
const MAX_DEPTH: usize = 128;

/// The stored rows are not what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("row {row} of the result is not a msgpack array")]
pub struct JsonError {
    row: usize,
}

impl JsonError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Corrupt
    }
}

/// Appends one JSON array and a line feed per complete row in `rows`, and says how many bytes of `rows` they took.
///
/// For streams: keep what is left over, append the next piece, call again. At the end nothing may be left.
pub fn arrays_to_json_lines(rows: &[u8], out: &mut Vec<u8>) -> Result<usize, JsonError> {
    let mut reader = Reader::new(rows);
    let allowed = Nesting {
        depth: MAX_DEPTH,
        keys: usize::MAX,
        out: usize::MAX,
    };
    let (mut done, mut row) = (0, 0);
    while !reader.is_at_end() {
        row += 1;
        let complete = out.len();
        let written = match reader.token() {
            Ok(token @ Token::Array(_)) => push_json(&mut reader, token, allowed, out),
            Ok(_) => Err(Fault::Reserved),
            Err(fault) => Err(fault),
        };
        match written {
            Ok(()) => out.push(b'\n'),
            Err(Fault::Truncated) => {
                out.truncate(complete);
                break;
            }
            Err(_) => return Err(JsonError { row }),
        }
        done = reader.at();
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_lines_however_they_are_cut() {
        // [1, "a\"b", null, 1.5, {"k": [true]}] and [NaN, bin ff]
        let rows = [
            &[
                0x95, 1, 0xa3, b'a', b'"', b'b', 0xc0, 0xca, 0x3f, 0xc0, 0, 0, 0x81, 0xa1, b'k', 0x91, 0xc3,
            ][..],
            &[0x92, 0xca, 0x7f, 0xc0, 0, 0, 0xc4, 1, 0xff],
        ]
        .concat();
        let lines = "[1,\"a\\\"b\",null,1.5,{\"k\":[true]}]\n[\"NaN\",\"base64:/w==\"]\n";

        for cut in 0..=rows.len() {
            let mut out = Vec::new();
            let done = arrays_to_json_lines(&rows[..cut], &mut out).unwrap();
            let rest = arrays_to_json_lines(&rows[done..], &mut out).unwrap();

            assert_eq!(done + rest, rows.len(), "cut at {cut}");
            assert_eq!(String::from_utf8(out).unwrap(), lines);
        }
    }

    #[test]
    fn what_is_not_an_array_is_refused() {
        let mut out = Vec::new();
        assert_eq!(arrays_to_json_lines(&[0x90, 0x80], &mut out), Err(JsonError { row: 2 }));
        assert_eq!(arrays_to_json_lines(&[0x91, 0xc1], &mut out), Err(JsonError { row: 1 }));
    }
}
