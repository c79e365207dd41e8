//! The service for keys of keyrings of people.

use std::sync::Arc;

use edge::op;
use tonic::{Request, Response, Status};
use wire::v1::people_keys_server::PeopleKeys;
use wire::v1::{DropPeopleKeysRequest, DropPeopleKeysResponse, NextPeopleKeyRequest, PeopleKey};

use super::{Services, product, refusal, to_the_end};

#[async_trait::async_trait]
impl PeopleKeys for Services {
    async fn next(&self, request: Request<NextPeopleKeyRequest>) -> Result<Response<PeopleKey>, Status> {
        self.shared.serves()?;
        let op = op(&request)?;
        let shared = Arc::clone(&self.shared);
        let made = to_the_end(async move { shared.keyring.next_people_key(&op).await }).await?;
        self.counts.leased("people", made.is_ok());
        Ok(Response::new(made.map_err(|error| refusal(&error))?.told()))
    }

    async fn drop(&self, request: Request<DropPeopleKeysRequest>) -> Result<Response<DropPeopleKeysResponse>, Status> {
        self.shared.serves()?;
        let DropPeopleKeysRequest { product: number, below } = request.into_inner();
        let (shared, product) = (Arc::clone(&self.shared), product(number)?);
        let dropped = to_the_end(async move { shared.keyring.drop_people_keys(product, below).await }).await?;
        let dropped = dropped.map_err(|error| refusal(&error))?;
        Ok(Response::new(DropPeopleKeysResponse { dropped }))
    }
}
