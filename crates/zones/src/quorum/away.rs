//! A drill: a zone is taken away while everything runs, whatever kind of zone it is.
//!
//! Promise: it comes back by itself. What is lost on the way is only the answer of a request that had begun, as with a network that
//! fails: the request itself goes to its end, so that no write arrives that nobody reckons with any more.
//!
//! Knows nothing of who asks for it.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base::ErrorKind;
use base::time::{Instant, sleep_until};
use bytes::Bytes;
use tokio::sync::watch;

use super::Zones;
use crate::{ObjectName, Zone, ZoneError};

/// Nobody takes a zone away for longer at once.
const LONGEST: Duration = Duration::from_secs(600);

/// What a zone that was taken away does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Absence {
    /// It says no to everything.
    #[default]
    Refuses,
    /// It answers nothing until it is back; then it does what it was asked, however late.
    Hangs,
}

impl FromStr for Absence {
    type Err = DrillError;

    fn from_str(text: &str) -> Result<Self, DrillError> {
        match text {
            "refuse" => Ok(Self::Refuses),
            "hang" => Ok(Self::Hangs),
            _ => Err(DrillError::Manner),
        }
    }
}

/// Why a zone was not taken away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DrillError {
    /// There is no such zone.
    #[error("there is no zone {zone:?}; there are {}", there.join(", "))]
    NoZone {
        /// What was asked for.
        zone: String,
        /// What there is.
        there: Vec<String>,
    },
    /// No such way of being away.
    #[error("a zone that is away can refuse or hang")]
    Manner,
    /// A zone comes back by itself before anybody misses it.
    #[error("a zone can be taken away for {} s at once, not for {} s", LONGEST.as_secs(), within.as_secs())]
    TooLong {
        /// What was asked for.
        within: Duration,
    },
}

impl DrillError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoZone { .. } => ErrorKind::NotFound,
            Self::Manner | Self::TooLong { .. } => ErrorKind::Invalid,
        }
    }
}

impl Zones {
    /// Takes a zone away for at most `within` from now on, however often this was said before; a duration of zero brings it back.
    pub fn drill(&self, zone: &str, absence: Absence, within: Duration) -> Result<(), DrillError> {
        if within > LONGEST {
            return Err(DrillError::TooLong { within });
        }
        let Some(removable) = self.removable.iter().find(|removable| removable.name() == zone) else {
            return Err(DrillError::NoZone {
                zone: zone.to_owned(),
                there: self.removable.iter().map(|removable| removable.name().to_owned()).collect(),
            });
        };
        if within.is_zero() {
            removable.bring_back();
        } else {
            removable.take_away(absence, within);
        }
        Ok(())
    }

    /// The same in the operator's words: `refuse` or `hang`, and what to say when it cannot be done.
    pub fn drills(self: &Arc<Self>) -> impl Fn(&str, &str, Duration) -> Result<(), (ErrorKind, String)> + Send + Sync + use<> {
        let zones = Arc::clone(self);
        move |zone, absence, within| {
            let drilled = absence.parse().and_then(|absence| zones.drill(zone, absence, within));
            drilled.map_err(|error| (error.kind(), error.to_string()))
        }
    }
}

/// The same zones, so that each can be taken away; once for use and once for that.
pub(super) fn removable(zones: Vec<Arc<dyn Zone>>) -> (Vec<Arc<dyn Zone>>, Vec<Arc<Removable>>) {
    let removable: Vec<Arc<Removable>> = zones.into_iter().map(Removable::new).collect();
    let zone = |removable: &Arc<Removable>| -> Arc<dyn Zone> { Arc::<Removable>::clone(removable) };
    (removable.iter().map(zone).collect(), removable)
}

/// A zone that can be taken away.
pub(super) struct Removable {
    zone: Arc<dyn Zone>,
    state: watch::Sender<State>,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// How many absences have begun.
    begun: u64,
    /// What the zone does, or did the last time.
    absence: Absence,
    until: Option<Instant>,
}

impl State {
    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }
}

impl fmt::Debug for Removable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.zone, f)
    }
}

impl Removable {
    fn new(zone: Arc<dyn Zone>) -> Arc<Self> {
        Arc::new(Self {
            zone,
            state: watch::Sender::default(),
        })
    }

    fn take_away(&self, absence: Absence, within: Duration) {
        let mut begins = false;
        self.state.send_modify(|state| {
            begins = state.until.is_none() || state.is_over() || state.absence != absence;
            state.begun += u64::from(begins);
            state.absence = absence;
            state.until = Some(Instant::now() + within);
        });
        if begins {
            let (zone, seconds) = (self.zone.name(), within.as_secs());
            tracing::warn!(zone, absence = ?absence, seconds, "the operator takes zone {zone} away for a drill, for {seconds} s unless it is said again");
        }
    }

    fn bring_back(&self) {
        if self.end(|_| true) {
            tracing::warn!(zone = self.zone.name(), "the operator brings zone {} back", self.zone.name());
        }
    }

    /// Ends the absence, if there is one that may end; whether it did.
    fn end(&self, may: impl Fn(&State) -> bool) -> bool {
        self.state.send_if_modified(|state| {
            let ends = state.until.is_some() && may(state);
            if ends {
                state.until = None;
            }
            ends
        })
    }

    #[cfg(test)]
    pub(super) fn is_away(&self) -> bool {
        self.now().until.is_some()
    }

    fn now(&self) -> State {
        let state = *self.state.borrow();
        if !state.is_over() {
            return state;
        }
        if self.end(State::is_over) {
            tracing::warn!(
                zone = self.zone.name(),
                "the time of its drill is over, zone {} is back",
                self.zone.name()
            );
        }
        *self.state.borrow()
    }

    /// Waits while the zone hangs. Says how many absences there were, or refuses.
    async fn enter(&self) -> Result<u64, ZoneError> {
        let mut changes = self.state.subscribe();
        loop {
            let state = self.now();
            match (state.until, state.absence) {
                (None, _) => return Ok(state.begun),
                (Some(_), Absence::Refuses) => {
                    return Err(ZoneError::Down {
                        zone: self.zone.name().to_owned(),
                        detail: "it was taken away by a drill".to_owned(),
                    });
                }
                (Some(until), Absence::Hangs) => {
                    tokio::select! {
                        biased;
                        _ = changes.changed() => {}
                        () = sleep_until(until) => {}
                    }
                }
            }
        }
    }

    /// Has the zone do `work`, unless it is away; without its answer, when it was taken away meanwhile.
    async fn pass<T>(&self, work: impl Future<Output = Result<T, ZoneError>> + Send) -> Result<T, ZoneError> {
        let before = self.enter().await?;
        // Invariant: to its end. Were it dropped here, a write could arrive after whoever waits for its end was told that it is over.
        let done = work.await;
        let state = self.now();
        if state.begun == before {
            return done;
        }
        let cut_off = || ZoneError::Unclear {
            zone: self.zone.name().to_owned(),
            detail: "it was taken away by a drill meanwhile".to_owned(),
        };
        match state.absence {
            Absence::Refuses => Err(cut_off()),
            Absence::Hangs => self.enter().await.map_err(|_| cut_off()).and(done),
        }
    }
}

#[async_trait]
impl Zone for Removable {
    fn name(&self) -> &str {
        self.zone.name()
    }

    async fn put(&self, name: &ObjectName, bytes: Bytes) -> Result<(), ZoneError> {
        self.pass(self.zone.put(name, bytes)).await
    }

    async fn get(&self, name: &ObjectName, most: u64) -> Result<Bytes, ZoneError> {
        self.pass(self.zone.get(name, most)).await
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, ZoneError> {
        self.pass(self.zone.get_range(name, range)).await
    }

    async fn list_page(&self, prefix: &str, after: &str, most: usize) -> Result<Vec<ObjectName>, ZoneError> {
        self.pass(self.zone.list_page(prefix, after, most)).await
    }

    async fn list_step(&self, listing: u64, prefix: &str, after: &str, most: usize) -> Result<Option<Vec<ObjectName>>, ZoneError> {
        self.pass(self.zone.list_step(listing, prefix, after, most)).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), ZoneError> {
        self.pass(self.zone.delete(name)).await
    }

    async fn probe(&self) -> Result<(), ZoneError> {
        self.pass(self.zone.probe()).await
    }

    fn is_final(&self) -> bool {
        self.zone.is_final()
    }

    fn is_complete(&self) -> bool {
        self.zone.is_complete()
    }

    async fn set_complete(&self) -> Result<(), ZoneError> {
        self.pass(self.zone.set_complete()).await
    }
}
