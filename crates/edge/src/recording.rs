//! What goes into the audit journal of all that a role is asked: before it is done, or after, or only when it was refused.
//!
//! Promise: what is to be recorded first is begun only when the record is durable; while none can be written, it is refused within
//! five seconds, and everything else goes on. What is recorded afterwards waits in memory, bounded; what there was no room for is counted, and
//! the count is recorded.
//!
//! Start at [`Auditing`]. Does not know where records are kept: the vault writes them, other roles send them there.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use audit::{Bound, Decision, Draft, Object, Repeated, Who};
use base::{Clock, CredentialId, ErrorKind, Role, Timestamp};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::Channel;
use wire::v1::audit_client::AuditClient;
use wire::v1::{AuditDraft, RecordRequest};

use crate::status;

/// How long an act waits for its record.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// Records that wait in memory; of what comes beyond only the number is kept.
const MOST_WAITING: usize = 10_000;
/// How many go at once.
const AT_ONCE: usize = 500;
/// So long is gathered.
const GATHER: Duration = Duration::from_millis(200);
const AGAIN: Duration = Duration::from_secs(1);
/// How long the last ones may take at a stop.
const LAST: Duration = Duration::from_secs(2);
/// Refusals of one caller by one rule that are recorded one by one, in a minute.
const REFUSALS: u64 = 30;
/// Acts of one product key that were recorded first and failed then, in a minute: after so many it has to wait for the next, since each is a
/// record that nothing else bounds.
const FAILURES: u64 = 300;
const MINUTE: Duration = Duration::from_secs(60);
/// So many keys that fail are told apart.
const MOST_FAILING: usize = 10_000;
/// Within so long the same reader of the journal is recorded once, and then as a number.
const READING: Duration = Duration::from_secs(3600);

/// Takes records.
#[async_trait::async_trait]
pub trait Recorder: Send + Sync {
    /// Returns once all of them are durable. `Unavailable` means: not now.
    async fn record(&self, drafts: Vec<Draft>) -> Result<(), Status>;
}

/// When a role does what has to be recorded first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// Once its record is durable.
    #[default]
    RecordFirst,
    /// Without waiting for it: a broken twin, for showing that a test finds out. Made by no code of the product.
    ActFirst,
}

/// A role's way into the audit journal. Clones are the same one.
#[derive(Clone)]
pub struct Auditing(Arc<Inner>);

struct Inner {
    order: Order,
    recorder: OnceLock<Arc<dyn Recorder>>,
    notes: Mutex<Notes>,
    wake: Notify,
}

struct Notes {
    waiting: VecDeque<Draft>,
    left_out: u64,
    bound: Bound,
    reads: Repeated,
    failing: BTreeMap<CredentialId, (Timestamp, u64)>,
}

impl Default for Auditing {
    fn default() -> Self {
        Self::in_order(Order::default())
    }
}

impl Auditing {
    /// Without a recorder yet: what has to be recorded first is refused.
    pub fn in_order(order: Order) -> Self {
        Self(Arc::new(Inner {
            order,
            recorder: OnceLock::new(),
            notes: Mutex::new(Notes {
                waiting: VecDeque::new(),
                left_out: 0,
                bound: Bound::of(REFUSALS),
                reads: Repeated::within(READING),
                failing: BTreeMap::new(),
            }),
            wake: Notify::new(),
        }))
    }

    /// From now on records go to `recorder`. Only the first call counts.
    pub fn by(&self, recorder: Arc<dyn Recorder>) {
        if self.0.recorder.set(recorder).is_err() {
            tracing::warn!("the records of this role were given a place twice, the first stays");
        }
    }

    /// Records what is about to be done. An error means: do not.
    pub(crate) async fn first(&self, draft: Draft) -> Result<(), Status> {
        let unrecorded = |why: &str| {
            tracing::error!(method = %draft.method, "refused: the audit journal did not take its record: {why}");
            status(
                ErrorKind::Unavailable,
                "this is not done without a record of it, and the audit journal takes none now; try again",
            )
        };
        let Some(recorder) = self.0.recorder.get() else {
            return Err(unrecorded("there is none"));
        };
        if self.0.order == Order::ActFirst {
            let (recorder, draft) = (Arc::clone(recorder), draft.clone());
            tokio::spawn(async move { recorder.record(vec![draft]).await });
            return Ok(());
        }
        match timeout(PATIENCE, recorder.record(vec![draft.clone()])).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(refusal)) => Err(unrecorded(refusal.message())),
            Err(_) => Err(unrecorded("no answer in time")),
        }
    }

    /// Records what was done, as soon as that can be.
    pub fn note(&self, draft: Draft) {
        let mut notes = self.notes();
        if notes.waiting.len() < MOST_WAITING {
            notes.waiting.push_back(draft);
        } else {
            notes.left_out += draft.count;
        }
        drop(notes);
        self.0.wake.notify_one();
    }

    /// The same, but that reading the journal itself is recorded once and then counted: else whoever follows it would read of nothing but that.
    pub(crate) fn done(&self, draft: Draft) {
        let admitted = if is_reading(&draft.method) {
            self.notes().reads.admit(draft)
        } else {
            Some(draft)
        };
        if let Some(draft) = admitted {
            self.note(draft);
        }
    }

    /// Whether what has to be recorded first may be tried now with this key: not when too much of it failed within a minute.
    pub(crate) fn may_try(&self, draft: &Draft) -> bool {
        let Some(credential) = draft.on_behalf else { return true };
        let notes = self.notes();
        let failed = notes.failing.get(&credential).filter(|(since, _)| !is_over(*since, draft.at));
        failed.is_none_or(|(_, count)| *count < FAILURES)
    }

    /// What was recorded first did not succeed.
    pub(crate) fn failed(&self, draft: &Draft) {
        let Some(credential) = draft.on_behalf else { return };
        let mut notes = self.notes();
        if notes.failing.len() >= MOST_FAILING {
            notes.failing.retain(|_, (since, _)| !is_over(*since, draft.at));
        }
        if notes.failing.len() >= MOST_FAILING && !notes.failing.contains_key(&credential) {
            return;
        }
        let failing = notes.failing.entry(credential).or_insert((draft.at, 0));
        if is_over(failing.0, draft.at) {
            *failing = (draft.at, 0);
        }
        failing.1 += 1;
    }

    /// Records what was refused, or counts it when there is too much of it.
    pub fn refusal(&self, draft: Draft) {
        let admitted = self.notes().bound.admit(draft);
        if let Some(draft) = admitted {
            self.note(draft);
        }
    }

    /// Sends on what waits, until `cancel`, and then what is left.
    pub(crate) async fn run(&self, role: Role, clock: &dyn Clock, cancel: &CancellationToken) {
        let sending = async {
            loop {
                // Whether or not something comes: what was only counted is due some time.
                let _ = timeout(AGAIN * 5, self.0.wake.notified()).await;
                sleep(GATHER).await;
                while self.send(role, clock.now(), false).await.is_err() {
                    sleep(AGAIN).await;
                }
            }
        };
        let _ = cancel.run_until_cancelled(sending).await;
        if !matches!(timeout(LAST, self.send(role, clock.now(), true)).await, Ok(Ok(()))) {
            let lost = self.notes().waiting.len();
            tracing::error!(
                records = lost,
                "records for the audit journal are lost with this process: it took none in time"
            );
        }
    }

    async fn send(&self, role: Role, now: Timestamp, all: bool) -> Result<(), Status> {
        {
            let mut notes = self.notes();
            let counted = if all { notes.bound.rest() } else { notes.bound.due(now) };
            notes.waiting.extend(counted);
            let read = if all { notes.reads.rest() } else { notes.reads.due(now) };
            notes.waiting.extend(read);
            if notes.left_out > 0 && notes.waiting.len() < MOST_WAITING {
                let count = std::mem::take(&mut notes.left_out);
                notes.waiting.push_back(left_out(role, now, count));
            }
        }
        loop {
            let some: Vec<Draft> = self.notes().waiting.iter().take(AT_ONCE).cloned().collect();
            if some.is_empty() {
                return Ok(());
            }
            let recorder = self
                .0
                .recorder
                .get()
                .ok_or_else(|| status(ErrorKind::Unavailable, "there is no recorder"))?;
            let sent = some.len();
            match timeout(PATIENCE, recorder.record(some)).await {
                Ok(Ok(())) => {}
                // What is refused for good would keep everything behind it from being recorded.
                Ok(Err(refusal)) if matches!(crate::kind_of(&refusal), ErrorKind::Invalid | ErrorKind::Forbidden) => {
                    tracing::error!(records = sent, "the audit journal refused records: {}", refusal.message());
                    self.notes().left_out += sent as u64;
                }
                Ok(Err(refusal)) => return Err(refusal),
                // It may have taken them after all: then they are there twice, which is better than not at all.
                Err(_) => return Err(status(ErrorKind::Unavailable, "no answer in time")),
            }
            // Only this task takes away from the front.
            self.notes().waiting.drain(..sent);
        }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Auditing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Auditing")
    }
}

fn is_reading(method: &str) -> bool {
    matches!(method, "/coffer.v1.Audit/Read" | "/coffer.v1.AuditOperator/Read")
}

/// Whether the minute that began then is over. A clock that went back ends it as well.
fn is_over(since: Timestamp, now: Timestamp) -> bool {
    now < since || now.since(since) >= MINUTE
}

fn left_out(role: Role, now: Timestamp, count: u64) -> Draft {
    Draft {
        at: now,
        role,
        who: Who::Role(role),
        on_behalf: None,
        method: "/left-out".into(),
        object: Object::None,
        request: None,
        decision: Decision::Failed,
        rule: "room".into(),
        pass: None,
        product: None,
        count,
    }
}

/// Sends records to the vault.
#[derive(Debug)]
pub struct ByVault(AuditClient<Channel>);

impl ByVault {
    /// Through this channel.
    pub fn new(channel: Channel) -> Self {
        Self(AuditClient::new(channel))
    }
}

#[async_trait::async_trait]
impl Recorder for ByVault {
    async fn record(&self, drafts: Vec<Draft>) -> Result<(), Status> {
        let drafts = drafts.iter().map(encoded).collect();
        self.0.clone().record(RecordRequest { drafts }).await.map(|_| ())
    }
}

fn encoded(draft: &Draft) -> AuditDraft {
    let (object, hidden_object) = match &draft.object {
        Object::None => (String::new(), Vec::new()),
        Object::Name(name) => (name.clone(), Vec::new()),
        Object::Hidden(digest) => (String::new(), digest.reveal().to_vec()),
    };
    AuditDraft {
        at: draft.at.as_micros(),
        role: draft.role.to_string(),
        who: draft.who.to_string(),
        on_behalf: draft.on_behalf.map_or_else(Vec::new, |id| id.to_bytes().to_vec()),
        method: draft.method.clone(),
        object,
        hidden_object,
        request: draft.request.map_or_else(Vec::new, |digest| digest.reveal().to_vec()),
        decision: draft.decision.as_str().to_owned(),
        rule: draft.rule.clone(),
        pass: draft.pass.map_or_else(Vec::new, |id| id.to_vec()),
        product: draft.product.map_or(0, base::ProductId::get),
        count: draft.count,
    }
}

#[cfg(test)]
mod tests;
