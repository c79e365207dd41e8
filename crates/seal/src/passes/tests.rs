use base::{SeededEntropy, Verb};

use super::*;
use crate::InstallationSigner;

const NOW: Timestamp = Timestamp::from_secs(1_000_000);

/// An installation with a vault and an accounts role, and a pass in the making.
struct World {
    installation: InstallationSigner,
    vault: Signer,
    accounts: Signer,
    assertion: Assertion,
}

impl World {
    fn new() -> Self {
        let installation = InstallationSigner::generate(&SeededEntropy::new(1));
        let holder = HolderId::of_public_key(b"the gateway's public key");
        let assertion = Assertion {
            credential: CredentialId::from_bytes([7; 16]),
            product: ProductId::new(7).unwrap(),
            audience: Role::Warehouse,
            holder,
            issued_at: NOW,
            expires_at: NOW.plus(MAX_PASS_LIFETIME),
            id: [9; 16],
        };
        let vault = role_signer(&installation, Role::Vault, NOW);
        let accounts = role_signer(&installation, Role::Accounts, NOW);
        Self {
            installation,
            vault,
            accounts,
            assertion,
        }
    }

    fn grant(&self) -> Grant {
        Grant::answering(&self.assertion, &self.signed(), Verbs::of(&[Verb::Query]), Scope::Product)
    }

    fn signed(&self) -> Vec<u8> {
        self.assertion.sign(&self.vault)
    }

    fn pass(&self, grant: &Grant) -> Pass {
        Pass {
            assertion: self.signed(),
            grant: grant.sign(&self.accounts),
        }
    }

    fn check(&self, pass: &Pass) -> Result<VerifiedPass, PassError> {
        self.check_at(pass, NOW)
    }

    fn check_at(&self, pass: &Pass, now: Timestamp) -> Result<VerifiedPass, PassError> {
        verify_pass(
            &self.installation.key(),
            &pass.encode(),
            Role::Warehouse,
            &self.assertion.holder,
            now,
        )
    }
}

fn role_signer(installation: &InstallationSigner, role: Role, from: Timestamp) -> Signer {
    let key = Signer::generate(&SeededEntropy::new(role as u64 + 10));
    let certificate = installation.certify(role, key.public_key(), from, from.plus(Duration::from_secs(86_400)));
    key.certified(certificate).unwrap()
}

#[test]
fn a_whole_pass_is_believed_and_says_what_was_granted() {
    let world = World::new();
    let mut grant = world.grant();
    grant.scope = Scope::Databases(vec!["web".parse().unwrap()]);
    let pass = world.pass(&grant);

    let verified = world.check(&pass).unwrap();

    assert_eq!(verified.product, world.assertion.product);
    assert_eq!(verified.verbs, Verbs::of(&[Verb::Query]));
    assert_eq!(verified.scope, grant.scope);
    assert_eq!(verified.expires_at, world.assertion.expires_at);
    let sent_on = verify_pass_sent_on(&world.installation.key(), &pass.encode(), Role::Warehouse, NOW);
    assert_eq!(sent_on, Ok(verified));
    assert_eq!(Pass::decode(&pass.encode()), Ok(pass));
}

#[test]
fn a_pass_has_a_beginning_and_an_end() {
    let world = World::new();
    let pass = world.pass(&world.grant());
    let at = |secs: i64| world.check_at(&pass, Timestamp::from_secs(1_000_000 + secs)).err();
    assert_eq!(at(-31), Some(PassError::NotYet));
    assert_eq!(at(-30), None);
    assert_eq!(at(299), None);
    assert_eq!(at(300), Some(PassError::Expired), "no leeway at the end");
}

#[test]
fn the_pass_ends_with_the_earlier_half() {
    let world = World::new();
    let mut grant = world.grant();
    grant.expires_at = NOW.plus(Duration::from_secs(60));
    assert_eq!(world.check(&world.pass(&grant)).unwrap().expires_at, grant.expires_at);
    assert_eq!(world.check_at(&world.pass(&grant), grant.expires_at), Err(PassError::Expired));
    grant.expires_at = NOW.plus(Duration::from_secs(3600));
    assert_eq!(world.check(&world.pass(&grant)).unwrap().expires_at, world.assertion.expires_at);
}

#[test]
fn nobody_can_make_a_pass_that_lasts_longer() {
    let mut world = World::new();
    world.assertion.expires_at = NOW.plus(MAX_PASS_LIFETIME + Duration::from_micros(1));
    assert_eq!(world.check(&world.pass(&world.grant())), Err(PassError::TooLong));
}

#[test]
fn another_audience_is_refused() {
    let world = World::new();
    let pass = world.pass(&world.grant()).encode();
    let refused = PassError::Audience {
        expected: Role::Identity,
        found: Role::Warehouse,
    };
    let key = world.installation.key();
    assert_eq!(verify_pass(&key, &pass, Role::Identity, &world.assertion.holder, NOW), Err(refused));
    assert_eq!(verify_pass_sent_on(&key, &pass, Role::Identity, NOW), Err(refused));
}

#[test]
fn another_holder_is_refused() {
    let world = World::new();
    let pass = world.pass(&world.grant()).encode();
    let thief = HolderId::of_public_key(b"another key");
    assert_eq!(
        verify_pass(&world.installation.key(), &pass, Role::Warehouse, &thief, NOW),
        Err(PassError::Holder)
    );
}

#[test]
fn a_verb_added_after_signing_is_refused() {
    let world = World::new();
    let pass = world.pass(&world.grant());
    // The grant's payload holds field 6 (verbs): tag byte 0x30, value 2 (query). Make it 3 (query and append).
    let at = pass.grant.windows(2).position(|two| two == [0x30, 2]).unwrap();
    let mut widened = pass.clone();
    widened.grant[at + 1] = 3;
    assert!(matches!(world.check(&widened), Err(PassError::Signature { half: "grant", .. })));
    assert!(world.check(&pass).is_ok(), "the untouched pass is fine");
}

#[test]
fn one_missing_signature_is_refused() {
    let world = World::new();
    let pass = world.pass(&world.grant());
    let no_grant = Pass {
        grant: Vec::new(),
        ..pass.clone()
    };
    let no_assertion = Pass {
        assertion: Vec::new(),
        ..pass.clone()
    };
    assert!(matches!(world.check(&no_grant), Err(PassError::Signature { half: "grant", .. })));
    assert!(matches!(
        world.check(&no_assertion),
        Err(PassError::Signature { half: "assertion", .. })
    ));
    let swapped = Pass {
        assertion: pass.grant.clone(),
        grant: pass.assertion.clone(),
    };
    assert!(matches!(world.check(&swapped), Err(PassError::Signature { .. })));
}

#[test]
fn each_half_counts_only_from_the_role_that_may_sign_it() {
    let world = World::new();
    let wrong = |expected, found, half| {
        Err(PassError::Signature {
            half,
            source: SealError::WrongRole { expected, found },
        })
    };
    for role in Role::ALL {
        let other = role_signer(&world.installation, role, NOW);
        if role != Role::Accounts {
            let pass = Pass {
                grant: world.grant().sign(&other),
                ..world.pass(&world.grant())
            };
            assert_eq!(world.check(&pass), wrong(Role::Accounts, role, "grant"), "{role}");
        }
        if role != Role::Vault {
            let signed = world.assertion.sign(&other);
            let grant = Grant::answering(&world.assertion, &signed, Verbs::of(&[Verb::Query]), Scope::Product);
            let pass = Pass {
                assertion: signed,
                grant: grant.sign(&world.accounts),
            };
            assert_eq!(world.check(&pass), wrong(Role::Vault, role, "assertion"), "{role}");
        }
    }
    let elsewhere = InstallationSigner::generate(&SeededEntropy::new(99));
    let foreign = role_signer(&elsewhere, Role::Accounts, NOW);
    let pass = Pass {
        grant: world.grant().sign(&foreign),
        ..world.pass(&world.grant())
    };
    assert!(matches!(world.check(&pass), Err(PassError::Signature { half: "grant", .. })));
}

#[test]
fn halves_about_different_things_are_refused() {
    let world = World::new();
    let mut cases = vec![];
    let mut case = |what, change: &dyn Fn(&mut Grant)| {
        let mut grant = world.grant();
        change(&mut grant);
        cases.push((what, grant));
    };
    case("credential", &|grant| grant.credential = CredentialId::from_bytes([8; 16]));
    case("product", &|grant| grant.product = ProductId::new(8).unwrap());
    case("audience", &|grant| grant.audience = Role::Identity);
    case("holder", &|grant| grant.holder = HolderId::from_bytes([1; 32]));
    case("the assertion that is answered", &|grant| grant.assertion_hash = [0; 32]);
    for (what, grant) in cases {
        assert_eq!(world.check(&world.pass(&grant)), Err(PassError::Mismatch { what }));
    }
}

#[test]
fn a_grant_does_not_answer_a_later_assertion_of_the_same_caller() {
    let mut world = World::new();
    let grant = world.grant();
    world.assertion.id = [1; 16];
    assert!(matches!(world.check(&world.pass(&grant)), Err(PassError::Mismatch { .. })));
}

#[test]
fn a_signer_whose_certificate_ended_is_not_believed() {
    let mut world = World::new();
    let day = Duration::from_secs(86_400);
    let old = Timestamp::from_micros(NOW.as_micros() - day.as_micros() as i64);
    world.accounts = role_signer(&world.installation, Role::Accounts, old);
    assert_eq!(
        world.check(&world.pass(&world.grant())),
        Err(PassError::Certificate { half: "grant" })
    );
    world = World::new();
    world.vault = role_signer(&world.installation, Role::Vault, NOW.plus(day));
    assert_eq!(
        world.check(&world.pass(&world.grant())),
        Err(PassError::Certificate { half: "assertion" })
    );
}

#[test]
fn an_empty_grant_grants_nothing() {
    let world = World::new();
    let mut grant = world.grant();
    (grant.verbs, grant.scope) = (Verbs::default(), Scope::Databases(vec![]));
    let verified = world.check(&world.pass(&grant)).unwrap();
    assert_eq!((verified.verbs, verified.scope), (Verbs::default(), Scope::Databases(vec![])));
}
