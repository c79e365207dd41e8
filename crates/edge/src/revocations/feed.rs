//! The telling side.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use base::{Clock, CredentialId, Timestamp};
use futures::{Stream, StreamExt, stream};
use tokio::sync::broadcast;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use wire::v1::revocations_server::{Revocations, RevocationsServer};
use wire::v1::{Revocation, WatchRequest};

use super::{HEARTBEAT, REMEMBERED};

/// How many revocations a listener may be behind before it is made to start over.
const BEHIND: usize = 1024;

/// Tells of revocations. Clones tell the same.
#[derive(Debug, Clone)]
pub struct Feed(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Arc<dyn Clock>,
    cancel: CancellationToken,
    recent: Mutex<VecDeque<(Timestamp, CredentialId)>>,
    sender: broadcast::Sender<CredentialId>,
}

impl Feed {
    /// Starts with what was revoked before this start; only the last ten minutes of it matter. Streams end with `cancel`.
    pub fn new(clock: Arc<dyn Clock>, recent: impl IntoIterator<Item = (Timestamp, CredentialId)>, cancel: CancellationToken) -> Self {
        let mut recent: Vec<_> = recent.into_iter().collect();
        recent.sort_unstable();
        Self(Arc::new(Inner {
            clock,
            cancel,
            recent: Mutex::new(recent.into()),
            sender: broadcast::Sender::new(BEHIND),
        }))
    }

    /// Tells everyone who listens, now. To be called after the revocation is durable.
    pub fn revoke(&self, credential: CredentialId) {
        let now = self.0.clock.now();
        let mut recent = self.recent();
        recent.push_back((now, credential));
        while recent.front().is_some_and(|(at, _)| now.since(*at) > REMEMBERED) {
            recent.pop_front();
        }
        // Told under the lock, so that a listener who joins meanwhile finds it in one place or the other.
        // An error means that nobody listens.
        let _ = self.0.sender.send(credential);
    }

    /// The service, to be added to the role's own.
    pub fn service(&self) -> RevocationsServer<Self> {
        RevocationsServer::new(self.clone())
    }

    fn recent(&self) -> std::sync::MutexGuard<'_, VecDeque<(Timestamp, CredentialId)>> {
        self.0.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listen(&self) -> impl Stream<Item = Revocation> + Send + use<> {
        let (past, told) = {
            let recent = self.recent();
            let now = self.0.clock.now();
            let past: Vec<_> = recent
                .iter()
                .filter(|(at, _)| now.since(*at) <= REMEMBERED)
                .map(|(_, id)| *id)
                .collect();
            (past, self.0.sender.subscribe())
        };
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let live = stream::unfold(
            (told, heartbeat, self.0.cancel.clone()),
            |(mut told, mut heartbeat, cancel)| async move {
                let next = tokio::select! {
                    biased;
                    () = cancel.cancelled() => return None,
                    revoked = told.recv() => match revoked {
                        Ok(credential) => message(Some(credential)),
                        // It fell behind: it starts over and is told the last ten minutes again, so that nothing is missed.
                        Err(_) => return None,
                    },
                    _ = heartbeat.tick() => message(None),
                };
                Some((next, (told, heartbeat, cancel)))
            },
        );
        stream::iter(past).map(|credential| message(Some(credential))).chain(live)
    }
}

fn message(credential: Option<CredentialId>) -> Revocation {
    Revocation {
        credential: credential.map(|id| id.to_bytes().to_vec()).unwrap_or_default(),
    }
}

#[async_trait::async_trait]
impl Revocations for Feed {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<Revocation, Status>> + Send>>;

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(Box::pin(self.listen().map(Ok))))
    }
}
