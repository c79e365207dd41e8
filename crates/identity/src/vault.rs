//! What this role asks of the vault. A seam: the tests have a vault of their own.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use base::{ProductId, RequestId};
use edge::with_pass;
use tonic::transport::Channel;
use tonic::{Request, Status};
use wire::v1::heads_client::HeadsClient;
use wire::v1::people_keys_client::PeopleKeysClient;
use wire::v1::vault_client::VaultClient;
use wire::v1::{
    DropPeopleKeysRequest, Head, LeaseRequest, LookupKeyLease, NextPeopleKeyRequest, PeopleKey, RecallRequest, RememberRequest,
    StateKeyRequest,
};

/// How long the vault may take.
const ANSWER: Duration = Duration::from_secs(5);

#[async_trait]
pub(crate) trait Vault: Send + Sync + Debug {
    /// The lookup key of the pass's product, against that pass.
    async fn lookup_key(&self, pass: &[u8], request: RequestId) -> Result<LookupKeyLease, Status>;
    /// A key for the product's next keyring of people, against a pass that may erase.
    async fn next_people_key(&self, pass: &[u8], request: RequestId) -> Result<PeopleKey, Status>;
    /// Has the keys of all epochs before `below` dropped.
    async fn drop_people_keys(&self, product: ProductId, below: u64) -> Result<(), Status>;
    /// This role's own private key.
    async fn state_key(&self) -> Result<Vec<u8>, Status>;
    /// How long this role's journals were when the vault last heard of them.
    async fn recall(&self) -> Result<Vec<Head>, Status>;
    /// How long they are now.
    async fn remember(&self, heads: Vec<Head>) -> Result<(), Status>;
}

/// The vault role.
#[derive(Debug)]
pub(crate) struct VaultRole {
    pub(crate) channel: Channel,
}

#[async_trait]
impl Vault for VaultRole {
    async fn lookup_key(&self, pass: &[u8], request: RequestId) -> Result<LookupKeyLease, Status> {
        let mut call = with_pass(LeaseRequest {}, pass, request);
        call.set_timeout(ANSWER);
        VaultClient::new(self.channel.clone())
            .lease_lookup_key(call)
            .await
            .map(tonic::Response::into_inner)
    }

    async fn next_people_key(&self, pass: &[u8], request: RequestId) -> Result<PeopleKey, Status> {
        let mut call = with_pass(NextPeopleKeyRequest {}, pass, request);
        call.set_timeout(ANSWER);
        PeopleKeysClient::new(self.channel.clone())
            .next(call)
            .await
            .map(tonic::Response::into_inner)
    }

    async fn drop_people_keys(&self, product: ProductId, below: u64) -> Result<(), Status> {
        let product = product.get();
        PeopleKeysClient::new(self.channel.clone())
            .drop(in_time(DropPeopleKeysRequest { product, below }))
            .await
            .map(drop)
    }

    async fn state_key(&self) -> Result<Vec<u8>, Status> {
        let lease = VaultClient::new(self.channel.clone())
            .lease_state_key(in_time(StateKeyRequest {}))
            .await?;
        Ok(lease.into_inner().private_key)
    }

    async fn recall(&self) -> Result<Vec<Head>, Status> {
        Ok(HeadsClient::new(self.channel.clone())
            .recall(in_time(RecallRequest {}))
            .await?
            .into_inner()
            .heads)
    }

    async fn remember(&self, heads: Vec<Head>) -> Result<(), Status> {
        HeadsClient::new(self.channel.clone())
            .remember(in_time(RememberRequest { heads }))
            .await
            .map(drop)
    }
}

fn in_time<T>(message: T) -> Request<T> {
    let mut call = Request::new(message);
    call.set_timeout(ANSWER);
    call
}
