//! Who the roles are to the kernel: a user id for each, where root starts them.
//!
//! Promise: no two roles share a user id, none has one that somebody else is seen to use, and what a role owns in the data directory and in
//! its zones is its user's alone. Where that cannot be, it is said why; nothing is half separated.
//!
//! The supervisor stays root: it binds the listeners, lets the roles be their users, and ends them. Whose the data directory and
//! what lies directly below it are tells which ids an installation has had, so nothing is written down twice.
//!
//! Start at [`Users::choose`]. What is on the disk is given over in [`owners`]. Knows users, groups and capabilities. Does not know what a role does.

mod owners;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use base::{Entropy, OsEntropy, Role};
use nix::unistd::{Gid, Group, Uid, User, geteuid};
use serde::{Deserialize, Serialize};

use crate::failure::{During, Exit, Failure, Outcome};
use crate::layout::{Layout, pause};

/// Ids of one installation, in a row: the group, then a user for each role. Three are left for roles to come.
const BLOCK: u32 = 8;
/// How often it is looked whether the ids of before are free.
const TRIES: usize = 20;
/// How an operator names the users, where there are such: `coffer-vault` and so on.
const PREFIX: &str = "coffer-";
/// The group of all of them, which may pass through the data directory.
const GROUP: &str = "coffer";
/// What root needs to let roles be others and to look after them, by number and name (`capabilities(7)`).
const CAPABILITIES: [(u32, &str); 6] = [
    (0, "CAP_CHOWN"),
    (1, "CAP_DAC_OVERRIDE"),
    (3, "CAP_FOWNER"),
    (5, "CAP_KILL"),
    (6, "CAP_SETGID"),
    (7, "CAP_SETUID"),
];

/// What an operator may say about it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct UsersSettings {
    /// Whether each role is a user of its own.
    pub(crate) separate: Separate,
    /// The first user or group id that may be taken where there are no users named `coffer-<role>`.
    pub(crate) first_id: u32,
    /// The last one.
    pub(crate) last_id: u32,
}

impl Default for UsersSettings {
    fn default() -> Self {
        // Reserved for nobody by Debian's policy, below what systemd and containers give out, and within what a container has.
        Self {
            separate: Separate::Auto,
            first_id: 47104,
            last_id: 55295,
        }
    }
}

/// Whether each role is a user of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Separate {
    /// Where root starts them and they can reach their directories; where not, it is said at the start
    Auto,
    /// Or nothing starts
    Required,
    /// All are the user who started them
    Off,
}

/// Who a role is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    pub(crate) user: u32,
    pub(crate) group: u32,
}

/// Who the roles are.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Users {
    /// Each is another user.
    Own {
        /// The group of all, which may pass through the data directory and do nothing else there.
        group: u32,
        /// The user of each.
        ids: BTreeMap<Role, u32>,
    },
    /// All are whoever started them.
    One {
        /// Why.
        why: String,
    },
}

impl Users {
    /// Decides who the roles are. The data directory is made and locked, and none of its roles runs.
    pub(crate) fn choose(settings: &UsersSettings, layout: &Layout) -> Outcome<Self> {
        let chosen = if settings.separate == Separate::Off {
            Err("users.separate is off".to_owned())
        } else {
            separate(settings, layout)?
        };
        match chosen {
            Ok(users) => Ok(users),
            Err(why) if settings.separate == Separate::Required => Err(Failure::new(
                Exit::NotAllowed,
                "the roles cannot be users of their own, as users.separate requires",
            )
            .why(why)
            .next("mend that, or set users.separate to \"auto\" to do without")),
            Err(why) => Ok(Self::One { why }),
        }
    }

    /// Who `role` is to be, unless it is whoever starts it.
    pub(crate) fn of(&self, role: Role) -> Option<Identity> {
        match self {
            Self::Own { group, ids } => ids.get(&role).map(|user| Identity {
                user: *user,
                group: *group,
            }),
            Self::One { .. } => None,
        }
    }

    /// Why the roles are not users of their own, if they are not.
    pub(crate) fn missing(&self) -> Option<&str> {
        match self {
            Self::Own { .. } => None,
            Self::One { why } => Some(why),
        }
    }
}

/// Refuses a data directory that belongs to another user, and says what to do.
///
/// Above all one that root has run: its roles were users of their own, and nobody else can go on with what is theirs.
pub(crate) fn check_owner(layout: &Layout) -> Outcome {
    let (me, root) = (geteuid(), layout.root());
    let Ok(about) = fs::metadata(root) else { return Ok(()) };
    if me.is_root() || about.uid() == me.as_raw() {
        return Ok(());
    }
    let place = root.display();
    let failure = Failure::new(
        Exit::NotAllowed,
        format!("{place} is the directory of user {}, not yours", about.uid()),
    );
    Err(if about.uid() == 0 {
        failure
            .why("it was run as root, where each role is a user of its own and keeps its files to itself")
            .next(format!(
                "start it as root; or, to go on as user {me}, as root: chown -R {me} {place} && chmod 700 {place} {place}/roles {place}/zones"
            ))
    } else {
        failure.next("start it as that user, or as root")
    })
}

/// A user for each role, or why that cannot be.
fn separate(settings: &UsersSettings, layout: &Layout) -> Outcome<Result<Users, String>> {
    if !geteuid().is_root() {
        return Ok(Err(format!(
            "started by user {}; only root can let each role be another",
            geteuid()
        )));
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(missing) = missing_capability(&status) {
        return Ok(Err(format!("root has no {missing} here")));
    }
    let users = match named()? {
        Some(users) => users,
        None => match numbered(settings, layout)? {
            Ok(users) => users,
            Err(why) => return Ok(Err(why)),
        },
    };
    if let Users::Own { group, ids } = &users
        && let Some(closed) = closed_to(layout.root(), *group, ids)
    {
        return Ok(Err(format!(
            "users other than root cannot pass through {} to the data directory (chmod o+x would let them, or another --data)",
            closed.display()
        )));
    }
    Ok(Ok(users))
}

/// A capability that is needed and that the process of this `/proc/…/status` lacks.
fn missing_capability(status: &str) -> Option<&'static str> {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0);
    CAPABILITIES
        .iter()
        .find(|(number, _)| effective & (1 << number) == 0)
        .map(|(_, name)| *name)
}

/// The users that an operator made for the purpose: all of them, or none.
fn named() -> Outcome<Option<Users>> {
    let what = "the users of the roles cannot be told";
    let mut ids = BTreeMap::new();
    let mut missing = Vec::new();
    for role in Role::ALL {
        let name = format!("{PREFIX}{role}");
        match User::from_name(&name).during(what)? {
            Some(user) => drop(ids.insert(role, user.uid.as_raw())),
            None => missing.push(name),
        }
    }
    if ids.is_empty() {
        return Ok(None);
    }
    let group = Group::from_name(GROUP).during(what)?.map(|group| group.gid.as_raw());
    if group.is_none() {
        missing.push(format!("the group {GROUP}"));
    }
    let (Some(group), true) = (group, missing.is_empty()) else {
        return Err(Failure::new(Exit::Refused, what)
            .why(format!("there are some of them, but not {}", missing.join(", ")))
            .next("make all of them, or remove all of them: then user ids are chosen by number"));
    };
    let distinct: BTreeSet<u32> = ids.values().copied().collect();
    if distinct.len() < ids.len() || distinct.contains(&0) || group == 0 {
        return Err(Failure::new(Exit::Refused, what)
            .why("two of them have the same number, or one has root's")
            .next("give each a number of its own"));
    }
    Ok(Some(Users::Own { group, ids }))
}

/// A row of numbers that nobody is seen to use: the one that this installation has had, or another.
fn numbered(settings: &UsersSettings, layout: &Layout) -> Outcome<Result<Users, String>> {
    let (first, last) = (settings.first_id, settings.last_id);
    let blocks = last.saturating_add(1).saturating_sub(first) / BLOCK;
    if first == 0 || blocks == 0 || last == u32::MAX {
        return Err(
            Failure::new(Exit::Refused, "users.first_id to users.last_id are no numbers to choose from")
                .next(format!("give {BLOCK} or more in a row, above 0")),
        );
    }
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    if !is_mapped(&map, first, last) {
        return Ok(Err(format!("there are no user ids from {first} to {last} in this container")));
    }
    let block = |id: u32| id.checked_sub(first).map(|at| at / BLOCK).filter(|block| *block < blocks);
    let base = |block: u32| first + block * BLOCK;
    let present: BTreeSet<u32> = known_ids(layout).into_iter().filter_map(block).map(base).collect();
    let mut running = users_of_processes();
    // Roles of before that were just killed may not be quite gone, though nothing of theirs is open any more.
    for _ in 0..TRIES {
        if present.is_empty() || present.iter().any(|base| is_free(*base, &running)) {
            break;
        }
        pause(Duration::from_millis(50));
        running = users_of_processes();
    }
    let mut chance = [0; 4];
    OsEntropy.fill(&mut chance);
    let begin = u32::from_le_bytes(chance) % blocks;
    let others = (0..blocks).map(|step| base((begin + step) % blocks));
    let free = present.iter().copied().chain(others).find(|base| is_free(*base, &running));
    let Some(group) = free else {
        return Ok(Err(format!("every user id from {first} to {last} is in use")));
    };
    let ids = Role::ALL.into_iter().zip(group + 1..).collect();
    Ok(Ok(Users::Own { group, ids }))
}

/// Whom this installation is seen to have been: the group that passes through it, and the owners of what lies directly below.
///
/// Only root, or whoever ran it before, makes anything there.
fn known_ids(layout: &Layout) -> Vec<u32> {
    let mut known: Vec<u32> = fs::metadata(layout.root()).map(|about| about.gid()).into_iter().collect();
    for role in Role::ALL {
        let places = [layout.role(role), layout.zones(role)];
        known.extend(places.iter().filter_map(|path| Some(fs::symlink_metadata(path).ok()?.uid())));
    }
    known.retain(|id| *id != 0);
    known
}

fn is_free(base: u32, running: &BTreeSet<u32>) -> bool {
    let ids = base..base + BLOCK;
    let known = |id: u32| {
        let user = User::from_uid(Uid::from_raw(id)).ok().flatten().is_some();
        user || Group::from_gid(Gid::from_raw(id)).ok().flatten().is_some()
    };
    running.range(ids.clone()).next().is_none() && !ids.into_iter().any(known)
}

/// Whom the processes of this machine belong to.
fn users_of_processes() -> BTreeSet<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return BTreeSet::new();
    };
    entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name();
            name.to_str()?.parse::<u32>().ok()?;
            // A process may end between the listing and the look.
            let status = fs::read_to_string(Path::new("/proc").join(name).join("status")).ok()?;
            if has_ended(&status) { None } else { users_of(&status) }
        })
        .flatten()
        .collect()
}

/// Whether the process of this `/proc/…/status` only waits to be asked how it ended.
fn has_ended(status: &str) -> bool {
    let state = status.lines().find_map(|line| line.strip_prefix("State:"));
    state.is_some_and(|state| matches!(state.trim_start().chars().next(), Some('Z' | 'X')))
}

/// Real, effective, saved and file system user of a `/proc/…/status`.
pub(crate) fn users_of(status: &str) -> Option<Vec<u32>> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    Some(line.split_whitespace().filter_map(|id| id.parse().ok()).collect())
}

/// Whether a whole range of ids is there, by a `/proc/…/uid_map`.
fn is_mapped(map: &str, first: u32, last: u32) -> bool {
    map.lines().any(|line| {
        let mut fields = line.split_whitespace().map(|field| field.parse::<u64>().ok());
        let (Some(inside), Some(_), Some(count)) = (fields.next().flatten(), fields.next().flatten(), fields.next().flatten()) else {
            return false;
        };
        inside <= u64::from(first) && u64::from(last) < inside + count
    })
}

/// What above the data directory does not let these users through.
fn closed_to(root: &Path, group: u32, ids: &BTreeMap<Role, u32>) -> Option<std::path::PathBuf> {
    let real = fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
    let closed = |above: &&Path| {
        let Ok(about) = fs::metadata(above) else { return true };
        let by_group = about.gid() == group;
        let passes = |id: &u32| {
            let bit = if about.uid() == *id {
                0o100
            } else if by_group {
                0o010
            } else {
                0o001
            };
            about.mode() & bit != 0
        };
        !ids.values().all(passes)
    };
    real.ancestors().skip(1).find(closed).map(Path::to_owned)
}

#[cfg(test)]
mod tests;
