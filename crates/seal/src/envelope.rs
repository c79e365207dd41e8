//! Sealing to a public key: HPKE (RFC 9180) carries a fresh data key, the data key carries the content.
//!
//! Whoever writes needs the public key only. Sealing does not say who sealed; that is what [`crate::sign`] is for.
//!
//! A sealed key: version byte, HPKE encapsulated key (32), ciphertext and tag (48). A sealed blob: sealed key, frames.

use base::Entropy;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable, aead::AesGcm256, kdf::HkdfSha256, kem::X25519HkdfSha256};
use zeroize::Zeroizing;

use crate::{DataKey, PrivateKey, PublicKey, SealError, open_frames, seal_frames};

const VERSION: u8 = 1;
const INFO: &[u8] = b"coffer/v1/data-key";
const ENCAPPED_LEN: usize = 32;

/// How long a sealed key is.
pub const SEALED_KEY_LEN: usize = 1 + ENCAPPED_LEN + 32 + 16;

/// Seals a data key so that only the private half of `to` opens it, and only for the same context.
///
/// The context is bound, not stored; it says what the key is for (product, table, file, sequence) and is never empty.
pub fn seal_key(to: &PublicKey, key: &DataKey, context: &[u8]) -> Vec<u8> {
    debug_assert!(!context.is_empty(), "a sealed key is bound to what it is for");
    let to = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(to.as_bytes()).expect("a public key has 32 bytes");
    let (encapped, sealed) =
        hpke::single_shot_seal::<AesGcm256, HkdfSha256, X25519HkdfSha256>(&OpModeS::Base, &to, INFO, key.reveal(), context)
            .expect("sealing fails for points of small order only, which a PublicKey never is");
    let mut out = Vec::with_capacity(SEALED_KEY_LEN);
    out.push(VERSION);
    out.extend_from_slice(&encapped.to_bytes());
    out.extend_from_slice(&sealed);
    out
}

/// Opens what [`seal_key`] sealed.
pub fn open_key(with: &PrivateKey, sealed: &[u8], context: &[u8]) -> Result<DataKey, SealError> {
    let malformed = SealError::Malformed { what: "sealed key" };
    match sealed.first() {
        Some(&found) if found > VERSION => return Err(SealError::Newer { what: "sealed key", found }),
        Some(&VERSION) if sealed.len() == SEALED_KEY_LEN => {}
        _ => return Err(malformed),
    }
    let (encapped, ciphertext) = sealed[1..].split_at(ENCAPPED_LEN);
    let encapped = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(encapped).map_err(|_| malformed)?;
    let plain = hpke::single_shot_open::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        with.scalar(),
        &encapped,
        INFO,
        ciphertext,
        context,
    )
    .map(Zeroizing::new)
    .map_err(|_| SealError::DoesNotOpen { what: "sealed key" })?;
    DataKey::try_from(plain.as_slice())
}

/// Seals a content of any length: a fresh data key, sealed to `to`, and the content in frames under it.
pub fn seal_to(to: &PublicKey, context: &[u8], plain: &[u8], entropy: &dyn Entropy) -> Vec<u8> {
    let key = DataKey::generate(entropy);
    let mut out = seal_key(to, &key, context);
    out.extend_from_slice(&seal_frames(&key, context, plain));
    out
}

/// Opens what [`seal_to`] sealed.
pub fn open_with(with: &PrivateKey, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
    let (key, frames) = sealed
        .split_at_checked(SEALED_KEY_LEN)
        .ok_or(SealError::Malformed { what: "sealed content" })?;
    open_frames(&open_key(with, key, context)?, context, frames)
}

#[cfg(test)]
mod tests;
