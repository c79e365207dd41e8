//! What signed requests to other systems are made of: SHA-256 and HMAC-SHA256, as their protocols say.
//!
//! Of ours only for what readers that are not ours have to check with nothing but these: the audit journal. Else statements are signed with
//! [`crate::sign`], and equal values are recognised by [`crate::keyed_hash`].

use aws_lc_rs::{digest, hmac};

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    array(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// HMAC-SHA256 of `bytes` under `key`.
pub fn hmac_sha256(key: &[u8], bytes: &[u8]) -> [u8; 32] {
    array(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), bytes).as_ref())
}

fn array(bytes: &[u8]) -> [u8; 32] {
    bytes.try_into().expect("SHA-256 gives 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_what_everybody_takes_them_for() {
        // FIPS 180-2, example 1; RFC 4231, test case 2.
        assert_eq!(
            hex::encode(sha256(b"abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            hex::encode(hmac_sha256(b"Jefe", b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
