use base::SeededEntropy;
use proptest::prelude::*;

use super::*;

const SET: SetId = *b"set of 8";

fn made(seed: u64, shares: u8, threshold: u8) -> (DataKey, Vec<Share>) {
    let entropy = SeededEntropy::new(seed);
    let key = DataKey::generate(&entropy);
    let shares = split(&key, SET, shares, threshold, &entropy).unwrap();
    (key, shares)
}

proptest! {
    #[test]
    fn any_shares_that_are_enough_give_the_key_back(seed: u64, shares in 2u8..=MOST_SHARES, threshold: u8, skip: usize) {
        let threshold = 2 + threshold % (shares - 1);
        let (key, mut shares) = made(seed, shares, threshold);
        let skip = skip % shares.len();
        shares.rotate_left(skip);
        let texts: Vec<_> = shares.iter().map(Share::to_text).collect();
        let read: Vec<_> = texts.iter().map(|text| Share::parse(text.reveal()).unwrap()).collect();
        let combined = combine(&read[..threshold.into()]).unwrap();
        prop_assert_eq!(combined.reveal(), key.reveal());
        prop_assert_eq!(combine(&read[..usize::from(threshold) - 1]).err(), Some(ShareError::NotTogether));
    }

    #[test]
    fn a_text_with_one_character_changed_is_never_taken_for_a_share(seed: u64, at: usize, to in "[0-9a-f-]") {
        let (_, shares) = made(seed, 3, 2);
        let text = shares[1].to_text().reveal().to_owned();
        let at = at % text.len();
        let mut changed = text.clone();
        changed.replace_range(at..=at, &to);
        prop_assume!(changed != text);
        prop_assert!(Share::parse(&changed).is_err(), "{}", changed);
    }

    #[test]
    fn arbitrary_text_is_no_share(text: String) {
        prop_assert!(Share::parse(&text).is_err());
        let begun = format!("coffer-share-1-{text}");
        prop_assert!(Share::parse(&begun).is_err());
    }
}

#[test]
fn shares_keep_their_form() {
    let share = Share {
        set: SET,
        threshold: 2,
        number: 3,
        value: Zeroizing::new([7; 32]),
    };
    let text = share.to_text();
    let value = "07".repeat(32);
    let expected = format!("coffer-share-1-736574206f662038-2-3-{value}-");
    assert!(text.reveal().starts_with(&expected), "{}", text.reveal());
    assert_eq!(text.reveal().len(), expected.len() + 8);
    let read = Share::parse(&format!("  {}\n", text.reveal())).unwrap();
    assert_eq!(
        (read.set(), read.threshold(), read.number(), read.hash()),
        (SET, 2, 3, share.hash())
    );
    assert!(!format!("{share:?}").contains("0707"), "{share:?}");
}

#[test]
fn a_mistyped_share_is_named_and_a_newer_one_too() {
    let (_, shares) = made(1, 3, 2);
    let text = shares[1].to_text().reveal().to_owned();
    // A digit of the value.
    let at = text.len() - 20;
    let other = if &text[at..=at] == "0" { "1" } else { "0" };
    let mut wrong = text.clone();
    wrong.replace_range(at..=at, other);
    assert_eq!(Share::parse(&wrong).err(), Some(ShareError::Damaged { number: 2 }));
    assert_eq!(Share::parse(&text[..text.len() - 1]).err(), Some(ShareError::Damaged { number: 2 }));
    assert_eq!(
        Share::parse(&text.replace("coffer-share-1-", "coffer-share-2-")).err(),
        Some(ShareError::Newer)
    );
    for wrong in ["", "coffer-share-1", "7/0123", &"x".repeat(10_000)] {
        assert_eq!(Share::parse(wrong).err(), Some(ShareError::NotAShare), "{wrong:?}");
    }
}

#[test]
fn numbers_that_make_no_sense_are_refused() {
    let key = DataKey::generate(&SeededEntropy::new(1));
    for (shares, threshold) in [(1, 1), (0, 0), (3, 1), (3, 0), (2, 3), (33, 2), (255, 255)] {
        let refused = split(&key, SET, shares, threshold, &SeededEntropy::new(2));
        assert_eq!(refused.err(), Some(ShareError::Numbers), "{shares} {threshold}");
    }
}

#[test]
fn shares_of_two_splits_and_one_share_twice_give_nothing() {
    let (_, one) = made(1, 3, 2);
    let entropy = SeededEntropy::new(9);
    let other = split(&DataKey::generate(&entropy), *b"another8", 3, 2, &entropy).unwrap();
    assert_eq!(combine(&[one[0].clone(), other[1].clone()]).err(), Some(ShareError::NotTogether));
    assert_eq!(combine(&[one[0].clone(), one[0].clone()]).err(), Some(ShareError::NotTogether));
    assert_eq!(combine(&[]).err(), Some(ShareError::NotTogether));
}
