//! A zone in a bucket: of a twin that can be broken in every way, and of a real store.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use base::SystemClock;

use super::*;
use crate::contract::keeps_the_contract;

mod hostile;
mod real;
mod together;
mod twin;

use twin::{Fault, Twin};

/// More than any object here has.
const MOST: u64 = 1000;
const SECRET: &str = "hidden-secret-0001";

fn object(bytes: &'static [u8]) -> (ObjectName, Bytes) {
    (ObjectName::new("raw/7", "x", bytes).unwrap(), Bytes::from_static(bytes))
}

fn detail(error: ZoneError) -> String {
    assert!(matches!(error, ZoneError::Down { .. }), "{error:?}");
    for secret in [SECRET, "coffer-test-secret-0001", "something-else"] {
        assert!(!error.to_string().contains(secret), "{error}");
    }
    error.detail()
}

fn parts(url: &str, credentials: &Path, ca: &Path) -> S3Parts {
    S3Parts {
        name: "a".into(),
        installation: "ours".into(),
        role: "warehouse".into(),
        address: Address::parse(url).unwrap(),
        region: "us-east-1".into(),
        credentials: credentials.to_owned(),
        ca: Some(ca.to_owned()),
        hosts: Hosts::default(),
        put_timeout: Duration::from_secs(20),
        read_timeout: Duration::from_secs(20),
        clock: Arc::new(SystemClock),
    }
}

/// A twin, and where its access key is.
struct World {
    twin: Twin,
    place: tempfile::TempDir,
}

impl World {
    async fn new(fault: Fault) -> Self {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("credentials");
        fs::write(&path, format!("access_key_id = key\nsecret_access_key = {SECRET}\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        Self {
            twin: Twin::start(fault).await,
            place,
        }
    }

    fn parts(&self) -> S3Parts {
        parts(&self.twin.url(), &self.place.path().join("credentials"), &self.twin.ca())
    }

    /// A zone that was taken into use, as at a first start.
    async fn zone(&self) -> S3Zone {
        let zone = S3Zone::new(self.parts());
        assert!(zone.open(Empty::New).await);
        zone
    }
}

#[tokio::test]
async fn a_bucket_keeps_the_contract() {
    let world = World::new(Fault::None).await;
    keeps_the_contract(&world.zone().await).await;
    assert!(world.twin.keys().contains(&"zone.json".to_owned()));
}

#[tokio::test]
async fn a_store_that_lists_in_another_order_keeps_the_contract_too() {
    let world = World::new(Fault::OrdersPaths).await;
    let zone = world.zone().await;
    assert!(!zone.0.ordered.load(Ordering::SeqCst));
    keeps_the_contract(&zone).await;

    let world = World::new(Fault::None).await;
    assert!(world.zone().await.0.ordered.load(Ordering::SeqCst));
}

/// The names of a listing in steps, a page of `most` at a time, and how many steps that took.
async fn in_steps(zone: &S3Zone, listing: u64, most: usize) -> (Vec<ObjectName>, usize) {
    let (mut names, mut steps) = (Vec::<ObjectName>::new(), 0);
    loop {
        steps += 1;
        let after = names.last().map_or("", |last| last.as_str()).to_owned();
        match zone.list_step(listing, "raw", &after, most).await.unwrap() {
            Some(page) if page.len() < most => {
                names.extend(page);
                return (names, steps);
            }
            Some(page) => names.extend(page),
            None => {}
        }
    }
}

#[tokio::test]
async fn a_listing_in_steps_asks_one_page_in_each_and_goes_through_an_unordered_store_once() {
    for (fault, kept, at_most) in [
        (Fault::None, 50_000, 60),
        // Once: the twin gives two keys at a time.
        (Fault::OrdersPaths, 50_000, 35),
        // As often as what is kept is used up: six times, not for each of the eleven pages.
        (Fault::OrdersPaths, 8, 130),
    ] {
        let world = World::new(fault).await;
        let zone = world.zone().await;
        zone.0.names_kept.store(kept, Ordering::Relaxed);
        let mut expected = Vec::new();
        for number in 0..41_u8 {
            let prefix = ["raw/1", "raw/1.5", "raw/1/a"][usize::from(number) % 3];
            let name = ObjectName::new(prefix, "x", &[number]).unwrap();
            zone.put(&name, Bytes::copy_from_slice(&[number])).await.unwrap();
            expected.push(name);
        }
        expected.sort();
        let lists = || world.twin.requests().iter().filter(|request| request.contains("list-type")).count();

        let before = lists();
        let (names, steps) = in_steps(&zone, 1, 4).await;

        assert_eq!(names, expected, "{fault:?}");
        let asked = lists() - before;
        assert!(asked <= steps && asked <= at_most, "{fault:?}: {asked} pages in {steps} steps");

        // Others that break off take no more than their room, and each that goes on finds everything.
        for listing in 10..20 {
            zone.list_step(listing, "raw", "", 4).await.unwrap();
        }
        assert!(zone.0.gatherings().len() <= 4);
        let (one, other) = tokio::join!(in_steps(&zone, 2, 4), in_steps(&zone, 3, 7));
        assert_eq!((one.0, other.0), (expected.clone(), expected), "{fault:?}");
    }
}

#[tokio::test]
async fn a_prefix_in_a_bucket_keeps_the_contract_beside_others() {
    let world = World::new(Fault::None).await;
    world.twin.plant("warehouse/other/raw/x", b"foreign");
    let mut parts = world.parts();
    parts.address = Address::parse(&format!("{}/warehouse/a", world.twin.url())).unwrap();
    let zone = S3Zone::new(parts);
    assert!(zone.open(Empty::New).await);
    keeps_the_contract(&zone).await;
    assert!(world.twin.keys().iter().all(|key| key.starts_with("warehouse/")));
}

#[tokio::test]
async fn an_empty_bucket_is_no_zone_until_the_operator_says_so() {
    let world = World::new(Fault::None).await;
    let zone = S3Zone::new(world.parts());
    let (name, bytes) = object(b"x");

    assert!(detail(zone.probe().await.unwrap_err()).contains("put an object named adopt-as-a into it"));
    assert!(detail(zone.put(&name, bytes.clone()).await.unwrap_err()).contains("the bucket is empty"));
    assert!(detail(zone.list("").await.unwrap_err()).contains("the bucket is empty"));
    assert!(detail(zone.get(&name, MOST).await.unwrap_err()).contains("zone.json"));
    assert!(world.twin.keys().is_empty(), "{:?}", world.twin.keys());

    world.twin.plant("adopt-as-a", b"");
    zone.probe().await.unwrap();
    zone.put(&name, bytes).await.unwrap();
    assert!(!zone.is_complete());
    zone.set_complete().await.unwrap();
    assert!(zone.is_complete());
    assert!(!world.twin.keys().contains(&"adopt-as-a".to_owned()));

    // After a restart it is what it was.
    let again = S3Zone::new(world.parts());
    again.probe().await.unwrap();
    assert!(again.is_complete());
    assert_eq!(again.list("").await.unwrap(), [name]);
}

#[tokio::test]
async fn one_that_joins_others_has_to_be_filled_first() {
    let world = World::new(Fault::None).await;
    let zone = S3Zone::new(world.parts());
    assert!(!zone.is_begun().await);
    assert!(zone.open(Empty::Joins).await && zone.is_begun().await);
    assert!(!zone.is_complete());
}

#[tokio::test]
async fn what_belongs_to_others_is_left_alone() {
    let world = World::new(Fault::None).await;
    world.zone().await;
    let before = world.twin.keys();
    let writes = |world: &World| world.twin.requests().iter().filter(|request| !request.starts_with("GET")).count();
    let written = writes(&world);
    for (change, expected) in [
        (
            Box::new(|parts: &mut S3Parts| parts.installation = "theirs".into()) as Box<dyn Fn(&mut S3Parts)>,
            "the bucket belongs to another installation",
        ),
        (Box::new(|parts| parts.name = "b".into()), "the bucket belongs to zone a"),
        (
            Box::new(|parts| parts.role = "identity".into()),
            "the bucket belongs to the role warehouse: give each role a bucket or a prefix of its own",
        ),
    ] {
        let mut parts = world.parts();
        change(&mut parts);
        let zone = S3Zone::new(parts);
        assert!(!zone.open(Empty::New).await);
        assert_eq!(detail(zone.probe().await.unwrap_err()), expected);
    }
    world.twin.clear();
    world.twin.plant("somebody/elses", b"file");
    let zone = S3Zone::new(world.parts());
    assert!(!zone.open(Empty::New).await);
    assert_eq!(
        detail(zone.probe().await.unwrap_err()),
        "the bucket is not empty and has no zone.json"
    );
    assert_eq!(writes(&world), written, "something was written: {before:?}");
}

#[tokio::test]
async fn a_marker_that_names_no_role_is_taken_by_the_first_that_finds_it() {
    let world = World::new(Fault::None).await;
    let as_role = |role: &str| {
        let mut parts = world.parts();
        parts.role = role.into();
        S3Zone::new(parts)
    };
    as_role("").open(Empty::New).await;
    let complete = as_role("warehouse");
    complete.probe().await.unwrap();
    assert!(complete.is_complete());
    assert!(detail(as_role("identity").probe().await.unwrap_err()).contains("belongs to the role warehouse"));
    let puts = || {
        world
            .twin
            .requests()
            .iter()
            .filter(|request| request.contains("zone.json") && request.starts_with("PUT"))
            .count()
    };
    let before = puts();
    as_role("warehouse").probe().await.unwrap();
    assert_eq!(puts(), before, "once");
}

#[tokio::test]
async fn who_has_a_successor_says_of_nothing_more_that_it_is_written() {
    let world = World::new(Fault::None).await;
    let old = world.zone().await;
    let (kept, bytes) = object(b"before");
    old.put(&kept, bytes).await.unwrap();
    let new = S3Zone::new(world.parts());
    new.probe().await.unwrap();

    let (late, bytes) = object(b"late");
    let unclear = old.put(&late, bytes.clone()).await.unwrap_err();

    let said = "another process has taken it over";
    assert!(
        matches!(&unclear, ZoneError::Unclear { detail, .. } if detail.starts_with(said)),
        "{unclear:?}"
    );
    // From then on it does not even try.
    let writes = || world.twin.requests().iter().filter(|request| request.starts_with("PUT")).count();
    let before = writes();
    for refused in [old.put(&late, bytes.clone()).await, old.probe().await, old.delete(&kept).await] {
        assert!(detail(refused.unwrap_err()).starts_with(said));
    }
    assert_eq!(writes(), before);
    let (name, bytes) = object(b"new");
    new.put(&name, bytes).await.unwrap();
    assert!(new.list("").await.unwrap().contains(&kept));
}

#[tokio::test]
async fn what_is_deleted_once_another_has_begun_may_be_elsewhere_by_then() {
    let world = World::new(Fault::None).await;
    let old = world.zone().await;
    let (name, bytes) = object(b"to be taken back");
    old.put(&name, bytes).await.unwrap();
    let new = S3Zone::new(world.parts());
    assert!(new.list("").await.unwrap().contains(&name), "and may copy it");

    let deleted = old.delete(&name).await;

    assert!(matches!(deleted, Err(ZoneError::Unclear { .. })), "{deleted:?}");
}

#[tokio::test]
async fn one_that_only_looks_finds_out_too_and_of_several_that_begin_at_once_one_writes() {
    let world = World::new(Fault::None).await;
    let old = world.zone().await;
    let zones: Vec<S3Zone> = (0..5).map(|_| S3Zone::new(world.parts())).collect();
    let begun = futures::future::join_all(zones.iter().map(|zone| zone.probe())).await;
    assert!(begun.iter().all(Result::is_ok), "each has had its turn: {begun:?}");
    assert!(detail(old.probe().await.unwrap_err()).starts_with("another process"));

    let (name, bytes) = object(b"whose");
    let written = futures::future::join_all(zones.iter().map(|zone| zone.put(&name, bytes.clone()))).await;
    assert_eq!(written.iter().filter(|written| written.is_ok()).count(), 1, "{written:?}");
}

#[tokio::test]
async fn what_was_acknowledged_before_a_successor_looked_is_found_by_it_and_nothing_is_acknowledged_afterwards() {
    let worlds = [
        World::new(Fault::None).await,
        World::new(Fault::None).await,
        World::new(Fault::None).await,
    ];
    for world in &worlds {
        assert!(S3Zone::new(world.parts()).open(Empty::New).await);
    }
    let zones = || {
        let each = worlds.iter().map(|world| Arc::new(S3Zone::new(world.parts())) as Arc<dyn Zone>);
        crate::Zones::new(each.collect(), crate::ZonesSettings::default(), Arc::new(SystemClock))
    };
    let (old, new) = (zones(), zones());
    let (kept, bytes) = object(b"acknowledged");
    old.put(&kept, bytes).await.unwrap();

    // One of the zones has not heard of the successor when it looks.
    worlds[2].twin.break_it(Fault::Redirects);
    let settled = new.settle("raw").await.unwrap();
    worlds[2].twin.break_it(Fault::None);

    assert_eq!(settled.objects, [kept]);
    for text in [b"0", b"1", b"2", b"3"] {
        let (name, bytes) = object(text);
        old.put(&name, bytes).await.unwrap_err();
    }
    let (name, bytes) = object(b"goes on");
    new.put(&name, bytes).await.unwrap();
}

#[tokio::test]
async fn a_bucket_that_was_emptied_is_noticed_and_nothing_more_is_written_to_it() {
    let world = World::new(Fault::None).await;
    let zone = world.zone().await;
    let (name, bytes) = object(b"kept");
    zone.put(&name, bytes.clone()).await.unwrap();

    world.twin.clear();
    assert_eq!(detail(zone.get(&name, MOST).await.unwrap_err()), "the bucket has no zone.json");
    assert!(detail(zone.list("").await.unwrap_err()).contains("the bucket is empty"));
    assert!(detail(zone.put(&name, bytes).await.unwrap_err()).contains("the bucket is empty"));
    assert!(zone.probe().await.is_err());
    assert!(world.twin.keys().is_empty(), "{:?}", world.twin.keys());
}

#[tokio::test]
async fn a_store_that_breaks_what_a_zone_promises_is_a_zone_that_is_down_and_says_why() {
    for (fault, expected) in [
        (Fault::CreatesTwice, "several create the same object"),
        (Fault::CreatesNever, "does not know how to create only what is not there"),
        (Fault::KeepsFirst, "something else than was just written"),
        (Fault::ListsNothing, "does not list what was just written"),
        (Fault::ListsDeleted, "still lists what was just deleted"),
        (Fault::KeepsDeleted, "still gives out what was just deleted"),
        (Fault::IgnoresRange, "does not give parts of objects"),
        (Fault::KeepsVersions, "keeps old versions"),
        (Fault::EndlessListing, "the bucket is not empty"),
        (Fault::Redirects, "look at its address and its region"),
    ] {
        let world = World::new(fault).await;
        let zone = S3Zone::new(world.parts());
        assert!(!zone.open(Empty::New).await, "{fault:?}");
        let asked = world.twin.requests().len();
        let said = detail(zone.put(&object(b"x").0, object(b"x").1).await.unwrap_err());
        assert!(said.contains(expected), "{fault:?}: {said}");
        assert!(
            world.twin.requests().len() <= asked + 4,
            "{fault:?}: it was tried out again at once"
        );
        assert!(!world.twin.keys().contains(&"zone.json".to_owned()), "{fault:?}");
    }
}

#[tokio::test]
async fn a_trial_is_short_and_leaves_nothing() {
    let world = World::new(Fault::None).await;
    let zone = world.zone().await;
    assert_eq!(world.twin.keys(), ["writers/00000000000000000001", "zone.json"]);
    let asked = world.twin.requests().len();
    assert!(asked < 40, "{asked} requests");

    // Once it can be written to, each look costs two requests.
    zone.probe().await.unwrap();
    let asked = world.twin.requests().len();
    zone.probe().await.unwrap();
    assert_eq!(
        world.twin.requests()[asked..],
        ["GET /events/zone.json", "GET /events/writers/00000000000000000002"]
    );
}

#[tokio::test]
async fn wrong_files_are_a_zone_that_is_down_until_they_are_mended() {
    let world = World::new(Fault::None).await;
    let zone = world.zone().await;
    drop(zone);
    let path = world.place.path().join("credentials");
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let zone = S3Zone::new(world.parts());
    assert!(detail(zone.probe().await.unwrap_err()).contains("mode 600"));
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    zone.probe().await.unwrap();

    let mut parts = world.parts();
    parts.ca = Some(path);
    assert_eq!(
        detail(S3Zone::new(parts).probe().await.unwrap_err()),
        "the file of trusted certificates has none"
    );
}

#[tokio::test]
async fn a_store_that_another_authority_certified_is_not_spoken_to() {
    let (world, other) = (World::new(Fault::None).await, Twin::start(Fault::None).await);
    let mut parts = world.parts();
    parts.ca = Some(other.ca());
    let said = detail(S3Zone::new(parts).probe().await.unwrap_err());
    assert!(said.starts_with("no TLS with it"), "{said}");
    assert!(world.twin.requests().is_empty(), "{:?}", world.twin.requests());
}

#[test]
fn nothing_secret_prints() {
    let place = tempfile::tempdir().unwrap();
    let zone = S3Zone::new(parts(
        "https://localhost:9/events/a",
        &place.path().join("c"),
        &place.path().join("ca"),
    ));
    let printed = format!("{zone:?}");
    assert!(printed.contains("events") && !printed.contains("secret"), "{printed}");
}
