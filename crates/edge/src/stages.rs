//! What a role spends on each stage of its work, as two counters: nanoseconds and rows.
//!
//! Start at [`Stages::took`]. Knows nothing of what a stage does; a stage that waits (for another role, for a disk) counts its wait.

use std::fmt;
use std::time::{Duration, Instant};

use crate::{Counters, Metrics};

/// Counts nanoseconds and rows by stage. Clones count together.
#[derive(Clone, Default)]
pub struct Stages {
    nanoseconds: Counters,
    rows: Counters,
}

impl Stages {
    /// Those of one role.
    pub fn of(metrics: &Metrics) -> Self {
        Self {
            nanoseconds: metrics.counters("stage_nanoseconds", "time by stage of the work, waiting included"),
            rows: metrics.counters("stage_rows", "rows that went through each stage of the work"),
        }
    }

    /// Counts a stage that took so long for so many rows.
    pub fn took(&self, stage: &'static str, time: Duration, rows: u64) {
        let label = vec![("stage", stage.to_owned())];
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.get_or_create(&label).inc_by(nanoseconds);
        self.rows.get_or_create(&label).inc_by(rows);
    }
}

impl fmt::Debug for Stages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stages")
    }
}

/// A watch for stages that follow one another: each ends where the next begins.
#[derive(Debug)]
pub struct Lap(Instant);

impl Lap {
    /// The first stage begins now.
    pub fn begin() -> Self {
        Self(Instant::now())
    }

    /// How long the stage took that ends now.
    pub fn end(&mut self) -> Duration {
        let now = Instant::now();
        let took = now - self.0;
        self.0 = now;
        took
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_and_rows_add_up_by_stage() {
        let metrics = Metrics::default();
        let stages = Stages::of(&metrics);
        stages.took("inflate", Duration::from_nanos(40), 2);
        Stages::of(&metrics).took("inflate", Duration::from_nanos(2), 1);
        stages.took("decode", Duration::from_nanos(7), 3);

        let text = metrics.encode();

        for line in [
            "coffer_stage_nanoseconds_total{stage=\"inflate\"} 42",
            "coffer_stage_rows_total{stage=\"inflate\"} 3",
            "coffer_stage_nanoseconds_total{stage=\"decode\"} 7",
        ] {
            assert_eq!(text.matches(line).count(), 1, "{line} in {text}");
        }
    }
}
