//! Zones together: a majority decides.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use base::Clock;
use futures::future::join_all;

use crate::vouch::{Vouch, Vouching};
use crate::{ObjectName, SettingsError, Zone, ZonesSettings, opening};

pub(crate) mod away;
mod catch_up;
mod circuit;
mod dead;
mod error;
mod latency;
mod member;
mod pace;
mod read;
mod scrub;
mod settle;
mod status;
mod waiting;
mod walk;
mod write;

pub use circuit::Circuit;
pub use error::{GetError, ListError, PutError, SettleError};
pub use read::Listed;
pub use scrub::{Named, Progress, ScrubReport, ScrubbedZone, Scrubber};
pub use settle::Settled;
pub use status::{Condition, ZoneState};

use dead::Dead;
use member::Member;
use pace::Pace;

/// The zones of a role: each object in all of them, durable once a majority has it.
#[derive(Debug)]
pub struct Zones {
    me: Weak<Self>,
    members: Vec<Arc<Member>>,
    settings: ZonesSettings,
    dead: Dead,
    // Names whose fate is being decided: nobody lists, copies or repairs them meanwhile.
    in_flight: Mutex<BTreeMap<ObjectName, usize>>,
    // Held by whoever reads a long object as a whole, so that several zones' worth of nonsense do not fill the memory.
    large: tokio::sync::Mutex<()>,
    // The same for the background, which holds up nobody who waits for an answer.
    large_behind: tokio::sync::Mutex<()>,
    catch_up_pace: Pace,
    vouching: Vouching,
    // What the members have for zones, for who takes one away.
    removable: Vec<Arc<away::Removable>>,
}

impl Zones {
    /// Zones that are already there. Does no I/O.
    pub fn new(zones: Vec<Arc<dyn Zone>>, settings: ZonesSettings, clock: Arc<dyn Clock>) -> Arc<Self> {
        let (zones, removable) = away::removable(zones);
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            members: zones.into_iter().map(|z| Member::new(z, &settings, Arc::clone(&clock))).collect(),
            catch_up_pace: Pace::new(settings.catch_up_bytes_per_second),
            settings,
            dead: Dead::default(),
            in_flight: Mutex::default(),
            large: tokio::sync::Mutex::default(),
            large_behind: tokio::sync::Mutex::default(),
            vouching: Vouching::default(),
            removable,
        })
    }

    /// The directories and buckets that the settings name; with `create` those missing are made, as at the very first start. Blocks.
    ///
    /// One that cannot be used is a zone that is down, not an error.
    pub fn open(settings: ZonesSettings, create: bool, clock: Arc<dyn Clock>) -> Result<Arc<Self>, SettingsError> {
        let opened = opening::open(&settings, create, &clock)?;
        Ok(Self::new(opened.zones, settings, clock))
    }

    /// As [`Zones::open`], for a role whose own directory is `directory`: zones are made at its very first start and never again.
    ///
    /// Later a directory that is missing is a zone that is down. Made anew it would pass for an empty zone that works.
    pub fn open_of_role(settings: ZonesSettings, directory: &std::path::Path, clock: Arc<dyn Clock>) -> Result<Arc<Self>, SettingsError> {
        let made = directory.join("zones-made");
        let first = !made.exists();
        let opened = opening::open(&settings, first, &clock)?;
        let zones = Self::new(opened.zones, settings, clock);
        if first && opened.usable < zones.needed() {
            // Nothing was ever accepted by so few, so the next start may be the first.
            tracing::warn!("{} of the {} zones that are needed could be made", opened.usable, zones.needed());
        } else if let Err(error) = std::fs::write(&made, b"") {
            tracing::warn!(%error, "could not note that the zones were made");
        }
        Ok(zones)
    }

    /// As [`Zones::open_of_role`], for a role that rebuilds what it owns: its directory may have been lost, its zones were made before.
    ///
    /// None is made, so that a disk that is not mounted does not become an empty zone.
    pub fn open_to_rebuild(
        settings: ZonesSettings,
        directory: &std::path::Path,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, SettingsError> {
        if let Err(error) = std::fs::write(directory.join("zones-made"), b"") {
            tracing::warn!(%error, "could not note that the zones were made");
        }
        Self::open(settings, false, clock)
    }

    /// From now on an object that some zone lacks is copied to it only if `vouch` says that it is the role's own. To be called
    /// before anything is settled or caught up.
    pub fn vouch_with(&self, vouch: Vouch) {
        self.vouching.set(vouch);
    }

    /// How many zones make a majority.
    pub fn needed(&self) -> usize {
        self.members.len() / 2 + 1
    }

    /// Whether enough zones work, as far as is known, for a write to be accepted.
    pub fn can_commit(&self) -> bool {
        self.members.iter().filter(|member| member.is_up()).count() >= self.needed()
    }

    /// How each zone is doing.
    pub fn status(&self) -> Vec<ZoneState> {
        self.members.iter().map(|member| member.status()).collect()
    }

    /// Asks the zones that are thought to be down whether they still are.
    async fn ask_those_down(&self) {
        let down = self.members.iter().filter(|member| !member.is_up() && !member.is_hanging());
        join_all(down.map(|member| member.probe(self.settings.put_timeout))).await;
    }

    fn arc(&self) -> Arc<Self> {
        // Only `new` makes one, inside an `Arc` that the caller's borrow keeps alive.
        self.me.upgrade().expect("whoever calls holds the Arc")
    }

    fn is_dead(&self, name: &ObjectName) -> bool {
        self.dead.contains(name)
    }

    fn flights(&self) -> MutexGuard<'_, BTreeMap<ObjectName, usize>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_in_flight(&self, name: &ObjectName) -> bool {
        self.flights().contains_key(name)
    }

    fn take_off(self: &Arc<Self>, name: &ObjectName) -> Flight {
        *self.flights().entry(name.clone()).or_default() += 1;
        Flight {
            zones: Arc::clone(self),
            name: name.clone(),
        }
    }
}

/// While this lives, the name's fate is undecided.
struct Flight {
    zones: Arc<Zones>,
    name: ObjectName,
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut flights = self.zones.flights();
        if let Some(count) = flights.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                flights.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests;
