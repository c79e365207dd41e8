use base::SeededEntropy;
use proptest::prelude::*;

use super::*;

fn keys() -> (DataKey, DataKey) {
    let entropy = SeededEntropy::new(1);
    (DataKey::generate(&entropy), DataKey::generate(&entropy))
}

proptest! {
    #[test]
    fn a_value_comes_back_equal_ones_are_sealed_alike_and_no_change_survives(
        value in prop::collection::vec(any::<u8>(), 0..80), other in prop::collection::vec(any::<u8>(), 0..80),
        at in any::<prop::sample::Index>(), bit in 0..8,
    ) {
        let (key, another) = keys();
        let sealed = seal_alike(&key, b"phone of 7", &value);

        let back = open_alike(&key, b"phone of 7", &sealed).unwrap();
        prop_assert_eq!(back.reveal(), &value[..]);
        prop_assert_eq!(sealed.len(), value.len() + TAG_LEN);
        prop_assert_eq!(&seal_alike(&key, b"phone of 7", &value), &sealed);
        prop_assert_eq!(seal_alike(&key, b"phone of 7", &other) == sealed, other == value);
        prop_assert_ne!(&seal_alike(&key, b"phone of 8", &value), &sealed);
        prop_assert_ne!(&seal_alike(&another, b"phone of 7", &value), &sealed);
        prop_assert!(open_alike(&key, b"phone of 8", &sealed).is_err());
        prop_assert!(open_alike(&another, b"phone of 7", &sealed).is_err());
        let at = at.index(sealed.len());
        prop_assert!(open_alike(&key, b"phone of 7", &sealed[..at]).is_err());
        let mut changed = sealed;
        changed[at] ^= 1u8 << bit;
        prop_assert!(open_alike(&key, b"phone of 7", &changed).is_err());
    }
}

#[test]
fn it_is_the_cipher_of_rfc_8452_and_what_is_stored_does_not_change() {
    // Appendix C.3: a key and a nonce of zeros.
    let mut text = hex::decode("000000000000000000000000000000004db923dc793ee6497c76dcc03a98e108").unwrap();
    let zeros = DataKey::try_from(&[0; 32][..]).unwrap();
    let tag = cipher(&zeros)
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(NONCE), Aad::empty(), &mut text)
        .unwrap();
    assert_eq!(
        hex::encode(text),
        "f3f80f2cf0cb2dd9c5984fcda908456cc537703b5ba70324a6793a7bf218d3ea"
    );
    assert_eq!(hex::encode(tag.as_ref()), "ffffffff000000000000000000000000");
}
