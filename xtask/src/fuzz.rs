//! Throws bytes at every parser of what comes from outside, with cargo-fuzz.
//!
//! Promise: it ends with what was found, in a file that can be kept; what was learnt on the way goes to `target`, and into the tree only
//! when that is asked for, and then little of it.
//!
//! Start at [`run`]. Does not know what a target holds: that is in the crate `fuzz`.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use crate::repo::Repo;

/// The longest input that is tried. Everything here has its depth within.
const MOST_BYTES: usize = 4096;
/// What one target may keep: files, and bytes.
const MOST_KEPT: usize = 200;
const MOST_KEPT_BYTES: u64 = 100 << 10;
/// What one input may take, in seconds and megabytes.
const MOST_SECONDS: usize = 10;
const MOST_MEGABYTES: usize = 2048;

/// What is to be tried, and for how long.
#[derive(clap::Args)]
pub(crate) struct Fuzz {
    /// How long to try each target
    #[arg(long, value_name = "N", default_value_t = 1)]
    minutes: u64,
    /// Then keep of what was learnt what is worth it, in fuzz/corpus
    #[arg(long)]
    keep: bool,
    /// Only these targets (default: all)
    #[arg(value_name = "TARGET")]
    only: Vec<String>,
}

/// Tries the targets one after the other. Fails when one of them found something, after all had their time.
pub(crate) fn run(repo: &Repo, asked: &Fuzz) -> anyhow::Result<ExitCode> {
    let targets = targets(repo)?;
    for name in &asked.only {
        ensure!(
            targets.contains(name),
            "no target is called {name:?}; there are {}",
            targets.join(", ")
        );
    }
    let installed = Command::new("cargo").args(["fuzz", "--version"]).output();
    if !installed.is_ok_and(|run| run.status.success()) {
        bail!("cargo-fuzz is missing; install it with `cargo install --locked cargo-fuzz`");
    }
    let time = Duration::from_secs(asked.minutes * 60);
    let mut found = Vec::new();
    for target in targets.iter().filter(|name| asked.only.is_empty() || asked.only.contains(name)) {
        writeln!(io::stderr(), "== {target}, for {} s", time.as_secs())?;
        found.extend(try_one(repo, target, time)?.into_iter().map(|file| (target, file)));
        if asked.keep {
            keep(repo, target)?;
        }
    }
    let mut out = io::stdout().lock();
    for (target, file) in &found {
        let file = file.strip_prefix(&repo.root).unwrap_or(file).display();
        writeln!(
            out,
            "FOUND {target}: {file}\n      keep it: cp {file} fuzz/corpus/{target}/\n      \
             see it:  cargo nextest run --workspace --test corpus {target}   (or `./test corpus`)"
        )?;
    }
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The programs in `fuzz/fuzz_targets`, in the order of their names.
fn targets(repo: &Repo) -> anyhow::Result<Vec<String>> {
    let directory = repo.root.join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&directory).with_context(|| format!("could not read {}", directory.display()))? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

/// Runs one target; the files of what it found.
fn try_one(repo: &Repo, target: &str, time: Duration) -> anyhow::Result<Vec<PathBuf>> {
    let ours = repo.root.join("target/fuzz");
    let (learnt, findings) = (ours.join("corpus").join(target), ours.join("found").join(target));
    fs::create_dir_all(&learnt)?;
    fs::create_dir_all(&findings)?;
    let before = files_in(&findings)?;
    let ended = command(repo, target, time, &learnt, &findings)
        .status()
        .context("could not run cargo fuzz")?;
    let found: Vec<PathBuf> = files_in(&findings)?.into_iter().filter(|file| !before.contains(file)).collect();
    ensure!(
        ended.success() || !found.is_empty(),
        "{target} was not tried to the end: see above; nothing was found"
    );
    Ok(found)
}

/// Copies inputs that together reach all that is reached into the kept corpus, the smallest first, as far as there is room.
fn keep(repo: &Repo, target: &str) -> anyhow::Result<()> {
    let ours = repo.root.join("target/fuzz");
    let (learnt, chosen) = (ours.join("corpus").join(target), ours.join("chosen").join(target));
    if chosen.exists() {
        fs::remove_dir_all(&chosen)?;
    }
    fs::create_dir_all(&chosen)?;
    let mut command = fuzzer(repo, target, &[&chosen, &learnt]);
    let merged = command
        .args(["-set_cover_merge=1".to_owned(), format!("-max_len={MOST_BYTES}")])
        .status()?;
    ensure!(merged.success(), "what was learnt of {target} could not be looked through");
    let kept = repo.root.join("fuzz/corpus").join(target);
    let size = |file: &PathBuf| file.metadata().map_or(u64::MAX, |metadata| metadata.len());
    let before = files_in(&kept)?;
    let (mut files, mut bytes) = (before.len(), before.iter().map(size).sum::<u64>());
    let mut candidates = files_in(&chosen)?;
    candidates.sort_by_key(|file| (size(file), file.clone()));
    for file in candidates {
        bytes += size(&file);
        files += 1;
        if files > MOST_KEPT || bytes > MOST_KEPT_BYTES {
            break;
        }
        if let Some(name) = file.file_name() {
            fs::copy(&file, kept.join(name))?;
        }
    }
    Ok(())
}

fn command(repo: &Repo, target: &str, time: Duration, learnt: &Path, findings: &Path) -> Command {
    // What is learnt goes to the first corpus; the kept one is read only.
    let mut command = fuzzer(repo, target, &[learnt, &repo.root.join("fuzz/corpus").join(target)]);
    command.args([
        format!("-max_total_time={}", time.as_secs()),
        format!("-max_len={MOST_BYTES}"),
        format!("-timeout={MOST_SECONDS}"),
        format!("-rss_limit_mb={MOST_MEGABYTES}"),
        format!("-artifact_prefix={}/", findings.display()),
        "-print_final_stats=1".to_owned(),
    ]);
    command
}

/// The program of a target over these corpora; its options follow.
fn fuzzer(repo: &Repo, target: &str, corpora: &[&Path]) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(repo.root.join("fuzz"));
    command.args(["fuzz", "run", "--fuzz-dir"]).arg(repo.root.join("fuzz"));
    command.arg("--target-dir").arg(repo.root.join("target/fuzz/build"));
    let features = match target {
        "csv" | "json" | "msgpack" => "libfuzzer".to_owned(),
        other => format!("libfuzzer,{other}"),
    };
    // The profile of `./test`, with its checks of overflow; our own code a little quicker.
    command.args(["--dev", "--no-default-features", "--features", &features]);
    command
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "1")
        .env("CARGO_PROFILE_DEV_INCREMENTAL", "false");
    command.arg(target).args(corpora).arg("--");
    // The instruments are an unstable option of the compiler. Lints are for the build that is shipped.
    command.env("RUSTC_BOOTSTRAP", "1").env_remove("RUSTC_WORKSPACE_WRAPPER");
    command
}

fn files_in(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory)?;
    Ok(entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_is_tried_beside_what_is_kept_and_the_tree_stays_as_it_is() {
        let repo = Repo::find().unwrap();
        for target in targets(&repo).unwrap() {
            let (learnt, findings) = (Path::new("learnt"), Path::new("found"));
            let command = command(&repo, &target, Duration::from_secs(120), learnt, findings);
            let words: Vec<String> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
            let at = words.iter().position(|word| *word == target).unwrap();
            let kept = repo.root.join("fuzz/corpus").join(&target);
            assert!(kept.is_dir(), "nothing is kept for {target}");
            assert_eq!(
                words[at + 1..at + 3],
                ["learnt".to_owned(), kept.display().to_string()],
                "new inputs go to the first"
            );
            assert!(words.contains(&"-max_total_time=120".to_owned()) && words.contains(&"-artifact_prefix=found/".to_owned()));
        }
    }
}
