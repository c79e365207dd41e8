//! Writes that are still on their way when their caller is told what became of them.

use super::*;
use crate::ZoneError;

/// A write that one zone took, one refused, and one did not answer in time, as `withdraw` finds it. Another request to the
/// last zone has been answered since.
async fn undecided(world: &World) -> (ObjectName, Vec<(Arc<member::Member>, Result<(), ZoneError>)>) {
    let (name, bytes) = object("late");
    world.each[1].fail_next_puts(1);
    world.each[2].hold_puts();
    let mut outcomes = Vec::new();
    for member in &world.zones.members {
        let outcome = world.zones.put_one(member, &name, bytes.clone()).await;
        outcomes.push((Arc::clone(member), outcome));
    }
    assert!(matches!(outcomes[2].1, Err(ZoneError::Unclear { .. })), "{outcomes:?}");
    for member in &world.zones.members {
        assert!(member.probe(Duration::from_secs(1)).await);
    }
    (name, outcomes)
}

#[tokio::test]
async fn a_write_on_its_way_is_known_whatever_else_its_zone_has_answered_since() {
    let world = World::new(3);
    let (name, outcomes) = undecided(&world).await;

    // No zone takes a grave: only if nothing is on its way could it be certain that nothing will appear.
    world.each[0].fail_next_puts(1);
    world.each[1].fail_next_puts(1);
    let certain = world.zones.withdraw(&name, &outcomes).await;

    assert!(!certain);
    world.each[2].let_puts_arrive();
    eventually(|| !world.zones.members[2].is_on_its_way(&name)).await;
    assert_eq!(world.holders(&name), "");
}

#[tokio::test]
async fn what_was_refused_for_certain_does_not_appear_when_it_arrives_late() {
    let world = World::new(3);
    let (name, outcomes) = undecided(&world).await;

    assert!(world.zones.withdraw(&name, &outcomes).await, "two of three zones have its grave");

    // It arrives after the process that could have undone it has ended.
    let (_, bytes) = object("late");
    world.each[2].plant(&name, bytes);
    assert_eq!(world.restarted().settle("raw").await.unwrap(), Settled::default());
    assert_eq!(world.holders(&name), "");
}

#[tokio::test]
async fn a_write_is_on_its_way_until_its_zone_is_done_with_it() {
    let world = World::new(3);
    let (name, bytes) = object("slow");
    let member = &world.zones.members[2];
    world.each[2].hold_puts();

    // Given up twice, and both are on their way.
    for _ in 0..2 {
        assert!(world.zones.put_one(member, &name, bytes.clone()).await.is_err());
        assert!(member.probe(Duration::from_secs(1)).await);
    }
    assert!(member.is_on_its_way(&name));
    world.each[2].let_puts_arrive();
    eventually(|| !member.is_on_its_way(&name)).await;
    assert_eq!(world.holders(&name), "c");
}
