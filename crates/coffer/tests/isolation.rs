//! Each role is a process that the kernel holds to its own: sandboxed, not dumpable, with nobody else's files open, and nothing to be
//! read off its command line, its environment or its files. What a sandbox refuses act by act is tested in the crate `edge`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use base::Role;
use serde_json::json;
use testkit::Installation;

#[tokio::test(flavor = "multi_thread")]
async fn every_role_is_a_process_that_has_only_its_own() -> anyhow::Result<()> {
    let installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let product = installation.product("isolation").await?;
    let client = installation.client(&product.admin_key)?;
    client.create_table("isolation", "events").await?;
    client
        .import(
            "isolation",
            "events",
            None,
            &[json!({"time": 1_700_000_000, "email": "ada@example.com"})],
        )
        .await?
        .ok()?;
    client.query("isolation", "SELECT * FROM events").await?;

    let pids = installation.pids();
    ensure!(pids.len() == Role::ALL.len(), "{pids:?}");
    for (role, pid) in pids {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
                .unwrap_or_default()
                .to_owned()
        };
        ensure!(field("NoNewPrivs:") == "1", "{role} could gain rights");
        ensure!(field("Seccomp:") == "2", "{role} runs without a system call filter");
        let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
        let core = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"))
            .context("no core limit")?;
        ensure!(core.split_whitespace().nth(4) == Some("0"), "{role} may leave a core: {core}");

        let line = fs::read(format!("/proc/{pid}/cmdline"))?;
        let words: Vec<_> = line.split(|byte| *byte == 0).filter(|word| !word.is_empty()).skip(1).collect();
        ensure!(
            words == [b"role".as_slice(), role.as_str().as_bytes()],
            "{role} is started with {words:?}"
        );

        for descriptor in fs::read_dir(format!("/proc/{pid}/fd"))? {
            let Ok(target) = fs::read_link(descriptor?.path()) else { continue };
            ensure!(
                is_its_own(&target, role, &installation.data()),
                "{role} has {} open",
                target.display()
            );
        }
    }
    nobody_else_may_look(&installation.data())?;
    installation.finish().await
}

/// Whether an open file is a role's own, or none of the installation's.
fn is_its_own(target: &Path, role: Role, data: &Path) -> bool {
    let Ok(inside) = target.strip_prefix(data) else { return true };
    let mut parts = inside.iter();
    match parts.next().and_then(|part| part.to_str()) {
        Some("roles" | "zones") => parts.next().is_some_and(|whose| whose == role.as_str()),
        // The lock of the data directory is held by all, and says nothing.
        Some("lock") => true,
        Some("run") => parts
            .next()
            .is_some_and(|socket| Path::new(socket).file_stem().is_some_and(|stem| stem == role.as_str())),
        _ => false,
    }
}

/// Nothing under the data directory is open to another user of the machine.
fn nobody_else_may_look(directory: &Path) -> anyhow::Result<()> {
    let mode = fs::symlink_metadata(directory)?.permissions().mode();
    ensure!(mode & 0o077 == 0, "{} has mode {:o}", directory.display(), mode & 0o777);
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        // A file may be merged away between the listing and the look.
        let Ok(about) = fs::symlink_metadata(&path) else { continue };
        if about.is_dir() {
            nobody_else_may_look(&path)?;
        }
    }
    Ok(())
}
