//! Where rows begin and end in the bytes of a file: text as [`events::frames`] finds them, and msgpack.
//!
//! Does not know what a row means.

pub(super) use events::frames::{CsvRows, Damage, Found, Framing, Lines, MAX_ROW, Values, fields};

use crate::msgpack::read::{Broken, skip};

/// msgpack values one after the other: each is a row, whether it is a map or not.
#[derive(Debug)]
pub(super) struct Packed;

impl Framing for Packed {
    fn next(&mut self, bytes: &[u8], ended: bool) -> Result<Found, Damage> {
        match skip(bytes) {
            Ok(end) => Ok(Found::Row {
                from: 0,
                to: end,
                end,
                sound: true,
            }),
            Err(Broken::Short) if !ended => Ok(Found::More),
            Err(Broken::Short) => Err(Damage("it ends inside a value")),
            Err(Broken::Damaged) => Err(Damage("what stands there is no msgpack")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many rows are found when `step` more bytes are shown each time.
    fn found(bytes: &[u8], step: usize) -> Result<usize, Damage> {
        let (mut at, mut shown, mut rows) = (0, 0, 0);
        while at < bytes.len() {
            shown = (shown + step).min(bytes.len());
            while at < shown {
                match Packed.next(&bytes[at..shown], shown == bytes.len())? {
                    Found::Row { end, .. } => {
                        rows += 1;
                        at += end;
                    }
                    Found::Between(length) => at += length,
                    Found::More => break,
                }
            }
        }
        Ok(rows)
    }

    #[test]
    fn a_packed_value_is_a_row_and_damage_is_noticed() {
        let bytes = [0x81, 0xa1, b'a', 0x01, 0x93, 1, 2, 3, 0xa2, b'h', b'i'];
        for step in 1..bytes.len() {
            assert_eq!(found(&bytes, step), Ok(3));
        }
        assert!(found(&bytes[..bytes.len() - 1], 4).is_err());
        assert!(found(&[0x80, 0xc1], 1).is_err());
    }
}
