//! The hold on zones that are directories of this machine.
//!
//! Promise: a directory is a zone of one running installation at a time, by whatever path it is reached and whatever else the others
//! have of their own. Two copies of a data directory that share zones would each take itself for the only writer.
//!
//! The hold is a lock on the directory itself, so nothing is written there. A zone that is away at the start is not held: of a
//! majority it is never more than the smaller part, so two installations still meet in some zone. Does not know other machines: where
//! zones are shared over a network, only one of them may run the installation.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::Role;

use crate::config::Config;
use crate::failure::{During, Exit, Failure, Outcome};
use crate::layout::{Layout, ZONES, pause};

/// How often a lock is asked for: the roles of a supervisor that was just killed end at once, but not before it.
const TRIES: usize = 50;

/// Locks that end with the last process that has them.
#[derive(Debug)]
pub(crate) struct Holds(BTreeMap<Role, Vec<File>>);

impl Holds {
    /// Takes every zone of every role that is there, or says which one is taken.
    pub(crate) fn take(config: &Config, layout: &Layout) -> Outcome<Self> {
        let mut holds = BTreeMap::new();
        for role in Role::ALL {
            let paths = paths(config, layout, role);
            let held = paths.iter().filter_map(|path| hold(role, path).transpose());
            holds.insert(role, held.collect::<Outcome<_>>()?);
        }
        Ok(Self(holds))
    }

    /// The zones of every role that are there, without taking them: another supervisor has.
    pub(crate) fn look(config: &Config, layout: &Layout) -> Self {
        let open = |role| {
            paths(config, layout, role)
                .iter()
                .filter_map(|path| File::open(path).ok())
                .collect()
        };
        Self(Role::ALL.map(|role| (role, open(role))).into())
    }

    /// Second holds on a role's zones, for the role.
    pub(crate) fn share(&self, role: Role) -> impl Iterator<Item = Outcome<OwnedFd>> {
        let held = self.0.get(&role).into_iter().flatten();
        held.map(|file| file.try_clone().map(OwnedFd::from).during("could not pass the hold on a zone on"))
    }
}

/// The directories that are a role's zones.
pub(super) fn paths(config: &Config, layout: &Layout, role: Role) -> Vec<PathBuf> {
    let part = config.part(role);
    let configured = part
        .get("zones")
        .and_then(|zones| zones.get("zones"))
        .and_then(toml::Value::as_array)
        .filter(|zones| !zones.is_empty());
    match configured {
        Some(zones) => zones.iter().filter_map(|zone| Some(zone.get("path")?.as_str()?.into())).collect(),
        None => ZONES.iter().map(|name| layout.zones(role).join(name)).collect(),
    }
}

/// `None` where there is no directory, or none that can be locked: then the zone says so itself when it is used.
fn hold(role: Role, path: &Path) -> Outcome<Option<File>> {
    let Some(directory) = File::open(path).ok().filter(|file| file.metadata().is_ok_and(|meta| meta.is_dir())) else {
        return Ok(None);
    };
    for _ in 0..TRIES {
        match directory.try_lock() {
            Ok(()) => return Ok(Some(directory)),
            Err(TryLockError::Error(error)) => {
                tracing::warn!(path = %path.display(), %error, "this zone cannot be locked: make sure that no other installation uses it");
                return Ok(None);
            }
            Err(TryLockError::WouldBlock) => pause(Duration::from_millis(100)),
        }
    }
    Err(
        Failure::new(Exit::Conflict, format!("{} is in use, a zone of the {role} role", path.display()))
            .why("another installation that runs on this machine has it as a zone")
            .next("stop that one first, or give this one zones of its own"),
    )
}
