use base::SeededEntropy;
use seal::shares::split;

use super::*;
use crate::root::RootKey;

const NOW: Timestamp = Timestamp::from_secs(1000);

/// A root key split 2 of 3, its sealed root and its shares.
fn made(seed: u64, set: [u8; 8]) -> (DataKey, SealedRoot, Vec<String>) {
    let entropy = SeededEntropy::new(seed);
    let (root, key) = (RootKey::generate(&entropy), DataKey::generate(&entropy));
    let shares = split(&key, set, 3, 2, &entropy).unwrap();
    let sealed = SealedRoot::seal(&root, &key, &shares, 1, NOW, &entropy).unwrap();
    let texts = shares.iter().map(|share| share.to_text().reveal().to_owned()).collect();
    (key, sealed, texts)
}

#[test]
fn enough_shares_give_the_key_in_any_order_and_one_twice_counts_once() {
    let (key, sealed, shares) = made(1, *b"set of 8");
    for (first, second) in [(0, 1), (2, 0), (1, 2)] {
        let mut shown = Shown::default();
        for _ in 0..3 {
            assert!(shown.show(&sealed, &shares[first], NOW).unwrap().is_none());
            assert_eq!(shown.count(), 1);
        }
        let found = shown.show(&sealed, &shares[second], NOW).unwrap().unwrap();
        assert_eq!(found.reveal(), key.reveal());
        assert_eq!(shown.count(), 0);
    }
}

#[test]
fn a_wrong_share_is_named_and_the_good_ones_stay() {
    let (_, sealed, shares) = made(1, *b"set of 8");
    let (_, _, foreign) = made(2, *b"another8");
    // Well-formed, of the same set and number, of another key.
    let (_, _, changed) = made(3, *b"set of 8");
    let mut shown = Shown::default();
    shown.show(&sealed, &shares[0], NOW).unwrap();

    let mut mistyped = shares[1].clone();
    mistyped.pop();
    let check = |shown: &mut Shown, text: &str, expected: UnsealError| {
        assert_eq!(shown.show(&sealed, text, NOW).unwrap_err(), expected);
        assert_eq!(shown.count(), 1);
    };
    check(&mut shown, "shares?", UnsealError::Share(ShareError::NotAShare));
    check(&mut shown, &mistyped, UnsealError::Share(ShareError::Damaged { number: 2 }));
    check(&mut shown, &changed[1], UnsealError::Changed { number: 2 });
    let foreign = shown.show(&sealed, &foreign[2], NOW).unwrap_err();
    assert!(matches!(foreign, UnsealError::Foreign { number: 3, .. }), "{foreign}");
    for share in &shares {
        assert!(!foreign.to_string().contains(share.as_str()));
    }
    assert!(shown.show(&sealed, &shares[1], NOW).unwrap().is_some());
}

#[test]
fn a_key_that_the_check_value_does_not_know_is_not_believed_and_one_begins_again() {
    let (_, sealed, shares) = made(1, *b"set of 8");
    // The hashes of the shares and a check value of something else, as if one of both were damaged.
    let entropy = SeededEntropy::new(5);
    let parsed: Vec<_> = shares.iter().map(|text| Share::parse(text).unwrap()).collect();
    let root = RootKey::generate(&entropy);
    let wrong = SealedRoot::seal(&root, &DataKey::generate(&entropy), &parsed, 1, NOW, &entropy).unwrap();
    assert_eq!(wrong.set(), sealed.set());

    let mut shown = Shown::default();
    shown.show(&wrong, &shares[0], NOW).unwrap();
    assert_eq!(shown.show(&wrong, &shares[1], NOW).unwrap_err(), UnsealError::NotTheKey);
    assert_eq!(shown.count(), 0);
    assert_eq!(key_of(&wrong, &shares[..2]).unwrap_err(), UnsealError::NotTheKey);
}

#[test]
fn wrong_shares_are_bounded_in_time_and_good_ones_wait_as_well() {
    let (_, sealed, shares) = made(1, *b"set of 8");
    let mut shown = Shown::default();
    for _ in 0..MOST_WRONG {
        assert_eq!(
            shown.show(&sealed, "x", NOW).unwrap_err(),
            UnsealError::Share(ShareError::NotAShare)
        );
    }
    assert_eq!(shown.show(&sealed, &shares[0], NOW).unwrap_err(), UnsealError::TooMany);
    let later = NOW.plus(WINDOW);
    assert!(shown.show(&sealed, &shares[0], later).unwrap().is_none());
    assert!(shown.show(&sealed, &shares[1], later).unwrap().is_some());
}

#[test]
fn shares_shown_at_once_have_to_be_enough_and_different() {
    let (key, sealed, shares) = made(1, *b"set of 8");
    assert_eq!(key_of(&sealed, &shares).unwrap().reveal(), key.reveal());
    assert_eq!(key_of(&sealed, &shares[1..]).unwrap().reveal(), key.reveal());
    for few in [vec![], vec![&shares[0]], vec![&shares[0], &shares[0]]] {
        assert_eq!(key_of(&sealed, &few).unwrap_err(), UnsealError::Share(ShareError::NotTogether));
    }
}
