//! Passes: who may do what.
//!
//! Held: bytes are believed only if they say what was signed; and even what the right roles signed is believed only within the rules.

use std::sync::LazyLock;
use std::time::Duration;

use base::{CredentialId, ProductId, Role, Scope, SeededEntropy, Timestamp, Verb, Verbs};
use seal::{
    Assertion, Domain, Grant, HolderId, InstallationKey, InstallationSigner, MAX_PASS_LIFETIME, Pass, START_LEEWAY, Signer, VerifiedPass,
    sign, verify_pass,
};

const NOW: Timestamp = Timestamp::from_secs(1_763_900_000);
const AUDIENCE: Role = Role::Warehouse;

/// Signers, and one pass that is good.
struct World {
    key: InstallationKey,
    vault: Signer,
    accounts: Signer,
    holder: HolderId,
    assertion: Vec<u8>,
    pass: Vec<u8>,
    says: VerifiedPass,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let installation = InstallationSigner::generate(&SeededEntropy::new(1));
    let signer = |role, seed| {
        let signer = Signer::generate(&SeededEntropy::new(seed));
        let certificate = installation.certify(role, signer.public_key(), NOW, NOW.plus(Duration::from_secs(86_400)));
        signer.certified(certificate).expect("the certificate is of this key")
    };
    let (vault, accounts) = (signer(Role::Vault, 2), signer(Role::Accounts, 3));
    let holder = HolderId::of_public_key(b"of the gateway");
    let asserted = Assertion {
        credential: CredentialId::from_bytes([7; 16]),
        product: ProductId::new(7).expect("seven is the number of a product"),
        audience: AUDIENCE,
        holder,
        issued_at: NOW,
        expires_at: NOW.plus(MAX_PASS_LIFETIME),
        id: [9; 16],
    };
    let assertion = asserted.sign(&vault);
    let scope = Scope::Databases(vec!["web".parse().expect("a name")]);
    let grant = Grant::answering(&asserted, &assertion, Verbs::of(&[Verb::Query]), scope).sign(&accounts);
    let pass = Pass {
        assertion: assertion.clone(),
        grant,
    }
    .encode();
    let key = installation.key();
    let says = verify_pass(&key, &pass, AUDIENCE, &holder, NOW).expect("the pass is good");
    World {
        key,
        vault,
        accounts,
        holder,
        assertion,
        pass,
        says,
    }
});

/// Takes any bytes: the first says as what the others are taken.
pub fn one(data: &[u8]) {
    let Some((&kind, rest)) = data.split_first() else { return };
    match kind {
        b'p' => a_pass(rest),
        b'e' => a_pass(&crate::edited(&WORLD.pass, rest)),
        b'a' => an_assertion(rest),
        b'g' => a_grant(rest),
        _ => {}
    }
}

/// Nothing is said but what was signed, whatever else the bytes hold.
fn a_pass(bytes: &[u8]) {
    let world = &*WORLD;
    if let Ok(says) = verify_pass(&world.key, bytes, AUDIENCE, &world.holder, NOW) {
        assert_eq!(says, world.says, "a pass that nobody signed is believed");
    }
}

/// An assertion that the vault signed, with a grant that answers it.
fn an_assertion(payload: &[u8]) {
    let world = &*WORLD;
    let forged = sign(&world.accounts, Domain::PASS_ASSERTION, payload);
    assert!(Assertion::verify(&world.key, &forged, NOW).is_err(), "accounts asserts nothing");
    let signed = sign(&world.vault, Domain::PASS_ASSERTION, payload);
    let Ok(asserted) = Assertion::verify(&world.key, &signed, NOW) else {
        return;
    };
    assert!(
        asserted.issued_at <= NOW.plus(START_LEEWAY) && NOW < asserted.expires_at,
        "it is not in force"
    );
    assert!(
        asserted.expires_at <= asserted.issued_at.plus(MAX_PASS_LIFETIME),
        "it lasts too long"
    );
    let grant = Grant::answering(&asserted, &signed, Verbs::of(&[Verb::Query]), Scope::Product).sign(&world.accounts);
    let pass = Pass { assertion: signed, grant }.encode();
    let outcome = verify_pass(&world.key, &pass, AUDIENCE, &world.holder, NOW);
    let fits = asserted.audience == AUDIENCE && asserted.holder == world.holder;
    assert_eq!(outcome.is_ok(), fits, "{outcome:?}");
    if let Ok(says) = outcome {
        assert_eq!((says.product, says.credential), (asserted.product, asserted.credential));
    }
}

/// A grant that accounts signed, with an assertion that it may or may not answer.
fn a_grant(payload: &[u8]) {
    let world = &*WORLD;
    let pass = |signer| {
        Pass {
            assertion: world.assertion.clone(),
            grant: sign(signer, Domain::PASS_GRANT, payload),
        }
        .encode()
    };
    let shown = |pass: &[u8]| verify_pass(&world.key, pass, AUDIENCE, &world.holder, NOW);
    assert!(shown(&pass(&world.vault)).is_err(), "the vault grants nothing");
    if let Ok(says) = shown(&pass(&world.accounts)) {
        let VerifiedPass {
            credential,
            product,
            audience,
            holder,
            expires_at,
            ..
        } = says;
        let known = &world.says;
        assert_eq!(
            (credential, product, audience, holder),
            (known.credential, known.product, known.audience, known.holder)
        );
        assert!(expires_at <= known.expires_at, "a grant lengthens an assertion");
    }
}

/// Bytes to begin with.
pub fn seeds() -> Vec<Vec<u8>> {
    let world = &*WORLD;
    let payload = |domain, role, signed: &[u8]| {
        let verified = seal::verify(&world.key, domain, role, signed).expect("it was signed");
        verified.payload.to_vec()
    };
    let pass = Pass::decode(&world.pass).expect("the pass is good");
    let tagged = |tag: u8, bytes: &[u8]| [&[tag], bytes].concat();
    vec![
        tagged(b'p', &world.pass),
        tagged(b'e', &[0, 0, 1]),
        tagged(b'e', &[200, 0, 128, 201, 0, 3]),
        tagged(b'a', &payload(Domain::PASS_ASSERTION, Role::Vault, &pass.assertion)),
        tagged(b'g', &payload(Domain::PASS_GRANT, Role::Accounts, &pass.grant)),
    ]
}
