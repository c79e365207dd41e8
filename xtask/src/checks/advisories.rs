//! Known holes in what the software is made of, from the RustSec database.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use rustsec::advisory::{Id, Informational};
use rustsec::report::{Report, Settings};
use rustsec::{Database, Lockfile};

use crate::checks::Outcome;
use crate::checks::policy::{Ignored, Policy};
use crate::repo::Repo;

const PUBLIC_DATABASE: &str = "https://github.com/RustSec/advisory-db.git";

/// Looks every locked crate up in the database, when one is at hand.
pub(crate) fn check(repo: &Repo) -> anyhow::Result<Outcome> {
    let Some(path) = database(repo)? else {
        return Ok(Outcome::new(
            Vec::new(),
            "SKIPPED: no advisory database at hand; run `cargo xtask check --fetch-advisories`, or name one in COFFER_ADVISORY_DB",
        ));
    };
    let policy = Policy::read(&repo.root.join("deny.toml"))?;
    let database = Database::open(&path).with_context(|| format!("could not read the advisory database in {}", path.display()))?;
    let lockfile = Lockfile::load(repo.root.join("Cargo.lock")).context("could not read Cargo.lock")?;
    let note = format!("{} locked crates, {} advisories", lockfile.packages.len(), database.iter().count());
    Ok(Outcome::new(judge(&database, &lockfile, &policy.advisories.ignore)?, note))
}

/// Brings the public database to where the check finds it.
pub(crate) fn fetch() -> anyhow::Result<()> {
    let target = in_cargo_home().context("neither CARGO_HOME nor HOME is set")?;
    let mut git = Command::new("git");
    if target.join(".git").is_dir() {
        git.arg("-C").arg(&target).args(["pull", "--quiet", "--ff-only"]);
    } else {
        git.args(["clone", "--quiet", "--depth", "1", PUBLIC_DATABASE]).arg(&target);
    }
    ensure!(
        git.status().context("could not run git")?.success(),
        "could not fetch {PUBLIC_DATABASE}"
    );
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a developer's tool, not the product")]
fn environment(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn in_cargo_home() -> Option<PathBuf> {
    environment("CARGO_HOME")
        .or_else(|| environment("HOME").map(|home| home.join(".cargo")))
        .map(|home| home.join("advisory-db"))
}

/// What the operator named, or a copy beside the repository, or the fetched one.
fn database(repo: &Repo) -> anyhow::Result<Option<PathBuf>> {
    if let Some(named) = environment("COFFER_ADVISORY_DB") {
        ensure!(
            is_database(&named),
            "COFFER_ADVISORY_DB names {}, which holds no advisories",
            named.display()
        );
        return Ok(Some(named));
    }
    let beside = repo.root.parent().map(|above| above.join("shared/advisory-db"));
    Ok([beside, in_cargo_home()].into_iter().flatten().find(|path| is_database(path)))
}

fn is_database(path: &Path) -> bool {
    path.join("crates").is_dir()
}

fn judge(database: &Database, lockfile: &Lockfile, ignored: &[Ignored]) -> anyhow::Result<Vec<String>> {
    let mut problems = Vec::new();
    let mut known = Vec::new();
    for Ignored { id, reason } in ignored {
        if reason.trim().is_empty() {
            problems.push(format!("deny.toml ignores {id} without a reason"));
        }
        known.push((id.parse::<Id>().with_context(|| format!("deny.toml: {id} is no advisory"))?, false));
    }
    let mut is_known = |id: &Id| match known.iter_mut().find(|(known, _)| known == id) {
        Some((_, used)) => {
            *used = true;
            true
        }
        None => false,
    };
    let settings = Settings {
        informational_warnings: vec![Informational::Unmaintained, Informational::Unsound, Informational::Notice],
        ..Settings::default()
    };
    let report = Report::generate(database, lockfile, &settings);
    for hole in &report.vulnerabilities.list {
        if !is_known(&hole.advisory.id) {
            let patched: Vec<String> = hole.versions.patched().iter().map(ToString::to_string).collect();
            let patched = if patched.is_empty() {
                "no version".to_owned()
            } else {
                patched.join(" or ")
            };
            problems.push(format!(
                "{} {}: {} ({}); mended in {patched}",
                hole.package.name, hole.package.version, hole.advisory.title, hole.advisory.id
            ));
        }
    }
    for warning in report.warnings.values().flatten() {
        if let Some(advisory) = &warning.advisory
            && !is_known(&advisory.id)
        {
            let (name, version) = (&warning.package.name, &warning.package.version);
            problems.push(format!(
                "{name} {version}: {} ({}, {})",
                advisory.title,
                advisory.id,
                warning.kind.as_str()
            ));
        }
    }
    for (id, used) in known {
        if !used {
            problems.push(format!("deny.toml ignores {id}, which concerns nothing that is locked"));
        }
    }
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADVISORY: &str = r#"```toml
[advisory]
id = "RUSTSEC-2024-0001"
package = "leaky"
date = "2024-01-01"

[versions]
patched = [">= 1.2.0"]
```

# leaky forgets to lock the door

It does.
"#;

    fn lock(version: &str) -> Lockfile {
        let source = "registry+https://github.com/rust-lang/crates.io-index";
        format!("version = 4\n\n[[package]]\nname = \"leaky\"\nversion = \"{version}\"\nsource = \"{source}\"\n")
            .parse()
            .unwrap()
    }

    fn planted() -> (tempfile::TempDir, Database) {
        let directory = tempfile::tempdir().unwrap();
        let leaky = directory.path().join("crates/leaky");
        std::fs::create_dir_all(&leaky).unwrap();
        std::fs::write(leaky.join("RUSTSEC-2024-0001.md"), ADVISORY).unwrap();
        let database = Database::open(directory.path()).unwrap();
        (directory, database)
    }

    fn ignored(id: &str, reason: &str) -> Ignored {
        Ignored {
            id: id.into(),
            reason: reason.into(),
        }
    }

    #[test]
    fn a_planted_hole_is_found_and_its_mended_version_is_not() {
        let (_directory, database) = planted();
        let found = judge(&database, &lock("1.1.0"), &[]).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("RUSTSEC-2024-0001"), "{found:?}");
        assert!(judge(&database, &lock("1.2.0"), &[]).unwrap().is_empty());
    }

    #[test]
    fn an_exception_needs_a_reason_and_something_to_excuse() {
        let (_directory, database) = planted();
        let excused = |version, reason| judge(&database, &lock(version), &[ignored("RUSTSEC-2024-0001", reason)]).unwrap();
        assert!(excused("1.1.0", "never called").is_empty());
        assert_eq!(excused("1.1.0", " ").len(), 1);
        assert_eq!(excused("1.2.0", "never called").len(), 1);
    }

    #[test]
    fn a_hole_that_the_world_knows_is_found_in_the_real_database() {
        let repo = Repo::find().unwrap();
        let Some(path) = super::database(&repo).unwrap() else { return };
        let real = Database::open(&path).unwrap();
        let source = "registry+https://github.com/rust-lang/crates.io-index";
        let lock: Lockfile = format!("version = 4\n\n[[package]]\nname = \"smallvec\"\nversion = \"0.6.6\"\nsource = \"{source}\"\n")
            .parse()
            .unwrap();
        assert!(judge(&real, &lock, &[]).unwrap().iter().any(|p| p.contains("RUSTSEC-2021-0003")));
    }
}
