//! The service that turns assertions into grants.

use std::sync::Arc;

use base::ErrorKind;
use edge::{Counter, Peer, status};
use tonic::{Request, Response, Status};
use wire::v1::accounts_server::Accounts;
use wire::v1::{GrantRequest, GrantResponse, ProductSettings};

use crate::state::State;

/// More audiences than there are roles are nobody's honest request.
const MOST_ASSERTIONS: usize = 16;

/// Serves gateways.
#[derive(Debug)]
pub(crate) struct Grants {
    pub(crate) state: Arc<State>,
    pub(crate) granted: Counter,
    pub(crate) refused: Counter,
}

#[tonic::async_trait]
impl Accounts for Grants {
    async fn grant(&self, request: Request<GrantRequest>) -> Result<Response<GrantResponse>, Status> {
        let holder = request
            .extensions()
            .get::<Peer>()
            .ok_or_else(|| status(ErrorKind::Unauthenticated, "no certificate was shown"))?
            .holder;
        let assertions = request.into_inner().assertions;
        if assertions.is_empty() || assertions.len() > MOST_ASSERTIONS {
            return Err(status(ErrorKind::Invalid, format!("give 1 to {MOST_ASSERTIONS} assertions")));
        }
        let mut grants = Vec::with_capacity(assertions.len());
        let mut product = None;
        for assertion in &assertions {
            let (grant, about) = self.state.grant(assertion, &holder).await.map_err(|error| {
                self.refused.inc();
                tracing::info!(error = %error, "granted nothing");
                status(error.kind(), error.to_string())
            })?;
            if product.as_ref().is_some_and(|first: &crate::Product| first.id != about.id) {
                return Err(status(ErrorKind::Invalid, "the assertions are about several products"));
            }
            grants.push(grant);
            product = Some(about);
        }
        self.granted.inc_by(grants.len() as u64);
        let settings = product.map(|product| ProductSettings {
            name: product.name.to_string(),
            identity_columns: product.identity_columns,
            personal_columns: product.personal_columns,
            link_identities: product.link_identities,
        });
        Ok(Response::new(GrantResponse { grants, settings }))
    }
}
