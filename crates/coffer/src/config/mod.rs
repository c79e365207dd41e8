//! The configuration: a TOML file, then the environment, then flags. What is not known is an error with the nearest known name.
//!
//! Every problem is found in one pass: what is wrong is reported, left out, and the rest is read on.
//! A variable is `COFFER_<SECTION>__<NAME>` (`COFFER_LISTEN__PUBLIC`), or `COFFER_SANDBOX` for what stands in no section.
//!
//! Start at [`Config::load`]. Does not know what the roles do with their settings.

mod problems;
#[cfg(test)]
mod tests;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use base::Role;
use serde::{Deserialize, Serialize};

pub(crate) use problems::Problem;

use crate::cli::{SandboxMode, Settings};
use crate::environment;
use crate::failure::{Exit, Failure, Outcome};
use crate::users::UsersSettings;

/// The configuration in force.
#[derive(Debug)]
pub(crate) struct Config {
    /// What it says.
    pub(crate) shape: Shape,
    /// As written, for handing each role its part.
    pub(crate) table: toml::Table,
}

/// All that can be configured.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Shape {
    /// What is enforced around each role.
    pub(crate) sandbox: SandboxMode,
    /// Who the roles are to the kernel.
    pub(crate) users: UsersSettings,
    /// Addresses.
    pub(crate) listen: Listen,
    /// The certificate of the public listener.
    pub(crate) certificate: Certificate,
    pub(crate) vault: vault::VaultSettings,
    pub(crate) accounts: accounts::AccountsSettings,
    pub(crate) identity: identity::IdentitySettings,
    pub(crate) warehouse: warehouse::WarehouseSettings,
    pub(crate) gateway: gateway::GatewaySettings,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            sandbox: SandboxMode::On,
            users: UsersSettings::default(),
            listen: Listen::default(),
            certificate: Certificate::default(),
            vault: Default::default(),
            accounts: Default::default(),
            identity: Default::default(),
            warehouse: Default::default(),
            gateway: Default::default(),
        }
    }
}

impl Shape {
    /// The zones of every role that has some.
    pub(crate) fn zones(&self) -> [(Role, &zones::ZonesSettings); 4] {
        [
            (Role::Vault, &self.vault.zones),
            (Role::Accounts, &self.accounts.zones),
            (Role::Identity, &self.identity.zones),
            (Role::Warehouse, &self.warehouse.zones),
        ]
    }
}

/// Where is listened.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Listen {
    /// The public TLS listener.
    pub(crate) public: SocketAddr,
    /// A plain HTTP port that redirects pages and refuses everything else.
    pub(crate) plain: Option<SocketAddr>,
    /// Internal listeners: any free port on the loopback unless said.
    pub(crate) vault: Option<SocketAddr>,
    pub(crate) accounts: Option<SocketAddr>,
    pub(crate) identity: Option<SocketAddr>,
    pub(crate) warehouse: Option<SocketAddr>,
    pub(crate) gateway: Option<SocketAddr>,
}

impl Default for Listen {
    fn default() -> Self {
        let public = SocketAddr::from(([127, 0, 0, 1], 8443));
        Self {
            public,
            plain: None,
            vault: None,
            accounts: None,
            identity: None,
            warehouse: None,
            gateway: None,
        }
    }
}

impl Listen {
    /// The internal address of a role; port 0 when it is not configured.
    pub(crate) fn internal(&self, role: Role) -> SocketAddr {
        let configured = match role {
            Role::Vault => self.vault,
            Role::Accounts => self.accounts,
            Role::Identity => self.identity,
            Role::Warehouse => self.warehouse,
            Role::Gateway => self.gateway,
        };
        configured.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)))
    }
}

/// The public certificate: the operator's files, or names for the one that the vault issues.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Certificate {
    /// PEM, leaf first.
    pub(crate) chain: Option<PathBuf>,
    /// PEM.
    pub(crate) key: Option<PathBuf>,
    /// Further names and addresses for a certificate from the vault.
    pub(crate) names: Vec<String>,
}

impl Config {
    /// File, environment and flags together; every problem at once.
    pub(crate) fn load(settings: &Settings) -> Outcome<Self> {
        let text = match &settings.config {
            Some(path) => Some((path.clone(), read(path)?)),
            None => None,
        };
        let file = text.as_ref().map(|(path, text)| (path.as_path(), text.as_str()));
        let variables = environment::with_prefix("COFFER_");
        Self::from_parts(file, &variables, settings.sandbox).map_err(|problems| {
            let list: Vec<String> = problems.iter().map(ToString::to_string).collect();
            let count = if list.len() == 1 {
                "one problem".into()
            } else {
                format!("{} problems", list.len())
            };
            Failure::new(Exit::Refused, format!("the configuration has {count}"))
                .why(list.join("\n"))
                .next("correct it; `coffer config check` says whether all is well")
        })
    }

    /// The same from texts.
    pub(crate) fn from_parts(
        file: Option<(&Path, &str)>,
        variables: &[(String, String)],
        sandbox: Option<SandboxMode>,
    ) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut table = match file {
            Some((path, text)) => problems::file(path, text, &mut problems),
            None => toml::Table::new(),
        };
        for (name, value) in variables {
            problems::variable(name, value, &mut table, &mut problems);
        }
        if let Some(mode) = sandbox {
            let word = if mode == SandboxMode::On {
                "on"
            } else if mode == SandboxMode::Off {
                "off"
            } else {
                "required"
            };
            table.insert("sandbox".into(), word.into());
        }
        let shape: Option<Shape> = table
            .clone()
            .try_into()
            .map_err(|error: toml::de::Error| {
                if problems.is_empty() {
                    problems.push(Problem::new("configuration", error.message()));
                }
            })
            .ok();
        if let Some(shape) = &shape {
            problems::together(shape, &mut problems);
        }
        match shape {
            Some(shape) if problems.is_empty() => Ok(Self { shape, table }),
            _ => Err(problems),
        }
    }

    /// A role's part as it is handed over: what was written, and nothing else.
    pub(crate) fn part(&self, role: Role) -> toml::Table {
        self.table
            .get(role.as_str())
            .and_then(toml::Value::as_table)
            .cloned()
            .unwrap_or_default()
    }
}

fn read(path: &Path) -> Outcome<String> {
    fs::read_to_string(path).map_err(|error| {
        let exit = if error.kind() == std::io::ErrorKind::NotFound {
            Exit::NotFound
        } else {
            Exit::Failed
        };
        Failure::new(exit, format!("could not read the configuration file {}", path.display())).why(error)
    })
}
