//! Journals over zones that fail, and what an intruder in the zones can do to them.

use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Entropy, ErrorKind, ManualClock, ProductId, Role, SeededEntropy, Timestamp, WriterId};
use bytes::Bytes;
use futures::future::join_all;
use seal::{InstallationSigner, PrivateKey, Signer};
use zones::{ForgetfulZone, MemoryZone, ObjectName, Power, Zone, Zones, ZonesSettings};

use crate::*;

mod crash;
mod intruder;
mod proving;
mod succession;
mod trimming;

/// One installation with one product's journal.
struct World {
    each: Vec<Arc<MemoryZone>>,
    zones: Arc<Zones>,
    house: House,
}

/// Keys, clock and chance.
struct House {
    clock: Arc<ManualClock>,
    chance: Arc<SeededEntropy>,
    installation: InstallationSigner,
    private: PrivateKey,
}

const JOURNAL: &str = "raw/7";

fn product() -> Option<ProductId> {
    ProductId::new(7).ok()
}

fn quick() -> JournalSettings {
    JournalSettings {
        commit_after: Duration::ZERO,
        ..JournalSettings::default()
    }
}

fn over(zones: Vec<Arc<dyn Zone>>, clock: &Arc<ManualClock>) -> Arc<Zones> {
    let settings = ZonesSettings {
        put_timeout: Duration::from_millis(150),
        ..ZonesSettings::default()
    };
    Zones::new(zones, settings, Arc::clone(clock) as Arc<dyn Clock>)
}

impl House {
    fn new(seed: u64) -> Self {
        let chance = Arc::new(SeededEntropy::new(seed));
        Self {
            clock: Arc::new(ManualClock::at(Timestamp::from_secs(1_763_900_000))),
            installation: InstallationSigner::generate(&*chance),
            private: PrivateKey::generate(&*chance),
            chance,
        }
    }

    fn signer(&self, by: &InstallationSigner, role: Role) -> CurrentSigner {
        let (uncertified, now) = (Signer::generate(&*self.chance), self.clock.now());
        let certificate = by.certify(role, uncertified.public_key(), now, now.plus(Duration::from_secs(86_400)));
        let signer = Arc::new(uncertified.certified(certificate).unwrap());
        Arc::new(move || Arc::clone(&signer))
    }

    fn parts(&self, zones: &Arc<Zones>) -> JournalParts {
        JournalParts {
            zones: Arc::clone(zones),
            signer: self.signer(&self.installation, Role::Warehouse),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            entropy: Arc::clone(&self.chance) as Arc<dyn Entropy>,
        }
    }

    fn writer(&self) -> WriterId {
        WriterId::generate(self.clock.now(), &*self.chance)
    }

    fn start(&self, zones: &Arc<Zones>, settings: JournalSettings, after: Tail) -> Journal {
        Journal::start(
            self.parts(zones),
            settings,
            JOURNAL,
            product(),
            self.private.public(),
            self.writer(),
            after,
        )
    }

    async fn recover(&self, zones: &Zones) -> Result<Recovered, RecoverError> {
        recover(zones, &self.installation.key(), Role::Warehouse, JOURNAL, product()).await
    }

    async fn survey(&self, zones: &Zones) -> Recovered {
        survey(zones, &self.installation.key(), Role::Warehouse, JOURNAL, product())
            .await
            .unwrap()
    }

    /// Everything a journal says, in order.
    async fn read(&self, zones: &Zones) -> Vec<String> {
        self.texts(zones, &self.recover(zones).await.unwrap()).await
    }

    async fn texts(&self, zones: &Zones, recovered: &Recovered) -> Vec<String> {
        let mut texts = Vec::new();
        for segment in &recovered.segments {
            for entry in segment.open(zones, &self.private).await.unwrap() {
                let [header, payload] = [entry.header, entry.payload].map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
                assert_eq!(header, format!("about {payload}"));
                texts.push(payload);
            }
        }
        texts
    }
}

impl World {
    fn new() -> Self {
        let house = House::new(1);
        let each: Vec<_> = ["a", "b", "c"].map(|name| Arc::new(MemoryZone::new(name))).into();
        let zones = over(each.iter().map(|zone| Arc::clone(zone) as Arc<dyn Zone>).collect(), &house.clock);
        Self { each, zones, house }
    }

    /// The same zones as another process finds them.
    fn restarted(&self) -> Arc<Zones> {
        over(
            self.each.iter().map(|zone| Arc::clone(zone) as Arc<dyn Zone>).collect(),
            &self.house.clock,
        )
    }

    fn journal(&self) -> Journal {
        self.house.start(&self.zones, quick(), Tail::empty())
    }

    async fn with(texts: &[&str]) -> Self {
        let world = Self::new();
        let journal = world.journal();
        for text in texts {
            journal.append(entry(text)).await.unwrap();
        }
        journal.close().await;
        world
    }

    async fn read(&self) -> Vec<String> {
        self.house.read(&self.restarted()).await
    }

    fn objects(&self) -> Vec<ObjectName> {
        self.each[0].objects()
    }

    fn down(&self, which: &[usize]) {
        which.iter().for_each(|i| self.each[*i].go_down());
    }

    fn all_back(&self) {
        self.each.iter().for_each(|zone| zone.come_back());
    }
}

fn entry(text: &str) -> Entry {
    Entry {
        header: Bytes::from(format!("about {text}")),
        payload: Bytes::from(text.to_owned()),
    }
}

#[tokio::test]
async fn what_was_appended_is_recovered_in_order_by_every_later_process() {
    let world = World::with(&["one", "two"]).await;
    world.house.clock.advance(Duration::from_secs(86_400));
    let zones = world.restarted();
    let recovered = world.house.recover(&zones).await.unwrap();
    let journal = world.house.start(&zones, quick(), recovered.tail());

    let id = journal.append(entry("three")).await.unwrap();
    journal.append(entry("")).await.unwrap();

    assert_eq!(id.sequence, 2);
    assert_eq!(world.read().await, ["one", "two", "three", ""]);
    assert_eq!(world.house.recover(&zones).await.unwrap().head(), journal.head());
}

#[tokio::test]
async fn entries_that_belong_together_are_in_one_segment() {
    let world = World::new();
    let settings = JournalSettings { commit_at: 1, ..quick() };
    let journal = world.house.start(&world.zones, settings, Tail::empty());
    let together = |texts: [&str; 2]| journal.append_all(texts.map(entry).into());

    let both = join_all([together(["one", "two"]), together(["three", "four"])]).await;

    assert_eq!((both, journal.head().length), (vec![Ok(()), Ok(())], 2));
    assert_eq!(world.read().await, ["one", "two", "three", "four"]);
}

#[tokio::test]
async fn the_broken_twin_takes_what_no_zone_has() {
    let world = World::new();
    world.down(&[1, 2]);
    let settings = JournalSettings {
        acknowledge: Acknowledge::TooEarly,
        ..quick()
    };
    let twin = world.house.start(&world.zones, settings, Tail::empty());

    twin.append_all(vec![entry("lost")]).await.unwrap();

    twin.close().await;
    world.all_back();
    assert!(world.read().await.is_empty());
}

#[tokio::test]
async fn while_two_of_three_zones_are_down_an_append_is_refused_and_never_seen() {
    let world = World::new();
    let journal = world.journal();
    journal.append(entry("before")).await.unwrap();
    world.down(&[1, 2]);

    for _ in 0..3 {
        let refused = journal.append(entry("refused")).await.unwrap_err();
        assert!(matches!(refused, AppendError::TooFewZones { .. }), "{refused:?}");
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
    }
    assert_eq!(journal.head().length, 1);

    world.all_back();
    let id = journal.append(entry("after")).await.unwrap();
    assert_eq!(id.sequence, 1);
    assert_eq!(world.read().await, ["before", "after"]);
}

#[tokio::test]
async fn while_one_zone_is_down_appends_go_on_and_any_other_zone_may_fail_later() {
    let world = World::new();
    let journal = world.journal();
    world.down(&[0]);
    for text in ["one", "two"] {
        journal.append(entry(text)).await.unwrap();
    }
    journal.close().await;

    world.all_back();
    assert_eq!(world.read().await, ["one", "two"]);
    let cancel = caught_up(&world.restarted()).await;
    world.down(&[1, 2]);
    assert!(
        world.house.recover(&world.restarted()).await.is_err(),
        "a minority must not speak for all"
    );
    world.each[1].come_back();
    assert_eq!(world.read().await, ["one", "two"]);
    drop(cancel);
}

/// Lets the zones catch up until nothing waits.
async fn caught_up(zones: &Arc<Zones>) -> impl Drop + use<> {
    let cancel = tokio_util::sync::CancellationToken::new();
    zones.spawn_catch_up(cancel.clone());
    for _ in 0..1000 {
        if zones.status().iter().all(|zone| zone.up && zone.waiting == 0 && !zone.compare) {
            return cancel.drop_guard();
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("the zones did not catch up: {:?}", zones.status());
}

#[tokio::test]
async fn an_attempt_that_could_not_be_withdrawn_yields_to_the_next_one() {
    let world = World::new();
    let journal = world.journal();
    journal.append(entry("one")).await.unwrap();
    world.each[1].hang();
    world.each[2].hang();
    let undecided = journal.append(entry("undecided")).await.unwrap_err();
    assert!(matches!(undecided, AppendError::Undecided { .. }), "{undecided:?}");
    world.all_back();
    // What hung arrives now, and undoes itself; until then the zones take nothing.
    while journal.append(entry("two")).await.is_err() {
        tokio::task::yield_now().await;
    }
    journal.close().await;

    assert_eq!(world.read().await, ["one", "two"]);
}

#[tokio::test]
async fn the_end_that_a_dead_writer_left_in_an_absent_zone_stays_out() {
    let world = World::with(&["one", "left behind"]).await;
    let left = world
        .objects()
        .into_iter()
        .find(|name| name.id().contains("-0000000000000001-"))
        .unwrap();
    let bytes = world.each[0].get(&left, record::MAX_OBJECT).await.unwrap();
    world.each.iter().for_each(|zone| assert!(zone.lose(&left)));
    let zones = world.restarted();
    let tail = world.house.recover(&zones).await.unwrap().tail();
    // The next writer's clock is far behind: its id sorts before the dead one's.
    let writer = WriterId::from_bytes([0; 16]);
    let journal = Journal::start(
        world.house.parts(&zones),
        quick(),
        JOURNAL,
        product(),
        world.house.private.public(),
        writer,
        tail,
    );
    journal.append(entry("accepted")).await.unwrap();
    journal.close().await;

    world.each[2].plant(&left, bytes);

    let recovered = world.house.recover(&world.restarted()).await.unwrap();
    assert_eq!(recovered.orphans, [left]);
    assert_eq!(world.read().await, ["one", "accepted"]);
}

/// A journal of one entry, and a segment after it that a second writer left behind in the last zone.
async fn left_behind() -> (World, ObjectName, Bytes) {
    let world = World::with(&["one"]).await;
    let zones = world.restarted();
    let tail = world.house.recover(&zones).await.unwrap().tail();
    let journal = world.house.start(&zones, quick(), tail);
    journal.append(entry("left behind")).await.unwrap();
    journal.close().await;
    let left = world
        .objects()
        .into_iter()
        .find(|name| name.id().contains("-0000000000000001-"))
        .unwrap();
    let bytes = world.each[0].get(&left, record::MAX_OBJECT).await.unwrap();
    world.each.iter().for_each(|zone| assert!(zone.lose(&left)));
    (world, left, bytes)
}

/// Writes to the journal while the last zone is away, with a clock that is far behind: the id sorts before all others.
fn start_late(world: &World, zones: &Arc<Zones>, tail: Tail) -> Journal {
    let (parts, to) = (world.house.parts(zones), world.house.private.public());
    Journal::start(parts, quick(), JOURNAL, product(), to, WriterId::from_bytes([0; 16]), tail)
}

#[tokio::test]
async fn the_end_that_a_dead_writer_left_in_a_zone_that_was_away_at_the_next_start_stays_out() {
    let (world, left, bytes) = left_behind().await;
    world.down(&[2]);
    let zones = world.restarted();
    let tail = world.house.recover(&zones).await.unwrap().tail();
    let journal = start_late(&world, &zones, tail);
    journal.append(entry("accepted")).await.unwrap();
    journal.close().await;

    world.all_back();
    world.each[2].plant(&left, bytes);

    let recovered = world.house.recover(&world.restarted()).await.unwrap();
    assert_eq!(recovered.orphans, [left]);
    assert_eq!(recovered.head(), journal.head());
    assert_eq!(world.read().await, ["one", "accepted"]);
}

#[tokio::test]
async fn what_a_dead_writer_sent_through_a_network_comes_too_late_to_displace_what_was_accepted() {
    let (world, left, bytes) = left_behind().await;
    world.each.iter().for_each(|zone| zone.set_final(false));
    let zones = world.restarted();
    let tail = world.house.recover(&zones).await.unwrap().tail();
    // All zones have answered and none has it, and still it is on its way.
    let journal = start_late(&world, &zones, tail);
    journal.append(entry("accepted")).await.unwrap();
    journal.close().await;

    world.each.iter().for_each(|zone| zone.plant(&left, bytes.clone()));

    let recovered = world.house.recover(&world.restarted()).await.unwrap();
    assert_eq!(recovered.orphans, [left]);
    assert_eq!(recovered.check_head(&journal.head()), Ok(()));
    assert_eq!(world.read().await, ["one", "accepted"]);
}

#[tokio::test]
async fn an_opening_without_anything_after_it_is_not_remembered() {
    let (world, left, bytes) = left_behind().await;
    world.down(&[2]);
    let zones = world.restarted();
    let recovered = world.house.recover(&zones).await.unwrap();
    let journal = start_late(&world, &zones, recovered.tail());
    // Its opening is taken, what comes after it is not.
    world.each[1].fail_put_after(1);
    assert!(journal.append(entry("refused")).await.is_err());
    journal.close().await;
    assert_eq!(world.objects().len(), 2, "{:?}", world.objects());
    let later = world.house.recover(&world.restarted()).await.unwrap();
    assert_eq!(
        later.segments.len(),
        1,
        "nor is it something that a role could apply and miss later"
    );
    let remembered = [journal.head(), later.head(), start_late(&world, &zones, later.tail()).head()];
    assert_eq!(remembered, [recovered.head(); 3]);

    world.all_back();
    world.each[2].plant(&left, bytes);

    let found = world.house.recover(&world.restarted()).await.unwrap();
    assert_eq!(found.check_head(&remembered[0]), Ok(()));
    let texts = world.read().await;
    assert!(texts == ["one"] || texts == ["one", "left behind"], "{texts:?}");
}

#[tokio::test]
async fn many_appends_at_once_share_few_segments_and_keep_their_order() {
    let world = World::new();
    let settings = JournalSettings {
        commit_after: Duration::from_millis(20),
        ..JournalSettings::default()
    };
    let journal = world.house.start(&world.zones, settings, Tail::empty());

    let texts: Vec<String> = (0..100).map(|i| format!("{i:03}")).collect();
    let ids = join_all(texts.iter().map(|text| journal.append(entry(text)))).await;

    assert!(ids.iter().all(Result::is_ok));
    assert!(journal.head().length <= 5, "{} segments", journal.head().length);
    assert_eq!(world.read().await, texts);
}

#[tokio::test]
async fn an_idle_journal_commits_at_once() {
    let world = World::new();
    let settings = JournalSettings {
        commit_after: Duration::from_secs(3600),
        ..JournalSettings::default()
    };
    let journal = world.house.start(&world.zones, settings, Tail::empty());

    tokio::time::timeout(Duration::from_secs(10), journal.append(entry("first")))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn what_is_to_be_written_at_once_waits_for_no_company_and_takes_others_along() {
    let world = World::new();
    let settings = JournalSettings {
        commit_after: Duration::from_secs(3600),
        ..JournalSettings::default()
    };
    let journal = world.house.start(&world.zones, settings, Tail::empty());
    let soon = Duration::from_secs(10);
    for text in ["one", "two", "three"] {
        let written = tokio::time::timeout(soon, journal.append_at_once(entry(text))).await;
        written.expect("it waits").unwrap();
    }
    let (others, urgent) = tokio::join!(
        tokio::time::timeout(soon, journal.append(entry("four"))),
        tokio::time::timeout(soon, journal.append_at_once(entry("five")))
    );
    assert_eq!(others.expect("it waits").unwrap(), urgent.expect("it waits").unwrap());
    assert_eq!(world.read().await, ["one", "two", "three", "four", "five"]);
}

#[tokio::test]
async fn a_full_segment_does_not_wait() {
    let world = World::new();
    let settings = JournalSettings {
        commit_after: Duration::from_secs(3600),
        commit_at: 1000,
        ..JournalSettings::default()
    };
    let journal = world.house.start(&world.zones, settings, Tail::empty());
    journal.append(entry("first")).await.unwrap();

    let big = "x".repeat(300);
    let appends = join_all((0..4).map(|_| journal.append(entry(&big))));
    let outcome = tokio::time::timeout(Duration::from_secs(1), appends).await;

    assert!(outcome.is_err(), "the last of them has reason to wait");
    assert_eq!(journal.head().length, 4);
    tokio::time::timeout(Duration::from_secs(10), journal.close()).await.unwrap();
    assert_eq!(world.read().await.len(), 5);
}

#[tokio::test]
async fn more_than_may_wait_is_refused() {
    let world = World::new();
    let settings = JournalSettings {
        max_waiting: 2000,
        ..quick()
    };
    let journal = world.house.start(&world.zones, settings, Tail::empty());
    let text = "x".repeat(400);

    let outcomes = join_all((0..10).map(|_| journal.append(entry(&text)))).await;

    let refused = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Err(AppendError::TooMuch { .. })))
        .count();
    assert_eq!((refused, outcomes.iter().filter(|outcome| outcome.is_ok()).count()), (8, 2));
    assert_eq!(journal.waiting(), 0);
    journal.append(entry(&text)).await.unwrap();
    let huge = journal.append(entry(&"x".repeat(3000))).await.unwrap_err();
    assert_eq!(huge.kind(), ErrorKind::TooLarge);
}

#[tokio::test]
async fn closing_decides_what_was_taken_and_takes_no_more() {
    let world = World::new();
    let settings = JournalSettings {
        commit_after: Duration::from_secs(3600),
        ..JournalSettings::default()
    };
    let journal = Arc::new(world.house.start(&world.zones, settings, Tail::empty()));
    journal.append(entry("first")).await.unwrap();
    let waiting = tokio::spawn({
        let journal = Arc::clone(&journal);
        async move { journal.append(entry("second")).await }
    });
    while journal.waiting() == 0 {
        tokio::task::yield_now().await;
    }

    journal.close().await;

    assert!(waiting.await.unwrap().is_ok());
    assert_eq!(journal.append(entry("third")).await, Err(AppendError::Closed));
    assert_eq!(world.read().await, ["first", "second"]);
}

#[tokio::test]
async fn a_segment_that_nobody_would_believe_is_not_written() {
    let world = World::new();
    let journal = world.journal();
    world.house.clock.advance(Duration::from_secs(2 * 86_400));

    assert_eq!(journal.append(entry("late")).await, Err(AppendError::NoCertificate));
    assert_eq!(world.objects(), []);
}

#[tokio::test]
async fn what_came_after_a_known_head_is_read_without_the_rest() {
    let world = World::with(&["one", "two", "three"]).await;
    let zones = world.restarted();
    let whole = world.house.recover(&zones).await.unwrap();
    let known = Head {
        length: 2,
        hash: whole.segments[1].hash,
    };
    let key = world.house.installation.key();
    let after = |head| {
        let zones = Arc::clone(&zones);
        async move { recover_after(&zones, &key, Role::Warehouse, JOURNAL, product(), &head).await }
    };

    let rest = after(known).await.unwrap();

    assert_eq!(world.house.texts(&zones, &rest).await, ["three"]);
    assert_eq!((rest.tail(), rest.check_head(&known)), (whole.tail(), Ok(())));
    assert_eq!(after(whole.head()).await.unwrap().tail(), whole.tail());
    let another = Head { length: 2, hash: [7; 32] };
    assert_eq!(after(another).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_journal_is_read_back_up_to_its_writers_head_while_it_is_written() {
    let world = World::new();
    let journal = world.journal();
    for text in ["one", "two"] {
        journal.append(entry(text)).await.unwrap();
    }
    let key = world.house.installation.key();
    let read_back = async |head| {
        let zones = &world.zones;
        let mut texts = Vec::new();
        for segment in read_back(zones, &key, Role::Warehouse, JOURNAL, product(), &head).await? {
            for entry in segment.open(zones, &world.house.private).await.unwrap() {
                texts.push(String::from_utf8(entry.payload.to_vec()).unwrap());
            }
        }
        Ok::<_, RecoverError>(texts)
    };
    let head = journal.head();
    journal.append(entry("three")).await.unwrap();
    world.down(&[2]);

    assert_eq!(read_back(head).await.unwrap(), ["one", "two"]);
    assert_eq!(read_back(journal.head()).await.unwrap(), ["one", "two", "three"]);
    assert_eq!(read_back(Head::default()).await.unwrap(), [""; 0]);
    let another = Head { length: 2, hash: [7; 32] };
    assert_eq!(read_back(another).await.unwrap_err().kind(), ErrorKind::Corrupt);
    let longer = Head {
        length: 4,
        ..journal.head()
    };
    assert_eq!(read_back(longer).await.unwrap_err().kind(), ErrorKind::Corrupt);

    journal.append(entry("four")).await.unwrap();
    assert_eq!(read_back(journal.head()).await.unwrap().len(), 4);
}
