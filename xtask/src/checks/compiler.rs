//! What cargo's own tools say: formatting and clippy.

use std::process::{Command, Stdio};

use crate::checks::Outcome;
use crate::repo::{Repo, cargo, output};

/// `cargo fmt --check` over the workspace.
pub(crate) fn formatting(repo: &Repo) -> anyhow::Result<Outcome> {
    let run = Command::new("cargo")
        .current_dir(&repo.root)
        .args(["fmt", "--all", "--check", "--", "-l"])
        .output()?;
    let mut problems: Vec<String> = String::from_utf8_lossy(&run.stdout)
        .lines()
        .map(|file| file.strip_prefix(&format!("{}/", repo.root.display())).unwrap_or(file))
        .map(|file| format!("{file} is not formatted; run `cargo fmt --all`"))
        .collect();
    if problems.is_empty() && !run.status.success() {
        problems.push(format!("cargo fmt: {}", String::from_utf8_lossy(&run.stderr).trim()));
    }
    Ok(Outcome::new(problems, ""))
}

/// Builds the workspace with clippy as its compiler.
///
/// Not `cargo clippy`: that only checks, so everything would have to be compiled once more to be run, DataFusion included.
/// The wrapper is what `cargo clippy` itself sets; the arguments reach the driver in one variable, joined by a marker.
pub(crate) fn clippy(repo: &Repo) -> anyhow::Result<Outcome> {
    let driver = output(
        Command::new("rustup").current_dir(&repo.root).args(["which", "clippy-driver"]),
        "find clippy-driver",
    )?;
    let run = cargo(repo)
        .args(["build", "--workspace", "--all-targets", "--locked"])
        .env("RUSTC_WORKSPACE_WRAPPER", driver.trim())
        .env("CLIPPY_ARGS", "-Dwarnings__CLIPPY_HACKERY__")
        .stdout(Stdio::null())
        .status()?;
    let problems = if run.success() {
        Vec::new()
    } else {
        vec!["see above; clippy is the compiler here, and warnings fail".to_owned()]
    };
    Ok(Outcome::new(problems, ""))
}
