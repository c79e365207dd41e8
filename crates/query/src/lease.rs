//! A lease: the private key of one product for a while, and everything that was opened with it.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use parquet::file::metadata::ParquetMetaData;
use seal::{DataKey, PrivateKey, open_key};
use tokio::sync::OnceCell;
use zones::{ObjectName, Zones};

use crate::reader::ReadFailure;
use crate::view::FileView;

/// How many footers are kept. Beyond it all are forgotten: they come back as they are needed.
const MOST_FOOTERS: usize = 20_000;

/// How much memory the footers that are kept take, over all leases that share this.
#[derive(Debug)]
pub struct FooterRoom {
    most: usize,
    used: AtomicUsize,
}

impl FooterRoom {
    /// Of so many bytes.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            used: AtomicUsize::new(0),
        })
    }

    /// How many bytes are taken.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::SeqCst)
    }

    fn take(&self, bytes: usize) -> bool {
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.most);
        self.used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fits).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::SeqCst);
    }
}

/// The right to read one product, for as long as this value lives.
///
/// Invariant: nothing opened with the key is kept anywhere else, so when the last reference is dropped, it is gone.
pub struct Lease {
    private_key: PrivateKey,
    footers: Footers,
}

impl Lease {
    /// A lease on what `private_key` opens, with room for footers of its own.
    pub fn new(private_key: PrivateKey) -> Self {
        Self::sharing(private_key, &FooterRoom::new(crate::QuerySettings::default().footer_bytes))
    }

    /// The same, whose footers share `room` with those of others.
    pub fn sharing(private_key: PrivateKey, room: &Arc<FooterRoom>) -> Self {
        Self {
            private_key,
            footers: Footers::new(Arc::clone(room)),
        }
    }

    /// The product's private key, for opening what is not a file.
    pub fn private_key(&self) -> &PrivateKey {
        &self.private_key
    }

    /// The footers decoded so far.
    pub fn footers(&self) -> &Footers {
        &self.footers
    }

    /// The key of one file.
    pub(crate) fn key_of(&self, file: &FileView) -> Result<DataKey, ReadFailure> {
        open_key(&self.private_key, &file.sealed_key, &file.key_context).map_err(|source| ReadFailure::Key {
            object: file.object.clone(),
            source,
        })
    }

    /// The footer of one file, decoded once however many ask at the same time.
    pub(crate) async fn footer(&self, zones: &Zones, file: &FileView) -> Result<Arc<ParquetMetaData>, ReadFailure> {
        let cell = self.footers.cell(&file.object);
        let load = || async {
            let key = self.key_of(file)?;
            columns::load_footer(zones, &file.object, file.bytes, &key, &file.aad_prefix)
                .await
                .map_err(ReadFailure::Footer)
        };
        let footer = cell.get_or_try_init(load).await.map(Arc::clone)?;
        self.footers.keep(&file.object, &footer);
        Ok(footer)
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("footers", &self.footers.len())
            .finish_non_exhaustive()
    }
}

/// A footer, and what was taken of the room for it.
#[derive(Default)]
struct Kept {
    cell: Arc<OnceCell<Arc<ParquetMetaData>>>,
    taken: usize,
}

/// Decoded footers of one product's files. Each carries the decryptor of its file.
pub struct Footers {
    room: Arc<FooterRoom>,
    kept: Mutex<HashMap<String, Kept>>,
}

impl Footers {
    fn new(room: Arc<FooterRoom>) -> Self {
        Self {
            room,
            kept: Mutex::default(),
        }
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.all().len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all for which `keep` says no: files that were merged away, for example.
    pub fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.all().retain(|object, kept| {
            let stays = keep(object);
            if !stays {
                self.room.give_back(kept.taken);
            }
            stays
        });
    }

    fn cell(&self, object: &ObjectName) -> Arc<OnceCell<Arc<ParquetMetaData>>> {
        let mut all = self.all();
        if all.len() >= MOST_FOOTERS && !all.contains_key(object.as_str()) {
            self.forget(&mut all);
        }
        Arc::clone(&all.entry(object.as_str().to_owned()).or_default().cell)
    }

    /// Keeps a footer that was loaded if there is room for it: if need be in the place of all others of this lease.
    fn keep(&self, object: &ObjectName, footer: &Arc<ParquetMetaData>) {
        let mut all = self.all();
        let Some(kept) = all.get_mut(object.as_str()).filter(|kept| kept.taken == 0) else {
            return;
        };
        let bytes = footer.memory_size().max(1);
        if self.room.take(bytes) {
            kept.taken = bytes;
            return;
        }
        let cell = Arc::clone(&kept.cell);
        self.forget(&mut all);
        if self.room.take(bytes) {
            all.insert(object.as_str().to_owned(), Kept { cell, taken: bytes });
        }
    }

    fn forget(&self, all: &mut HashMap<String, Kept>) {
        let taken = all.drain().map(|(_, kept)| kept.taken).sum();
        self.room.give_back(taken);
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Footers {
    fn drop(&mut self) {
        self.retain(|_| false);
    }
}

impl fmt::Debug for Footers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Footers({})", self.len())
    }
}
