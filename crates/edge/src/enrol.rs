//! A role's first certificate, against a token that works once; and the next ones, while it runs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Entropy, ErrorKind, Role};
use rustls::pki_types::CertificateDer;
use seal::{InstallationKey, SealError, Signer, SigningCertificate};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use wire::v1::vault_client::VaultClient;
use wire::v1::{Certificates, EnrolRequest, RenewRequest};

use crate::{CurrentSigner, Peers, RoleTls, TlsError, TlsKey, kind_of, peers, tls};

const ANSWER: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_secs(5);

/// Why a role got no certificate.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The vault refused or could not be reached.
    #[error("the vault gave no certificate: {}", .0.message())]
    Vault(Box<Status>),
    /// What it gave cannot be used.
    #[error("the certificate from the vault cannot be used")]
    Tls(#[from] TlsError),
    /// The signing certificate cannot be used.
    #[error("the signing certificate from the vault cannot be used")]
    Seal(#[from] SealError),
}

impl EnrolError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Vault(status) => kind_of(status),
            Self::Tls(error) => error.kind(),
            Self::Seal(error) => error.kind(),
        }
    }
}

impl From<Status> for EnrolError {
    fn from(status: Status) -> Self {
        Self::Vault(Box::new(status))
    }
}

/// Makes the role's keys and has the vault certify them. The token is used up.
pub async fn enrol(
    vault: SocketAddr,
    ca: CertificateDer<'static>,
    installation: InstallationKey,
    token: &[u8],
    role: Role,
    entropy: Arc<dyn Entropy>,
    clock: Arc<dyn Clock>,
) -> Result<(RoleTls, Signer), EnrolError> {
    let key = TlsKey::generate()?;
    let signer = Signer::generate(&*entropy);
    let channel = peers::channel(Role::Vault, Some(vault), tls::anonymous_client(&ca, Arc::clone(&clock))?);
    let mut request = tonic::Request::new(EnrolRequest {
        token: token.to_vec(),
        certificate_request: key.certificate_request(&[role.server_name()])?,
        signing_key: signer.public_key().to_vec(),
    });
    request.set_timeout(ANSWER);
    let given = VaultClient::new(channel).enrol(request).await?.into_inner();
    let certificate = signing_certificate(&installation, role, &given)?;
    let tls = RoleTls::new(role, chain(given), key, &ca, clock)?;
    Ok((tls, signer.certified(certificate)?))
}

/// Renews certificate and signing certificate at half of their life, for as long as the role runs.
///
/// A role whose certificate holds no more, or not yet, ends: `cancel` is cancelled. Not for the vault, which makes its own.
pub fn spawn_renewal(
    tls: Arc<RoleTls>,
    signer: CurrentSigner,
    installation: InstallationKey,
    peers: Arc<Peers>,
    clock: Arc<dyn Clock>,
    cancel: CancellationToken,
) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        // The clock is looked at often instead of slept by: it may be turned, and a machine may sleep.
        while cancel.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
            if !tls.is_in_force() {
                // The vault would not even listen. Whoever is started anew is certified anew, by a token.
                tracing::error!(
                    expires_at = %tls.expires_at(),
                    "the certificate of the {} role does not hold at {}: the clock was turned, or this machine slept; the role ends, to be started again with another",
                    tls.role(), clock.now()
                );
                return cancel.cancel();
            }
            if !tls.is_due() {
                continue;
            }
            match renew(&tls, &signer, &installation, &peers).await {
                Ok(()) => tracing::info!(expires_at = %tls.expires_at(), "renewed the certificate of the {} role", tls.role()),
                Err(error) => {
                    tracing::warn!(error = %error, expires_at = %tls.expires_at(), "could not renew the certificate, trying again")
                }
            }
        }
    })
}

async fn renew(tls: &RoleTls, signer: &CurrentSigner, installation: &InstallationKey, peers: &Peers) -> Result<(), EnrolError> {
    let present = signer.get();
    let mut request = tonic::Request::new(RenewRequest {
        certificate_request: tls.certificate_request()?,
        signing_key: present.certificate().public_key().to_vec(),
    });
    request.set_timeout(ANSWER);
    let given = VaultClient::new(peers.channel(Role::Vault)).renew(request).await?.into_inner();
    let renewed = present.renewed(signing_certificate(installation, tls.role(), &given)?)?;
    tls.renew(chain(given))?;
    signer.set(renewed);
    Ok(())
}

fn chain(given: Certificates) -> Vec<CertificateDer<'static>> {
    given.tls_chain.into_iter().map(CertificateDer::from).collect()
}

fn signing_certificate(key: &InstallationKey, role: Role, given: &Certificates) -> Result<SigningCertificate, SealError> {
    let certificate = SigningCertificate::decode(key, &given.signing_certificate)?;
    if certificate.role() == role {
        Ok(certificate)
    } else {
        Err(SealError::WrongRole {
            expected: role,
            found: certificate.role(),
        })
    }
}
