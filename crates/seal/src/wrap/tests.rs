use base::SeededEntropy;
use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn a_wrapped_secret_comes_back_and_survives_no_change(
        secret in prop::collection::vec(any::<u8>(), 0..80), at in any::<prop::sample::Index>(), bit in 0..8,
    ) {
        let entropy = SeededEntropy::new(1);
        let (key, other) = (DataKey::generate(&entropy), DataKey::generate(&entropy));
        let wrapped = wrap(&key, b"product 7", &secret, &entropy);

        let back = unwrap(&key, b"product 7", &wrapped).unwrap();
        prop_assert_eq!(back.reveal(), &secret[..]);
        prop_assert!(unwrap(&key, b"product 8", &wrapped).is_err());
        prop_assert!(unwrap(&other, b"product 7", &wrapped).is_err());
        let at = at.index(wrapped.len());
        prop_assert!(unwrap(&key, b"product 7", &wrapped[..at]).is_err());
        let mut changed = wrapped;
        changed[at] ^= 1u8 << bit;
        prop_assert!(unwrap(&key, b"product 7", &changed).is_err());
    }
}

#[test]
fn the_same_secret_never_wraps_to_the_same_bytes() {
    let entropy = SeededEntropy::new(1);
    let key = DataKey::generate(&entropy);
    assert_ne!(wrap(&key, b"c", b"secret", &entropy), wrap(&key, b"c", b"secret", &entropy));
}
