//! Chance as a part that is handed in, so that a test can repeat it.

use std::fmt;
use std::sync::Mutex;

use rand::{RngCore, SeedableRng, TryRngCore, rngs::OsRng, rngs::StdRng};

/// Where random bytes come from.
pub trait Entropy: Send + Sync + fmt::Debug {
    /// Fills `into` with random bytes.
    fn fill(&self, into: &mut [u8]);

    /// A random 64-bit number.
    fn next_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

/// The operating system's random numbers: what keys are made of.
#[derive(Debug, Default, Clone, Copy)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    fn fill(&self, into: &mut [u8]) {
        // Without entropy no key, id or nonce can be made; going on would be worse than stopping.
        OsRng.try_fill_bytes(into).expect("the operating system gives random bytes");
    }
}

/// Repeatable bytes from a seed. For tests and generated sample data only, never for keys.
pub struct SeededEntropy(Mutex<StdRng>);

impl SeededEntropy {
    /// The same seed gives the same bytes.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }
}

impl fmt::Debug for SeededEntropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SeededEntropy")
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, into: &mut [u8]) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).fill_bytes(into);
    }
}
