//! The few things a directory zone asks of a file system: the seam at which a forgetful twin takes its place.
//!
//! Promise: whatever stands in the zone's directory, nothing outside of it is read or changed, nothing is waited for, and no more
//! is read than was asked for. Whoever owns one zone may put links and special files into it.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind as Io, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// A file being written.
pub(crate) trait NewFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// After this the bytes survive a power cut (the entry in the directory does not yet).
    fn sync(&mut self) -> io::Result<()>;
}

/// An entry of a directory.
#[derive(Debug)]
pub(crate) struct DiskEntry {
    pub(crate) name: String,
    pub(crate) kind: EntryKind,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File,
    Directory,
    /// A link, a pipe, a socket, a device: nothing that a zone makes.
    Other,
}

/// What was read of a file.
#[derive(Debug)]
pub(crate) enum Whole {
    Bytes(Vec<u8>),
    /// Nothing: it has this many bytes, which is more than was asked for.
    Longer(u64),
}

/// A file system below a zone's directory, as far as a zone needs one. Paths begin at that directory. All calls block.
///
/// What is no regular file where one belongs, or no directory where one belongs, is an error of the kind `InvalidData`.
pub(crate) trait Disk: Send + Sync + fmt::Debug {
    /// Whether calls may take long and belong on a thread for blocking work.
    fn is_slow(&self) -> bool;
    /// An empty file that was not there before.
    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>>;
    /// A whole file of at most this many bytes.
    fn read(&self, path: &Path, most: u64) -> io::Result<Whole>;
    /// These bytes, fewer where the file ends before.
    fn read_range(&self, path: &Path, range: Range<u64>) -> io::Result<Vec<u8>>;
    fn length(&self, path: &Path) -> io::Result<u64>;
    /// Visits every entry of a directory, in no order.
    fn each(&self, directory: &Path, visit: &mut dyn FnMut(DiskEntry)) -> io::Result<()>;
    /// All of them. A directory can have millions.
    fn list(&self, directory: &Path) -> io::Result<Vec<DiskEntry>> {
        let mut entries = Vec::new();
        self.each(directory, &mut |entry| entries.push(entry))?;
        Ok(entries)
    }
    /// One new directory whose parent is there.
    fn make_dir(&self, path: &Path) -> io::Result<()>;
    /// After this the entries of the directory survive a power cut.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove_file(&self, path: &Path) -> io::Result<()>;
}

/// A directory of the machine's file system. The path to it is the operator's and may have links; what is below may not.
#[derive(Debug)]
pub(crate) struct RealDisk {
    root: PathBuf,
}

/// A directory on the way to something: not to be read.
const PASSED: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);
/// Something in the zone. Without `O_NONBLOCK` a pipe would be waited for.
const INSIDE: OFlag = OFlag::O_NOFOLLOW
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_NOCTTY)
    .union(OFlag::O_CLOEXEC);

impl RealDisk {
    pub(crate) fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// Makes the zone's directory, and those above it that are missing.
    pub(crate) fn make_root(&self) -> io::Result<()> {
        let sync = |directory: &Path| File::open(directory)?.sync_all();
        let missing: Vec<&Path> = self.root.ancestors().filter(|p| !p.as_os_str().is_empty()).collect();
        for path in missing.into_iter().rev() {
            match fs::create_dir(path) {
                Ok(()) => match path.parent() {
                    Some(parent) if parent.as_os_str().is_empty() => sync(Path::new("."))?,
                    Some(parent) => sync(parent)?,
                    None => {}
                },
                Err(error) if error.kind() == Io::AlreadyExists => {}
                // An ancestor that is there and not ours to write in is no trouble; a missing one shows at the next step.
                Err(error) if path != self.root && error.kind() != Io::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Goes to a directory in the zone, one step at a time, so that no step can be a link.
    fn directory(&self, path: &Path) -> io::Result<OwnedFd> {
        let mut at = open(&self.root, PASSED, Mode::empty())?;
        for component in path.components() {
            let Component::Normal(name) = component else {
                return Err(Io::InvalidInput.into());
            };
            at = openat(&at, name, PASSED | OFlag::O_NOFOLLOW, Mode::empty()).map_err(|errno| strange(errno, name))?;
        }
        Ok(at)
    }

    fn parent<'a>(&self, path: &'a Path) -> io::Result<(OwnedFd, &'a OsStr)> {
        let name = path.file_name().ok_or(Io::InvalidInput)?;
        Ok((self.directory(path.parent().unwrap_or(Path::new("")))?, name))
    }

    /// A regular file, and its length.
    fn open_file(&self, path: &Path) -> io::Result<(File, u64)> {
        let (parent, name) = self.parent(path)?;
        let opened = openat(&parent, name, INSIDE | OFlag::O_RDONLY, Mode::empty());
        let file = File::from(opened.map_err(|errno| strange(errno, name))?);
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(strange(Errno::ELOOP, name));
        }
        Ok((file, about.len()))
    }

    /// A directory to be read or synced.
    fn open_dir(&self, path: &Path) -> io::Result<OwnedFd> {
        let flags = INSIDE | OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        Ok(openat(self.directory(path)?, ".", flags, Mode::empty())?)
    }
}

/// Says what is the matter where something stands in the zone that no zone puts there.
fn strange(errno: Errno, name: &OsStr) -> io::Error {
    let what = match errno {
        Errno::ENOTDIR => "a link or a file stands in the place of the directory",
        Errno::ELOOP | Errno::ENXIO | Errno::ENODEV => "something else stands in the place of the file",
        other => return other.into(),
    };
    io::Error::new(Io::InvalidData, format!("{what} {}", name.to_string_lossy()))
}

impl NewFile for File {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        Write::write_all(self, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

impl Disk for RealDisk {
    fn is_slow(&self) -> bool {
        true
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        let (parent, name) = self.parent(path)?;
        let flags = INSIDE | OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        let file = openat(&parent, name, flags, Mode::from_bits_truncate(0o666))?;
        Ok(Box::new(File::from(file)))
    }

    fn read(&self, path: &Path, most: u64) -> io::Result<Whole> {
        let (file, length) = self.open_file(path)?;
        let mut bytes = Vec::new();
        if length <= most {
            // It may grow meanwhile.
            file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
        }
        let length = length.max(bytes.len() as u64);
        Ok(if length > most {
            Whole::Longer(length)
        } else {
            Whole::Bytes(bytes)
        })
    }

    fn read_range(&self, path: &Path, range: Range<u64>) -> io::Result<Vec<u8>> {
        let (mut file, _) = self.open_file(path)?;
        file.seek(SeekFrom::Start(range.start))?;
        let mut bytes = Vec::new();
        file.take(range.end.saturating_sub(range.start)).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        Ok(self.open_file(path)?.1)
    }

    fn each(&self, directory: &Path, visit: &mut dyn FnMut(DiskEntry)) -> io::Result<()> {
        let at = self.directory(directory)?;
        for entry in Dir::from_fd(self.open_dir(directory)?)?.iter() {
            let entry = entry?;
            // A name that is not UTF-8 is not ours.
            let Ok(name) = entry.file_name().to_str() else { continue };
            if name == "." || name == ".." {
                continue;
            }
            let kind = match entry.file_type() {
                Some(Type::File) => EntryKind::File,
                Some(Type::Directory) => EntryKind::Directory,
                Some(_) => EntryKind::Other,
                // Not every file system says so here.
                None => match fstatat(&at, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                    Ok(about) => kind_of(SFlag::from_bits_truncate(about.st_mode)),
                    Err(Errno::ENOENT) => continue,
                    Err(errno) => return Err(errno.into()),
                },
            };
            visit(DiskEntry {
                name: name.to_owned(),
                kind,
            });
        }
        Ok(())
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        Ok(mkdirat(&parent, name, Mode::from_bits_truncate(0o777))?)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::from(self.open_dir(path)?).sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let ((old, old_name), (new, new_name)) = (self.parent(from)?, self.parent(to)?);
        Ok(renameat(&old, old_name, &new, new_name)?)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        Ok(unlinkat(&parent, name, UnlinkatFlags::NoRemoveDir)?)
    }
}

fn kind_of(mode: SFlag) -> EntryKind {
    match mode & SFlag::S_IFMT {
        SFlag::S_IFREG => EntryKind::File,
        SFlag::S_IFDIR => EntryKind::Directory,
        _ => EntryKind::Other,
    }
}
