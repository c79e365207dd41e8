//! What a record says, and what it cannot say.

use std::time::Duration;

use base::{CredentialId, ProductId, Role, SeededEntropy, Timestamp};
use seal::DataKey;

use crate::*;

const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_005);

fn draft(object: &str) -> Draft {
    Draft {
        at: NOW,
        role: Role::Warehouse,
        who: Who::Role(Role::Gateway),
        on_behalf: Some(CredentialId::from_bytes([1; 16])),
        method: "/coffer.v1.Warehouse/DeleteTable".into(),
        object: Object::named(object),
        request: Some(Digest::of(b"request")),
        decision: Decision::Allowed,
        rule: "calls".into(),
        pass: Some([2; 16]),
        product: ProductId::new(7).ok(),
        count: 1,
    }
}

fn line(draft: &Draft, key: u8) -> String {
    let at = Numbers {
        number: 3,
        of_product: 2,
        previous: [0xab; 32],
    };
    Record::new(draft, at, &HashKey::new(DataKey::try_from(&[key; 32][..]).unwrap())).to_line()
}

// Stored bytes are frozen: whoever changes this test breaks every installation, and every export that a customer keeps.
#[test]
fn a_record_keeps_its_form() {
    let line = line(&draft("web/events"), 1);
    let request = &line[line.find("request\":\"").unwrap() + 10..][..64];
    let id = CredentialId::from_bytes([1; 16]);
    assert_eq!(
        line,
        format!(
            "{{\"v\":1,\"prev\":\"{}\",\"n\":3,\"at\":\"2027-01-15T08:00:00.000005Z\",\"role\":\"warehouse\",\"who\":\"role:gateway\",\
             \"for\":\"key:{id}\",\"method\":\"/coffer.v1.Warehouse/DeleteTable\",\"object\":\"web/events\",\"request\":\"{request}\",\
             \"decision\":\"allowed\",\"rule\":\"calls\",\"pass\":\"{}\",\"product\":7,\"pn\":2,\"count\":1}}",
            "ab".repeat(32),
            "02".repeat(16)
        )
    );
    let read = Record::parse(&line).unwrap();
    assert_eq!((read.to_line(), read.previous()), (line, Some([0xab; 32])));
}

#[test]
fn what_is_no_plain_name_is_a_keyed_hash() {
    for secret in [
        "alice@example.com",
        "Alice",
        "+49 170 1234567",
        "a\nb",
        "\u{1b}[2J",
        "{}",
        &"a".repeat(201),
    ] {
        let (one, other) = (line(&draft(secret), 1), line(&draft(secret), 2));
        assert!(!one.contains(secret), "{secret:?}");
        let object = Record::parse(&one).unwrap().object;
        assert!(object.starts_with('#') && object.len() == 65, "{object}");
        assert_ne!(object, Record::parse(&other).unwrap().object, "under another key it is another");
        assert_ne!(
            object[1..],
            hex::encode(Digest::of(secret.as_bytes()).reveal()),
            "it is not the hash that anybody can make"
        );
        let printed = format!("{:?}", draft(secret));
        assert!(!printed.contains(secret) && !printed.contains(&hex::encode(Digest::of(secret.as_bytes()).reveal())));
    }
}

#[test]
fn the_same_request_about_another_product_has_another_hash() {
    let one = line(&draft("a"), 1);
    let other = line(
        &Draft {
            product: ProductId::new(8).ok(),
            ..draft("a")
        },
        1,
    );
    assert_ne!(Record::parse(&one).unwrap().request, Record::parse(&other).unwrap().request);
}

#[test]
fn only_the_one_spelling_is_a_record() {
    let good = line(&draft("a"), 1);
    let wrong = [
        String::new(),
        "{}".into(),
        good.replace("\"n\":3", "\"n\": 3"),
        good.replace("\"n\":3", "\"n\":03"),
        good.replace("allowed", "perhaps"),
        good.replace("role:gateway", "role:cook"),
        good.replace("\"count\":1", "\"count\":1,\"more\":1"),
        format!("{good} "),
        good.replace("key:", "kex:"),
    ];
    for line in wrong {
        assert_eq!(Record::parse(&line), Err(RecordError::Malformed), "{line}");
    }
    let newer = good.replace("\"v\":1", "\"v\":2").replace("\"count\":1", "\"count\":1,\"more\":1");
    assert_eq!(Record::parse(&newer), Err(RecordError::Newer(2)));
}

#[test]
fn a_draft_from_elsewhere_says_nothing_that_a_record_may_not() {
    assert_eq!(draft("a").check(), Ok(()));
    let wrong = [
        Draft {
            method: "/a b".into(),
            ..draft("a")
        },
        Draft {
            rule: "alice@example.com".into(),
            ..draft("a")
        },
        Draft {
            rule: String::new(),
            ..draft("a")
        },
        Draft {
            object: Object::Name("alice@example.com".into()),
            ..draft("a")
        },
        Draft {
            method: "x".repeat(201),
            ..draft("a")
        },
    ];
    for draft in wrong {
        assert!(draft.check().is_err(), "{draft:?}");
    }
}

#[test]
fn beyond_a_bound_refusals_are_counted_and_the_count_is_recorded() {
    let mut bound = Bound::of(3);
    let at = |seconds| Draft {
        at: NOW.plus(Duration::from_secs(seconds)),
        decision: Decision::Refused,
        ..draft("a")
    };
    let one_by_one = (0..10).filter(|seconds| bound.admit(at(*seconds)).is_some()).count();
    assert_eq!(one_by_one, 3);
    let other = Draft {
        rule: "pass".into(),
        ..at(5)
    };
    assert!(bound.admit(other).is_some(), "another rule has a bound of its own");

    assert_eq!(bound.due(NOW.plus(Duration::from_secs(59))), []);
    let due = bound.due(NOW.plus(Duration::from_secs(60)));

    assert_eq!(due.len(), 1);
    assert_eq!((due[0].count, due[0].on_behalf, due[0].product), (7, None, at(0).product));
    assert!(bound.admit(at(61)).is_some(), "a minute later they are recorded again");
    let before = Timestamp::from_micros(NOW.as_micros() - 1);
    assert_eq!(bound.due(before), [], "nothing was only counted");
    assert!((0..4).filter(|_| bound.admit(at(0)).is_some()).count() == 3);
    assert_eq!(bound.rest().iter().map(|draft| draft.count).sum::<u64>(), 1);
}

#[test]
fn refusals_in_one_product_do_not_count_towards_anothers() {
    let mut bound = Bound::of(3);
    let of = |product| Draft {
        decision: Decision::Refused,
        product: ProductId::new(product).ok(),
        ..draft("a")
    };
    let admitted = |bound: &mut Bound, product, count| (0..count).filter(|_| bound.admit(of(product)).is_some()).count();
    assert_eq!((admitted(&mut bound, 1, 50), admitted(&mut bound, 2, 2)), (3, 2));
    // Whoever makes products up does not get a record for each of them.
    let made_up: usize = (3..5_000).map(|product| admitted(&mut bound, product, 1)).sum();
    assert!(made_up < 1_010, "{made_up}");
    let rest = bound.rest();
    assert!(rest.len() <= 1_010);
    assert_eq!(rest.iter().find(|draft| draft.product == ProductId::new(1).ok()).unwrap().count, 47);
    assert_eq!(
        rest.iter().map(|draft| draft.count).sum::<u64>() + 3 + 2 + made_up as u64,
        50 + 2 + 4_997,
        "none is forgotten"
    );
}

#[test]
fn random_text_in_place_of_a_name_never_breaks_the_line() {
    let entropy = SeededEntropy::new(4);
    for _ in 0..500 {
        let mut bytes = [0; 12];
        base::Entropy::fill(&entropy, &mut bytes);
        let line = line(&draft(&String::from_utf8_lossy(&bytes)), 1);
        assert!(line.bytes().all(|b| (b' '..=b'~').contains(&b)), "{line}");
        assert!(Record::parse(&line).is_ok());
    }
}
