//! Chance of a seed: everything in a simulation that could be otherwise is drawn here.

use std::time::Duration;

use base::{Entropy, SeededEntropy};

/// One stream of chance. Streams of one seed do not disturb each other: a draw more in one changes nothing in another.
#[derive(Debug)]
pub(crate) struct Chance(SeededEntropy);

impl Chance {
    /// The stream of this name of a seed.
    pub(crate) fn new(seed: u64, stream: &str) -> Self {
        let hash = blake3::hash(format!("coffer simulation {seed} {stream}").as_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&hash.as_bytes()[..8]);
        Self(SeededEntropy::new(u64::from_le_bytes(first)))
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&self, end: u64) -> u64 {
        self.0.next_u64() % end
    }

    /// True once in so many times.
    pub(crate) fn one_in(&self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// A time between two.
    pub(crate) fn millis(&self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from + 1))
    }

    /// One of several.
    pub(crate) fn pick<'a, T>(&self, of: &'a [T]) -> Option<&'a T> {
        if of.is_empty() {
            None
        } else {
            of.get(self.below(of.len() as u64) as usize)
        }
    }
}

impl Entropy for Chance {
    fn fill(&self, into: &mut [u8]) {
        self.0.fill(into);
    }
}
