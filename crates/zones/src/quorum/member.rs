//! One zone among others: how it is doing, what waits for it, and how much it may cost.
//!
//! Promise: a zone that hangs costs its own few permits and nothing else. A request to it is given up after its time; the
//! permit stays taken until the zone lets go. Nothing is written to a zone whose circuit is open.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::time::{Instant, timeout_at};
use base::{Clock, Timestamp};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::circuit::{Breaker, Circuit};
use super::latency::Latency;
use super::status::{Condition, ZoneState};
use super::waiting::Waiting;
use crate::{ObjectName, Zone, ZoneError, ZonesSettings};

#[derive(Debug)]
pub(super) struct Member {
    pub(super) zone: Arc<dyn Zone>,
    clock: Arc<dyn Clock>,
    writes: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    probes: Arc<Semaphore>,
    pub(super) visit: tokio::sync::Mutex<()>,
    /// Wakes whoever looks after the zone: it has answered after a silence.
    pub(super) answered: Notify,
    health: Mutex<Health>,
    pub(super) latency: Latency,
    pub(super) found: Found,
    /// How many writes of each object the zone is not done with. No more of them than there are permits for writes.
    on_their_way: Mutex<BTreeMap<ObjectName, usize>>,
}

/// What was found in the zone since the start.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) wrong: AtomicU64,
    pub(super) missing: AtomicU64,
    pub(super) repaired: AtomicU64,
}

#[derive(Debug)]
struct Health {
    up: bool,
    hanging: bool,
    detail: String,
    since: Timestamp,
    circuit: Breaker,
    waiting: Waiting,
    compare: bool,
    /// How many comparisons that were asked for go on.
    comparing: usize,
}

/// What a request is for: each kind has permits of its own, so that reads do not hold up writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Write,
    Read,
    Probe,
}

impl Member {
    pub(super) fn new(zone: Arc<dyn Zone>, settings: &ZonesSettings, clock: Arc<dyn Clock>) -> Arc<Self> {
        let health = Health {
            // Not asked yet, so it may be tried; what it lacks is not known, so it will be compared.
            up: true,
            hanging: false,
            detail: String::new(),
            since: clock.now(),
            circuit: Breaker::new(settings.probe_every, settings.back_off_to),
            waiting: Waiting::default(),
            compare: true,
            comparing: 0,
        };
        let permits = |count: usize| Arc::new(Semaphore::new(count.max(1)));
        Arc::new(Self {
            zone,
            clock,
            writes: permits(settings.max_in_flight),
            reads: permits(settings.max_in_flight),
            probes: permits(1),
            visit: tokio::sync::Mutex::new(()),
            answered: Notify::new(),
            health: Mutex::new(health),
            latency: Latency::default(),
            found: Found::default(),
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
        let begun = Instant::now();
        let deadline = begun + within;
        let permit = self.permit(what, deadline).await?;
        let member = Arc::clone(self);
        let running = tokio::spawn(async move {
            let done = work(Arc::clone(&member.zone)).await;
            if what == Use::Read && done.is_ok() {
                member.latency.took(begun.elapsed());
            }
            if std::mem::take(&mut member.health().hanging) {
                member.answered.notify_one();
            }
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
        match &done {
            Err(error) if error.is_about_the_zone() => self.went_down(what, error.detail()),
            _ => {
                self.health().circuit.worked(what, Instant::now());
            }
        }
        done
    }

    async fn permit(&self, what: Use, deadline: Instant) -> Result<OwnedSemaphorePermit, ZoneError> {
        let permits = match what {
            Use::Write => &self.writes,
            Use::Read => &self.reads,
            Use::Probe => &self.probes,
        };
        let down = |detail: &str| ZoneError::Down {
            zone: self.zone.name().into(),
            detail: detail.into(),
        };
        let full = || down("it does not answer");
        // Until it has answered something, the probe included, nothing more is asked of it.
        if self.is_hanging() && what != Use::Probe {
            return Err(full());
        }
        if what == Use::Write && !self.is_closed() {
            return Err(down("it kept failing and is written to again once it is seen to work"));
        }
        if let Ok(permit) = Arc::clone(permits).try_acquire_owned() {
            return Ok(permit);
        }
        if what == Use::Probe {
            // An earlier try is not done yet: this one has failed.
            self.health().circuit.failed(what, true, Instant::now());
            return Err(full());
        }
        match timeout_at(deadline, Arc::clone(permits).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(full()),
        }
    }

    /// Asks the zone whether it works. One that was down and does is to be compared with the others.
    pub(super) async fn probe(self: &Arc<Self>, within: Duration) -> bool {
        self.health().circuit.trying();
        let works = self.call(Use::Probe, within, |zone| async move { zone.probe().await }).await;
        if works.is_err() {
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

    fn went_down(&self, what: Use, detail: String) {
        let mut health = self.health();
        let name = self.zone.name();
        if health.up {
            health.since = self.clock.now();
            tracing::warn!(zone = name, "zone {name} is down: {detail}");
        }
        let hanging = health.hanging;
        if health.circuit.failed(what, hanging, Instant::now()) && what != Use::Probe {
            tracing::warn!(zone = name, "nothing is written to zone {name} until it is seen to work: {detail}");
        }
        health.up = false;
        health.compare = true;
        health.detail = detail;
    }

    /// It is taken for down: it lists more than `most` objects that most zones lack. Says so in words for an operator.
    pub(super) fn listed_too_much(&self, most: usize) -> String {
        let detail = format!("it lists more than {most} objects that most other zones lack");
        self.went_down(Use::Read, detail.clone());
        detail
    }

    /// Nothing waits for the zone any more, unless something went wrong or came in meanwhile.
    pub(super) fn caught_up(&self) {
        let mut health = self.health();
        if health.up && health.waiting.is_empty() && !health.compare && health.comparing == 0 && !health.detail.is_empty() {
            health.detail.clear();
            let away = self.clock.now().since(health.since).as_secs();
            tracing::info!(zone = self.zone.name(), seconds = away, "zone {} has caught up", self.zone.name());
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.health().up
    }

    /// Whether its circuit is closed: it may be written to.
    pub(super) fn is_closed(&self) -> bool {
        self.health().circuit.state() == Circuit::Closed
    }

    /// How long until the zone should be looked at again.
    pub(super) fn pause(&self, usual: Duration) -> Duration {
        let next_try = self.health().circuit.next_try();
        next_try.map_or(usual, |at| at.since(Instant::now()))
    }

    /// The less, the sooner it is asked for an object.
    pub(super) fn rank(&self) -> (bool, bool, u64, u32) {
        let health = self.health();
        let open = health.circuit.state() != Circuit::Closed;
        (open, !health.up, self.found.wrong.load(Ordering::Relaxed), self.latency.class())
    }

    pub(super) fn gave_wrong_copy(&self) {
        self.found.wrong.fetch_add(1, Ordering::Relaxed);
    }

    /// An object is not there, though nothing was known to be in the way.
    pub(super) fn lacked(&self, name: &ObjectName) {
        if !self.is_on_its_way(name) && !self.health().waiting.contains(name) {
            self.found.missing.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn was_repaired(&self) {
        self.found.repaired.fetch_add(1, Ordering::Relaxed);
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

    /// Takes note that the listing has to be compared.
    pub(super) fn request_compare(&self) {
        self.health().compare = true;
    }

    /// Begins the comparison that was asked for, if one was. To be followed by `compared`.
    pub(super) fn take_compare(&self) -> bool {
        let mut health = self.health();
        let asked = std::mem::take(&mut health.compare);
        health.comparing += usize::from(asked);
        asked
    }

    /// The comparison that was begun is over; where it came to nothing another is asked for.
    pub(super) fn compared(&self, done: bool) {
        let mut health = self.health();
        health.comparing = health.comparing.saturating_sub(1);
        health.compare |= !done;
    }

    pub(super) fn queue(&self, names: impl IntoIterator<Item = ObjectName>) {
        names.into_iter().for_each(|name| self.queue_of(name, None));
    }

    /// The same for one object whose length is known.
    pub(super) fn queue_of(&self, name: ObjectName, bytes: Option<u64>) {
        let now = self.clock.now();
        let mut health = self.health();
        if !health.waiting.add(name, bytes, now) {
            health.compare = true;
        }
    }

    pub(super) fn unqueue(&self, name: &ObjectName) {
        self.health().waiting.remove(name);
    }

    /// Up to `count` waiting names after `last`.
    pub(super) fn waiting_after(&self, last: Option<&ObjectName>, count: usize) -> Vec<ObjectName> {
        self.health().waiting.after(last, count)
    }

    pub(super) fn waiting(&self) -> usize {
        self.health().waiting.len()
    }

    pub(super) fn status(&self) -> ZoneState {
        let health = self.health();
        let complete = self.zone.is_complete();
        let detail = if health.up && !complete {
            "it is new and being filled".to_owned()
        } else {
            health.detail.clone()
        };
        ZoneState {
            name: self.zone.name().to_owned(),
            up: health.up,
            condition: match (health.hanging, health.up, complete) {
                (true, ..) => Condition::Hanging,
                (_, false, _) => Condition::Down,
                (_, true, false) => Condition::Filling,
                (_, true, true) => Condition::Up,
            },
            detail,
            since: health.since,
            circuit: health.circuit.state(),
            next_try: health.circuit.next_try().map(|at| at.since(Instant::now())),
            waiting: health.waiting.len(),
            waiting_bytes: health.waiting.bytes(),
            waiting_since: health.waiting.oldest(),
            compare: health.compare || health.comparing > 0,
            missing: self.found.missing.load(Ordering::Relaxed),
            corrupt: self.found.wrong.load(Ordering::Relaxed),
            repaired: self.found.repaired.load(Ordering::Relaxed),
            read_p95: self.latency.p95(),
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
