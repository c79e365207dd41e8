//! The writing end: many appends, few segments, one after the other.
//!
//! One task writes: the next segment is begun when the one before is decided, so segments are accepted in their order and
//! there is at most one whose fate is open. What comes in meanwhile goes into the next.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base::time::{Instant, timeout_at};
use base::{Clock, Entropy, ProductId, WriterId};
use seal::{PublicKey, Signer};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use zones::{ObjectName, PutError, Zones};

use crate::record::{self, MAX_HEADER, MAX_PAYLOAD, Place, Position};
use crate::{Acknowledge, AppendError, Entry, Head, JournalSettings, SegmentId, Tail};

/// Gives the signer in force: it is renewed while the process runs.
pub type CurrentSigner = Arc<dyn Fn() -> Arc<Signer> + Send + Sync>;

/// From here on sealing is worth a thread of its own.
pub(crate) const MUCH: usize = 64 << 10;

/// What a journal works with.
#[derive(Clone)]
pub struct JournalParts {
    /// Where segments are kept.
    pub zones: Arc<Zones>,
    /// Who signs them.
    pub signer: CurrentSigner,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// What keys are made of.
    pub entropy: Arc<dyn Entropy>,
}

impl fmt::Debug for JournalParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JournalParts").field("zones", &self.zones).finish_non_exhaustive()
    }
}

/// A journal being written.
#[derive(Debug)]
pub struct Journal {
    queue: Mutex<Option<mpsc::UnboundedSender<Waiting>>>,
    task: Mutex<Option<JoinHandle<()>>>,
    head: watch::Receiver<Head>,
    is_decided: watch::Receiver<bool>,
    room: Arc<Room>,
    acknowledge: Acknowledge,
}

impl Journal {
    /// Goes on with the journal `name` after its recovered end ([`Recovered::tail`](crate::Recovered::tail), or
    /// [`Tail::empty`] for one that was never written to). At any time at most one writer writes to a journal.
    pub fn start(
        parts: JournalParts,
        settings: JournalSettings,
        name: &str,
        product: Option<ProductId>,
        seal_to: PublicKey,
        writer: WriterId,
        after: Tail,
    ) -> Self {
        let room = Arc::new(Room {
            waiting: AtomicUsize::new(0),
            limit: settings.max_waiting,
        });
        let acknowledge = settings.acknowledge;
        let (queue, incoming) = mpsc::unbounded_channel();
        let (publish, head) = watch::channel(after.head);
        let (decide, is_decided) = watch::channel(!after.uncertain);
        let place = Place {
            journal: name.to_owned(),
            product,
            writer,
            epoch: after.epoch + 1,
            seal_to,
        };
        let task = Writer {
            parts,
            settings,
            place: Arc::new(place),
            end: after.end,
            to_open: after.uncertain,
            // Behind an opening that is there another would only take room, once a start, in a journal that nobody writes to.
            open_now: after.uncertain && after.head.length > 0 && after.head == after.end,
            decide,
            attempt: 0,
            incoming,
            carried: None,
            begun: None,
            publish,
        };
        Self {
            queue: Mutex::new(Some(queue)),
            task: Mutex::new(Some(tokio::spawn(task.run()))),
            head,
            is_decided,
            room,
            acknowledge,
        }
    }

    /// Appends an entry: returns when a majority of zones has it. After a refusal other than `Undecided`, nothing of it
    /// will appear. The entry is decided on even if the caller stops waiting.
    pub async fn append(&self, entry: Entry) -> Result<SegmentId, AppendError> {
        self.enter(vec![entry], false)?.await.unwrap_or(Err(AppendError::Closed))
    }

    /// Appends entries that belong together: all of them are in one segment, so that either all are there or none is.
    pub async fn append_all(&self, entries: Vec<Entry>) -> Result<(), AppendError> {
        let decided = self.enter(entries, false)?;
        match self.acknowledge {
            Acknowledge::WhenDurable => decided.await.unwrap_or(Err(AppendError::Closed)).map(drop),
            Acknowledge::TooEarly => Ok(()),
        }
    }

    /// Appends an entry without waiting for company: for changes that come one after the other, each only when the one before is made.
    pub async fn append_at_once(&self, entry: Entry) -> Result<SegmentId, AppendError> {
        self.append_all_at_once(vec![entry]).await
    }

    /// The same of changes that belong together: one segment holds them.
    pub async fn append_all_at_once(&self, entries: Vec<Entry>) -> Result<SegmentId, AppendError> {
        self.enter(entries, true)?.await.unwrap_or(Err(AppendError::Closed))
    }

    /// From here on it is decided whether they are accepted; says what came of it.
    fn enter(&self, entries: Vec<Entry>, at_once: bool) -> Result<oneshot::Receiver<Result<SegmentId, AppendError>>, AppendError> {
        let (weight, size) = Waiting::weights(&entries);
        if size > MAX_HEADER {
            return Err(AppendError::TooLarge { size, limit: MAX_HEADER });
        }
        let payload: usize = entries.iter().map(|entry| entry.payload.len()).sum();
        if payload > MAX_PAYLOAD {
            return Err(AppendError::TooLarge {
                size: payload,
                limit: MAX_PAYLOAD,
            });
        }
        let room = self.room.take(weight)?;
        let (reply, decided) = oneshot::channel();
        let waiting = Waiting {
            entries,
            at_once,
            reply,
            _room: room,
        };
        let sent = lock(&self.queue).as_ref().map(|queue| queue.send(waiting));
        match sent {
            Some(Ok(())) => Ok(decided),
            _ => Err(AppendError::Closed),
        }
    }

    /// The end of the journal, as this process knows it. What another role should remember is [`Journal::decided`].
    pub fn head(&self) -> Head {
        *self.head.borrow()
    }

    /// The end of the journal, once no later start can find another in its place: what another role should remember. `None` while what
    /// was recovered may yet give way, because the start was unsettled and nothing of this writer stands behind it.
    pub fn decided(&self) -> Option<Head> {
        self.is_decided.borrow().then(|| self.head())
    }

    /// Returns once what was recovered cannot give way to another end any more. To be waited for before anybody is told that something
    /// found at the start is stored; what is accepted later needs no more than its own acceptance.
    pub async fn decide(&self) -> Result<(), AppendError> {
        if *self.is_decided.borrow() {
            return Ok(());
        }
        let opened = self.enter(Vec::new(), true)?;
        opened.await.unwrap_or(Err(AppendError::Closed)).map(drop)
    }

    /// Tells of each new end of the journal.
    pub fn heads(&self) -> watch::Receiver<Head> {
        self.head.clone()
    }

    /// How many bytes wait to be written.
    pub fn waiting(&self) -> usize {
        self.room.waiting.load(Ordering::Relaxed)
    }

    /// Takes nothing more, and returns when all that was taken is decided.
    pub async fn close(&self) {
        drop(lock(&self.queue).take());
        let task = lock(&self.task).take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!("the writer of a journal broke off: {error}");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How much waits, and may.
#[derive(Debug)]
struct Room {
    waiting: AtomicUsize,
    limit: usize,
}

impl Room {
    fn take(self: &Arc<Self>, size: usize) -> Result<Taken, AppendError> {
        let limit = self.limit;
        if size > limit {
            return Err(AppendError::TooLarge { size, limit });
        }
        let fits = |waiting: usize| Some(waiting + size).filter(|sum| *sum <= limit);
        match self.waiting.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fits) {
            Ok(_) => Ok(Taken {
                room: Arc::clone(self),
                size,
            }),
            Err(waiting) => Err(AppendError::TooMuch { waiting, limit }),
        }
    }
}

#[derive(Debug)]
struct Taken {
    room: Arc<Room>,
    size: usize,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.room.waiting.fetch_sub(self.size, Ordering::SeqCst);
    }
}

#[derive(Debug)]
struct Waiting {
    entries: Vec<Entry>,
    /// It waits for no others to share its segment.
    at_once: bool,
    reply: oneshot::Sender<Result<SegmentId, AppendError>>,
    _room: Taken,
}

impl Waiting {
    /// How many bytes entries have, and how many of these are headers.
    fn weights(entries: &[Entry]) -> (usize, usize) {
        let headers = entries.iter().map(|entry| entry.header.len()).sum();
        (entries.iter().map(Entry::weight).sum(), headers)
    }
}

struct Writer {
    parts: JournalParts,
    settings: JournalSettings,
    place: Arc<Place>,
    end: Head,
    // Whether an opening has to be accepted before any entry is.
    to_open: bool,
    // Whether it is not to wait for the first entry.
    open_now: bool,
    decide: watch::Sender<bool>,
    attempt: u32,
    incoming: mpsc::UnboundedReceiver<Waiting>,
    carried: Option<Waiting>,
    begun: Option<Instant>,
    publish: watch::Sender<Head>,
}

impl Writer {
    async fn run(mut self) {
        if self.open_now
            && let Err(error) = self.open().await
        {
            tracing::warn!(journal = %self.place.journal, %error, "the end that was found is not decided yet, trying again with the next entry");
        }
        while let Some(batch) = self.gather().await {
            let entries: Vec<Entry> = batch.iter().flat_map(|waiting| waiting.entries.iter().cloned()).collect();
            let outcome = match self.open().await {
                Ok(last) if entries.is_empty() => Ok(last),
                Ok(_) => self.commit(entries).await,
                Err(error) => Err(error),
            };
            for waiting in batch {
                // Whoever went away meanwhile does not hear of it; it is decided all the same.
                let _ = waiting.reply.send(outcome.clone());
            }
        }
    }

    /// What goes into the next segment: all that waits, up to a size; at once, unless the last commit was a moment ago.
    async fn gather(&mut self) -> Option<Vec<Waiting>> {
        let first = match self.carried.take() {
            Some(waiting) => waiting,
            None => self.incoming.recv().await?,
        };
        let mut due = self.begun.map(|begun| begun + self.settings.commit_after);
        let (mut size, mut headers) = Waiting::weights(&first.entries);
        if first.at_once {
            due = None;
        }
        let mut batch = vec![first];
        let commit_at = self.settings.commit_at.min(MAX_PAYLOAD);
        while size < commit_at {
            let next = match (self.incoming.try_recv(), due) {
                (Ok(next), _) => next,
                (Err(_), Some(due)) if due > Instant::now() => match timeout_at(due, self.incoming.recv()).await {
                    Ok(Some(next)) => next,
                    _ => break,
                },
                _ => break,
            };
            let (more, more_headers) = Waiting::weights(&next.entries);
            size += more;
            headers += more_headers;
            if size > commit_at || headers > MAX_HEADER {
                self.carried = Some(next);
                break;
            }
            if next.at_once {
                due = None;
            }
            batch.push(next);
        }
        self.begun = Some(Instant::now());
        Some(batch)
    }

    /// Writes the opening, where one is needed. The place of the last segment.
    async fn open(&mut self) -> Result<SegmentId, AppendError> {
        if self.to_open {
            self.commit(Vec::new()).await?;
            self.to_open = false;
            self.decide.send_replace(true);
        }
        Ok(SegmentId {
            writer: self.place.writer,
            sequence: self.end.length.saturating_sub(1),
        })
    }

    async fn commit(&mut self, entries: Vec<Entry>) -> Result<SegmentId, AppendError> {
        let end = self.end;
        let segment = SegmentId {
            writer: self.place.writer,
            sequence: end.length,
        };
        let now = self.parts.clock.now();
        let at = Position {
            sequence: end.length,
            attempt: self.attempt,
            previous: end.hash,
            now,
        };
        // Whatever comes of it, no other segment will ever have this name.
        self.attempt += 1;
        let (count, begun) = (entries.len(), Instant::now());
        let built = self.build(at, entries).await?;
        let prefix = format!("{}/{}", self.place.journal, now.day());
        let name = ObjectName::new(&prefix, &record::object_id(segment, at.attempt), &built.object)
            .map_err(|error| AppendError::Internal { what: error.to_string() })?;
        let bytes = built.object.len();
        self.parts
            .zones
            .put(&name, built.object)
            .await
            .map_err(|error| refusal(segment, &error))?;
        self.attempt = 0;
        self.end = Head {
            length: end.length + 1,
            hash: built.hash,
        };
        // Whoever remembers an opening would miss it when another writer's end stands in its place.
        if count > 0 {
            self.publish.send_replace(self.end);
        }
        tracing::debug!(journal = %self.place.journal, segment.id = %segment, entries = count, bytes,
            duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            "accepted segment {segment}");
        Ok(segment)
    }

    async fn build(&self, at: Position, entries: Vec<Entry>) -> Result<record::Built, AppendError> {
        let signer = (self.parts.signer)();
        if !signer.certificate().covers(at.now) {
            return Err(AppendError::NoCertificate);
        }
        let (place, entropy) = (Arc::clone(&self.place), Arc::clone(&self.parts.entropy));
        let size: usize = entries.iter().map(Entry::weight).sum();
        let build = move || record::build(&place, at, &entries, &signer, &*entropy);
        let built = if size < MUCH {
            build()
        } else {
            tokio::task::spawn_blocking(build)
                .await
                .unwrap_or_else(|_| Err("the work was broken off".into()))
        };
        built.map_err(|what| AppendError::Internal { what })
    }
}

fn refusal(segment: SegmentId, error: &PutError) -> AppendError {
    match *error {
        PutError::TooFewZones { held, needed, .. } => AppendError::TooFewZones { segment, held, needed },
        PutError::Undecided { held, needed, .. } => AppendError::Undecided { segment, held, needed },
        PutError::Deleted { .. } | PutError::WrongName { .. } => AppendError::Internal { what: error.to_string() },
    }
}
