//! Attacks on files: everything of the installation, and the machine's own.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use base::Role;
use nix::sys::stat::{Mode, SFlag, mknod};

use super::Told;
use crate::breach::{Came, Form, Part, Place, Scene};
use crate::failure::{During, Outcome};

/// Tries every place of the installation.
pub(super) fn attack(scene: &Scene, own: &Path, told: &mut Told) -> Outcome {
    let desk = Desk::make(own)?;
    if !scene.users_alone {
        desk.own(told)?;
    }
    let role = told.role;
    for place in scene.places.iter().filter(|place| !scene.users_alone || place.whose != Some(role)) {
        let asset = asset(place, told.role);
        let target = place.path.display().to_string();
        match place.form {
            Form::Directory => directory(&asset, &target, place, &desk, told)?,
            Form::File => file(&asset, &target, &place.path, &desk, told)?,
            Form::Socket => told.tried(&asset, "connect", target, UnixStream::connect(&place.path))?,
        }
    }
    Ok(())
}

fn asset(place: &Place, role: Role) -> String {
    let own = place.whose == Some(role);
    match (place.part, place.whose) {
        (Part::Own, _) if own => "own directory".into(),
        (Part::Zone, _) if own => "own zones".into(),
        (Part::Own, Some(whose)) => format!("directory of {whose}"),
        (Part::Zone, Some(whose)) => format!("zones of {whose}"),
        _ => "data directory".into(),
    }
}

fn open_to_write(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).open(path)
}

fn directory(asset: &str, target: &str, place: &Place, desk: &Desk, told: &mut Told) -> Outcome {
    let path = &place.path;
    told.tried(asset, "list", target, fs::read_dir(path))?;
    // In a role's own zone nothing is made that the zone would have to explain.
    if place.whose == Some(told.role) {
        return Ok(());
    }
    let new = path.join(&desk.name);
    let made = File::create_new(&new);
    let _ = made.as_ref().map(|_| fs::remove_file(&new));
    told.tried(asset, "make", target, made)?;
    let made = fs::create_dir(&new);
    let _ = made.as_ref().map(|()| fs::remove_dir(&new));
    told.tried(asset, "make", target, made)?;
    let moved = fs::rename(desk.file(), &new);
    if moved.is_ok() {
        let _ = fs::rename(&new, desk.file());
    }
    told.tried(asset, "move into", target, moved)?;
    let linked = fs::hard_link(desk.file(), &new);
    let _ = linked.as_ref().map(|()| fs::remove_file(&new));
    told.tried(asset, "link into", target, linked)?;
    let linked = std::os::unix::fs::symlink("/", &new);
    let _ = linked.as_ref().map(|()| fs::remove_file(&new));
    told.tried(asset, "link into", target, linked)
}

fn file(asset: &str, target: &str, path: &Path, desk: &Desk, told: &mut Told) -> Outcome {
    use std::io::Read;
    let read = File::open(path).and_then(|mut file| file.read(&mut [0]));
    told.tried(asset, "read", target, read)?;
    told.tried(asset, "write", target, open_to_write(path))?;
    told.tried(asset, "write", target, OpenOptions::new().append(true).open(path))?;
    let link = desk.directory.join("link");
    let linked = fs::hard_link(path, &link);
    let _ = linked.as_ref().map(|()| fs::remove_file(&link));
    if asset.starts_with("own") {
        return Ok(());
    }
    told.tried(asset, "link out", target, linked)?;
    // By ways that are no plain path.
    let round = PathBuf::from("/proc/self/root").join(path.strip_prefix("/").unwrap_or(path));
    told.tried(asset, "read", format!("/proc/self/root{target}"), File::open(round))
}

/// A place of the drill's own in the role's directory.
struct Desk {
    name: String,
    directory: PathBuf,
}

impl Desk {
    fn make(own: &Path) -> Outcome<Self> {
        let name = format!(".breach-{}", std::process::id());
        let directory = own.join(&name);
        let what = "a role cannot make anything in its own directory";
        fs::create_dir(&directory).during(what)?;
        let desk = Self { name, directory };
        fs::write(desk.file(), "nothing").during(what)?;
        Ok(desk)
    }

    fn file(&self) -> PathBuf {
        self.directory.join("file")
    }

    /// What a role does with what is its own, and what not even there.
    fn own(&self, told: &mut Told) -> Outcome {
        const OWN: &str = "own directory";
        let path = |name: &str| self.directory.join(name);
        let target = || self.directory.display().to_string();
        told.tried(OWN, "make", target(), fs::write(path("new"), "nothing"))?;
        told.tried(OWN, "read", target(), fs::read(path("new")))?;
        told.tried(OWN, "write", target(), fs::write(path("new"), "something"))?;
        told.tried(OWN, "move", target(), fs::rename(path("new"), path("newer")))?;
        told.tried(OWN, "remove", target(), fs::remove_file(path("newer")))?;
        told.tried(OWN, "make links", target(), std::os::unix::fs::symlink("/", path("to the root")))?;
        told.tried(
            OWN,
            "make pipes",
            target(),
            nix::unistd::mkfifo(&path("pipe"), Mode::S_IRWXU).map_err(io::Error::from),
        )?;
        let device = mknod(&path("device"), SFlag::S_IFCHR, Mode::S_IRWXU, nix::sys::stat::makedev(1, 1));
        told.tried(OWN, "make devices", target(), device.map_err(io::Error::from))
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Files that every machine has, or may have.
const READ: &[&str] = &[
    "/etc/passwd",
    "/etc/shadow",
    "/etc/hostname",
    "/etc/ssl/openssl.cnf",
    "/proc/version",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/kmsg",
    "/proc/cmdline",
    "/proc/mounts",
    "/proc/net/tcp",
    "/proc/self/maps",
    "/proc/self/environ",
    "/proc/self/status",
    "/proc/self/ns/net",
    "/proc/1/environ",
    "/dev/mem",
    "/dev/kmsg",
    "/dev/kvm",
    "/dev/fuse",
    "/dev/net/tun",
    "/dev/userfaultfd",
    "/dev/zero",
    "/dev/urandom",
    "/dev/null",
    "/sys/kernel/notes",
];
const LIST: &[&str] = &[
    "/",
    "/root",
    "/home",
    "/tmp",
    "/etc",
    "/var/log",
    "/proc",
    "/proc/self/fd",
    "/sys/fs/cgroup",
    "/dev/shm",
    "/run",
];
const WRITE: &[&str] = &[
    "/etc/passwd",
    "/proc/self/mem",
    "/proc/self/oom_score_adj",
    "/proc/sys/kernel/core_pattern",
    "/proc/sysrq-trigger",
    "/sys/fs/cgroup/cgroup.procs",
    "/sys/power/state",
    "/dev/null",
    "/dev/mem",
    "/dev/fuse",
    "/dev/net/tun",
    "/dev/userfaultfd",
];

/// What is the machine's and nobody's of the installation.
pub(super) fn machine(told: &mut Told) -> Outcome {
    const MACHINE: &str = "files of the machine";
    for path in READ {
        let act = format!("read {path}");
        told.tried(MACHINE, &act, *path, File::open(path))?;
    }
    for path in LIST {
        let act = format!("list {path}");
        told.tried(MACHINE, &act, *path, fs::read_dir(path))?;
    }
    for path in WRITE {
        let act = format!("write {path}");
        told.tried(MACHINE, &act, *path, open_to_write(Path::new(path)))?;
    }
    for directory in ["/tmp", "/dev/shm", "/var/tmp", "/run", "/"] {
        let path = Path::new(directory).join(format!(".breach-{}", std::process::id()));
        let made = File::create_new(&path);
        let _ = made.as_ref().map(|_| fs::remove_file(&path));
        told.tried(MACHINE, &format!("make in {directory}"), directory, made)?;
    }
    for socket in [
        "/run/docker.sock",
        "/run/dbus/system_bus_socket",
        "/run/systemd/private",
        "/dev/log",
    ] {
        if UnixStream::pair().is_err() {
            told.said(MACHINE, "connect", socket, Came::Refused, "no local sockets at all")?;
            continue;
        }
        told.tried(MACHINE, &format!("connect {socket}"), socket, UnixStream::connect(socket))?;
    }
    Ok(())
}
