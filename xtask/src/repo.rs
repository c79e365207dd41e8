//! The repository that is looked at.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

/// The tree that holds this tool.
#[derive(Debug, Clone)]
pub(crate) struct Repo {
    pub(crate) root: PathBuf,
}

/// A text file of the tree.
#[derive(Debug, Clone)]
pub(crate) struct TextFile {
    /// Relative to the root, with slashes.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Repo {
    /// The workspace above this crate.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("xtask stands in a workspace")?
            .to_owned();
        Ok(Self { root })
    }

    /// Every text file that is committed or would be: tracked, or new and not ignored.
    pub(crate) fn text_files(&self) -> anyhow::Result<Vec<TextFile>> {
        let listed = output(
            Command::new("git")
                .current_dir(&self.root)
                .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]),
            "list files with git",
        )?;
        let mut files = Vec::new();
        for path in listed.split('\0').filter(|path| !path.is_empty()) {
            // Deleted but not yet committed, or not text: nothing to read there.
            let Ok(bytes) = std::fs::read(self.root.join(path)) else { continue };
            if let Ok(text) = String::from_utf8(bytes) {
                files.push(TextFile {
                    path: path.to_owned(),
                    text,
                });
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files.dedup_by(|a, b| a.path == b.path);
        Ok(files)
    }
}

/// What `cargo xtask` itself is told by cargo, and build scripts look at.
const TOLD: [&str; 9] = [
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_LINKS",
    "CARGO_MANIFEST_PATH",
    "CARGO_PKG_NAME",
    "CARGO_PKG_VERSION_MAJOR",
    "CARGO_PKG_VERSION_MINOR",
    "CARGO_PKG_VERSION_PATCH",
    "CARGO_PKG_VERSION_PRE",
    "OUT_DIR",
];

/// Cargo in the workspace, as if it were called from a shell.
///
/// The build script of `ring` is run again, and all that stands on it up to DataFusion compiled anew, when one of these variables is another
/// than the last time.
pub(crate) fn cargo(repo: &Repo) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(&repo.root);
    for name in TOLD {
        cargo.env_remove(name);
    }
    cargo
}

/// Runs a command; its standard output when it ends well.
pub(crate) fn output(command: &mut Command, what: &str) -> anyhow::Result<String> {
    let done = command.output().with_context(|| format!("could not {what}"))?;
    ensure!(
        done.status.success(),
        "could not {what}: {}",
        String::from_utf8_lossy(&done.stderr).trim()
    );
    Ok(String::from_utf8(done.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_is_called_without_what_would_have_dependencies_compiled_anew() {
        let cargo = cargo(&Repo::find().expect("a repository"));
        let removed = |wanted: &str| cargo.get_envs().any(|(name, value)| name == wanted && value.is_none());
        assert!(TOLD.into_iter().all(removed));
        assert!(!removed("PATH"));
    }
}
