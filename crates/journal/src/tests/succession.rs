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
