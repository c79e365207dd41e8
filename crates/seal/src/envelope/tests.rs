use base::SeededEntropy;
use proptest::prelude::*;

use super::*;

fn pair(seed: u64) -> PrivateKey {
    PrivateKey::generate(&SeededEntropy::new(seed))
}

#[test]
fn every_flipped_bit_of_a_sealed_key_is_refused() {
    let (mine, key) = (pair(1), DataKey::generate(&SeededEntropy::new(2)));
    let sealed = seal_key(&mine.public(), &key, b"7/web/1");
    assert_eq!(open_key(&mine, &sealed, b"7/web/1").unwrap().reveal(), key.reveal());

    for bit in 0..sealed.len() * 8 {
        let mut changed = sealed.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(open_key(&mine, &changed, b"7/web/1").is_err(), "bit {bit}");
    }
    for length in 0..sealed.len() {
        assert!(open_key(&mine, &sealed[..length], b"7/web/1").is_err(), "length {length}");
    }
}

#[test]
fn a_sealed_key_opens_for_its_owner_and_its_context_only() {
    let (mine, key) = (pair(1), DataKey::generate(&SeededEntropy::new(2)));
    let sealed = seal_key(&mine.public(), &key, b"7/web/1");
    assert!(open_key(&pair(3), &sealed, b"7/web/1").is_err());
    assert!(open_key(&mine, &sealed, b"7/web/2").is_err());
    assert!(open_key(&mine, &sealed, b"8/web/1").is_err());
}

#[test]
fn the_same_content_never_seals_to_the_same_bytes() {
    let mine = pair(1);
    let seal = |seed| seal_to(&mine.public(), b"c", b"content", &SeededEntropy::new(seed));
    assert_ne!(seal(5), seal(5), "even with the same data key");
}

proptest! {
    #[test]
    fn what_was_sealed_opens_to_the_same(plain in prop::collection::vec(any::<u8>(), 0..2000), context in "[a-z0-9/]{1,40}") {
        let mine = pair(1);
        let sealed = seal_to(&mine.public(), context.as_bytes(), &plain, &SeededEntropy::new(9));
        prop_assert_eq!(open_with(&mine, context.as_bytes(), &sealed), Ok(plain));
    }

    #[test]
    fn no_changed_byte_is_accepted(plain in prop::collection::vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>(), by in 1u8..) {
        let mine = pair(1);
        let mut sealed = seal_to(&mine.public(), b"c", &plain, &SeededEntropy::new(9));
        let at = at.index(sealed.len());
        sealed[at] ^= by;
        prop_assert!(open_with(&mine, b"c", &sealed).is_err());
    }

    #[test]
    fn arbitrary_bytes_do_not_open(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(open_with(&pair(1), b"c", &bytes).is_err());
        prop_assert!(open_key(&pair(1), &bytes, b"c").is_err());
    }
}
