//! Every crate that the product is made of has a licence that `deny.toml` allows.

use std::collections::HashSet;

use anyhow::Context as _;
use cargo_metadata::{Metadata, MetadataCommand};
use spdx::{Expression, Licensee, ParseMode};

use crate::checks::Outcome;
use crate::checks::policy::Policy;
use crate::repo::Repo;

/// A crate and what its manifest says about its licence.
struct Crate {
    name: String,
    licence: Option<String>,
}

/// What is not built by default, and looked at nevertheless.
const BESIDE: &str = "coffer-fuzz/libfuzzer";

/// Looks at everything that is compiled for the product's targets.
pub(crate) fn check(repo: &Repo) -> anyhow::Result<Outcome> {
    let policy = Policy::read(&repo.root.join("deny.toml"))?;
    let mut command = MetadataCommand::new();
    command.manifest_path(repo.root.join("Cargo.toml"));
    let mut options = vec!["--locked".to_owned(), "--features".to_owned(), BESIDE.to_owned()];
    for target in &policy.graph.targets {
        options.extend(["--filter-platform".to_owned(), target.clone()]);
    }
    let metadata = command.other_options(options).exec().context("could not resolve the workspace")?;
    let crates = resolved(&metadata);
    let problems = judge(&policy, &crates)?;
    Ok(Outcome::new(problems, format!("{} crates", crates.len())))
}

fn resolved(metadata: &Metadata) -> Vec<Crate> {
    let used: HashSet<_> = metadata
        .resolve
        .iter()
        .flat_map(|resolve| resolve.nodes.iter().map(|node| &node.id))
        .collect();
    metadata
        .packages
        .iter()
        .filter(|package| used.contains(&package.id))
        .map(|package| Crate {
            name: package.name.to_string(),
            licence: package.license.clone(),
        })
        .collect()
}

fn judge(policy: &Policy, crates: &[Crate]) -> anyhow::Result<Vec<String>> {
    let parse = |ids: &[String]| -> anyhow::Result<Vec<Licensee>> {
        ids.iter()
            .map(|id| Licensee::parse(id).with_context(|| format!("deny.toml: {id} is no SPDX licence")))
            .collect()
    };
    let everywhere = parse(&policy.licenses.allow)?;
    let mut problems = Vec::new();
    for Crate { name, licence } in crates {
        let Some(licence) = licence else {
            problems.push(format!("{name} names no licence"));
            continue;
        };
        let expression = match Expression::parse_mode(licence, ParseMode::LAX) {
            Ok(expression) => expression,
            Err(error) => {
                problems.push(format!("{name}: {licence:?} is no licence expression: {}", error.reason));
                continue;
            }
        };
        let own: Vec<String> = policy
            .licenses
            .exceptions
            .iter()
            .filter(|e| e.name == *name)
            .flat_map(|e| e.allow.iter().cloned())
            .collect();
        let own = parse(&own)?;
        if !expression.evaluate(|wanted| everywhere.iter().chain(&own).any(|allowed| allowed.satisfies(wanted))) {
            problems.push(format!("{name} is under {licence}, which deny.toml does not allow"));
        }
    }
    for exception in &policy.licenses.exceptions {
        if !crates.iter().any(|c| c.name == exception.name) {
            problems.push(format!("deny.toml makes an exception for {}, which is not used", exception.name));
        }
    }
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(licence: Option<&str>) -> bool {
        let policy: Policy = toml::from_str(
            "graph.targets = []\nlicenses.allow = ['MIT', 'Apache-2.0']\nadvisories.ignore = []\n\
             [[licenses.exceptions]]\ncrate = 'special'\nallow = ['MPL-2.0']",
        )
        .unwrap();
        let one = |name: &str, licence: Option<&str>| Crate {
            name: name.into(),
            licence: licence.map(Into::into),
        };
        !judge(&policy, &[one("special", Some("MPL-2.0")), one("other", licence)])
            .unwrap()
            .is_empty()
    }

    #[test]
    fn a_planted_licence_is_found() {
        assert!(found(Some("AGPL-3.0-only")));
        assert!(found(Some("MIT AND GPL-2.0")));
        assert!(found(Some("MPL-2.0")));
        assert!(found(None));
    }

    #[test]
    fn what_the_policy_allows_passes() {
        assert!(!found(Some("MIT OR GPL-2.0")));
        assert!(!found(Some("MIT/Apache-2.0")));
    }
}
