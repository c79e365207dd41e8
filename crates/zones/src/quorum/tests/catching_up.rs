//! Catching up costs a bounded share of everything; reads do not wait for one slow zone.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Instant;

use super::odd::{KINDS, Kind, OddWorld, Trouble};
use super::*;

#[tokio::test]
async fn a_comparison_lists_a_page_at_a_time_and_finds_everything() {
    for kind in KINDS {
        let settings = ZonesSettings { page: 7, ..odd::quick() };
        let world = OddWorld::with(kind, settings);
        let mut all = world.filled("kept", 60).await;
        let (dead, _) = all.remove(30);
        world.zones.delete(&dead).await.unwrap();
        for (name, _) in &all[10..50] {
            world.plant(1, name, None);
        }

        look_after_all(&world.zones).await;

        assert!(all.iter().all(|(name, _)| world.holders(name) == "abc"), "{kind:?}");
        assert_eq!(names(&world.zones).await.len(), 59);
        assert_eq!(world.zones.settle("raw").await.unwrap().objects.len(), 59);
        for zone in &world.odd {
            assert_eq!(zone.longest_page.load(SeqCst), 7, "{kind:?}");
        }
    }
}

#[tokio::test]
async fn a_listing_that_does_not_go_on_is_not_gone_through_for_ever() {
    let settings = ZonesSettings { page: 2, ..odd::quick() };
    let world = OddWorld::with(Kind::Memory, settings);
    world.filled("kept", 6).await;
    world.odd[1].has(Trouble::Repeats);

    let looked = tokio::time::timeout(Duration::from_secs(20), look_after_all(&world.zones)).await;

    assert!(looked.is_ok(), "it goes on for ever");
    let state = &world.zones.status()[1];
    assert_eq!((state.up, &*state.detail), (false, "what it lists is not what it was asked for"));
    assert_eq!(names(&world.zones).await.len(), 6);
}

#[tokio::test]
async fn a_zone_that_lists_without_end_is_taken_for_down_and_the_others_go_on() {
    let settings = ZonesSettings {
        page: 50,
        most_alone: 500,
        ..odd::quick()
    };
    let world = OddWorld::with(Kind::Memory, settings);
    let all = world.filled("kept", 6).await;
    let (lacked, _) = &all[3];
    world.plant(2, lacked, None);
    world.odd[1].has(Trouble::Endless);
    let expected: Vec<&ObjectName> = {
        let mut names: Vec<&ObjectName> = all.iter().map(|(name, _)| name).collect();
        names.sort();
        names
    };
    let said = "it lists more than 500 objects that most other zones lack";

    let settled = world.zones.settle("raw").await.unwrap();
    assert_eq!(settled.objects.iter().collect::<Vec<_>>(), expected);
    assert_eq!((settled.silent, settled.unreadable.len()), (1, 0));
    assert_eq!(names(&world.zones).await.iter().collect::<Vec<_>>(), expected);
    look_after_all(&world.zones).await;
    assert_eq!(world.holders(lacked), "abc", "the others are compared all the same");
    let state = &world.zones.status()[1];
    assert_eq!((state.up, &*state.detail, state.compare), (false, said, true));
    let report = world.scrubber().run(true).await;
    assert_eq!((&*report.zones[1].silent, report.lost.count), (said, 0));

    world.odd[1].has(Trouble::None);
    eventually_compared(&world.zones).await;
    assert_eq!(world.zones.settle("raw").await.unwrap().silent, 0);
}

async fn eventually_compared(zones: &Arc<Zones>) {
    for _ in 0..100 {
        look_after_all(zones).await;
        if zones.status().iter().all(|state| state.up && !state.compare) {
            return;
        }
    }
    panic!("{:?}", zones.status());
}

#[tokio::test]
async fn a_zone_that_was_away_while_much_was_deleted_has_not_listed_too_much() {
    for kind in KINDS {
        let settings = ZonesSettings {
            most_alone: 5,
            ..odd::quick()
        };
        let world = OddWorld::with(kind, settings.clone());
        let all = world.filled("gone", 20).await;
        let (kept, _) = &all[0];
        world.odd[2].has(Trouble::Absent);
        for (name, _) in &all[1..] {
            world.zones.delete(name).await.unwrap();
        }
        world.odd[2].has(Trouble::None);
        let each = || world.odd.iter().map(|zone| Arc::clone(zone) as Arc<dyn Zone>).collect();

        let zones = Zones::new(each(), settings.clone(), Arc::new(SystemClock));
        let settled = zones.settle("raw").await.unwrap();
        assert_eq!((settled.objects, settled.silent), (vec![kept.clone()], 0), "{kind:?}");
        let zones = Zones::new(each(), settings, Arc::new(SystemClock));
        assert_eq!(names(&zones).await, std::slice::from_ref(kept));
    }
}

#[tokio::test]
async fn at_a_start_each_zone_is_listed_once_for_all_of_them() {
    for kind in KINDS {
        let world = OddWorld::new(kind);
        let all = world.filled("kept", 8).await;
        (0..3).for_each(|zone| world.plant(zone, &all[zone].0, None));
        let each = world.odd.iter().map(|zone| Arc::clone(zone) as Arc<dyn Zone>).collect();
        let zones = Zones::new(each, odd::quick(), Arc::new(SystemClock));
        world.odd.iter().for_each(|zone| zone.lists.store(0, SeqCst));
        let cancel = CancellationToken::new();
        zones.spawn_catch_up(cancel.clone());

        eventually(|| zones.status().iter().all(|state| !state.compare && state.waiting == 0)).await;

        assert!(all.iter().all(|(name, _)| world.holders(name) == "abc"), "{kind:?}");
        let lists: Vec<usize> = world.odd.iter().map(|zone| zone.lists.load(SeqCst)).collect();
        assert_eq!(lists, [2; 3], "{kind:?}: its objects and its graves");
        cancel.cancel();
    }
}

#[tokio::test]
async fn catching_up_keeps_to_its_pace_and_new_writes_do_not_wait_for_it() {
    let settings = ZonesSettings {
        catch_up_bytes_per_second: 4 << 20,
        ..odd::quick()
    };
    let world = OddWorld::with(Kind::Directory, settings);
    let mut lagging = Vec::new();
    for number in 0..40_u8 {
        let bytes: Bytes = vec![number; 100 << 10].into();
        let name = ObjectName::new("raw/7", "lags", &bytes).unwrap();
        world.zones.put(&name, bytes).await.unwrap();
        eventually(|| world.settled(&name)).await;
        world.plant(1, &name, None);
        lagging.push(name);
    }
    let begun = Instant::now();
    let cancel = CancellationToken::new();
    let task = world.zones.spawn_catch_up(cancel.clone());
    eventually(|| world.holders(&lagging[0]).len() == 3).await;

    // 4 MB at 4 MiB a second: for most of a second there is something left to be copied.
    let (mut writes, mut longest) = (0, Duration::ZERO);
    while !lagging.iter().all(|name| world.holders(name).len() == 3) {
        let (name, bytes) = object(&format!("new {writes}"));
        let put = Instant::now();
        world.zones.put(&name, bytes).await.unwrap();
        longest = longest.max(put.elapsed());
        writes += 1;
    }

    assert!(begun.elapsed() > Duration::from_millis(500), "it took {:?}", begun.elapsed());
    assert!(
        writes > 3 && longest < Duration::from_secs(2),
        "{writes} writes, the longest took {longest:?}"
    );
    cancel.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn a_read_asks_the_next_zone_when_it_takes_longer_than_most_did() {
    for kind in KINDS {
        let settings = ZonesSettings {
            hedge_after: Duration::from_secs(4),
            ..odd::quick()
        };
        let world = OddWorld::with(kind, settings);
        let all = world.filled("kept", 4).await;
        assert_eq!(
            world.zones.patience(&world.zones.members[0]),
            Duration::from_secs(4),
            "nothing is known yet"
        );
        for _ in 0..10 {
            for (name, _) in &all {
                world.zones.get(name, MOST).await.unwrap();
            }
        }
        let patience = world.zones.patience(&world.zones.members[0]);
        assert!(
            patience >= world.zones.settings.hedge_at_least && patience < Duration::from_secs(1),
            "{patience:?}"
        );

        world.odd[0].has(Trouble::Slow(Duration::from_secs(6)));
        let begun = Instant::now();
        for (name, bytes) in &all {
            assert_eq!(world.zones.get(name, MOST).await.as_ref(), Ok(bytes));
        }
        assert!(begun.elapsed() < Duration::from_secs(3), "{kind:?}: {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_zone_that_is_slow_for_long_is_not_asked_first_any_more() {
    let world = OddWorld::with(
        Kind::Memory,
        ZonesSettings {
            hedge_after: Duration::from_secs(4),
            ..odd::quick()
        },
    );
    let all = world.filled("kept", 1).await;
    world.odd[0].has(Trouble::Slow(Duration::from_millis(40)));
    for _ in 0..20 {
        world.zones.get(&all[0].0, MOST).await.unwrap();
    }
    let asked = world.odd[0].gets.load(SeqCst);
    for _ in 0..20 {
        world.zones.get(&all[0].0, MOST).await.unwrap();
    }

    assert_eq!(world.odd[0].gets.load(SeqCst), asked);
}
