//! How long a zone takes for reads, as seen lately: from that follows when another zone is asked as well.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How many reads are remembered.
const KEPT: usize = 128;
/// From fewer nothing follows; and so often it is worked out anew.
const ENOUGH: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Latency {
    seen: Mutex<Seen>,
    p50: AtomicU64,
    p95: AtomicU64,
}

#[derive(Debug, Default)]
struct Seen {
    micros: Vec<u64>,
    next: usize,
}

impl Latency {
    /// A read took so long.
    pub(super) fn took(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let next = seen.next;
        if seen.micros.len() < KEPT {
            seen.micros.push(micros);
        } else if let Some(oldest) = seen.micros.get_mut(next % KEPT) {
            *oldest = micros;
        }
        seen.next = next.wrapping_add(1);
        if seen.next.is_multiple_of(ENOUGH) {
            let mut sorted = seen.micros.clone();
            sorted.sort_unstable();
            let at = |share: usize| sorted.get(sorted.len() * share / 100).copied().unwrap_or_default();
            self.p50.store(at(50), Ordering::Relaxed);
            self.p95.store(at(95), Ordering::Relaxed);
        }
    }

    /// What 95 of 100 reads did not exceed; `None` while too few were seen.
    pub(super) fn p95(&self) -> Option<Duration> {
        known(&self.p95)
    }

    /// How slow the zone is, in steps of four, so that zones that are about alike stay in their order. 0 is up to 4 ms, or unknown.
    pub(super) fn class(&self) -> u32 {
        let millis = known(&self.p50).unwrap_or_default().as_millis();
        (u128::BITS - millis.leading_zeros()).saturating_sub(1) / 2
    }
}

fn known(micros: &AtomicU64) -> Option<Duration> {
    match micros.load(Ordering::Relaxed) {
        0 => None,
        micros => Some(Duration::from_micros(micros)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_most_reads_took_is_known_once_there_were_enough_and_follows_the_zone() {
        let latency = Latency::default();
        for millis in 1..=15 {
            latency.took(Duration::from_millis(millis));
            assert_eq!((latency.p95(), latency.class()), (None, 0));
        }
        latency.took(Duration::from_millis(100));
        assert_eq!(latency.p95(), Some(Duration::from_millis(100)));
        assert_eq!(latency.class(), 1, "half of them took 9 ms");

        for _ in 0..KEPT {
            latency.took(Duration::from_micros(300));
        }
        assert_eq!((latency.p95(), latency.class()), (Some(Duration::from_micros(300)), 0));
    }
}
