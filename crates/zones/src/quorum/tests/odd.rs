//! Zones of both kinds that go wrong in every way, and a world of three of them.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::ZoneError;

/// What is the matter with a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    None,
    Absent,
    ReadOnly,
    Full,
    Slow(Duration),
    Hanging,
    Garbage,
    /// It lists the same page again and again.
    Repeats,
    /// It lists more and more that is nowhere.
    Endless,
}

/// A zone with something the matter. It counts what it is asked.
#[derive(Debug)]
pub(super) struct Odd {
    zone: Arc<dyn Zone>,
    trouble: tokio::sync::watch::Sender<Trouble>,
    pub(super) puts: AtomicUsize,
    pub(super) gets: AtomicUsize,
    pub(super) probes: AtomicUsize,
    pub(super) lists: AtomicUsize,
    /// The most names that were ever listed at once, and the most bytes that were read.
    pub(super) longest_page: AtomicUsize,
    pub(super) longest_read: AtomicUsize,
}

impl Odd {
    fn new(zone: Arc<dyn Zone>) -> Self {
        Self {
            zone,
            trouble: tokio::sync::watch::Sender::new(Trouble::None),
            puts: AtomicUsize::new(0),
            gets: AtomicUsize::new(0),
            probes: AtomicUsize::new(0),
            lists: AtomicUsize::new(0),
            longest_page: AtomicUsize::new(0),
            longest_read: AtomicUsize::new(0),
        }
    }

    pub(super) fn has(&self, trouble: Trouble) {
        self.trouble.send_replace(trouble);
    }

    fn down<T>(&self, detail: &str) -> Result<T, ZoneError> {
        Err(ZoneError::Down {
            zone: self.zone.name().to_owned(),
            detail: detail.to_owned(),
        })
    }

    /// What goes wrong with every request.
    async fn enter(&self) -> Result<(), ZoneError> {
        let trouble = *self.trouble.borrow();
        match trouble {
            Trouble::Absent => self.down("the directory is missing"),
            Trouble::Slow(time) => {
                tokio::time::sleep(time).await;
                Ok(())
            }
            Trouble::Hanging => {
                let _ = self.trouble.subscribe().wait_for(|now| *now != Trouble::Hanging).await;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn enter_to_write(&self) -> Result<(), ZoneError> {
        self.enter().await?;
        let trouble = *self.trouble.borrow();
        match trouble {
            Trouble::ReadOnly => self.down("it is read-only"),
            Trouble::Full => self.down("no space is left"),
            _ => Ok(()),
        }
    }

    fn is_garbage(&self) -> bool {
        *self.trouble.borrow() == Trouble::Garbage
    }

    fn read(&self, bytes: Bytes) -> Bytes {
        self.longest_read.fetch_max(bytes.len(), Ordering::SeqCst);
        if !self.is_garbage() {
            return bytes;
        }
        bytes.iter().map(|byte| byte.wrapping_mul(31).wrapping_add(7)).collect()
    }
}

#[async_trait::async_trait]
impl Zone for Odd {
    fn name(&self) -> &str {
        self.zone.name()
    }
    async fn put(&self, name: &ObjectName, bytes: Bytes) -> Result<(), ZoneError> {
        self.puts.fetch_add(1, Ordering::SeqCst);
        self.enter_to_write().await?;
        self.zone.put(name, bytes).await
    }
    async fn get(&self, name: &ObjectName, most: u64) -> Result<Bytes, ZoneError> {
        self.gets.fetch_add(1, Ordering::SeqCst);
        self.enter().await?;
        self.zone.get(name, most).await.map(|bytes| self.read(bytes))
    }
    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, ZoneError> {
        self.enter().await?;
        self.zone.get_range(name, range).await.map(|bytes| self.read(bytes))
    }
    async fn list_page(&self, prefix: &str, after: &str, most: usize) -> Result<Vec<ObjectName>, ZoneError> {
        self.lists.fetch_add(1, Ordering::SeqCst);
        self.enter().await?;
        if *self.trouble.borrow() == Trouble::Endless && !prefix.starts_with("tombstones") {
            let from = self.lists.fetch_add(most, Ordering::SeqCst);
            let names = (from..from + most).map(|number| ObjectName::new("raw/7", &format!("{number:020}"), b"nowhere").unwrap());
            return Ok(names.collect());
        }
        let repeats = *self.trouble.borrow() == Trouble::Repeats;
        let names = self.zone.list_page(prefix, if repeats { "" } else { after }, most).await?;
        self.longest_page.fetch_max(names.len(), Ordering::SeqCst);
        if self.is_garbage() {
            // The same page again and again, with something in it that is nowhere.
            let phantom = ObjectName::new("raw/7", "phantom", b"nowhere").unwrap();
            return Ok(vec![phantom; most]);
        }
        Ok(names)
    }
    async fn delete(&self, name: &ObjectName) -> Result<(), ZoneError> {
        self.enter_to_write().await?;
        self.zone.delete(name).await
    }
    async fn probe(&self) -> Result<(), ZoneError> {
        self.probes.fetch_add(1, Ordering::SeqCst);
        self.enter_to_write().await?;
        self.zone.probe().await
    }
    fn is_complete(&self) -> bool {
        self.zone.is_complete()
    }
    async fn set_complete(&self) -> Result<(), ZoneError> {
        self.enter_to_write().await?;
        self.zone.set_complete().await
    }
}

/// Both kinds of zones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Memory,
    Directory,
}

pub(super) const KINDS: [Kind; 2] = [Kind::Memory, Kind::Directory];

/// Three zones of a kind, and what was put into them.
pub(super) struct OddWorld {
    pub(super) zones: Arc<Zones>,
    pub(super) odd: Vec<Arc<Odd>>,
    memory: Vec<Arc<MemoryZone>>,
    pub(super) directory: tempfile::TempDir,
}

/// For zones that answer, on a machine that may be busy.
pub(super) fn quick() -> ZonesSettings {
    ZonesSettings {
        put_timeout: Duration::from_secs(10),
        read_timeout: Duration::from_secs(10),
        hedge_after: Duration::from_millis(50),
        probe_every: Duration::from_millis(20),
        back_off_to: Duration::from_millis(100),
        max_in_flight: 8,
        ..ZonesSettings::default()
    }
}

/// For zones that do not answer.
pub(super) fn impatient() -> ZonesSettings {
    ZonesSettings {
        put_timeout: Duration::from_millis(1500),
        read_timeout: Duration::from_millis(1500),
        ..quick()
    }
}

impl OddWorld {
    pub(super) fn new(kind: Kind) -> Self {
        Self::with(kind, quick())
    }

    pub(super) fn with(kind: Kind, settings: ZonesSettings) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut memory = Vec::new();
        let odd: Vec<Arc<Odd>> = ["a", "b", "c"]
            .map(|name| {
                let zone: Arc<dyn Zone> = match kind {
                    Kind::Memory => {
                        let zone = Arc::new(MemoryZone::new(name));
                        memory.push(Arc::clone(&zone));
                        zone
                    }
                    Kind::Directory => Arc::new(crate::DirectoryZone::open(name, directory.path().join(name), true)),
                };
                Arc::new(Odd::new(zone))
            })
            .into();
        let each = odd.iter().map(|zone| Arc::clone(zone) as Arc<dyn Zone>).collect();
        Self {
            zones: Zones::new(each, settings, Arc::new(SystemClock)),
            odd,
            memory,
            directory,
        }
    }

    /// Puts `count` objects and waits until every zone has them.
    pub(super) async fn filled(&self, what: &str, count: usize) -> Vec<(ObjectName, Bytes)> {
        let mut all = Vec::new();
        for number in 0..count {
            let (name, bytes) = object(&format!("{what} {number}"));
            self.zones.put(&name, bytes.clone()).await.unwrap();
            all.push((name, bytes));
        }
        eventually(|| all.iter().all(|(name, _)| self.settled(name))).await;
        all
    }

    /// Whether every zone is done with it and has it.
    pub(super) fn settled(&self, name: &ObjectName) -> bool {
        let on_its_way = self.zones.members.iter().any(|member| member.is_on_its_way(name));
        !on_its_way && !self.zones.is_in_flight(name) && self.holders(name) == "abc"
    }

    pub(super) fn path(&self, zone: usize) -> PathBuf {
        self.directory.path().join(["a", "b", "c"][zone])
    }

    fn file(&self, zone: usize, name: &ObjectName) -> PathBuf {
        self.path(zone).join(name.as_str())
    }

    /// What a zone has under a name, whatever is the matter with it.
    pub(super) fn copy(&self, zone: usize, name: &ObjectName) -> Option<Vec<u8>> {
        match self.memory.get(zone) {
            Some(memory) => memory.held(name).map(|bytes| bytes.to_vec()),
            None => std::fs::read(self.file(zone, name)).ok(),
        }
    }

    /// Places bytes in a zone behind everybody's back; none take it away.
    pub(super) fn plant(&self, zone: usize, name: &ObjectName, bytes: Option<&[u8]>) {
        match (self.memory.get(zone), bytes) {
            (Some(memory), Some(bytes)) => memory.plant(name, Bytes::copy_from_slice(bytes)),
            (Some(memory), None) => assert!(memory.lose(name)),
            (None, Some(bytes)) => {
                std::fs::create_dir_all(self.path(zone).join(name.prefix())).unwrap();
                std::fs::write(self.file(zone, name), bytes).unwrap();
            }
            (None, None) => std::fs::remove_file(self.file(zone, name)).unwrap(),
        }
    }

    pub(super) fn flip(&self, zone: usize, name: &ObjectName, bit: usize) {
        let mut bytes = self.copy(zone, name).unwrap();
        bytes[bit / 8] ^= 1 << (bit % 8);
        self.plant(zone, name, Some(&bytes));
    }

    pub(super) fn holders(&self, name: &ObjectName) -> String {
        (0..3)
            .filter(|zone| self.copy(*zone, name).is_some())
            .map(|zone| ["a", "b", "c"][zone])
            .collect()
    }

    pub(super) fn scrubber(&self) -> Arc<Scrubber> {
        Scrubber::new(Arc::clone(&self.zones), self.directory.path(), Arc::new(SystemClock))
    }

    /// A zone as it is now, to be put back later.
    pub(super) fn snapshot(&self, zone: usize) -> Snapshot {
        match self.memory.get(zone) {
            Some(memory) => {
                let held = memory.objects().into_iter();
                Snapshot::Memory(held.map(|name| (name.clone(), memory.held(&name).unwrap())).collect())
            }
            None => {
                let to = tempfile::tempdir().unwrap();
                copy_tree(&self.path(zone), to.path());
                Snapshot::Directory(to)
            }
        }
    }

    /// Puts a zone back to what it was.
    pub(super) fn restore(&self, zone: usize, snapshot: &Snapshot) {
        match snapshot {
            Snapshot::Memory(held) => {
                let memory = &self.memory[zone];
                memory.objects().iter().for_each(|name| assert!(memory.lose(name)));
                held.iter().for_each(|(name, bytes)| memory.plant(name, bytes.clone()));
            }
            Snapshot::Directory(from) => {
                std::fs::remove_dir_all(self.path(zone)).unwrap();
                std::fs::create_dir(self.path(zone)).unwrap();
                copy_tree(from.path(), &self.path(zone));
            }
        }
    }
}

pub(super) enum Snapshot {
    Memory(Vec<(ObjectName, Bytes)>),
    Directory(tempfile::TempDir),
}

fn copy_tree(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&to).unwrap();
            copy_tree(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}
