//! Bodies as they were compressed for the way, with a cap on what they may become.

use std::borrow::Cow;
use std::io::{BufRead, Read};

use base::ErrorKind;
use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

/// The largest window of zstd that is accepted: 8 MiB (RFC 9659).
const ZSTD_WINDOW_LOG: u32 = 23;

/// How a body is compressed (RFC 9110, section 8.4.1; zstd: RFC 8878).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// One gzip member or several in a row.
    Gzip,
    /// The zlib format, or a bare deflate stream, which many send under that name.
    Deflate,
    /// One zstd frame or several in a row.
    Zstd,
}

impl Encoding {
    /// Its name in messages and headers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
        }
    }

    /// The encoding that a Content-Encoding header names.
    pub fn from_name(name: &str) -> Option<Self> {
        match name.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Some(Self::Identity),
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "deflate" => Some(Self::Deflate),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// Why a body could not be inflated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// Not in this encoding, cut short, or its checksum does not fit.
    #[error("the body is not valid {encoding}")]
    Damaged {
        /// What it was said to be.
        encoding: &'static str,
    },
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
            Self::Damaged { .. } => ErrorKind::Invalid,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
        }
    }
}

/// How many bytes a body says it will become. A claim may lie; where there is none it is a guess.
pub fn claimed_size(encoding: Encoding, body: &[u8]) -> usize {
    match encoding {
        Encoding::Identity => body.len(),
        // The last four bytes say it, of the last member.
        Encoding::Gzip => body
            .last_chunk::<4>()
            .map_or(0, |size| u32::from_le_bytes(*size) as usize)
            .max(body.len()),
        Encoding::Deflate | Encoding::Zstd => body.len().saturating_mul(4),
    }
}

/// What a body holds, up to `max` bytes.
pub fn inflate(encoding: Encoding, body: &[u8], max: usize) -> Result<Cow<'_, [u8]>, InflateError> {
    if encoding == Encoding::Identity {
        return if body.len() > max {
            Err(InflateError::TooLarge { max })
        } else {
            Ok(body.into())
        };
    }
    let damaged = || InflateError::Damaged {
        encoding: encoding.as_str(),
    };
    // Deflate cannot do better than 1,032 to 1.
    let claimed = claimed_size(encoding, body).min(body.len().saturating_mul(1032)).min(max);
    let mut out = Vec::with_capacity(claimed);
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    let mut rest = body;
    let read = match encoding {
        Encoding::Identity => Ok(0),
        Encoding::Gzip => MultiGzDecoder::new(&mut rest).take(limit).read_to_end(&mut out),
        Encoding::Deflate if is_zlib(body) => ZlibDecoder::new(&mut rest).take(limit).read_to_end(&mut out),
        Encoding::Deflate => DeflateDecoder::new(&mut rest).take(limit).read_to_end(&mut out),
        Encoding::Zstd => zstd_decoder(&mut rest).and_then(|decoder| decoder.take(limit).read_to_end(&mut out)),
    };
    read.map_err(|_| damaged())?;
    if out.len() > max {
        Err(InflateError::TooLarge { max })
    } else if rest.is_empty() {
        Ok(out.into())
    } else {
        Err(damaged())
    }
}

fn zstd_decoder<R: BufRead>(body: R) -> std::io::Result<zstd::Decoder<'static, R>> {
    let mut decoder = zstd::Decoder::with_buffer(body)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG)?;
    Ok(decoder)
}

/// Whether the first two bytes are a head of zlib (RFC 1950, section 2.2).
fn is_zlib(body: &[u8]) -> bool {
    matches!(body, [cmf, flg, ..] if cmf & 0x0f == 8 && (u16::from(*cmf) << 8 | u16::from(*flg)).is_multiple_of(31))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{
        Compression,
        write::{DeflateEncoder, GzEncoder, ZlibEncoder},
    };
    use proptest::prelude::*;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn encoded(encoding: Encoding, bytes: &[u8]) -> Vec<u8> {
        match encoding {
            Encoding::Identity => bytes.to_vec(),
            Encoding::Gzip => gzip(bytes),
            Encoding::Deflate => {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Encoding::Zstd => zstd::encode_all(bytes, 1).unwrap(),
        }
    }

    const ALL: [Encoding; 4] = [Encoding::Identity, Encoding::Gzip, Encoding::Deflate, Encoding::Zstd];

    fn inflated(encoding: Encoding, body: &[u8], max: usize) -> Result<Vec<u8>, InflateError> {
        inflate(encoding, body, max).map(Cow::into_owned)
    }

    fn damaged(encoding: Encoding) -> Result<Vec<u8>, InflateError> {
        Err(InflateError::Damaged {
            encoding: encoding.as_str(),
        })
    }

    proptest! {
        #[test]
        fn what_was_compressed_comes_back(bytes in prop::collection::vec(0u8..4, 0..2000)) {
            for encoding in ALL {
                let body = encoded(encoding, &bytes);
                prop_assert_eq!(inflated(encoding, &body, bytes.len()), Ok(bytes.clone()));
                if !bytes.is_empty() {
                    prop_assert_eq!(inflated(encoding, &body, bytes.len() - 1), Err(InflateError::TooLarge { max: bytes.len() - 1 }));
                }
            }
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for encoding in ALL {
                let _ = inflate(encoding, &bytes, 1000);
            }
        }
    }

    #[test]
    fn names_are_those_of_the_header() {
        for encoding in ALL {
            assert_eq!(Encoding::from_name(encoding.as_str()), Some(encoding));
        }
        assert_eq!(Encoding::from_name(" GZIP "), Some(Encoding::Gzip));
        assert_eq!(Encoding::from_name(""), Some(Encoding::Identity));
        for unknown in ["br", "gzip, gzip", "compress"] {
            assert_eq!(Encoding::from_name(unknown), None);
        }
    }

    #[test]
    fn a_bare_deflate_stream_is_deflate_too() {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(b"bare").unwrap();
        assert_eq!(inflated(Encoding::Deflate, &encoder.finish().unwrap(), 10), Ok(b"bare".to_vec()));
    }

    #[test]
    fn members_in_a_row_are_one_body() {
        let twice = [gzip(b"one "), gzip(b""), gzip(b"two")].concat();
        assert_eq!(inflated(Encoding::Gzip, &twice, 7), Ok(b"one two".to_vec()));
        let frames = [encoded(Encoding::Zstd, b"one "), encoded(Encoding::Zstd, b"two")].concat();
        assert_eq!(inflated(Encoding::Zstd, &frames, 7), Ok(b"one two".to_vec()));
        assert_eq!(gzip(b"").len(), 20);
        assert_eq!(inflated(Encoding::Gzip, &gzip(b""), 0), Ok(Vec::new()));
    }

    #[test]
    fn a_bomb_stops_at_the_cap() {
        for encoding in [Encoding::Gzip, Encoding::Deflate, Encoding::Zstd] {
            let bomb = encoded(encoding, &vec![0; 10 << 20]);
            assert!(bomb.len() < 20_000);
            assert_eq!(inflated(encoding, &bomb, 1 << 20), Err(InflateError::TooLarge { max: 1 << 20 }));
        }
        // A frame that wants a window of 128 MiB.
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.include_contentsize(false).unwrap();
        encoder.write_all(&[7; 1000]).unwrap();
        assert_eq!(
            inflated(Encoding::Zstd, &encoder.finish().unwrap(), 10_000),
            damaged(Encoding::Zstd)
        );
    }

    #[test]
    fn damage_is_noticed() {
        for encoding in [Encoding::Gzip, Encoding::Deflate, Encoding::Zstd] {
            let good = encoded(encoding, b"some words that are long enough");
            for cut in 1..good.len() {
                assert_eq!(
                    inflated(encoding, &good[..cut], 100),
                    damaged(encoding),
                    "{encoding:?} cut at {cut}"
                );
            }
            assert_eq!(inflated(encoding, &[good.as_slice(), b"tail"].concat(), 100), damaged(encoding));
            assert_eq!(inflated(encoding, b"plain", 100), damaged(encoding));
        }
        let mut wrong = gzip(b"some words that are long enough");
        let crc = wrong.len() - 6;
        wrong[crc] ^= 1;
        assert_eq!(inflated(Encoding::Gzip, &wrong, 100), damaged(Encoding::Gzip));
        assert_eq!(inflated(Encoding::Gzip, b"", 100), damaged(Encoding::Gzip));
    }
}
