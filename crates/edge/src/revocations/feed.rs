//! The telling side.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use base::{Clock, CredentialId, ProductId, Timestamp};
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

/// What there is to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum News {
    Revoked(CredentialId),
    /// A product's settings are different.
    Changed(ProductId),
}

/// Tells of revocations, and of products whose settings have changed. Clones tell the same.
#[derive(Debug, Clone)]
pub struct Feed(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Arc<dyn Clock>,
    cancel: CancellationToken,
    recent: Mutex<VecDeque<(Timestamp, News)>>,
    sender: broadcast::Sender<News>,
}

impl Feed {
    /// Starts with what was revoked before this start; only the last ten minutes of it matter. Streams end with `cancel`.
    pub fn new(clock: Arc<dyn Clock>, recent: impl IntoIterator<Item = (Timestamp, CredentialId)>, cancel: CancellationToken) -> Self {
        let mut recent: Vec<_> = recent.into_iter().map(|(at, credential)| (at, News::Revoked(credential))).collect();
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
        self.tell(News::Revoked(credential));
    }

    /// Tells everyone who listens that this product's settings are different now. To be called after the change is durable.
    pub fn changed(&self, product: ProductId) {
        self.tell(News::Changed(product));
    }

    fn tell(&self, news: News) {
        let now = self.0.clock.now();
        let mut recent = self.recent();
        recent.push_back((now, news));
        while recent.front().is_some_and(|(at, _)| now.since(*at) > REMEMBERED) {
            recent.pop_front();
        }
        // Told under the lock, so that a listener who joins meanwhile finds it in one place or the other.
        // An error means that nobody listens.
        let _ = self.0.sender.send(news);
    }

    /// The service, to be added to the role's own.
    pub fn service(&self) -> RevocationsServer<Self> {
        RevocationsServer::new(self.clone())
    }

    fn recent(&self) -> std::sync::MutexGuard<'_, VecDeque<(Timestamp, News)>> {
        self.0.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listen(&self) -> impl Stream<Item = Revocation> + Send + use<> {
        let (past, told) = {
            let recent = self.recent();
            let now = self.0.clock.now();
            let past: Vec<_> = recent
                .iter()
                .filter(|(at, _)| now.since(*at) <= REMEMBERED)
                .map(|(_, news)| *news)
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
                    news = told.recv() => match news {
                        Ok(news) => message(Some(news)),
                        // It fell behind: it starts over and is told the last ten minutes again, so that nothing is missed.
                        Err(_) => return None,
                    },
                    _ = heartbeat.tick() => message(None),
                };
                Some((next, (told, heartbeat, cancel)))
            },
        );
        stream::iter(past).map(|news| message(Some(news))).chain(live)
    }
}

fn message(news: Option<News>) -> Revocation {
    match news {
        None => Revocation::default(),
        Some(News::Revoked(credential)) => Revocation {
            credential: credential.to_bytes().to_vec(),
            product: 0,
        },
        Some(News::Changed(product)) => Revocation {
            credential: Vec::new(),
            product: product.get(),
        },
    }
}

#[async_trait::async_trait]
impl Revocations for Feed {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<Revocation, Status>> + Send>>;

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(Box::pin(self.listen().map(Ok))))
    }
}
