//! A zone that is taken away by the operator, and comes back.

use super::*;
use crate::{Absence, DrillError};

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_zone_taken_away_refuses_everything_and_catches_up_when_it_is_brought_back() {
    let world = World::new(3);
    world.zones.drill("b", Absence::Refuses, LONG).unwrap();
    let (name, bytes) = object("while it is away");

    world.zones.put(&name, bytes.clone()).await.unwrap();
    world.eventually_in(&name, "ac").await;
    world.look_after_all().await;
    let b = &world.zones.status()[1];
    assert_eq!((b.up, b.waiting, &*b.detail), (false, 1, "it was taken away by a drill"));
    assert_eq!(names(&world.zones).await, std::slice::from_ref(&name));

    world.zones.drill("b", Absence::Refuses, Duration::ZERO).unwrap();
    world.look_after_all().await;
    assert_eq!(world.holders(&name), "abc");
    assert!(is_whole(&world.zones.status()[1]));
}

/// The zone works, nothing is the matter and nothing waits for it.
fn is_whole(zone: &ZoneState) -> bool {
    zone.up && zone.detail.is_empty() && zone.waiting == 0 && !zone.compare
}

#[tokio::test]
async fn with_two_zones_taken_away_writes_are_refused_or_undecided_and_what_was_refused_never_appears() {
    for absence in [Absence::Refuses, Absence::Hangs] {
        let world = World::new(3);
        for zone in ["b", "c"] {
            world.zones.drill(zone, absence, LONG).unwrap();
        }
        let (name, bytes) = object("refused");

        let refused = world.zones.put(&name, bytes).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unavailable);

        for zone in ["b", "c"] {
            world.zones.drill(zone, absence, Duration::ZERO).unwrap();
        }
        // Zones that hung do now what they were asked, which is why that was not refused but undecided.
        eventually(|| world.zones.members.iter().all(|member| !member.is_on_its_way(&name))).await;
        world.look_after_all().await;
        world.look_after_all().await;
        match (&refused, absence) {
            (crate::PutError::TooFewZones { .. }, Absence::Refuses) => assert_eq!(names(&world.zones).await, []),
            (crate::PutError::Undecided { .. }, Absence::Hangs) => assert_eq!(world.holders(&name), "abc"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_zone_taken_away_comes_back_by_itself() {
    let world = World::new(3);
    for absence in [Absence::Refuses, Absence::Hangs] {
        world.zones.drill("b", absence, Duration::from_millis(40)).unwrap();
        world.look_after_all().await;
        eventually(|| !world.zones.removable[1].is_away()).await;
        world.look_after_all().await;
        world.look_after_all().await;
        assert!(is_whole(&world.zones.status()[1]), "{absence:?}");
    }
}

#[tokio::test]
async fn what_is_in_flight_when_a_zone_is_taken_away_goes_to_its_end_and_its_answer_is_lost() {
    let world = World::new(3);
    world.each[1].hold_puts();
    let (name, bytes) = object("in flight");
    let (zones, put) = (Arc::clone(&world.zones), (name.clone(), bytes));
    let member = Arc::clone(&zones.members[1]);
    let one = tokio::spawn(async move { zones.put_one(&member, &put.0, put.1).await });
    eventually(|| world.zones.members[1].is_on_its_way(&name)).await;
    tokio::task::yield_now().await;

    world.zones.drill("b", Absence::Refuses, LONG).unwrap();
    world.each[1].let_puts_arrive();

    // It may also have come too late to begin at all, which is no less certain.
    assert!(one.await.unwrap().unwrap_err().is_about_the_zone());
    eventually(|| !world.zones.members[1].is_on_its_way(&name)).await;
}

#[tokio::test]
async fn no_zone_is_taken_away_for_long_and_none_that_is_not_there() {
    let world = World::new(3);
    let drill = |zone, within| world.zones.drill(zone, Absence::Refuses, within).map_err(|error| error.kind());
    assert_eq!(drill("b", Duration::from_secs(601)), Err(ErrorKind::Invalid));
    assert_eq!(drill("d", LONG), Err(ErrorKind::NotFound));
    assert_eq!("vanish".parse::<Absence>(), Err(DrillError::Manner));
    world.look_after_all().await;
    assert!(world.zones.status().iter().all(|zone| zone.up));
}
