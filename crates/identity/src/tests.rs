//! The whole role but its listeners, on zones in memory or in directories, with a vault of the tests' own.

mod erasing;
mod links;
mod moving;
mod personal;
mod proving;
mod revealing;
mod world;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::atomic::Ordering;

use base::{Clock, CredentialId, ProductId, Verb};
use zones::{ObjectName, ZonesSettings};

use super::*;
use world::{LEASE, World, lookup_key, secrets};

#[tokio::test]
async fn one_identity_has_one_id() {
    let world = World::new();
    let people = world.start().await;

    let first = world.translate(&people, 1, &["ada", "bob", "ada"]).await;
    let again = world.translate(&people, 1, &["bob", "eve", "ada"]).await;

    assert_eq!((first[0], first[0], first[1]), (first[2], again[2], again[0]));
    assert_eq!(HashSet::from([first[0], first[1], again[1]]).len(), 3);
    assert!(first.iter().all(|id| *id > 0));
    assert_eq!(world.find(&people, 1, &["eve", "nobody", "ada"]).await, [again[1], 0, first[0]]);
}

#[tokio::test]
async fn two_products_know_nothing_of_each_other() {
    let world = World::new();
    let people = world.start().await;

    let (one, two) = (
        world.translate(&people, 1, &["ada"]).await,
        world.translate(&people, 2, &["ada"]).await,
    );

    assert_ne!(one, two);
    assert_eq!(world.find(&people, 3, &["ada"]).await, [0]);
    let objects: Vec<_> = world.zones[0].objects().iter().map(|name| name.prefix().to_owned()).collect();
    assert!(objects.iter().any(|prefix| prefix.starts_with("people/1/")) && objects.iter().any(|prefix| prefix.starts_with("people/2/")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_at_the_same_time_agree() {
    let world = Arc::new(World::new());
    let people = world.start().await;

    let callers = (0..24).map(|caller: usize| {
        let (world, people) = (Arc::clone(&world), Arc::clone(&people));
        tokio::spawn(async move {
            let names: Vec<String> = (0..200).map(|n| format!("person {}", (n * 7 + caller * 31) % 300)).collect();
            let ids = world
                .translate(&people, 1, &names.iter().map(String::as_str).collect::<Vec<_>>())
                .await;
            names.into_iter().zip(ids).collect::<Vec<_>>()
        })
    });
    let answers = futures::future::join_all(callers).await;

    let mut by_name = BTreeMap::new();
    for (name, id) in answers.into_iter().flat_map(Result::unwrap) {
        assert_eq!(*by_name.entry(name.clone()).or_insert(id), id, "{name} has two ids");
    }
    assert_eq!(by_name.len(), 300);
    assert_eq!(by_name.values().collect::<HashSet<_>>().len(), 300);
}

#[tokio::test]
async fn a_caller_who_goes_away_leaves_nothing_half_done() {
    let world = World::new();
    let people = world.start().await;
    world.zones.iter().for_each(|zone| zone.hang());
    let asked = tokio::time::timeout(Duration::from_millis(50), world.try_translate(&people, 1, &["ada"])).await;
    assert!(asked.is_err(), "the caller gave up");
    world.zones.iter().for_each(|zone| zone.come_back());

    let ada = world.translate(&people, 1, &["ada", "bob"]).await;
    people.close().await;

    std::fs::remove_dir_all(world.directory.path().join("people")).unwrap();
    let people = world.start().await;
    assert_eq!(world.translate(&people, 1, &["ada", "bob"]).await, ada);
}

#[tokio::test]
async fn a_restart_and_a_view_made_anew_give_the_same_ids() {
    let world = World::new();
    let people = world.start().await;
    let first = world.translate(&people, 1, &["ada", "bob"]).await;
    people.close().await;
    let old_view = std::fs::read(world.view()).unwrap();

    let people = world.start().await;
    let second = world.translate(&people, 1, &["ada", "eve"]).await;
    assert_eq!(second[0], first[0]);
    people.close().await;

    // As after a crash between journal and view, and as after the loss of the view.
    for view in [Some(old_view), None] {
        std::fs::remove_file(world.view()).unwrap();
        if let Some(bytes) = view {
            std::fs::write(world.view(), bytes).unwrap();
        }
        let people = world.start().await;
        assert_eq!(
            world.translate(&people, 1, &["ada", "bob", "eve"]).await,
            [first[0], first[1], second[1]]
        );
        assert_eq!(people.ledger(ProductId::new(1).unwrap()).await.unwrap().count().await, 3);
        people.close().await;
    }
}

#[tokio::test]
async fn what_the_owner_of_one_zone_puts_among_the_journals_keeps_nobody_from_starting() {
    let world = World::new();
    let people = world.start().await;
    let ids = world.translate(&people, 1, &["ada"]).await;
    people.close().await;
    let segment = world.zones[0].objects()[0].clone();
    for (prefix, bytes) in [("people/x", "as named"), ("people/9/1", "another"), (segment.prefix(), "another")] {
        let name = ObjectName::new(prefix, segment.id(), b"as named").unwrap();
        world.zones[2].plant(&name, bytes::Bytes::from(bytes));
    }

    let people = world.start().await;

    assert_eq!(world.translate(&people, 1, &["ada"]).await, ids);
}

#[tokio::test]
async fn with_too_few_zones_nobody_gets_an_id_and_known_people_keep_theirs() {
    let world = World::new();
    let people = world.start().await;
    let ada = world.translate(&people, 1, &["ada"]).await;
    world.zones[0].go_down();
    let with_one_down = world.translate(&people, 1, &["bob"]).await;
    world.zones[1].go_down();

    let refused = world.try_translate(&people, 1, &["ada", "eve"]).await.unwrap_err();

    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert!(!refused.to_string().contains("eve"));
    assert_eq!(world.find(&people, 1, &["eve"]).await, [0]);
    assert_eq!(
        world.translate(&people, 1, &["ada", "bob"]).await,
        [ada[0], with_one_down[0]],
        "those need no zone"
    );
    world.zones.iter().for_each(|zone| zone.come_back());
    people.close().await;
    let people = world.start().await;
    assert_eq!(world.find(&people, 1, &["eve", "ada", "bob"]).await, [0, ada[0], with_one_down[0]]);
}

#[tokio::test]
async fn an_append_that_nobody_can_vouch_for_does_not_lead_to_two_ids() {
    let world = World::new();
    let people = world.start().await;
    world.translate(&people, 1, &["bob"]).await;
    world.zones.iter().for_each(|zone| zone.do_and_deny_next_puts(1));
    let refused = world.try_translate(&people, 1, &["ada"]).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);

    let ada = world.translate(&people, 1, &["ada"]).await;
    people.close().await;

    std::fs::remove_dir_all(world.directory.path().join("people")).unwrap();
    let people = world.start().await;
    assert_eq!(world.translate(&people, 1, &["ada"]).await, ada);
    assert_eq!(people.ledger(ProductId::new(1).unwrap()).await.unwrap().count().await, 2);
}

#[tokio::test]
async fn a_journal_shorter_than_remembered_refuses_to_start() {
    let world = World::new();
    let people = world.start().await;
    world.translate(&people, 1, &["ada"]).await;
    people.close().await;
    let people = world.start().await;
    world.translate(&people, 1, &["bob"]).await;
    people.close().await;
    assert_eq!(world.vault.heads.lock().unwrap()["people/1"].length, 3, "a keyring and two people");
    std::fs::remove_dir_all(world.directory.path().join("people")).unwrap();
    let last = world.zones[0]
        .objects()
        .into_iter()
        .find(|name| name.id().contains("-0000000000000002-"))
        .unwrap();
    world.zones.iter().for_each(|zone| assert!(zone.lose(&last)));

    let refused = People::start(&world.parts()).await.unwrap_err();

    assert_eq!(refused.kind(), ErrorKind::Corrupt);
    assert_eq!(
        refused.to_string(),
        "the journal of product 1's people is not the one that the vault remembers: the journal has 2 segments, 3 are remembered: bring back the zones that hold the rest"
    );
}

#[tokio::test]
async fn a_view_ahead_of_its_journal_refuses_to_start() {
    let world = World::new();
    let people = world.start().await;
    world.translate(&people, 1, &["ada"]).await;
    people.close().await;
    world.vault.heads.lock().unwrap().clear();
    let only = world.zones[0].objects();
    world
        .zones
        .iter()
        .for_each(|zone| only.iter().for_each(|name| assert!(zone.lose(name))));

    assert_eq!(People::start(&world.parts()).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn the_key_goes_with_its_lease_and_with_its_credential() {
    let world = World::new();
    let people = world.start().await;
    let ada = world.translate(&people, 1, &["ada"]).await;
    world.translate(&people, 1, &["ada"]).await;
    assert_eq!(world.vault.leases.load(Ordering::SeqCst), 1);

    world.clock.advance(Duration::from_secs(u64::from(LEASE)));
    world.vault.down.store(true, Ordering::SeqCst);
    assert_eq!(
        world.try_translate(&people, 1, &["ada"]).await.unwrap_err().kind(),
        ErrorKind::Unavailable,
        "even before it is swept"
    );
    people.sweep();
    assert_eq!(people.leases().len(), 0);

    world.vault.down.store(false, Ordering::SeqCst);
    assert_eq!(world.translate(&people, 1, &["ada"]).await, ada);
    let ledger = people.ledger(ProductId::new(1).unwrap()).await.unwrap();
    assert!(ledger.is_ready());
    people.revoke(CredentialId::from_bytes([1; 16]));
    assert_eq!(people.leases().len(), 0);
    assert!(!ledger.is_ready(), "who is who goes as well");
}

#[tokio::test]
async fn what_a_call_may_hold_is_capped() {
    let world = World::new();
    let people = world.start().await;
    let check = async |identities: Vec<&str>, words: &str| {
        let refused = world.try_translate(&people, 1, &identities).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
        assert!(refused.to_string().contains(words), "{refused}");
        assert!(!refused.to_string().contains("xx"));
    };
    let (long, longest) = ("x".repeat(LONGEST + 1), "x".repeat(LONGEST));
    check(vec!["ada", &long], "identity number 2 has more than 1024 bytes").await;
    check(vec![""], "identity number 1 is empty").await;
    check(
        vec!["ada"; MOST_TRANSLATED + 1],
        "100001 identities in one call, at most 100000 are possible; ask for them in parts",
    )
    .await;
    assert_eq!(world.translate(&people, 1, &[&longest]).await.len(), 1);
    assert_eq!(world.translate(&people, 1, &[]).await.len(), 0);
    let found = people.find(&world.op(1, &[Verb::Query]), &[1], secrets(&["ada"; 1_001])).await;
    assert_eq!(found.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn each_call_needs_its_own_verb() {
    let world = World::new();
    let people = world.start().await;

    let translated = people
        .translate(
            &world.op(1, &[Verb::Query, Verb::Manage]),
            &[1],
            secrets(&["ada"]),
            None,
            crate::personal::Personal::default(),
        )
        .await;
    let found = people
        .find(&world.op(1, &[Verb::Append, Verb::Manage]), &[1], secrets(&["ada"]))
        .await;

    assert_eq!(translated.unwrap_err().kind(), ErrorKind::Forbidden);
    assert_eq!(found.unwrap_err().kind(), ErrorKind::Forbidden);
    assert_eq!(world.vault.leases.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_key_for_what_is_set_aside_opens_again_for_its_product_and_who_may_read_and_manage() {
    let world = World::new();
    let people = world.start().await;
    let all = [Verb::Append, Verb::Query, Verb::Manage];
    let (key, wrapped) = people.aside_key(&world.op(1, &[Verb::Append]), &[1]).await.unwrap();
    let (other, _) = people.aside_key(&world.op(1, &[Verb::Append]), &[1]).await.unwrap();
    assert_ne!(key.reveal(), other.reveal(), "each body has a key of its own");
    people.close().await;

    // Nothing of it was kept, and nothing is needed.
    let people = world.start().await;
    let asked = [wrapped.clone(), b"rubbish".to_vec()];
    let opened = people.open_aside(&world.op(1, &all), &[1], &asked).await.unwrap();
    assert_eq!(opened[0].as_ref().unwrap().reveal(), key.reveal());
    assert!(opened[1].is_none());
    assert!(
        people.open_aside(&world.op(2, &all), &[2], &asked).await.unwrap()[0].is_none(),
        "another product"
    );

    let refused = async |verbs: &[Verb]| people.open_aside(&world.op(1, verbs), &[1], &asked).await.unwrap_err().kind();
    for too_few in [&[Verb::Append][..], &[Verb::Query], &[Verb::Manage], &[Verb::Append, Verb::Query]] {
        assert_eq!(refused(too_few).await, ErrorKind::Forbidden, "{too_few:?}");
    }
    assert_eq!(
        people
            .aside_key(&world.op(1, &[Verb::Query, Verb::Manage]), &[1])
            .await
            .unwrap_err()
            .kind(),
        ErrorKind::Forbidden
    );
    let many = vec![wrapped; 1_001];
    assert_eq!(
        people.open_aside(&world.op(1, &all), &[1], &many).await.unwrap_err().kind(),
        ErrorKind::Invalid
    );
}

#[tokio::test]
async fn the_largest_call_gets_its_ids() {
    let world = World::new();
    let people = world.start().await;
    let names: Vec<String> = (0..40_000).map(|n| format!("person-{n}@example.com")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();

    let ids = world.translate(&people, 1, &names).await;

    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), names.len());
    assert_eq!(world.translate(&people, 1, &names[100..200]).await, ids[100..200]);
}

#[tokio::test]
async fn the_disk_tells_nobody_who_is_who() {
    let world = World::new();
    let root = world.directory.path().join("zones");
    let settings = ZonesSettings::below(&root, &["a", "b", "c"]);
    let open = || Zones::open(settings.clone(), true, Arc::clone(&world.clock) as Arc<dyn Clock>).unwrap();
    let people = People::start(&world.parts_on(open())).await.unwrap();
    let names = ["ada.marker@example.com", "another marker"];

    let ids = world.translate(&people, 1, &names).await;
    people.close().await;

    let files = files(world.directory.path());
    let is_found = |needle: &[u8]| files.iter().any(|bytes| bytes.windows(needle.len()).any(|window| window == needle));
    for name in names {
        let plain = blake3::hash(name.as_bytes());
        assert!(!is_found(name.as_bytes()), "the identity");
        assert!(
            !is_found(plain.as_bytes()) && !is_found(plain.to_hex().as_bytes()),
            "a hash that anybody could compute"
        );
        // Not even with the lookup key is a guess confirmed.
        let keyed = blake3::keyed_hash(&lookup_key(1), name.as_bytes());
        let halves = keyed.as_bytes().split_at(16);
        assert!(!is_found(halves.0) && !is_found(halves.1), "the keyed hash");
    }
    // The search finds what is there.
    assert!(is_found(b"CREATE TABLE persons"));
    assert!(files.len() >= 4, "three copies of a segment and a view");
    assert!(!is_found(&lookup_key(1)));
    assert_eq!(ids.len(), 2);
}

fn files(directory: &Path) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(std::fs::read(path).unwrap());
        }
    }
    found
}
