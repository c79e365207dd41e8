//! Sealing that can be compared: equal values under one key and context become equal bytes. AES-256-GCM-SIV (RFC 8452).
//!
//! For values that are grouped, counted and joined while they are sealed. What it shows by that: which values of one key and context are
//! equal, and how long each is. Everything else goes through [`wrap`](crate::wrap), which shows neither of two secrets to be equal.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base::SecretBytes;
use zeroize::Zeroize;

use crate::{DataKey, SealError};

const TAG_LEN: usize = 16;
/// Always the same: this cipher loses nothing by it but that equal values look equal, which is what it is used for.
const NONCE: [u8; NONCE_LEN] = [0; NONCE_LEN];

/// Seals a value, equal ones to equal bytes: 16 more than the value has.
pub fn seal_alike(key: &DataKey, context: &[u8], value: &[u8]) -> Vec<u8> {
    debug_assert!(!context.is_empty(), "a sealed value is bound to what it is");
    // Reserved at once, so that the plain value is not left behind in a buffer that was outgrown.
    let mut out = Vec::with_capacity(value.len() + TAG_LEN);
    out.extend_from_slice(value);
    let tag = cipher(key)
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(NONCE), Aad::from(context), &mut out)
        .expect("a value is far below what AES-GCM-SIV can seal");
    out.extend_from_slice(tag.as_ref());
    out
}

/// Opens what [`seal_alike`] sealed, with the same key and context only.
pub fn open_alike(key: &DataKey, context: &[u8], sealed: &[u8]) -> Result<SecretBytes, SealError> {
    let malformed = SealError::Malformed { what: "sealed value" };
    let (ciphertext, tag) = sealed.split_last_chunk::<TAG_LEN>().ok_or(malformed)?;
    let mut plain = ciphertext.to_vec();
    let opened = cipher(key).open_in_place_separate_tag(Nonce::assume_unique_for_key(NONCE), Aad::from(context), tag, &mut plain);
    if opened.is_err() {
        // Bytes under a wrong tag are not wiped by the cipher on every platform.
        plain.zeroize();
        return Err(SealError::DoesNotOpen { what: "sealed value" });
    }
    Ok(SecretBytes::new(plain))
}

fn cipher(key: &DataKey) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, key.reveal()).expect("a data key has 32 bytes"))
}

#[cfg(test)]
mod tests;
