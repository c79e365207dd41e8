//! What an operator may say about the vault.

use std::path::PathBuf;
use std::time::Duration;

use base::ErrorKind;
use journal::JournalSettings;
use seal::MAX_PASS_LIFETIME;
use serde::{Deserialize, Serialize};
use zones::ZonesSettings;

use crate::audit::Keeping;
use crate::custody::Lookups;
use crate::token::TokenSettings;

/// The vault's settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VaultSettings {
    /// The vault's own zones: no other role reads or writes them.
    pub zones: ZonesSettings,
    /// How the journal commits.
    pub journal: JournalSettings,
    /// The development root key: 32 bytes in hex, mode 0600. Relative to the role's directory; made at the very first start.
    pub root_key: PathBuf,
    /// The hardware token that holds the root key instead of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pkcs11: Option<TokenSettings>,
    /// How long a pass lasts; five minutes at most.
    #[serde(with = "humantime_serde")]
    pub pass_lifetime: Duration,
    /// How long a leased key may be kept.
    #[serde(with = "humantime_serde")]
    pub lease: Duration,
    /// How long a role's certificates last. They are renewed at half of it.
    #[serde(with = "humantime_serde")]
    pub certificate_lifetime: Duration,
    /// How long a certificate for a public listener lasts.
    #[serde(with = "humantime_serde")]
    pub public_certificate_lifetime: Duration,
    /// How long an enrolment token waits to be used.
    #[serde(with = "humantime_serde")]
    pub token_lifetime: Duration,
    /// What is done with records of the audit journal. Not a setting: no file, environment or handover can say anything but the default.
    #[serde(skip)]
    pub keeping: Keeping,
    /// Under what products' identities are looked up.
    #[serde(skip)]
    pub lookups: Lookups,
}

impl Default for VaultSettings {
    fn default() -> Self {
        Self {
            zones: ZonesSettings::default(),
            journal: JournalSettings::default(),
            root_key: PathBuf::from("root.key"),
            pkcs11: None,
            pass_lifetime: MAX_PASS_LIFETIME,
            lease: Duration::from_secs(5 * 60),
            certificate_lifetime: Duration::from_secs(24 * 3600),
            public_certificate_lifetime: Duration::from_secs(90 * 24 * 3600),
            token_lifetime: Duration::from_secs(120),
            keeping: Keeping::All,
            lookups: Lookups::OfTheirOwn,
        }
    }
}

/// Settings that would break a promise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A time that is too short or too long.
    #[error("the vault's setting {setting} must be between {least:?} and {most:?}")]
    Time {
        /// Which.
        setting: &'static str,
        /// From.
        least: Duration,
        /// To.
        most: Duration,
    },
    /// A token that cannot be.
    #[error("{0}")]
    Token(&'static str),
}

impl SettingsError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

impl VaultSettings {
    /// Refuses what would break a promise. The zones are checked where they are opened.
    pub fn check(&self) -> Result<(), SettingsError> {
        let (second, minute, day) = (Duration::from_secs(1), Duration::from_secs(60), Duration::from_secs(24 * 3600));
        let within = |setting, value: Duration, least, most| {
            if (least..=most).contains(&value) {
                Ok(())
            } else {
                Err(SettingsError::Time { setting, least, most })
            }
        };
        if let Some(wrong) = self.pkcs11.as_ref().and_then(TokenSettings::wrong) {
            return Err(SettingsError::Token(wrong));
        }
        within("pass_lifetime", self.pass_lifetime, second, MAX_PASS_LIFETIME)?;
        within("lease", self.lease, second, 15 * minute)?;
        within("certificate_lifetime", self.certificate_lifetime, 10 * minute, 7 * day)?;
        within("public_certificate_lifetime", self.public_certificate_lifetime, day, 398 * day)?;
        within("token_lifetime", self.token_lifetime, second, 60 * minute)
    }
}
