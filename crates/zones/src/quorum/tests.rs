use std::time::Duration;

use base::{Entropy, ErrorKind, SeededEntropy, SystemClock};
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{ForgetfulZone, GraveKey, MemoryZone, Negligence, Power};

mod catching_up;
mod drills;
mod failures;
mod late;
mod odd;
mod scrubbing;
mod settling;

/// More than any object here has.
const MOST: u64 = 1000;

struct World {
    zones: Arc<Zones>,
    each: Vec<Arc<MemoryZone>>,
}

impl World {
    fn new(count: usize) -> Self {
        let each: Vec<_> = ["a", "b", "c", "d", "e"][..count]
            .iter()
            .map(|name| Arc::new(MemoryZone::new(name)))
            .collect();
        let zones = over(each.iter().map(|zone| Arc::clone(zone) as Arc<dyn Zone>).collect());
        Self { zones, each }
    }

    /// The same zones as another process finds them.
    fn restarted(&self) -> Arc<Zones> {
        over(self.each.iter().map(|zone| Arc::clone(zone) as Arc<dyn Zone>).collect())
    }

    async fn look_after_all(&self) {
        look_after_all(&self.zones).await;
    }

    /// Which zones hold it.
    fn holders(&self, name: &ObjectName) -> String {
        self.each.iter().filter(|zone| zone.holds(name)).map(|zone| zone.name()).collect()
    }

    async fn eventually_in(&self, name: &ObjectName, holders: &str) {
        eventually(|| self.holders(name) == holders).await;
    }
}

async fn look_after_all(zones: &Arc<Zones>) {
    for member in &zones.members {
        zones.visit(member).await;
    }
}

fn over(zones: Vec<Arc<dyn Zone>>) -> Arc<Zones> {
    let settings = ZonesSettings {
        put_timeout: Duration::from_millis(150),
        read_timeout: Duration::from_millis(300),
        hedge_after: Duration::from_millis(30),
        probe_every: Duration::from_millis(20),
        max_in_flight: 4,
        ..ZonesSettings::default()
    };
    Zones::new(zones, settings, Arc::new(SystemClock))
}

async fn eventually(condition: impl Fn() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it did not become true within five seconds");
}

fn object(text: &str) -> (ObjectName, Bytes) {
    let bytes = Bytes::from(text.to_owned());
    (ObjectName::new("raw/7", "x", &bytes).unwrap(), bytes)
}

async fn names(zones: &Zones) -> Vec<ObjectName> {
    zones.list("").await.unwrap().into_iter().map(|listed| listed.name).collect()
}

#[tokio::test]
async fn an_object_goes_to_every_zone_and_is_read_from_any() {
    let world = World::new(3);
    let (name, bytes) = object("one");

    world.zones.put(&name, bytes.clone()).await.unwrap();

    world.eventually_in(&name, "abc").await;
    for down in 0..3 {
        world
            .each
            .iter()
            .enumerate()
            .filter(|(i, _)| *i != down)
            .for_each(|(_, zone)| zone.go_down());
        assert_eq!(world.zones.get(&name, MOST).await.unwrap(), bytes);
        assert_eq!(world.zones.get_range(&name, 1..3).await.unwrap(), bytes.slice(1..3));
        world.each.iter().for_each(|zone| zone.come_back());
    }
}

#[tokio::test]
async fn one_zone_down_stops_nothing_and_it_catches_up() {
    let world = World::new(3);
    let (before, bytes) = object("before");
    world.zones.put(&before, bytes).await.unwrap();
    world.look_after_all().await;
    world.each[1].go_down();

    let (name, bytes) = object("during");
    world.zones.put(&name, bytes.clone()).await.unwrap();
    world.eventually_in(&name, "ac").await;
    let state = &world.zones.status()[1];
    assert_eq!((state.up, &*state.detail), (false, "it was told to be down"));
    assert!(world.zones.can_commit());
    assert_eq!(world.zones.get(&name, MOST).await.unwrap(), bytes);

    let cancel = CancellationToken::new();
    let task = world.zones.spawn_catch_up(cancel.clone());
    world.each[1].come_back();
    world.eventually_in(&name, "abc").await;
    eventually(|| is_idle(&world.zones.status()[1])).await;
    cancel.cancel();
    task.await.unwrap();
}

/// It works and nothing waits for it.
fn is_idle(zone: &ZoneState) -> bool {
    let works = zone.up && zone.condition == Condition::Up && zone.circuit == Circuit::Closed;
    works && zone.detail.is_empty() && !zone.compare && (zone.waiting, zone.waiting_bytes, zone.waiting_since) == (0, 0, None)
}

#[tokio::test]
async fn with_two_of_three_zones_down_a_write_is_refused_and_never_seen() {
    for known in [false, true] {
        let world = World::new(3);
        world.each[0].go_down();
        world.each[2].go_down();
        if known {
            world.look_after_all().await;
            assert!(!world.zones.can_commit());
        }

        let (name, bytes) = object("refused");
        let refused = world.zones.put(&name, bytes).await.unwrap_err();

        let held = usize::from(!known);
        assert_eq!(
            refused,
            PutError::TooFewZones {
                name: name.clone(),
                held,
                needed: 2
            }
        );
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        world.each.iter().for_each(|zone| zone.come_back());
        world.look_after_all().await;
        assert_eq!(names(&world.zones).await, []);
        assert_eq!(world.restarted().settle("raw").await.unwrap().objects, []);
        assert_eq!(world.holders(&name), "");
        let (next, bytes) = object("next");
        world.zones.put(&next, bytes).await.unwrap();
    }
}

#[tokio::test]
async fn a_copy_that_a_zone_denied_having_is_withdrawn_too() {
    let world = World::new(3);
    let (name, bytes) = object("denied");
    world.each[0].do_and_deny_next_puts(1);
    world.each[1].fail_next_puts(1);

    let refused = world.zones.put(&name, bytes).await.unwrap_err();

    assert!(matches!(refused, PutError::TooFewZones { .. }), "{refused:?}");
    assert_eq!(world.holders(&name), "");
}

#[tokio::test]
async fn a_copy_that_a_disk_denied_having_renamed_is_withdrawn_too() {
    let disk = Arc::new(ForgetfulZone::new("a", &Power::on()));
    let others = [Arc::new(MemoryZone::new("b")), Arc::new(MemoryZone::new("c"))];
    let each = || -> Vec<Arc<dyn Zone>> {
        let (b, c) = (Arc::clone(&others[0]), Arc::clone(&others[1]));
        vec![Arc::clone(&disk) as Arc<dyn Zone>, b, c]
    };
    let (name, bytes) = object("denied");
    disk.do_and_deny_next_renames(1);
    others.iter().for_each(|zone| zone.fail_next_puts(1));

    let refused = over(each()).put(&name, bytes).await.unwrap_err();

    assert!(matches!(refused, PutError::TooFewZones { .. }), "{refused:?}");
    let nothing = Settled {
        is_final: true,
        ..Settled::default()
    };
    assert_eq!(over(each()).settle("raw").await.unwrap(), nothing);
}

#[tokio::test]
async fn what_was_undecided_and_arrives_is_an_object_like_any_other() {
    let world = World::new(3);
    world.each[0].hang();
    world.each[1].hang();

    let (name, bytes) = object("late");
    let refused = world.zones.put(&name, bytes).await.unwrap_err();

    // Two hanging zones may have it: nobody can say yet, and nobody says so.
    assert!(matches!(refused, PutError::Undecided { .. }), "{refused:?}");
    world.each.iter().for_each(|zone| zone.come_back());
    world.look_after_all().await;
    // Whoever starts meanwhile may have counted it: nothing takes it away again.
    eventually(|| world.holders(&name) == "abc").await;
    assert_eq!(world.restarted().settle("raw").await.unwrap().objects, [name]);
}

#[tokio::test]
async fn what_may_be_on_its_way_is_undecided_and_a_withdrawal_digs_no_grave() {
    let world = World::new(5);
    let (name, bytes) = object("withdrawn");
    world.each[0].do_and_deny_next_puts(1);
    world.each[1].fail_next_puts(1);
    world.each[2].fail_next_puts(1);
    world.each[3].hang();

    let undecided = world.zones.put(&name, bytes).await.unwrap_err();

    // Zone d may have it, and while it does not say nobody can tell what a later process will find.
    assert!(matches!(undecided, PutError::Undecided { .. }), "{undecided:?}");
    assert!(world.each.iter().all(|zone| zone.objects().is_empty()));
    world.each[3].come_back();
    world.look_after_all().await;
    eventually(|| world.holders(&name) == "abcde").await;
    assert_eq!(names(&world.restarted()).await, [name]);
}

#[tokio::test]
async fn a_zone_that_hangs_costs_nothing_but_its_own_permits() {
    let world = World::new(3);
    world.each[2].hang();
    let (first, bytes) = object("first");
    world.zones.put(&first, bytes).await.unwrap();
    eventually(|| !world.zones.status()[2].up).await;

    let started = std::time::Instant::now();
    for i in 0..200 {
        let (name, bytes) = object(&format!("number {i}"));
        world.zones.put(&name, bytes.clone()).await.unwrap();
        assert_eq!(world.zones.get(&name, MOST).await.unwrap(), bytes);
    }
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());

    world.each[2].come_back();
    eventually(|| !world.zones.members[2].is_hanging()).await;
    world.look_after_all().await;
    assert_eq!(world.each[2].objects().len(), 201);
}

#[tokio::test]
async fn wrong_and_missing_copies_are_passed_over_and_repaired() {
    type Harm = fn(&MemoryZone, &ObjectName) -> bool;
    for harm in [MemoryZone::corrupt as Harm, MemoryZone::truncate, MemoryZone::lose] {
        let world = World::new(3);
        let (name, bytes) = object("precious");
        world.zones.put(&name, bytes.clone()).await.unwrap();
        world.eventually_in(&name, "abc").await;
        eventually(|| !world.zones.is_in_flight(&name)).await;
        assert!(harm(&world.each[0], &name) && harm(&world.each[1], &name));

        assert_eq!(world.zones.get(&name, MOST).await.unwrap(), bytes);

        for zone in [&world.each[0], &world.each[1]] {
            let mut repaired = false;
            for _ in 0..1000 {
                repaired = zone.get(&name, MOST).await.is_ok_and(|copy| copy == bytes);
                if repaired {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            assert!(repaired);
        }
    }
}

#[tokio::test]
async fn a_zone_that_gave_out_wrong_copies_is_asked_last() {
    let world = World::new(3);
    let (good, bytes) = object("good");
    world.zones.put(&good, bytes.clone()).await.unwrap();
    world.eventually_in(&good, "abc").await;
    let (long, _) = object("long");
    world.each[0].plant(&long, Bytes::from(vec![0; 2000]));

    assert_eq!(world.zones.get(&long, MOST).await, Err(GetError::Corrupt { name: long.clone() }));
    assert!(world.zones.status()[0].up, "one wrong copy is not a zone that is down");

    world.each[0].hang();
    let asked = std::time::Instant::now();
    assert_eq!(world.zones.get(&good, MOST).await, Ok(bytes));
    assert!(asked.elapsed() < world.zones.settings.hedge_after, "the zone was asked first");
}

#[tokio::test]
async fn a_long_object_is_read_too() {
    let world = World::new(3);
    let bytes = Bytes::from(vec![7; (64 << 20) + 1]);
    let name = ObjectName::new("raw/7", "x", &bytes).unwrap();
    world.each[2].plant(&name, bytes.clone());

    let length = bytes.len() as u64;
    assert_eq!(
        world.zones.get(&name, length - 1).await,
        Err(GetError::Corrupt { name: name.clone() })
    );
    assert!(world.zones.get(&name, length).await.is_ok_and(|got| got == bytes));
}

#[tokio::test]
async fn a_reported_range_leads_to_the_repair_of_that_copy() {
    let world = World::new(3);
    let (name, bytes) = object("precious");
    world.zones.put(&name, bytes.clone()).await.unwrap();
    world.eventually_in(&name, "abc").await;
    world.each[0].corrupt(&name);

    world.zones.report_corrupt(&name).await;

    eventually(|| world.each[0].corrupt(&name)).await;
    world.each[0].corrupt(&name);
    for _ in 0..1000 {
        if world.each[0].get(&name, MOST).await.unwrap() == bytes {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("the copy was not repaired");
}

#[tokio::test]
async fn what_cannot_be_read_says_why() {
    let world = World::new(3);
    let (name, bytes) = object("gone");
    assert_eq!(world.zones.get(&name, MOST).await, Err(GetError::NotFound { name: name.clone() }));
    world.zones.put(&name, bytes).await.unwrap();
    world.eventually_in(&name, "abc").await;

    world.each.iter().for_each(|zone| assert!(zone.corrupt(&name)));
    assert_eq!(world.zones.get(&name, MOST).await, Err(GetError::Corrupt { name: name.clone() }));

    world.each[0].lose(&name);
    world.each[1].lose(&name);
    world.each[2].go_down();
    assert_eq!(world.zones.get(&name, MOST).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn what_a_dead_writer_left_in_a_minority_is_copied_to_a_majority_before_it_counts() {
    let world = World::new(3);
    let (name, bytes) = object("left");
    world.each[2].plant(&name, bytes);

    let settled = world.zones.settle("raw/7").await.unwrap();

    assert_eq!((settled.objects, settled.copied), (vec![name.clone()], 1));
    assert_eq!(world.holders(&name).len(), 3);

    world.each[0].go_down();
    world.each[1].go_down();
    assert_eq!(world.zones.settle("raw").await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn what_was_deleted_does_not_come_back_with_a_zone_that_was_away() {
    let world = World::new(3);
    let (name, bytes) = object("deleted");
    world.zones.put(&name, bytes).await.unwrap();
    world.eventually_in(&name, "abc").await;
    world.each[1].go_down();

    world.zones.delete(&name).await.unwrap();
    world.each[1].come_back();

    let restarted = world.restarted();
    assert_eq!(names(&restarted).await, []);
    assert_eq!(restarted.get(&name, MOST).await, Err(GetError::NotFound { name: name.clone() }));
    look_after_all(&restarted).await;
    look_after_all(&restarted).await;
    assert_eq!(world.holders(&name), "");
    assert!(
        world
            .each
            .iter()
            .all(|zone| zone.holds(&name.tombstone(&GraveKey::default()).unwrap().0))
    );
}

#[tokio::test]
async fn a_grave_that_a_zones_owner_dug_buries_nothing() {
    let world = World::new(3);
    let (name, bytes) = object("one");
    world.zones.put(&name, bytes).await.unwrap();
    let (grave, epitaph) = name.tombstone(&GraveKey::new([9; 32])).unwrap();
    world.each[2].put(&grave, epitaph).await.unwrap();

    let restarted = world.restarted();
    look_after_all(&restarted).await;
    look_after_all(&restarted).await;

    assert_eq!(world.holders(&name), "abc");
    assert!(restarted.get(&name, MOST).await.is_ok());
}

#[tokio::test]
async fn a_caller_who_goes_away_leaves_nothing_half_decided() {
    let world = World::new(3);
    world.each[1].hang();
    world.each[2].hang();
    let (name, bytes) = object("abandoned");

    let waited = tokio::time::timeout(Duration::from_millis(20), world.zones.put(&name, bytes)).await;

    assert!(waited.is_err());
    world.each[1].come_back();
    world.each[2].come_back();
    world.eventually_in(&name, "abc").await;
    eventually(|| !world.zones.is_in_flight(&name)).await;
    assert_eq!(names(&world.zones).await, [name]);
}

#[tokio::test]
async fn bytes_under_another_name_are_not_taken() {
    let world = World::new(3);
    let (name, _) = object("one");
    let wrong = world.zones.put(&name, Bytes::from_static(b"another")).await.unwrap_err();
    assert_eq!(wrong, PutError::WrongName { name });
}

#[derive(Debug, Default)]
struct Tally {
    accepted: usize,
    lost: usize,
    refused: usize,
    seen_though_refused: usize,
}

/// Writes until the power fails, at another moment for each seed, and looks at what is there afterwards.
async fn power_cuts(negligence: Negligence, by_chance: bool) -> Tally {
    let mut tally = Tally::default();
    for seed in 0..200 {
        let (power, chance) = (Power::on(), SeededEntropy::new(seed));
        let each: Vec<_> = ["a", "b", "c"]
            .map(|name| Arc::new(ForgetfulZone::careless(name, &power, negligence)))
            .into();
        let zones = over(each.iter().map(|zone| Arc::clone(zone) as Arc<dyn Zone>).collect());
        power.cut_after(10 + chance.next_u64() % 400);
        let (mut accepted, mut refused) = (Vec::new(), Vec::new());
        for i in 0..12 {
            let bytes = Bytes::from(format!("seed {seed} object {i}"));
            let name = ObjectName::new(&format!("raw/{}/{}", i % 3, i % 2), &i.to_string(), &bytes).unwrap();
            match zones.put(&name, bytes).await {
                Ok(()) => accepted.push(name),
                Err(PutError::TooFewZones { .. }) => refused.push(name),
                Err(_) => {}
            }
        }
        power.restore();
        let found = each
            .iter()
            .map(|zone| if by_chance { zone.crash_by_chance(&chance) } else { zone.crash() });
        let zones = over(found.map(|zone| Arc::new(zone) as Arc<dyn Zone>).collect());
        // A broken twin may have lost the zones themselves.
        let settled = zones.settle("").await.unwrap_or_default();
        for name in &accepted {
            tally.lost += usize::from(!settled.objects.contains(name) || zones.get(name, MOST).await.is_err());
        }
        tally.seen_though_refused += refused.iter().filter(|name| settled.objects.contains(name)).count();
        tally.accepted += accepted.len();
        tally.refused += refused.len();
        assert!(
            negligence != Negligence::None || settled.unreadable.is_empty(),
            "seed {seed}: {:?}",
            settled.unreadable
        );
    }
    tally
}

#[tokio::test]
async fn whatever_was_accepted_survives_a_power_cut_in_all_zones() {
    for by_chance in [false, true] {
        let tally = power_cuts(Negligence::None, by_chance).await;
        assert_eq!((tally.lost, tally.seen_though_refused), (0, 0), "{tally:?}");
        assert!(tally.accepted > 500 && tally.refused > 500, "{tally:?}");
    }
}

#[tokio::test]
async fn the_same_test_notices_a_sync_that_is_left_out() {
    for negligence in [Negligence::Directories, Negligence::Files] {
        let tally = power_cuts(negligence, false).await;
        assert!(tally.lost > 100, "{negligence:?}: {tally:?}");
    }
}

#[tokio::test]
async fn a_full_zone_stops_nothing_and_catches_up_when_there_is_room() {
    let power = Power::on();
    let each: Vec<_> = ["a", "b", "c"].map(|name| Arc::new(ForgetfulZone::new(name, &power))).into();
    let zones = over(each.iter().map(|zone| Arc::clone(zone) as Arc<dyn Zone>).collect());
    each[2].set_full(true);

    let (name, bytes) = object("while it is full");
    zones.put(&name, bytes.clone()).await.unwrap();
    eventually(|| zones.status()[2].waiting == 1).await;
    look_after_all(&zones).await;
    assert_eq!((zones.status()[2].up, &*zones.status()[2].detail), (false, "no space is left"));

    each[2].set_full(false);
    look_after_all(&zones).await;
    assert_eq!(each[2].get(&name, MOST).await.unwrap(), bytes);
    assert!(is_idle(&zones.status()[2]), "{:?}", zones.status()[2]);
}

#[tokio::test]
async fn what_was_accepted_is_seen_while_a_slow_zone_is_still_at_it() {
    let world = World::new(3);
    world.each[0].hang();
    let (name, bytes) = object("accepted");
    world.zones.put(&name, bytes).await.unwrap();

    assert_eq!(names(&world.zones).await, [name]);
}

#[tokio::test]
async fn a_zone_that_hangs_delays_no_listing_more_than_once() {
    let world = World::new(3);
    let (name, bytes) = object("one");
    world.zones.put(&name, bytes).await.unwrap();
    world.each[2].hang();
    names(&world.zones).await;

    let started = std::time::Instant::now();
    for _ in 0..50 {
        assert_eq!(names(&world.zones).await, std::slice::from_ref(&name));
    }
    assert!(started.elapsed() < Duration::from_millis(250), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_directory_that_vanished_and_came_back_is_noticed_and_caught_up() {
    let base = tempfile::tempdir().unwrap();
    let settings = ZonesSettings {
        probe_every: Duration::from_millis(20),
        ..ZonesSettings::below(base.path(), &["a", "b", "c"])
    };
    let zones = Zones::open(settings, true, Arc::new(SystemClock)).unwrap();
    let cancel = CancellationToken::new();
    zones.spawn_catch_up(cancel.clone());
    let (path, away) = (base.path().join("b"), base.path().join("away"));

    std::fs::rename(&path, &away).unwrap();
    eventually(|| !zones.status()[1].up).await;
    assert_eq!(zones.status()[1].detail, "the directory is missing");
    let (name, bytes) = object("while it was away");
    zones.put(&name, bytes).await.unwrap();
    std::fs::rename(&away, &path).unwrap();

    eventually(|| path.join(name.as_str()).exists()).await;
    eventually(|| zones.status()[1].up && zones.status()[1].waiting == 0).await;

    // A new disk in its place is filled as well, when the operator says that it is one.
    std::fs::remove_dir_all(&path).unwrap();
    eventually(|| !zones.status()[1].up).await;
    std::fs::create_dir(&path).unwrap();
    eventually(|| zones.status()[1].detail.contains("adopt-as-b")).await;
    std::fs::write(path.join("adopt-as-b"), b"").unwrap();
    eventually(|| path.join(name.as_str()).exists()).await;
    eventually(|| zones.members[1].zone.is_complete()).await;
    cancel.cancel();
}

#[tokio::test]
async fn a_zone_that_is_made_beside_others_has_to_be_filled_first() {
    let base = tempfile::tempdir().unwrap();
    let open = || Zones::open(ZonesSettings::below(base.path(), &["a", "b", "c"]), true, Arc::new(SystemClock)).unwrap();
    let complete = |zones: &Zones| zones.members.iter().map(|member| member.zone.is_complete()).collect::<Vec<_>>();
    assert_eq!(complete(&open()), [true, true, true]);

    std::fs::remove_dir_all(base.path().join("b")).unwrap();
    let zones = open();

    assert_eq!(complete(&zones), [true, false, true]);
    look_after_all(&zones).await;
    assert_eq!(complete(&zones), [true, true, true]);
}
