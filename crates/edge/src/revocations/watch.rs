//! The hearing side.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base::{Clock, CredentialId, ErrorKind, ProductId, Role, Timestamp};
use tokio::sync::broadcast;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use wire::v1::WatchRequest;
use wire::v1::revocations_client::RevocationsClient;

use super::{REMEMBERED, SILENCE};
use crate::{Peers, status};

/// Both must be heard: the vault revokes credentials, accounts takes rights away.
const TELLERS: [Role; 2] = [Role::Vault, Role::Accounts];
/// A teller that says nothing for so long is asked anew.
const STALLED: Duration = Duration::from_secs(3);
const AGAIN: Duration = Duration::from_millis(300);
/// A bound for the memory of what was revoked; beyond it the oldest half is dropped, and it has long been told to everyone.
const MOST: usize = 100_000;

/// Why something that was open must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// Its credential was revoked.
    #[error("the credential was revoked")]
    Revoked,
    /// Nothing has been heard of revocations for too long to go on reading.
    #[error("revocations have not been heard for too long")]
    Unheard,
}

impl Ended {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Revoked => ErrorKind::Unauthenticated,
            Self::Unheard => ErrorKind::Unavailable,
        }
    }
}

impl From<Ended> for Status {
    fn from(ended: Ended) -> Self {
        status(ended.kind(), ended.to_string())
    }
}

/// When a teller was last heard, by both clocks: the wall clock may be turned back, the monotonic one stands still in a test.
#[derive(Debug, Clone, Copy)]
struct Heard {
    wall: Timestamp,
    monotonic: Instant,
}

impl Heard {
    fn at(wall: Timestamp) -> Self {
        Self {
            wall,
            monotonic: Instant::now(),
        }
    }

    /// Whether it is not long ago by either clock: one that jumped ahead may come back, and passes with it.
    fn is_within(&self, time: Duration, now: Timestamp) -> bool {
        now.since(self.wall) <= time || self.monotonic.elapsed() <= time
    }
}

/// What was revoked, as far as this role has heard. Fails closed: before the first word nothing may be read.
#[derive(Debug)]
pub struct Watch {
    clock: Arc<dyn Clock>,
    heard: Mutex<BTreeMap<Role, Heard>>,
    revoked: Mutex<HashMap<CredentialId, Heard>>,
    sender: broadcast::Sender<CredentialId>,
    changes: broadcast::Sender<ProductId>,
}

impl Watch {
    /// Hears only what [`Watch::hear`] and [`Watch::note`] tell it.
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            heard: Mutex::default(),
            revoked: Mutex::default(),
            sender: broadcast::Sender::new(1024),
            changes: broadcast::Sender::new(1024),
        })
    }

    /// Follows vault and accounts until `cancel`, connecting again whenever they are lost. To be called inside the async runtime.
    pub fn follow(peers: &Peers, clock: Arc<dyn Clock>, cancel: &CancellationToken) -> Arc<Self> {
        let watch = Self::new(clock);
        for teller in TELLERS {
            let (watch, channel, cancel) = (Arc::clone(&watch), peers.channel(teller), cancel.clone());
            tokio::spawn(async move {
                cancel
                    .run_until_cancelled(watch.follow_one(teller, RevocationsClient::new(channel)))
                    .await;
            });
        }
        watch
    }

    /// Whether this credential was revoked lately. (A pass made before that has ended by now otherwise.)
    pub fn is_revoked(&self, credential: &CredentialId) -> bool {
        self.revoked().contains_key(credential)
    }

    /// For how long the quieter of both tellers has been silent; `None` when one was never heard.
    pub fn silent_for(&self) -> Option<Duration> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let silence = |teller| heard.get(&teller).map(|at: &Heard| now.since(at.wall).max(at.monotonic.elapsed()));
        TELLERS
            .into_iter()
            .map(silence)
            .collect::<Option<Vec<_>>>()
            .and_then(|all| all.into_iter().max())
    }

    /// Whether anything may be read for anyone.
    pub fn may_read(&self) -> bool {
        self.silent_for().is_some_and(|silence| silence < SILENCE)
    }

    /// Every credential that is revoked from now on, once.
    pub fn subscribe(&self) -> broadcast::Receiver<CredentialId> {
        self.sender.subscribe()
    }

    /// Every product whose settings are different from now on. After a connection was lost, those of the last minutes again.
    pub fn changes(&self) -> broadcast::Receiver<ProductId> {
        self.changes.subscribe()
    }

    /// Returns when something that reads for `credential` must end. For `select!` beside a query or a stream.
    pub async fn ended(&self, credential: &CredentialId) -> Ended {
        let mut told = self.subscribe();
        loop {
            if self.is_revoked(credential) {
                return Ended::Revoked;
            }
            if !self.may_read() {
                return Ended::Unheard;
            }
            // Revocations wake it; silence has to be looked for. A receiver that lags looks again, which is right too.
            let _ = timeout(Duration::from_millis(500), told.recv()).await;
        }
    }

    /// `teller` is there.
    pub fn hear(&self, teller: Role) {
        let heard = Heard::at(self.clock.now());
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).insert(teller, heard);
    }

    /// `credential` was revoked.
    pub fn note(&self, credential: CredentialId) {
        let now = self.clock.now();
        let mut revoked = self.revoked();
        // Twice as long as a teller remembers: one that was told late is not forgotten early.
        revoked.retain(|_, heard| heard.is_within(REMEMBERED * 2, now));
        if revoked.len() >= MOST {
            let mut ages: Vec<_> = revoked.values().map(|heard| heard.monotonic).collect();
            let middle = ages.len() / 2;
            let (_, median, _) = ages.select_nth_unstable(middle);
            let median = *median;
            revoked.retain(|_, heard| heard.monotonic >= median);
        }
        if revoked.insert(credential, Heard::at(now)).is_none() {
            tracing::info!(%credential, "heard that a credential was revoked");
            // An error means that nobody has anything open.
            let _ = self.sender.send(credential);
        }
    }

    /// `product`'s settings have changed.
    pub fn note_change(&self, product: ProductId) {
        // An error means that nobody remembers settings.
        let _ = self.changes.send(product);
    }

    async fn follow_one(&self, teller: Role, mut client: RevocationsClient<tonic::transport::Channel>) {
        let mut lost = false;
        loop {
            match self.listen(teller, &mut client, &mut lost).await {
                Ok(()) => tracing::debug!(%teller, "the stream of revocations ended, asking again"),
                Err(error) if !lost => tracing::warn!(%teller, error = error.message(), "revocations are not heard from the {teller} role"),
                Err(_) => {}
            }
            lost = true;
            sleep(AGAIN).await;
        }
    }

    async fn listen(&self, teller: Role, client: &mut RevocationsClient<tonic::transport::Channel>, lost: &mut bool) -> Result<(), Status> {
        let stalled = |_| Status::unavailable("it does not answer");
        let mut told = timeout(STALLED, client.watch(WatchRequest {}))
            .await
            .map_err(stalled)??
            .into_inner();
        while let Some(message) = timeout(STALLED, told.message()).await.map_err(stalled)?? {
            if !message.credential.is_empty() {
                let credential = CredentialId::try_from(&*message.credential);
                self.note(credential.map_err(|_| Status::data_loss("it tells of something that is not a credential"))?);
            }
            // Only accounts knows of settings.
            if message.product != 0 && teller == Role::Accounts {
                let product = ProductId::new(message.product);
                self.note_change(product.map_err(|_| Status::data_loss("it tells of something that is not a product"))?);
            }
            self.hear(teller);
            if std::mem::take(lost) {
                tracing::info!(%teller, "revocations are heard from the {teller} role");
            }
        }
        Ok(())
    }

    fn revoked(&self) -> MutexGuard<'_, HashMap<CredentialId, Heard>> {
        self.revoked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
