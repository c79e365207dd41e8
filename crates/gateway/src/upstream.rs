//! The other roles, as the gateway calls them: with a deadline, and with their answers turned into refusals for callers.
//!
//! Start at [`Upstream`]. Does not know what a call means.

use std::future::Future;
use std::time::Duration;

use base::{ErrorKind, RequestId, Role};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use wire::MAX_MESSAGE;
use wire::v1::accounts_client::AccountsClient;
use wire::v1::audit_client::AuditClient;
use wire::v1::identity_client::IdentityClient;
use wire::v1::vault_client::VaultClient;
use wire::v1::warehouse_client::WarehouseClient;
use wire::v1::{AuthenticateRequest, AuthenticateResponse, GrantRequest, GrantResponse};

use crate::errors::ApiError;

/// Clients of the roles that the gateway may call.
#[derive(Debug)]
pub(crate) struct Upstream {
    vault: VaultClient<Channel>,
    audit: AuditClient<Channel>,
    accounts: AccountsClient<Channel>,
    identity: IdentityClient<Channel>,
    warehouse: WarehouseClient<Channel>,
    patience: Duration,
}

impl Upstream {
    /// Through these channels; an answer is waited for so long.
    pub(crate) fn new(channel: impl Fn(Role) -> Channel, patience: Duration) -> Self {
        Self {
            vault: VaultClient::new(channel(Role::Vault)),
            audit: AuditClient::new(channel(Role::Vault)).max_decoding_message_size(MAX_MESSAGE),
            accounts: AccountsClient::new(channel(Role::Accounts)),
            identity: IdentityClient::new(channel(Role::Identity))
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
            warehouse: WarehouseClient::new(channel(Role::Warehouse))
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
            patience,
        }
    }

    /// Who has this key.
    pub(crate) async fn authenticate(&self, asked: AuthenticateRequest, request: RequestId) -> Result<AuthenticateResponse, ApiError> {
        let mut vault = self.vault.clone();
        self.answer(Role::Vault, request, vault.authenticate(about(asked, request)))
            .await
            .map_err(|(error, _)| error)
    }

    /// What those may do.
    pub(crate) async fn grant(&self, asked: GrantRequest, request: RequestId) -> Result<GrantResponse, ApiError> {
        let mut accounts = self.accounts.clone();
        self.answer(Role::Accounts, request, accounts.grant(about(asked, request)))
            .await
            .map_err(|(error, _)| error)
    }

    /// A client of the audit journal.
    pub(crate) fn audit(&self) -> AuditClient<Channel> {
        self.audit.clone()
    }

    /// A client of the role that knows identities.
    pub(crate) fn identity(&self) -> IdentityClient<Channel> {
        self.identity.clone()
    }

    /// A client of the role that keeps events.
    pub(crate) fn warehouse(&self) -> WarehouseClient<Channel> {
        self.warehouse.clone()
    }

    /// Waits for an answer, and says with a refusal of which kind it is.
    pub(crate) async fn answer<R>(
        &self,
        role: Role,
        request: RequestId,
        call: impl Future<Output = Result<Response<R>, Status>>,
    ) -> Result<R, (ApiError, ErrorKind)> {
        match tokio::time::timeout(self.patience, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => {
                let kind = edge::kind_of(&status);
                if matches!(kind, ErrorKind::Unavailable | ErrorKind::Internal | ErrorKind::Corrupt) {
                    // Messages of other roles hold no values, keys or SQL; those of the transport name a socket at most.
                    tracing::warn!(request.id = %request, upstream = %role, code = ?status.code(), "the {role} role did not do it: {}", status.message());
                }
                Err((ApiError::from_upstream(&status), kind))
            }
            Err(_) => {
                tracing::warn!(request.id = %request, upstream = %role, "the {role} role did not answer in time");
                Err((ApiError::of(ErrorKind::Unavailable), ErrorKind::Unavailable))
            }
        }
    }
}

/// A call without a pass, about the request `request`.
fn about<T>(message: T, request: RequestId) -> Request<T> {
    let mut call = Request::new(message);
    // An id's text is letters and digits, which every metadata value may hold.
    if let Ok(id) = request.to_string().parse() {
        call.metadata_mut().insert(wire::REQUEST_ID_HEADER, id);
    }
    call
}
