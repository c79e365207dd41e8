//! A directory zone on a simulated disk that forgets, at a power cut, everything that was not synced.
//!
//! The zone's code is [`DirectoryZone`] itself: only the disk below it is a twin. File data and directory entries are
//! forgotten separately, as a file system may. A twin of the twin skips a kind of sync, to show that the tests would notice.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind as Io};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use base::Entropy;
use bytes::Bytes;

use crate::disk::{Disk, DiskEntry, EntryKind, NewFile, Whole};
use crate::marker::Owner;
use crate::{DirectoryZone, Empty, ObjectName, Zone, ZoneError};

/// The power supply of one or more simulated disks.
#[derive(Debug, Clone)]
pub struct Power(Arc<AtomicU64>);

impl Power {
    /// Power that stays on.
    pub fn on() -> Self {
        Self(Arc::new(AtomicU64::new(u64::MAX)))
    }

    /// The power fails after this many more disk operations, in the middle of the last.
    pub fn cut_after(&self, operations: u64) {
        self.0.store(operations, Ordering::SeqCst);
    }

    /// Whether it has failed.
    pub fn is_off(&self) -> bool {
        self.0.load(Ordering::SeqCst) == 0
    }

    /// The power is back, and stays.
    pub fn restore(&self) {
        self.0.store(u64::MAX, Ordering::SeqCst);
    }

    fn spend(&self) -> io::Result<()> {
        let spent = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| match left {
            0 => None,
            u64::MAX => Some(u64::MAX),
            left => Some(left - 1),
        });
        match spent {
            Ok(1) | Err(_) => Err(io::Error::other("the power is off")),
            Ok(_) => Ok(()),
        }
    }
}

/// A sync that a broken twin leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Negligence {
    /// None: the honest twin.
    None,
    /// File data is not synced.
    Files,
    /// Directories are not synced.
    Directories,
}

/// A directory zone on a simulated disk.
#[derive(Debug)]
pub struct ForgetfulZone {
    zone: DirectoryZone,
    disk: Arc<SimulatedDisk>,
    negligence: Negligence,
}

impl ForgetfulZone {
    /// An empty zone on a disk of its own.
    pub fn new(name: &str, power: &Power) -> Self {
        Self::careless(name, power, Negligence::None)
    }

    /// The same, leaving out a kind of sync.
    pub fn careless(name: &str, power: &Power, negligence: Negligence) -> Self {
        let disk = Arc::new(SimulatedDisk::new(power.clone()));
        Self::boot(name, disk, negligence)
    }

    /// Cuts the power: all that was not synced is lost, this handle works no more, and the zone as it is found afterwards is
    /// returned. Power that was cut has to be restored first.
    pub fn crash(&self) -> Self {
        self.disk.forget(|| true);
        Self::boot(self.zone.name(), Arc::clone(&self.disk), self.negligence)
    }

    /// The same, but each thing that was not synced is lost or kept by chance.
    pub fn crash_by_chance(&self, entropy: &dyn Entropy) -> Self {
        self.disk.forget(|| entropy.next_u64() & 1 == 0);
        Self::boot(self.zone.name(), Arc::clone(&self.disk), self.negligence)
    }

    /// Writes fail for want of space from now on, or do no more.
    pub fn set_full(&self, full: bool) {
        self.disk.state().full = full;
    }

    /// The next `count` renames are done, and answered with an error nevertheless, as by a server whose answer got lost.
    pub fn do_and_deny_next_renames(&self, count: usize) {
        self.disk.state().denied_renames = count;
    }

    fn boot(name: &str, disk: Arc<SimulatedDisk>, negligence: Negligence) -> Self {
        let boot = disk.state().boot;
        let session = Session {
            boot,
            disk: Arc::clone(&disk),
            negligence,
        };
        let zone = DirectoryZone::on(Arc::new(session), Owner::default(), name, PathBuf::from("/"), boot);
        // As `DirectoryZone::open` does; without power the zone stays down until it is probed.
        let _ = zone.prepare(Empty::New);
        Self { zone, disk, negligence }
    }
}

#[async_trait]
impl Zone for ForgetfulZone {
    fn name(&self) -> &str {
        self.zone.name()
    }
    async fn put(&self, name: &ObjectName, bytes: Bytes) -> Result<(), ZoneError> {
        self.zone.put(name, bytes).await
    }
    async fn get(&self, name: &ObjectName, most: u64) -> Result<Bytes, ZoneError> {
        self.zone.get(name, most).await
    }
    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, ZoneError> {
        self.zone.get_range(name, range).await
    }
    async fn list_page(&self, prefix: &str, after: &str, most: usize) -> Result<Vec<ObjectName>, ZoneError> {
        self.zone.list_page(prefix, after, most).await
    }
    async fn delete(&self, name: &ObjectName) -> Result<(), ZoneError> {
        self.zone.delete(name).await
    }
    async fn probe(&self) -> Result<(), ZoneError> {
        self.zone.probe().await
    }
    fn is_final(&self) -> bool {
        self.zone.is_final()
    }
    fn is_complete(&self) -> bool {
        self.zone.is_complete()
    }
    async fn set_complete(&self) -> Result<(), ZoneError> {
        self.zone.set_complete().await
    }
}

#[derive(Debug)]
struct SimulatedDisk {
    power: Power,
    state: Mutex<DiskState>,
}

#[derive(Debug)]
struct DiskState {
    boot: u64,
    full: bool,
    denied_renames: usize,
    next: u64,
    nodes: BTreeMap<u64, Node>,
}

/// What a program sees, and what is on the platter.
#[derive(Debug, Default, Clone)]
struct Node {
    is_dir: bool,
    seen: Vec<u8>,
    synced: Vec<u8>,
    entries: BTreeMap<String, u64>,
    synced_entries: BTreeMap<String, u64>,
}

const ROOT: u64 = 0;

impl SimulatedDisk {
    fn new(power: Power) -> Self {
        let root = Node {
            is_dir: true,
            ..Node::default()
        };
        let state = DiskState {
            boot: 0,
            full: false,
            denied_renames: 0,
            next: 1,
            nodes: BTreeMap::from([(ROOT, root)]),
        };
        Self {
            power,
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, DiskState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Each thing not synced goes back to what was synced where `lost` says so.
    fn forget(&self, mut lost: impl FnMut() -> bool) {
        let mut state = self.state();
        state.boot += 1;
        for node in state.nodes.values_mut() {
            if node.seen != node.synced && lost() {
                node.seen.clone_from(&node.synced);
            }
            let names: BTreeSet<String> = node.entries.keys().chain(node.synced_entries.keys()).cloned().collect();
            for name in names {
                let (seen, synced) = (node.entries.get(&name).copied(), node.synced_entries.get(&name).copied());
                if seen != synced && lost() {
                    match synced {
                        Some(id) => node.entries.insert(name, id),
                        None => node.entries.remove(&name),
                    };
                }
            }
            node.synced.clone_from(&node.seen);
            node.synced_entries.clone_from(&node.entries);
        }
        let mut reached = BTreeSet::new();
        let mut open = vec![ROOT];
        while let Some(id) = open.pop() {
            if reached.insert(id)
                && let Some(node) = state.nodes.get(&id)
            {
                open.extend(node.entries.values());
            }
        }
        state.nodes.retain(|id, _| reached.contains(id));
    }
}

impl DiskState {
    fn find(&self, path: &Path) -> io::Result<u64> {
        let mut at = ROOT;
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            let node = self.node(at)?;
            if !node.is_dir {
                return Err(Io::NotADirectory.into());
            }
            at = *node.entries.get(&*name.to_string_lossy()).ok_or(Io::NotFound)?;
        }
        Ok(at)
    }

    fn node(&self, id: u64) -> io::Result<&Node> {
        self.nodes.get(&id).ok_or_else(|| Io::NotFound.into())
    }

    fn node_mut(&mut self, id: u64) -> io::Result<&mut Node> {
        self.nodes.get_mut(&id).ok_or_else(|| Io::NotFound.into())
    }

    fn split(&self, path: &Path) -> io::Result<(u64, String)> {
        let name = path.file_name().ok_or(Io::InvalidInput)?.to_string_lossy().into_owned();
        let parent = self.find(path.parent().unwrap_or(Path::new("")))?;
        if self.node(parent)?.is_dir {
            Ok((parent, name))
        } else {
            Err(Io::NotADirectory.into())
        }
    }

    fn link(&mut self, path: &Path, is_dir: bool) -> io::Result<u64> {
        let (parent, name) = self.split(path)?;
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, Node { is_dir, ..Node::default() });
        self.node_mut(parent)?.entries.insert(name, id);
        Ok(id)
    }
}

/// The disk as one running program sees it; after the next power cut it answers nothing.
#[derive(Debug, Clone)]
struct Session {
    disk: Arc<SimulatedDisk>,
    boot: u64,
    negligence: Negligence,
}

impl Session {
    fn enter(&self) -> io::Result<MutexGuard<'_, DiskState>> {
        let state = self.disk.state();
        if state.boot != self.boot {
            return Err(io::Error::other("this program ended with the power"));
        }
        self.disk.power.spend()?;
        Ok(state)
    }
}

struct OpenFile(Session, u64);

impl NewFile for OpenFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (first, second) = bytes.split_at(bytes.len() / 2);
        for half in [first, second] {
            let mut state = self.0.enter()?;
            if state.full {
                return Err(Io::StorageFull.into());
            }
            state.node_mut(self.1)?.seen.extend_from_slice(half);
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.0.enter()?;
        if self.0.negligence != Negligence::Files {
            let node = state.node_mut(self.1)?;
            node.synced.clone_from(&node.seen);
        }
        Ok(())
    }
}

impl Disk for Session {
    fn is_slow(&self) -> bool {
        false
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        let mut state = self.enter()?;
        if state.find(path).is_ok() {
            return Err(Io::AlreadyExists.into());
        }
        let id = state.link(path, false)?;
        Ok(Box::new(OpenFile(self.clone(), id)))
    }

    fn read(&self, path: &Path, most: u64) -> io::Result<Whole> {
        let length = self.length(path)?;
        if length > most {
            return Ok(Whole::Longer(length));
        }
        self.read_range(path, 0..length).map(Whole::Bytes)
    }

    fn read_range(&self, path: &Path, range: Range<u64>) -> io::Result<Vec<u8>> {
        let state = self.enter()?;
        let bytes = &state.node(state.find(path)?)?.seen;
        let end = range.end.min(bytes.len() as u64);
        Ok(bytes.get(range.start as usize..end as usize).unwrap_or_default().to_vec())
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        let state = self.enter()?;
        Ok(state.node(state.find(path)?)?.seen.len() as u64)
    }

    fn each(&self, directory: &Path, visit: &mut dyn FnMut(DiskEntry)) -> io::Result<()> {
        let state = self.enter()?;
        let node = state.node(state.find(directory)?)?;
        if !node.is_dir {
            return Err(Io::NotADirectory.into());
        }
        for (name, id) in &node.entries {
            let kind = if state.node(*id)?.is_dir {
                EntryKind::Directory
            } else {
                EntryKind::File
            };
            visit(DiskEntry { name: name.clone(), kind });
        }
        Ok(())
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.enter()?;
        if state.find(path).is_ok() {
            return Err(Io::AlreadyExists.into());
        }
        state.link(path, true).map(drop)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.enter()?;
        let id = state.find(path)?;
        if self.negligence != Negligence::Directories {
            let node = state.node_mut(id)?;
            node.synced_entries.clone_from(&node.entries);
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.enter()?;
        let id = state.find(from)?;
        let (old_parent, old_name) = state.split(from)?;
        let (new_parent, new_name) = state.split(to)?;
        state.node_mut(old_parent)?.entries.remove(&old_name);
        state.node_mut(new_parent)?.entries.insert(new_name, id);
        if state.denied_renames > 0 {
            state.denied_renames -= 1;
            return Err(io::Error::from_raw_os_error(nix::libc::EIO));
        }
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.enter()?;
        state.find(path)?;
        let (parent, name) = state.split(path)?;
        state.node_mut(parent)?.entries.remove(&name);
        Ok(())
    }
}
