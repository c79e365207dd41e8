//! One product's people: the only place that gives ids.
//!
//! Promise: an id is answered only when the journal holds it in a majority of zones and the view knows it; one identity never
//! gets two ids. A task of its own writes, so that a caller who goes away leaves nothing half done; callers who come while it
//! writes are served together by its next append.

mod erasing;
mod moving;
mod writer;

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use base::{ErrorKind, PersonId, ProductId, Role, WriterId};
use journal::{Head, HeadError, Journal, JournalParts, JournalSettings, OpenError, RecoverError, Recovered, Tail};
use seal::{InstallationKey, PrivateKey, PublicKey};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::facts::{Entry, SealedRing};
use crate::index::Index;
use crate::keys::{Hash, ProductKeys};
use crate::links::Rows;
use crate::look;
use crate::ring::{Person, Ring};
use crate::view::{Stone, View, ViewError};

pub(crate) use erasing::Gone;
use writer::{Command, Wanted, Writer};
pub(crate) use writer::{GiveError, Newcomer};

/// The prefix of all journals of this role.
pub(crate) const JOURNALS: &str = "people";
/// Callers who may wait.
const MOST_WAITING: usize = 256;

/// The name of a product's journal.
pub(crate) fn journal_name(product: ProductId) -> String {
    format!("{JOURNALS}/{product}")
}

/// What ledgers work with.
#[derive(Clone)]
pub(crate) struct LedgerParts {
    pub(crate) journal: JournalParts,
    pub(crate) settings: JournalSettings,
    pub(crate) installation: InstallationKey,
    pub(crate) seal_to: PublicKey,
    pub(crate) writer: WriterId,
    /// Where the views lie.
    pub(crate) directory: PathBuf,
    /// Told after every append.
    pub(crate) grown: Arc<Notify>,
}

/// Why a product's people could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum LedgerOpenError {
    /// The journal.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// It is not what the vault remembers.
    #[error("the journal of product {product}'s people is not the one that the vault remembers: {source}")]
    Head {
        /// The product.
        product: ProductId,
        /// What is wrong.
        source: HeadError,
    },
    /// A segment.
    #[error("a segment of product {product}'s people does not open")]
    Open {
        /// The product.
        product: ProductId,
        /// Why.
        source: OpenError,
    },
    /// What is in a segment.
    #[error("a segment of product {product}'s people is not in the form it should have")]
    Form {
        /// The product.
        product: ProductId,
    },
    /// The database.
    #[error("the database of product {product}'s people cannot be used: {why}")]
    View {
        /// The product.
        product: ProductId,
        /// What the caller can do about it.
        kind: ErrorKind,
        /// Why.
        why: String,
    },
}

impl LedgerOpenError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Recover(source) => source.kind(),
            Self::Head { source, .. } => source.kind(),
            Self::Open { source, .. } => source.kind(),
            Self::Form { .. } => ErrorKind::Corrupt,
            Self::View { kind, .. } => *kind,
        }
    }

    fn view(product: ProductId) -> impl Fn(ViewError) -> Self {
        move |error| Self::View {
            product,
            kind: error.kind(),
            why: chain(&error),
        }
    }
}

/// What of the writer everybody sees.
#[derive(Debug, Default)]
struct State {
    ring: Mutex<Option<Arc<SealedRing>>>,
    /// There is a keyring, and nothing is of the first form any more.
    ready: AtomicBool,
    index: Index,
}

impl State {
    fn ring(&self) -> Option<Arc<SealedRing>> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn put_ring(&self, ring: SealedRing) {
        *self.ring.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(ring));
    }
}

/// A product's people.
#[derive(Debug)]
pub(crate) struct Ledger {
    view: View,
    journal: Arc<Journal>,
    state: Arc<State>,
    /// Held by whoever erases: one at a time.
    pub(crate) erasing: tokio::sync::Mutex<()>,
    queue: Mutex<Option<mpsc::Sender<Command>>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Ledger {
    /// The people of a product that may have been here before: the view is brought up to the journal, which is compared with
    /// the head that the vault remembers.
    pub(crate) async fn recover(
        parts: &LedgerParts,
        product: ProductId,
        with: &PrivateKey,
        remembered: Option<&Head>,
    ) -> Result<Self, LedgerOpenError> {
        let failed = LedgerOpenError::view(product);
        let view = open_view(parts, product).await?;
        let applied = view.applied().await.map_err(&failed)?;
        let (zones, key, name) = (&parts.journal.zones, &parts.installation, journal_name(product));
        let recovered = journal::recover_after(zones, key, Role::Identity, &name, Some(product), &applied).await?;
        if let Some(remembered) = remembered {
            recovered
                .check_head(remembered)
                .map_err(|source| LedgerOpenError::Head { product, source })?;
        }
        replay(parts, product, with, &recovered, &view).await?;
        Self::start(parts, product, view, recovered.tail()).await
    }

    /// The people of a product that was never here before.
    pub(crate) async fn begin(parts: &LedgerParts, product: ProductId) -> Result<Self, LedgerOpenError> {
        Self::start(parts, product, open_view(parts, product).await?, Tail::empty()).await
    }

    async fn start(parts: &LedgerParts, product: ProductId, view: View, after: Tail) -> Result<Self, LedgerOpenError> {
        let failed = LedgerOpenError::view(product);
        let ring = view.ring().await.map_err(&failed)?;
        let is_second = !view.has_first().await.map_err(&failed)? && !view.is_untrimmed().await.map_err(&failed)?;
        let state = Arc::new(State {
            ready: AtomicBool::new(ring.is_some() && is_second),
            ring: Mutex::new(ring.map(Arc::new)),
            index: Index::default(),
        });
        let name = journal_name(product);
        let (journal, settings) = (parts.journal.clone(), parts.settings.clone());
        let journal = Arc::new(Journal::start(
            journal,
            settings,
            &name,
            Some(product),
            parts.seal_to,
            parts.writer,
            after,
        ));
        let (queue, incoming) = mpsc::channel(MOST_WAITING);
        let task = Writer {
            product,
            journal: Arc::clone(&journal),
            view: view.clone(),
            parts: parts.clone(),
            state: Arc::clone(&state),
            behind: VecDeque::new(),
            unindexed: Vec::new(),
            incoming,
        };
        Ok(Self {
            view,
            journal,
            state,
            erasing: tokio::sync::Mutex::default(),
            queue: Mutex::new(Some(queue)),
            task: Mutex::new(Some(tokio::spawn(task.run()))),
        })
    }

    /// The keyring there is now, if there is one.
    pub(crate) fn ring(&self) -> Option<Arc<SealedRing>> {
        self.state.ring()
    }

    /// Whether anybody can be looked up: there is a keyring, all are under it, and the index is here.
    pub(crate) fn is_ready(&self) -> bool {
        self.state.ready.load(Ordering::Acquire) && self.state.index.is_there()
    }

    /// The ids of those that are known, in order. `None` while nobody can be looked up.
    pub(crate) fn find(&self, hashes: &[Hash]) -> Option<Vec<Option<PersonId>>> {
        self.state.index.find(hashes)
    }

    /// Forgets who is who, until somebody with a lease asks again.
    pub(crate) fn forget_index(&self) {
        self.state.index.clear();
    }

    /// What is kept of these people.
    pub(crate) async fn persons(&self, ring: &Arc<Ring>, ids: &[PersonId]) -> Result<HashMap<PersonId, Person>, ViewError> {
        look::persons(&self.view, ring, ids).await
    }

    /// What is left of somebody, if they were erased.
    pub(crate) async fn stone(&self, id: PersonId) -> Result<Option<Stone>, ViewError> {
        self.view.stone(id).await
    }

    /// Makes the first keyring, brings under it what is of the first form, and makes the index.
    pub(crate) async fn prepare(&self, keys: Arc<ProductKeys>) -> Result<(), GiveError> {
        let (reply, done) = oneshot::channel();
        self.send(Command::Prepare { keys, reply }).await?;
        done.await.unwrap_or(Err(GiveError::Closed))
    }

    /// Forgets somebody, with a keyring of `epoch`. `None` when nobody has that id. What the vault has of the epoch before is for the caller
    /// to have dropped: until then nothing is erased.
    pub(crate) async fn erase(&self, keys: Arc<ProductKeys>, id: PersonId, epoch: u64) -> Result<Option<Gone>, GiveError> {
        let (reply, done) = oneshot::channel();
        self.send(Command::Erase { keys, id, epoch, reply }).await?;
        done.await.unwrap_or(Err(GiveError::Closed))
    }

    async fn send(&self, command: Command) -> Result<(), GiveError> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        queue.ok_or(GiveError::Closed)?.send(command).await.map_err(|_| GiveError::Closed)
    }

    /// An id for each of these, in order: theirs, that of whoever stands in a row with them, or a new one.
    pub(crate) async fn give(&self, keys: Arc<ProductKeys>, people: Vec<Newcomer>, rows: Rows) -> Result<Vec<PersonId>, GiveError> {
        let (reply, given) = oneshot::channel();
        self.send(Command::Give(Wanted { keys, people, rows, reply })).await?;
        given.await.unwrap_or(Err(GiveError::Closed))
    }

    /// The end of the journal, for others to remember; none while the one that was found at the start may give way to another.
    pub(crate) fn decided(&self) -> Option<Head> {
        self.journal.decided()
    }

    /// How many people there are.
    #[cfg(test)]
    pub(crate) async fn count(&self) -> u64 {
        self.view.count().await.expect("the view can be read")
    }

    /// Finishes what was begun, and takes nothing more.
    pub(crate) async fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!("the writer of a product's people broke off: {error}");
        }
        self.journal.close().await;
        self.view.close().await;
    }
}

async fn open_view(parts: &LedgerParts, product: ProductId) -> Result<View, LedgerOpenError> {
    View::open(&parts.directory.join(format!("{product}.sqlite")))
        .await
        .map_err(LedgerOpenError::view(product))
}

/// Puts into the view what the journal has and the view lacks, as after a crash between the two.
async fn replay(
    parts: &LedgerParts,
    product: ProductId,
    with: &PrivateKey,
    recovered: &Recovered,
    view: &View,
) -> Result<(), LedgerOpenError> {
    for segment in &recovered.segments {
        let entries = segment
            .open(&parts.journal.zones, with)
            .await
            .map_err(|source| LedgerOpenError::Open { product, source })?;
        let entries: Option<Vec<_>> = entries.iter().map(Entry::decode).collect();
        let entries = entries.ok_or(LedgerOpenError::Form { product })?;
        let head = Head {
            length: segment.id.sequence + 1,
            hash: segment.hash,
        };
        view.apply(&head, &entries).await.map_err(LedgerOpenError::view(product))?;
    }
    if !recovered.segments.is_empty() {
        tracing::info!(product.id = %product, segments = recovered.segments.len(), "replayed people of product {product}");
    }
    Ok(())
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
