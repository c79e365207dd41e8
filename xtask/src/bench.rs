//! `cargo xtask bench`: Coffer and its peers over the same rows on the same machine, measured in turns.
//!
//! Promise: one command, from a clone to `docs/benchmarks.md`, that asks nothing. A wrong answer makes it fail.
//!
//! Start at [`run`]. It builds, makes the data ([`data`], [`write`]) and a Python environment with the peers under `target/bench`;
//! what is measured, and how, is in `benches/`. Imports no crate of the product: the bench speaks to a gateway like anybody else.

mod data;
mod write;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, ensure};
use cargo_metadata::MetadataCommand;
use clap::{Args, ValueEnum};

use crate::repo::{Repo, cargo};

/// What is measured.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum What {
    /// Rows in: a second, CPU by process, time by stage, bytes at rest, memory
    Ingest,
    /// Questions: the same SQL here and there, answers compared
    Query,
    /// Tables made anew from the raw logs: rows a second, CPU, memory; the same afterwards
    Rebuild,
    /// All of these
    All,
}

#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[arg(value_enum)]
    what: What,
    /// How many rows there are
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    rows: u64,
    /// Other rows for another seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How often each query is asked, after a first time that is shown apart
    #[arg(long, value_name = "N", default_value_t = 5)]
    repeats: u32,
    /// How often each way in is measured
    #[arg(long, value_name = "N", default_value_t = 3)]
    ingest_repeats: u32,
    /// Take the debug build that ./test made, which says nothing about speed: to try the bench itself
    #[arg(long)]
    debug: bool,
    /// Coffer alone: nothing is installed, and answers are compared with nothing
    #[arg(long)]
    no_peers: bool,
    /// Where the report goes [default: docs/benchmarks.md; with --debug or --no-peers only to target/bench/report.md]
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Builds, prepares and measures.
pub(crate) fn run(repo: &Repo, bench: &Bench) -> anyhow::Result<ExitCode> {
    ensure!(bench.rows >= 1_000, "with fewer than 1,000 rows there is nothing to see");
    ensure!(
        bench.repeats > 0 && bench.ingest_repeats > 0,
        "nothing is measured without a repeat"
    );
    let target = target(repo)?;
    measure(repo, bench, &target, &target.join("bench"))
}

/// Where cargo builds.
pub(crate) fn target(repo: &Repo) -> anyhow::Result<PathBuf> {
    let metadata = MetadataCommand::new()
        .manifest_path(repo.root.join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("could not ask cargo for its target directory")?;
    Ok(metadata.target_directory.into_std_path_buf())
}

/// Measures with everything that is written under `place`, the report for others excepted.
fn measure(repo: &Repo, bench: &Bench, target: &Path, place: &Path) -> anyhow::Result<ExitCode> {
    fs::create_dir_all(place)?;
    let binary = build(repo, target, bench.debug)?;
    let python = if bench.no_peers {
        PathBuf::from("python3")
    } else {
        environment(place, &repo.root.join("benches/requirements.txt"))?
    };
    let data = write::prepare(place, bench.rows, bench.seed)?;
    let report = match &bench.report {
        Some(named) => named.clone(),
        None if bench.debug || bench.no_peers => place.join("report.md"),
        None => repo.root.join("docs/benchmarks.md"),
    };
    let what = match bench.what {
        What::Ingest => "ingest",
        What::Query => "query",
        What::Rebuild => "rebuild",
        What::All => "all",
    };
    let mut command = Command::new(python);
    command.arg("-B").arg(repo.root.join("benches/bench.py")).arg(what);
    command
        .arg("--binary")
        .arg(binary)
        .arg("--data")
        .arg(&data)
        .arg("--place")
        .arg(place.join("run"));
    command.arg("--report").arg(report);
    for (name, value) in [
        ("--rows", bench.rows),
        ("--seed", bench.seed),
        ("--repeats", u64::from(bench.repeats)),
        ("--ingest-repeats", u64::from(bench.ingest_repeats)),
    ] {
        command.arg(name).arg(value.to_string());
    }
    command.args(bench.no_peers.then_some("--no-peers"));
    command.args(bench.debug.then_some("--debug"));
    let done = command.status().context("could not run Python")?;
    Ok(if done.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The program to measure.
fn build(repo: &Repo, target: &Path, debug: bool) -> anyhow::Result<PathBuf> {
    if debug {
        // Not built here: without the tests beside it, its dependencies would have other features and be compiled once more.
        let built = target.join("debug/coffer");
        ensure!(built.exists(), "there is no debug build of coffer; ./test makes one");
        return Ok(built);
    }
    say("building coffer in release mode; from nothing it takes some 20 minutes");
    let mut cargo = cargo(repo);
    cargo
        .args(["build", "--release", "--locked", "--workspace", "--bin", "coffer"])
        // Clippy as the compiler would make it all anew.
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("CLIPPY_ARGS");
    ensure!(
        cargo.status().context("could not run cargo")?.success(),
        "coffer could not be built"
    );
    Ok(target.join("release/coffer"))
}

/// A Python environment with the peers; its interpreter.
fn environment(place: &Path, requirements: &Path) -> anyhow::Result<PathBuf> {
    let (folder, wanted) = (place.join("venv"), fs::read_to_string(requirements)?);
    let (python, mark) = (folder.join("bin/python"), folder.join("made-of"));
    if fs::read_to_string(&mark).is_ok_and(|made_of| made_of == wanted) {
        return Ok(python);
    }
    say("fetching the peers into a Python environment, once");
    let made = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder).status();
    ensure!(
        made.context("could not run python3")?.success(),
        "python3 could not make an environment (python3-venv?)"
    );
    let installed = Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
        .arg(requirements)
        .status()?;
    ensure!(
        installed.success(),
        "the peers could not be fetched; --no-peers measures Coffer alone"
    );
    fs::write(mark, wanted)?;
    Ok(python)
}

/// A line for whoever waits.
fn say(line: &str) {
    // Whoever closed standard error does not want to hear it.
    let _ = writeln!(io::stderr(), "bench: {line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bench_runs_and_coffer_answers_every_question() {
        let repo = Repo::find().expect("a repository");
        let target = target(&repo).expect("a target directory");
        if !target.join("debug/coffer").exists() {
            let _ = writeln!(io::stderr(), "not tested: ./test builds coffer first");
            return;
        }
        let place = tempfile::tempdir().expect("a folder");
        let small = Bench {
            what: What::Query,
            rows: 2_000,
            seed: 1,
            repeats: 1,
            ingest_repeats: 1,
            debug: true,
            no_peers: true,
            report: None,
        };
        let done = measure(&repo, &small, &target, place.path()).expect("it runs");
        assert_eq!(done, ExitCode::SUCCESS, "is target/debug/coffer of this tree? ./test builds it");
        let report = fs::read_to_string(place.path().join("report.md")).expect("a report");
        assert!(report.contains("questions 0 were not answered by Coffer"), "{report}");
    }

    #[test]
    fn the_bench_finds_planted_wrong_answers_and_reckons_rightly() {
        let repo = Repo::find().expect("a repository");
        let tests = Command::new("python3")
            .current_dir(&repo.root)
            .args(["-B", "-m", "unittest", "discover", "--start-directory", "benches"])
            .output()
            .expect("python3 runs");
        assert!(tests.status.success(), "{}", String::from_utf8_lossy(&tests.stderr));
    }
}
