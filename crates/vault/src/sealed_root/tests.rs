use std::os::unix::fs::MetadataExt;

use base::SeededEntropy;
use proptest::prelude::*;
use seal::shares::split;

use super::*;

const AT: Timestamp = Timestamp::from_secs(1000);

fn made(seed: u64, number: u64) -> (RootKey, DataKey, SealedRoot) {
    let entropy = SeededEntropy::new(seed);
    let (root, key) = (RootKey::generate(&entropy), DataKey::generate(&entropy));
    let shares = split(&key, *b"set of 8", 3, 2, &entropy).unwrap();
    let sealed = SealedRoot::seal(&root, &key, &shares, number, AT, &entropy).unwrap();
    (root, key, sealed)
}

#[test]
fn it_opens_with_its_key_only_and_says_what_it_said() {
    let (root, key, sealed) = made(1, 4);
    let read = SealedRoot::from_bytes(&sealed.to_bytes()).unwrap();
    assert_eq!(read.open(&key).unwrap().reveal(), root.reveal());
    assert_eq!(
        (read.number(), read.shares(), read.threshold(), read.set()),
        (4, 3, 2, *b"set of 8")
    );

    let (_, another, _) = made(2, 4);
    assert!(matches!(read.open(&another), Err(SealedRootError::DoesNotOpen(_))));
    assert!(!read.is_key(&another));
}

#[test]
fn what_was_wrapped_as_one_does_not_open_as_another() {
    let (_, key, sealed) = made(1, 4);
    let mut later = sealed.clone();
    later.stored.number = 5;
    assert!(matches!(later.open(&key), Err(SealedRootError::DoesNotOpen(_))));
}

#[test]
fn nothing_of_the_key_or_the_root_stands_in_it() {
    let (root, key, sealed) = made(1, 1);
    let bytes = sealed.to_bytes();
    for secret in [root.reveal(), key.reveal()] {
        assert!(!bytes.windows(8).any(|part| secret.windows(8).any(|of| of == part)));
    }
}

#[test]
fn it_takes_a_place_whole_and_privately() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE);
    assert!(SealedRoot::read(&path).unwrap().is_none());
    for number in [1, 2] {
        let (_, _, sealed) = made(number, number);
        fs::write(path.with_extension("new"), "left by a crash").unwrap();
        sealed.write(&path).unwrap();
        assert_eq!(SealedRoot::read(&path).unwrap().unwrap().stored, sealed.stored);
    }
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left over");
}

#[test]
fn a_damaged_one_and_a_newer_one_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE);
    let good = made(1, 1).2.to_bytes();
    let mut newer = good.clone();
    newer[MAGIC.len()] = BY_TOKEN + 1;
    fs::write(&path, &newer).unwrap();
    let refused = SealedRoot::read(&path).unwrap_err();
    assert!(refused.to_string().contains("newer version"), "{refused}");
    for wrong in [&b""[..], b"cfroot\0", &good[..good.len() - 1], &[&good[..], &[0]].concat()] {
        fs::write(&path, wrong).unwrap();
        assert!(
            matches!(SealedRoot::read(&path), Err(SealedRootError::Damaged { .. })),
            "{}",
            wrong.len()
        );
    }
}

#[test]
fn only_what_this_vault_marked_is_its_own_in_zones() {
    let (root, _, sealed) = made(1, 1);
    let (another, _, others) = made(2, 9);
    let name = |bytes: &[u8]| ObjectName::new(IN_ZONES, "00000001", bytes).unwrap();
    let own = |sealed: &SealedRoot, root: &RootKey| {
        let bytes = Bytes::from(sealed.to_bytes());
        SealedRoot::is_own(&root.mark(), &name(&bytes), &bytes)
    };
    assert!(own(&sealed, &root));
    assert!(!own(&others, &root));
    assert!(!own(&sealed, &another));
    let mut changed = sealed.clone();
    changed.stored.number = 7;
    assert!(!own(&changed, &root));
    let bytes = Bytes::from(sealed.to_bytes());
    let elsewhere = ObjectName::new("vault", "00000001", &bytes).unwrap();
    assert!(!SealedRoot::is_own(&root.mark(), &elsewhere, &bytes));
}

#[test]
fn a_destroyed_file_holds_nothing_and_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let (path, twin) = (directory.path().join("root.key"), directory.path().join("twin"));
    RootKey::generate(&SeededEntropy::new(1)).write(&path).unwrap();
    fs::hard_link(&path, &twin).unwrap();
    destroy(&path).unwrap();
    assert!(!path.exists());
    assert_eq!(fs::read_to_string(&twin).unwrap(), "0".repeat(65));
    destroy(&path).unwrap();
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_no_sealed_root(bytes: Vec<u8>) {
        prop_assert!(SealedRoot::from_bytes(&bytes).is_err());
        for form in [SHARED, BY_TOKEN] {
            let mut framed = MAGIC.to_vec();
            framed.push(form);
            framed.extend_from_slice(blake3::hash(&bytes).as_bytes());
            framed.extend_from_slice(&bytes);
            prop_assert!(SealedRoot::from_bytes(&framed).is_err());
        }
    }
}

// Stored bytes are frozen: whoever changes this test breaks every installation.
#[test]
fn a_stored_root_keeps_its_form() {
    let stored = Stored {
        set: vec![1; 8],
        threshold: 2,
        share_hashes: vec![vec![2; 32], vec![3; 32]],
        check: vec![4; 32],
        wrapped: vec![5],
        at: 6,
        number: 7,
        mark: vec![8],
        by_token: None,
    };
    let sealed = SealedRoot::of(stored).unwrap();
    let (two, three, four) = ("02".repeat(32), "03".repeat(32), "04".repeat(32));
    let body = format!("0a0801010101010101011002 1a20{two}1a20{three}2220{four}2a0105300638074201 08").replace(' ', "");
    let bytes = sealed.to_bytes();
    assert_eq!(hex::encode(&bytes[HEAD..]), body);
    assert_eq!(&bytes[..8], b"cfroot\0\x01");
    assert_eq!(SealedRoot::from_bytes(&bytes).unwrap().stored, sealed.stored);

    let stored = Stored {
        threshold: 0,
        share_hashes: Vec::new(),
        by_token: Some(vec![10]),
        ..sealed.stored
    };
    let sealed = SealedRoot::of(stored).unwrap();
    let bytes = sealed.to_bytes();
    let body = format!("0a080101010101010101 2220{four}2a01053006380742010 84a010a").replace(' ', "");
    assert_eq!(hex::encode(&bytes[HEAD..]), body);
    assert_eq!(&bytes[..8], b"cfroot\0\x02");
    assert_eq!(SealedRoot::from_bytes(&bytes).unwrap().stored, sealed.stored);
    // Neither form passes for the other.
    let mut other = bytes;
    other[7] = SHARED;
    assert_eq!(SealedRoot::from_bytes(&other).unwrap_err(), None);
    assert_eq!(hex::encode(Secrets { seed: vec![9] }.encode_to_vec()), "0a0109");
}
