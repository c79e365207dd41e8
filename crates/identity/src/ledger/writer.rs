//! The task that gives ids: whoever waits while it writes is served by its next append.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use base::{Entropy, ErrorKind, PersonId, ProductId, Secret};
use bytes::Bytes;
use journal::{AppendError, Entry, Head, Journal};
use prost::Message;
use seal::{DataKey, SealError};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::facts::{PeopleSeen, PersonSeen};
use crate::keys::{Hash, ProductKeys};
use crate::links::{Plan, Rows, Who};
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
    #[error("what is kept of a person does not open: {0}")]
    Person(#[from] SealError),
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
            Self::Person(error) => error.kind(),
            Self::Closed => ErrorKind::Unavailable,
        }
    }
}

impl From<ViewError> for GiveError {
    fn from(error: ViewError) -> Self {
        Self::View(Arc::new(error))
    }
}

/// An identity without an id, as far as its caller knows.
#[derive(Debug, Clone)]
pub(crate) struct Newcomer {
    pub(crate) hash: Hash,
    pub(crate) identity: Secret,
    /// The column it came in, where identities are linked; else empty.
    pub(crate) column: String,
}

/// What one caller waits for.
pub(super) struct Wanted {
    pub(super) keys: Arc<ProductKeys>,
    pub(super) people: Vec<Newcomer>,
    /// In which of them those stand who are new.
    pub(super) rows: Rows,
    pub(super) reply: oneshot::Sender<Result<Vec<PersonId>, GiveError>>,
}

/// An identity that gets an id, with the key of the person whose it is.
#[derive(Clone)]
struct Given {
    keys: Arc<ProductKeys>,
    person: Newcomer,
    id: PersonId,
    key: DataKey,
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
                        .map(|person| ids.get(&person.hash).copied().ok_or(GiveError::Closed))
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
        let wanted = callers.iter().flat_map(|caller| &caller.people).map(|person| person.hash);
        let beside = callers.iter().flat_map(|caller| caller.rows.rows.iter().flatten());
        let hashes: HashSet<Hash> = wanted.chain(beside.map(|member| member.hash)).collect();
        let mut ids = self.view.find(&hashes.into_iter().collect::<Vec<_>>()).await?;
        let new = self.decide(callers, &ids).await?;
        for chunk in new.chunks(MOST_IN_ENTRY) {
            self.write_down(chunk.to_vec(), &mut ids).await?;
        }
        Ok(ids)
    }

    /// Who gets which id, and the key of whoever that is.
    async fn decide(&self, callers: &[Wanted], ids: &HashMap<Hash, PersonId>) -> Result<Vec<Given>, GiveError> {
        let in_rows = callers.iter().flat_map(|caller| caller.rows.rows.iter().flatten());
        let linked: HashSet<PersonId> = in_rows.filter_map(|member| ids.get(&member.hash).copied()).collect();
        let linked: Vec<PersonId> = linked.into_iter().collect();
        let mut plan = Plan::new(ids, self.view.known_by(&linked).await?);
        for caller in callers {
            caller.rows.rows.iter().for_each(|row| plan.row(&caller.rows.columns, row));
        }
        let mut asked = HashSet::new();
        let mut new = Vec::new();
        for caller in callers {
            for person in &caller.people {
                if !ids.contains_key(&person.hash) && asked.insert(person.hash) {
                    new.push((caller, person, plan.who(&person.hash)));
                }
            }
        }
        let fresh = self.fresh_ids(plan.count()).await?;
        let fresh_keys: Vec<DataKey> = fresh.iter().map(|_| DataKey::generate(&*self.entropy)).collect();
        let joined: HashSet<PersonId> = new
            .iter()
            .filter_map(|(_, _, who)| match who {
                Who::Known(id) => Some(*id),
                Who::New(_) => None,
            })
            .collect();
        let persons = self.view.persons(&joined.into_iter().collect::<Vec<_>>()).await?;
        let given = new.into_iter().map(|(caller, person, who)| {
            let (id, key) = match who {
                Who::New(place) => fresh.get(place).copied().zip(fresh_keys.get(place).cloned()),
                Who::Known(id) => match persons.get(&id) {
                    Some((hash, kept)) => Some((id, caller.keys.sealing_key(hash, kept)?)),
                    None => None,
                },
            }
            .ok_or(ViewError::Corrupt("no such person"))?;
            Ok(Given {
                keys: Arc::clone(&caller.keys),
                person: person.clone(),
                id,
                key,
            })
        });
        given.collect()
    }

    async fn write_down(&mut self, new: Vec<Given>, ids: &mut HashMap<Hash, PersonId>) -> Result<(), GiveError> {
        let given: Vec<(Hash, PersonId)> = new.iter().map(|given| (given.person.hash, given.id)).collect();
        let entropy = Arc::clone(&self.entropy);
        let sealing = tokio::task::spawn_blocking(move || {
            let seen = |given: Given| PersonSeen {
                hash: given.person.hash.to_vec(),
                id: given.id.get(),
                sealed: given.keys.seal(&given.person.hash, &given.key, &given.person.identity, &*entropy),
                column: given.person.column,
            };
            let people = PeopleSeen {
                people: new.into_iter().map(seen).collect(),
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
