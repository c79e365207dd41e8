//! `coffer-simulate`: runs simulations by number, as `cargo xtask simulate` asks for.
//!
//! Arguments: `--from S` and `--seeds N`, `--plant FAULT`, `--trace`. Ends with 1 when a promise was broken.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, bail};
use simulate::{Outcome, Plant, run};

/// How many broken seeds are told of.
const TOLD: usize = 20;

struct Asked {
    from: u64,
    seeds: u64,
    plant: Option<Plant>,
    trace: bool,
}

fn asked() -> anyhow::Result<Asked> {
    let mut asked = Asked {
        from: 0,
        seeds: 1,
        plant: None,
        trace: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--trace" {
            asked.trace = true;
            continue;
        }
        let value = words.next().with_context(|| format!("{word} needs a value"))?;
        match &*word {
            "--from" => asked.from = value.parse().context("--from takes a number")?,
            "--seeds" => asked.seeds = value.parse().context("--seeds takes a number")?,
            "--plant" => asked.plant = Some(value.parse()?),
            _ => bail!("{word} is not known; there are --from, --seeds, --plant and --trace"),
        }
    }
    Ok(asked)
}

fn main() -> anyhow::Result<ExitCode> {
    let asked = asked()?;
    let begun = Instant::now();
    let (next, broken) = (AtomicU64::new(asked.from), Mutex::new(Vec::new()));
    let totals: Mutex<[u64; 4]> = Mutex::default();
    let end = asked.from.saturating_add(asked.seeds);
    let worker = || -> anyhow::Result<()> {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return Ok(());
            }
            let outcome = run(seed, asked.plant, asked.trace)?;
            add(&totals, &outcome);
            if asked.seeds == 1 {
                tell(&outcome)?;
            }
            if !outcome.broken.is_empty() {
                broken
                    .lock()
                    .map_err(|_| anyhow::anyhow!("another thread broke off"))?
                    .push(outcome);
            }
        }
    };
    let threads = thread::available_parallelism()
        .map_or(1, |count| count.get() as u64)
        .min(asked.seeds.max(1));
    let ended: Vec<anyhow::Result<()>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let join =
            |worker: thread::ScopedJoinHandle<'_, anyhow::Result<()>>| worker.join().unwrap_or_else(|_| bail!("a simulation broke off"));
        workers.into_iter().map(join).collect()
    });
    ended.into_iter().collect::<anyhow::Result<()>>()?;

    let mut broken = broken.into_inner().unwrap_or_default();
    broken.sort_by_key(|outcome| outcome.seed);
    let mut out = io::stdout().lock();
    for outcome in broken.iter().take(TOLD).filter(|_| asked.seeds > 1) {
        writeln!(
            out,
            "BROKEN seed {}: {}",
            outcome.seed,
            outcome.broken.first().map_or("", String::as_str)
        )?;
        writeln!(out, "       see it again: cargo xtask simulate --seed {}", outcome.seed)?;
    }
    let [steps, accepted, refused, undecided] = totals.into_inner().unwrap_or_default();
    writeln!(
        out,
        "{} seeds from {}, {} broken; {steps} steps; entries: {accepted} accepted, {refused} refused, {undecided} undecided; {:.1} s",
        asked.seeds,
        asked.from,
        broken.len(),
        begun.elapsed().as_secs_f32(),
    )?;
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn add(totals: &Mutex<[u64; 4]>, outcome: &Outcome) {
    let Ok(mut totals) = totals.lock() else { return };
    totals[0] += outcome.steps;
    for (total, count) in totals[1..].iter_mut().zip(outcome.entries) {
        *total += count as u64;
    }
}

fn tell(outcome: &Outcome) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in &outcome.lines {
        writeln!(out, "{line}")?;
    }
    for what in &outcome.broken {
        writeln!(out, "BROKEN {what}")?;
    }
    let Outcome {
        seed,
        digest,
        steps,
        entries,
        files,
        starts,
        product,
        ..
    } = outcome;
    writeln!(
        out,
        "seed {seed}: {digest}, {steps} steps, entries {entries:?}, files {files:?}, starts {starts:?}, product {product:?}"
    )
}
