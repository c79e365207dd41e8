//! Each role is a process that the kernel holds to its own: sandboxed, not dumpable, with nobody else's files open, and nothing to be
//! read off its command line, its environment or its files. What a sandbox refuses act by act is tested in the crate `edge`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
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

/// What `/proc` says about a process, by the name of the line.
fn about(pid: i32, name: &str) -> anyhow::Result<Vec<String>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
    Ok(line.split_whitespace().map(str::to_owned).collect())
}

/// Without any sandbox: what is left is what the kernel holds between users.
#[tokio::test(flavor = "multi_thread")]
async fn each_role_is_a_user_of_its_own_with_nothing_left_of_root() -> anyhow::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("NOT TESTED: only root can let each role be another user");
        return Ok(());
    }
    let mut installation = Installation::prepare(env!("CARGO_BIN_EXE_coffer")).await?;
    installation.configure("sandbox = \"off\"\n[users]\nseparate = \"required\"\n")?;
    installation.up().await?;
    let pids = installation.pids();
    let mut ids = BTreeMap::new();
    for (role, pid) in &pids {
        let users = about(*pid, "Uid:")?;
        ensure!(users.iter().all(|id| *id == users[0]) && users[0] != "0", "{role}: {users:?}");
        ids.insert(*role, users[0].parse::<u32>()?);
        ensure!(about(*pid, "Groups:")?.is_empty(), "{role} has further groups");
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            let bits = about(*pid, set)?;
            ensure!(
                bits.iter().all(|bits| bits.bytes().all(|b| b == b'0')),
                "{role} keeps {set} {bits:?}"
            );
        }
        ensure!(about(*pid, "NoNewPrivs:")? == ["1"], "{role} could gain rights");
        // The control of what follows: nothing else stands between them.
        ensure!(about(*pid, "Seccomp:")? == ["0"], "{role} is in a sandbox");
    }
    let distinct: BTreeSet<u32> = ids.values().copied().collect();
    ensure!(distinct.len() == Role::ALL.len(), "roles share a user: {ids:?}");

    let data = installation.data();
    for (role, user) in &ids {
        for (other, pid) in pids.iter().filter(|(other, _)| *other != role) {
            let own = |part: &str| data.join(part).join(other.as_str());
            let tries = [
                format!("kill -0 {pid}"),
                format!("python3 -c {TRACE}({pid})"),
                format!("head -c 1 /proc/{pid}/mem"),
                format!("cat /proc/{pid}/environ"),
                format!("ls /proc/{pid}/fd"),
                format!("ls {}", own("roles").display()),
                format!("ls {}", own("zones").display()),
                format!("ls {}", data.join("run").display()),
                format!("ls {}", data.display()),
                format!("touch {}", data.join("new").display()),
                format!("cat {}", data.join("lock").display()),
                "cat /etc/shadow".to_owned(),
            ];
            for words in tries.iter().filter(|words| *other != Role::Gateway || !words.contains("/zones/")) {
                let outcome = as_user(*user, words)?;
                ensure!(outcome.is_some(), "{role} may do to {other}: {words}");
                ensure!(
                    outcome
                        .as_deref()
                        .is_some_and(|said| said.contains("ermission denied") || said.contains("not permitted")),
                    "{role}, {other}, {words}: {outcome:?}"
                );
            }
        }
        // The control: what is its own it reaches.
        let own = as_user(*user, &format!("ls {}", data.join("roles").join(role.as_str()).display()))?;
        ensure!(own.is_none(), "{role} does not reach its own directory: {own:?}");
    }
    let doctor = installation.doctor().await?;
    let line = doctor
        .as_array()
        .and_then(|lines| lines.iter().find(|line| line["about"] == "users"))
        .context("doctor says nothing of users")?;
    let says = line["says"].as_str().unwrap_or_default();
    ensure!(says.contains("a user of its own") && line["state"] == "ok", "{line}");
    ensure!(ids.values().all(|id| says.contains(&id.to_string())), "{line}");
    installation.finish().await
}

/// Attaches to a process as a debugger does, and says what the kernel says. Without a space, because words are split there.
const TRACE: &str = "c=__import__('ctypes');l=c.CDLL(None,use_errno=True);e=lambda:__import__('os').strerror(c.get_errno());\
    f=lambda\tpid:__import__('sys').exit(l.ptrace(16,pid,None,None)and\te());f";

/// Runs a command as the user that a role is; what it said when it failed.
fn as_user(user: u32, words: &str) -> anyhow::Result<Option<String>> {
    use std::os::unix::process::CommandExt as _;
    let words: Vec<&str> = words.split(' ').collect();
    let mut command = std::process::Command::new(words[0]);
    command.args(&words[1..]).env_clear().env("PATH", "/usr/bin:/bin").env("LANG", "C");
    // The group is the one that all roles have.
    let group = user / 8 * 8;
    let ran = command.uid(user).gid(group).current_dir("/").output()?;
    Ok((!ran.status.success()).then(|| String::from_utf8_lossy(&ran.stderr).into_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_goes_from_one_user_to_many_and_back() -> anyhow::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("NOT TESTED: only root can let each role be another user");
        return Ok(());
    }
    let mut installation = Installation::prepare(env!("CARGO_BIN_EXE_coffer")).await?;
    installation.configure("[users]\nseparate = \"off\"\n")?;
    installation.up().await?;
    let product = installation.product("moved").await?;
    let client = installation.client(&product.admin_key)?;
    client.create_table("moved", "events").await?;
    let row = |n: i64| [json!({"time": 1_700_000_000 + n, "n": n})];
    client.import("moved", "events", None, &row(1)).await?.ok()?;
    let doctor = installation.doctor().await?.to_string();
    ensure!(
        doctor.contains("all roles run under one user id (0): users.separate is off"),
        "{doctor}"
    );
    installation.stop().await?;

    for (starts, settings) in ["", "[users]\nseparate = \"off\"\n", "[users]\nseparate = \"required\"\n"]
        .iter()
        .enumerate()
    {
        installation.configure(settings)?;
        installation.up().await?;
        let users: BTreeSet<String> = installation
            .pids()
            .values()
            .map(|pid| Ok(about(*pid, "Uid:")?[0].clone()))
            .collect::<anyhow::Result<_>>()?;
        ensure!(
            users.len() == if settings.contains("off") { 1 } else { Role::ALL.len() },
            "{settings:?}: {users:?}"
        );
        let client = installation.client(&product.admin_key)?;
        let n = starts as i64 + 2;
        client.import("moved", "events", None, &row(n)).await?.ok()?;
        ensure!(client.number("moved", "SELECT count(*) FROM events").await? == n, "rows are lost");
        installation.stop().await?;
    }

    // Another user cannot go on with what the roles have, and is told what to do.
    let binary = installation.aside("coffer");
    fs::copy(env!("CARGO_BIN_EXE_coffer"), &binary)?;
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755))?;
    let data = installation.data();
    let words = format!("{} serve --data {}", binary.display(), data.display());
    let said = as_user(23_456, &words)?.context("another user runs it")?;
    ensure!(said.contains("start it as root") && said.contains("chown -R 23456"), "{said}");
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
    // Roles that are users of their own pass through some directories, in which they see nothing and make nothing.
    let passage = nix::unistd::geteuid().is_root() && fs::symlink_metadata(directory)?.uid() == 0;
    let allowed = if passage { 0o010 } else { 0 };
    ensure!(mode & 0o077 & !allowed == 0, "{} has mode {:o}", directory.display(), mode & 0o777);
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
