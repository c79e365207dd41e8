//! How fast the background may be, so that it leaves the disks and lines to those who wait for an answer.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base::time::{Instant, sleep_until};

/// What may be done at once before anybody has to wait.
const AHEAD: Duration = Duration::from_millis(250);

/// So many bytes per second. What was done is paid for afterwards, because nobody knows an object's length before it is read.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: u64,
    paid_at: Mutex<Option<Instant>>,
}

impl Pace {
    /// Zero stands for no bound.
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second,
            paid_at: Mutex::default(),
        }
    }

    /// Waits until what was done before is paid for.
    pub(super) async fn wait(&self) {
        let paid_at = *self.paid_at.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(begin) = paid_at.and_then(|at| at.checked_sub(AHEAD)) {
            sleep_until(begin).await;
        }
    }

    /// So many bytes were read or written.
    pub(super) fn spend(&self, bytes: usize) {
        if self.bytes_per_second == 0 {
            return;
        }
        let costs = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let (mut paid_at, now) = (self.paid_at.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
        *paid_at = Some(paid_at.unwrap_or(now).max(now) + costs);
    }
}
