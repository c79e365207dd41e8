//! A lease: the private key of one product for a while, and everything that was opened with it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use parquet::file::metadata::ParquetMetaData;
use seal::{DataKey, PrivateKey, open_key};
use tokio::sync::OnceCell;
use zones::{ObjectName, Zones};

use crate::reader::ReadFailure;
use crate::view::FileView;

/// How many footers are kept. Beyond it all are forgotten: they come back as they are needed.
const MOST_FOOTERS: usize = 20_000;

/// The right to read one product, for as long as this value lives.
///
/// Invariant: nothing opened with the key is kept anywhere else, so when the last reference is dropped, it is gone.
pub struct Lease {
    private_key: PrivateKey,
    footers: Footers,
}

impl Lease {
    /// A lease on what `private_key` opens.
    pub fn new(private_key: PrivateKey) -> Self {
        Self {
            private_key,
            footers: Footers::default(),
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
        cell.get_or_try_init(load).await.map(Arc::clone)
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("footers", &self.footers.len())
            .finish_non_exhaustive()
    }
}

type Footer = Arc<OnceCell<Arc<ParquetMetaData>>>;

/// Decoded footers of one product's files. Each carries the decryptor of its file.
#[derive(Default)]
pub struct Footers(Mutex<HashMap<String, Footer>>);

impl Footers {
    /// How many are kept.
    pub fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all for which `keep` says no: files that were merged away, for example.
    pub fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|object, _| keep(object));
    }

    fn cell(&self, object: &ObjectName) -> Footer {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST_FOOTERS && !all.contains_key(object.as_str()) {
            all.clear();
        }
        Arc::clone(all.entry(object.as_str().to_owned()).or_default())
    }
}

impl fmt::Debug for Footers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Footers({})", self.len())
    }
}
