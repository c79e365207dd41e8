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
    assert_eq!(world.twin.keys(), ["zone.json"]);
    let asked = world.twin.requests().len();
    assert!(asked < 40, "{asked} requests");

    // Once it can be written to, each look costs one request.
    zone.probe().await.unwrap();
    let asked = world.twin.requests().len();
    zone.probe().await.unwrap();
    assert_eq!(world.twin.requests()[asked..], ["GET /events/zone.json"]);
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
