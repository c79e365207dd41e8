//! The task that gives ids: whoever waits while it writes is served by its next append.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use base::{Entropy, ErrorKind, PersonId, ProductId, Secret};
use bytes::Bytes;
use journal::{AppendError, Entry, Head, Journal};
use prost::Message;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::facts::{PeopleSeen, PersonSeen};
use crate::keys::{Hash, ProductKeys};
use crate::view::{View, ViewError};

/// New people in one entry: far below what a journal takes at once, whatever their identities' length.
const MOST_IN_ENTRY: usize = 16_384;
/// Identities served by one append, unless one caller alone asks for more.
const MOST_TOGETHER: usize = 100_000;

/// Why no ids were given.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum GiveError {
    #[error("the new people could not be written down: {0}")]
    Append(#[from] AppendError),
    #[error("{0}")]
    View(Arc<ViewError>),
    #[error("the identity role is stopping")]
    Closed,
}

impl GiveError {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            // An entry is far smaller than a journal takes: "too large" would be our mistake, not the caller's.
            Self::Append(AppendError::TooLarge { .. }) => ErrorKind::Internal,
            Self::Append(error) => error.kind(),
            Self::View(error) => error.kind(),
            Self::Closed => ErrorKind::Unavailable,
        }
    }
}

impl From<ViewError> for GiveError {
    fn from(error: ViewError) -> Self {
        Self::View(Arc::new(error))
    }
}

/// What one caller waits for.
pub(super) struct Wanted {
    pub(super) keys: Arc<ProductKeys>,
    pub(super) people: Vec<(Hash, Secret)>,
    pub(super) reply: oneshot::Sender<Result<Vec<PersonId>, GiveError>>,
}

pub(super) struct Writer {
    pub(super) product: ProductId,
    pub(super) journal: Arc<Journal>,
    pub(super) view: View,
    pub(super) entropy: Arc<dyn Entropy>,
    /// In the journal and not yet in the view, because that failed. Nothing is given before they are.
    pub(super) behind: VecDeque<(Head, Vec<PersonSeen>)>,
    pub(super) incoming: mpsc::Receiver<Wanted>,
    pub(super) grown: Arc<Notify>,
}

impl Writer {
    pub(super) async fn run(mut self) {
        while let Some(first) = self.incoming.recv().await {
            let mut together = first.people.len();
            let mut callers = vec![first];
            while together < MOST_TOGETHER
                && let Ok(next) = self.incoming.try_recv()
            {
                together += next.people.len();
                callers.push(next);
            }
            let given = self.serve(&callers).await;
            if let Err(error) = &given {
                tracing::warn!(product.id = %self.product, error = %error, "gave no ids for product {}", self.product);
            }
            for caller in callers {
                let answer = match &given {
                    Ok(ids) => caller
                        .people
                        .iter()
                        .map(|(hash, _)| ids.get(hash).copied().ok_or(GiveError::Closed))
                        .collect(),
                    Err(error) => Err(error.clone()),
                };
                // Whoever went away finds the ids next time.
                let _ = caller.reply.send(answer);
            }
        }
    }

    async fn serve(&mut self, callers: &[Wanted]) -> Result<HashMap<Hash, PersonId>, GiveError> {
        self.catch_up().await?;
        let wanted = || {
            callers
                .iter()
                .flat_map(|caller| caller.people.iter().map(move |person| (&caller.keys, person)))
        };
        let hashes: Vec<Hash> = wanted().map(|(_, (hash, _))| *hash).collect::<HashSet<_>>().into_iter().collect();
        let mut ids = self.view.find(&hashes).await?;
        let mut asked = HashSet::new();
        let new: Vec<_> = wanted()
            .filter(|(_, (hash, _))| !ids.contains_key(hash) && asked.insert(*hash))
            .map(|(keys, (hash, identity))| (Arc::clone(keys), *hash, identity.clone()))
            .collect();
        for chunk in new.chunks(MOST_IN_ENTRY) {
            self.write_down(chunk.to_vec(), &mut ids).await?;
        }
        Ok(ids)
    }

    async fn write_down(&mut self, new: Vec<(Arc<ProductKeys>, Hash, Secret)>, ids: &mut HashMap<Hash, PersonId>) -> Result<(), GiveError> {
        let fresh = self.fresh_ids(new.len()).await?;
        let given: Vec<(Hash, PersonId)> = new.iter().map(|(_, hash, _)| *hash).zip(fresh.iter().copied()).collect();
        let entropy = Arc::clone(&self.entropy);
        let sealing = tokio::task::spawn_blocking(move || {
            let person = |((keys, hash, identity), id): (&(Arc<ProductKeys>, Hash, Secret), &PersonId)| PersonSeen {
                hash: hash.to_vec(),
                id: id.get(),
                sealed: keys.seal(hash, identity, &*entropy),
            };
            let people = PeopleSeen {
                people: new.iter().zip(&fresh).map(person).collect(),
            };
            (Bytes::from(people.encode_to_vec()), people.people)
        });
        let (payload, people) = sealing.await.map_err(|_| GiveError::Closed)?;
        let segment = self.journal.append(Entry::sealed(payload)).await?;
        // Nobody else appends, so the journal's end is this entry's segment.
        let head = self.journal.head();
        debug_assert_eq!(head.length, segment.sequence + 1);
        self.behind.push_back((head, people));
        self.grown.notify_one();
        self.catch_up().await?;
        ids.extend(given);
        Ok(())
    }

    /// Random ids that nobody of this product has.
    async fn fresh_ids(&self, count: usize) -> Result<Vec<PersonId>, ViewError> {
        loop {
            let ids: HashSet<PersonId> = std::iter::repeat_with(|| PersonId::random(&*self.entropy)).take(count).collect();
            let ids: Vec<PersonId> = ids.into_iter().collect();
            // Among some billions of people one in many batches meets an id that is taken: then all are drawn again.
            if ids.len() == count && self.view.taken(&ids).await?.is_empty() {
                return Ok(ids);
            }
        }
    }

    async fn catch_up(&mut self) -> Result<(), ViewError> {
        while let Some((head, people)) = self.behind.front() {
            self.view.apply(head, people).await?;
            self.behind.pop_front();
        }
        Ok(())
    }
}
