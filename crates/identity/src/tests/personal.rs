//! Personal values: sealed in the call that translates, and opened with the role's own keys.

use base::PersonId;
use proptest::prelude::*;

use super::world::{World, secrets};
use super::*;
use crate::people::Ready;
use crate::personal::{MOST_PERSONAL_BYTES, Personal, PersonalValue, open};

/// (owner among the identities, column, value).
type Value<'a> = (Option<usize>, &'a str, &'a str);

fn personal(values: &[Value<'_>]) -> Personal {
    let mut columns: Vec<String> = Vec::new();
    let values = values.iter().map(|(owner, name, value)| {
        let column = columns.iter().position(|known| known == name).unwrap_or_else(|| {
            columns.push((*name).to_owned());
            columns.len() - 1
        });
        PersonalValue {
            owner: *owner,
            column,
            value: base::Secret::new((*value).to_owned()),
        }
    });
    let values = values.collect();
    Personal { columns, values }
}

async fn seal(world: &World, people: &People, product: u8, identities: &[&str], values: &[Value<'_>]) -> Vec<Vec<u8>> {
    let op = world.op(product, &[Verb::Append]);
    let sealed = people.translate(&op, &[product], secrets(identities), None, personal(values)).await;
    sealed.unwrap().1
}

/// Opens what it says that it is, with the key of whoever it says that it is of.
pub(super) async fn open_any(ready: &Ready, column: &str, sealed: &[u8]) -> Result<String, ErrorKind> {
    let owner = match sealed.split_first_chunk::<9>() {
        Some(([1, id @ ..], _)) => Some(PersonId::new(i64::from_be_bytes(*id)).map_err(|_| ErrorKind::Corrupt)?),
        _ => None,
    };
    let mut persons = ready.ledger.persons(&ready.ring, owner.as_slice()).await.unwrap();
    let key = match owner {
        Some(id) => Some((id, persons.remove(&id).ok_or(ErrorKind::NotFound)?.key)),
        None => None,
    };
    let owner = key.as_ref().map(|(id, key)| (*id, key));
    let value = open(&ready.keys, owner, column, sealed).map_err(|error| {
        assert!(!error.to_string().contains("Ada"));
        error.kind()
    })?;
    Ok(value.reveal().to_owned())
}

async fn opened(world: &World, people: &People, product: u8, column: &str, sealed: &[u8]) -> Result<String, ErrorKind> {
    let op = world.op(product, &[Verb::Append]);
    let ready = people.ready(&op, &[product]).await.unwrap();
    open_any(&ready, column, sealed).await
}

#[tokio::test]
async fn one_persons_equal_values_of_a_column_are_sealed_alike_and_no_others() {
    let world = World::new();
    let people = world.start().await;
    let asked = [
        (Some(0), "name", "Ada"),
        (Some(1), "name", "Ada"),
        (Some(0), "nick", "Ada"),
        (Some(0), "name", "Eve"),
        (Some(0), "name", ""),
        (None, "name", "Ada"),
    ];

    let first = seal(&world, &people, 1, &["ada", "bob"], &asked).await;
    // The same people in another order, in another call.
    let again = seal(
        &world,
        &people,
        1,
        &["bob", "ada"],
        &[(Some(1), "name", "Ada"), (Some(0), "name", "Ada")],
    )
    .await;
    let elsewhere = seal(&world, &people, 2, &["ada"], &asked[..1]).await;

    assert_eq!(again, first[..2]);
    let all: HashSet<_> = first.iter().chain(&elsewhere).collect();
    assert_eq!(all.len(), 7, "another person, column, value or product, or nobody");
    for ((_, column, value), sealed) in asked.iter().zip(&first) {
        assert_eq!(opened(&world, &people, 1, column, sealed).await.unwrap(), *value);
        assert!(!sealed.windows(3).any(|window| window == b"Ada"));
    }
    assert_eq!(opened(&world, &people, 2, "name", &elsewhere[0]).await.unwrap(), "Ada");
}

#[tokio::test]
async fn nobodys_values_are_alike_within_a_call_only() {
    let world = World::new();
    let people = world.start().await;
    let asked = [(None, "name", "Ada"), (None, "name", "Ada"), (None, "nick", "Ada")];

    let one = seal(&world, &people, 1, &[], &asked).await;
    let two = seal(&world, &people, 1, &[], &asked).await;

    assert_eq!(one[0], one[1]);
    assert_eq!(HashSet::from([&one[0], &one[2], &two[0], &two[2]]).len(), 4);
    assert_eq!(opened(&world, &people, 1, "nick", &two[2]).await.unwrap(), "Ada");
}

#[tokio::test]
async fn a_sealed_value_opens_in_its_own_column_and_product_and_for_its_own_owner_only() {
    let world = World::new();
    let people = world.start().await;
    let asked = [
        (Some(0), "name", "Ada"),
        (Some(1), "name", "Bob"),
        (None, "name", "Eve"),
        (None, "name", "Kim"),
    ];
    let sealed = seal(&world, &people, 1, &["ada", "bob"], &asked).await;
    let other_call = seal(&world, &people, 1, &[], &asked[2..]).await;
    world.translate(&people, 2, &["ada"]).await;
    let refused = async |product, column, sealed: &[u8]| opened(&world, &people, product, column, sealed).await.unwrap_err();

    assert_eq!(refused(1, "nick", &sealed[0]).await, ErrorKind::Corrupt);
    assert_eq!(
        refused(2, "name", &sealed[0]).await,
        ErrorKind::NotFound,
        "that product has nobody with this id"
    );
    assert_eq!(refused(1, "nick", &sealed[2]).await, ErrorKind::Corrupt);
    assert_eq!(refused(2, "name", &sealed[2]).await, ErrorKind::Corrupt);
    let moved = [&sealed[1][..9], &sealed[0][9..]].concat();
    assert_eq!(refused(1, "name", &moved).await, ErrorKind::Corrupt, "Ada's value as Bob's");
    let moved = [&other_call[0][..62], &sealed[2][62..]].concat();
    assert_eq!(
        refused(1, "name", &moved).await,
        ErrorKind::Corrupt,
        "a value under the key of another call"
    );
    assert_eq!(refused(1, "name", &[&[2], &sealed[0][1..]].concat()).await, ErrorKind::Corrupt);
    for wrong in [&[][..], &[1], &[2; 62], &[3; 100], &[1, 0, 0, 0, 0, 0, 0, 0, 0, 5]] {
        assert_eq!(refused(1, "name", wrong).await, ErrorKind::Corrupt, "{wrong:?}");
    }
    for sealed in [&sealed[0], &sealed[2]] {
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            // A changed id is nobody's.
            assert!(
                matches!(refused(1, "name", &changed).await, ErrorKind::Corrupt | ErrorKind::NotFound),
                "{at}"
            );
            assert!(opened(&world, &people, 1, "name", &sealed[..at]).await.is_err(), "{at}");
        }
    }
}

#[tokio::test]
async fn a_restart_and_a_view_made_anew_give_the_same_keys() {
    let world = World::new();
    let people = world.start().await;
    let asked = [(Some(0), "name", "Ada"), (Some(1), "name", "Bob"), (None, "name", "Eve")];
    let before = seal(&world, &people, 1, &["ada", "bob"], &asked).await;
    people.close().await;

    for view_is_lost in [false, true] {
        if view_is_lost {
            std::fs::remove_dir_all(world.directory.path().join("people")).unwrap();
        }
        let people = world.start().await;
        let after = seal(&world, &people, 1, &["ada", "bob"], &asked).await;
        assert_eq!(after[..2], before[..2]);
        for ((_, column, value), sealed) in asked.iter().zip(&before) {
            assert_eq!(opened(&world, &people, 1, column, sealed).await.unwrap(), *value);
        }
        people.close().await;
    }
}

#[tokio::test]
async fn what_a_call_may_hold_of_personal_values_is_capped() {
    let world = World::new();
    let people = world.start().await;
    let op = world.op(1, &[Verb::Append]);
    let refused = async |personal: Personal, words: &str| {
        let error = people.translate(&op, &[1], secrets(&["ada"]), None, personal).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(words), "{error}");
        assert!(!error.to_string().contains("xx"));
    };
    let large = "x".repeat(MOST_PERSONAL_BYTES / 2);
    refused(
        personal(&vec![(None, "name", "xx"); 100_001]),
        "100001 personal values of 200002 bytes",
    )
    .await;
    refused(
        personal(&[(None, "name", &large), (None, "name", &large), (None, "name", "x")]),
        "3 personal values",
    )
    .await;
    refused(personal(&[(None, "Name", "xx")]), "in small letters").await;
    refused(personal(&[(None, "", "xx")]), "in small letters").await;
    refused(personal(&[(None, &"n".repeat(129), "xx")]), "in small letters").await;
    refused(
        personal(&[(Some(0), "name", "xx"), (Some(1), "name", "xx")]),
        "number 2 is of an owner",
    )
    .await;
    let mut nowhere = personal(&[(None, "name", "xx")]);
    nowhere.values[0].column = 1;
    refused(nowhere, "number 1 is of an owner or a column").await;
    assert_eq!(world.find(&people, 1, &["ada"]).await, [0], "nobody got an id by it");

    let sealed = seal(&world, &people, 1, &["ada"], &[(Some(0), "name", &large), (None, "name", &large)]).await;
    assert_eq!(opened(&world, &people, 1, "name", &sealed[0]).await.unwrap(), large);
    assert_eq!(
        seal(&world, &people, 1, &[], &vec![(None, "name", "x"); 100_000]).await.len(),
        100_000
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whoever_owns_it_a_value_comes_back_and_looks_like_its_equals_only(
        asked in prop::collection::vec((0usize..3, 0usize..2, ".{0,6}"), 1..12), restart in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new();
            let mut people = world.start().await;
            let names = ["ada", "bob", "eve"];
            let asked: Vec<Value<'_>> = asked.iter().map(|(who, column, text)| (Some(*who), ["name", "nick"][*column], text.as_str())).collect();
            let first = seal(&world, &people, 1, &names, &asked).await;
            if restart {
                people.close().await;
                people = world.start().await;
            }
            let second = seal(&world, &people, 1, &names, &asked).await;
            prop_assert_eq!(&first, &second);
            for (one, sealed) in asked.iter().zip(&first) {
                prop_assert_eq!(opened(&world, &people, 1, one.1, sealed).await.unwrap(), one.2);
                for (other, another) in asked.iter().zip(&first) {
                    prop_assert_eq!(one == other, sealed == another);
                }
            }
            people.close().await;
            Ok(())
        })?;
    }
}
