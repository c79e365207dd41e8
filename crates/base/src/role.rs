//! The roles: each a process of its own.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::ErrorKind;

/// A role of the installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Knows the keys.
    Vault,
    /// Knows who may.
    Accounts,
    /// Knows who a person is.
    Identity,
    /// Knows what happened.
    Warehouse,
    /// Knows what is asked.
    Gateway,
}

impl Role {
    /// All of them, in the order in which they start.
    pub const ALL: [Self; 5] = [Self::Vault, Self::Accounts, Self::Identity, Self::Warehouse, Self::Gateway];

    /// The name, as in configuration, directories and certificates.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vault => "vault",
            Self::Accounts => "accounts",
            Self::Identity => "identity",
            Self::Warehouse => "warehouse",
            Self::Gateway => "gateway",
        }
    }

    /// The name in this role's certificate: what a caller asks for in TLS, and what a server reads of its caller.
    pub fn server_name(self) -> String {
        format!("{}.coffer.internal", self.as_str())
    }

    /// The inverse of [`Role::server_name`].
    pub fn from_server_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.server_name() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = ErrorKind;
    fn from_str(text: &str) -> Result<Self, ErrorKind> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(ErrorKind::Invalid)
    }
}
