use base::SeededEntropy;
use proptest::prelude::*;

use super::*;

fn signer(installation: &InstallationSigner, role: Role, seed: u64) -> Signer {
    let uncertified = Signer::generate(&SeededEntropy::new(seed));
    let certificate = installation.certify(role, uncertified.public_key(), Timestamp::from_secs(100), Timestamp::from_secs(200));
    uncertified.certified(certificate).unwrap()
}

fn installation(seed: u64) -> InstallationSigner {
    InstallationSigner::generate(&SeededEntropy::new(seed))
}

#[test]
fn a_statement_is_believed_from_its_role_under_its_domain_in_its_installation_only() {
    let (ours, theirs) = (installation(1), installation(2));
    let signed = sign(&signer(&ours, Role::Warehouse, 3), Domain::SEGMENT, b"payload");

    let verified = verify(&ours.key(), Domain::SEGMENT, Role::Warehouse, &signed).unwrap();
    assert_eq!(verified.payload, b"payload");
    assert_eq!(verified.certificate.role(), Role::Warehouse);
    assert_eq!(
        verify(&ours.key(), Domain::SEGMENT, Role::Vault, &signed),
        Err(SealError::WrongRole {
            expected: Role::Vault,
            found: Role::Warehouse
        })
    );
    assert!(verify(&ours.key(), Domain::HEAD, Role::Warehouse, &signed).is_err());
    assert!(verify(&theirs.key(), Domain::SEGMENT, Role::Warehouse, &signed).is_err());
}

#[test]
fn no_flipped_bit_survives_in_a_signed_statement() {
    let ours = installation(1);
    let signed = sign(&signer(&ours, Role::Vault, 3), Domain::HEAD, b"payload");
    for bit in 0..signed.len() * 8 {
        let mut changed = signed.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(verify(&ours.key(), Domain::HEAD, Role::Vault, &changed).is_err(), "bit {bit}");
    }
}

#[test]
fn a_signature_does_not_move_to_another_certificate() {
    let ours = installation(1);
    let (old, key) = (signer(&ours, Role::Vault, 3), Signer::generate(&SeededEntropy::new(3)).public_key());
    let renewed = old
        .renewed(ours.certify(Role::Vault, key, Timestamp::from_secs(150), Timestamp::from_secs(250)))
        .unwrap();
    let mut statement = SignedStatement::decode(&*sign(&old, Domain::HEAD, b"payload")).unwrap();
    statement.certificate = renewed.certificate().encode();

    assert!(verify(&ours.key(), Domain::HEAD, Role::Vault, &statement.encode_to_vec()).is_err());
    assert!(verify(&ours.key(), Domain::HEAD, Role::Vault, &sign(&renewed, Domain::HEAD, b"payload")).is_ok());
}

#[test]
fn another_keys_certificate_is_refused() {
    let ours = installation(1);
    let theirs = signer(&ours, Role::Gateway, 4).certificate().clone();
    assert!(signer(&ours, Role::Gateway, 3).renewed(theirs.clone()).is_err());
    assert!(Signer::generate(&SeededEntropy::new(5)).certified(theirs).is_err());
}

#[test]
fn a_certificate_covers_its_time_and_no_more() {
    let certificate = signer(&installation(1), Role::Vault, 3).certificate().clone();
    for (at, covered) in [(99, false), (100, true), (199, true), (200, false)] {
        assert_eq!(certificate.covers(Timestamp::from_secs(at)), covered, "{at}");
    }
    let again = SigningCertificate::decode(&installation(1).key(), &certificate.encode());
    assert_eq!(again, Ok(certificate));
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_not_believed(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(verify(&installation(1).key(), Domain::HEAD, Role::Vault, &bytes).is_err());
        prop_assert!(SigningCertificate::decode(&installation(1).key(), &bytes).is_err());
    }
}
