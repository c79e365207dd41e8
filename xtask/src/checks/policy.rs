//! `deny.toml`: what the software may be made of. The form is cargo-deny's, so that cargo-deny can read it as well.

use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;

/// The parts of the file that are read here.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Policy {
    pub(crate) graph: Graph,
    pub(crate) licenses: Licences,
    pub(crate) advisories: Advisories,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Graph {
    /// Target triples that the product is built for.
    pub(crate) targets: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Licences {
    /// Licences that anything may have.
    pub(crate) allow: Vec<String>,
    /// Licences that one crate may have.
    #[serde(default)]
    pub(crate) exceptions: Vec<LicenceException>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LicenceException {
    #[serde(rename = "crate")]
    pub(crate) name: String,
    pub(crate) allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Advisories {
    /// Advisories that we live with, each with its reason.
    #[serde(default)]
    pub(crate) ignore: Vec<Ignored>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ignored {
    pub(crate) id: String,
    pub(crate) reason: String,
}

impl Policy {
    /// Reads the file.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is not understood", path.display()))
    }
}
