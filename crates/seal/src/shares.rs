//! A key split among people: any `threshold` of the shares give it back, fewer say nothing about it.
//!
//! Promise: what is no share, was mistyped, or belongs to another split is said to be so, by the number of the share where that can be
//! read. What [`combine`] gives is believed only by who has a check value of the key: shares of one split that were exchanged for
//! well-formed others give another key, and no error.
//!
//! Start at [`split`] and [`Share::parse`]. The arithmetic (Shamir's over GF(256), byte by byte) is that of vsss-rs.

use std::convert::Infallible;
use std::fmt;

use base::{Entropy, ErrorKind, Secret};
use rand_core::{TryCryptoRng, TryRng};
use vsss_rs::Gf256;
use zeroize::{Zeroize, Zeroizing};

use crate::DataKey;

/// Which split a share belongs to.
pub type SetId = [u8; 8];

/// The most shares of one key.
pub const MOST_SHARES: u8 = 32;
/// Longer texts are no shares.
const LONGEST: usize = 160;
const BEGINNING: &str = "coffer-share-1";
const BEGINNING_OF_ANY: &str = "coffer-share-";

/// Why a text is no share, or shares give no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// Not of the form that shares have.
    #[error("this is not a share: a share begins with {BEGINNING}- and is one line")]
    NotAShare,
    /// Of a later form.
    #[error("this share was made by a newer version of Coffer: use that version, or a newer one")]
    Newer,
    /// Its checksum is wrong.
    #[error("share {number} is damaged: a character of it is wrong or missing")]
    Damaged {
        /// What stands in it as its number.
        number: u8,
    },
    /// A number of shares, or of those that are needed, that makes no sense.
    #[error("a key is split into 2 to {MOST_SHARES} shares, of which 2 or more, and not more than there are, give it back")]
    Numbers,
    /// Fewer than are needed, twice the same, or of different splits.
    #[error("these shares do not belong together, or are too few")]
    NotTogether,
}

impl ShareError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// One person's share. Wiped when dropped, printed as `***`.
#[derive(Clone)]
pub struct Share {
    set: SetId,
    threshold: u8,
    number: u8,
    value: Zeroizing<[u8; 32]>,
}

impl Share {
    /// Reads what [`Share::to_text`] wrote; white space around it does not matter.
    pub fn parse(text: &str) -> Result<Self, ShareError> {
        let text = text.trim();
        if text.len() > LONGEST || !text.starts_with(BEGINNING_OF_ANY) {
            return Err(ShareError::NotAShare);
        }
        let (body, sum) = text.rsplit_once('-').ok_or(ShareError::NotAShare)?;
        let version = text[BEGINNING_OF_ANY.len()..].split('-').next().unwrap_or_default();
        if version.parse::<u32>().is_ok_and(|version| version > 1) {
            return Err(ShareError::Newer);
        }
        let rest = body
            .strip_prefix(BEGINNING)
            .and_then(|rest| rest.strip_prefix('-'))
            .ok_or(ShareError::NotAShare)?;
        let mut parts = rest.split('-');
        let (Some(set), Some(threshold), Some(number), Some(value), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(ShareError::NotAShare);
        };
        let number: u8 = number.parse().map_err(|_| ShareError::NotAShare)?;
        if checksum(body) != sum {
            return Err(ShareError::Damaged { number });
        }
        let mut share = Self {
            set: [0; 8],
            threshold: threshold.parse().map_err(|_| ShareError::NotAShare)?,
            number,
            value: Zeroizing::new([0; 32]),
        };
        hex::decode_to_slice(set, &mut share.set).map_err(|_| ShareError::NotAShare)?;
        hex::decode_to_slice(value, share.value.as_mut()).map_err(|_| ShareError::NotAShare)?;
        if number == 0 || share.threshold < 2 {
            return Err(ShareError::NotAShare);
        }
        Ok(share)
    }

    /// One line of ASCII: the split, how many shares are needed, the number of this one, its value, a checksum.
    pub fn to_text(&self) -> Secret {
        let mut body = self.body();
        let text = format!("{}-{}", *body, checksum(&body));
        body.zeroize();
        Secret::new(text)
    }

    fn body(&self) -> Zeroizing<String> {
        let mut value = Zeroizing::new([0; 64]);
        hex::encode_to_slice(*self.value, value.as_mut()).expect("64 characters hold 32 bytes");
        let value = std::str::from_utf8(&*value).expect("hexadecimal digits are text");
        Zeroizing::new(format!(
            "{BEGINNING}-{}-{}-{}-{value}",
            hex::encode(self.set),
            self.threshold,
            self.number
        ))
    }

    /// Which split it belongs to.
    pub fn set(&self) -> SetId {
        self.set
    }

    /// How many shares of its split give the key back.
    pub fn threshold(&self) -> u8 {
        self.threshold
    }

    /// From 1.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// By which it is known again. Its value has 256 random bits, so the hash gives none of them away.
    pub fn hash(&self) -> [u8; 32] {
        blake3::derive_key("coffer/v1/share", self.body().as_bytes())
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share")
            .field("set", &hex::encode(self.set))
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

/// Whether a key may be split so.
pub fn check_numbers(shares: u8, threshold: u8) -> Result<(), ShareError> {
    if (2..=MOST_SHARES).contains(&shares) && (2..=shares).contains(&threshold) {
        Ok(())
    } else {
        Err(ShareError::Numbers)
    }
}

/// Splits `key` into `shares`, of which any `threshold` give it back.
pub fn split(key: &DataKey, set: SetId, shares: u8, threshold: u8, entropy: &dyn Entropy) -> Result<Vec<Share>, ShareError> {
    check_numbers(shares, threshold)?;
    let points = Gf256::split_bytes(threshold.into(), shares.into(), key.reveal(), Chance(entropy)).map_err(|_| ShareError::Numbers)?;
    points
        .into_iter()
        .map(|point| {
            let point = Zeroizing::new(point);
            let (number, value) = point.split_first().ok_or(ShareError::Numbers)?;
            Ok(Share {
                set,
                threshold,
                number: *number,
                value: Zeroizing::new(value.try_into().map_err(|_| ShareError::Numbers)?),
            })
        })
        .collect()
}

/// What the shares give together. To be compared with a check value: see the head of this module.
pub fn combine(shares: &[Share]) -> Result<DataKey, ShareError> {
    let first = shares.first().ok_or(ShareError::NotTogether)?;
    let alike = |share: &Share| share.set == first.set && share.threshold == first.threshold;
    if shares.len() < first.threshold.into() || !shares.iter().all(alike) {
        return Err(ShareError::NotTogether);
    }
    let mut points: Vec<Vec<u8>> = shares
        .iter()
        .take(first.threshold.into())
        .map(|share| {
            let mut point = Vec::with_capacity(33);
            point.push(share.number);
            point.extend_from_slice(&*share.value);
            point
        })
        .collect();
    // Twice the same number is refused there.
    let combined = Gf256::combine_bytes(&points);
    points.iter_mut().for_each(Zeroize::zeroize);
    let secret = Zeroizing::new(combined.map_err(|_| ShareError::NotTogether)?);
    DataKey::try_from(&secret[..]).map_err(|_| ShareError::NotTogether)
}

fn checksum(body: &str) -> String {
    hex::encode(&blake3::derive_key("coffer/v1/share-checksum", body.as_bytes())[..4])
}

/// Our entropy as vsss-rs takes it.
struct Chance<'a>(&'a dyn Entropy);

impl TryRng for Chance<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.next_u64())
    }

    fn try_fill_bytes(&mut self, into: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(into);
        Ok(())
    }
}

impl TryCryptoRng for Chance<'_> {}

#[cfg(test)]
mod tests;
