//! The service for the operator, on the local socket only.

use std::sync::Arc;

use base::{ErrorKind, Role};
use edge::status;
use tonic::{Request, Response, Status};
use wire::v1::vault_operator_server::VaultOperator;
use wire::v1::{
    Certificates, CreateCredentialRequest, CreateCredentialResponse, CreateProductKeysRequest, CreateProductKeysResponse, Credential,
    IssuePublicCertificateRequest, ListCredentialsRequest, ListCredentialsResponse, MintEnrolmentRequest, MintEnrolmentResponse,
    RevokeCredentialRequest, RevokeCredentialResponse, SetCustodyRequest, SetCustodyResponse,
};

use zeroize::Zeroizing;

use super::{Services, credential, product, refusal, to_the_end};

#[async_trait::async_trait]
impl VaultOperator for Services {
    async fn mint_enrolment(&self, request: Request<MintEnrolmentRequest>) -> Result<Response<MintEnrolmentResponse>, Status> {
        let role = request.get_ref().role.parse().ok().filter(|role| *role != Role::Vault);
        let role = role.ok_or_else(|| status(ErrorKind::Invalid, "a token is for a role other than the vault"))?;
        let shared = &self.shared;
        if role == Role::Gateway {
            shared.serves()?;
        }
        let token = shared
            .tokens
            .mint(role, shared.clock.now(), shared.settings.token_lifetime, &*shared.entropy);
        tracing::info!(%role, "made an enrolment token for the {role} role");
        Ok(Response::new(MintEnrolmentResponse {
            token: token.reveal().to_vec(),
            installation_key: shared.installation.key().as_bytes().to_vec(),
            ca_certificate: shared.authority.certificate().to_vec(),
        }))
    }

    async fn create_product_keys(&self, request: Request<CreateProductKeysRequest>) -> Result<Response<CreateProductKeysResponse>, Status> {
        self.shared.serves()?;
        let asked = request.into_inner();
        let product = product(asked.product)?;
        let shared = Arc::clone(&self.shared);
        let made = to_the_end(async move { shared.keyring.create_product_keys(product, &asked.custody).await }).await?;
        let made = made.map_err(|error| refusal(&error))?;
        let (credential, key) = made
            .key
            .map_or_else(Default::default, |(id, key)| (id.to_bytes().to_vec(), key.reveal().to_owned()));
        Ok(Response::new(CreateProductKeysResponse {
            public_key: made.public.as_bytes().to_vec(),
            made: made.now,
            credential,
            key,
        }))
    }

    async fn create_credential(&self, request: Request<CreateCredentialRequest>) -> Result<Response<CreateCredentialResponse>, Status> {
        self.shared.serves()?;
        let asked = request.into_inner();
        let product = product(asked.product)?;
        let kind = asked
            .kind
            .parse()
            .map_err(|_: ErrorKind| status(ErrorKind::Invalid, "the kind is write, read, admin or reveal"))?;
        let (shared, shown) = (Arc::clone(&self.shared), Zeroizing::new(asked.shown));
        let made = to_the_end(async move { shared.keyring.create_credential(product, kind, &shown).await }).await?;
        let (id, key) = made.map_err(|error| refusal(&error))?;
        Ok(Response::new(CreateCredentialResponse {
            credential: id.to_bytes().to_vec(),
            key: key.reveal().to_owned(),
        }))
    }

    async fn list_credentials(&self, request: Request<ListCredentialsRequest>) -> Result<Response<ListCredentialsResponse>, Status> {
        let product = product(request.get_ref().product)?;
        let rows = self
            .shared
            .keyring
            .view
            .credentials(product)
            .await
            .map_err(|error| refusal(&error.into()))?;
        let credentials = rows
            .into_iter()
            .map(|row| Credential {
                credential: row.credential.to_bytes().to_vec(),
                kind: row.kind.as_str().to_owned(),
                created_at: row.created_at.as_micros(),
                revoked_at: row.revoked_at.map_or(0, base::Timestamp::as_micros),
            })
            .collect();
        let keys = self
            .shared
            .keyring
            .view
            .product(product)
            .await
            .map_err(|error| refusal(&error.into()))?;
        Ok(Response::new(ListCredentialsResponse {
            credentials,
            custody: keys.map_or_else(String::new, |keys| keys.custody),
        }))
    }

    async fn revoke_credential(&self, request: Request<RevokeCredentialRequest>) -> Result<Response<RevokeCredentialResponse>, Status> {
        self.shared.serves()?;
        let id = credential(&request.get_ref().credential)?;
        let lose_everything = request.get_ref().lose_everything;
        let (shared, feed) = (Arc::clone(&self.shared), self.feed.clone());
        let revoked = to_the_end(async move {
            let revoked = shared.keyring.revoke(id, lose_everything).await;
            if revoked.is_ok() {
                // Told again even if it was revoked before: whoever asks twice wants to be sure.
                feed.revoke(id);
            }
            revoked
        });
        revoked.await?.map_err(|error| refusal(&error))?;
        Ok(Response::new(RevokeCredentialResponse {}))
    }

    async fn set_custody(&self, request: Request<SetCustodyRequest>) -> Result<Response<SetCustodyResponse>, Status> {
        self.shared.serves()?;
        let asked = request.into_inner();
        let product = product(asked.product)?;
        let (shared, shown) = (Arc::clone(&self.shared), Zeroizing::new(asked.shown));
        let set = to_the_end(async move { shared.keyring.set_custody(product, &asked.custody, &shown).await });
        set.await?.map_err(|error| refusal(&error))?;
        Ok(Response::new(SetCustodyResponse {}))
    }

    async fn issue_public_certificate(&self, request: Request<IssuePublicCertificateRequest>) -> Result<Response<Certificates>, Status> {
        self.shared.serves()?;
        let asked = request.into_inner();
        let (shared, now) = (&self.shared, self.shared.clock.now());
        let lifetime = shared.settings.public_certificate_lifetime;
        let issued = shared
            .authority
            .issue_public(&asked.names, &asked.certificate_request, now, lifetime, &*shared.entropy)
            .map_err(|error| status(error.kind(), error.to_string()))?;
        tracing::info!(names = ?asked.names, expires_at = %issued.expires_at, "certified a public listener");
        Ok(Response::new(Certificates {
            tls_chain: vec![issued.certificate.to_vec()],
            signing_certificate: Vec::new(),
            expires_at: issued.expires_at.as_micros(),
        }))
    }
}
