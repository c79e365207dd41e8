//! The public certificate: the operator's files, or one from the vault for this machine's names.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use base::{Clock, Timestamp};
use edge::TlsKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use wire::v1::IssuePublicCertificateRequest;

use crate::config::Certificate;
use crate::failure::{During, Exit, Failure, Outcome};
use crate::handover::{Hidden, Open, PublicCertificate};
use crate::layout::Layout;
use crate::operator;

/// A certificate and when it has to be replaced.
#[derive(Debug)]
pub(crate) struct Issued {
    pub(crate) certificate: PublicCertificate,
    /// When it ends.
    pub(crate) expires_at: Option<Timestamp>,
    /// When the gateway is to get the next one. Never for the operator's own, which only they can renew.
    pub(crate) renewal: Option<Renewal>,
}

/// When a certificate is to be replaced.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Renewal {
    issued_at: Timestamp,
    at: Timestamp,
}

impl Renewal {
    /// Whether that is now: at half of its life, or once the clock was turned back so far that clients may not take it yet.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        now >= self.at || now.plus(Duration::from_secs(60)) < self.issued_at
    }
}

/// What the gateway shows to the world.
pub(crate) async fn public(configured: &Certificate, layout: &Layout, clock: &dyn Clock) -> Outcome<Issued> {
    match (&configured.chain, &configured.key) {
        (Some(chain), Some(key)) => from_files(chain, key),
        _ => from_vault(configured, layout, clock).await,
    }
}

fn from_files(chain: &Path, key: &Path) -> Outcome<Issued> {
    let unreadable = |path: &Path| format!("could not read {}", path.display());
    let text = fs::read(chain).during(unreadable(chain))?;
    let chain_der: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .map(|der| der.map(|der| Open(der.to_vec())))
        .collect::<Result<_, _>>()
        .during(unreadable(chain))?;
    if chain_der.is_empty() {
        return Err(Failure::new(Exit::Refused, unreadable(chain)).why("it holds no certificate in PEM"));
    }
    let key_der = PrivateKeyDer::from_pem_file(key).during(unreadable(key))?;
    let key = Hidden(base::SecretBytes::new(key_der.secret_der().to_vec()));
    let expires_at = end_of(&chain_der[0].0);
    Ok(Issued {
        certificate: PublicCertificate { chain: chain_der, key },
        expires_at,
        renewal: None,
    })
}

async fn from_vault(configured: &Certificate, layout: &Layout, clock: &dyn Clock) -> Outcome<Issued> {
    let what = "could not get a public certificate from the vault";
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    names.extend(host_name());
    names.extend(configured.names.iter().cloned());
    names.dedup();
    let key = TlsKey::generate().during(what)?;
    let request = IssuePublicCertificateRequest {
        certificate_request: key.certificate_request(&names).during(what)?,
        names,
    };
    let issued = operator::ask(what, operator::vault(layout).issue_public_certificate(request)).await?;
    let expires_at = Timestamp::from_micros(issued.expires_at);
    let now = clock.now();
    Ok(Issued {
        certificate: PublicCertificate {
            chain: issued.tls_chain.into_iter().map(Open).collect(),
            key: Hidden(key.to_pkcs8()),
        },
        expires_at: Some(expires_at),
        renewal: Some(Renewal {
            issued_at: now,
            at: now.plus(expires_at.since(now) / 2),
        }),
    })
}

/// This machine's name, when a certificate can hold it.
fn host_name() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?.trim().to_ascii_lowercase();
    let fits = !name.is_empty()
        && name.len() <= 253
        && name.parse::<IpAddr>().is_err()
        && name
            .split('.')
            .all(|label| !label.is_empty() && label.len() <= 63 && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
    fits.then_some(name)
}

/// When a certificate ends.
pub(crate) fn end_of(der: &[u8]) -> Option<Timestamp> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    Some(Timestamp::from_secs(certificate.validity().not_after.timestamp()))
}

/// One certificate as PEM.
pub(crate) fn pem(der: &[u8]) -> String {
    use std::fmt::Write;
    let text = base64(der);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        let _ = writeln!(out, "{}", String::from_utf8_lossy(line));
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let three = [chunk[0], chunk.get(1).copied().unwrap_or(0), chunk.get(2).copied().unwrap_or(0)];
        let number = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for at in 0..4 {
            let letter = LETTERS[(number >> (18 - 6 * at) & 63) as usize];
            out.push(if at <= chunk.len() { letter as char } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_replaced_at_half_of_its_life_and_when_the_clock_was_turned_back() {
        let secs = Timestamp::from_secs;
        let renewal = Renewal {
            issued_at: secs(1000),
            at: secs(2000),
        };
        let due: Vec<bool> = [900, 939, 940, 1000, 1999, 2000, 3000].map(|now| renewal.is_due(secs(now))).into();
        assert_eq!(due, [true, true, false, false, false, true, true]);
    }

    #[test]
    fn pem_reads_back() {
        for length in [1, 2, 3, 47, 48, 49, 500] {
            let der: Vec<u8> = (0..length).map(|n| (n * 7) as u8).collect();
            let read = CertificateDer::from_pem_slice(pem(&der).as_bytes()).unwrap();
            assert_eq!(read.as_ref(), der, "{length}");
        }
    }
}
