//! What is proven of the people of products: that they are each product's alone, and that nothing of them is the same in two.

use base::{Entropy, PersonId, ProductId, Secret, SecretBytes, SeededEntropy};
use edge::proving::{Line, Told};
use journal::Head;
use seal::{DataKey, InstallationSigner};
use wire::proving::{Handed, OfProduct};

use crate::facts::{Entry, Fact, Given, SealedPerson};
use crate::prove::{Alike, ProveParts, prove, unlinkable};
use crate::ring::{Known, Person, Ring};
use crate::view::View;

const ADA: &str = "ada@example.com";

/// A product as it is kept: who is in it, under which id and key, found by which key.
struct Made<'a> {
    number: u64,
    lookup: [u8; 32],
    people: &'a [(i64, [u8; 32], &'a str)],
}

fn number(number: u64) -> ProductId {
    ProductId::new(number).unwrap()
}

async fn kept(directory: &std::path::Path, made: &[Made<'_>], chance: &dyn Entropy) -> Handed {
    std::fs::create_dir_all(directory.join("people")).unwrap();
    let mut handed = Handed {
        state: None,
        products: Vec::new(),
    };
    for made in made {
        let people = DataKey::generate(chance);
        let ring = Ring::generate(number(made.number), 1, chance);
        let row = |(id, key, identity): &(i64, [u8; 32], &str)| {
            let person = Person {
                key: DataKey::try_from(&key[..]).unwrap(),
                identities: vec![Known {
                    identity: Secret::new((*identity).to_owned()),
                    column: "email".into(),
                }],
            };
            SealedPerson {
                id: *id,
                sealed: ring.seal_person(PersonId::new(*id).unwrap(), &person, chance),
            }
        };
        let given = Given {
            people: made.people.iter().map(row).collect(),
        };
        let facts = [Fact::Ring(ring.sealed(&people, chance)), Fact::Given(given)];
        let view = View::open(&directory.join("people").join(format!("{}.sqlite", made.number)))
            .await
            .unwrap();
        view.apply(&Head::default(), &facts.map(Entry::Change)).await.unwrap();
        view.close().await;
        handed.products.push(OfProduct {
            product: made.number,
            public: vec![1; 32],
            private: None,
            lookup: Some(SecretBytes::new(made.lookup.to_vec())),
            people: vec![(1, SecretBytes::new(people.reveal().to_vec()))],
        });
    }
    handed
}

async fn compared(first: Made<'_>, second: Made<'_>) -> Alike {
    let (place, chance) = (tempfile::tempdir().unwrap(), SeededEntropy::new(1));
    let of = [first.number, second.number].map(number);
    let handed = kept(place.path(), &[first, second], &chance).await;
    let parts = ProveParts {
        directory: place.path().to_owned(),
        zones: Vec::new(),
        installation: InstallationSigner::generate(&chance).key(),
        handed: &handed,
        entropy: &chance,
    };
    unlinkable(&parts, of).await.unwrap()
}

fn same(alike: &Alike) -> Vec<(&str, u64)> {
    alike
        .common
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(kind, count)| (*kind, *count))
        .collect()
}

#[tokio::test]
async fn whatever_two_products_have_in_common_but_an_identity_is_found() {
    let made = |number, lookup, people| Made {
        number,
        lookup: [lookup; 32],
        people,
    };
    let first = || made(1, 1, &[(5, [11; 32], ADA), (6, [12; 32], "bob@example.com")]);

    let alike = compared(first(), made(2, 2, &[(7, [13; 32], ADA)])).await;
    assert_eq!((same(&alike), alike.identities, alike.people), (vec![], 1, [2, 1]));
    let alike = compared(first(), made(2, 2, &[(5, [13; 32], ADA)])).await;
    assert_eq!(same(&alike), [("person ids", 1)]);
    let alike = compared(first(), made(2, 2, &[(7, [11; 32], ADA)])).await;
    assert_eq!(same(&alike), [("keys of personal values", 1)]);
    let alike = compared(first(), made(2, 1, &[(7, [13; 32], ADA)])).await;
    assert_eq!(same(&alike), [("keys of the product", 1), ("lookup hashes", 1)]);
    // Nobody is in both: nothing of them can be the same, and that the keys are shows all the same.
    let alike = compared(first(), made(2, 1, &[(7, [13; 32], "eve@example.com")])).await;
    assert_eq!((same(&alike), alike.identities), (vec![("keys of the product", 1)], 0));
}

#[tokio::test]
async fn people_open_with_their_products_keyring_and_with_no_other() {
    let (place, chance) = (tempfile::tempdir().unwrap(), SeededEntropy::new(2));
    let made = [1, 2].map(|number| Made {
        number,
        lookup: [number as u8; 32],
        people: &[(5, [11; 32], ADA), (1 << 60, [12; 32], "bob@example.com")],
    });
    let mut handed = kept(place.path(), &made, &chance).await;
    let proven = async |handed: &Handed| {
        let parts = ProveParts {
            directory: place.path().to_owned(),
            zones: Vec::new(),
            installation: InstallationSigner::generate(&chance).key(),
            handed,
            entropy: &chance,
        };
        let mut lines = Vec::new();
        let mut out = |line: &Line| {
            lines.push(line.clone());
            Ok(())
        };
        prove(&parts, &mut Told::new(&mut out, None)).await.unwrap();
        lines
    };
    let lines = proven(&handed).await;
    assert!(!lines.iter().any(|line| matches!(line, Line::Wrong(_))), "{lines:?}");
    let rows: u64 = lines
        .iter()
        .filter_map(|line| match line {
            Line::Tally(tally) if tally.kind == "people" => Some((tally.opened, &tally.refused)),
            _ => None,
        })
        .map(|(opened, refused)| {
            assert!(refused["the keyring"] == 2 && refused["no key"] == 2 && refused["moved to another person"] == 2);
            opened
        })
        .sum();
    assert_eq!(rows, 4);
    // The vault's keys of the one for the other's: the right key does not open, and it is said.
    let (first, second) = (handed.products[0].people.clone(), handed.products[1].people.clone());
    (handed.products[0].people, handed.products[1].people) = (second, first);
    let lines = proven(&handed).await;
    let wrong = lines
        .iter()
        .filter(|line| matches!(line, Line::Wrong(why) if why.contains("does not open with its key")));
    assert_eq!(wrong.count(), 2, "{lines:?}");
}
