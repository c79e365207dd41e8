//! Identifiers. Each kind is a type of its own, so that one cannot be passed for another.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::{Entropy, Timestamp};

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} is not valid")]
pub struct IdError {
    what: &'static str,
}

/// A product: the unit of tenancy, shown as its number. Never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct ProductId(u64);

impl ProductId {
    /// Refuses zero and what a signed 64-bit database column cannot hold.
    pub fn new(number: u64) -> Result<Self, IdError> {
        if number == 0 || number > i64::MAX as u64 {
            Err(IdError { what: "product number" })
        } else {
            Ok(Self(number))
        }
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl TryFrom<u64> for ProductId {
    type Error = IdError;
    fn try_from(number: u64) -> Result<Self, IdError> {
        Self::new(number)
    }
}

impl From<ProductId> for u64 {
    fn from(id: ProductId) -> u64 {
        id.0
    }
}

impl fmt::Display for ProductId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ProductId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        // `parse` alone would take "+7" and "007" as other spellings of product 7.
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
        text.parse()
            .ok()
            .filter(|_| plain)
            .ok_or(IdError { what: "product number" })
            .and_then(Self::new)
    }
}

/// A person within one product: a random positive 63-bit number, never computed from the identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersonId(i64);

impl PersonId {
    /// A fresh random id.
    pub fn random(entropy: &dyn Entropy) -> Self {
        loop {
            let id = (entropy.next_u64() >> 1) as i64;
            if id > 0 {
                return Self(id);
            }
        }
    }

    /// Refuses zero and negative numbers.
    pub fn new(id: i64) -> Result<Self, IdError> {
        if id > 0 { Ok(Self(id)) } else { Err(IdError { what: "person id" }) }
    }

    /// The number.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for PersonId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A job, numbered within its product, shown to td clients as a decimal string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! ulid_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Ulid);

        impl $name {
            /// A new one: sorts by time, and no two writers ever make the same.
            pub fn generate(now: Timestamp, entropy: &dyn Entropy) -> Self {
                let mut random = [0; 16];
                entropy.fill(&mut random);
                Self(Ulid::from_parts(now.as_millis(), u128::from_le_bytes(random)))
            }

            /// The 16 bytes, big end first.
            pub fn to_bytes(self) -> [u8; 16] {
                self.0.to_bytes()
            }

            /// From 16 bytes, big end first.
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Ulid::from_bytes(bytes))
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = IdError;
            fn try_from(bytes: &[u8]) -> Result<Self, IdError> {
                bytes.try_into().map(Self::from_bytes).map_err(|_| IdError { what: $what })
            }
        }

        impl fmt::Display for $name {
            /// 26 characters of lower-case Crockford base 32.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0.to_string().to_ascii_lowercase())
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Ulid::from_string(text).map(Self).map_err(|_| IdError { what: $what })
            }
        }
    };
}

ulid_id!(
    /// A table. A table made again under the same name is another table.
    TableId, "table id"
);
ulid_id!(
    /// One start of one writing process; part of the name of every object it writes.
    WriterId, "writer id"
);
ulid_id!(
    /// A product key, password or other proof of who somebody is. Not secret.
    CredentialId, "credential id"
);
ulid_id!(
    /// One request from outside, shown in the answer and in every log line about it.
    RequestId, "request id"
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeededEntropy;

    #[test]
    fn product_numbers_have_one_spelling() {
        assert_eq!("7".parse::<ProductId>().map(ProductId::get), Ok(7));
        for wrong in ["", "0", "007", "+7", "-7", "7 ", "9223372036854775808", "x"] {
            assert!(wrong.parse::<ProductId>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn ids_survive_text_and_bytes() {
        let id = TableId::generate(Timestamp::from_secs(1_700_000_000), &SeededEntropy::new(1));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(TableId::try_from(&id.to_bytes()[..]), Ok(id));
        assert_eq!(id.to_string().len(), 26);
    }

    #[test]
    fn person_ids_are_positive() {
        let entropy = SeededEntropy::new(2);
        assert!((0..1000).all(|_| PersonId::random(&entropy).get() > 0));
        assert!(PersonId::new(0).is_err() && PersonId::new(-1).is_err());
    }
}
