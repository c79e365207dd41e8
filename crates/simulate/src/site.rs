//! A zone of the simulation: a place that keeps objects, is away now and then, and loses things. The way to it is in [`crate::door`].

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use zones::{ForgetfulZone, MemoryZone, ObjectName, Power, Zone, ZoneError};

use crate::chance::Chance;
use crate::trace::short;

/// More than any object has.
const MOST: u64 = 1 << 30;

/// How a zone is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It works.
    Well,
    /// It says that it cannot.
    Down,
    /// It can be read and not be written to.
    Full,
    /// What comes stays with it until this is over.
    Hanging,
    /// It takes longer than anybody waits, often.
    Slow,
    /// Every other answer is lost or wrong about whether it is done.
    Unclear,
}

/// Where a zone keeps what it has.
#[derive(Debug)]
enum Store {
    Memory(MemoryZone),
    /// A disk that forgets what was not synced.
    Disk(ForgetfulZone),
}

/// One zone, for all processes.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) name: String,
    store: Mutex<Arc<Store>>,
    condition: Mutex<Condition>,
    changed: Notify,
    /// Turns that were taken in it, where it is a store.
    turns: Mutex<BTreeSet<u64>>,
    /// What it held at some time, to come back with.
    copy: Mutex<Vec<(ObjectName, Bytes)>>,
}

impl Site {
    pub(crate) fn new(name: &str, disk: Option<&Power>) -> Arc<Self> {
        let store = match disk {
            Some(power) => Store::Disk(ForgetfulZone::new(name, power)),
            None => Store::Memory(MemoryZone::new(name)),
        };
        Arc::new(Self {
            name: name.to_owned(),
            store: Mutex::new(Arc::new(store)),
            condition: Mutex::new(Condition::Well),
            changed: Notify::new(),
            turns: Mutex::default(),
            copy: Mutex::default(),
        })
    }

    pub(crate) fn condition(&self) -> Condition {
        *lock(&self.condition)
    }

    pub(crate) fn set(&self, condition: Condition) {
        *lock(&self.condition) = condition;
        self.changed.notify_waiters();
    }

    fn store(&self) -> Arc<Store> {
        Arc::clone(&lock(&self.store))
    }

    /// Whether it was filled, whatever its condition.
    pub(crate) fn is_complete(&self) -> bool {
        self.store().zone().is_complete()
    }

    /// All it holds, whatever its condition.
    pub(crate) async fn objects(&self) -> Vec<ObjectName> {
        self.store().zone().list("").await.unwrap_or_default()
    }

    /// Its copy as it is.
    pub(crate) async fn read(&self, name: &ObjectName) -> Option<Bytes> {
        self.store().zone().get(name, MOST).await.ok()
    }

    /// It loses one object.
    pub(crate) async fn lose(&self, name: &ObjectName) {
        // Whatever the simulated disk says: where it fails there is nothing to lose.
        drop(self.store().zone().delete(name).await);
    }

    /// One bit of an object is another.
    pub(crate) async fn flip(&self, name: &ObjectName, chance: &Chance) {
        let Some(bytes) = self.read(name).await.filter(|bytes| !bytes.is_empty()) else {
            return;
        };
        let (mut bytes, at) = (bytes.to_vec(), chance.below(bytes.len() as u64) as usize);
        bytes[at] ^= 1 << chance.below(8);
        drop(self.store().zone().put(name, bytes.into()).await);
    }

    /// Somebody makes a copy of it.
    pub(crate) async fn copy(&self) {
        let mut copy = Vec::new();
        for name in self.objects().await {
            if let Some(bytes) = self.read(&name).await {
                copy.push((name, bytes));
            }
        }
        *lock(&self.copy) = copy;
    }

    /// It is what it was when it was copied, nothing at all if it never was.
    pub(crate) async fn restore(&self) {
        let store = self.store();
        for name in self.objects().await {
            drop(store.zone().delete(&name).await);
        }
        let copy = lock(&self.copy).clone();
        for (name, bytes) in copy {
            drop(store.zone().put(&name, bytes).await);
        }
    }

    /// It is lost, and an empty one is put in its place, to be filled. Not where it is a disk. Says whether.
    pub(crate) fn replace(&self) -> bool {
        match &*self.store() {
            Store::Memory(zone) => {
                zone.replace();
                true
            }
            Store::Disk(_) => false,
        }
    }

    /// The power was off: what was not synced is there or not, each for itself.
    pub(crate) fn crash(&self, chance: &Chance) {
        let crashed = match &*self.store() {
            Store::Memory(_) => return,
            Store::Disk(disk) => Store::Disk(disk.crash_by_chance(chance)),
        };
        *lock(&self.store) = Arc::new(crashed);
    }

    /// Waits while it hangs.
    pub(crate) async fn admitted(&self) {
        loop {
            let changed = self.changed.notified();
            if self.condition() != Condition::Hanging {
                return;
            }
            changed.await;
        }
    }

    /// Does it, as well as it can now.
    pub(crate) async fn perform(&self, ask: &Ask) -> Result<Answer, ZoneError> {
        let refused = |detail: &str| ZoneError::Down {
            zone: self.name.clone(),
            detail: detail.into(),
        };
        match (self.condition(), ask) {
            (Condition::Down, _) => return Err(refused("it is away")),
            (Condition::Full, Ask::Put(..) | Ask::Delete(_) | Ask::Probe | Ask::SetComplete | Ask::CreateTurn(_)) => {
                return Err(refused("it is full"));
            }
            _ => {}
        }
        let store = self.store();
        let zone = store.zone();
        Ok(match ask {
            Ask::Put(name, bytes) => Answer::done(zone.put(name, bytes.clone()).await?),
            Ask::Get(name, most) => Answer::Bytes(zone.get(name, *most).await?),
            Ask::Range(name, range) => Answer::Bytes(zone.get_range(name, range.clone()).await?),
            Ask::List(prefix, after, most) => Answer::Names(zone.list_page(prefix, after, *most).await?),
            Ask::Delete(name) => Answer::done(zone.delete(name).await?),
            Ask::Probe => Answer::done(zone.probe().await?),
            Ask::SetComplete => Answer::done(zone.set_complete().await?),
            Ask::Turns => Answer::Turns(lock(&self.turns).iter().copied().collect()),
            Ask::CreateTurn(turn) => Answer::Whether(lock(&self.turns).insert(*turn)),
            Ask::IsTaken(turn) => Answer::Whether(lock(&self.turns).contains(turn)),
        })
    }
}

impl Store {
    fn zone(&self) -> &dyn Zone {
        match self {
            Self::Memory(zone) => zone,
            Self::Disk(zone) => zone,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a process asks of a zone.
#[derive(Debug)]
pub(crate) enum Ask {
    Put(ObjectName, Bytes),
    Get(ObjectName, u64),
    Range(ObjectName, Range<u64>),
    List(String, String, usize),
    Delete(ObjectName),
    Probe,
    SetComplete,
    Turns,
    CreateTurn(u64),
    IsTaken(u64),
}

/// What it says.
#[derive(Debug)]
pub(crate) enum Answer {
    Done,
    Bytes(Bytes),
    Names(Vec<ObjectName>),
    Turns(Vec<u64>),
    Whether(bool),
}

impl Answer {
    fn done((): ()) -> Self {
        Self::Done
    }
}

impl Ask {
    /// For the trace.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Put(name, bytes) => format!("put {} of {} bytes", short(name), bytes.len()),
            Self::Get(name, _) => format!("get {}", short(name)),
            Self::Range(name, range) => format!("get {} {range:?}", short(name)),
            Self::List(prefix, after, _) => format!("list {prefix:?} after {after:?}"),
            Self::Delete(name) => format!("delete {}", short(name)),
            Self::Probe => "probe".into(),
            Self::SetComplete => "note that it is complete".into(),
            Self::Turns => "list turns".into(),
            Self::CreateTurn(turn) => format!("create turn {turn}"),
            Self::IsTaken(turn) => format!("get turn {turn}"),
        }
    }
}
