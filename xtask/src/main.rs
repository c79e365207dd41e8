//! The house's own tools: `cargo xtask check` says whether the tree is in order, `cargo xtask bench` how fast it is, `cargo xtask fuzz`
//! looks for bytes that break a parser, and `cargo xtask simulate` for weather that breaks a promise. `cargo xtask fixture` makes the
//! old installation that later versions have to open.
//!
//! Promise: what `./test` and a reviewer hold against a change, a developer can ask for with one command.
//!
//! Start at [`checks::ALL`], [`bench::run`], [`fuzz::run`] and [`simulate::run`]. Knows cargo, git and the files of this repository. Imports no crate of the product.

mod bench;
mod checks;
mod fixture;
mod fuzz;
mod repo;
mod simulate;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use crate::checks::Outcome;
use crate::repo::Repo;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tools for those who work on Coffer")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Says whether the tree is in order: crate lines, formatting, lints, licences, advisories, words
    Check {
        /// Only these checks (default: all)
        #[arg(value_name = "CHECK")]
        only: Vec<String>,
        /// Leave these out
        #[arg(long, value_name = "CHECK")]
        skip: Vec<String>,
        /// Fetch the advisory database into ~/.cargo first (needs a network and git)
        #[arg(long)]
        fetch_advisories: bool,
    },
    /// Measures Coffer beside DuckDB and ClickHouse (chdb) over the same rows, and writes docs/benchmarks.md
    Bench(bench::Bench),
    /// Throws bytes at every parser of what comes from outside (needs cargo-fuzz)
    Fuzz(fuzz::Fuzz),
    /// Makes the old installation anew that later versions have to open (only while formats are not frozen)
    Fixture,
    /// Simulates the journal and its zones, by number, over zones that fail in every way
    Simulate(simulate::Simulate),
}

fn main() -> anyhow::Result<ExitCode> {
    let repo = Repo::find()?;
    match Cli::parse().command {
        Command::Check {
            only,
            skip,
            fetch_advisories,
        } => {
            if fetch_advisories {
                checks::advisories::fetch()?;
            }
            check(&repo, &only, &skip)
        }
        Command::Bench(asked) => bench::run(&repo, &asked),
        Command::Fuzz(asked) => fuzz::run(&repo, &asked),
        Command::Fixture => fixture::run(&repo),
        Command::Simulate(asked) => simulate::run(&repo, &asked),
    }
}

fn check(repo: &Repo, only: &[String], skip: &[String]) -> anyhow::Result<ExitCode> {
    for name in only.iter().chain(skip) {
        let known: Vec<&str> = checks::ALL.iter().map(|(name, _)| *name).collect();
        anyhow::ensure!(
            known.contains(&name.as_str()),
            "no check is called {name:?}; there are {}",
            known.join(", ")
        );
    }
    let mut out = io::stdout().lock();
    let mut in_order = true;
    for (name, check) in checks::ALL {
        if skip.iter().any(|s| s == name) || !(only.is_empty() || only.iter().any(|o| o == name)) {
            continue;
        }
        let started = Instant::now();
        let outcome: Outcome = check(repo).with_context(|| format!("check {name} could not be made"))?;
        let mark = if outcome.problems.is_empty() { "ok  " } else { "FAIL" };
        writeln!(
            out,
            "{mark} {name:<11} {:>5.1} s  {}",
            started.elapsed().as_secs_f32(),
            outcome.note
        )?;
        for problem in &outcome.problems {
            writeln!(out, "       {problem}")?;
        }
        in_order &= outcome.problems.is_empty();
    }
    Ok(if in_order { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
