use base::SeededEntropy;
use proptest::prelude::*;

use super::*;

const F: usize = FRAME_LEN as usize;
const S: usize = SEALED_FRAME_LEN as usize;

fn key(seed: u64) -> DataKey {
    DataKey::generate(&SeededEntropy::new(seed))
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 31 + i / 251) as u8).collect()
}

#[test]
fn contents_of_every_length_around_a_frame_come_back() {
    for length in [0, 1, F - 1, F, F + 1, 2 * F - 1, 2 * F, 3 * F + 17] {
        let (plain, key) = (content(length), key(1));
        let sealed = seal_frames(&key, b"c", &plain);
        assert_eq!(sealed.len() as u64, sealed_len(length as u64), "{length}");
        assert_eq!(open_frames(&key, b"c", &sealed), Ok(plain), "{length}");
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    let key = key(1);
    let sealed = seal_frames(&key, b"c", &content(40));
    for bit in 0..sealed.len() * 8 {
        let mut changed = sealed.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(open_frames(&key, b"c", &changed).is_err(), "bit {bit}");
    }
}

#[test]
fn truncation_is_refused_at_every_length_and_at_frame_boundaries() {
    let key = key(1);
    let small = seal_frames(&key, b"c", &content(40));
    for length in 0..small.len() {
        assert!(open_frames(&key, b"c", &small[..length]).is_err(), "{length}");
    }
    let large = seal_frames(&key, b"c", &content(3 * F));
    for frames in 0..3 {
        assert!(open_frames(&key, b"c", &large[..frames * S]).is_err(), "{frames} frames");
    }
    assert!(
        open_frames(&key, b"c", &[large.clone(), large[..S].to_vec()].concat()).is_err(),
        "a frame more"
    );
}

#[test]
fn frames_stay_in_their_order() {
    let key = key(1);
    let sealed = seal_frames(&key, b"c", &content(4 * F));
    let frames: Vec<_> = sealed.chunks(S).collect();
    for (a, b) in [(0, 1), (1, 2), (2, 3), (0, 3)] {
        let mut swapped = frames.clone();
        swapped.swap(a, b);
        assert!(open_frames(&key, b"c", &swapped.concat()).is_err(), "{a} and {b}");
        let mut repeated = frames.clone();
        repeated[b] = frames[a];
        assert!(open_frames(&key, b"c", &repeated.concat()).is_err(), "{a} twice");
    }
}

#[test]
fn another_key_or_context_is_refused() {
    let sealed = seal_frames(&key(1), b"context", &content(40));
    assert!(open_frames(&key(2), b"context", &sealed).is_err());
    assert!(open_frames(&key(1), b"contex", &sealed).is_err());
    assert!(open_frames(&key(1), b"", &sealed).is_err());
}

#[test]
fn an_empty_content_is_bound_like_any_other() {
    let sealed = seal_frames(&key(1), b"c", b"");
    assert_eq!(open_frames(&key(1), b"c", &sealed), Ok(vec![]));
    assert!(open_frames(&key(1), b"c", b"").is_err());
    assert!(open_frames(&key(2), b"c", &sealed).is_err());
}

#[test]
fn a_content_that_comes_in_pieces_is_sealed_as_the_whole_is() {
    for length in [0, 1, F - 1, F, F + 1, 2 * F, 3 * F + 17] {
        let (plain, key) = (content(length), key(1));
        for piece in [1000, F - 1, F, F + 1, 4 * F] {
            let (mut sealer, mut sealed) = (FrameSealer::new(&key, b"c"), Vec::new());
            for piece in plain.chunks(piece) {
                sealer.push(piece, &mut sealed);
                assert!(sealer.waiting.len() <= F);
                assert_eq!(sealed.len() % S, 0, "only whole frames, and none of them the last");
            }
            sealer.finish(&mut sealed);
            assert!(sealed == seal_frames(&key, b"c", &plain), "{length} in pieces of {piece}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_part_read_alone_is_that_part_of_the_whole(total in 0..5 * F, start in 0..5 * F, length in 0..3 * F) {
        let (plain, key) = (content(total), key(1));
        let sealed = seal_frames(&key, b"c", &plain);
        let wanted = start as u64..(start + length) as u64;

        let span = frame_span(wanted.clone(), total as u64);
        let part = &sealed[span.start as usize..span.end as usize];
        let first = span.start / SEALED_FRAME_LEN;

        if part.is_empty() {
            prop_assert!(start >= total || length == 0);
        } else {
            let opened = open_span(&key, b"c", part, first, total as u64).unwrap();
            let skip = start - first as usize * F;
            let end = (start + length).min(total) - first as usize * F;
            prop_assert_eq!(&opened[skip..end], &plain[start..total.min(start + length)]);
            // The same bytes at another place, or as part of a longer content, are refused.
            prop_assert!(open_span(&key, b"c", part, first + 1, total as u64 + FRAME_LEN).is_err());
            if span.end == sealed.len() as u64 {
                prop_assert!(open_span(&key, b"c", part, first, total as u64 + 3 * FRAME_LEN).is_err());
            }
        }
    }
}
