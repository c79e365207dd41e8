//! A zone in a bucket of a store that speaks the protocol of Amazon S3.
//!
//! Promise: an object that was put is what every later read and listing of the store shows; what is refused was not changed, and
//! where that is not known it is said. Before a store is used it is tried out ([`trial`]): one that would break this is a zone
//! that is down, with the reason in words. What cannot be tried out, that it flushes before it answers, is the operator's to know.
//!
//! A prefix in a bucket is a zone when it holds a `zone.json` with the zone's name, by the same rules as a directory: after the
//! first start one without it is down, and one that is empty is adopted when the operator puts `adopt-as-<zone>` into it.
//!
//! One process at a time writes to a zone, and one that has a successor finds out before it says that something is written: see `turn`.
//!
//! Speaks TLS only, tries nothing twice, and reads no more than was asked for. Start at [`S3Zone::new`].

mod address;
mod answers;
mod client;
mod credentials;
mod gathering;
mod hosts;
mod late;
mod listing;
mod marker;
mod requests;
mod sign;
mod transport;
mod trial;
mod turn;

#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use base::Clock;
use bytes::Bytes;
use tokio::time::Instant;

pub use address::Address;
pub use answers::{Page, page};
pub use hosts::{Hosts, Known};

use crate::name::is_prefix;
use crate::turn::Turn;
use crate::{Empty, ObjectName, Zone, ZoneError};
use client::Client;
use credentials::Credentials;
use gathering::Gathering;
use late::Late;
use listing::below;
use transport::Transport;

/// The file of authorities that is read where a zone names none.
pub(crate) fn system_certificates() -> Option<PathBuf> {
    transport::system_certificates()
}

/// What keeps the files of a zone in a store from being used, in words. Blocks for a moment.
pub(crate) fn check_files(address: &Address, credentials: &Path, ca: Option<&Path>) -> Result<(), String> {
    Credentials::read(credentials)?;
    Transport::new(address, Hosts::default(), ca).map(drop)
}

/// What a zone in a bucket is made of.
#[derive(Debug, Clone)]
pub struct S3Parts {
    /// The zone's name.
    pub name: String,
    /// Whose it is; empty: not compared.
    pub installation: String,
    /// The role whose it is; empty: not compared.
    pub role: String,
    /// Where it is.
    pub address: Address,
    /// What the store calls the place it is in.
    pub region: String,
    /// The file of the access key, which nobody else may read.
    pub credentials: PathBuf,
    /// The authorities that may certify the store; those of the system when nothing is said.
    pub ca: Option<PathBuf>,
    /// Where the store's addresses come from.
    pub hosts: Hosts,
    /// How long a change may take.
    pub put_timeout: Duration,
    /// How long a read, or one page of a listing, may take.
    pub read_timeout: Duration,
    /// For signatures, which hold for minutes only.
    pub clock: Arc<dyn Clock>,
}

/// A zone in a bucket.
#[derive(Clone)]
pub struct S3Zone(Arc<Inner>);

struct Inner {
    parts: S3Parts,
    client: Mutex<Option<Arc<Client>>>,
    /// Held by whoever finds out whether the zone can be used.
    state: tokio::sync::Mutex<State>,
    /// Whether the marker was there and the store answered, as last heard. Without that nothing is changed in it.
    ready: AtomicBool,
    /// Whether the last change was refused: then being there is not enough to be up.
    refuses: AtomicBool,
    /// As the marker said when it was last read.
    complete: AtomicBool,
    /// Whether the store lists keys in the order of their bytes.
    ordered: AtomicBool,
    late: Mutex<Late>,
    /// Listings under way.
    gatherings: Mutex<Vec<Gathering>>,
    names_kept: AtomicUsize,
    /// Which turn to write is this process's.
    turn: Turn,
}

#[derive(Debug, Default)]
struct State {
    tried: bool,
    /// What the trial found, and when.
    unfit: Option<(Instant, String)>,
    failed: Option<(Instant, ZoneError)>,
}

/// After how long a zone that could not be used is looked at again, when a change asks for it.
const AGAIN: Duration = Duration::from_millis(500);
/// After how long a store that failed its trial is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(60);

impl S3Zone {
    /// A zone that nothing is known about yet. Does no I/O.
    pub fn new(parts: S3Parts) -> Self {
        Self(Arc::new(Inner {
            parts,
            client: Mutex::default(),
            state: tokio::sync::Mutex::default(),
            ready: AtomicBool::new(false),
            refuses: AtomicBool::new(true),
            complete: AtomicBool::new(true),
            ordered: AtomicBool::new(false),
            late: Mutex::default(),
            gatherings: Mutex::default(),
            names_kept: AtomicUsize::new(gathering::NAMES),
            turn: Turn::default(),
        }))
    }

    /// Whether the bucket is a zone already, whoever's it is.
    pub(crate) async fn is_begun(&self) -> bool {
        self.0.has_marker().await
    }

    /// Takes the bucket into use if it can be; says whether it could.
    pub(crate) async fn open(&self, empty: Empty) -> bool {
        let mut state = self.0.state.lock().await;
        match self.0.prepare(empty, &mut state).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(zone = %self.0.parts.name, "{error}");
                false
            }
        }
    }
}

impl fmt::Debug for S3Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3Zone({} at {:?})", self.0.parts.name, self.0.parts.address)
    }
}

#[async_trait]
impl Zone for S3Zone {
    fn name(&self) -> &str {
        &self.0.parts.name
    }

    async fn put(&self, name: &ObjectName, bytes: Bytes) -> Result<(), ZoneError> {
        self.0.ensure().await?;
        self.0.put_in_turn(name, bytes).await
    }

    async fn get(&self, name: &ObjectName, most: u64) -> Result<Bytes, ZoneError> {
        self.0.get(name, most).await
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, ZoneError> {
        self.0.get_range(name, range).await
    }

    async fn list_page(&self, prefix: &str, after: &str, most: usize) -> Result<Vec<ObjectName>, ZoneError> {
        self.0.ensure().await?;
        self.0.list_page(prefix, after, most).await
    }

    async fn list_step(&self, listing: u64, prefix: &str, after: &str, most: usize) -> Result<Option<Vec<ObjectName>>, ZoneError> {
        self.0.ensure().await?;
        if !is_prefix(prefix) || most == 0 {
            return Ok(Some(Vec::new()));
        }
        self.0.list_step(listing, &below(prefix), after, most).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), ZoneError> {
        self.0.ensure().await?;
        self.0.delete_in_turn(name).await
    }

    async fn probe(&self) -> Result<(), ZoneError> {
        let mut state = self.0.state.lock().await;
        self.0.prepare(Empty::Unknown, &mut state).await?;
        if self.0.refuses.load(Ordering::SeqCst) {
            self.0.write_probe().await?;
        }
        Ok(())
    }

    fn is_complete(&self) -> bool {
        self.0.complete.load(Ordering::SeqCst)
    }

    async fn set_complete(&self) -> Result<(), ZoneError> {
        self.0.check_marker().await?;
        self.0.write_marker(true).await?;
        self.0.check_marker().await
    }
}

impl Inner {
    /// Whether anything may be changed in the zone; finds it out when it is not known.
    async fn ensure(&self) -> Result<(), ZoneError> {
        if self.ready.load(Ordering::SeqCst) {
            return Ok(());
        }
        let mut state = self.state.lock().await;
        if self.ready.load(Ordering::SeqCst) {
            return Ok(());
        }
        if let Some((at, error)) = &state.failed
            && at.elapsed() < AGAIN
        {
            return Err(error.clone());
        }
        self.prepare(Empty::Unknown, &mut state).await
    }

    /// Looks at the marker, adopts an empty bucket if it may, and tries the store out if that was not done.
    async fn prepare(&self, empty: Empty, state: &mut State) -> Result<(), ZoneError> {
        let prepared = self.prepare_now(empty, state).await;
        self.ready.store(prepared.is_ok(), Ordering::SeqCst);
        // Of a change that never left, nobody need wonder.
        let prepared = prepared.map_err(|error| self.down(error.detail()));
        state.failed = prepared.as_ref().err().map(|error| (Instant::now(), error.clone()));
        prepared
    }

    async fn prepare_now(&self, empty: Empty, state: &mut State) -> Result<(), ZoneError> {
        let adopting = match self.read_marker().await? {
            Some(marker) => {
                if marker.lacks_role(&self.owner()) {
                    // Where it cannot be written now it is at another time; two who try it find out whose it is.
                    let _ = self.write_marker(marker.is_complete()).await;
                    self.check_marker().await?;
                }
                None
            }
            None => Some(self.may_adopt(empty).await?),
        };
        if adopting.is_some() {
            state.tried = false;
            // The turns went with all the rest.
            self.turn.forget();
        }
        if !state.tried {
            self.try_out(state).await?;
        }
        if let Some(adopting) = adopting {
            self.adopt(adopting).await?;
            self.check_marker().await?;
            tracing::info!(zone = %self.parts.name, "adopted an empty bucket as zone {}", self.parts.name);
        }
        self.take_turn().await
    }

    async fn try_out(&self, state: &mut State) -> Result<(), ZoneError> {
        if let Some((at, why)) = &state.unfit
            && at.elapsed() < TRY_AGAIN
        {
            return Err(self.down(why.clone()));
        }
        state.unfit = None;
        let begun = Instant::now();
        match self.trial().await {
            Ok(()) => {
                state.tried = true;
                let took = begun.elapsed().as_millis() as u64;
                tracing::info!(zone = %self.parts.name, duration_ms = took, "the store of zone {} does what a zone must", self.parts.name);
                Ok(())
            }
            Err(trial::Failed::Unfit(why)) => {
                let why = format!("its store cannot be a zone: {why}");
                state.unfit = Some((Instant::now(), why.clone()));
                Err(self.down(why))
            }
            Err(trial::Failed::Zone(error)) => Err(error),
        }
    }

    /// The client, made when it is first needed: what is wrong with its files may be mended while we run.
    fn client(&self) -> Result<Arc<Client>, ZoneError> {
        let mut held = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*held {
            return Ok(Arc::clone(client));
        }
        let parts = &self.parts;
        let made = Client::new(
            &parts.address,
            &parts.region,
            &parts.credentials,
            parts.ca.as_deref(),
            parts.hosts.clone(),
            Arc::clone(&parts.clock),
        );
        let client = Arc::new(made.map_err(|why| self.down(why))?);
        *held = Some(Arc::clone(&client));
        Ok(client)
    }

    /// Forgets the client: its access key was refused, and there may be another in the file by now.
    fn forget_client(&self) {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn late(&self) -> MutexGuard<'_, Late> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gatherings(&self) -> MutexGuard<'_, Vec<Gathering>> {
        self.gatherings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn down(&self, detail: impl Into<String>) -> ZoneError {
        ZoneError::Down {
            zone: self.parts.name.clone(),
            detail: detail.into(),
        }
    }

    fn unclear(&self, detail: impl Into<String>) -> ZoneError {
        ZoneError::Unclear {
            zone: self.parts.name.clone(),
            detail: detail.into(),
        }
    }
}
