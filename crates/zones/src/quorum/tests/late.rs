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

    let certain = world.zones.withdraw(&name, &outcomes).await;

    assert!(!certain);
    world.each[2].let_puts_arrive();
    eventually(|| !world.zones.members[2].is_on_its_way(&name)).await;
    assert_eq!(world.holders(&name), "c", "a process that started meanwhile may have counted it");
}

#[tokio::test]
async fn what_a_process_has_counted_no_withdrawal_of_its_predecessor_takes_away() {
    let world = World::new(3);
    let (name, bytes) = object("counted");
    world.each[0].hang();
    world.each[1].hang();
    let undecided = world.zones.put(&name, bytes.clone()).await.unwrap_err();
    assert!(matches!(undecided, PutError::Undecided { .. }), "{undecided:?}");

    // What it had sent arrives, and the process ends before it can undo that. Its successor hears of two zones, and builds on what they
    // hold.
    world.each[2].go_down();
    world.each[..2].iter().for_each(|zone| zone.come_back());
    eventually(|| !world.zones.members.iter().any(|member| member.is_on_its_way(&name))).await;
    world.each[..2].iter().for_each(|zone| zone.plant(&name, bytes.clone()));
    let zones = world.restarted();
    assert_eq!(zones.settle("raw").await.unwrap().objects, std::slice::from_ref(&name));

    world.each[2].come_back();
    look_after_all(&zones).await;
    assert_eq!(world.holders(&name), "abc");
    assert_eq!(world.restarted().settle("raw").await.unwrap().objects, [name]);
}

#[tokio::test]
async fn a_zone_whose_answer_is_not_the_end_of_it_may_yet_do_what_it_failed_at() {
    let world = World::new(3);
    let (name, bytes) = object("networked");
    world.each[0].set_final(false);
    world.each[0].lose_next_puts(1);
    world.each[1].fail_next_puts(1);
    world.each[2].fail_next_puts(1);

    let outcome = world.zones.put(&name, bytes).await.unwrap_err();

    // The copy can be deleted there a hundred times: what was sent may be on its way.
    assert!(matches!(outcome, PutError::Undecided { .. }), "{outcome:?}");
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
