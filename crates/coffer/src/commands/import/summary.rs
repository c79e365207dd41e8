//! What became of an import, for people and for programs.

use std::time::Duration;

use serde_json::json;

use crate::failure::Outcome;
use crate::output::{self, Format};
use crate::terminal;

/// Counts of one file.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    pub(super) file: String,
    /// With those that were set aside, and those that were stored already.
    pub(super) rows_sent: u64,
    /// Of these, rows that the server had stored under the same id before: nothing new.
    pub(super) rows_known: u64,
    pub(super) rows_rejected: u64,
    pub(super) rows_skipped: u64,
    pub(super) chunks_sent: u64,
    pub(super) chunks_skipped: u64,
    pub(super) took: Duration,
    /// Whether every chunk is acknowledged.
    pub(super) complete: bool,
    /// Whether some of it was sent from another file of the same import.
    pub(super) same_as_before: bool,
}

/// The line that ends an import.
pub(super) fn line(table: &str, files: &[Counts]) -> String {
    let sum = |count: fn(&Counts) -> u64| files.iter().map(count).sum::<u64>();
    let took = files.iter().map(|file| file.took).sum::<Duration>().as_secs_f64();
    let rejected = sum(|file| file.rows_rejected);
    let known = sum(|file| file.rows_known);
    let rows = sum(|file| file.rows_sent).saturating_sub(rejected + known);
    let mut line = format!("{} into {table} in {took:.1} s", counted(rows, "row"));
    if rows > 0 {
        let speed = rows as f64 / took.max(0.001);
        line.push_str(&format!(" ({} rows/s)", terminal::grouped(speed as u64)));
    }
    let skipped = sum(|file| file.chunks_skipped);
    if skipped > 0 {
        let rows = sum(|file| file.rows_skipped);
        line.push_str(&format!(
            "; {} ({}) were there before",
            counted(skipped, "chunk"),
            counted(rows, "row")
        ));
    }
    if known > 0 {
        line.push_str(&format!(
            "; {} had been stored before, from the same bytes, and {} there once (--label NAME imports them once more)",
            counted(known, "row"),
            if known == 1 { "is" } else { "are" }
        ));
    }
    if rejected > 0 {
        line.push_str(&format!(
            "; {} could not be taken and {} set aside: coffer rejected show {table}",
            counted(rejected, "row"),
            if rejected == 1 { "is" } else { "are" }
        ));
    }
    line
}

/// The same for a program, a row per file.
pub(super) fn print(format: Format, table: &str, files: &[Counts]) -> Outcome {
    let columns = [
        "file",
        "table",
        "complete",
        "rows_sent",
        "rows_rejected",
        "rows_known",
        "rows_skipped",
        "chunks_sent",
        "chunks_skipped",
        "seconds",
        "rows_per_second",
    ];
    let mut rows = output::to_stdout(format, true, &columns);
    for file in files {
        let seconds = file.took.as_secs_f64();
        rows.row(vec![
            json!(file.file),
            json!(table),
            json!(file.complete),
            json!(file.rows_sent),
            json!(file.rows_rejected),
            json!(file.rows_known),
            json!(file.rows_skipped),
            json!(file.chunks_sent),
            json!(file.chunks_skipped),
            json!((seconds * 1_000.0).round() / 1_000.0),
            json!((file.rows_sent as f64 / seconds.max(0.001)) as u64),
        ])?;
    }
    rows.finish().map(drop)
}

/// `1 row`, `2,000 rows`.
pub(super) fn counted(count: u64, what: &str) -> String {
    format!("{} {what}{}", terminal::grouped(count), if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_says_what_was_sent_and_skipped() {
        let mut file = Counts {
            rows_sent: 1_500,
            took: Duration::from_millis(1_500),
            ..Counts::default()
        };
        assert_eq!(
            line("web.events", &[file.clone()]),
            "1,500 rows into web.events in 1.5 s (1,000 rows/s)"
        );
        file.rows_rejected = 1;
        assert_eq!(
            line("web.events", &[file.clone()]),
            "1,499 rows into web.events in 1.5 s (999 rows/s); 1 row could not be taken and is set aside: coffer rejected show web.events"
        );
        file.rows_rejected = 0;
        file.rows_known = 1_500;
        assert!(line("web.events", &[file.clone()]).starts_with("0 rows into web.events in 1.5 s; 1,500 rows had been stored before"));
        file.rows_known = 0;
        file.chunks_skipped = 1;
        file.rows_skipped = 100_000;
        assert!(line("web.events", &[file.clone(), file]).ends_with("; 2 chunks (200,000 rows) were there before"));
    }
}
