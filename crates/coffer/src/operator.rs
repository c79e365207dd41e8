//! Speaking to the roles' local sockets, as the owner of the data directory.

use std::time::Duration;

use base::Role;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};
use wire::v1::accounts_operator_client::AccountsOperatorClient;
use wire::v1::role_operator_client::RoleOperatorClient;
use wire::v1::role_zones_client::RoleZonesClient;
use wire::v1::vault_operator_client::VaultOperatorClient;
use wire::v1::vault_root_client::VaultRootClient;
use wire::v1::{ListProductsRequest, MetricsRequest, Product, StatusRequest, StatusResponse};

use crate::failure::{Exit, Failure, Outcome};
use crate::layout::Layout;

const ANSWER: Duration = Duration::from_secs(20);

/// The vault's.
pub(crate) fn vault(layout: &Layout) -> VaultOperatorClient<Channel> {
    VaultOperatorClient::new(channel(layout, Role::Vault))
}

/// The vault's, for who holds the root key: all there is while it is sealed.
pub(crate) fn vault_root(layout: &Layout) -> VaultRootClient<Channel> {
    VaultRootClient::new(channel(layout, Role::Vault))
}

/// Whether the vault waits for shares of its root key; how many, in words. `None` when it does not, or does not answer.
pub(crate) async fn sealed(layout: &Layout) -> Option<String> {
    let status = status(layout, Role::Vault, Duration::from_secs(2)).await.ok()?;
    status.not_ready.strip_prefix(edge::SEALED).map(str::to_owned)
}

/// The accounts role's.
pub(crate) fn accounts(layout: &Layout) -> AccountsOperatorClient<Channel> {
    AccountsOperatorClient::new(channel(layout, Role::Accounts))
}

/// What every role takes.
pub(crate) fn role(layout: &Layout, role: Role) -> RoleOperatorClient<Channel> {
    RoleOperatorClient::new(channel(layout, role))
}

/// How a role is. Fails after `patience`.
pub(crate) async fn status(layout: &Layout, role: Role, patience: Duration) -> Result<StatusResponse, Status> {
    let mut client = RoleOperatorClient::new(channel(layout, role));
    let asked = tokio::time::timeout(patience, client.status(StatusRequest {})).await;
    asked
        .unwrap_or_else(|_| Err(Status::unavailable("no answer")))
        .map(Response::into_inner)
}

/// What a role counts, as text that Prometheus reads.
pub(crate) async fn metrics(layout: &Layout, role: Role) -> Outcome<String> {
    let mut client = RoleOperatorClient::new(channel(layout, role));
    let what = format!("could not ask the role {role} what it counts");
    Ok(ask(&what, client.metrics(MetricsRequest {})).await?.text)
}

/// A role's zones.
pub(crate) fn zones(layout: &Layout, role: Role) -> RoleZonesClient<Channel> {
    RoleZonesClient::new(channel(layout, role))
}

/// The product that `wanted` names, by name or by number.
pub(crate) async fn product(layout: &Layout, wanted: &str) -> Outcome<Product> {
    let what = format!("could not look up the product {wanted:?}");
    let listed = ask(&what, accounts(layout).list_products(ListProductsRequest {})).await?;
    let found = listed
        .products
        .into_iter()
        .find(|p| p.name == wanted || p.number.to_string() == wanted);
    found.ok_or_else(|| {
        Failure::new(Exit::NotFound, format!("there is no product {wanted:?}"))
            .next("`coffer products list` shows them; `coffer products create` makes one")
    })
}

/// Waits for an answer, but not for ever: a socket stays open while its role is down.
pub(crate) async fn ask<T>(what: &str, call: impl Future<Output = Result<Response<T>, Status>>) -> Outcome<T> {
    let asked = tokio::time::timeout(ANSWER, call).await;
    let answer = asked.unwrap_or_else(|_| Err(Status::unavailable("no answer")));
    answer.map(Response::into_inner).map_err(|status| failure(what, &status))
}

/// A refused call in words.
pub(crate) fn failure(what: &str, status: &Status) -> Failure {
    let unreachable = status.code() == Code::Unavailable && !status.metadata().contains_key(wire::KIND_HEADER);
    if unreachable {
        return Failure::new(Exit::Temporary, what)
            .why("the installation does not answer on its local socket")
            .next("start it with `coffer serve`, or give its directory with --data");
    }
    Failure::new(Exit::from(edge::kind_of(status)), what).why(status.message())
}

/// The local socket of a role.
pub(crate) fn channel(layout: &Layout, role: Role) -> Channel {
    edge::operator_channel(layout.short_socket(role))
}
