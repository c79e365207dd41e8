//! A writer that goes on after its successor has begun.

use super::*;

#[tokio::test]
async fn what_a_writer_adds_after_its_successor_has_begun_stands_beside_the_chain_however_long_it_is() {
    let world = World::new();
    let old = world.journal();
    old.append(entry("one")).await.unwrap();
    let zones = world.restarted();
    let tail = world.house.recover(&zones).await.unwrap().tail();
    let new = world.house.start(&zones, quick(), tail);

    for text in ["lost two", "lost three"] {
        old.append(entry(text)).await.unwrap();
    }
    new.append(entry("two")).await.unwrap();
    for text in ["lost four", "lost five"] {
        old.append(entry(text)).await.unwrap();
    }
    assert_eq!(world.read().await, ["one", "two"]);
    let recovered = world.house.recover(&world.restarted()).await.unwrap();
    assert_eq!((recovered.orphans.len(), recovered.head()), (4, new.head()));

    // And for whoever reads only what came after that, and goes on.
    new.close().await;
    let zones = world.restarted();
    let key = world.house.installation.key();
    let recovered = recover_after(&zones, &key, Role::Warehouse, JOURNAL, product(), &recovered.head()).await;
    let next = world.house.start(&zones, quick(), recovered.unwrap().tail());
    next.append(entry("three")).await.unwrap();
    assert_eq!(world.read().await, ["one", "two", "three"]);
}

#[tokio::test]
async fn what_is_missing_before_others_wrote_on_is_missing_whatever_stands_beside() {
    let world = World::new();
    let old = world.journal();
    old.append(entry("one")).await.unwrap();
    let zones = world.restarted();
    let tail = world.house.recover(&zones).await.unwrap().tail();
    let new = world.house.start(&zones, quick(), tail);
    for text in ["lost two", "lost three"] {
        old.append(entry(text)).await.unwrap();
    }
    let two = new.append(entry("two")).await.unwrap();
    let three = new.append(entry("three")).await.unwrap();
    new.append(entry("four")).await.unwrap();
    let named = |id: SegmentId| {
        world
            .objects()
            .into_iter()
            .find(|name| name.id().starts_with(&id.to_string()))
            .unwrap()
    };
    assert_eq!((two.sequence, three.sequence), (1, 2));

    let lost = named(three);
    world.each.iter().for_each(|zone| assert!(zone.lose(&lost)));

    let surveyed = world.house.survey(&world.restarted()).await;
    assert!(surveyed.damage.contains(&Damage::Missing { sequence: 2 }), "{:?}", surveyed.damage);
}

/// Zones like stores, with a journal of one entry after which two writers died, each with a segment in the same place on its way. The second
/// one stands where nothing was built on either.
async fn two_ends() -> (World, [(ObjectName, Bytes); 2]) {
    let world = World::with(&["one"]).await;
    let mut ends = Vec::new();
    for (writer, text) in [(WriterId::from_bytes([0; 16]), "found"), (world.house.writer(), "late")] {
        let zones = world.restarted();
        let (parts, to) = (world.house.parts(&zones), world.house.private.public());
        let tail = world.house.recover(&zones).await.unwrap().tail();
        let journal = Journal::start(parts, quick(), JOURNAL, product(), to, writer, tail);
        journal.append(entry(text)).await.unwrap();
        journal.close().await;
        let is_last = |name: &ObjectName| name.id().contains("-0000000000000001-");
        let name = world.objects().into_iter().find(is_last).unwrap();
        ends.push((name.clone(), world.each[0].held(&name).unwrap()));
        world.each.iter().for_each(|zone| assert!(zone.lose(&name)));
    }
    world.each.iter().for_each(|zone| zone.set_final(false));
    (world, ends.try_into().unwrap())
}

#[tokio::test]
async fn an_end_that_may_give_way_to_another_is_told_to_nobody() {
    let (world, [(found, bytes), (late, later_bytes)]) = two_ends().await;
    world.each[0].plant(&found, bytes);
    let zones = world.restarted();
    let recovered = world.house.recover(&zones).await.unwrap();
    assert_eq!(recovered.segments.len(), 2);
    world.each.iter().for_each(|zone| zone.fail_next_puts(1_000));
    let journal = world.house.start(&zones, quick(), recovered.tail());

    journal.decide().await.unwrap_err();

    assert_eq!((journal.head(), journal.decided()), (recovered.head(), None));
    drop(journal);
    world.each.iter().for_each(|zone| zone.fail_next_puts(0));
    world.each.iter().for_each(|zone| zone.plant(&late, later_bytes.clone()));
    let next = world.house.recover(&world.restarted()).await.unwrap();
    assert_eq!(next.check_head(&recovered.head()), Err(HeadError::Another { sequence: 1 }));
}

#[tokio::test]
async fn what_a_start_found_stays_once_it_is_told_though_nothing_was_appended() {
    let (world, [(found, bytes), (late, later_bytes)]) = two_ends().await;
    world.each[0].plant(&found, bytes);
    let zones = world.restarted();
    let recovered = world.house.recover(&zones).await.unwrap();
    let journal = world.house.start(&zones, quick(), recovered.tail());

    journal.decide().await.unwrap();

    assert_eq!(journal.decided(), Some(recovered.head()));
    journal.close().await;
    world.each.iter().for_each(|zone| zone.plant(&late, later_bytes.clone()));
    let next = world.house.recover(&world.restarted()).await.unwrap();
    assert_eq!(next.check_head(&recovered.head()), Ok(()));
    assert_eq!(
        (next.orphans.as_slice(), world.read().await),
        (&[late][..], vec!["one".to_owned(), "found".to_owned()])
    );
}

#[tokio::test]
async fn starts_that_append_nothing_leave_one_opening_and_not_one_each() {
    let (world, [(found, bytes), _]) = two_ends().await;
    world.each[0].plant(&found, bytes);
    for _ in 0..3 {
        let zones = world.restarted();
        let tail = world.house.recover(&zones).await.unwrap().tail();
        world.house.start(&zones, quick(), tail).close().await;
    }
    assert_eq!(world.objects().len(), 3, "{:?}", world.objects());
}
