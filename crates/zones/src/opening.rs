//! Making the zones that settings name: directories and buckets, at a first start and at every other.

use std::sync::Arc;
use std::time::Duration;

use base::Clock;
use futures::future::join_all;

use crate::s3::{S3Parts, S3Zone};
use crate::settings::Place;
use crate::{DirectoryZone, Empty, SettingsError, Zone, ZoneSettings, ZonesSettings};

/// How long the stores of a first start may take together.
const FIRST: Duration = Duration::from_secs(20);
/// A store that is not taken into use by a first start has to be adopted by hand later, so one that was merely slow is asked again for so long.
const AGAIN: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(500);

/// Zones, and how many of them were there or could be made.
pub(crate) struct Opened {
    pub(crate) zones: Vec<Arc<dyn Zone>>,
    pub(crate) usable: usize,
}

/// A zone that nothing was asked of yet.
enum Found<'a> {
    Directory(&'a ZoneSettings),
    Store(S3Zone),
}

/// Opens all; with `create` those that are missing are made. Blocks. Must not be called where asynchronous work runs if there are
/// stores and `create` is said; without it stores are asked when they are first used.
pub(crate) fn open(settings: &ZonesSettings, create: bool, clock: &Arc<dyn Clock>) -> Result<Opened, SettingsError> {
    settings.check()?;
    let found = settings.zones.iter().map(|zone| find(zone, settings, clock));
    let found: Vec<Found<'_>> = found.collect::<Result<_, _>>()?;
    let stores: Vec<&S3Zone> = found
        .iter()
        .filter_map(|zone| match zone {
            Found::Store(store) => Some(store),
            Found::Directory(_) => None,
        })
        .collect();
    let begun = found.iter().any(|zone| match zone {
        Found::Directory(zone) => zone.path.join("zone.json").symlink_metadata().is_ok(),
        Found::Store(_) => false,
    });
    let mut empty = match (create, begun) {
        (false, _) => Empty::Unknown,
        (true, false) => Empty::New,
        // A first start was broken off, or a role lost its own directory and not its zones.
        (true, true) => Empty::Joins,
    };
    let mut usable = 0;
    if create && !stores.is_empty() {
        (empty, usable) = first(&stores, empty);
    }
    let zones = found.iter().map(|zone| -> Arc<dyn Zone> {
        match zone {
            Found::Directory(zone) => {
                let opened = DirectoryZone::open_for(settings.owner(), &zone.name, &zone.path, empty);
                usable += usize::from(zone.path.join("zone.json").symlink_metadata().is_ok());
                Arc::new(opened)
            }
            Found::Store(store) => Arc::new(store.clone()),
        }
    });
    let zones = zones.collect();
    Ok(Opened { zones, usable })
}

fn find<'a>(zone: &'a ZoneSettings, settings: &ZonesSettings, clock: &Arc<dyn Clock>) -> Result<Found<'a>, SettingsError> {
    let Place::Store {
        address,
        region,
        credentials,
        ca,
    } = zone.place()?
    else {
        return Ok(Found::Directory(zone));
    };
    Ok(Found::Store(S3Zone::new(S3Parts {
        name: zone.name.clone(),
        installation: settings.installation.clone(),
        role: settings.role.clone(),
        address,
        region: region.to_owned(),
        credentials: credentials.to_owned(),
        ca: ca.map(|path| path.to_owned()),
        hosts: settings.hosts.clone(),
        put_timeout: settings.put_timeout,
        read_timeout: settings.read_timeout,
        clock: Arc::clone(clock),
    })))
}

/// A first start: takes those stores into use that answer. How empty places are to be taken then, and how many stores could be.
fn first(stores: &[&S3Zone], empty: Empty) -> (Empty, usize) {
    // Of its own, and on this thread: a role has no other yet when it is about to enter its sandbox.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the stores of a first start cannot be asked");
            return (empty, 0);
        }
    };
    runtime.block_on(async {
        let work = async {
            let begun = join_all(stores.iter().map(|store| store.is_begun())).await.contains(&true);
            let empty = if begun { Empty::Joins } else { empty };
            let opened = join_all(stores.iter().map(|store| taken(store, empty))).await;
            (empty, opened.into_iter().filter(|opened| *opened).count())
        };
        match tokio::time::timeout(FIRST, work).await {
            Ok(done) => done,
            Err(_) => {
                tracing::warn!("the stores of a first start did not answer within {} s", FIRST.as_secs());
                (Empty::Joins, 0)
            }
        }
    })
}

/// Whether the store could be taken into use.
async fn taken(store: &S3Zone, empty: Empty) -> bool {
    let begun = base::time::Instant::now();
    loop {
        if store.open(empty).await {
            return true;
        }
        if begun.elapsed() >= AGAIN {
            return false;
        }
        base::time::sleep(PAUSE).await;
    }
}
