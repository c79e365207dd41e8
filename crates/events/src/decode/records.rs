//! Records as the records ingest takes them: one JSON object, or an envelope of several; each may bring its id in `uuid`, and may ask
//! for the address it came from in `td_ip`.
//!
//! Promise: neither costs a second pass. A `uuid` that is one is handed back beside the rows and makes no column; anything else that is
//! sent under that name is kept in a column like every other value. Where `uuid` was declared a column of people, no record has an id.

use std::fmt;
use std::net::IpAddr;

use base::Entropy;

/// The key of a record's own id. It is no column.
pub(super) const UUID: &str = "uuid";
/// The key of the sender's address; as a value, it asks for the address.
pub(super) const ADDRESS: &str = "td_ip";

/// How records are written, and what is added to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Records {
    /// One object by itself, in place of `{"events":[…]}` or `{"records":[…]}`.
    pub single: bool,
    /// Whose address it is that records ask for, if any is told.
    pub address: Address,
}

/// Which records get the address of their sender in `td_ip`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Address {
    /// None: what stands there stays.
    Untold,
    /// Those that ask for it, by `"td_ip":"td_ip"`.
    WhereAsked(IpAddr),
    /// Those too that say nothing there.
    Everywhere(IpAddr),
}

/// An address is personal: it is shown nowhere.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Untold => "Untold",
            Self::WhereAsked(_) => "WhereAsked(***)",
            Self::Everywhere(_) => "Everywhere(***)",
        })
    }
}

/// The id of a record (RFC 9562), as its sender wrote it. Not the one that is all zeros: that one is no id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecordId {
    text: [u8; 36],
    bytes: [u8; 16],
}

impl RecordId {
    /// Reads the form with four hyphens; letters may be large or small.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text: [u8; 36] = text.try_into().ok()?;
        let mut digits = Vec::with_capacity(32);
        for (place, byte) in text.iter().enumerate() {
            match (place, byte) {
                (8 | 13 | 18 | 23, b'-') => {}
                (8 | 13 | 18 | 23, _) => return None,
                _ => digits.push(u8::try_from(char::from(*byte).to_digit(16)?).ok()?),
            }
        }
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair.iter().fold(0, |byte, digit| byte << 4 | digit);
        }
        (bytes != [0; 16]).then_some(Self { text, bytes })
    }

    /// A new one, of random bits (version 4).
    pub fn random(entropy: &dyn Entropy) -> Self {
        let mut bytes = [0; 16];
        entropy.fill(&mut bytes);
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let mut text = [b'-'; 36];
        let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0x0f]);
        let places = (0..36).filter(|place| !matches!(place, 8 | 13 | 18 | 23));
        for (place, digit) in places.zip(digits) {
            text[place] = b"0123456789abcdef"[usize::from(digit)];
        }
        Self { text, bytes }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text).unwrap_or_default()
    }

    /// What it is, however it was written. Never all zeros.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use base::SeededEntropy;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_is_a_uuid_that_is_not_all_zeros() {
        let id = RecordId::parse(b"0E4F1c2a-9b7d-4c55-8F10-aabbccddeeff").unwrap();
        assert_eq!(id.as_str(), "0E4F1c2a-9b7d-4c55-8F10-aabbccddeeff");
        let small = RecordId::parse(b"0e4f1c2a-9b7d-4c55-8f10-aabbccddeeff").unwrap();
        assert_eq!(id.to_bytes(), small.to_bytes());
        for none in [
            &b""[..],
            b"00000000-0000-0000-0000-000000000000",
            b"0e4f1c2a9b7d4c558f10aabbccddeeff",
            b"0e4f1c2a-9b7d-4c55-8f10-aabbccddeefg",
            b"0e4f1c2a-9b7d-4c55-8f10aabbccddee-ff",
            b"{0e4f1c2a-9b7d-4c55-8f10-aabbccddeeff}",
        ] {
            assert_eq!(RecordId::parse(none), None);
        }
    }

    #[test]
    fn no_address_is_shown() {
        let address = Address::Everywhere("203.0.113.9".parse().unwrap());
        assert_eq!(format!("{address:?}"), "Everywhere(***)");
    }

    proptest! {
        #[test]
        fn a_new_id_reads_back_as_itself(seed: u64) {
            let id = RecordId::random(&SeededEntropy::new(seed));
            prop_assert_eq!(RecordId::parse(id.as_str().as_bytes()), Some(id));
            prop_assert_eq!((id.as_str().as_bytes()[14], id.to_bytes()[8] >> 6), (b'4', 2));
        }

        #[test]
        fn arbitrary_bytes_are_an_id_or_none(bytes in prop::collection::vec(any::<u8>(), 30..40)) {
            let _ = RecordId::parse(&bytes);
        }
    }
}
