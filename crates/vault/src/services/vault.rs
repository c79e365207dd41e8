//! The service for other roles: certificates, assertions, leases.

use std::sync::Arc;
use std::time::Duration;

use base::{ErrorKind, Role};
use edge::{op, status};
use tonic::{Request, Response, Status};
use wire::v1::vault_server::Vault;
use wire::v1::{
    AuthenticateRequest, AuthenticateResponse, Certificates, EnrolRequest, LeaseRequest, LookupKeyLease, ProductKeyLease, PublicKeyRequest,
    PublicKeyResponse, RebuildLease, RebuildLeaseRequest, RenewRequest, StateKeyLease, StateKeyRequest,
};

use super::{Services, peer, product, refusal, to_the_end};
use crate::authority::holder_of_request;

#[async_trait::async_trait]
impl Vault for Services {
    async fn enrol(&self, request: Request<EnrolRequest>) -> Result<Response<Certificates>, Status> {
        let asked = request.into_inner();
        let Some(role) = self.shared.tokens.redeem(&asked.token, self.shared.clock.now()) else {
            tracing::warn!("refused an enrolment: the token is unknown, used or too old");
            return Err(status(
                ErrorKind::Unauthenticated,
                "the enrolment token is unknown, used or too old",
            ));
        };
        let (certificates, holder) = self.shared.certificates(role, &asked.certificate_request, &asked.signing_key)?;
        if let Some(rebuilding) = &self.shared.rebuilding {
            rebuilding.enrolled(role, holder);
        }
        Ok(Response::new(certificates))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<Certificates>, Status> {
        let peer = peer(&request)?;
        let asked = request.into_inner();
        let holder = holder_of_request(&asked.certificate_request).map_err(|error| status(error.kind(), error.to_string()))?;
        // Passes are bound to the key, so a role keeps it; and a stolen certificate request renews nothing.
        if holder != peer.holder {
            return Err(status(
                ErrorKind::Forbidden,
                "a certificate is renewed for the key that the call is made with",
            ));
        }
        let (certificates, _) = self
            .shared
            .certificates(peer.role, &asked.certificate_request, &asked.signing_key)?;
        Ok(Response::new(certificates))
    }

    async fn authenticate(&self, request: Request<AuthenticateRequest>) -> Result<Response<AuthenticateResponse>, Status> {
        self.shared.serves()?;
        let holder = peer(&request)?.holder;
        let asked = request.into_inner();
        let key = zeroize::Zeroizing::new(asked.key);
        let audiences = audiences(&asked.audiences)?;
        let judged = self
            .shared
            .keyring
            .authenticate(&key, &audiences, holder, self.shared.settings.pass_lifetime)
            .await;
        self.counts.judged(judged.is_ok());
        let assertions = judged.map_err(|error| refusal(&error))?;
        let signer = self.shared.signer.get();
        let mut answer = Response::new(AuthenticateResponse {
            assertions: assertions.iter().map(|assertion| assertion.sign(&signer)).collect(),
        });
        if let Some(first) = assertions.first() {
            answer.extensions_mut().insert(edge::Concerns {
                product: first.product,
                credential: first.credential,
            });
        }
        Ok(answer)
    }

    async fn lease_product_key(&self, request: Request<LeaseRequest>) -> Result<Response<ProductKeyLease>, Status> {
        self.shared.serves()?;
        let op = op(&request)?;
        let leased = self.shared.keyring.private_key(&op).await;
        self.counts.leased("product", leased.is_ok());
        let private_key = leased.map_err(|error| refusal(&error))?.reveal().to_vec();
        tracing::info!(product.id = %op.product, credential.id = %op.actor, request.id = %op.request,
            "lent the private key of product {}", op.product);
        Ok(Response::new(ProductKeyLease {
            private_key,
            seconds: seconds(self.shared.settings.lease),
        }))
    }

    async fn lease_lookup_key(&self, request: Request<LeaseRequest>) -> Result<Response<LookupKeyLease>, Status> {
        self.shared.serves()?;
        let op = op(&request)?;
        let leased = self.shared.keyring.lookup_key(&op).await;
        self.counts.leased("lookup", leased.is_ok());
        let lookup_key = leased.map_err(|error| refusal(&error))?.reveal().to_vec();
        let (shared, product) = (Arc::clone(&self.shared), op.product);
        let people_keys = to_the_end(async move { shared.keyring.people_keys(product).await }).await?;
        let people_keys = people_keys.map_err(|error| refusal(&error))?;
        tracing::info!(product.id = %op.product, credential.id = %op.actor, request.id = %op.request,
            "lent the lookup key of product {}", op.product);
        Ok(Response::new(LookupKeyLease {
            lookup_key,
            seconds: seconds(self.shared.settings.lease),
            people_keys: people_keys.into_iter().map(|key| key.told()).collect(),
        }))
    }

    async fn lease_state_key(&self, request: Request<StateKeyRequest>) -> Result<Response<StateKeyLease>, Status> {
        let role = peer(&request)?.role;
        self.counts.leased("state", true);
        let private_key = self.shared.keyring.root.state_of(role).to_secret_bytes().reveal().to_vec();
        tracing::info!(%role, "lent the {role} role its state key");
        Ok(Response::new(StateKeyLease { private_key }))
    }

    async fn public_key(&self, request: Request<PublicKeyRequest>) -> Result<Response<PublicKeyResponse>, Status> {
        let product = product(request.get_ref().product)?;
        let public_key = self.shared.keyring.public_key(product).await.map_err(|error| refusal(&error))?;
        Ok(Response::new(PublicKeyResponse { public_key }))
    }

    async fn lease_to_rebuild(&self, request: Request<RebuildLeaseRequest>) -> Result<Response<RebuildLease>, Status> {
        let peer = peer(&request)?;
        let rebuilding = self.shared.rebuilding.as_ref().filter(|rebuilding| rebuilding.may_lease(&peer));
        let Some(_) = rebuilding else {
            self.counts.leased("rebuild", false);
            tracing::error!(role = %peer.role, "refused the {} role a key to rebuild with", peer.role);
            return Err(status(
                ErrorKind::Forbidden,
                "keys are lent to rebuild with only by a vault that was started to rebuild, to the warehouse of the same start",
            ));
        };
        let product = product(request.get_ref().product)?;
        let leased = self.shared.keyring.private_key_to_rebuild(product).await;
        self.counts.leased("rebuild", leased.is_ok());
        let private_key = leased.map_err(|error| refusal(&error))?.reveal().to_vec();
        tracing::warn!(product.id = %product, "lent the private key of product {product} to rebuild its tables");
        Ok(Response::new(RebuildLease { private_key }))
    }
}

fn audiences(names: &[String]) -> Result<Vec<Role>, Status> {
    let invalid = || status(ErrorKind::Invalid, "the audiences are one to four roles, the vault not among them");
    if names.is_empty() || names.len() >= Role::ALL.len() {
        return Err(invalid());
    }
    names
        .iter()
        .map(|name| name.parse().ok().filter(|role| *role != Role::Vault).ok_or_else(invalid))
        .collect()
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}
