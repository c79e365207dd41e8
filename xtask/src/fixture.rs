//! Makes the old installation anew that later versions have to open: `tests/fixtures/installation-1.tar.gz`.
//!
//! Only while formats are not frozen. Afterwards the file stays as it is, and a format that changes gets a further one beside it.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, ensure};

use crate::repo::Repo;

/// Where it lies.
const ARCHIVE: &str = "tests/fixtures/installation-1.tar.gz";
/// What it may have: every clone fetches it.
const MOST: u64 = 300 << 10;

/// Builds what is needed, as `./test` does, and makes the file.
pub(crate) fn run(repo: &Repo) -> anyhow::Result<ExitCode> {
    let mut build = Command::new("cargo");
    build
        .args(["build", "--locked", "--workspace", "--all-targets"])
        .current_dir(&repo.root);
    ensure!(build.status().context("could not run cargo")?.success(), "the build failed");
    let built = |name: &str| repo.root.join("target/debug").join(name);
    let archive = repo.root.join(ARCHIVE);
    let mut make = Command::new(built("examples/fixture"));
    make.arg(built("coffer")).arg(&archive);
    ensure!(
        make.status().context("could not run the example `fixture`")?.success(),
        "the fixture was not made"
    );
    let size = size(&archive)?;
    ensure!(size <= MOST, "{ARCHIVE} has {size} bytes, at most {MOST} may be committed");
    Ok(ExitCode::SUCCESS)
}

fn size(archive: &Path) -> anyhow::Result<u64> {
    Ok(archive
        .metadata()
        .with_context(|| format!("there is no {}", archive.display()))?
        .len())
}
