//! What the operator asks through the local socket.

use std::sync::Arc;

use base::{CredentialId, ErrorKind, ProductId, Verbs};
use edge::revocations::Feed;
use edge::status;
use tonic::{Request, Response, Status};
use wire::v1::accounts_operator_server::AccountsOperator;
use wire::v1::{
    CreateProductRequest, GrantCredentialRequest, GrantCredentialResponse, ListProductsRequest, ListProductsResponse, Product as Listed,
    SetProductRequest,
};

use crate::columns::{Change, Declared};
use crate::heads::Vault;
use crate::state::{Product, ProductError, State};

/// Serves the owner of the data directory.
#[derive(Debug)]
pub(crate) struct Operator {
    pub(crate) state: Arc<State>,
    pub(crate) vault: Vault,
    /// Tells gateways of changes.
    pub(crate) feed: Feed,
}

#[tonic::async_trait]
impl AccountsOperator for Operator {
    async fn create_product(&self, request: Request<CreateProductRequest>) -> Result<Response<Listed>, Status> {
        let CreateProductRequest {
            name,
            identity_columns,
            personal_columns,
            link_identities,
        } = request.into_inner();
        let name = name
            .parse()
            .map_err(|error: ProductError| status(error.kind(), error.to_string()))?;
        let declared = Declared {
            identity_columns,
            personal_columns,
            link_identities,
        };
        let product = self
            .state
            .create_product(name, declared)
            .await
            .map_err(|error| status(error.kind(), error.to_string()))?;
        tracing::info!(product.id = %product.id, "made product {}", product.id);
        self.vault.tell();
        Ok(Response::new(listed(product)))
    }

    async fn set_product(&self, request: Request<SetProductRequest>) -> Result<Response<Listed>, Status> {
        let SetProductRequest {
            product,
            identity_columns,
            personal_columns,
            link_identities,
        } = request.into_inner();
        let id = ProductId::new(product).map_err(|_| status(ErrorKind::Invalid, "the product number is not valid"))?;
        let names = |given: Option<wire::v1::ColumnNames>| given.map(|given| given.names);
        let change = Change {
            identity_columns: names(identity_columns),
            personal_columns: names(personal_columns),
            link_identities,
        };
        let (product, changed) = self
            .state
            .set_product(id, change)
            .await
            .map_err(|error| status(error.kind(), error.to_string()))?;
        if changed {
            tracing::info!(product.id = %id, "changed the columns of product {id}");
            self.feed.changed(id);
            self.vault.tell();
        }
        Ok(Response::new(listed(product)))
    }

    async fn list_products(&self, _: Request<ListProductsRequest>) -> Result<Response<ListProductsResponse>, Status> {
        let products = self
            .state
            .products()
            .await
            .map_err(|error| status(error.kind(), error.to_string()))?;
        Ok(Response::new(ListProductsResponse {
            products: products.into_iter().map(listed).collect(),
        }))
    }

    async fn grant_credential(&self, request: Request<GrantCredentialRequest>) -> Result<Response<GrantCredentialResponse>, Status> {
        let GrantCredentialRequest {
            credential,
            product,
            verbs,
        } = request.into_inner();
        let wrong = |what: &str| status(ErrorKind::Invalid, format!("{what} is not valid"));
        let credential = CredentialId::try_from(&credential[..]).map_err(|_| wrong("the credential id"))?;
        let product = ProductId::new(product).map_err(|_| wrong("the product number"))?;
        let verbs = Verbs::from_bits(verbs)
            .ok()
            .filter(|verbs| *verbs != Verbs::default())
            .ok_or_else(|| wrong("the set of verbs"))?;
        let granted = self.state.grant_credential(credential, product, verbs).await;
        granted.map_err(|error| status(error.kind(), error.to_string()))?;
        tracing::info!(product.id = %product, credential.id = %credential, "granted verbs to credential {credential}");
        self.vault.tell();
        Ok(Response::new(GrantCredentialResponse {}))
    }
}

fn listed(product: Product) -> Listed {
    Listed {
        number: product.id.get(),
        name: product.name.to_string(),
        created_at: product.created_at.as_micros(),
        identity_columns: product.identity_columns,
        personal_columns: product.personal_columns,
        link_identities: product.link_identities,
    }
}
