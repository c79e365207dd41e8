use base::SeededEntropy;
use edge::TlsKey;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
const DAY: Duration = Duration::from_secs(86_400);

fn authority() -> Authority {
    Authority::create(NOW, &SeededEntropy::new(1)).unwrap().0
}

fn request(names: &[&str]) -> (TlsKey, Vec<u8>) {
    let key = TlsKey::generate().unwrap();
    let request = key
        .certificate_request(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>())
        .unwrap();
    (key, request)
}

#[test]
fn a_role_gets_its_own_name_whatever_it_asks_for() {
    let (key, request) = request(&["vault.coffer.internal", "localhost"]);
    let issued = authority()
        .issue_role(Role::Gateway, &request, NOW, DAY, &SeededEntropy::new(2))
        .unwrap();

    let peer = edge::read_certificate(&issued.certificate).unwrap();
    assert_eq!(peer.role, Role::Gateway);
    assert_eq!(peer.holder, HolderId::of_public_key(&key.public_key()));
    assert_eq!(peer.holder, issued.holder);
    assert_eq!(peer.holder, holder_of_request(&request).unwrap());
    assert_eq!(peer.expires_at, NOW.plus(DAY));
}

#[test]
fn a_leaf_says_who_issued_it_and_what_it_is_for() {
    let authority = authority();
    let issued = authority
        .issue_role(Role::Gateway, &request(&["x"]).1, NOW, DAY, &SeededEntropy::new(2))
        .unwrap();
    let (_, leaf) = X509Certificate::from_der(&issued.certificate).unwrap();
    let (_, ca) = X509Certificate::from_der(authority.certificate()).unwrap();

    leaf.verify_signature(Some(ca.public_key())).unwrap();
    assert!(ca.is_ca() && !leaf.is_ca());
    assert!(ca.key_usage().unwrap().unwrap().value.key_cert_sign());
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && usage.client_auth && !usage.any);
    let named = |oid: &str| leaf.extensions().iter().any(|extension| extension.oid.to_id_string() == oid);
    assert!(named("2.5.29.35"), "authority key identifier");
    assert_ne!(leaf.raw_serial(), ca.raw_serial());
}

#[test]
fn a_public_certificate_proves_no_caller() {
    let names: Vec<String> = ["localhost", "127.0.0.1", "::1", "events.example.com"].map(String::from).to_vec();
    let issued = authority()
        .issue_public(&names, &request(&["ignored"]).1, NOW, DAY, &SeededEntropy::new(2))
        .unwrap();
    let (_, leaf) = X509Certificate::from_der(&issued.certificate).unwrap();

    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && !usage.client_auth);
    let names = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(names.len(), 4);
    assert!(matches!(names[0], GeneralName::DNSName("localhost")));
    assert!(edge::read_certificate(&issued.certificate).is_err());
}

#[test]
fn no_public_listener_bears_the_name_of_a_role() {
    let refused = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let error = authority()
            .issue_public(&names, &request(&["x"]).1, NOW, DAY, &SeededEntropy::new(2))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{names:?}");
    };
    for name in Role::ALL.map(Role::server_name) {
        refused(&["localhost", &name]);
        refused(&[&name.to_uppercase()]);
        refused(&[&format!("{name}.")]);
    }
    for name in [
        "coffer.internal",
        "*.coffer.internal",
        "*",
        "*.example.com",
        "",
        "a..b",
        "-a",
        "a b",
        "ä.example",
        &"a".repeat(64),
    ] {
        refused(&[name]);
    }
    refused(&[]);
}

#[test]
fn what_is_not_a_request_of_a_known_kind_is_refused() {
    let authority = authority();
    let mut changed = request(&["x"]).1;
    let last = changed.len() - 1;
    changed[last] ^= 1;
    let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let foreign = CertificateParams::default().serialize_request(&ed25519).unwrap();
    for wrong in [&b""[..], b"hello", &changed, foreign.der()] {
        let refused = authority
            .issue_role(Role::Gateway, wrong, NOW, DAY, &SeededEntropy::new(2))
            .unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
    }
}
