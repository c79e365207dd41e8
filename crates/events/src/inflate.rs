//! Gzip bodies, with a cap on what they may become.

use std::io::Read;

use base::ErrorKind;
use flate2::bufread::MultiGzDecoder;

/// Why a body could not be inflated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// Not gzip, cut short, or its checksum does not fit.
    #[error("the body is not valid gzip")]
    Damaged,
    /// More than the cap.
    #[error("the body inflates to more than {max} bytes; send it in smaller parts")]
    TooLarge {
        /// The cap.
        max: usize,
    },
}

impl InflateError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Damaged => ErrorKind::Invalid,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
        }
    }
}

/// What gzip (one member or several in a row) holds, up to `max` bytes.
pub fn inflate_gzip(body: &[u8], max: usize) -> Result<Vec<u8>, InflateError> {
    // The last four bytes claim the size. A claim may lie: deflate cannot do better than 1,032 to 1.
    let claimed = body.last_chunk::<4>().map_or(0, |size| u32::from_le_bytes(*size) as usize);
    let mut out = Vec::with_capacity(claimed.min(body.len().saturating_mul(1032)).min(max));
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    MultiGzDecoder::new(body)
        .take(limit)
        .read_to_end(&mut out)
        .map_err(|_| InflateError::Damaged)?;
    if out.len() > max {
        Err(InflateError::TooLarge { max })
    } else {
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn members_in_a_row_are_one_body() {
        let twice = [gzip(b"one "), gzip(b""), gzip(b"two")].concat();
        assert_eq!(inflate_gzip(&twice, 7), Ok(b"one two".to_vec()));
        assert_eq!(gzip(b"").len(), 20);
        assert_eq!(inflate_gzip(&gzip(b""), 0), Ok(Vec::new()));
    }

    #[test]
    fn a_bomb_stops_at_the_cap() {
        let bomb = gzip(&vec![0; 10 << 20]);
        assert!(bomb.len() < 20_000);
        assert_eq!(inflate_gzip(&bomb, 1 << 20), Err(InflateError::TooLarge { max: 1 << 20 }));
    }

    #[test]
    fn damage_is_noticed() {
        let good = gzip(b"some words that are long enough");
        for cut in 0..good.len() {
            assert_eq!(inflate_gzip(&good[..cut], 100), Err(InflateError::Damaged), "cut at {cut}");
        }
        let mut wrong = good.clone();
        let crc = wrong.len() - 6;
        wrong[crc] ^= 1;
        assert_eq!(inflate_gzip(&wrong, 100), Err(InflateError::Damaged));
        assert_eq!(inflate_gzip(&[good.as_slice(), b"tail"].concat(), 100), Err(InflateError::Damaged));
        assert_eq!(inflate_gzip(b"plain", 100), Err(InflateError::Damaged));
    }
}
