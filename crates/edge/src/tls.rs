//! A role's certificate and key: what it shows, what it asks of others, and how both are renewed while it runs.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use base::{Clock, ErrorKind, Role, SecretBytes, Timestamp};
use rcgen::{CertificateParams, DnType, KeyPair, PublicKeyData};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SignatureScheme};
use seal::HolderId;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::Peer;

/// Why keys and certificates could not be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// rcgen refused.
    #[error("could not make a key or a certificate request")]
    Request(#[source] rcgen::Error),
    /// rustls refused.
    #[error("certificate and key cannot be used for TLS")]
    Tls(#[from] rustls::Error),
    /// The authority's certificate cannot verify callers.
    #[error("the authority's certificate cannot verify callers")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
    /// Not a certificate.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// It names another role, several, or none.
    #[error("the certificate is not one of the {expected} role")]
    WrongRole {
        /// Whose it should be.
        expected: Role,
    },
}

impl TlsError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Request(_) => ErrorKind::Internal,
            Self::Tls(_) | Self::Verifier(_) | Self::Unreadable | Self::WrongRole { .. } => ErrorKind::Invalid,
        }
    }
}

/// A P-256 key for TLS. Never leaves the process but through [`TlsKey::to_pkcs8`].
pub struct TlsKey(KeyPair);

impl TlsKey {
    /// A fresh one, from the operating system's random numbers.
    pub fn generate() -> Result<Self, TlsError> {
        KeyPair::generate().map(Self).map_err(TlsError::Request)
    }

    /// One that was kept.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, TlsError> {
        KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der), &rcgen::PKCS_ECDSA_P256_SHA256)
            .map(Self)
            .map_err(TlsError::Request)
    }

    /// The form in which it can be kept.
    pub fn to_pkcs8(&self) -> SecretBytes {
        SecretBytes::new(self.0.serialized_der().to_vec())
    }

    /// The public half, as SubjectPublicKeyInfo in DER.
    pub fn public_key(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }

    /// A PKCS #10 request, in DER, for a certificate with these names.
    pub fn certificate_request(&self, names: &[String]) -> Result<Vec<u8>, TlsError> {
        let mut params = CertificateParams::new(names).map_err(TlsError::Request)?;
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::OrganizationName, "Coffer");
        let request = params.serialize_request(&self.0).map_err(TlsError::Request)?;
        Ok(request.der().to_vec())
    }

    pub(crate) fn to_rustls(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.0.serialized_der().to_vec()).into()
    }
}

impl fmt::Debug for TlsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsKey(***)")
    }
}

#[derive(Debug, Clone, Copy)]
struct Validity {
    from: Timestamp,
    until: Timestamp,
    /// When it came here.
    taken: Timestamp,
}

/// How far a clock is set back by those who keep it right, without anybody having turned it.
const ADJUSTED: Duration = Duration::from_secs(60);

/// A role's identity in TLS. The certificate is replaced on renewal, the key stays: passes are bound to it.
pub struct RoleTls {
    role: Role,
    key: TlsKey,
    holder: HolderId,
    clock: Arc<dyn Clock>,
    validity: RwLock<Validity>,
    certificate: Arc<CurrentCertificate>,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl RoleTls {
    /// Of a chain (leaf first), its key, and the authority that everybody trusts.
    pub fn new(
        role: Role,
        chain: Vec<CertificateDer<'static>>,
        key: TlsKey,
        ca: &CertificateDer<'static>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, TlsError> {
        let (certified, validity) = check(role, chain, &key, clock.now())?;
        let holder = HolderId::of_public_key(&key.public_key());
        let certificate = Arc::new(CurrentCertificate(RwLock::new(Arc::new(certified))));
        let time = Arc::new(ClockTime(Arc::clone(&clock)));
        let server = server_config(role, ca, Arc::clone(&certificate), Arc::clone(&time))?;
        let client = client_config(ca, Some(Arc::clone(&certificate)), time)?;
        Ok(Self {
            role,
            key,
            holder,
            clock,
            validity: RwLock::new(validity),
            certificate,
            server,
            client,
        })
    }

    /// Whose it is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// What passes for this role as a caller are bound to.
    pub fn holder_id(&self) -> HolderId {
        self.holder
    }

    /// When the present certificate ends.
    pub fn expires_at(&self) -> Timestamp {
        self.validity().until
    }

    /// Whether it is time for the next certificate: half of what this one had left when it came is over, or the clock was turned
    /// back since, and nobody can say how far it is wrong.
    pub fn is_due(&self) -> bool {
        let (validity, now) = (self.validity(), self.clock.now());
        now >= validity.taken.plus(validity.until.since(validity.taken) / 2) || now.plus(ADJUSTED) < validity.taken
    }

    /// Whether others believe the present certificate now, by the same clock.
    pub fn is_in_force(&self) -> bool {
        let (validity, now) = (self.validity(), self.clock.now());
        validity.from <= now && now < validity.until
    }

    fn validity(&self) -> Validity {
        *self.validity.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request for the next certificate of the same key.
    pub fn certificate_request(&self) -> Result<Vec<u8>, TlsError> {
        self.key.certificate_request(&[self.role.server_name()])
    }

    /// Shows `chain` from the next connection on.
    pub fn renew(&self, chain: Vec<CertificateDer<'static>>) -> Result<(), TlsError> {
        let (certified, validity) = check(self.role, chain, &self.key, self.clock.now())?;
        self.certificate.set(certified);
        *self.validity.write().unwrap_or_else(PoisonError::into_inner) = validity;
        Ok(())
    }

    /// TLS 1.3 only. Callers must show a certificate of the installation; only the vault also talks to those who have none yet.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// TLS 1.3 only, trusting the installation's authority and nobody else.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.client)
    }
}

impl fmt::Debug for RoleTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoleTls")
            .field("role", &self.role)
            .field("holder", &self.holder)
            .finish_non_exhaustive()
    }
}

/// Whose certificate this is: the role (exactly one name, and it is a role's), the holder and the end.
///
/// Checks no signature: for leaves that TLS has verified, and for what the vault has just made.
pub fn read_certificate(der: &[u8]) -> Result<Peer, TlsError> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| TlsError::Unreadable)?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| TlsError::Unreadable)?
        .ok_or(TlsError::Unreadable)?;
    // One name only: a certificate with a role's name beside others was not made for a role.
    let [GeneralName::DNSName(name)] = names.value.general_names.as_slice() else {
        return Err(TlsError::Unreadable);
    };
    let role = Role::from_server_name(name).ok_or(TlsError::Unreadable)?;
    Ok(Peer {
        role,
        holder: HolderId::of_public_key(certificate.public_key().raw),
        expires_at: Timestamp::from_secs(certificate.validity().not_after.timestamp()),
    })
}

/// A client without a certificate: for enrolment only.
pub(crate) fn anonymous_client(ca: &CertificateDer<'static>, clock: Arc<dyn Clock>) -> Result<Arc<ClientConfig>, TlsError> {
    client_config(ca, None, Arc::new(ClockTime(clock)))
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn check(role: Role, chain: Vec<CertificateDer<'static>>, key: &TlsKey, taken: Timestamp) -> Result<(CertifiedKey, Validity), TlsError> {
    let leaf = chain.first().ok_or(TlsError::Unreadable)?;
    if read_certificate(leaf).map(|peer| peer.role).ok() != Some(role) {
        return Err(TlsError::WrongRole { expected: role });
    }
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| TlsError::Unreadable)?;
    let validity = Validity {
        from: Timestamp::from_secs(parsed.validity().not_before.timestamp()),
        until: Timestamp::from_secs(parsed.validity().not_after.timestamp()),
        taken,
    };
    let certified = CertifiedKey::from_der(chain, key.to_rustls(), &provider())?;
    Ok((certified, validity))
}

fn roots(ca: &CertificateDer<'static>) -> Result<Arc<RootCertStore>, TlsError> {
    let mut store = RootCertStore::empty();
    store.add(ca.clone())?;
    Ok(Arc::new(store))
}

fn server_config(
    role: Role,
    ca: &CertificateDer<'static>,
    certificate: Arc<CurrentCertificate>,
    time: Arc<ClockTime>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut verifier = WebPkiClientVerifier::builder_with_provider(roots(ca)?, provider());
    if role == Role::Vault {
        verifier = verifier.allow_unauthenticated();
    }
    let mut config = ServerConfig::builder_with_details(provider(), time)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier.build().map_err(TlsError::Verifier)?)
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // A resumed session would bring back a certificate that may have ended since.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn client_config(
    ca: &CertificateDer<'static>,
    certificate: Option<Arc<CurrentCertificate>>,
    time: Arc<ClockTime>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_details(provider(), time)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots(ca)?);
    let mut config = match certificate {
        Some(certificate) => builder.with_client_cert_resolver(certificate),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// The certificate that is shown now, on both sides.
#[derive(Debug)]
pub(crate) struct CurrentCertificate(RwLock<Arc<CertifiedKey>>);

impl CurrentCertificate {
    pub(crate) fn new(certified: CertifiedKey) -> Self {
        Self(RwLock::new(Arc::new(certified)))
    }

    pub(crate) fn set(&self, certified: CertifiedKey) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(certified);
    }

    fn get(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ResolvesServerCert for CurrentCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.get())
    }
}

impl ResolvesClientCert for CurrentCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.get())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Our clock, for rustls: certificates end by the same time as everything else.
#[derive(Debug)]
struct ClockTime(Arc<dyn Clock>);

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        let micros = u64::try_from(self.0.now().as_micros()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_micros(micros)))
    }
}
