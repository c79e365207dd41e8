//! msgpack values one after the other.

use super::{Damage, Found, Framing};
use crate::msgpack::read::{Broken, skip};

/// Each value is a row, whether it is a map or not.
#[derive(Debug)]
pub(in super::super) struct Packed;

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
