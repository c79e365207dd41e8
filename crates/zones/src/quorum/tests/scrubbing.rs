//! What a scrub finds, puts right, leaves alone and remembers.

use std::sync::atomic::Ordering::SeqCst;

use std::ops::Range;
use std::sync::atomic::AtomicBool;

use super::odd::{KINDS, Kind, OddWorld, Trouble};
use super::*;
use crate::ZoneError;

/// What was missing, corrupt and repaired in each zone.
fn found(report: &ScrubReport) -> Vec<(u64, u64, u64)> {
    report
        .zones
        .iter()
        .map(|zone| (zone.missing, zone.corrupt, zone.repaired))
        .collect()
}

#[tokio::test]
async fn what_is_missing_or_wrong_is_found_and_put_right_from_a_good_copy() {
    for kind in KINDS {
        let world = OddWorld::new(kind);
        let all = world.filled("kept", 12).await;
        look_after_all(&world.zones).await;
        world.plant(0, &all[0].0, None);
        world.plant(1, &all[0].0, None);
        world.plant(2, &all[1].0, None);
        world.flip(0, &all[2].0, 3);
        world.plant(1, &all[3].0, Some(b"much longer than it ever was, and another thing altogether"));
        world.plant(1, &all[4].0, Some(b""));

        let report = world.scrubber().run(true).await;

        assert_eq!(found(&report), [(1, 1, 2), (1, 2, 3), (1, 0, 1)], "{kind:?}");
        assert_eq!((report.objects, report.read, report.full), (12, 12, true));
        assert!(report.is_complete() && report.bytes > 12 * 3 * 5, "{report:?}");
        for (name, bytes) in &all {
            for zone in 0..3 {
                assert_eq!(world.copy(zone, name).as_deref(), Some(&bytes[..]), "{kind:?}");
            }
        }
        let again = world.scrubber().run(true).await;
        assert_eq!(found(&again), [(0, 0, 0); 3], "{kind:?}");
        let states = world.zones.status();
        assert_eq!((states[1].missing, states[1].corrupt, states[1].repaired), (1, 2, 3));
    }
}

#[tokio::test]
async fn what_no_zone_has_a_good_copy_of_is_named() {
    for kind in KINDS {
        let world = OddWorld::new(kind);
        let all = world.filled("kept", 4).await;
        let (lost, _) = &all[1];
        (0..3).for_each(|zone| world.flip(zone, lost, 11 + zone));
        let (rest, _) = &all[2];
        world.plant(0, rest, None);
        world.plant(1, rest, None);
        world.flip(2, rest, 5);

        let report = world.scrubber().run(true).await;

        let named = |name: &ObjectName| report.lost.first.iter().any(|lost| lost == name.as_str());
        assert!(report.lost.count == 2 && named(lost) && named(rest), "{kind:?}: {:?}", report.lost);
        assert!(!report.is_complete());

        // A zone that does not answer may have a good one.
        world.odd[0].has(Trouble::Absent);
        let report = world.scrubber().run(true).await;
        assert_eq!((report.lost.count, report.doubtful.count), (0, 2), "{kind:?}");
        assert_eq!(report.zones[0].silent, "the directory is missing");
    }
}

#[tokio::test]
async fn nothing_is_copied_that_has_a_grave_or_is_none_of_the_roles_own() {
    for kind in KINDS {
        let world = OddWorld::new(kind);
        world.zones.vouch_with(Arc::new(|_, bytes| !bytes.starts_with(b"rubbish")));
        let all = world.filled("kept", 3).await;
        let (dead, corpse) = &all[0];
        world.zones.delete(dead).await.unwrap();
        world.plant(2, dead, Some(corpse));
        let (foreign, rubbish) = object("rubbish");
        world.plant(1, &foreign, Some(&rubbish));
        let each = world.odd.iter().map(|zone| Arc::clone(zone) as Arc<dyn Zone>).collect();
        let zones = Zones::new(each, odd::quick(), Arc::new(SystemClock));
        zones.vouch_with(Arc::new(|_, bytes| !bytes.starts_with(b"rubbish")));
        let scrubber = Scrubber::new(Arc::clone(&zones), world.directory.path(), Arc::new(SystemClock));

        let report = scrubber.run(true).await;

        assert_eq!(found(&report), [(0, 0, 0); 3], "{kind:?}");
        assert_eq!((report.foreign.count, &*report.foreign.first[0]), (1, foreign.as_str()));
        assert!(report.is_complete());
        assert_eq!((world.holders(&foreign), world.holders(dead)), ("b".into(), "c".into()));
        look_after_all(&zones).await;
        assert_eq!(world.holders(dead), "", "{kind:?}");
    }
}

#[tokio::test]
async fn with_fewer_zones_than_a_majority_nothing_is_copied() {
    let world = World::new(5);
    let (name, bytes) = object("deleted perhaps");
    world.each[4].plant(&name, bytes);
    world.each[..3].iter().for_each(|zone| zone.go_down());
    let directory = tempfile::tempdir().unwrap();
    let scrubber = Scrubber::new(Arc::clone(&world.zones), directory.path(), Arc::new(SystemClock));

    let report = scrubber.run(true).await;

    assert_eq!(found(&report), [(0, 0, 0); 5], "whoever knows of a grave may be away");
    assert!(!report.is_complete());
    assert_eq!(world.holders(&name), "e");

    world.each[..3].iter().for_each(|zone| zone.come_back());
    look_after_all(&world.zones).await;
    scrubber.run(true).await;
    assert_eq!(world.holders(&name), "abcde");
}

#[tokio::test]
async fn twenty_eight_scheduled_runs_read_everything_once() {
    let world = OddWorld::new(Kind::Memory);
    let all = world.filled("kept", 120).await;
    let mut read = 0;
    for run in 0..28 {
        // As after a restart: where it stands is remembered.
        let report = world.scrubber().run(false).await;
        assert!(!report.full && report.objects == 120);
        assert!(report.read < 30, "run {run} read {}", report.read);
        read += report.read;
    }
    assert_eq!(read, 120);

    // What a zone did not answer for is read when it is back, beside what is next.
    world.odd[2].has(Trouble::Absent);
    for _ in 0..3 {
        assert!(!world.scrubber().run(false).await.is_complete());
    }
    world.odd[2].has(Trouble::None);
    look_after_all(&world.zones).await;
    all.iter().for_each(|(name, _)| world.flip(2, name, 0));
    let mut found = 0;
    for _ in 0..3 {
        found += world.scrubber().run(false).await.zones[2].corrupt;
    }
    let expected = all
        .iter()
        .filter(|(name, _)| (0..6).any(|slice| scrub::Sample::of_slice(slice).has(name)));
    assert_eq!(found, expected.count() as u64);
    for _ in 0..25 {
        found += world.scrubber().run(false).await.zones[2].corrupt;
    }
    assert_eq!(found, 120, "every wrong copy is found within 28 runs");
}

#[tokio::test]
async fn what_a_scrub_found_is_known_after_a_restart_and_a_record_that_cannot_be_read_is_none() {
    let world = OddWorld::new(Kind::Memory);
    let all = world.filled("kept", 3).await;
    assert_eq!(world.scrubber().last(), None);
    world.flip(1, &all[0].0, 1);
    let full = world.scrubber().run(true).await;
    let sample = world.scrubber().run(false).await;

    let again = world.scrubber();
    assert_eq!((again.last(), again.last_full()), (Some(sample), Some(full)));

    let record = world.directory.path().join("scrub.json");
    for rubbish in ["", "{}", r#"{"format":2}"#, "rubbish"] {
        std::fs::write(&record, rubbish).unwrap();
        assert_eq!(world.scrubber().last(), None, "{rubbish:?}");
        world.scrubber().run(false).await;
        assert!(world.scrubber().last().is_some());
    }
}

#[tokio::test]
async fn a_record_of_the_first_format_is_read() {
    let world = OddWorld::new(Kind::Memory);
    let text = r#"{"format":1,"next_slice":3,"missed":5,"last":{"began_at":1,"ended_at":2,"full":false,"objects":3,"read":1,"bytes":9,
        "zones":[{"name":"a","silent":"","objects":3,"missing":1,"corrupt":0,"repaired":1}],
        "lost":{"count":1,"first":["raw/x"]},"doubtful":{"count":0,"first":[]},"foreign":{"count":0,"first":[]}},"last_full":null}"#;
    std::fs::write(world.directory.path().join("scrub.json"), text).unwrap();

    let last = world.scrubber().last().unwrap();

    assert_eq!((last.ended_at, last.objects, last.zones[0].missing, last.lost.count), (2, 3, 1, 1));
}

#[tokio::test]
async fn it_runs_by_itself_and_finds_what_nobody_has_read() {
    let settings = ZonesSettings {
        scrub_every: Duration::from_millis(5),
        ..odd::quick()
    };
    let world = OddWorld::with(Kind::Directory, settings);
    let all = world.filled("kept", 5).await;
    all.iter().for_each(|(name, _)| world.flip(1, name, 2));
    let cancel = CancellationToken::new();
    let task = world.scrubber().spawn(cancel.clone());

    eventually(|| all.iter().all(|(name, bytes)| world.copy(1, name).as_deref() == Some(&bytes[..]))).await;

    cancel.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn a_run_takes_little_memory_and_no_more_of_the_disks_than_it_may() {
    let settings = ZonesSettings {
        scrub_bytes_per_second: 60 << 20,
        page: 4,
        ..odd::quick()
    };
    let world = OddWorld::with(Kind::Directory, settings);
    let bytes: Bytes = vec![3; 9 << 20].into();
    let name = ObjectName::new("raw/7", "x", &bytes).unwrap();
    world.zones.put(&name, bytes).await.unwrap();
    eventually(|| world.settled(&name)).await;
    world.filled("short", 20).await;

    let begun = std::time::Instant::now();
    let report = world.scrubber().run(true).await;

    assert!(report.is_complete() && report.bytes > 27 << 20, "{report:?}");
    assert!(begun.elapsed() > Duration::from_millis(150), "27 MiB in {:?}", begun.elapsed());
    for zone in &world.odd {
        assert!(zone.longest_page.load(SeqCst) <= 4 && zone.longest_read.load(SeqCst) <= 4 << 20);
    }
}

/// A zone that lists an object which it does not have: to who lists everything, and, while it `insists`, to who asks for it.
#[derive(Debug)]
struct Ghostly {
    zone: MemoryZone,
    ghost: ObjectName,
    insists: AtomicBool,
}

#[async_trait::async_trait]
impl Zone for Ghostly {
    fn name(&self) -> &str {
        self.zone.name()
    }
    async fn put(&self, name: &ObjectName, bytes: Bytes) -> Result<(), ZoneError> {
        self.zone.put(name, bytes).await
    }
    async fn get(&self, name: &ObjectName, most: u64) -> Result<Bytes, ZoneError> {
        self.zone.get(name, most).await
    }
    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, ZoneError> {
        self.zone.get_range(name, range).await
    }
    async fn list_page(&self, prefix: &str, after: &str, most: usize) -> Result<Vec<ObjectName>, ZoneError> {
        let mut names = self.zone.list_page(prefix, after, most).await?;
        let shows = prefix.is_empty() || self.insists.load(SeqCst);
        if shows && self.ghost.is_below(prefix) && self.ghost.as_str() > after {
            names.push(self.ghost.clone());
            names.sort();
        }
        Ok(names)
    }
    async fn delete(&self, name: &ObjectName) -> Result<(), ZoneError> {
        self.zone.delete(name).await
    }
    async fn probe(&self) -> Result<(), ZoneError> {
        self.zone.probe().await
    }
    fn is_complete(&self) -> bool {
        true
    }
    async fn set_complete(&self) -> Result<(), ZoneError> {
        Ok(())
    }
}

#[tokio::test]
async fn what_was_withdrawn_after_it_was_listed_is_not_lost_and_what_is_listed_on_and_nowhere_is() {
    let (ghost, _) = object("ghost");
    let odd = Arc::new(Ghostly {
        zone: MemoryZone::new("a"),
        ghost: ghost.clone(),
        insists: AtomicBool::new(false),
    });
    let each: Vec<Arc<dyn Zone>> = vec![
        Arc::<Ghostly>::clone(&odd),
        Arc::new(MemoryZone::new("b")),
        Arc::new(MemoryZone::new("c")),
    ];
    let (zones, directory) = (over(each), tempfile::tempdir().unwrap());
    let scrubber = Scrubber::new(Arc::clone(&zones), directory.path(), Arc::new(SystemClock));

    let withdrawn = scrubber.run(true).await;
    assert_eq!((withdrawn.objects, withdrawn.lost.count, withdrawn.doubtful.count), (1, 0, 0));
    assert_eq!(found(&withdrawn), [(0, 0, 0); 3]);

    odd.insists.store(true, SeqCst);
    let lost = scrubber.run(true).await;
    assert_eq!((lost.lost.count, &*lost.lost.first[0]), (1, ghost.as_str()));
}
