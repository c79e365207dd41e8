//! `coffer zones drill`: the program stands it, and a twin that acknowledges too early is found out by it. Whatever becomes of the drill
//! itself, zones come back and nothing of it is left.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base::Role;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use testkit::{Installation, Ran, until};
use tokio::process::Child;

const PATIENCE: Duration = Duration::from_secs(120);
/// The drills' own product.
const PRODUCT: &str = "coffer-drill";

/// A drill with this more on its command line; its figures, when it got as far as that.
async fn drill(installation: &Installation, more: &[&str]) -> anyhow::Result<(Ran, Value)> {
    let words = [&["zones", "drill", "--for", "2s", "-o", "json"], more].concat();
    let ran = installation.operator(&words).await?;
    eprintln!("{more:?} ended with {:?}\n{}{}", ran.code, ran.stderr, ran.stdout);
    let figures: Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
    Ok((ran, figures[0].clone()))
}

fn figure(figures: &Value, name: &str) -> anyhow::Result<u64> {
    figures[name].as_u64().with_context(|| format!("no {name} in {figures}"))
}

/// No key lives, no database is there, and every zone is up.
async fn tidy(installation: &Installation) -> anyhow::Result<()> {
    let listed = installation
        .operator(&["keys", "list", "--product", PRODUCT, "-o", "json"])
        .await?
        .ok()?;
    let keys: Vec<Value> = serde_json::from_str(&listed)?;
    ensure!(!keys.is_empty(), "the drill had no key");
    ensure!(keys.iter().all(|key| !key["revoked_at"].is_null()), "a key lives on: {listed}");
    let key = installation.key(PRODUCT, "admin").await?;
    let databases = installation.client(&key)?.get("/v3/database/list").await?.ok()?.json()?;
    ensure!(databases["databases"] == Value::Array(Vec::new()), "left behind: {databases}");
    zones_are_up(installation).await
}

async fn zones_are_up(installation: &Installation) -> anyhow::Result<()> {
    let doctor = installation.doctor().await?;
    let zones = doctor.as_array().context("doctor says nothing")?;
    let mut zones = zones
        .iter()
        .filter(|line| line["about"].as_str().is_some_and(|about| about.contains(" zone ")));
    ensure!(zones.all(|line| line["state"] == "ok"), "not every zone is up: {doctor}");
    Ok(())
}

async fn holds(installation: &Installation, more: &[&str]) -> anyhow::Result<Value> {
    let (ran, figures) = drill(installation, more).await?;
    ensure!(ran.code == Some(0), "{more:?} ended with {:?}: {}", ran.code, ran.stderr);
    ensure!(figure(&figures, "acknowledged")? > 0, "nothing was acknowledged: {figures}");
    ensure!(
        figure(&figures, "stored")? >= figure(&figures, "acknowledged")?,
        "less is stored than was acknowledged: {figures}"
    );
    ensure!(
        (figure(&figures, "lost")?, figure(&figures, "duplicated")?) == (0, 0),
        "{more:?}: {figures}"
    );
    for pause in ["pause_p50_ms", "pause_p99_ms", "pause_max_ms", "recovered_ms"] {
        ensure!(figures[pause].is_f64(), "no {pause} in {figures}");
    }
    tidy(installation).await?;
    Ok(figures)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_or_doubled_whatever_a_drill_takes_away() -> anyhow::Result<()> {
    let installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    holds(&installation, &["--kill", "b"]).await?;
    holds(&installation, &["--kill", "b", "--how", "hang"]).await?;
    let two = holds(&installation, &["--kill", "b", "--kill", "c"]).await?;
    ensure!(figure(&two, "refused")? > 0, "with two zones away nothing was refused: {two}");
    holds(&installation, &["--kill", "c", "--kill", "warehouse"]).await?;
    holds(&installation, &["--kill", "a", "--role", "identity"]).await?;

    let log = installation.log();
    ensure!(log.contains("the operator takes zone b away for a drill"), "no line tells of it");

    for (wrong, code) in [(["--kill", "d"], 4), (["--kill", "kitchen"], 4)] {
        let (ran, _) = drill(&installation, &wrong).await?;
        ensure!(ran.code == Some(code), "{wrong:?} ended with {:?}", ran.code);
    }
    installation.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_twin_that_acknowledges_too_early_is_found_out() -> anyhow::Result<()> {
    let twin: PathBuf = PathBuf::from(env!("CARGO_BIN_EXE_coffer")).with_file_name("coffer-twin");
    ensure!(
        twin.is_file(),
        "{} is missing: build the whole workspace, `cargo build --workspace`",
        twin.display()
    );
    let twin = twin.to_str().context("a path that is no text")?;
    let mut installation = Installation::prepare(twin).await?;
    // It keeps what it has acknowledged in memory for so long.
    installation.configure("[warehouse.journal]\ncommit_after = \"5s\"\n")?;
    installation.up().await?;

    let found_out = |(ran, figures): &(Ran, Value)| -> anyhow::Result<bool> {
        if ran.code == Some(0) {
            return Ok(false);
        }
        ensure!(ran.code == Some(8), "it ended with {:?}: {}", ran.code, ran.stderr);
        ensure!(figure(figures, "lost")? > 0, "nothing is lost: {figures}");
        ensure!(ran.stderr.contains("lost"), "it does not say so: {}", ran.stderr);
        Ok(true)
    };
    // With two zones away nothing can be durable, so everything that it acknowledges is lost.
    let two = drill(&installation, &["--kill", "b", "--kill", "c"]).await?;
    ensure!(found_out(&two)?, "the twin passed: {}", two.1);
    tidy(&installation).await?;
    // With one away its rows are durable a moment later, and only those of that moment are lost. The kill follows an acknowledgement at
    // once; should a commit come just between the two, the next drill finds it out.
    let mut found = false;
    for _ in 0..3 {
        found = found || found_out(&drill(&installation, &["--kill", "b"]).await?)?;
    }
    ensure!(found, "the twin passed with one zone away");
    installation.finish().await
}

fn signal(child: &Child, signal: Signal) -> anyhow::Result<()> {
    let pid = i32::try_from(child.id().context("the drill has ended")?)?;
    Ok(kill(Pid::from_raw(pid), signal)?)
}

/// Waits until the drill has taken zone b away, or until it has ended without.
async fn zone_is_away(installation: &Installation, drill: &mut Child) -> anyhow::Result<()> {
    let pid = drill.id().context("the drill has ended")?;
    until("the zone is away", PATIENCE, || async {
        if !runs(pid) {
            return Ok(());
        }
        let doctor = installation.doctor().await?;
        let away = doctor.as_array().is_some_and(|lines| {
            lines
                .iter()
                .any(|line| line["about"] == "warehouse zone b" && line["state"] == "wrong")
        });
        ensure!(away, "not yet: {doctor}");
        Ok(())
    })
    .await?;
    ensure!(drill.try_wait()?.is_none(), "the drill has ended");
    Ok(())
}

/// Whether a process runs and is not only waited for.
fn runs(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_that_is_broken_off_leaves_nothing_and_one_that_dies_leaves_no_zone_away() -> anyhow::Result<()> {
    let installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let words = ["zones", "drill", "--kill", "b", "--for", "10m"];

    let mut asked = installation.spawn_operator(&words)?;
    zone_is_away(&installation, &mut asked).await?;
    let second = installation.operator(&["zones", "drill", "--kill", "c"]).await?;
    ensure!(
        second.code == Some(7) || second.code == Some(5),
        "a second drill ended with {:?}",
        second.code
    );
    signal(&asked, Signal::SIGINT)?;
    let ended = asked.wait_with_output().await?;
    ensure!(ended.status.code() == Some(1), "{ended:?}");
    until("the zone has caught up", PATIENCE, || zones_are_up(&installation)).await?;
    tidy(&installation).await?;

    let mut killed = installation.spawn_operator(&words)?;
    zone_is_away(&installation, &mut killed).await?;
    signal(&killed, Signal::SIGKILL)?;
    killed.wait().await?;
    until("the zone comes back by itself", PATIENCE, || zones_are_up(&installation)).await?;
    // What it left is gone after the next one.
    until("another drill can begin", PATIENCE, || async {
        let next = installation.operator(&["zones", "drill", "--kill", "b", "--for", "1s"]).await?;
        ensure!(next.code == Some(0), "{:?}: {}", next.code, next.stderr);
        Ok(())
    })
    .await?;
    tidy(&installation).await?;
    ensure!(installation.pids().contains_key(&Role::Warehouse), "the warehouse does not run");
    installation.finish().await
}
