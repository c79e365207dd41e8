//! Erasing: what an attacker reads who kept every older copy of this role's zones and database and then gets all that is left.

use std::collections::BTreeSet;

use base::PersonId;
use seal::{DataKey, PrivateKey};
use zones::{MemoryZone, Zone, Zones, ZonesSettings};

use super::personal::open_any;
use super::world::{World, secrets};
use super::*;
use crate::erasure::{Erased, Whom};
use crate::facts::{Entry, Fact, SealedPerson, SealedRing};
use crate::people::AskError;
use crate::personal::{Personal, PersonalValue};
use crate::receipt::Receipt;
use crate::ring::Ring;
use crate::view::View;

const ERASE: &[Verb] = &[Verb::Erase, Verb::Append, Verb::Query];

fn product() -> ProductId {
    ProductId::new(1).unwrap()
}

async fn erase(world: &World, people: &People, whom: Whom) -> Result<Erased, AskError> {
    people.erase(&world.op(1, ERASE), &[1], whom).await
}

fn known_as(identity: &str) -> Whom {
    Whom::Identity(base::Secret::new(identity.to_owned()))
}

/// Everything that lies on this role's disk and in its zones at some time.
struct Copy {
    objects: Vec<(ObjectName, bytes::Bytes)>,
    view: Vec<(String, Vec<u8>)>,
}

impl Copy {
    fn of(world: &World) -> Self {
        let zone = &world.zones[0];
        let objects = zone.objects().into_iter().map(|name| (name.clone(), zone.held(&name).unwrap()));
        let file = |suffix: &str| {
            let bytes = std::fs::read(format!("{}{suffix}", world.view().display())).ok()?;
            Some((suffix.to_owned(), bytes))
        };
        Self {
            objects: objects.collect(),
            view: ["", "-wal"].into_iter().filter_map(file).collect(),
        }
    }

    /// Keyrings and people, as they are stored: in the database, and in every segment of the journal.
    async fn stored(&self, world: &World) -> (Vec<SealedRing>, Vec<SealedPerson>) {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().join("1.sqlite");
        for (suffix, bytes) in &self.view {
            std::fs::write(format!("{}{suffix}", at.display()), bytes).unwrap();
        }
        let view = View::open(&at).await.unwrap();
        let mut rings: Vec<_> = view.ring().await.unwrap().into_iter().collect();
        let rows = view.persons_after(0, 1_000).await.unwrap();
        let mut people: Vec<_> = rows.into_iter().map(|(id, sealed)| SealedPerson { id: id.get(), sealed }).collect();

        let zones: Vec<Arc<dyn Zone>> = ["a", "b", "c"]
            .iter()
            .map(|name| {
                let zone = Arc::new(MemoryZone::new(name));
                self.objects.iter().for_each(|(name, bytes)| zone.plant(name, bytes.clone()));
                zone as Arc<dyn Zone>
            })
            .collect();
        let zones = Zones::new(zones, ZonesSettings::default(), Arc::clone(&world.clock) as Arc<dyn Clock>);
        let state_key = PrivateKey::from_derived(&DataKey::try_from(&[9; 32][..]).unwrap());
        let read = journal::recover(&zones, &world.installation.key(), Role::Identity, "people/1", Some(product())).await;
        for segment in read.unwrap().segments {
            for entry in segment.open(&zones, &state_key).await.unwrap() {
                match Entry::decode(&entry).unwrap() {
                    Entry::Change(Fact::Ring(ring) | Fact::Moving(ring)) => rings.push(ring),
                    Entry::Change(Fact::Given(given)) => people.extend(given.people),
                    Entry::Change(Fact::Erased(erased)) => {
                        rings.extend(erased.ring);
                        people.extend(erased.people);
                    }
                    Entry::Change(Fact::Moved(_)) | Entry::Seen(_) => {}
                }
            }
        }
        (rings, people)
    }

    /// Whom one can read in it with the keys that the vault has, and with any keyring that opens with them, this copy's or another's.
    async fn read(&self, world: &World, others: &[&Self]) -> BTreeSet<(String, i64)> {
        let (mut rings, people) = self.stored(world).await;
        for other in others {
            rings.extend(other.stored(world).await.0);
        }
        let keys = world.vault.held(1);
        let keys: Vec<_> = keys.iter().map(|held| DataKey::try_from(&held.key[..]).unwrap()).collect();
        let opened: Vec<Ring> = rings
            .iter()
            .flat_map(|ring| keys.iter().filter_map(|key| Ring::open(product(), ring, key).ok()))
            .collect();
        let mut read = BTreeSet::new();
        for SealedPerson { id, sealed } in &people {
            let person = opened
                .iter()
                .find_map(|ring| ring.open_person(PersonId::new(*id).unwrap(), sealed).ok());
            for known in person.into_iter().flat_map(|person| person.identities) {
                read.insert((known.identity.reveal().to_owned(), *id));
            }
        }
        read
    }
}

#[tokio::test]
async fn no_older_copy_says_who_was_erased_whatever_is_left() {
    let world = World::new();
    let people = world.start().await;
    let ids = world
        .translate(&people, 1, &["ada@example.com", "bob@example.com", "eve@example.com"])
        .await;
    let before = Copy::of(&world);
    let everybody = [("ada@example.com", 0), ("bob@example.com", 1), ("eve@example.com", 2)].map(|(name, at)| (name.to_owned(), ids[at]));
    assert_eq!(
        before.read(&world, &[]).await,
        BTreeSet::from(everybody.clone()),
        "the attack works"
    );

    erase(&world, &people, known_as("ada@example.com")).await.unwrap();

    let after = Copy::of(&world);
    let left = BTreeSet::from([everybody[1].clone(), everybody[2].clone()]);
    assert_eq!(
        before.read(&world, &[&after]).await,
        left,
        "from the older copy, with all that is left"
    );
    assert_eq!(after.read(&world, &[&before]).await, left, "from what is left");
    assert_eq!(world.vault.held(1).iter().map(|key| key.epoch).collect::<Vec<_>>(), [2]);

    // And what was written between an erasure and the next is unreadable by then as well.
    let between = Copy::of(&world);
    let id = PersonId::new(ids[1]).unwrap();
    erase(&world, &people, Whom::Id(id)).await.unwrap();
    let last = Copy::of(&world);
    for copy in [&before, &between, &last] {
        let read = copy.read(&world, &[&before, &between, &last]).await;
        assert_eq!(read, BTreeSet::from([everybody[2].clone()]));
    }
}

#[tokio::test]
async fn an_older_copy_does_say_it_when_the_vault_keeps_the_key_and_then_nothing_counts_as_erased() {
    let world = World::new();
    let people = world.start().await;
    let ids = world.translate(&people, 1, &["ada@example.com", "bob"]).await;
    let before = Copy::of(&world);
    world.vault.keeps.store(true, Ordering::SeqCst);

    let refused = erase(&world, &people, known_as("ada@example.com")).await.unwrap_err();

    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    let after = Copy::of(&world);
    let ada = ("ada@example.com".to_owned(), ids[0]);
    assert!(
        before.read(&world, &[&after]).await.contains(&ada),
        "the attack finds out a vault that drops nothing"
    );
    assert_eq!(
        world.find(&people, 1, &["ada@example.com", "bob"]).await,
        [0, ids[1]],
        "gone from here all the same"
    );

    // Nobody is known by that any more, and that alone is no answer: it would say that all is done.
    let again = erase(&world, &people, known_as("ada@example.com")).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Unavailable);

    // Once the vault does what it is asked, asking again finishes it; so does whoever next works on the product.
    world.vault.keeps.store(false, Ordering::SeqCst);
    let id = PersonId::new(ids[0]).unwrap();
    let again = erase(&world, &people, Whom::Id(id)).await.unwrap();
    assert_eq!((again.receipt.id, again.receipt.epoch, again.receipt.identities.len()), (id, 2, 0));
    assert!(!before.read(&world, &[&after]).await.contains(&ada));
    assert_eq!(world.vault.held(1).len(), 1);
}

#[tokio::test]
async fn what_an_erasure_that_broke_off_left_with_the_vault_is_dropped_by_whoever_comes_next() {
    let world = World::new();
    let people = world.start().await;
    world.translate(&people, 1, &["ada", "bob"]).await;
    world.vault.keeps.store(true, Ordering::SeqCst);
    erase(&world, &people, known_as("ada")).await.unwrap_err();
    people.close().await;
    world.vault.keeps.store(false, Ordering::SeqCst);
    assert_eq!(world.vault.held(1).len(), 2);

    let people = world.start().await;
    let gone = erase(&world, &people, known_as("ada")).await.unwrap_err();

    assert_eq!(gone.kind(), ErrorKind::NotFound);
    assert_eq!(world.vault.held(1).iter().map(|key| key.epoch).collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn whoever_was_erased_stays_so_and_comes_back_as_somebody_else() {
    let world = World::new();
    let people = world.start().await;
    let first = world.translate(&people, 1, &["ada", "bob"]).await;

    let erased = erase(&world, &people, known_as("ada")).await.unwrap();

    let receipt = Receipt::verify(&world.installation.key(), &erased.signed).unwrap();
    assert_eq!((receipt.id.get(), receipt.product, receipt.epoch), (first[0], product(), 2));
    assert_eq!(receipt.identities.len(), 1);
    assert_eq!(world.find(&people, 1, &["ada", "bob"]).await, [0, first[1]]);
    let again = world.translate(&people, 1, &["ada", "bob"]).await;
    assert!(again[0] != first[0] && again[1] == first[1]);
    people.close().await;
    for is_lost in [false, true] {
        if is_lost {
            std::fs::remove_dir_all(world.directory.path().join("people")).unwrap();
        }
        let people = world.start().await;
        assert_eq!(world.translate(&people, 1, &["ada", "bob"]).await, again, "lost: {is_lost}");
        let checked = crate::receipt::check(world.directory.path(), &receipt).await.unwrap();
        assert!(checked.gone && checked.noted && checked.renewed, "{checked:?}");
        people.close().await;
    }
    let another = Receipt {
        id: PersonId::new(first[1]).unwrap(),
        ..receipt
    };
    let checked = crate::receipt::check(world.directory.path(), &another).await.unwrap();
    assert!(!checked.gone && !checked.noted, "bob is there: {checked:?}");
}

#[tokio::test]
async fn all_identities_of_a_person_go_and_their_personal_values_with_them() {
    let world = World::new();
    let people = world.start().await;
    let row = |column: &[usize], together: &[usize]| crate::links::Links {
        columns: vec!["email".into(), "device".into()],
        column: column.to_vec(),
        together: vec![together.to_vec()],
    };
    let ids = world
        .try_link(&people, 1, &["ada", "phone-1"], Some(row(&[0, 1], &[0, 1])))
        .await
        .unwrap();
    assert_eq!(ids[0], ids[1]);
    let personal = Personal {
        columns: vec!["name".into()],
        values: vec![PersonalValue {
            owner: Some(0),
            column: 0,
            value: base::Secret::new("Ada".into()),
        }],
    };
    let op = world.op(1, ERASE);
    let sealed = people.translate(&op, &[1], secrets(&["ada"]), None, personal).await.unwrap().1;
    let ready = people.ready(&op, &[1]).await.unwrap();
    assert_eq!(open_any(&ready, "name", &sealed[0]).await.unwrap(), "Ada");

    let erased = erase(&world, &people, known_as("phone-1")).await.unwrap();

    assert_eq!(erased.receipt.identities.len(), 2);
    assert_eq!(world.find(&people, 1, &["ada", "phone-1"]).await, [0, 0]);
    let ready = people.ready(&op, &[1]).await.unwrap();
    assert_eq!(open_any(&ready, "name", &sealed[0]).await.unwrap_err(), ErrorKind::NotFound);
}

#[tokio::test]
async fn erasing_needs_its_own_verb_and_somebody_to_erase() {
    let world = World::new();
    let people = world.start().await;
    let ids = world.translate(&people, 1, &["ada"]).await;
    let all_but = [Verb::Append, Verb::Query, Verb::Manage];
    let refused = people.erase(&world.op(1, &all_but), &[1], known_as("ada")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Forbidden);
    for nobody in [known_as("eve"), Whom::Id(PersonId::new(7).unwrap())] {
        let refused = erase(&world, &people, nobody).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NotFound);
    }
    let elsewhere = people.erase(&world.op(2, ERASE), &[2], known_as("ada")).await.unwrap_err();
    assert_eq!(elsewhere.kind(), ErrorKind::NotFound, "another product's");
    assert_eq!(world.find(&people, 1, &["ada"]).await, ids);
    assert_eq!(world.vault.held(1).len(), 1, "nothing was begun");
}

#[tokio::test]
async fn with_too_few_zones_nobody_is_erased_and_everybody_is_found() {
    let world = World::new();
    let people = world.start().await;
    let ids = world.translate(&people, 1, &["ada", "bob"]).await;
    world.zones[0].go_down();
    world.zones[1].go_down();

    let refused = erase(&world, &people, known_as("ada")).await.unwrap_err();

    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert_eq!(world.find(&people, 1, &["ada", "bob"]).await, ids);
    world.zones.iter().for_each(|zone| zone.come_back());
    erase(&world, &people, known_as("ada")).await.unwrap();
    assert_eq!(world.find(&people, 1, &["ada", "bob"]).await, [0, ids[1]]);
    assert_eq!(world.vault.held(1).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_translates_meanwhile_gets_ids_that_are_good_afterwards() {
    let world = Arc::new(World::new());
    let people = world.start().await;
    let names: Vec<String> = (0..40).map(|n| format!("person {n}")).collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let first = world.translate(&people, 1, &all).await;

    let callers = (0..8).map(|_| {
        let (world, people, names) = (Arc::clone(&world), Arc::clone(&people), names.clone());
        tokio::spawn(async move {
            let all: Vec<&str> = names.iter().map(String::as_str).collect();
            for _ in 0..20 {
                world.translate(&people, 1, &all).await;
            }
        })
    });
    let callers: Vec<_> = callers.collect();
    for name in &names[..10] {
        // It may have come back as somebody else just now.
        erase(&world, &people, known_as(name)).await.unwrap();
    }
    for caller in callers {
        caller.await.unwrap();
    }

    let last = world.translate(&people, 1, &all).await;
    assert_eq!(last[10..], first[10..], "nobody else was touched");
    assert!(last[..10].iter().all(|id| !first.contains(id)));
    assert_eq!(world.vault.held(1).len(), 1);
    people.close().await;
    std::fs::remove_dir_all(world.directory.path().join("people")).unwrap();
    let people = world.start().await;
    assert_eq!(world.translate(&people, 1, &all).await, last);
}
