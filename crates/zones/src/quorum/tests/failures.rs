//! One zone fails in every way, of both kinds: nothing that was accepted is lost, and it is brought up to date afterwards.

use super::odd::{KINDS, Odd, OddWorld, Trouble};
use super::*;

const SLOW: Duration = Duration::from_millis(100);

#[tokio::test]
async fn whatever_fails_in_one_zone_stops_nothing_loses_nothing_and_is_made_good() {
    let troubles = [
        Trouble::Absent,
        Trouble::ReadOnly,
        Trouble::Full,
        Trouble::Slow(SLOW),
        Trouble::Hanging,
        Trouble::Garbage,
    ];
    for kind in KINDS {
        for trouble in troubles {
            let case = format!("{kind:?}, {trouble:?}");
            let hangs = trouble == Trouble::Hanging;
            let world = OddWorld::with(kind, if hangs { odd::impatient() } else { odd::quick() });
            let mut all = world.filled("before", 6).await;
            let (gone, _) = all.pop().unwrap();

            world.odd[1].has(trouble);
            look_after_all(&world.zones).await;
            for number in 0..12 {
                let (name, bytes) = object(&format!("during {number}"));
                world.zones.put(&name, bytes.clone()).await.unwrap();
                all.push((name, bytes));
            }
            world.zones.delete(&gone).await.unwrap();
            for (name, bytes) in &all {
                assert_eq!(world.zones.get(name, MOST).await.as_ref(), Ok(bytes), "{case}");
                assert_eq!(world.zones.get_range(name, 0..0).await.map(|none| none.len()), Ok(0), "{case}");
            }

            world.odd[1].has(Trouble::None);
            for _ in 0..100 {
                look_after_all(&world.zones).await;
                if all.iter().all(|(name, _)| world.settled(name)) && world.holders(&gone).is_empty() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            for (name, bytes) in &all {
                for zone in 0..3 {
                    assert_eq!(world.copy(zone, name).as_deref(), Some(&bytes[..]), "{case}, {name}");
                }
            }
            assert_eq!(world.holders(&gone), "", "{case}");
            assert!(names(&world.zones).await.iter().all(|name| name.id() == "x"), "{case}");
        }
    }
}

#[tokio::test]
async fn how_a_zone_fails_is_said() {
    for kind in KINDS {
        let world = OddWorld::with(kind, odd::impatient());
        for (trouble, condition, detail) in [
            (Trouble::Absent, Condition::Down, "the directory is missing"),
            (Trouble::ReadOnly, Condition::Down, "it is read-only"),
            (Trouble::Full, Condition::Down, "no space is left"),
            (Trouble::Hanging, Condition::Hanging, "no answer within 1500 ms"),
        ] {
            world.odd[1].has(trouble);
            look_after_all(&world.zones).await;
            let state = &world.zones.status()[1];
            assert_eq!((state.condition, &*state.detail), (condition, detail), "{kind:?}");
            world.odd[1].has(Trouble::None);
            eventually(|| !world.zones.members[1].is_hanging()).await;
            look_after_all(&world.zones).await;
            assert!(is_idle(&world.zones.status()[1]), "{:?}", world.zones.status()[1]);
        }
    }
}

#[tokio::test]
async fn a_zone_put_back_to_an_old_copy_is_caught_up_and_what_was_deleted_stays_so() {
    for kind in KINDS {
        // One zone goes back, or a majority does while the third stays.
        for back in [&[1][..], &[0, 1]] {
            let world = OddWorld::new(kind);
            let before = world.filled("before", 5).await;
            look_after_all(&world.zones).await;
            let old: Vec<_> = back.iter().map(|zone| (*zone, world.snapshot(*zone))).collect();
            let since = world.filled("since", 5).await;
            world.zones.delete(&before[0].0).await.unwrap();

            for (zone, snapshot) in &old {
                world.restore(*zone, snapshot);
            }
            // As the next process finds it: this one remembers what it deleted.
            let each = world.odd.iter().map(|zone| Arc::clone(zone) as Arc<dyn Zone>).collect();
            let zones = Zones::new(each, odd::quick(), Arc::new(SystemClock));
            for _ in 0..3 {
                look_after_all(&zones).await;
            }

            let case = format!("{kind:?}, {back:?} go back");
            for (name, bytes) in before[1..].iter().chain(&since) {
                assert_eq!(world.holders(name), "abc", "{case}");
                assert_eq!(zones.get(name, MOST).await.as_ref(), Ok(bytes), "{case}");
            }
            assert_eq!(world.holders(&before[0].0), "", "{case}");
            let listed = names(&zones).await;
            assert_eq!(listed.len(), 9, "{case}: {listed:?}");
        }
    }
}

/// Every bit of a short object, and some of a long one that is read in pieces.
fn bits(length: usize, seed: u64) -> Vec<usize> {
    let all = length * 8;
    if all <= 256 {
        return (0..all).collect();
    }
    let chance = SeededEntropy::new(seed);
    (0..2)
        .map(|_| (chance.next_u64() % all as u64) as usize)
        .chain([0, all - 1])
        .collect()
}

#[tokio::test]
async fn whichever_bit_flips_in_whichever_copy_reads_are_right_and_the_copy_is_repaired() {
    for kind in KINDS {
        for length in [5, 5 << 20] {
            let world = OddWorld::new(kind);
            let bytes: Bytes = (0..length).map(|at: usize| (at * at % 251) as u8).collect();
            let name = ObjectName::new("raw/7", "x", &bytes).unwrap();
            world.zones.put(&name, bytes.clone()).await.unwrap();
            eventually(|| world.settled(&name)).await;
            for zone in 0..3 {
                for bit in bits(length, 7 + zone as u64) {
                    world.flip(zone, &name, bit);

                    let read = world.zones.get(&name, u64::MAX).await;

                    let case = format!("{kind:?}, {length} bytes, bit {bit} in zone {zone}");
                    assert!(read.is_ok_and(|read| read == bytes), "{case}");
                    world.zones.report_corrupt(&name).await;
                    eventually(|| world.settled(&name) && world.copy(zone, &name).is_some_and(|copy| copy == bytes)).await;
                }
            }
            assert!(
                world.zones.status().iter().all(|zone| zone.corrupt > 0 && zone.repaired > 0),
                "{kind:?}"
            );
        }
    }
}

#[tokio::test]
async fn whichever_bit_flips_in_whichever_copy_the_scrub_finds_it() {
    for kind in KINDS {
        for length in [5, 5 << 20] {
            let world = OddWorld::new(kind);
            let bytes: Bytes = (0..length).map(|at: usize| (at * at % 241) as u8).collect();
            let name = ObjectName::new("raw/7", "x", &bytes).unwrap();
            world.zones.put(&name, bytes.clone()).await.unwrap();
            eventually(|| world.settled(&name)).await;
            let scrubber = world.scrubber();
            for zone in 0..3 {
                for bit in bits(length, 70 + zone as u64) {
                    world.flip(zone, &name, bit);

                    let report = scrubber.run(true).await;

                    let found: Vec<_> = report.zones.iter().map(|zone| (zone.corrupt, zone.repaired)).collect();
                    let mut expected = vec![(0, 0); 3];
                    expected[zone] = (1, 1);
                    assert_eq!(found, expected, "{kind:?}, {length} bytes, bit {bit} in zone {zone}");
                    assert!(report.is_complete() && world.copy(zone, &name).is_some_and(|copy| copy == bytes));
                }
            }
        }
    }
}

fn asked(zone: &Odd) -> (usize, usize) {
    use std::sync::atomic::Ordering::SeqCst;
    (zone.puts.load(SeqCst), zone.probes.load(SeqCst))
}

#[tokio::test]
async fn nothing_is_written_to_a_zone_that_keeps_failing_and_it_is_tried_less_and_less_often() {
    for kind in KINDS {
        let world = OddWorld::new(kind);
        world.odd[1].has(Trouble::Full);
        for number in 0..3 {
            let (name, bytes) = object(&format!("first {number}"));
            world.zones.put(&name, bytes).await.unwrap();
            eventually(|| world.zones.status()[1].waiting == number + 1).await;
        }
        let state = &world.zones.status()[1];
        assert_eq!((state.circuit, state.condition, state.waiting), (Circuit::Open, Condition::Down, 3));
        assert!(state.waiting_bytes > 20 && state.waiting_since.is_some(), "{state:?}");
        let (puts, _) = asked(&world.odd[1]);
        for number in 0..50 {
            let (name, bytes) = object(&format!("then {number}"));
            world.zones.put(&name, bytes).await.unwrap();
        }
        assert_eq!(asked(&world.odd[1]).0, puts);

        // 20, 40 and 80 ms after one another, then 100 ms: in a second about a dozen times instead of fifty.
        let cancel = CancellationToken::new();
        let task = world.zones.spawn_catch_up(cancel.clone());
        let before = asked(&world.odd[1]).1;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let tries = asked(&world.odd[1]).1 - before;
        assert!((2..=15).contains(&tries), "{tries} tries in a second");

        // What can be read there is read there when nobody else has it.
        let (only, bytes) = object("only here");
        world.plant(1, &only, Some(&bytes));
        assert_eq!(world.zones.get(&only, MOST).await, Ok(bytes));

        world.odd[1].has(Trouble::None);
        eventually(|| is_idle(&world.zones.status()[1])).await;
        assert_eq!(names(&world.zones).await.len(), 54);
        cancel.cancel();
        task.await.unwrap();
    }
}

#[tokio::test]
async fn while_too_few_zones_work_every_write_tries_those_that_failed() {
    let world = OddWorld::new(odd::Kind::Memory);
    for zone in &world.odd[1..] {
        zone.has(Trouble::Full);
    }
    for number in 0..5 {
        let (name, bytes) = object(&format!("refused {number}"));
        assert_eq!(world.zones.put(&name, bytes).await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    world.odd[1].has(Trouble::None);

    let (name, bytes) = object("taken at once");
    world.zones.put(&name, bytes).await.unwrap();
}
