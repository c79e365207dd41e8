//! What other roles and the operator may ask: messages in and out, the decisions are the keyring's.

pub(crate) mod audit;
mod heads;
mod operator;
mod people_keys;
mod root;
mod vault;

use std::future::Future;
use std::sync::Arc;

use base::{Clock, CredentialId, Entropy, ErrorKind, ProductId, Role};
use edge::{CurrentSigner, Metrics, status};
use seal::{HolderId, InstallationSigner, SigningCertificate};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use wire::v1::Certificates;

use crate::VaultSettings;
use crate::audit::AuditLog;
use crate::authority::{Authority, AuthorityError, Issued, SKEW};
use crate::holder::Holder;
use crate::keyring::{Keyring, KeyringError};
use crate::rebuild::Rebuilding;
use crate::tokens::Tokens;

/// What all services share.
pub(crate) struct Shared {
    pub(crate) settings: VaultSettings,
    pub(crate) keyring: Keyring,
    pub(crate) holder: Holder,
    pub(crate) authority: Authority,
    pub(crate) installation: InstallationSigner,
    pub(crate) signer: CurrentSigner,
    pub(crate) tokens: Tokens,
    pub(crate) audit: Arc<AuditLog>,
    /// Of a vault that was started to rebuild.
    pub(crate) rebuilding: Option<Rebuilding>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
}

impl Shared {
    /// Refuses what only a vault does that serves.
    fn serves(&self) -> Result<(), Status> {
        match &self.rebuilding {
            None => Ok(()),
            Some(_) => Err(status(
                ErrorKind::Unavailable,
                "the installation is being rebuilt and serves nobody",
            )),
        }
    }

    /// Both certificates of a role: for TLS, and for what it signs.
    pub(crate) fn certify(
        &self,
        role: Role,
        request: &[u8],
        signing_key: [u8; 32],
    ) -> Result<(Issued, SigningCertificate), AuthorityError> {
        let (now, lifetime) = (self.clock.now(), self.settings.certificate_lifetime);
        let issued = self.authority.issue_role(role, request, now, lifetime, &*self.entropy)?;
        let from = base::Timestamp::from_micros(now.as_micros() - i64::try_from(SKEW.as_micros()).unwrap_or_default());
        Ok((issued, self.installation.certify(role, signing_key, from, now.plus(lifetime))))
    }

    fn certificates(&self, role: Role, request: &[u8], signing_key: &[u8]) -> Result<(Certificates, HolderId), Status> {
        let signing_key = signing_key
            .try_into()
            .map_err(|_| status(ErrorKind::Invalid, "a signing key has 32 bytes"))?;
        let (issued, signing) = self
            .certify(role, request, signing_key)
            .map_err(|error| status(error.kind(), error.to_string()))?;
        tracing::info!(%role, holder = ?issued.holder, expires_at = %issued.expires_at, "certified the {role} role");
        let certificates = Certificates {
            tls_chain: vec![issued.certificate.to_vec()],
            signing_certificate: signing.encode(),
            expires_at: issued.expires_at.as_micros(),
        };
        Ok((certificates, issued.holder))
    }
}

/// The services, ready to be served.
pub(crate) struct Services {
    pub(crate) shared: Arc<Shared>,
    pub(crate) feed: edge::revocations::Feed,
    pub(crate) counts: Counts,
    /// Ends the vault.
    pub(crate) cancel: CancellationToken,
}

/// What the vault counts.
#[derive(Clone)]
pub(crate) struct Counts {
    judged: edge::Counters,
    leased: edge::Counters,
}

impl Counts {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            judged: metrics.counters("vault_keys_judged", "product keys that were judged, by outcome"),
            leased: metrics.counters("vault_keys_leased", "keys that were lent to roles, by key and outcome"),
        }
    }

    fn judged(&self, accepted: bool) {
        self.judged.get_or_create(&vec![("outcome", outcome(accepted))]).inc();
    }

    fn leased(&self, key: &str, accepted: bool) {
        self.leased
            .get_or_create(&vec![("key", key.to_owned()), ("outcome", outcome(accepted))])
            .inc();
    }
}

fn outcome(accepted: bool) -> String {
    if accepted { "accepted" } else { "refused" }.to_owned()
}

// The caller gets the fixed words of the kind, except where the message is meant for it.
fn refusal(error: &KeyringError) -> Status {
    let kind = error.kind();
    match error {
        KeyringError::Append(_) | KeyringError::View(_) | KeyringError::Seal(_) | KeyringError::NotDropped(_) => {
            tracing::error!(error = %Chain(error), "the vault could not do what was asked");
            status(kind, kind.words())
        }
        KeyringError::NotFound(_)
        | KeyringError::NoHolder
        | KeyringError::NeedsKey
        | KeyringError::Locked
        | KeyringError::LastKey
        | KeyringError::Unauthenticated
        | KeyringError::Denied(_)
        | KeyringError::Invalid(_) => status(kind, error.to_string()),
    }
}

/// An error with everything that led to it, in one line.
pub(crate) struct Chain<'a>(pub(crate) &'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

// A command goes on to its end even if its caller hangs up half-way: what is in the journal must get into the view.
async fn to_the_end<T: Send + 'static>(command: impl Future<Output = T> + Send + 'static) -> Result<T, Status> {
    tokio::spawn(command)
        .await
        .map_err(|_| status(ErrorKind::Internal, ErrorKind::Internal.words()))
}

fn product(number: u64) -> Result<ProductId, Status> {
    ProductId::new(number).map_err(|error| status(ErrorKind::Invalid, error.to_string()))
}

fn credential(bytes: &[u8]) -> Result<CredentialId, Status> {
    CredentialId::try_from(bytes).map_err(|error| status(ErrorKind::Invalid, error.to_string()))
}

fn peer<T>(request: &tonic::Request<T>) -> Result<edge::Peer, Status> {
    request
        .extensions()
        .get::<edge::Peer>()
        .copied()
        .ok_or_else(|| status(ErrorKind::Unauthenticated, "this call needs a certificate"))
}
