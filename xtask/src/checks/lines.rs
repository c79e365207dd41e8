//! Crates stand in lines; a crate imports earlier lines only. And each heavy dependency has its home.

use anyhow::Context as _;
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

use crate::checks::Outcome;
use crate::repo::Repo;

/// Crates on one line never import one another, only what stands on lines above.
const LINES: &[&[&str]] = &[
    &["base"],
    &["seal"],
    &["audit", "wire", "zones"],
    &["journal", "events"],
    &["columns", "edge"],
    &["query"],
    &["gateway", "accounts", "identity", "warehouse", "vault"],
    &["coffer"],
];

/// May import any line, and are imported by tests alone.
const FOR_TESTS: &[&str] = &["testkit", "twins", "fuzz", "simulate"];

/// Imports no crate of the product, and is imported by none.
const APART: &str = "xtask";

/// Only these crates know these dependencies.
const HOMES: &[(&str, &[&str])] = &[
    ("datafusion", &["query"]),
    ("object_store", &["query"]),
    ("parquet", &["columns", "query"]),
    ("aws-lc-rs", &["seal"]),
    ("hpke", &["seal"]),
    ("quick-xml", &["zones"]),
    ("landlock", &["edge"]),
    ("seccompiler", &["edge"]),
    ("axum", &["edge", "gateway"]),
    ("rcgen", &["edge", "vault", "testkit"]),
    ("sqlx", &["columns", "accounts", "identity", "warehouse", "vault"]),
    ("listenfd", &["coffer"]),
    ("command-fds", &["coffer"]),
    ("clap", &["coffer", "xtask"]),
    ("toml", &["coffer", "xtask"]),
];

/// One dependency of a crate of ours, by short names.
struct Import {
    from: String,
    to: String,
    dev: bool,
}

/// Looks at what every crate of the workspace declares.
pub(crate) fn check(repo: &Repo) -> anyhow::Result<Outcome> {
    let metadata = MetadataCommand::new()
        .manifest_path(repo.root.join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("could not read the workspace's manifests")?;
    let crates: Vec<String> = metadata
        .workspace_packages()
        .iter()
        .map(|p| short(p.name.as_str()).to_owned())
        .collect();
    let problems = judge(&crates, &imports(&metadata));
    Ok(Outcome::new(problems, format!("{} crates on {} lines", crates.len(), LINES.len())))
}

fn imports(metadata: &Metadata) -> Vec<Import> {
    metadata
        .workspace_packages()
        .iter()
        .flat_map(|package| {
            package.dependencies.iter().map(|dependency| Import {
                from: short(package.name.as_str()).to_owned(),
                to: short(&dependency.name).to_owned(),
                dev: dependency.kind == DependencyKind::Development,
            })
        })
        .collect()
}

fn short(package: &str) -> &str {
    package.strip_prefix("coffer-").unwrap_or(package)
}

fn line_of(name: &str) -> Option<usize> {
    LINES.iter().position(|line| line.contains(&name))
}

fn is_for_tests(name: &str) -> bool {
    FOR_TESTS.contains(&name)
}

fn judge(crates: &[String], imports: &[Import]) -> Vec<String> {
    let mut problems = Vec::new();
    for name in crates {
        if line_of(name).is_none() && !is_for_tests(name) && name != APART {
            problems.push(format!(
                "crate {name} stands on no line; give it one in xtask/src/checks/lines.rs and ARCHITECTURE.md"
            ));
        }
    }
    for Import { from, to, dev } in imports {
        if let Some((_, homes)) = HOMES.iter().find(|(heavy, _)| heavy == to)
            && !dev
            && !homes.contains(&from.as_str())
        {
            problems.push(format!("{from} depends on {to}, which only {} may know", homes.join(", ")));
        }
        if !crates.contains(to) {
            continue;
        }
        if from == APART || to == APART {
            problems.push(format!("{from} imports {to}: {APART} stands apart"));
        } else if is_for_tests(to) && !dev {
            problems.push(format!("{from} imports {to} outside its tests"));
        } else if !is_for_tests(to) && !is_for_tests(from) && line_of(from) <= line_of(to) {
            problems.push(format!("{from} imports {to}, which does not stand on an earlier line"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(from: &str, to: &str, dev: bool) -> bool {
        let crates: Vec<String> = LINES
            .iter()
            .flat_map(|l| l.iter())
            .chain(FOR_TESTS)
            .chain(&[APART])
            .map(|s| (*s).to_owned())
            .collect();
        !judge(
            &crates,
            &[Import {
                from: from.into(),
                to: to.into(),
                dev,
            }],
        )
        .is_empty()
    }

    #[test]
    fn a_planted_import_of_the_same_or_a_later_line_is_found() {
        assert!(found("wire", "zones", false));
        assert!(found("base", "seal", true));
        assert!(found("gateway", "warehouse", false));
        assert!(found("query", "testkit", false));
        assert!(found("coffer", "fuzz", false));
        assert!(found("warehouse", "datafusion", false));
        assert!(found("xtask", "base", false));
    }

    #[test]
    fn what_the_lines_allow_passes() {
        assert!(!found("zones", "base", false));
        assert!(!found("coffer", "gateway", false));
        assert!(!found("coffer", "testkit", true));
        assert!(!found("fuzz", "gateway", false));
        assert!(!found("query", "datafusion", false));
    }

    #[test]
    fn a_crate_without_a_line_is_found() {
        assert_eq!(judge(&["stray".to_owned()], &[]).len(), 1);
    }
}
