//! Some hundred seeds, and faults that they have to find.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use simulate::{Outcome, Plant, run};

/// How many seeds are run here; the night runs more.
const SEEDS: u64 = 300;

/// Runs seeds on two threads until there are no more or `enough` says so.
fn each(plant: Option<Plant>, enough: impl Fn(&Outcome) -> bool + Sync) -> Vec<Outcome> {
    let (next, all) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= SEEDS {
                        return;
                    }
                    let outcome = run(seed, plant, false).expect("a simulation begins");
                    if enough(&outcome) {
                        next.store(SEEDS, Ordering::Relaxed);
                    }
                    all.lock().expect("nobody panics with it").push(outcome);
                }
            });
        }
    });
    all.into_inner().expect("nobody panics with it")
}

#[test]
fn the_same_seed_is_the_same_simulation() {
    for seed in 0..12 {
        let (first, second) = (run(seed, None, true).unwrap(), run(seed, None, true).unwrap());
        if let Some((line, (one, other))) = first.lines.iter().zip(&second.lines).enumerate().find(|(_, (a, b))| a != b) {
            panic!("seed {seed} goes two ways at step {line}:\n{one}\n{other}");
        }
        assert_eq!(first, second);
    }
}

#[test]
fn no_seed_breaks_a_promise() {
    let outcomes = each(None, |_| false);
    let broken: Vec<String> = outcomes
        .iter()
        .filter_map(|outcome| Some(format!("seed {}: {}", outcome.seed, outcome.broken.first()?)))
        .collect();
    assert!(broken.is_empty(), "{} seeds: {broken:#?}", broken.len());
    // Without these the test would prove nothing.
    let sum = |count: fn(&Outcome) -> usize| outcomes.iter().map(count).sum::<usize>();
    let [accepted, refused] = [sum(|outcome| outcome.entries[0]), sum(|outcome| outcome.entries[1])];
    let [deleted, batches] = [sum(|outcome| outcome.files[3]), sum(|outcome| outcome.product[0])];
    assert!(
        accepted > 4_000 && refused > 1_000 && deleted > 500 && batches > 2_000,
        "{accepted} entries accepted, {refused} refused; {deleted} files deleted; {batches} batches stored"
    );
}

#[test]
fn planted_faults_are_found() {
    for plant in Plant::ALL {
        let outcomes = each(Some(*plant), |outcome| !outcome.broken.is_empty());
        let found = outcomes
            .iter()
            .filter(|outcome| !outcome.broken.is_empty())
            .map(|outcome| outcome.seed)
            .min();
        assert!(found.is_some(), "{plant} is not found in {SEEDS} seeds");
    }
}
