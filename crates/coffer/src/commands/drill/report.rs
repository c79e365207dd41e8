//! What a drill says at its end.

use std::time::Duration;

use base::Role;
use serde_json::{Value, json};

use super::count::Tally;
use super::load::Measured;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{self, Format};

/// Everything that was found.
pub(super) struct Report {
    pub(super) killed: String,
    pub(super) role: Role,
    pub(super) length: Duration,
    pub(super) recovered: Duration,
    pub(super) measured: Measured,
    pub(super) tally: Tally,
}

impl Report {
    /// On standard output: for people a figure a line, for programs one row.
    pub(super) fn print(&self, format: Format) -> Outcome {
        let figures = self.figures();
        let mut rows = if format == Format::Table {
            output::to_stdout(format, true, &["figure", "value"])
        } else {
            output::to_stdout(format, true, &figures.iter().map(|(name, _)| *name).collect::<Vec<_>>())
        };
        if format == Format::Table {
            for (name, value) in figures {
                rows.row(vec![json!(name.replace('_', " ")), value])?;
            }
        } else {
            rows.row(figures.into_iter().map(|(_, value)| value).collect())?;
        }
        rows.finish().map(drop)
    }

    fn figures(&self) -> Vec<(&'static str, Value)> {
        let mut pauses = self.measured.pauses.clone();
        pauses.sort_unstable();
        let pause = |part: f64| percentile(&pauses, part).map_or(Value::Null, |pause| json!(millis(pause)));
        let tally = &self.tally;
        vec![
            ("killed", json!(self.killed)),
            ("role", json!(self.role.as_str())),
            ("seconds", json!(self.length.as_secs_f64())),
            ("acknowledged", json!(tally.acknowledged)),
            ("stored", json!(tally.stored)),
            ("lost", json!(tally.lost)),
            ("duplicated", json!(tally.duplicated)),
            ("unanswered", json!(tally.unanswered)),
            ("people", json!(tally.people)),
            ("people_found", json!(tally.people_found)),
            ("refused", json!(self.measured.refused)),
            ("retried", json!(self.measured.retried)),
            ("pause_p50_ms", pause(0.5)),
            ("pause_p99_ms", pause(0.99)),
            ("pause_max_ms", pause(1.0)),
            ("recovered_ms", json!(millis(self.recovered))),
        ]
    }

    /// A failure, unless everything that was acknowledged is there, once.
    pub(super) fn verdict(&self) -> Outcome {
        let tally = &self.tally;
        if tally.holds() {
            return Ok(());
        }
        let what = format!(
            "of {} acknowledged rows {} are lost, and {} are there that should not be",
            tally.acknowledged, tally.lost, tally.duplicated
        );
        Err(Failure::new(Exit::Unverified, what)
            .why(tally.wrong.join("\n"))
            .next("this is a fault of the program or of what its zones lie on: keep the logs of the roles, and do not rely on it"))
    }
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

/// The smallest of these that so large a part of them does not exceed. They are sorted.
fn percentile(sorted: &[Duration], part: f64) -> Option<Duration> {
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let hundred: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        let check = |part, expected| assert_eq!(percentile(&hundred, part), Some(Duration::from_millis(expected)), "{part}");
        check(0.5, 50);
        check(0.99, 99);
        check(1.0, 100);
        check(0.0, 1);
        assert_eq!(percentile(&[], 0.5), None);
        assert_eq!(percentile(&hundred[..1], 0.99), Some(Duration::from_millis(1)));
    }

    #[test]
    fn a_loss_ends_with_eight() {
        let report = |tally| Report {
            killed: "b".into(),
            role: Role::Warehouse,
            length: Duration::from_secs(1),
            recovered: Duration::ZERO,
            measured: Measured::default(),
            tally,
        };
        assert!(report(Tally::default()).verdict().is_ok());
        for tally in [
            Tally {
                lost: 1,
                ..Tally::default()
            },
            Tally {
                duplicated: 1,
                ..Tally::default()
            },
            Tally {
                people_found: 1,
                ..Tally::default()
            },
        ] {
            assert_eq!(report(tally).verdict().unwrap_err().exit, Exit::Unverified);
        }
    }
}
