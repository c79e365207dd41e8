//! Runs the clients of others: scripts in `tests/python`, with the interpreter that `./test` sets up.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use tokio::process::Command;

use crate::installation::Ran;

/// Runs `tests/python/<script>` to its end with these variables and no others. An error when it fails, with all that it printed.
pub async fn python(script: &str, variables: &[(&str, &str)]) -> anyhow::Result<Ran> {
    let root = root();
    let interpreter = root.join(".venv/bin/python");
    ensure!(interpreter.exists(), "there is no Python environment in .venv; `./test` makes it");
    let done = Command::new(interpreter)
        .arg("-I")
        .arg(root.join("tests/python").join(script))
        .env_clear()
        .env("LANG", "C.UTF-8")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("could not start Python")?;
    let ran = Ran::from(done);
    ensure!(ran.code == Some(0), "{script} failed:\n{}\n{}", ran.stdout, ran.stderr);
    Ok(ran)
}

/// The directory of the whole repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
