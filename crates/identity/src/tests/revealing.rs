//! Saying who somebody is: to whom, of whom, and what of it.

use base::{PersonId, Secret};

use super::world::{World, secrets};
use super::*;
use crate::erasure::Whom;
use crate::people::AskError;
use crate::personal::{Personal, PersonalValue};
use crate::reveal::{Asked, Revealed};

const REVEAL: &[Verb] = &[Verb::Query, Verb::Reveal];

async fn reveal(world: &World, people: &People, product: u8, id: i64, values: &[(&str, &[u8])]) -> Result<Revealed, AskError> {
    let op = world.op(product, REVEAL);
    people.reveal(&op, &[product], asked(id, "ticket-1", values)).await
}

fn asked(id: i64, reason: &str, values: &[(&str, &[u8])]) -> Asked {
    Asked {
        id: PersonId::new(id).unwrap(),
        reason: reason.into(),
        values: values
            .iter()
            .map(|(column, sealed)| ((*column).to_owned(), sealed.to_vec()))
            .collect(),
    }
}

/// Ada and Bob, and a name of each, and one of nobody's.
async fn furnished(world: &World, people: &People) -> ([i64; 2], Vec<Vec<u8>>) {
    let value = |owner, value: &str| PersonalValue {
        owner,
        column: 0,
        value: Secret::new(value.into()),
    };
    let personal = Personal {
        columns: vec!["name".into()],
        values: vec![value(Some(0), "Ada L."), value(Some(1), "Bob M."), value(None, "Eve N.")],
    };
    let op = world.op(1, &[Verb::Append]);
    let identities = secrets(&["ada@example.com", "bob@example.com"]);
    let (ids, sealed, _) = people.translate(&op, &[1], identities, None, personal).await.unwrap();
    ([ids[0].get(), ids[1].get()], sealed)
}

#[tokio::test]
async fn a_person_is_named_and_what_is_theirs_opens_and_what_is_anothers_does_not() {
    let world = World::new();
    let people = world.start().await;
    let ([ada, bob], sealed) = furnished(&world, &people).await;

    let values: Vec<(&str, &[u8])> = sealed.iter().map(|sealed| ("name", &sealed[..])).collect();
    let shown = reveal(
        &world,
        &people,
        1,
        ada,
        &[&values[..], &[("nick", &sealed[0]), ("name", b"")]].concat(),
    )
    .await
    .unwrap();
    let names: Vec<_> = shown.identities.iter().map(|known| known.identity.reveal()).collect();
    assert_eq!(names, ["ada@example.com"]);
    let opened: Vec<_> = shown
        .values
        .iter()
        .map(|value| value.as_ref().map(|value| value.reveal()))
        .collect();
    assert_eq!(
        opened,
        [Some("Ada L."), None, None, None, None],
        "Bob's, nobody's, of another column, nothing"
    );
    assert!(!format!("{shown:?}").contains("Ada") && !format!("{shown:?}").contains("ada@"));

    let shown = reveal(&world, &people, 1, bob, &values).await.unwrap();
    assert_eq!(shown.values[1].as_ref().unwrap().reveal(), "Bob M.");
    for (product, id) in [(1, ada ^ 1), (2, ada)] {
        let error = reveal(&world, &people, product, id, &values).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "product {product}");
    }
}

#[tokio::test]
async fn who_was_erased_is_not_spoken_of() {
    let world = World::new();
    let people = world.start().await;
    let ([ada, bob], sealed) = furnished(&world, &people).await;
    let op = world.op(1, &[Verb::Erase, Verb::Query]);
    people.erase(&op, &[1], Whom::Id(PersonId::new(ada).unwrap())).await.unwrap();

    let error = reveal(&world, &people, 1, ada, &[("name", &sealed[0])]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(reveal(&world, &people, 1, bob, &[]).await.is_ok());
}

#[tokio::test]
async fn without_the_verb_a_reason_or_within_the_bounds_nobody_is_named() {
    let world = World::new();
    let people = world.start().await;
    let ([ada, bob], _) = furnished(&world, &people).await;
    let admin = world.op(1, &[Verb::Append, Verb::Query, Verb::Manage, Verb::Erase]);
    let refused = people.reveal(&admin, &[1], asked(ada, "ticket-1", &[])).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Forbidden);

    let op = world.op(1, REVEAL);
    for reason in ["", "x", "ada@example.com", "Because I want to"] {
        let refused = people.reveal(&op, &[1], asked(ada, reason, &[])).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{reason}");
        assert!(!refused.to_string().contains("ada@"));
    }
    let many: Vec<(&str, &[u8])> = vec![("name", b"x"); crate::reveal::MOST_VALUES + 1];
    let refused = reveal(&world, &people, 1, ada, &many).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    let large = vec![0; crate::reveal::MOST_BYTES];
    assert!(reveal(&world, &people, 1, ada, &[("name", &large)]).await.is_err());

    // The tests' role allows three people an hour; whoever is not there counts, so that nobody goes through ids.
    assert!(reveal(&world, &people, 1, ada, &[]).await.is_ok() && reveal(&world, &people, 1, bob, &[]).await.is_ok());
    assert!(reveal(&world, &people, 1, ada ^ 1, &[]).await.is_err());
    let refused = reveal(&world, &people, 1, bob ^ 1, &[]).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooMuch);
    assert!(reveal(&world, &people, 1, ada, &[]).await.is_ok(), "those of the hour go on");
    world.clock.advance(std::time::Duration::from_secs(3_600));
    assert_eq!(
        reveal(&world, &people, 1, bob ^ 1, &[]).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
}
