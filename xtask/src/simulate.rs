//! Runs simulations by number: journal and zones in simulated time, over zones that fail in every way.
//!
//! Start at [`run`]. Does not know what is simulated: that is in the crate `simulate`.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, ensure};

use crate::bench::target;
use crate::repo::{Repo, cargo};

/// What is to be simulated.
#[derive(clap::Args)]
pub(crate) struct Simulate {
    /// How many seeds
    #[arg(long, value_name = "N", default_value_t = 300)]
    seeds: u64,
    /// The first of them
    #[arg(long, value_name = "S", default_value_t = 0)]
    from: u64,
    /// This one alone, as often as you like: it is the same each time
    #[arg(long, value_name = "S", conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Say all that happens in it
    #[arg(long, requires = "seed")]
    trace: bool,
    /// With this fault in the code, which has to be found
    #[arg(long, value_name = "FAULT")]
    plant: Option<String>,
}

/// Builds the program and runs it. Fails when a promise was broken.
pub(crate) fn run(repo: &Repo, asked: &Simulate) -> anyhow::Result<ExitCode> {
    // With its tests, or cargo would compile what they and it depend on once more, with other features.
    let built = cargo(repo)
        .args([
            "build",
            "--quiet",
            "--locked",
            "--workspace",
            "--bin",
            "coffer-simulate",
            "--test",
            "seeds",
        ])
        .status();
    ensure!(built.context("could not run cargo")?.success(), "the simulation could not be built");
    let program = target(repo)?.join("debug/coffer-simulate");
    let ended = Command::new(&program).args(arguments(asked)).status();
    let ended = ended.with_context(|| format!("could not run {}", program.display()))?;
    Ok(if ended.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the program is told.
fn arguments(asked: &Simulate) -> Vec<String> {
    let (from, seeds) = asked.seed.map_or((asked.from, asked.seeds), |seed| (seed, 1));
    let mut words = vec!["--from".into(), from.to_string(), "--seeds".into(), seeds.to_string()];
    if asked.trace {
        words.push("--trace".into());
    }
    if let Some(fault) = &asked.plant {
        words.extend(["--plant".into(), fault.clone()]);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_is_run_alone_and_many_from_the_first_on() {
        let asked = |seed: Option<u64>, trace: bool| Simulate {
            seeds: 300,
            from: 7,
            seed,
            trace,
            plant: None,
        };
        assert_eq!(arguments(&asked(None, false)), ["--from", "7", "--seeds", "300"]);
        assert_eq!(arguments(&asked(Some(11), true)), ["--from", "11", "--seeds", "1", "--trace"]);
    }
}
