//! Whose the files are: a role's directories are given to its user before it is started.
//!
//! Promise: no link is followed and no other file system entered; only what belonged to root, to whoever ran the installation before or to
//! the role's user of before is given away, and never a file that has another name elsewhere. A directory that an operator named as
//! a zone is touched only when it is one, is to become one, or is empty.

use std::ffi::CStr;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base::Role;
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::{Gid, Uid, fchown, fchownat};
use zones::{Place, ZoneSettings};

use super::{Identity, Users, known_ids};
use crate::config::Config;
use crate::failure::{During, Exit, Failure, Outcome};
use crate::layout::{Layout, ZONES};

/// No tree of ours is nearly as deep.
const DEEPEST: usize = 64;
/// What a file system makes at its own top.
const OF_THE_DISK: &CStr = c"lost+found";

/// Who may have owned what is given to a role.
struct Giving {
    to: Identity,
    from: Vec<u32>,
}

impl Users {
    /// Gives every role what is its own, and lets the roles pass through the data directory, or nobody where all are one user.
    ///
    /// Nothing may run on the directory, and its zones must be held.
    pub(crate) fn settle(&self, config: &Config, layout: &Layout, roles: &[Role]) -> Outcome {
        let Self::Own { group, .. } = self else {
            return passages(layout).iter().try_for_each(|path| set_mode(path, 0o700));
        };
        let before = owner(layout.root())?;
        let known = known_ids(layout);
        for role in roles.iter().copied() {
            let Some(to) = self.of(role) else { continue };
            let giving = Giving {
                to,
                from: known.iter().copied().chain([0, before]).collect(),
            };
            // Each default zone by itself as well: it may be a disk of its own.
            let zones = layout.zones(role);
            let places = ZONES.iter().map(|name| zones.join(name)).chain([zones.clone(), layout.role(role)]);
            for path in places.filter(|path| path.is_dir()) {
                giving.whole(&path)?;
            }
            for zone in directories(config, role) {
                if is_a_zones(zone) {
                    giving.whole(&zone.path)?;
                }
            }
            for file in files(config, role) {
                readable(&file, role, to)?;
            }
        }
        // Last: until every role has its own, nobody passes.
        for path in passages(layout) {
            let what = || format!("could not give {} to root", path.display());
            std::os::unix::fs::chown(&path, Some(0), Some(*group)).during(what())?;
            set_mode(&path, 0o710)?;
        }
        own_by_root(&layout.run())?;
        own_by_root(layout.root())
    }
}

/// The directories that lead to the roles' own.
fn passages(layout: &Layout) -> [PathBuf; 3] {
    [layout.root().to_owned(), layout.root().join("roles"), layout.root().join("zones")]
}

fn set_mode(path: &Path, mode: u32) -> Outcome {
    let what = || format!("could not set the mode of {}", path.display());
    let about = fs::metadata(path).during(what())?;
    if about.mode() & 0o777 == mode {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).during(what())
}

fn owner(path: &Path) -> Outcome<u32> {
    let about = fs::metadata(path).during(format!("could not look at {}", path.display()))?;
    Ok(about.uid())
}

/// What the supervisor itself writes, straight in this directory.
fn own_by_root(directory: &Path) -> Outcome {
    let what = || format!("could not give {} to root", directory.display());
    if owner(directory)? != 0 {
        std::os::unix::fs::chown(directory, Some(0), Some(0)).during(what())?;
    }
    for entry in fs::read_dir(directory).during(what())? {
        let entry = entry.during(what())?;
        let about = entry.metadata().during(what())?;
        if about.is_file() && about.uid() != 0 && about.nlink() == 1 {
            std::os::unix::fs::lchown(entry.path(), Some(0), Some(0)).during(what())?;
        }
    }
    Ok(())
}

/// The zones of a role that an operator placed in directories.
fn directories(config: &Config, role: Role) -> impl Iterator<Item = &ZoneSettings> {
    let of_role = config.shape.zones().into_iter().filter(move |(other, _)| *other == role);
    of_role
        .flat_map(|(_, settings)| &settings.zones)
        .filter(|zone| matches!(zone.place(), Ok(Place::Directory(_))))
}

/// The files of the operator's that a role reads: access keys and authorities of its zones, and of the vault the root key and the PIN of its token, where they lie elsewhere.
fn files(config: &Config, role: Role) -> Vec<PathBuf> {
    let of_role = config.shape.zones().into_iter().filter(|(other, _)| *other == role);
    let vault = &config.shape.vault;
    let pin = vault.pkcs11.as_ref().map(|token| &token.pin_file);
    let vaults = std::iter::once(&vault.root_key)
        .chain(pin)
        .filter(|path| role == Role::Vault && path.is_absolute());
    of_role.flat_map(|(_, settings)| settings.files()).chain(vaults.cloned()).collect()
}

/// Whether a directory is this zone, is to become it, or holds nothing yet.
fn is_a_zones(zone: &ZoneSettings) -> bool {
    let is_file = |name: &str| zone.path.join(name).symlink_metadata().is_ok_and(|about| about.is_file());
    if !zone.path.symlink_metadata().is_ok_and(|about| about.is_dir()) {
        return false;
    }
    let empty = || {
        fs::read_dir(&zone.path).is_ok_and(|mut entries| {
            entries.all(|entry| entry.is_ok_and(|entry| entry.file_name().as_encoded_bytes() == OF_THE_DISK.to_bytes()))
        })
    };
    is_file("zone.json") || is_file(&format!("adopt-as-{}", zone.name)) || empty()
}

/// Refuses a file of the operator's that the role could not read, before it says so in fewer words.
fn readable(path: &Path, role: Role, who: Identity) -> Outcome {
    // What is not there the zone itself complains of.
    let Ok(about) = fs::metadata(path) else { return Ok(()) };
    let bit = if about.uid() == who.user {
        0o400
    } else if about.gid() == who.group {
        0o040
    } else {
        0o004
    };
    if about.mode() & bit != 0 {
        return Ok(());
    }
    Err(
        Failure::new(Exit::Refused, format!("the {role} role cannot read {}", path.display()))
            .why(format!(
                "it is the user {} now, and the file belongs to user {}",
                who.user,
                about.uid()
            ))
            .next(format!(
                "chown {} {}; roles that share an access key need a file each, or set users.separate to \"off\"",
                who.user,
                path.display()
            )),
    )
}

impl Giving {
    /// A directory with all below.
    fn whole(&self, path: &Path) -> Outcome {
        let what = || format!("could not give {} to user {}", path.display(), self.to.user);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let directory = match Dir::open(path, flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::ELOOP | Errno::ENOTDIR) => {
                return Err(Failure::new(Exit::Refused, what())
                    .why("it is a link or a file, and not a directory")
                    .next("put the directory itself there"));
            }
            Err(error) => return Err(error).during(what()),
        };
        let about = fstat(directory.as_fd()).during(what())?;
        self.check(path, &about)?;
        self.below(directory, path, about.st_dev, 0)
    }

    fn below(&self, mut directory: Dir, path: &Path, device: nix::libc::dev_t, depth: usize) -> Outcome {
        let what = || format!("could not give {} to user {}", path.display(), self.to.user);
        if depth > DEEPEST {
            return Err(Failure::new(Exit::Refused, what()).why("it is too deep"));
        }
        let mut entries = Vec::new();
        for entry in directory.iter() {
            let entry = entry.during(what())?;
            let is_link = entry.file_type() == Some(Type::Symlink);
            if !is_link && ![c".", c"..", OF_THE_DISK].contains(&entry.file_name()) {
                entries.push(entry.file_name().to_owned());
            }
        }
        for name in entries {
            let below = path.join(name.to_string_lossy().as_ref());
            let what = || format!("could not give {} to user {}", below.display(), self.to.user);
            let about = match fstatat(directory.as_fd(), name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(about) => about,
                Err(Errno::ENOENT) => continue,
                Err(error) => return Err(error).during(what()),
            };
            if about.st_dev != device {
                continue;
            }
            let kind = SFlag::from_bits_truncate(about.st_mode) & SFlag::S_IFMT;
            if kind == SFlag::S_IFDIR {
                let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                self.check(&below, &about)?;
                let inner = Dir::openat(directory.as_fd(), name.as_c_str(), flags, Mode::empty()).during(what())?;
                self.below(inner, &below, device, depth + 1)?;
            } else if kind == SFlag::S_IFREG && about.st_uid != self.to.user {
                self.check(&below, &about)?;
                if about.st_nlink > 1 {
                    return Err(Failure::new(Exit::Refused, what())
                        .why("it has another name somewhere else")
                        .next(format!(
                            "make a file of its own of it: cp -p {0} {0}.new && mv {0}.new {0}",
                            below.display()
                        )));
                }
                let (user, group) = self.ids();
                fchownat(
                    directory.as_fd(),
                    name.as_c_str(),
                    Some(user),
                    Some(group),
                    AtFlags::AT_SYMLINK_NOFOLLOW,
                )
                .during(what())?;
            }
        }
        // After all below it: what is interrupted is done again.
        let about = fstat(directory.as_fd()).during(what())?;
        if about.st_uid != self.to.user {
            let (user, group) = self.ids();
            fchown(directory.as_fd(), Some(user), Some(group)).during(what())?;
        }
        Ok(())
    }

    fn ids(&self) -> (Uid, Gid) {
        (Uid::from_raw(self.to.user), Gid::from_raw(self.to.group))
    }

    /// Refuses what belongs to somebody who has nothing to do with this installation.
    fn check(&self, path: &Path, about: &FileStat) -> Outcome {
        if about.st_uid == self.to.user || self.from.contains(&about.st_uid) {
            return Ok(());
        }
        Err(
            Failure::new(Exit::Refused, format!("{} belongs to user {}", path.display(), about.st_uid))
                .why(format!("it is to be read and written by user {}", self.to.user))
                .next(format!(
                    "look whether it is another installation's; if it is this one's: chown -R {} {}",
                    self.to.user,
                    path.display()
                )),
        )
    }
}
