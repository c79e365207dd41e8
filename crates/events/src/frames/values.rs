//! JSON values in one array, or one after the other, over as many lines as they like.

use memchr::memchr2;

use super::{Damage, Found, Framing, mark};

/// Each value is a row, whether it is an object or not.
#[derive(Debug, Default)]
pub struct Values {
    place: Place,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    #[default]
    Start,
    /// Before anything but the mark.
    Marked,
    /// Between the brackets of the array that is the whole file.
    InArray,
    /// There is no such array.
    Bare,
    /// Behind it.
    Behind,
}

impl Framing for Values {
    fn next(&mut self, bytes: &[u8], ended: bool) -> Result<Found, Damage> {
        if self.place == Place::Start {
            let Some(length) = mark(bytes, ended) else { return Ok(Found::More) };
            self.place = Place::Marked;
            if length > 0 {
                return Ok(Found::Between(length));
            }
        }
        let gap = bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        if gap > 0 {
            return Ok(Found::Between(gap));
        }
        match (self.place, bytes[0]) {
            (Place::Marked, b'[') => {
                self.place = Place::InArray;
                return Ok(Found::Between(1));
            }
            (Place::Marked, _) => self.place = Place::Bare,
            (Place::InArray, b',') => return Ok(Found::Between(1)),
            (Place::InArray, b']') => {
                self.place = Place::Behind;
                return Ok(Found::Between(1));
            }
            (Place::Behind, _) => return Err(Damage("there is more behind the end of the array")),
            _ => {}
        }
        match end_of_value(bytes)? {
            Some(end) => Ok(Found::Row {
                from: 0,
                to: end,
                end,
                sound: true,
            }),
            None if !ended => Ok(Found::More),
            // A number or a word ends with the file.
            None if !matches!(bytes[0], b'{' | b'[' | b'"') => Ok(Found::Row {
                from: 0,
                to: bytes.len(),
                end: bytes.len(),
                sound: true,
            }),
            None => Err(Damage("it ends inside a value")),
        }
    }

    fn end(&self) -> Result<(), Damage> {
        match self.place {
            Place::InArray => Err(Damage("the array does not end")),
            _ => Ok(()),
        }
    }
}

/// Behind the value that begins here, when its end is there.
fn end_of_value(bytes: &[u8]) -> Result<Option<usize>, Damage> {
    match bytes[0] {
        b'{' | b'[' => {}
        b'"' => return Ok(end_of_text(bytes, 1)),
        b'}' | b']' | b',' | b':' => return Err(Damage("what stands there is no JSON")),
        _ => {
            let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b',' | b']' | b'}' | b'{' | b'[' | b'"');
            return Ok(bytes.iter().position(ends));
        }
    }
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Ok(Some(at));
                }
            }
            b'"' => match end_of_text(bytes, at) {
                Some(behind) => at = behind,
                None => return Ok(None),
            },
            _ => {}
        }
    }
    Ok(None)
}

fn end_of_text(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let found = memchr2(b'"', b'\\', bytes.get(at..)?)?;
        at += found + 1;
        if bytes[at - 1] == b'"' {
            return Some(at);
        }
        at += 1;
    }
}
