//! One product's people: the only place that gives ids.
//!
//! Promise: an id is answered only when the journal holds it in a majority of zones and the view knows it; one identity never
//! gets two ids. A task of its own writes, so that a caller who goes away leaves nothing half done; callers who come while it
//! writes are served together by its next append.

mod writer;

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use base::{ErrorKind, PersonId, ProductId, Role, WriterId};
use journal::{Head, HeadError, Journal, JournalParts, JournalSettings, OpenError, RecoverError, Recovered, Tail};
use prost::Message;
use seal::{InstallationKey, PrivateKey, PublicKey};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::facts::PeopleSeen;
use crate::keys::{Hash, ProductKeys};
use crate::links::Rows;
use crate::view::{View, ViewError};

pub(crate) use writer::{GiveError, Newcomer};
use writer::{Wanted, Writer};

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

/// A product's people.
#[derive(Debug)]
pub(crate) struct Ledger {
    view: View,
    journal: Arc<Journal>,
    queue: Mutex<Option<mpsc::Sender<Wanted>>>,
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
        Ok(Self::start(parts, product, view, recovered.tail()))
    }

    /// The people of a product that was never here before.
    pub(crate) async fn begin(parts: &LedgerParts, product: ProductId) -> Result<Self, LedgerOpenError> {
        Ok(Self::start(parts, product, open_view(parts, product).await?, Tail::empty()))
    }

    fn start(parts: &LedgerParts, product: ProductId, view: View, after: Tail) -> Self {
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
            entropy: Arc::clone(&parts.journal.entropy),
            behind: VecDeque::new(),
            incoming,
            grown: Arc::clone(&parts.grown),
        };
        Self {
            view,
            journal,
            queue: Mutex::new(Some(queue)),
            task: Mutex::new(Some(tokio::spawn(task.run()))),
        }
    }

    /// The ids of those that are known.
    pub(crate) async fn find(&self, hashes: &[Hash]) -> Result<HashMap<Hash, PersonId>, ViewError> {
        self.view.find(hashes).await
    }

    /// What is kept, sealed, of those that are known.
    pub(crate) async fn kept(&self, hashes: &[Hash]) -> Result<HashMap<Hash, Vec<u8>>, ViewError> {
        self.view.kept(hashes).await
    }

    /// Who has this id: the hash of one of their identities, and what is kept of it.
    pub(crate) async fn person(&self, id: PersonId) -> Result<Option<(Hash, Vec<u8>)>, ViewError> {
        Ok(self.view.persons(&[id]).await?.remove(&id))
    }

    /// An id for each of these, in order: theirs, that of whoever stands in a row with them, or a new one.
    pub(crate) async fn give(&self, keys: Arc<ProductKeys>, people: Vec<Newcomer>, rows: Rows) -> Result<Vec<PersonId>, GiveError> {
        let queue = self
            .queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .ok_or(GiveError::Closed)?;
        let (reply, given) = oneshot::channel();
        let wanted = Wanted { keys, people, rows, reply };
        queue.send(wanted).await.map_err(|_| GiveError::Closed)?;
        given.await.unwrap_or(Err(GiveError::Closed))
    }

    /// The end of the journal.
    pub(crate) fn head(&self) -> Head {
        self.journal.head()
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
        let mut people = Vec::new();
        for entry in entries {
            people.extend(
                PeopleSeen::decode(entry.payload)
                    .map_err(|_| LedgerOpenError::Form { product })?
                    .people,
            );
        }
        let head = Head {
            length: segment.id.sequence + 1,
            hash: segment.hash,
        };
        let new = view.apply(&head, &people).await.map_err(LedgerOpenError::view(product))?;
        if new < people.len() {
            // Facts are written once: the id that was given first stays.
            tracing::error!(product.id = %product, segment.id = %segment.id, "{} identities had an id already", people.len() - new);
        }
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
