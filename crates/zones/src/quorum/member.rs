//! One zone among others: how it is doing, what waits for it, and how much it may cost.
//!
//! Promise: a zone that hangs costs its own few permits and nothing else. A request to it is given up after its time; the
//! permit stays taken until the zone lets go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::{Clock, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::ZoneState;
use crate::{ObjectName, Zone, ZoneError};

/// Beyond this many names the queue gives way to a comparison of listings.
const QUEUE: usize = 100_000;

#[derive(Debug)]
pub(super) struct Member {
    pub(super) zone: Arc<dyn Zone>,
    clock: Arc<dyn Clock>,
    writes: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    probes: Arc<Semaphore>,
    pub(super) visit: tokio::sync::Mutex<()>,
    health: Mutex<Health>,
    wrong_copies: AtomicU64,
    /// How many writes of each object the zone is not done with. No more of them than there are permits for writes.
    on_their_way: Mutex<BTreeMap<ObjectName, usize>>,
}

#[derive(Debug)]
struct Health {
    up: bool,
    hanging: bool,
    detail: String,
    since: Timestamp,
    queue: BTreeSet<ObjectName>,
    compare: bool,
}

/// What a request is for: each kind has permits of its own, so that reads do not hold up writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Write,
    Read,
    Probe,
}

impl Member {
    pub(super) fn new(zone: Arc<dyn Zone>, max_in_flight: usize, clock: Arc<dyn Clock>) -> Arc<Self> {
        let health = Health {
            // Not asked yet, so it may be tried; what it lacks is not known, so it will be compared.
            up: true,
            hanging: false,
            detail: String::new(),
            since: clock.now(),
            queue: BTreeSet::new(),
            compare: true,
        };
        let permits = |count: usize| Arc::new(Semaphore::new(count.max(1)));
        Arc::new(Self {
            zone,
            clock,
            writes: permits(max_in_flight),
            reads: permits(max_in_flight),
            probes: permits(1),
            visit: tokio::sync::Mutex::new(()),
            health: Mutex::new(health),
            wrong_copies: AtomicU64::new(0),
            on_their_way: Mutex::default(),
        })
    }

    /// Has the zone do `work`, for at most `within`. The work goes on when that is over; only the waiting ends.
    pub(super) async fn call<T, F, W>(self: &Arc<Self>, what: Use, within: Duration, work: W) -> Result<T, ZoneError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ZoneError>> + Send + 'static,
        W: FnOnce(Arc<dyn Zone>) -> F + Send + 'static,
    {
        let deadline = Instant::now() + within;
        let permit = self.permit(what, deadline).await?;
        let member = Arc::clone(self);
        let running = tokio::spawn(async move {
            let done = work(Arc::clone(&member.zone)).await;
            member.health().hanging = false;
            drop(permit);
            done
        });
        let done = match timeout_at(deadline, running).await {
            Ok(joined) => joined.unwrap_or_else(|_| Err(self.unclear("the request was broken off".into()))),
            Err(_) => {
                self.health().hanging = true;
                Err(self.unclear(format!("no answer within {} ms", within.as_millis())))
            }
        };
        if let Err(error) = &done
            && error.is_about_the_zone()
        {
            self.went_down(error.detail());
        }
        done
    }

    async fn permit(&self, what: Use, deadline: Instant) -> Result<OwnedSemaphorePermit, ZoneError> {
        let permits = match what {
            Use::Write => &self.writes,
            Use::Read => &self.reads,
            Use::Probe => &self.probes,
        };
        let full = || ZoneError::Down {
            zone: self.zone.name().into(),
            detail: "it does not answer".into(),
        };
        // Until it has answered something, the probe included, nothing more is asked of it.
        if self.is_hanging() && what != Use::Probe {
            return Err(full());
        }
        if let Ok(permit) = Arc::clone(permits).try_acquire_owned() {
            return Ok(permit);
        }
        if what == Use::Probe {
            return Err(full());
        }
        match timeout_at(deadline, Arc::clone(permits).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(full()),
        }
    }

    /// Asks the zone whether it works. One that was down and does is to be compared with the others.
    pub(super) async fn probe(self: &Arc<Self>, within: Duration) -> bool {
        if self
            .call(Use::Probe, within, |zone| async move { zone.probe().await })
            .await
            .is_err()
        {
            return false;
        }
        let mut health = self.health();
        if !health.up {
            health.up = true;
            health.compare = true;
            health.detail = "catching up".into();
            health.since = self.clock.now();
        }
        true
    }

    fn went_down(&self, detail: String) {
        let mut health = self.health();
        if health.up {
            health.since = self.clock.now();
            tracing::warn!(zone = self.zone.name(), "zone {} is down: {detail}", self.zone.name());
        }
        health.up = false;
        health.compare = true;
        health.detail = detail;
    }

    /// Nothing waits for the zone any more, unless something went wrong or came in meanwhile.
    pub(super) fn caught_up(&self) {
        let mut health = self.health();
        if health.up && health.queue.is_empty() && !health.compare && !health.detail.is_empty() {
            health.detail.clear();
            let away = self.clock.now().since(health.since).as_secs();
            tracing::info!(zone = self.zone.name(), seconds = away, "zone {} has caught up", self.zone.name());
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.health().up
    }

    /// How many wrong copies it has given out: the fewer, the sooner it is asked.
    pub(super) fn wrong_copies(&self) -> u64 {
        self.wrong_copies.load(Ordering::Relaxed)
    }

    pub(super) fn gave_wrong_copy(&self) {
        self.wrong_copies.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn is_hanging(&self) -> bool {
        self.health().hanging
    }

    /// Counts a write of `name` as on its way, for as long as what is returned lives: until the zone is done with it, however
    /// long ago its caller gave up. (That the zone has answered something else says nothing about it.)
    pub(super) fn set_out(self: &Arc<Self>, name: &ObjectName) -> OnItsWay {
        *self.on_their_way().entry(name.clone()).or_default() += 1;
        OnItsWay {
            member: Arc::clone(self),
            name: name.clone(),
        }
    }

    /// Whether a write of `name` may yet arrive.
    pub(super) fn is_on_its_way(&self, name: &ObjectName) -> bool {
        self.on_their_way().contains_key(name)
    }

    /// Takes note that the listing has to be compared; `take_compare` begins that.
    pub(super) fn request_compare(&self) {
        self.health().compare = true;
    }

    pub(super) fn take_compare(&self) -> bool {
        std::mem::take(&mut self.health().compare)
    }

    pub(super) fn queue(&self, names: impl IntoIterator<Item = ObjectName>) {
        let mut health = self.health();
        for name in names {
            if health.queue.len() >= QUEUE {
                health.compare = true;
                return;
            }
            health.queue.insert(name);
        }
    }

    pub(super) fn unqueue(&self, name: &ObjectName) {
        self.health().queue.remove(name);
    }

    /// Up to `count` waiting names after `last`.
    pub(super) fn waiting_after(&self, last: Option<&ObjectName>, count: usize) -> Vec<ObjectName> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = last.map_or(Unbounded, Excluded);
        self.health().queue.range((from, Unbounded)).take(count).cloned().collect()
    }

    pub(super) fn status(&self) -> ZoneState {
        let health = self.health();
        let detail = if health.up && !self.zone.is_complete() {
            "it is new and being filled".to_owned()
        } else {
            health.detail.clone()
        };
        ZoneState {
            name: self.zone.name().to_owned(),
            up: health.up,
            detail,
            waiting: health.queue.len(),
            compare: health.compare,
        }
    }

    fn unclear(&self, detail: String) -> ZoneError {
        ZoneError::Unclear {
            zone: self.zone.name().to_owned(),
            detail,
        }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn on_their_way(&self) -> MutexGuard<'_, BTreeMap<ObjectName, usize>> {
        self.on_their_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A write that its zone is not done with.
#[derive(Debug)]
pub(super) struct OnItsWay {
    member: Arc<Member>,
    name: ObjectName,
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        let mut all = self.member.on_their_way();
        if let Some(count) = all.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.name);
            }
        }
    }
}
