//! The internal certificate authority: one certificate for each role, for a day, and public ones for the listeners.
//!
//! Promise: a certificate with a role's name goes to that role only, whatever a request asks for; a certificate for a
//! public listener never carries the name of a role and never proves a caller.

use std::net::IpAddr;
use std::time::Duration;

use base::{Entropy, ErrorKind, Role, SecretBytes, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};
use seal::HolderId;

/// How far a clock, another machine's or this one's later, may be behind ours now before it takes a new certificate for one of the
/// future. A day, so that a clock that is turned back by some hours stops nobody; it gives nobody a longer certificate.
pub(crate) const SKEW: Duration = Duration::from_secs(24 * 3600);
const MAX_NAMES: usize = 50;

/// Why no certificate was made.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The request is not one, its signature is wrong, or its key is not of the kind we certify.
    #[error("the certificate request is not valid")]
    Request,
    /// A name that no public listener may have.
    #[error("{name:?} cannot be the name of a public listener")]
    Name {
        /// The name.
        name: String,
    },
    /// The stored authority does not load.
    #[error("the certificate authority cannot be loaded")]
    Load(#[source] rcgen::Error),
    /// Signing failed.
    #[error("the certificate could not be made")]
    Sign(#[source] rcgen::Error),
}

impl AuthorityError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Request | Self::Name { .. } => ErrorKind::Invalid,
            Self::Load(_) => ErrorKind::Corrupt,
            Self::Sign(_) => ErrorKind::Internal,
        }
    }
}

/// A certificate that was just made.
#[derive(Debug)]
pub(crate) struct Issued {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) holder: HolderId,
    pub(crate) expires_at: Timestamp,
}

/// The authority: its certificate, and its key in memory.
pub(crate) struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one, and its private key to be wrapped and kept.
    pub(crate) fn create(now: Timestamp, entropy: &dyn Entropy) -> Result<(Self, SecretBytes), AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(AuthorityError::Sign)?;
        let mut params = params(now, Duration::ZERO, entropy);
        // As long as the installation: nothing renews it, and the clock of a machine's first start may be wrong by decades. The end is
        // the one that RFC 5280 has for what has none.
        params.not_before = date_time_ymd(1970, 1, 1);
        params.not_after = date_time_ymd(9999, 12, 31);
        let mut tag = [0; 4];
        entropy.fill(&mut tag);
        params
            .distinguished_name
            .push(DnType::CommonName, format!("Coffer internal authority {}", hex::encode(tag)));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(AuthorityError::Sign)?;
        let secret = SecretBytes::new(key.serialized_der().to_vec());
        Ok((Self::load(certificate.der(), secret.reveal())?, secret))
    }

    /// The one that was kept.
    pub(crate) fn load(certificate: &[u8], key: &[u8]) -> Result<Self, AuthorityError> {
        let certificate = CertificateDer::from(certificate).into_owned();
        let key =
            KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(key), &PKCS_ECDSA_P256_SHA256).map_err(AuthorityError::Load)?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(AuthorityError::Load)?;
        Ok(Self { certificate, issuer })
    }

    /// What everybody trusts.
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// A certificate for `role`: it takes the key of the request and nothing else.
    pub(crate) fn issue_role(
        &self,
        role: Role,
        request: &[u8],
        now: Timestamp,
        lifetime: Duration,
        entropy: &dyn Entropy,
    ) -> Result<Issued, AuthorityError> {
        let mut params = params(now, lifetime, entropy);
        params.distinguished_name.push(DnType::CommonName, role.server_name());
        let name = role.server_name().try_into().map_err(AuthorityError::Sign)?;
        params.subject_alt_names = vec![SanType::DnsName(name)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params, request, now.plus(lifetime))
    }

    /// A certificate for a public listener with these names.
    pub(crate) fn issue_public(
        &self,
        names: &[String],
        request: &[u8],
        now: Timestamp,
        lifetime: Duration,
        entropy: &dyn Entropy,
    ) -> Result<Issued, AuthorityError> {
        if names.is_empty() || names.len() > MAX_NAMES {
            return Err(AuthorityError::Name {
                name: format!("{} names", names.len()),
            });
        }
        let mut params = params(now, lifetime, entropy);
        params.subject_alt_names = names.iter().map(|name| public_name(name)).collect::<Result<_, _>>()?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(params, request, now.plus(lifetime))
    }

    fn issue(&self, mut params: CertificateParams, request: &[u8], expires_at: Timestamp) -> Result<Issued, AuthorityError> {
        // Reading the request checks its signature: whoever asks has the private key.
        let request =
            CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request)).map_err(|_| AuthorityError::Request)?;
        let key = &request.public_key;
        if *key.algorithm() != PKCS_ECDSA_P256_SHA256 || key.der_bytes().len() != 65 {
            return Err(AuthorityError::Request);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let holder = HolderId::of_public_key(&key.subject_public_key_info());
        let certificate = params.signed_by(key, &self.issuer).map_err(AuthorityError::Sign)?;
        Ok(Issued {
            certificate: certificate.into(),
            holder,
            expires_at,
        })
    }
}

/// To whom a request's certificate would belong, when it is a request.
pub(crate) fn holder_of_request(request: &[u8]) -> Result<HolderId, AuthorityError> {
    let request =
        CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request)).map_err(|_| AuthorityError::Request)?;
    Ok(HolderId::of_public_key(&request.public_key.subject_public_key_info()))
}

fn params(now: Timestamp, lifetime: Duration, entropy: &dyn Entropy) -> CertificateParams {
    let mut params = CertificateParams::default();
    let at = |moment: Timestamp| date_time_ymd(1970, 1, 1) + Duration::from_secs(moment.as_secs().max(0).unsigned_abs());
    params.not_before = at(Timestamp::from_secs(now.as_secs() - SKEW.as_secs().cast_signed()));
    params.not_after = at(now.plus(lifetime));
    let mut serial = [0; 16];
    entropy.fill(&mut serial);
    // Positive, and never zero.
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from(serial.to_vec()));
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Coffer");
    params
}

fn public_name(name: &str) -> Result<SanType, AuthorityError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let refused = || AuthorityError::Name {
        name: name.chars().take(100).collect(),
    };
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let label = |part: &str| (1..=63).contains(&part.len()) && part.bytes().all(plain) && !part.starts_with('-') && !part.ends_with('-');
    // Lower case and no dot at the end: one spelling, so that no other spelling of an internal name slips through.
    let internal = name == "coffer.internal" || name.ends_with(".coffer.internal");
    if name.len() > 253 || internal || !name.split('.').all(label) {
        return Err(refused());
    }
    name.to_owned().try_into().map(SanType::DnsName).map_err(|_| refused())
}

#[cfg(test)]
mod tests;
