//! `coffer prove isolation`: the program stands it, running or not, whoever started it; and each broken twin is found out by it: one without
//! its sandbox, one in which a role's directory is open to other users, one whose table of calls has a line more.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base::Role;
use testkit::{Installation, Ran, until};

const PROVE: [&str; 2] = ["prove", "isolation"];
/// Refusals beyond the first of a minute are recorded when it is over.
const RECORDED: Duration = Duration::from_secs(180);

async fn prove(installation: &Installation, more: &[&str]) -> anyhow::Result<Ran> {
    let words: Vec<&str> = PROVE.iter().chain(more).copied().collect();
    installation.operator(&words).await
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// That it failed as a proof does, and for this reason.
fn found_out(ran: &Ran, reason: &str) -> anyhow::Result<()> {
    ensure!(ran.code == Some(8), "{ran:?}");
    ensure!(ran.stderr.contains(reason), "not for the reason {reason:?}:\n{}", ran.stderr);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_role_gets_more_or_less_than_is_written() -> anyhow::Result<()> {
    let mut installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let product = installation.product("breached").await?;
    let client = installation.client(&product.admin_key)?;
    client.create_table("breached", "events").await?;
    let row = [serde_json::json!({"time": 1_700_000_000, "email": "ada@example.com"})];
    client.import("breached", "events", None, &row).await?.ok()?;
    let before = installation.pids();

    let ran = prove(&installation, &["--attacks"]).await?;
    ensure!(ran.code == Some(0), "{ran:?}");
    for role in Role::ALL {
        let tried = ran.stdout.lines().filter(|line| line.starts_with(&format!("{role}\t")));
        ensure!(tried.count() > 200, "{role} tried too little");
    }
    // Every method that there is was asked for by every role.
    for role in Role::ALL {
        for method in wire::calls::METHODS {
            let asked = format!("{role}\tcall {}\t", method.trim_start_matches("/coffer.v1."));
            ensure!(ran.stdout.contains(&asked), "{asked:?} was not tried");
        }
    }
    // Written down by the vault, whoever refused it, and not one of them missing. The last come when the minute is over, as a number.
    let refused = refused(&ran.stdout);
    until("every refusal is in the audit journal, and no other", RECORDED, || async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let recorded = recorded(&installation).await?;
        ensure!(recorded == refused, "refused {refused:?}\nrecorded {recorded:?}");
        Ok(())
    })
    .await?;

    // It went on meanwhile, and nothing is left of the drill.
    ensure!(installation.pids() == before, "roles ended");
    ensure!(
        client.number("breached", "SELECT count(*) FROM events").await? == 1,
        "a row is gone"
    );
    ensure!(left(&installation.data())?.is_empty(), "left: {:?}", left(&installation.data())?);

    // The same of one that does not run; it does not run afterwards either.
    installation.stop().await?;
    let ran = prove(&installation, &[]).await?;
    ensure!(ran.code == Some(0), "{ran:?}");
    ensure!(ran.stdout.contains("| call Vault/Renew |"), "{ran:?}");
    ensure!(ran.stderr.contains("proven: "), "{ran:?}");
    installation.up().await?;
    installation.finish().await
}

/// How many attempts were refused: at whom, of whom, by which rule.
type Refusals = BTreeMap<(String, String, String), u64>;

/// By what the drill says.
fn refused(attacks: &str) -> Refusals {
    let mut refused = Refusals::new();
    for line in attacks.lines() {
        let [by, asset, _, target, "refused", says] = line.split('\t').collect::<Vec<_>>()[..] else {
            continue;
        };
        let rule = match asset.split_once(' ') {
            _ if says.starts_with("no connection") => continue,
            Some(("call", _)) => "call",
            Some(("passes", _)) => "pass",
            _ => continue,
        };
        let at = target.split(' ').next().unwrap_or_default().to_owned();
        *refused.entry((at, format!("role:{by}"), rule.to_owned())).or_default() += 1;
    }
    refused
}

/// By what the audit journal says.
async fn recorded(installation: &Installation) -> anyhow::Result<Refusals> {
    let export = installation.aside("export");
    if export.exists() {
        fs::remove_file(&export)?;
    }
    let to = export.to_str().context("a path")?;
    installation.operator(&["audit", "export", "--out", to]).await?.ok()?;
    let mut recorded = Refusals::new();
    for line in fs::read_to_string(&export)?.lines().filter(|line| line.starts_with("{\"v\"")) {
        let record: serde_json::Value = serde_json::from_str(line)?;
        let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
        if text("decision") == "refused" && ["call", "pass"].contains(&text("rule").as_str()) {
            *recorded.entry((text("role"), text("who"), text("rule"))).or_default() += record["count"].as_u64().context("a count")?;
        }
    }
    Ok(recorded)
}

/// What has the drill's name on it.
fn left(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().contains("breach") {
            found.push(entry.path());
        } else if entry.file_type()?.is_dir() {
            found.extend(left(&entry.path())?);
        }
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_without_its_sandbox_is_found_out() -> anyhow::Result<()> {
    let mut installation = Installation::prepare(env!("CARGO_BIN_EXE_coffer")).await?;
    installation.configure("sandbox = \"off\"\n")?;
    installation.up().await?;
    let ran = prove(&installation, &[]).await?;
    for more in [
        "gateway, programs: start",
        "vault, new listeners: listen",
        "vault, connections: warehouse",
        "identity, sockets that are not TCP: UDP",
        "warehouse, files of the machine: read /etc/passwd",
    ] {
        found_out(&ran, &format!("MORE than it may have: {more}"))?;
    }
    installation.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_open_to_other_roles_is_found_out_though_the_sandbox_keeps_it() -> anyhow::Result<()> {
    if !is_root() {
        eprintln!("NOT TESTED: only root can let each role be another user");
        return Ok(());
    }
    let installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let own = installation.data().join("roles/vault");
    fs::set_permissions(&own, fs::Permissions::from_mode(0o755))?;
    let ran = prove(&installation, &[]).await?;
    found_out(&ran, "MORE than it may have: gateway, directory of vault: list")?;
    ensure!(!ran.stderr.contains("less than"), "{}", ran.stderr);
    fs::set_permissions(&own, fs::Permissions::from_mode(0o700))?;
    installation.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_that_are_all_root_are_found_out() -> anyhow::Result<()> {
    if !is_root() {
        eprintln!("NOT TESTED: nobody but root can let roles be root");
        return Ok(());
    }
    let mut installation = Installation::prepare(env!("CARGO_BIN_EXE_coffer")).await?;
    installation.configure("[users]\nseparate = \"off\"\n")?;
    installation.up().await?;
    let ran = prove(&installation, &[]).await?;
    found_out(&ran, "MORE than it may have: identity, other users: be root")?;
    // What the drill started was as the role is all the same.
    ensure!(!ran.stderr.contains("the drill had not"), "{}", ran.stderr);
    installation.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_twin_that_lets_a_role_call_more_is_found_out() -> anyhow::Result<()> {
    let twin = PathBuf::from(env!("CARGO_BIN_EXE_coffer")).with_file_name("coffer-twin-calls");
    ensure!(
        twin.is_file(),
        "{} is built with the workspace: cargo build --workspace",
        twin.display()
    );
    let installation = Installation::start(twin.to_str().context("a path")?).await?;
    let ran = prove(&installation, &[]).await?;
    found_out(&ran, "MORE than it may have: gateway, call Vault/LeaseProductKey: answered")?;
    installation.finish().await
}

/// Started by anybody else than root: one user for all roles, and the other walls.
#[tokio::test(flavor = "multi_thread")]
async fn without_root_it_says_what_is_not_tried_and_proves_the_rest() -> anyhow::Result<()> {
    let installation = Installation::prepare(env!("CARGO_BIN_EXE_coffer")).await?;
    let place = installation.aside("of-another");
    fs::create_dir(&place)?;
    let binary = place.join("coffer");
    fs::copy(env!("CARGO_BIN_EXE_coffer"), &binary)?;
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755))?;
    let data = place.join("data");
    let user = if is_root() { Some(23_457) } else { None };
    if let Some(user) = user {
        std::os::unix::fs::chown(&place, Some(user), Some(user))?;
    }
    let run = |words: &[&str]| {
        let mut command = std::process::Command::new(&binary);
        command.args(words).arg("--data").arg(&data).env_clear().current_dir("/");
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        let ran = command.output()?;
        anyhow::Ok((ran.status.code(), String::from_utf8_lossy(&ran.stderr).into_owned()))
    };
    let (code, said) = run(&["demo", "--port", "0", "--exit"])?;
    ensure!(code == Some(0), "{said}");
    let (code, said) = run(&PROVE)?;
    ensure!(code == Some(0), "{said}");
    ensure!(
        said.contains("NOT TRIED: what the users keep apart") && said.contains("proven: "),
        "{said}"
    );
    installation.finish().await
}
