//! A hardware token as the holder of the root key (PKCS #11 v2.40).
//!
//! Promise: the key that wraps the root key never leaves the token: one that could is refused. A PIN that was refused is not shown again
//! before somebody else logged in, so that a vault that starts again and again does not lock the token.
//!
//! The vault asks a token before it enters its sandbox, once at a start, through [`Token`]; [`use_once`] is what the program that loads the
//! token's module runs, so that a vendor's code is never in the vault's own memory.

mod pkcs11;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use base::{Entropy, ErrorKind};
use seal::DataKey;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Longest label of a token (PKCS #11 v2.40, CK_TOKEN_INFO).
const LABEL: usize = 32;
/// Longest label of a key, name or value of a variable.
const TEXT: usize = 255;
/// How many variables a module gets.
const VARIABLES: usize = 16;

/// Which token holds the root key, and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSettings {
    /// The PKCS #11 module that came with the token: a shared library, by its absolute path.
    pub module: PathBuf,
    /// The token's label.
    pub token: String,
    /// The label of the AES-256 key in it; made at the first use where there is none.
    #[serde(default = "usual_key")]
    pub key: String,
    /// A file with the user's PIN, which the vault alone can read (mode 0600 or 0400). Relative to the role's directory.
    pub pin_file: PathBuf,
    /// Environment variables that the module goes by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
}

fn usual_key() -> String {
    "coffer-root".to_owned()
}

impl TokenSettings {
    /// What is wrong with them, in words.
    pub(crate) fn wrong(&self) -> Option<&'static str> {
        let text = |value: &str, most: usize| !value.is_empty() && value.len() <= most && !value.contains('\0');
        if !self.module.is_absolute() {
            Some("vault.pkcs11.module must be an absolute path")
        } else if !text(&self.token, LABEL) {
            Some("vault.pkcs11.token must have 1 to 32 bytes")
        } else if !text(&self.key, TEXT) {
            Some("vault.pkcs11.key must have 1 to 255 bytes")
        } else if self.environment.len() > VARIABLES
            || self
                .environment
                .iter()
                .any(|(name, value)| !text(name, TEXT) || name.contains('=') || value.len() > TEXT || value.contains('\0'))
        {
            Some("vault.pkcs11.environment may have 16 variables of up to 255 bytes")
        } else {
            None
        }
    }
}

/// What a token did not do, in words for the operator. Never the PIN or a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the token that holds the root key cannot be used: {why}")]
pub struct TokenError {
    /// What the caller can do about it.
    pub kind: ErrorKind,
    /// What is wrong, and what to do.
    pub why: String,
}

impl TokenError {
    /// Of `kind`, for the reason `why`.
    pub fn new(kind: ErrorKind, why: impl fmt::Display) -> Self {
        Self {
            kind,
            why: why.to_string(),
        }
    }
}

/// What wraps the root key and never shows by what.
pub trait Token: fmt::Debug + Send + Sync {
    /// Wraps `key`, bound to `context`. Makes the wrapping key where there is none. Blocks.
    fn wrap(&self, key: &DataKey, context: &[u8]) -> Result<Vec<u8>, TokenError>;

    /// What [`Token::wrap`] wrapped, with the same `context` only. Blocks.
    fn unwrap(&self, wrapped: &[u8], context: &[u8]) -> Result<DataKey, TokenError>;
}

/// What is to be done with a token.
pub enum Act<'a> {
    /// Wrap 32 bytes.
    Wrap(&'a DataKey),
    /// Unwrap them.
    Unwrap(&'a [u8]),
}

impl fmt::Debug for Act<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wrap(_) => "Wrap",
            Self::Unwrap(_) => "Unwrap",
        })
    }
}

/// Loads the module, does one thing with the token and closes it. Blocks for as long as the token takes.
///
/// Reads no variable of `settings.environment`: they have to be there.
pub fn use_once(settings: &TokenSettings, act: &Act<'_>, context: &[u8], entropy: &dyn Entropy) -> Result<Zeroizing<Vec<u8>>, TokenError> {
    if let Some(wrong) = settings.wrong() {
        return Err(TokenError::new(ErrorKind::Invalid, wrong));
    }
    pkcs11::use_once(settings, act, context, entropy)
}
