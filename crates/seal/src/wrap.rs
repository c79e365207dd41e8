//! Small secrets under a symmetric key: AES-256-GCM with a random nonce.
//!
//! One key wraps at most 2^32 secrets before a nonce could repeat; ours wrap thousands.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base::{Entropy, SecretBytes};
use zeroize::Zeroize;

use crate::{DataKey, SealError};

const VERSION: u8 = 1;
const TAG_LEN: usize = 16;

/// Wraps a secret; it comes back only with the same key and context.
pub fn wrap(key: &DataKey, context: &[u8], secret: &[u8], entropy: &dyn Entropy) -> Vec<u8> {
    debug_assert!(!context.is_empty(), "a wrapped secret is bound to what it is");
    let mut nonce = [0; NONCE_LEN];
    entropy.fill(&mut nonce);
    // Reserved at once, so that the plain secret is not left behind in a buffer that was outgrown.
    let mut out = Vec::with_capacity(1 + NONCE_LEN + secret.len() + TAG_LEN);
    out.push(VERSION);
    out.extend_from_slice(&nonce);
    let start = out.len();
    out.extend_from_slice(secret);
    let tag = cipher(key)
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context), &mut out[start..])
        .expect("a secret is far below what AES-GCM can seal");
    out.extend_from_slice(tag.as_ref());
    out
}

/// Unwraps what [`wrap`] wrapped.
pub fn unwrap(key: &DataKey, context: &[u8], wrapped: &[u8]) -> Result<SecretBytes, SealError> {
    let malformed = SealError::Malformed { what: "wrapped secret" };
    let (&version, rest) = wrapped.split_first().ok_or(malformed)?;
    if version > VERSION {
        return Err(SealError::Newer {
            what: "wrapped secret",
            found: version,
        });
    }
    let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>().ok_or(malformed)?;
    let (ciphertext, tag) = sealed.split_last_chunk::<TAG_LEN>().ok_or(malformed)?;
    if version != VERSION {
        return Err(malformed);
    }
    let mut plain = ciphertext.to_vec();
    let opened = cipher(key).open_in_place_separate_tag(Nonce::assume_unique_for_key(*nonce), Aad::from(context), tag, &mut plain);
    if opened.is_err() {
        // Bytes under a wrong tag are not wiped by the cipher on every platform.
        plain.zeroize();
        return Err(SealError::DoesNotOpen { what: "wrapped secret" });
    }
    Ok(SecretBytes::new(plain))
}

fn cipher(key: &DataKey) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.reveal()).expect("a data key has 32 bytes"))
}

#[cfg(test)]
mod tests;
