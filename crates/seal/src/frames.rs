//! AES-256-GCM in frames of 64 KiB, so that a part can be read without the whole.
//!
//! Promise: frames open only whole, in their place, under their context, and only if the last one is the last one.
//!
//! The nonce is the frame's number and a flag on the last frame, so **a key seals one content only**. Each frame is
//! its ciphertext and a tag of 16 bytes; all but the last hold [`FRAME_LEN`] bytes; an empty content is one empty frame.

use std::ops::Range;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::{DataKey, SealError};

/// How much plain content a frame holds.
pub const FRAME_LEN: u64 = 64 * 1024;
const TAG_LEN: u64 = 16;
const SEALED_FRAME_LEN: u64 = FRAME_LEN + TAG_LEN;

/// Seals one content under a key that seals nothing else.
pub fn seal_frames(key: &DataKey, context: &[u8], plain: &[u8]) -> Vec<u8> {
    debug_assert!(!context.is_empty(), "sealed content is bound to what it is");
    let cipher = cipher(key);
    let frames = frame_count(plain.len() as u64);
    let mut out = Vec::with_capacity(plain.len() + (frames * TAG_LEN) as usize);
    for number in 0..frames {
        let from = (number * FRAME_LEN) as usize;
        let frame = &plain[from..plain.len().min(from + FRAME_LEN as usize)];
        seal_frame(&cipher, nonce(number, number + 1 == frames), context, frame, &mut out);
    }
    out
}

/// Seals one content that comes piece by piece. What comes out is what [`seal_frames`] makes of the whole.
///
/// Holds at most one frame: a full one is sealed when more follows, because the last one says that it is the last.
pub struct FrameSealer {
    cipher: LessSafeKey,
    context: Vec<u8>,
    number: u64,
    waiting: Vec<u8>,
}

impl FrameSealer {
    /// Under a key that seals nothing else.
    pub fn new(key: &DataKey, context: &[u8]) -> Self {
        debug_assert!(!context.is_empty(), "sealed content is bound to what it is");
        Self {
            cipher: cipher(key),
            context: context.to_vec(),
            number: 0,
            waiting: Vec::with_capacity(FRAME_LEN as usize),
        }
    }

    /// Takes the next bytes of the content, and appends the frames to `out` that are complete with them.
    pub fn push(&mut self, mut plain: &[u8], out: &mut Vec<u8>) {
        while !plain.is_empty() {
            let room = FRAME_LEN as usize - self.waiting.len();
            if room == 0 {
                self.seal(false, out);
                continue;
            }
            let (taken, rest) = plain.split_at(plain.len().min(room));
            self.waiting.extend_from_slice(taken);
            plain = rest;
        }
    }

    /// The content is complete: appends the last frame.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        self.seal(true, out);
    }

    fn seal(&mut self, last: bool, out: &mut Vec<u8>) {
        seal_frame(&self.cipher, nonce(self.number, last), &self.context, &self.waiting, out);
        self.number += 1;
        self.waiting.clear();
    }
}

fn seal_frame(cipher: &LessSafeKey, nonce: Nonce, context: &[u8], frame: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(frame);
    let tag = cipher
        .seal_in_place_separate_tag(nonce, Aad::from(context), &mut out[start..])
        .expect("a frame is far below what AES-GCM can seal");
    out.extend_from_slice(tag.as_ref());
}

/// Opens a whole content.
pub fn open_frames(key: &DataKey, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
    let total = plain_len(sealed.len() as u64).ok_or(SealError::Malformed { what: "sealed content" })?;
    open_span(key, context, sealed, 0, total)
}

/// Which sealed bytes hold the plain bytes `plain` of a content of `total_plain` bytes: whole frames.
///
/// The first frame's number is `start / sealed_len(FRAME_LEN)`, and what [`open_span`] returns begins at plain byte
/// `first_frame * FRAME_LEN`.
pub fn frame_span(plain: Range<u64>, total_plain: u64) -> Range<u64> {
    let end = plain.end.min(total_plain);
    if plain.start >= end {
        return 0..0;
    }
    let first = plain.start / FRAME_LEN;
    let past = end.div_ceil(FRAME_LEN);
    first * SEALED_FRAME_LEN..(past * SEALED_FRAME_LEN).min(sealed_len(total_plain))
}

/// Opens some frames of a content of `total_plain` bytes: as many as `sealed_span` holds, from `first_frame` on.
pub fn open_span(key: &DataKey, context: &[u8], sealed_span: &[u8], first_frame: u64, total_plain: u64) -> Result<Vec<u8>, SealError> {
    let malformed = SealError::Malformed { what: "sealed content" };
    let frames = frame_count(total_plain);
    let start = first_frame.checked_mul(SEALED_FRAME_LEN).ok_or(malformed)?;
    let end = start.checked_add(sealed_span.len() as u64).ok_or(malformed)?;
    // Only whole frames: the span ends where a frame does.
    if end > sealed_len(total_plain) || (end != sealed_len(total_plain) && !end.is_multiple_of(SEALED_FRAME_LEN)) {
        return Err(malformed);
    }
    let cipher = cipher(key);
    let spanned = sealed_span.len() as u64;
    let plain_len = spanned.checked_sub(spanned.div_ceil(SEALED_FRAME_LEN) * TAG_LEN).ok_or(malformed)?;
    let mut plain = vec![0; plain_len as usize];
    let sealed_frames = sealed_span.chunks(SEALED_FRAME_LEN as usize);
    // An empty content is one frame without plain bytes, which `chunks_mut` would leave out.
    let plain_frames = plain.chunks_mut(FRAME_LEN as usize).map(Some).chain(std::iter::once(None));
    for ((number, sealed), plain) in (first_frame..).zip(sealed_frames).zip(plain_frames) {
        let (ciphertext, tag) = sealed.split_last_chunk::<{ TAG_LEN as usize }>().ok_or(malformed)?;
        let nonce = nonce(number, number + 1 == frames);
        cipher
            .open_separate_gather(nonce, Aad::from(context), ciphertext, tag, plain.unwrap_or_default())
            .map_err(|_| SealError::DoesNotOpen { what: "sealed content" })?;
    }
    Ok(plain)
}

/// How long a content of `total_plain` bytes is when sealed.
pub fn sealed_len(total_plain: u64) -> u64 {
    total_plain + frame_count(total_plain) * TAG_LEN
}

fn frame_count(plain: u64) -> u64 {
    plain.div_ceil(FRAME_LEN).max(1)
}

fn plain_len(sealed: u64) -> Option<u64> {
    let plain = sealed.checked_sub(sealed.div_ceil(SEALED_FRAME_LEN).max(1) * TAG_LEN)?;
    (sealed_len(plain) == sealed).then_some(plain)
}

fn nonce(number: u64, last: bool) -> Nonce {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&number.to_be_bytes());
    nonce[11] = u8::from(last);
    Nonce::assume_unique_for_key(nonce)
}

fn cipher(key: &DataKey) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.reveal()).expect("a data key has 32 bytes"))
}

#[cfg(test)]
mod tests;
