//! The data directory: where everything lies, who may look, and who holds it.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base::Role;
use seal::InstallationKey;

use crate::failure::{During, Exit, Failure, Outcome};

/// The names of the default zones.
/// 32 bytes in hex, and a line's end.
const LONGEST_KEY: u64 = 128;
pub(crate) const ZONES: [&str; 3] = ["a", "b", "c"];

/// A data directory.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
    /// Keeps `run` open where its path is too long for a socket.
    run: Arc<OnceLock<File>>,
}

impl Layout {
    /// The directory at `path`, which need not exist.
    pub(crate) fn at(path: &Path) -> Outcome<Self> {
        // Roles are given absolute paths: their place does not depend on where somebody stood when starting them.
        let root = std::path::absolute(path).during(format!("{} is not a usable path", path.display()))?;
        Ok(Self { root, run: Arc::default() })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.root.join("ca.pem")
    }

    /// What signatures of this installation's roles are checked against: 32 bytes in hex, no secret.
    pub(crate) fn installation_key(&self) -> PathBuf {
        self.root.join("installation.pub")
    }

    pub(crate) fn demo_env(&self) -> PathBuf {
        self.root.join("demo.env")
    }

    /// A role's own directory.
    pub(crate) fn role(&self, role: Role) -> PathBuf {
        self.root.join("roles").join(role.as_str())
    }

    /// What holds a role's default zones.
    pub(crate) fn zones(&self, role: Role) -> PathBuf {
        self.root.join("zones").join(role.as_str())
    }

    pub(crate) fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// What the supervisor says about itself to `coffer doctor` and other commands of the operator.
    pub(crate) fn serving(&self) -> PathBuf {
        self.run().join("serving.json")
    }

    /// Locked while a drill goes on.
    pub(crate) fn drill_lock(&self) -> PathBuf {
        self.run().join("drill.lock")
    }

    /// The operator's socket of a role.
    pub(crate) fn socket(&self, role: Role) -> PathBuf {
        self.run().join(format!("{role}.sock"))
    }

    /// The same, short enough for the kernel however long the real path is.
    pub(crate) fn short_socket(&self, role: Role) -> PathBuf {
        let socket = self.socket(role);
        if socket.as_os_str().len() < 100 {
            return socket;
        }
        if self.run.get().is_none() {
            match File::open(self.run()) {
                Ok(directory) => drop(self.run.set(directory)),
                Err(_) => return socket,
            }
        }
        let directory = self
            .run
            .get()
            .map(|directory| directory.as_raw_fd().to_string())
            .unwrap_or_default();
        Path::new("/proc/self/fd")
            .join(directory)
            .join(socket.file_name().unwrap_or_default())
    }

    /// Makes what is missing, for the owner's eyes only.
    pub(crate) fn make(&self) -> Outcome {
        private(&self.root)?;
        private(&self.run())?;
        private(&self.root.join("roles"))?;
        private(&self.root.join("zones"))
    }

    /// Makes a role's directory, and its default zones when the role is new. A zone that is missing later is down, not new: it is never made again.
    pub(crate) fn make_role(&self, role: Role, default_zones: bool) -> Outcome {
        let own = self.role(role);
        if !own.exists() && default_zones {
            private(&self.zones(role))?;
            for zone in ZONES {
                private(&self.zones(role).join(zone))?;
            }
        }
        private(&own)
    }

    /// The same file as of a lock, without taking it: another supervisor has.
    pub(crate) fn look_at_lock(&self) -> Outcome<Lock> {
        let path = self.root.join("lock");
        File::open(&path).map(Lock).during(format!("could not open {}", path.display()))
    }

    /// Takes the directory for this process and its roles alone, or says who has it.
    pub(crate) fn lock(&self) -> Outcome<Lock> {
        let path = self.root.join("lock");
        let what = || format!("could not lock {}", path.display());
        let open = || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)
        };
        drop(open().during(what())?);
        // Roles inherit this one: without the right to write, and holding the lock with us until the last of them is gone.
        let file = File::open(&path).during(what())?;
        let mut tries = 0;
        while file.try_lock().is_err() {
            let holder = fs::read_to_string(&path).unwrap_or_default().trim().to_owned();
            let dying = holder.parse().is_ok_and(|pid| !is_alive(pid));
            // After a supervisor was killed its roles end by themselves: they see it at once. One that is just being killed still looks alive.
            if tries >= if dying { 50 } else { 3 } {
                let why = match (holder.as_str(), dying) {
                    ("", _) => "another process holds it".into(),
                    (pid, false) => format!("process {pid} runs it"),
                    (pid, true) => format!("roles that process {pid} started are still running"),
                };
                return Err(Failure::new(Exit::Conflict, format!("{} is in use", self.root.display()))
                    .why(why)
                    .next("stop that one first, or give another --data"));
            }
            tries += 1;
            pause(Duration::from_millis(100));
        }
        let mut writer = open().during(what())?;
        let pid = format!("{}\n", std::process::id());
        writer.set_len(0).and_then(|()| writer.write_all(pid.as_bytes())).during(what())?;
        Ok(Lock(file))
    }
}

/// The exclusive hold on a data directory; ends with the last process that has it.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Lock {
    /// A second hold on the same lock, for a role.
    pub(crate) fn share(&self) -> Outcome<OwnedFd> {
        self.0.try_clone().map(OwnedFd::from).during("could not pass the lock on")
    }
}

/// Whether a process runs. One that has ended and was not yet waited for by its parent does not.
fn is_alive(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    // After the name, which is in brackets and may contain anything.
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

#[expect(
    clippy::disallowed_methods,
    reason = "before the runtime starts; a file lock that another process holds cannot be waited for with a deadline"
)]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// A directory that only its owner may enter. One that others may enter is refused, not changed: it may be somebody else's.
fn private(path: &Path) -> Outcome {
    let what = || format!("could not use the directory {}", path.display());
    let exists = |path: &Path| path.metadata().is_ok();
    if !exists(path) {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.during(what())?;
        // Nothing is lost when this is: the directory is made again, empty, at the next start.
        let _ = path
            .parent()
            .and_then(|parent| File::open(parent).ok())
            .map(|parent| parent.sync_all());
    }
    let meta = path.metadata().during(what())?;
    if !meta.is_dir() {
        return Err(Failure::new(Exit::Refused, what()).why("it is not a directory"));
    }
    let owner = nix::unistd::geteuid().as_raw();
    // Roles that are users of their own pass through some of our directories; `Users::settle` decides who may.
    if meta.uid() == owner && meta.mode() & 0o077 == 0o010 {
        return Ok(());
    }
    if meta.mode() & 0o077 != 0 {
        let empty = fs::read_dir(path).during(what())?.next().is_none();
        if meta.uid() == owner && empty {
            return fs::set_permissions(path, Permissions::from_mode(0o700)).during(what());
        }
        return Err(Failure::new(Exit::Refused, what())
            .why(format!("others may enter it (mode {:03o})", meta.mode() & 0o777))
            .next(format!("chmod 700 {}", path.display())));
    }
    Ok(())
}

/// Writes a whole file or nothing, readable by its owner only.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Outcome {
    let what = || format!("could not write {}", path.display());
    // A name alone has a directory too.
    let path = &std::path::absolute(path).during(what())?;
    let parent = path.parent().unwrap_or(path);
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(parent)
        .during(what())?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).during(what())?;
    file.persist(path).during(what())?;
    File::open(parent).and_then(|parent| parent.sync_all()).during(what())
}

/// The installation's public key in a file.
pub(crate) fn installation_key_in(path: &Path) -> Outcome<InstallationKey> {
    let what = format!("could not read {}", path.display());
    let mut text = String::new();
    let file = File::open(path).map_err(|error| {
        Failure::new(Exit::NotFound, what.clone())
            .why(error)
            .next("`coffer serve` writes it when it starts")
    })?;
    file.take(LONGEST_KEY).read_to_string(&mut text).during(what.clone())?;
    let bytes = hex::decode(text.trim()).during(what.clone())?;
    InstallationKey::try_from(&bytes[..]).during(what)
}

/// Reads a small file that holds a secret; refuses one that others may read.
pub(crate) fn read_private(path: &Path) -> Outcome<String> {
    let what = || format!("could not read {}", path.display());
    let file = File::open(path).map_err(|error| {
        let exit = if error.kind() == std::io::ErrorKind::NotFound {
            Exit::NotFound
        } else {
            Exit::Failed
        };
        Failure::new(exit, what()).why(error)
    })?;
    let mode = file.metadata().during(what())?.mode();
    if mode & 0o077 != 0 {
        return Err(Failure::new(Exit::Refused, what())
            .why(format!("it holds a secret and others may read it (mode {:03o})", mode & 0o777))
            .next(format!("chmod 600 {}", path.display())));
    }
    let mut text = String::new();
    file.take(64 << 10).read_to_string(&mut text).during(what())?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_in_use_is_refused_with_the_holder() {
        let place = tempfile::tempdir().unwrap();
        let layout = Layout::at(&place.path().join("data")).unwrap();
        layout.make().unwrap();
        let held = layout.lock().unwrap();

        let refused = layout.lock().unwrap_err();
        assert_eq!(refused.exit, Exit::Conflict);
        assert!(refused.to_string().contains(&std::process::id().to_string()), "{refused}");

        assert!(is_alive(std::process::id()) && !is_alive(u32::MAX));

        // As long as a role lives, so does the lock.
        let inherited = held.share().unwrap();
        drop(held);
        assert!(layout.lock().is_err());
        drop(inherited);
        assert!(layout.lock().is_ok());
    }

    #[test]
    fn zones_are_made_once_and_never_again() {
        let place = tempfile::tempdir().unwrap();
        let layout = Layout::at(&place.path().join("data")).unwrap();
        layout.make().unwrap();
        layout.make_role(Role::Identity, true).unwrap();
        let zone = layout.zones(Role::Identity).join("b");
        assert!(zone.is_dir());
        fs::remove_dir(&zone).unwrap();
        layout.make_role(Role::Identity, true).unwrap();
        assert!(!zone.exists());
    }

    #[test]
    fn a_name_alone_is_a_file_where_one_stands() {
        let name = format!("a-name-alone-{}", std::process::id());
        let written = write_private(Path::new(&name), b"text");
        let read = fs::read(&name);
        let _ = fs::remove_file(&name);
        written.unwrap();
        assert_eq!(read.unwrap(), b"text");
    }

    #[test]
    fn secrets_that_others_may_read_are_refused() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("key");
        write_private(&path, b"1/ab\n").unwrap();
        assert_eq!(read_private(&path).unwrap(), "1/ab\n");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(read_private(&path).unwrap_err().exit, Exit::Refused);
    }
}
