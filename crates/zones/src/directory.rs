//! A zone that is a directory.
//!
//! Promise: an object appears under its name whole and durable, or not at all. It is written to a temporary file, synced,
//! renamed, and then the directory is synced, and so is the parent of every directory that had to be made.
//!
//! A directory is a zone when it holds a `zone.json` with the zone's name. After the first start one that is missing or empty
//! is a zone that is down, and is never made again silently: an unmounted disk must not look like a new one. An empty directory
//! into which the operator puts a file `adopt-as-<zone>` takes a lost one's place. It is filled by catching up, and until that
//! is done its marker says that it is not complete: what it lacks says nothing about what there is.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, ErrorKind as Io};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use base::{Entropy, OsEntropy};
use bytes::Bytes;

use crate::disk::{Disk, NewFile, RealDisk, Whole};
use crate::marker::Owner;
use crate::{ObjectName, Zone, ZoneError};

mod marker;
mod pages;

/// What to make of a directory that is empty or missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Empty {
    /// Its disk may not be mounted: a zone that is down, unless the operator says otherwise with a file in it.
    Unknown,
    /// A zone that lacks nothing, as at the very first start.
    New,
    /// A new zone beside others that may hold something.
    Joins,
}

/// A zone that is a directory.
#[derive(Clone)]
pub struct DirectoryZone(Arc<Inner>);

struct Inner {
    name: String,
    owner: Owner,
    root: PathBuf,
    disk: Arc<dyn Disk>,
    // Temporary files have names of their own in each process: another one may not be done with the same zone yet.
    run: u64,
    temporary: AtomicU64,
    tidy: AtomicBool,
    // As the marker said when it was last read.
    complete: AtomicBool,
    // Directories whose entry in their parent is known to be synced. Being there is not enough: it may have been made a
    // moment ago by another write that has not synced it yet, or just before a power cut.
    synced: Mutex<BTreeSet<PathBuf>>,
}

// Names of objects begin with no dot, so these are never in their way.
const TEMPORARY: &str = ".temporary";
const PROBE_BYTES: [u8; 4096] = [0; 4096];

impl DirectoryZone {
    /// The zone at `path`. With `create` a missing directory is made, as at the very first start.
    ///
    /// Never fails: a directory that cannot be used is a zone that is down and may come back.
    pub fn open(name: &str, path: impl Into<PathBuf>, create: bool) -> Self {
        Self::open_for(Owner::default(), name, path, if create { Empty::New } else { Empty::Unknown })
    }

    /// The same, and a directory that belongs to another is refused.
    pub(crate) fn open_for(owner: Owner, name: &str, path: impl Into<PathBuf>, empty: Empty) -> Self {
        let root = path.into();
        let disk = Arc::new(RealDisk::at(root.clone()));
        let zone = Self::on(Arc::clone(&disk) as Arc<dyn Disk>, owner, name, root, OsEntropy.next_u64());
        if empty != Empty::Unknown
            && let Err(error) = disk.make_root()
        {
            tracing::warn!(zone = name, "could not make the directory of zone {name}: {}", words(&error));
        }
        if let Err(error) = zone.prepare(empty) {
            tracing::warn!(zone = name, "{error}");
        }
        zone
    }

    /// A zone on any disk, without touching it yet. No two runs on one disk have the same number.
    pub(crate) fn on(disk: Arc<dyn Disk>, owner: Owner, name: &str, root: PathBuf, run: u64) -> Self {
        Self(Arc::new(Inner {
            name: name.to_owned(),
            owner,
            root,
            disk,
            run,
            temporary: AtomicU64::new(0),
            tidy: AtomicBool::new(false),
            complete: AtomicBool::new(true),
            synced: Mutex::new(BTreeSet::new()),
        }))
    }

    /// Takes the directory into use if it can be. Blocks.
    pub(crate) fn prepare(&self, empty: Empty) -> Result<(), ZoneError> {
        self.0.prepare(empty)
    }

    /// Where the zone is.
    pub fn path(&self) -> &Path {
        &self.0.root
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Inner) -> Result<T, ZoneError> + Send + 'static) -> Result<T, ZoneError> {
        if !self.0.disk.is_slow() {
            return work(&self.0);
        }
        let inner = Arc::clone(&self.0);
        let joined = tokio::task::spawn_blocking(move || work(&inner)).await;
        joined.unwrap_or_else(|_| Err(self.0.unclear("the work on the file system was broken off".into())))
    }
}

impl fmt::Debug for DirectoryZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DirectoryZone({} at {})", self.0.name, self.0.root.display())
    }
}

#[async_trait]
impl Zone for DirectoryZone {
    fn name(&self) -> &str {
        &self.0.name
    }

    async fn put(&self, name: &ObjectName, bytes: Bytes) -> Result<(), ZoneError> {
        let name = name.clone();
        self.run(move |zone| zone.put(&name, &bytes)).await
    }

    async fn get(&self, name: &ObjectName, most: u64) -> Result<Bytes, ZoneError> {
        let name = name.clone();
        self.run(move |zone| zone.get(&name, most)).await
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, ZoneError> {
        let name = name.clone();
        self.run(move |zone| zone.get_range(&name, range)).await
    }

    async fn list_page(&self, prefix: &str, after: &str, most: usize) -> Result<Vec<ObjectName>, ZoneError> {
        let (prefix, after) = (prefix.to_owned(), after.to_owned());
        self.run(move |zone| zone.list_page(&prefix, &after, most)).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), ZoneError> {
        let name = name.clone();
        self.run(move |zone| zone.delete(&name)).await
    }

    async fn probe(&self) -> Result<(), ZoneError> {
        self.run(|zone| {
            zone.prepare(Empty::Unknown)?;
            zone.write_probe().map_err(|error| zone.down(&error))
        })
        .await
    }

    fn is_final(&self) -> bool {
        true
    }

    fn is_complete(&self) -> bool {
        self.0.complete.load(Ordering::SeqCst)
    }

    async fn set_complete(&self) -> Result<(), ZoneError> {
        self.run(|zone| {
            zone.check_marker()?;
            zone.write_marker(true).map_err(|error| zone.down(&error))?;
            zone.check_marker()
        })
        .await
    }
}

impl Inner {
    fn put(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), ZoneError> {
        self.check_marker()?;
        match self.place(name, bytes) {
            // A directory that we took for made has gone, with the zone put back in an older state perhaps.
            Err((error, false)) if error.kind() == Io::NotFound => {
                self.forget_directories();
                self.place(name, bytes)
            }
            other => other,
        }
        .map_err(|(error, perhaps)| {
            self.forget_directories();
            if perhaps { self.unclear(words(&error)) } else { self.down(&error) }
        })
    }

    /// On failure says whether the object may be there under its name.
    fn place(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), (io::Error, bool)> {
        let nothing = |error| (error, false);
        let temporary = self.write_temporary(bytes).map_err(nothing)?;
        let made = self.make_dirs(name.prefix()).map_err(nothing);
        let renamed = made.and_then(|()| {
            let renamed = self.disk.rename(&temporary, Path::new(name.as_str()));
            renamed.map_err(|error| {
                let perhaps = !is_refusal(&error);
                (error, perhaps)
            })
        });
        if let Err(failed) = renamed {
            // Left behind it would only cost room until the next start.
            let _ = self.disk.remove_file(&temporary);
            return Err(failed);
        }
        self.disk.sync_dir(Path::new(name.prefix())).map_err(|error| (error, true))
    }

    fn new_temporary(&self) -> io::Result<(PathBuf, Box<dyn NewFile>)> {
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(TEMPORARY).join(format!("{:016x}-{number}", self.run));
        let file = match self.disk.create(&path) {
            Err(error) if error.kind() == Io::NotFound => {
                self.make_dir(Path::new(TEMPORARY))?;
                self.disk.create(&path)?
            }
            other => other?,
        };
        Ok((path, file))
    }

    fn write_temporary(&self, bytes: &[u8]) -> io::Result<PathBuf> {
        let (path, mut file) = self.new_temporary()?;
        if let Err(error) = file.write_all(bytes).and_then(|()| file.sync()) {
            drop(file);
            // On a full disk the half-written file must not stay in the way of what comes next.
            let _ = self.disk.remove_file(&path);
            return Err(error);
        }
        Ok(path)
    }

    /// Makes every directory of `prefix` durable, unless it is known to be.
    fn make_dirs(&self, prefix: &str) -> io::Result<()> {
        let mut path = PathBuf::new();
        for segment in prefix.split('/') {
            let parent = path.clone();
            path.push(segment);
            if self.synced().contains(&path) {
                continue;
            }
            self.make_dir(&path)?;
            self.disk.sync_dir(&parent)?;
            self.synced().insert(path.clone());
        }
        Ok(())
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        match self.disk.make_dir(path) {
            Err(error) if error.kind() == Io::AlreadyExists => Ok(()),
            other => other,
        }
    }

    fn get(&self, name: &ObjectName, most: u64) -> Result<Bytes, ZoneError> {
        match self.disk.read(Path::new(name.as_str()), most) {
            Ok(Whole::Bytes(bytes)) => Ok(bytes.into()),
            Ok(Whole::Longer(length)) => Err(ZoneError::Long {
                zone: self.name.clone(),
                name: name.clone(),
                length,
                most,
            }),
            Err(error) => Err(self.unread(name, &error)),
        }
    }

    fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, ZoneError> {
        let path = Path::new(name.as_str());
        let bytes = self
            .disk
            .read_range(path, range.clone())
            .map_err(|error| self.unread(name, &error))?;
        if bytes.len() as u64 == range.end.saturating_sub(range.start) {
            return Ok(bytes.into());
        }
        let length = self.disk.length(path).map_err(|error| self.unread(name, &error))?;
        Err(ZoneError::Short {
            zone: self.name.clone(),
            name: name.clone(),
            length,
            wanted: range.end,
        })
    }

    fn delete(&self, name: &ObjectName) -> Result<(), ZoneError> {
        self.check_marker()?;
        match self.disk.remove_file(Path::new(name.as_str())) {
            Err(error) if error.kind() == Io::NotFound => return self.check_marker(),
            other => other.map_err(|error| self.down(&error))?,
        }
        self.disk
            .sync_dir(Path::new(name.prefix()))
            .map_err(|error| self.unclear(words(&error)))
    }

    /// Shows a full or read-only disk; a sync would cost a second's worth of an idle disk's sleep and show no more.
    fn write_probe(&self) -> io::Result<()> {
        let (path, mut file) = self.new_temporary()?;
        let written = file.write_all(&PROBE_BYTES);
        drop(file);
        let removed = self.disk.remove_file(&path);
        written.and(removed)
    }

    fn synced(&self) -> std::sync::MutexGuard<'_, BTreeSet<PathBuf>> {
        self.synced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget_directories(&self) {
        self.synced().clear();
    }

    /// An object that cannot be read: absent, unless the whole zone is; or something else stands in its place.
    fn unread(&self, name: &ObjectName, error: &io::Error) -> ZoneError {
        match error.kind() {
            Io::NotFound => {}
            Io::InvalidData => {
                return ZoneError::Wrong {
                    zone: self.name.clone(),
                    name: name.clone(),
                    detail: words(error),
                };
            }
            _ => return self.down(error),
        }
        match self.check_marker() {
            Ok(()) => ZoneError::NotFound {
                zone: self.name.clone(),
                name: name.clone(),
            },
            Err(down) => down,
        }
    }

    fn down(&self, error: &io::Error) -> ZoneError {
        ZoneError::Down {
            zone: self.name.clone(),
            detail: words(error),
        }
    }

    fn unclear(&self, detail: String) -> ZoneError {
        ZoneError::Unclear {
            zone: self.name.clone(),
            detail,
        }
    }
}

/// Whether an error says that nothing was changed. Of others, such as a server's answer that got lost, that is not known.
fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        // The last is the disk's own word for what it found on the way.
        Io::NotFound | Io::StorageFull | Io::PermissionDenied | Io::ReadOnlyFilesystem | Io::InvalidData
    )
}

/// What an operator should read. Paths stay out: they are in the settings.
fn words(error: &io::Error) -> String {
    match error.kind() {
        Io::NotFound => "the directory is missing".into(),
        Io::NotADirectory => "it is not a directory".into(),
        Io::StorageFull | Io::QuotaExceeded => "no space is left".into(),
        Io::ReadOnlyFilesystem => "it is read-only".into(),
        Io::PermissionDenied => "permission is denied".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
