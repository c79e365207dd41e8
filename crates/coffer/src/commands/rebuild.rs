//! `coffer rebuild`: everything that can be made from the journals, made from them.

use std::time::{Duration, Instant};

use base::Role;
use edge::rebuild::{Finding, Order};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::runtime::Builder;
use wire::v1::{RebuildFinding, RebuildLookResponse};

use crate::cli::Rebuild;
use crate::config::Config;
use crate::failure::{During, Exit, Failure, Outcome};
use crate::layout::Layout;
use crate::logging::Logging;
use crate::output::{self, Format};
use crate::supervise::{Rebuilding, asked_to_stop};
use crate::terminal;

/// How often is looked.
const LOOK: Duration = Duration::from_millis(100);
/// How often a line is written where there is no terminal.
const SAY: Duration = Duration::from_secs(5);

/// Rebuilds, or compares, and says what came of it.
pub(crate) fn run(args: &Rebuild) -> Outcome {
    let config = Config::load(&args.settings)?;
    let logging = Logging::from_environment("warn");
    logging.start("rebuild")?;
    let layout = Layout::at(&args.data.data)?;
    edge::harden_process();
    let order = Order {
        verify: args.verify || args.compare_only,
        compare_only: args.compare_only,
    };
    let mut rebuilding = Rebuilding::prepare(layout, config, logging, order, &args.lost)?;
    let begun = Instant::now();
    let findings = Builder::new_current_thread()
        .enable_all()
        .build()
        .during("could not start")?
        .block_on(async {
            let done = tokio::select! {
                done = go(&mut rebuilding) => done,
                asked = asked_to_stop() => asked.and(Err(Failure::new(Exit::Temporary, "interrupted")
                    .next("run the same command again, it goes on where it was"))),
            };
            rebuilding.stop().await;
            done
        })?;
    report(args, &findings)?;
    verdict(&findings, order, begun.elapsed())
}

async fn go(rebuilding: &mut Rebuilding) -> Outcome<Vec<RebuildFinding>> {
    let mut findings = Vec::new();
    for role in Rebuilding::roles() {
        rebuilding.start(role).await?;
        // The vault has said all only when the accounts role has told it what it remembers.
        if role != Role::Vault {
            follow(rebuilding, role, &mut findings).await?;
        }
        if role == Role::Accounts {
            // Without it there is nothing to go on with, and nothing that the vault would hear.
            if has_failed(&findings) {
                break;
            }
            follow(rebuilding, Role::Vault, &mut findings).await?;
            if has_failed(&findings) {
                break;
            }
        }
    }
    Ok(findings)
}

/// Looks until a role has nothing more to say.
async fn follow(rebuilding: &mut Rebuilding, role: Role, findings: &mut Vec<RebuildFinding>) -> Outcome {
    let (mut from, mut progress) = (0, Progress::new());
    loop {
        if let Some(look) = rebuilding.look(role, from).await? {
            progress.show(&look);
            from += look.findings.len() as u64;
            findings.extend(look.findings);
            if look.finished {
                progress.bar.finish_and_clear();
                return Ok(());
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A bar on a terminal, else a line now and then.
struct Progress {
    bar: ProgressBar,
    doing: String,
    /// When this began, with how many rows, and when a line was last written.
    since: Instant,
    had: u64,
    said: Instant,
}

impl Progress {
    fn new() -> Self {
        let bar = if terminal::shows_messages() {
            let style = ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len} rows, {per_sec}, {eta} left");
            ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        } else {
            ProgressBar::hidden()
        };
        let now = Instant::now();
        Self {
            bar,
            doing: String::new(),
            since: now,
            had: 0,
            said: now,
        }
    }

    fn show(&mut self, look: &RebuildLookResponse) {
        if self.doing != look.doing {
            self.doing.clone_from(&look.doing);
            (self.since, self.had) = (Instant::now(), look.done);
            self.bar.reset();
            self.bar.set_message(look.doing.clone());
            if look.done > 0 {
                // What was done before an interruption says nothing about how fast it goes.
                self.bar.set_position(look.done);
                self.bar.reset_eta();
            }
        }
        self.bar.set_length(look.in_all);
        self.bar.set_position(look.done);
        if self.bar.is_hidden() && look.in_all > 0 && self.said.elapsed() >= SAY {
            self.said = Instant::now();
            terminal::say(self.line(look));
        }
    }

    fn line(&self, look: &RebuildLookResponse) -> String {
        let (done, seconds) = (look.done.saturating_sub(self.had), self.since.elapsed().as_secs_f64());
        let speed = if seconds > 0.0 { done as f64 / seconds } else { 0.0 };
        let left = look.in_all.saturating_sub(look.done);
        let left = if speed >= 1.0 {
            let left = Duration::from_secs((left as f64 / speed) as u64);
            format!(", {} left", humantime::format_duration(left))
        } else {
            String::new()
        };
        format!(
            "{}: {} of {} rows, {} rows/s{left}",
            look.doing,
            terminal::grouped(look.done),
            terminal::grouped(look.in_all),
            terminal::grouped(speed as u64)
        )
    }
}

fn report(args: &Rebuild, findings: &[RebuildFinding]) -> Outcome {
    let format = Format::chosen(args.output);
    let mut columns = vec!["about", "state", "rows", "hash", "says"];
    if args.days {
        columns.insert(1, "day");
    }
    let mut rows = output::to_stdout(format, true, &columns);
    for finding in findings.iter().filter(|finding| args.days || finding.day.is_empty()) {
        let counted = !finding.hash.is_empty() || finding.rows > 0;
        let text = |text: &str| if text.is_empty() { Value::Null } else { json!(text) };
        let mut row = vec![
            json!(finding.about),
            json!(finding.state),
            if counted { json!(finding.rows) } else { Value::Null },
            text(&hex::encode(&finding.hash)),
            json!(terminal::harmless(&finding.says)),
        ];
        if args.days {
            row.insert(1, text(&finding.day));
        }
        rows.row(row)?;
    }
    rows.finish().map(drop)
}

fn verdict(findings: &[RebuildFinding], order: Order, took: Duration) -> Outcome {
    let is = |exit: Exit| {
        findings
            .iter()
            .filter(move |finding| finding.day.is_empty() && exit_of(finding) == Some(exit))
            .count()
    };
    let tables = findings.iter().filter(|finding| finding.day.is_empty());
    let rows: u64 = tables.map(|finding| finding.rows).sum();
    for (exit, what) in [
        (Exit::Unverified, "are missing, damaged or different"),
        (Exit::Failed, "did not work"),
        (Exit::Temporary, "could not be done now"),
    ] {
        let count = is(exit);
        if count > 0 {
            return Err(Failure::new(exit, format!("{count} things {what}"))
                .why("the lines above say which: those marked `different`, `damaged`, `failed` or `later`")
                .next("bring back zones that hold what is missing; run the same command again, it goes on where it was"));
        }
    }
    let speed = rows as f64 / took.as_secs_f64().max(0.001);
    let did = match (order.compare_only, order.verify) {
        (true, _) => "compared",
        (false, true) => "rebuilt and compared",
        (false, false) => "rebuilt",
    };
    terminal::say(format_args!(
        "{did} {} rows in {:.1} s, {} rows/s",
        terminal::grouped(rows),
        took.as_secs_f64(),
        terminal::grouped(speed as u64)
    ));
    if !order.compare_only {
        terminal::say("jobs and their results are in no zone: there are none now");
    }
    Ok(())
}

fn has_failed(findings: &[RebuildFinding]) -> bool {
    findings.iter().any(|finding| exit_of(finding).is_some())
}

/// How the command ends for this finding, if not well.
fn exit_of(finding: &RebuildFinding) -> Option<Exit> {
    let known = Finding::ALL.into_iter().find(|known| known.as_str() == finding.state);
    match known {
        Some(Finding::Good | Finding::Note) => None,
        Some(Finding::Different | Finding::Damaged) => Some(Exit::Unverified),
        Some(Finding::Later) => Some(Exit::Temporary),
        Some(Finding::Failed) | None => Some(Exit::Failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(state: &str) -> RebuildFinding {
        RebuildFinding {
            state: state.into(),
            ..RebuildFinding::default()
        }
    }

    #[test]
    fn it_ends_with_eight_whenever_something_is_missing_or_different() {
        let order = Order {
            verify: true,
            compare_only: false,
        };
        let check = |states: &[&str], expected: Option<Exit>| {
            let findings: Vec<_> = states.iter().map(|state| found(state)).collect();
            let ended = verdict(&findings, order, Duration::from_secs(1)).err().map(|failure| failure.exit);
            assert_eq!(ended, expected, "{states:?}");
        };
        check(&["ok", "note"], None);
        check(&["ok", "later"], Some(Exit::Temporary));
        check(&["later", "failed"], Some(Exit::Failed));
        check(&["failed", "damaged", "later"], Some(Exit::Unverified));
        check(&["ok", "different"], Some(Exit::Unverified));
        check(&["a word of another version"], Some(Exit::Failed));
    }

    #[test]
    fn a_line_tells_how_fast_it_goes_without_what_was_done_before() {
        let mut progress = Progress::new();
        (progress.had, progress.since) = (500_000, Instant::now().checked_sub(Duration::from_secs(10)).unwrap());
        let look = RebuildLookResponse {
            doing: "tables of product 1".into(),
            done: 1_500_000,
            in_all: 2_500_000,
            ..RebuildLookResponse::default()
        };
        let line = progress.line(&look);
        assert!(line.starts_with("tables of product 1: 1,500,000 of 2,500,000 rows, "), "{line}");
        assert!(line.contains("rows/s, 10s left") || line.contains("99,"), "{line}");
    }
}
