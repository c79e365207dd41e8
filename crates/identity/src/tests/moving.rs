//! People whom builds before there were keyrings have left: moved under one, and trimmed from the journal.

use base::{PersonId, Secret};
use prost::Message;
use seal::{DataKey, PrivateKey};

use super::world::World;
use super::*;
use crate::facts::{PeopleSeen, PersonSeen};

/// As such a build has left it: two segments, one person with two identities.
async fn left(world: &World) -> Vec<i64> {
    let parts = world.parts();
    let state_key = PrivateKey::from_derived(&DataKey::try_from(&[9; 32][..]).unwrap());
    let product = ProductId::new(1).unwrap();
    let writer = base::WriterId::generate(world.clock.now(), &*world.entropy);
    let journal = journal::Journal::start(
        parts.journal.clone(),
        parts.settings.clone(),
        "people/1",
        Some(product),
        state_key.public(),
        writer,
        journal::Tail::empty(),
    );
    let op = world.op(1, &[Verb::Append]);
    let leases = crate::keys::Leases::default();
    let keys = leases.get(&op, &[1], &*world.vault, 0, world.clock.now()).await.unwrap();
    let ids: Vec<PersonId> = (0..3).map(|_| PersonId::random(&*world.entropy)).collect();
    for some in [&[("ada", 0), ("phone-1", 0)][..], &[("bob", 1), ("eve", 2)]] {
        let seen = |(identity, person): &(&str, usize)| {
            let identity = Secret::new((*identity).to_owned());
            let hash = keys.hash(&identity);
            let key = DataKey::try_from(&[*person as u8; 32][..]).unwrap();
            PersonSeen {
                hash: hash.to_vec(),
                id: ids[*person].get(),
                sealed: keys.seal_first(&hash, &key, &identity, &*world.entropy),
                column: "email".into(),
            }
        };
        let people = PeopleSeen {
            people: some.iter().map(seen).collect(),
        };
        journal.append(journal::Entry::sealed(people.encode_to_vec())).await.unwrap();
    }
    journal.close().await;
    [0, 0, 1, 2].map(|person: usize| ids[person].get()).to_vec()
}

const NAMES: &[&str] = &["ada", "phone-1", "bob", "eve"];

#[tokio::test]
async fn they_keep_their_ids_and_what_could_be_read_with_the_lookup_key_is_gone() {
    let world = World::new();
    let ids = left(&world).await;
    let old = world.zones[0].objects();
    let people = world.start().await;

    assert_eq!(world.find(&people, 1, NAMES).await, ids);

    for zone in &world.zones {
        assert!(old.iter().all(|name| !zone.holds(name)), "the old segments are trimmed");
    }
    people.close().await;
    for is_lost in [false, true] {
        if is_lost {
            std::fs::remove_dir_all(world.directory.path().join("people")).unwrap();
        }
        let people = world.start().await;
        assert_eq!(world.translate(&people, 1, NAMES).await, ids, "lost: {is_lost}");
        assert_eq!(people.ledger(ProductId::new(1).unwrap()).await.unwrap().count().await, 3);
        people.close().await;
    }
}

#[tokio::test]
async fn wherever_it_breaks_off_nobody_is_lost() {
    // A keyring, a segment of people, the word that all were moved, and two trimmed forms, in three zones each.
    for puts in 0..16 {
        let world = World::new();
        let ids = left(&world).await;
        let people = world.start().await;
        world.zones.iter().for_each(|zone| zone.fail_put_after(puts));
        let op = world.op(1, &[Verb::Query]);
        let _ = people.find(&op, &[1], world::secrets(NAMES)).await;
        world.zones.iter().for_each(|zone| zone.come_back());
        people.close().await;
        if puts % 2 == 0 {
            std::fs::remove_dir_all(world.directory.path().join("people")).unwrap();
        }

        let people = world.start().await;

        assert_eq!(world.translate(&people, 1, NAMES).await, ids, "after {puts} puts");
        people.close().await;
    }
}

#[tokio::test]
async fn nobody_is_erased_while_entries_that_tell_of_them_wait_to_be_trimmed() {
    let world = World::new();
    let ids = left(&world).await;
    let old = world.zones[0].objects();
    let people = world.start().await;
    // A keyring, the people, the word that all were moved, and the first trimmed form fails; and so it does when it is tried again.
    let one_fails = |after| world.zones.iter().for_each(|zone| zone.fail_put_after(after));
    one_fails(3);
    assert_eq!(world.find(&people, 1, NAMES).await, ids);
    let tells = |world: &World| old.iter().any(|name| world.zones[0].holds(name));
    assert!(tells(&world), "there is nothing left to trim");

    let op = world.op(1, &[Verb::Erase, Verb::Append, Verb::Query]);
    let ada = || crate::erasure::Whom::Identity(Secret::new("ada".to_owned()));
    one_fails(0);
    let refused = people.erase(&op, &[1], ada()).await.unwrap_err();
    assert!(refused.to_string().contains("in the journal yet"), "{refused}");
    assert_eq!(refused.kind(), base::ErrorKind::Unavailable);

    people.erase(&op, &[1], ada()).await.unwrap();
    assert!(!tells(&world), "erased, and an older entry tells who it was");
    people.close().await;
}
