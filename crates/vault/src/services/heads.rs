//! Heads of other roles' journals: each role is told and asked of its own only.

use base::ErrorKind;
use edge::status;
use tonic::{Request, Response, Status};
use wire::v1::heads_server::Heads;
use wire::v1::{Head, RecallRequest, RecallResponse, RememberRequest, RememberResponse};

use super::{Chain, Services, peer};
use crate::view::{HeadRow, ViewError};

const MOST: usize = 100_000;
const LONGEST: usize = 200;

#[async_trait::async_trait]
impl Heads for Services {
    async fn remember(&self, request: Request<RememberRequest>) -> Result<Response<RememberResponse>, Status> {
        let role = peer(&request)?.role;
        let heads = request.into_inner().heads;
        let named = |head: &Head| (1..=LONGEST).contains(&head.journal.len()) && head.hash.len() == 32;
        if heads.len() > MOST || !heads.iter().all(named) || heads.iter().any(|head| i64::try_from(head.length).is_err()) {
            return Err(status(ErrorKind::Invalid, "a head is a journal's name, its length and 32 bytes"));
        }
        let heads: Vec<_> = heads
            .into_iter()
            .map(|head| HeadRow {
                journal: head.journal,
                length: head.length,
                hash: head.hash,
            })
            .collect();
        self.shared
            .keyring
            .view
            .remember(role, &heads)
            .await
            .map_err(|error| refusal(&error))?;
        Ok(Response::new(RememberResponse {}))
    }

    async fn recall(&self, request: Request<RecallRequest>) -> Result<Response<RecallResponse>, Status> {
        let heads = self
            .shared
            .keyring
            .view
            .recall(peer(&request)?.role)
            .await
            .map_err(|error| refusal(&error))?;
        let heads = heads
            .into_iter()
            .map(|row| Head {
                journal: row.journal,
                length: row.length,
                hash: row.hash,
            })
            .collect();
        Ok(Response::new(RecallResponse { heads }))
    }
}

fn refusal(error: &ViewError) -> Status {
    tracing::error!(error = %Chain(error), "a head was not remembered or recalled");
    match error {
        ViewError::HeadWentBack { .. } => status(error.kind(), error.to_string()),
        other => status(other.kind(), other.kind().words()),
    }
}
