//! Three real stores as the zones of a role: what is true of directories is true of them.

use base::Clock;
use testkit::stores::Stores;
use testkit::until;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{ZoneSettings, Zones, ZonesSettings};

const PATIENCE: Duration = Duration::from_secs(60);

fn settings(stores: &Stores) -> ZonesSettings {
    let zone = |store: &testkit::stores::Store| ZoneSettings {
        name: store.name().to_owned(),
        url: Some(store.url("warehouse")),
        credentials: Some(stores.credentials()),
        ca: Some(stores.ca()),
        ..ZoneSettings::default()
    };
    ZonesSettings {
        zones: stores.each.iter().map(zone).collect(),
        installation: "ours".into(),
        // The machine may be busy with other tests.
        put_timeout: Duration::from_secs(4),
        probe_every: Duration::from_millis(200),
        ..ZonesSettings::default()
    }
}

async fn open(settings: ZonesSettings, directory: &Path) -> anyhow::Result<Arc<Zones>> {
    let (directory, clock) = (directory.to_owned(), Arc::new(SystemClock) as Arc<dyn Clock>);
    Ok(tokio::task::spawn_blocking(move || Zones::open_of_role(settings, &directory, clock)).await??)
}

async fn put(zones: &Zones, text: &str) -> anyhow::Result<ObjectName> {
    let bytes = Bytes::from(text.to_owned());
    let name = ObjectName::new("raw/7", "x", &bytes)?;
    zones.put(&name, bytes).await?;
    Ok(name)
}

async fn is_in(stores: &Stores, store: usize, name: &ObjectName) -> anyhow::Result<()> {
    let held = stores.each[store].holds(&format!("warehouse/{name}")).await?;
    anyhow::ensure!(held, "{name} is not there");
    Ok(())
}

async fn all_is_well(zones: &Zones) -> anyhow::Result<()> {
    for zone in zones.status() {
        anyhow::ensure!(zone.up && zone.waiting == 0 && zone.detail.is_empty(), "{zone:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_dies_hangs_lies_or_is_lost_is_not_missed_and_catches_up() -> anyhow::Result<()> {
    let mut stores = Stores::start(&["a", "b", "c"]).await?;
    let place = tempfile::tempdir()?;
    let zones = open(settings(&stores), place.path()).await?;
    let cancel = CancellationToken::new();
    let task = zones.spawn_catch_up(cancel.clone());
    assert_eq!(zones.settle("").await?.objects, []);
    let first = put(&zones, "first").await?;

    stores.each[1].kill()?;
    let killed = put(&zones, "while b was dead").await?;
    assert_eq!(zones.get(&killed, MOST).await?, "while b was dead");
    stores.each[1].start().await?;
    until("b has caught up", PATIENCE, || is_in(&stores, 1, &killed)).await?;
    until("all is well", PATIENCE, || all_is_well(&zones)).await?;

    stores.each[2].pause().await?;
    let begun = Instant::now();
    let mut hung = Vec::new();
    for n in 0..20 {
        hung.push(put(&zones, &format!("while c hung {n}")).await?);
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "20 writes took {:?}", begun.elapsed());
    stores.each[2].resume()?;
    for name in &hung {
        until("c has caught up", PATIENCE, || is_in(&stores, 2, name)).await?;
    }
    until("all is well", PATIENCE, || all_is_well(&zones)).await?;

    // Garbage under an object's name is passed over and replaced.
    stores.each[0].plant(&format!("warehouse/{first}"), b"rubbish").await?;
    until("the copy is repaired", PATIENCE, || async {
        assert_eq!(zones.get(&first, MOST).await?, "first");
        zones.report_corrupt(&first).await;
        let copy = S3Zone::new(parts(&stores.each[0].url("warehouse"), &stores.credentials(), &stores.ca()));
        anyhow::ensure!(copy.get(&first, MOST).await? == "first", "it is not");
        Ok(())
    })
    .await?;

    // A store that lost everything is not taken for a new one, until the operator says so.
    stores.each[1].wipe().await?;
    let lost = put(&zones, "while b was empty").await?;
    until("b is known to be empty", PATIENCE, || async {
        let b = &zones.status()[1];
        anyhow::ensure!(!b.up && b.detail.contains("the bucket is empty"), "{b:?}");
        Ok(())
    })
    .await?;
    stores.each[1].plant("warehouse/adopt-as-b", b"").await?;
    for name in [&first, &killed, &hung[7], &lost] {
        until("b is filled", PATIENCE, || is_in(&stores, 1, name)).await?;
    }
    until("all is well", PATIENCE, || all_is_well(&zones)).await?;
    cancel.cancel();
    task.await?;

    // Another process finds the same.
    let again = open(settings(&stores), place.path()).await?;
    assert_eq!(again.settle("").await?.objects.len(), hung.len() + 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_two_of_three_stores_away_a_write_is_refused_and_never_seen() -> anyhow::Result<()> {
    let mut stores = Stores::start(&["a", "b", "c"]).await?;
    let place = tempfile::tempdir()?;
    let zones = open(settings(&stores), place.path()).await?;
    zones.settle("").await?;
    let before = put(&zones, "before").await?;

    stores.each[1].kill()?;
    stores.each[2].kill()?;
    for n in 0..3 {
        put(&zones, &format!("refused {n}")).await.unwrap_err();
    }
    assert_eq!(zones.get(&before, MOST).await?, "before");
    stores.each[1].start().await?;
    stores.each[2].start().await?;
    until("writes are taken again", PATIENCE, || put(&zones, "after")).await?;

    let again = open(settings(&stores), place.path()).await?;
    let found = again.settle("").await?.objects;
    assert_eq!(found.len(), 2, "{found:?}");
    Ok(())
}

#[test]
fn a_first_start_that_reached_too_few_stores_is_not_the_last() {
    let place = tempfile::tempdir().unwrap();
    let zone = |name: &str, port: u16| ZoneSettings {
        name: name.into(),
        url: Some(format!("https://127.0.0.1:{port}/events")),
        credentials: Some(place.path().join("credentials")),
        ..ZoneSettings::default()
    };
    let settings = ZonesSettings {
        zones: vec![zone("a", 1), zone("b", 2), zone("c", 3)],
        ..ZonesSettings::default()
    };
    let zones = Zones::open_of_role(settings, place.path(), Arc::new(SystemClock)).unwrap();
    assert!(!place.path().join("zones-made").exists());
    assert_eq!(zones.status().len(), 3);
}
