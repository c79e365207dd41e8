//! What all products of this warehouse share.

use std::path::PathBuf;
use std::sync::Arc;

use base::{Clock, Entropy, WriterId};
use edge::{CurrentSigner, Stages};
use journal::JournalParts;
use seal::{DataKey, InstallationKey};
use tokio::sync::Semaphore;
use zones::Zones;

use crate::jobs::Room;
use crate::known::Known;
use crate::memory::Memory;
use crate::settings::WarehouseSettings;

/// Parts handed to every product.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: WarehouseSettings,
    pub(crate) directory: PathBuf,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) zones: Arc<Zones>,
    pub(crate) signer: CurrentSigner,
    pub(crate) installation: InstallationKey,
    /// This start of this process; in the name of every segment it writes.
    pub(crate) writer: WriterId,
    /// Under which senders' batch ids are hashed. Survives restarts, never leaves the warehouse.
    pub(crate) batch_key: DataKey,
    pub(crate) memory: Arc<Memory>,
    /// For merging files: one at a time, so that each has all of it.
    pub(crate) rewriting: Arc<Memory>,
    /// Which objects the catalogs know.
    pub(crate) known: Arc<Known>,
    /// For each job that runs.
    pub(crate) running: Arc<Semaphore>,
    /// What results of jobs take of the disk.
    pub(crate) results: Arc<Room>,
    pub(crate) stages: Stages,
}

impl Shared {
    /// What products' journals are written with.
    pub(crate) fn journal_parts(&self) -> JournalParts {
        let signer = self.signer.clone();
        JournalParts {
            zones: Arc::clone(&self.zones),
            signer: Arc::new(move || signer.get()),
            clock: Arc::clone(&self.clock),
            entropy: Arc::clone(&self.entropy),
        }
    }
}
