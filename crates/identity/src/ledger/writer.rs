//! The task that gives ids: whoever waits while it writes is served by its next append.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use base::{ErrorKind, PersonId, ProductId, Secret};
use journal::{AppendError, Head, Journal};
use seal::{DataKey, SealError};
use tokio::sync::{mpsc, oneshot};

use super::{Gone, LedgerParts, State};
use crate::facts::{Entry, Fact, Given, SealedPerson};
use crate::keys::{Hash, ProductKeys, RingError};
use crate::links::{KnownBy, Plan, Rows, Who};
use crate::look;
use crate::ring::{Known, Person, Ring};
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
    #[error(transparent)]
    Ring(#[from] RingError),
    #[error("a keyring of epoch {asked} cannot follow one of epoch {present}")]
    Epoch { asked: u64, present: u64 },
    #[error("what an earlier version kept of people is in the journal yet, and opens with the lookup key for good: {0}")]
    Untrimmed(String),
    #[error("the lease under which people are looked up has ended meanwhile")]
    Forgotten,
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
            Self::Ring(error) => error.kind(),
            // What the vault says and what is here are of different times: asked again, both are of one.
            Self::Epoch { .. } | Self::Untrimmed(_) | Self::Forgotten | Self::Closed => ErrorKind::Unavailable,
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

/// What the writer is asked.
pub(super) enum Command {
    Give(Wanted),
    Prepare {
        keys: Arc<ProductKeys>,
        reply: oneshot::Sender<Result<(), GiveError>>,
    },
    Erase {
        keys: Arc<ProductKeys>,
        id: PersonId,
        epoch: u64,
        reply: oneshot::Sender<Result<Option<Gone>, GiveError>>,
    },
}

/// Somebody with the identities that are new of them.
struct Change {
    id: PersonId,
    person: Person,
    new: Vec<Hash>,
}

pub(super) struct Writer {
    pub(super) product: ProductId,
    pub(super) journal: Arc<Journal>,
    pub(super) view: View,
    pub(super) parts: LedgerParts,
    pub(super) state: Arc<State>,
    /// In the journal and not yet in the view, because that failed. Nothing is given before they are.
    pub(super) behind: VecDeque<(Head, Entry)>,
    /// Whom these entries are about, for the index once the view has them.
    pub(super) unindexed: Vec<(Hash, PersonId)>,
    pub(super) incoming: mpsc::Receiver<Command>,
}

impl Writer {
    pub(super) async fn run(mut self) {
        let mut next = self.incoming.recv().await;
        while let Some(command) = next.take() {
            // Whoever went away finds what was done next time.
            match command {
                Command::Give(first) => next = self.give_together(first).await,
                Command::Prepare { keys, reply } => {
                    let prepared = self.prepare(&keys).await;
                    if let Err(error) = &prepared {
                        tracing::warn!(product.id = %self.product, %error, "the people of product {} are not under a keyring yet", self.product);
                    }
                    let _ = reply.send(prepared);
                }
                Command::Erase { keys, id, epoch, reply } => {
                    let erased = self.erase(&keys, id, epoch).await;
                    let _ = reply.send(erased);
                }
            }
            if next.is_none() {
                next = self.incoming.recv().await;
            }
        }
    }

    /// Serves a caller with all who wait behind them; what else waits there is for after.
    async fn give_together(&mut self, first: Wanted) -> Option<Command> {
        let mut together = first.people.len();
        let (mut callers, mut after) = (vec![first], None);
        while together < MOST_TOGETHER
            && let Ok(next) = self.incoming.try_recv()
        {
            match next {
                Command::Give(next) => {
                    together += next.people.len();
                    callers.push(next);
                }
                other => {
                    after = Some(other);
                    break;
                }
            }
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
            let _ = caller.reply.send(answer);
        }
        after
    }

    async fn serve(&mut self, callers: &[Wanted]) -> Result<HashMap<Hash, PersonId>, GiveError> {
        self.catch_up().await?;
        let ring = self.ring(callers.iter().map(|caller| &caller.keys))?;
        let wanted = callers.iter().flat_map(|caller| &caller.people).map(|person| person.hash);
        let beside = callers.iter().flat_map(|caller| caller.rows.rows.iter().flatten());
        let hashes: HashSet<Hash> = wanted.chain(beside.map(|member| member.hash)).collect();
        let hashes: Vec<Hash> = hashes.into_iter().collect();
        // It may have been forgotten since the caller asked: whoever holds a lease yet has it made again.
        let found = self.state.index.find(&hashes).ok_or(GiveError::Forgotten)?;
        let mut ids: HashMap<Hash, PersonId> = hashes.into_iter().zip(found).filter_map(|(hash, id)| Some((hash, id?))).collect();
        let changes = self.decide(&ring, callers, &ids).await?;
        let (mut entry, mut size) = (Vec::new(), 0);
        for change in changes {
            if size + change.new.len() > MOST_IN_ENTRY && size > 0 {
                self.write_down(&ring, std::mem::take(&mut entry), &mut ids).await?;
                size = 0;
            }
            size += change.new.len();
            entry.push(change);
        }
        if !entry.is_empty() {
            self.write_down(&ring, entry, &mut ids).await?;
        }
        Ok(ids)
    }

    /// The keyring there is now, by whoever's keys open it.
    pub(super) fn ring<'a>(&self, all: impl Iterator<Item = &'a Arc<ProductKeys>>) -> Result<Arc<Ring>, GiveError> {
        let sealed = self.state.ring().ok_or(RingError::NoKey { epoch: 0 })?;
        let mut failed = RingError::NoKey { epoch: sealed.epoch };
        for keys in all {
            match keys.ring(&sealed) {
                Ok(ring) => return Ok(ring),
                Err(error) => failed = error,
            }
        }
        Err(failed.into())
    }

    /// Who gets which id, and what is kept of them then.
    async fn decide(&self, ring: &Arc<Ring>, callers: &[Wanted], ids: &HashMap<Hash, PersonId>) -> Result<Vec<Change>, GiveError> {
        let in_rows = callers.iter().flat_map(|caller| caller.rows.rows.iter().flatten());
        let linked: HashSet<PersonId> = in_rows.filter_map(|member| ids.get(&member.hash).copied()).collect();
        // Whoever a row names may be joined, and nobody else.
        let mut persons = look::persons(&self.view, ring, &linked.into_iter().collect::<Vec<_>>()).await?;
        let known_by = persons.iter().map(|(id, person)| (*id, known_by(person))).collect();
        let mut plan = Plan::new(ids, known_by);
        for caller in callers {
            caller.rows.rows.iter().for_each(|row| plan.row(&caller.rows.columns, row));
        }
        let mut asked = HashSet::new();
        let mut new = Vec::new();
        for caller in callers {
            for person in &caller.people {
                if !ids.contains_key(&person.hash) && asked.insert(person.hash) {
                    new.push((person, plan.who(&person.hash)));
                }
            }
        }
        let fresh = self.fresh_ids(plan.count()).await?;
        let (mut changes, mut places): (Vec<Change>, HashMap<PersonId, usize>) = (Vec::new(), HashMap::new());
        for (newcomer, who) in new {
            let (id, person) = match who {
                Who::New(place) => (fresh.get(place).copied().ok_or(ViewError::Corrupt("no such person"))?, None),
                Who::Known(id) => (id, persons.remove(&id)),
            };
            let place = match places.get(&id) {
                Some(place) => *place,
                None => {
                    let person = match who {
                        Who::Known(_) => person.ok_or(ViewError::Corrupt("no such person"))?,
                        Who::New(_) => Person {
                            key: DataKey::generate(&*self.parts.journal.entropy),
                            identities: Vec::new(),
                        },
                    };
                    places.insert(id, changes.len());
                    let new = Vec::new();
                    changes.push(Change { id, person, new });
                    changes.len() - 1
                }
            };
            if let Some(change) = changes.get_mut(place) {
                change.new.push(newcomer.hash);
                change.person.identities.push(Known {
                    identity: newcomer.identity.clone(),
                    column: newcomer.column.clone(),
                });
            }
        }
        Ok(changes)
    }

    async fn write_down(&mut self, ring: &Arc<Ring>, changes: Vec<Change>, ids: &mut HashMap<Hash, PersonId>) -> Result<(), GiveError> {
        let of_one = |change: &Change| change.new.iter().map(|hash| (*hash, change.id)).collect::<Vec<_>>();
        let given: Vec<(Hash, PersonId)> = changes.iter().flat_map(of_one).collect();
        let (ring, entropy) = (Arc::clone(ring), Arc::clone(&self.parts.journal.entropy));
        let sealing = tokio::task::spawn_blocking(move || {
            let mut given = Given::default();
            for Change { id, person, .. } in changes {
                given.people.push(SealedPerson {
                    id: id.get(),
                    sealed: ring.seal_person(id, &person, &*entropy),
                });
            }
            given
        });
        let fact = sealing.await.map_err(|_| GiveError::Closed)?;
        let written = self.write(Fact::Given(fact)).await;
        if written.is_err() && !self.behind.is_empty() {
            // The journal has them, and the view will; until then nobody is given an id. Who is known is found meanwhile.
            self.unindexed.extend(given);
            return written;
        }
        written?;
        self.state.index.add(given.iter().copied());
        ids.extend(given);
        Ok(())
    }

    /// Makes a fact durable, and then true.
    pub(super) async fn write(&mut self, fact: Fact) -> Result<(), GiveError> {
        let segment = self.journal.append(Entry::stored(fact.clone())).await?;
        // Nobody else appends, so the journal's end is this entry's segment.
        let head = self.journal.head();
        debug_assert_eq!(head.length, segment.sequence + 1);
        self.behind.push_back((head, Entry::Change(fact)));
        self.parts.grown.notify_one();
        Ok(self.catch_up().await?)
    }

    /// Random ids that nobody of this product has or had.
    async fn fresh_ids(&self, count: usize) -> Result<Vec<PersonId>, ViewError> {
        let entropy = &*self.parts.journal.entropy;
        loop {
            let ids: HashSet<PersonId> = std::iter::repeat_with(|| PersonId::random(entropy)).take(count).collect();
            let ids: Vec<PersonId> = ids.into_iter().collect();
            // Among some billions of people one in many batches meets an id that is taken: then all are drawn again.
            if ids.len() == count && self.view.taken(&ids).await?.is_empty() {
                return Ok(ids);
            }
        }
    }

    pub(super) async fn catch_up(&mut self) -> Result<(), ViewError> {
        while let Some((head, entry)) = self.behind.front() {
            self.view.apply(head, std::slice::from_ref(entry)).await?;
            let Some((_, Entry::Change(fact))) = self.behind.pop_front() else {
                continue;
            };
            match fact {
                Fact::Ring(ring) | Fact::Moving(ring) => self.state.put_ring(ring),
                Fact::Erased(erased) => erased.ring.into_iter().for_each(|ring| self.state.put_ring(ring)),
                Fact::Given(_) | Fact::Moved(_) => {}
            }
        }
        // Without them they would be given a second id.
        self.state.index.add(self.unindexed.drain(..));
        Ok(())
    }
}

fn known_by(person: &Person) -> KnownBy {
    KnownBy {
        columns: person.identities.iter().map(|known| known.column.clone()).collect(),
        identities: person.identities.len() as u64,
    }
}
