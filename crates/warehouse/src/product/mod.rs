//! One product: its journal, its catalog, and the rows that are in no file yet.
//!
//! Invariant: what [`Product::append`] accepted is in the journal of a majority of zones *and* in [`State`], so that the next
//! [`Product::view`] shows it. Rows leave the state's memory only in the same step in which a file with them enters it.

mod append;
pub(crate) mod aside;
mod changes;
mod checkpoint;
mod compact;
mod condemned;
pub(crate) mod drop;
mod flush;
mod pauses;
mod purge;
mod readers;
pub(crate) mod rebuild;
mod records;
mod recover;
mod retention;
mod retype;
mod shape;
mod state;
mod swaps;
mod tables;
#[cfg(test)]
mod tests;
mod trim;

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use base::{ErrorKind, ProductId, Scope};
use columns::catalog::{Catalog, CatalogError};
use edge::kind_of;
use journal::{AppendError, Journal, OpenError, RecoverError, TrimError};
use query::{DatabaseView, ProductView, TableView};
use seal::{PrivateKey, PublicKey, SealError};
use wire::v1::Head;

pub(crate) use compact::SPOOLS;
pub(crate) use flush::{LOOK_EVERY, chain};
pub(crate) use state::DatabaseSummary;
use state::State;

use crate::shared::Shared;

/// Why something could not be done to a product.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProductError {
    #[error("{what} {name:?} does not exist")]
    NotFound { what: &'static str, name: String },
    #[error("{what} {name:?} exists already")]
    Exists { what: &'static str, name: String },
    #[error("{what} {name:?} exists already: bring the dropped one back under another name (as), or drop the one that is there")]
    NameTaken { what: &'static str, name: String },
    #[error("what is declared of the table was changed by somebody else meanwhile; look at it again, then change it")]
    DeclaredMeanwhile,
    #[error("{0}")]
    Invalid(String),
    #[error("more rows are waiting to be written to files than memory allows, send this again in a few seconds")]
    MemoryFull,
    #[error("the batch takes {bytes} bytes of memory, at most {limit} are possible: send it in smaller parts")]
    BatchTooLarge { bytes: usize, limit: usize },
    #[error(transparent)]
    Adapt(#[from] events::AdaptError),
    #[error("the vault could not be asked for the product's key")]
    Vault(#[source] Box<tonic::Status>),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error("the change is in the journal and not made yet: it will be once the catalog can be written, try again")]
    Postponed(#[source] CatalogError),
    #[error(transparent)]
    Journal(#[from] AppendError),
    #[error(transparent)]
    Recover(#[from] RecoverError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Trim(#[from] TrimError),
    #[error("the journal was signed rightly but cannot be read: {0}")]
    Unreadable(String),
    #[error("the product's public key cannot be used")]
    Seal(#[from] SealError),
    #[error("could not write a file: {0}")]
    File(String),
    #[error(transparent)]
    Rows(#[from] query::FileError),
    #[error("a file that is being merged could not be kept in the role's directory")]
    Spool(#[source] std::io::Error),
    #[error("it was told to stop")]
    Stopped,
    #[error(transparent)]
    Zones(#[from] zones::PutError),
    #[error("the directory of the product could not be made")]
    Directory(#[source] std::io::Error),
    #[error("{0}")]
    Internal(&'static str),
}

impl ProductError {
    /// What the caller can do about it.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Exists { .. } | Self::NameTaken { .. } | Self::DeclaredMeanwhile => ErrorKind::Conflict,
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::BatchTooLarge { .. } => ErrorKind::TooLarge,
            Self::MemoryFull => ErrorKind::TooMuch,
            Self::Vault(status) => kind_of(status),
            Self::Adapt(source) => source.kind(),
            Self::Catalog(source) | Self::Postponed(source) => source.kind(),
            Self::Journal(source) => source.kind(),
            Self::Recover(source) => source.kind(),
            Self::Open(source) => source.kind(),
            Self::Trim(source) => source.kind(),
            Self::Unreadable(_) => ErrorKind::Corrupt,
            Self::Seal(source) => source.kind(),
            Self::Zones(source) => source.kind(),
            Self::Rows(source) => source.kind(),
            Self::Directory(_) | Self::Spool(_) | Self::Stopped => ErrorKind::Unavailable,
            Self::File(_) | Self::Internal(_) => ErrorKind::Internal,
        }
    }
}

/// What a product begins with.
struct Begun {
    state: State,
    /// Up to where the journal need not be read again.
    after: journal::Head,
    /// When something was last written before, as its writer said.
    latest: base::Timestamp,
}

/// One product, open.
pub(crate) struct Product {
    pub(crate) id: ProductId,
    pub(crate) public_key: PublicKey,
    shared: Arc<Shared>,
    journal: Journal,
    catalog: Catalog,
    state: RwLock<State>,
    /// Held while databases and tables are made and deleted, and while files are swapped in: they must not cross.
    control: tokio::sync::Mutex<changes::Changes>,
    /// Held while a table's rows are written to a file, and while merged files are swapped in.
    writing: tokio::sync::Mutex<()>,
    /// Held while rows from before a restart are read back.
    unsealing: tokio::sync::Mutex<()>,
    looked: records::Looked,
    /// Held while a table's rows are read again under what was declared.
    retyping: tokio::sync::Mutex<()>,
    /// Which tables could not be merged, or read again, a moment ago.
    merging: pauses::Pauses<base::TableId>,
    rereading: pauses::Pauses<base::TableId>,
    /// Who may be reading files.
    readers: readers::Readers,
    condemned: condemned::Condemned,
    checkpoints: checkpoint::Checkpoints,
    /// What time it is at least, and at most.
    pace: purge::Pace,
    trimming: trim::Trimming,
    #[cfg(test)]
    merge_peak: std::sync::atomic::AtomicUsize,
    #[cfg(test)]
    merge_cells: std::sync::atomic::AtomicUsize,
}

impl Product {
    /// Opens it: reads the catalog, and from the journal what the catalog does not cover. Opens no payload.
    pub(crate) async fn open(
        id: ProductId,
        public_key: PublicKey,
        shared: Arc<Shared>,
        remembered: Option<&Head>,
    ) -> Result<Arc<Self>, ProductError> {
        let directory = shared.directory.join("products").join(id.to_string());
        tokio::fs::create_dir_all(&directory).await.map_err(ProductError::Directory)?;
        compact::spool::clear(&directory.join(compact::SPOOLS)).await;
        let catalog = Catalog::open(&directory.join("catalog.db")).await?;
        let left = catalog.condemn_staged().await?;
        if left > 0 {
            tracing::info!(product.id = %id, objects = left, "files that were begun before this start and came to nothing will be deleted");
        }
        shared.known.add(catalog.objects().await?);
        let after = checkpoint::load(&catalog).await?;
        let recover::Found { state, tail, latest } = recover::recover(id, &shared, &catalog, &after, remembered).await?;
        let journal = Journal::start(
            shared.journal_parts(),
            shared.settings.journal.clone(),
            &journal_name(id),
            Some(id),
            public_key,
            shared.writer,
            tail,
        );
        let product = Arc::new(Self::of_parts(
            id,
            public_key,
            shared,
            journal,
            catalog,
            Begun { state, after, latest },
        ));
        product.retype_quick().await;
        Ok(product)
    }

    fn of_parts(id: ProductId, public_key: PublicKey, shared: Arc<Shared>, journal: Journal, catalog: Catalog, begun: Begun) -> Self {
        let Begun { state, after, latest } = begun;
        let pace = purge::Pace::begin(Arc::clone(&shared.clock), latest);
        Self {
            id,
            public_key,
            shared,
            journal,
            catalog,
            state: RwLock::new(state),
            control: tokio::sync::Mutex::default(),
            writing: tokio::sync::Mutex::default(),
            unsealing: tokio::sync::Mutex::default(),
            looked: records::Looked::default(),
            retyping: tokio::sync::Mutex::default(),
            merging: pauses::Pauses::default(),
            rereading: pauses::Pauses::default(),
            readers: readers::Readers::default(),
            condemned: condemned::Condemned::default(),
            checkpoints: checkpoint::Checkpoints::after(after),
            pace,
            trimming: trim::Trimming::default(),
            #[cfg(test)]
            merge_peak: std::sync::atomic::AtomicUsize::new(0),
            #[cfg(test)]
            merge_cells: std::sync::atomic::AtomicUsize::new(0),
        }
    }

    /// The catalog, for what the role keeps beside it.
    pub(crate) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// What a query sees now: everything acknowledged so far, within `scope`.
    ///
    /// Reads back rows from before a restart first, which is why it needs the private key.
    pub(crate) async fn view(self: &Arc<Self>, scope: &Scope, key: &PrivateKey) -> Result<ProductView, ProductError> {
        self.unseal(key).await?;
        let (mut databases, mut cut) = (Vec::new(), false);
        {
            let state = self.read();
            let reader: query::Held = self.readers.enter();
            for name in state.databases.keys().filter(|name| scope.allows(name)) {
                let tables = state.tables_of(name).map(|table| {
                    let from = self.shown_from(&state, table);
                    cut |= from.is_some();
                    let view = TableView {
                        name: table.name.to_string(),
                        schema: table.schema.arrow_schema(),
                        memory: table.memory.iter().map(|part| part.shaped.rows.clone()).collect(),
                        files: self.files_shown(table, from, &reader),
                    };
                    (view, from)
                });
                databases.push((name.to_string(), tables.collect::<Vec<_>>()));
            }
        }
        let cut_off = move || {
            let table = |(mut view, from): (TableView, Option<i64>)| {
                let rows = std::mem::take(&mut view.memory).into_iter();
                view.memory = rows.map(|rows| retention::not_before(rows, from)).collect::<Result<_, _>>()?;
                Ok(view)
            };
            let database = |(name, tables): (String, Vec<_>)| {
                let tables = tables.into_iter().map(table).collect::<Result<_, ProductError>>()?;
                Ok(DatabaseView { name, tables })
            };
            let databases = databases.into_iter().map(database).collect::<Result<_, ProductError>>()?;
            Ok(ProductView { databases })
        };
        // Only where rows have to be looked at for how old they are does it take time.
        if cut { shape::blocking(cut_off).await } else { cut_off() }
    }

    /// The databases within `scope`, by name.
    pub(crate) fn databases(&self, scope: &Scope) -> Vec<DatabaseSummary> {
        let state = self.read();
        state
            .databases
            .keys()
            .filter(|name| scope.allows(name))
            .map(|name| state.database_summary(name))
            .collect()
    }

    /// The journal's head.
    #[cfg(test)]
    pub(crate) fn head(&self) -> Head {
        self.told(self.journal.head())
    }

    /// The journal's head, to be remembered elsewhere; none while the end that was found at the start may give way to another.
    pub(crate) fn decided(&self) -> Option<Head> {
        self.journal.decided().map(|head| self.told(head))
    }

    fn told(&self, head: journal::Head) -> Head {
        Head {
            journal: journal_name(self.id),
            length: head.length,
            hash: head.hash.to_vec(),
        }
    }

    /// Writes what is in memory to files and closes the journal. Nothing is lost if this fails: the journal has it.
    pub(crate) async fn close(&self) {
        self.flush_all().await;
        // One that was begun before, then one at the end.
        for _ in 0..4 {
            self.advance_checkpoint().await;
        }
        self.journal.close().await;
        self.catalog.close().await;
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What stands before the names of all products' journals in the zones.
pub(crate) const JOURNALS: &str = "raw";

/// The name of a product's journal in the zones.
pub(crate) fn journal_name(product: ProductId) -> String {
    format!("{JOURNALS}/{product}")
}
