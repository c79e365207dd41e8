//! Heads of journals: the vault's is remembered here, ours by the vault. So yesterday's state of one does not pass for today's
//! as long as the other was not turned back as well.
//!
//! Remembered heads lie in the view alone. In the journal they would make the two roles' journals grow by each other for ever.

use std::sync::Arc;

use base::ErrorKind;
use edge::{Peer, status};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use wire::v1::heads_client::HeadsClient;
use wire::v1::heads_server::Heads;
use wire::v1::{Head, RecallRequest, RecallResponse, RememberRequest, RememberResponse};

use crate::state::{JOURNAL, State};
use crate::view::RememberedHead;

const MOST_HEADS: usize = 1024;
const LONGEST_NAME: usize = 256;

/// Serves the roles whose heads are remembered here.
#[derive(Debug)]
pub(crate) struct RememberedHeads {
    pub(crate) state: Arc<State>,
}

#[tonic::async_trait]
impl Heads for RememberedHeads {
    async fn remember(&self, request: Request<RememberRequest>) -> Result<Response<RememberResponse>, Status> {
        let role = caller(&request)?;
        let heads = request.into_inner().heads;
        let good = |head: &Head| head.hash.len() == 32 && (1..=LONGEST_NAME).contains(&head.journal.len());
        if heads.len() > MOST_HEADS || !heads.iter().all(good) {
            return Err(status(ErrorKind::Invalid, "the heads are not valid"));
        }
        let heads: Vec<_> = heads
            .into_iter()
            .map(|head| RememberedHead {
                journal: head.journal,
                length: head.length,
                hash: head.hash,
            })
            .collect();
        let all = self
            .state
            .remember(role, &heads)
            .await
            .map_err(|error| status(error.kind(), error.to_string()))?;
        if all {
            return Ok(Response::new(RememberResponse {}));
        }
        tracing::error!(caller = %role, "the {role} role showed a head older than the one remembered");
        Err(status(ErrorKind::Conflict, "a head is older than the one remembered"))
    }

    async fn recall(&self, request: Request<RecallRequest>) -> Result<Response<RecallResponse>, Status> {
        let role = caller(&request)?;
        let heads = self
            .state
            .heads_of(role)
            .await
            .map_err(|error| status(error.kind(), error.to_string()))?;
        let heads = heads
            .into_iter()
            .map(|head| Head {
                journal: head.journal,
                length: head.length,
                hash: head.hash,
            })
            .collect();
        Ok(Response::new(RecallResponse { heads }))
    }
}

/// Heads are remembered for whoever calls, so nobody can change another's.
fn caller<T>(request: &Request<T>) -> Result<base::Role, Status> {
    request
        .extensions()
        .get::<Peer>()
        .map(|peer| peer.role)
        .ok_or_else(|| status(ErrorKind::Unauthenticated, "no certificate was shown"))
}

/// Tells the vault how long our journal is, soon after it grew.
#[derive(Debug, Clone)]
pub(crate) struct Vault(Arc<Notify>);

impl Vault {
    /// Tells it now, and after every [`Vault::tell`].
    pub(crate) fn follow(state: Arc<State>, channel: Channel, cancel: CancellationToken) -> Self {
        let grown = Arc::new(Notify::new());
        let waiting = Arc::clone(&grown);
        tokio::spawn(async move {
            let mut vault = HeadsClient::new(channel);
            grown.notify_one();
            while cancel.run_until_cancelled(grown.notified()).await.is_some() {
                let Some(head) = state.decided().await.filter(|head| head.length > 0) else {
                    continue;
                };
                let heads = vec![Head {
                    journal: JOURNAL.into(),
                    length: head.length,
                    hash: head.hash.to_vec(),
                }];
                if let Err(error) = vault.remember(RememberRequest { heads }).await {
                    // Said again after the next change; until then the vault remembers an older head, which is true as well.
                    tracing::warn!(error = %error.message(), "could not tell the vault how long the journal is");
                }
            }
        });
        Self(waiting)
    }

    /// The journal grew.
    pub(crate) fn tell(&self) {
        self.0.notify_one();
    }
}
