//! `coffer zones scrub`: has the roles go through their zones, and says what they found.

use std::time::Duration;

use base::Role;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tonic::{Response, Status};
use wire::v1::{ScrubNames, ScrubRequest, ScrubRun, ScrubUpdate};

use super::super::tables::in_words;
use crate::cli::{Scrub, Zones};
use crate::failure::{Exit, Failure, Outcome};
use crate::layout::Layout;
use crate::output::{self, Format};
use crate::{operator, terminal};

/// How long a role may be silent while it scrubs. It says several times a second how far it is.
const SILENCE: Duration = Duration::from_secs(60);
const COLUMNS: [&str; 9] = [
    "role",
    "zone",
    "objects",
    "missing",
    "corrupt",
    "repaired",
    "foreign",
    "beyond_repair",
    "says",
];

/// Scrubs one role's zones or everybody's. Fails when something is beyond repair, or was not looked at.
pub(crate) async fn run(args: Scrub) -> Outcome {
    let layout = Layout::at(&args.data.data)?;
    let mut rows = output::to_stdout(Format::chosen(args.output), true, &COLUMNS);
    let (mut lost, mut lost_names, mut open) = (0, Vec::new(), Vec::new());
    let roles: Vec<Role> = Zones::roles().filter(|role| args.role.is_none_or(|only| only == *role)).collect();
    for role in roles {
        let run = match scrub(&layout, role, args.full).await {
            Ok(run) => run,
            Err(status) => {
                // The others are gone through all the same.
                let what = format!("could not scrub the zones of {role}");
                open.push((format!("{role}: {}", status.message()), Some(operator::failure(&what, &status))));
                continue;
            }
        };
        for zone in &run.zones {
            rows.row(vec![
                json!(role.as_str()),
                json!(zone.name),
                json!(zone.objects),
                json!(zone.missing),
                json!(zone.corrupt),
                json!(zone.repaired),
                json!(count(&run.foreign)),
                json!(count(&run.lost)),
                json!(zone.silent),
            ])?;
        }
        say(role, &run);
        lost += count(&run.lost);
        lost_names.extend(named(role, &run.lost));
        if !run.complete {
            open.push((why_open(role, &run), None));
        }
    }
    rows.finish()?;
    outcome(lost, &lost_names, open)
}

async fn scrub(layout: &Layout, role: Role, full: bool) -> Result<ScrubRun, Status> {
    let mut client = operator::zones(layout, role);
    let begun = tokio::time::timeout(SILENCE, client.scrub(ScrubRequest { full })).await;
    let mut updates = begun.unwrap_or_else(|_| Err(no_answer())).map(Response::into_inner)?;
    let bar = bar(role);
    loop {
        let next = tokio::time::timeout(SILENCE, updates.message()).await;
        let Some(update) = next.unwrap_or_else(|_| Err(no_answer()))? else {
            bar.finish_and_clear();
            return Err(Status::unavailable("the role stopped before the scrub was done"));
        };
        if let Some(run) = update.ended {
            bar.finish_and_clear();
            return Ok(run);
        }
        show(&bar, &update);
    }
}

fn no_answer() -> Status {
    Status::unavailable("no answer")
}

fn bar(role: Role) -> ProgressBar {
    if !terminal::shows_messages() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}: {msg} [{elapsed}]") {
        bar.set_style(style);
    }
    bar.set_prefix(role.as_str());
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn show(bar: &ProgressBar, update: &ScrubUpdate) {
    let of = match update.expected {
        0 => String::new(),
        expected => format!(" of about {}", terminal::grouped(expected)),
    };
    let faults = match update.faults {
        0 => String::new(),
        faults => format!(", {faults} copies missing or corrupt"),
    };
    bar.set_message(format!(
        "{}{of} objects, {} read{faults}",
        terminal::grouped(update.objects),
        in_words(update.bytes)
    ));
}

/// What a person should know beside the numbers.
fn say(role: Role, run: &ScrubRun) {
    let (objects, read) = (terminal::grouped(run.objects), terminal::grouped(run.read));
    terminal::say(format_args!(
        "{role}: compared {objects} objects, read all copies of {read} ({})",
        in_words(run.bytes)
    ));
    for (names, what) in [
        (&run.foreign, "is none of this role's, and was left where it is"),
        (&run.doubtful, "has no good copy in the zones that answer"),
    ] {
        for name in named(role, names) {
            terminal::say(format_args!("{name} {what}"));
        }
    }
}

fn why_open(role: Role, run: &ScrubRun) -> String {
    let silent = run.zones.iter().find(|zone| !zone.silent.is_empty());
    match silent {
        Some(zone) => format!(
            "{role}: zone {} did not answer to the end: {}",
            zone.name,
            terminal::harmless(&zone.silent)
        ),
        None => format!("{role}: not everything could be put right now"),
    }
}

fn count(names: &Option<ScrubNames>) -> u64 {
    names.as_ref().map_or(0, |names| names.count)
}

fn named(role: Role, names: &Option<ScrubNames>) -> Vec<String> {
    let Some(names) = names else { return Vec::new() };
    let mut all: Vec<String> = names
        .first
        .iter()
        .map(|name| format!("{role}: {}", terminal::harmless(name)))
        .collect();
    let more = names.count.saturating_sub(names.first.len() as u64);
    if more > 0 {
        all.push(format!("{role}: and {more} more"));
    }
    all
}

fn outcome(lost: u64, names: &[String], open: Vec<(String, Option<Failure>)>) -> Outcome {
    if lost > 0 {
        let objects = if lost == 1 {
            "one object is".to_owned()
        } else {
            format!("{lost} objects are")
        };
        return Err(Failure::new(Exit::Unverified, format!("{objects} beyond repair: no zone has a good copy"))
            .why(names.join("\n"))
            .next("put a good copy of each back into any of the zones of its role, from a backup or a disk that was taken out, and scrub again"));
    }
    let mut open = open.into_iter();
    match open.next() {
        None => Ok(()),
        Some((_, Some(failure))) => Err(failure),
        Some((why, None)) => {
            let all: Vec<String> = std::iter::once(why).chain(open.map(|(why, _)| why)).collect();
            Err(Failure::new(Exit::Temporary, "the scrub is not complete")
                .why(all.join("\n"))
                .next("`coffer zones status` says what is the matter; scrub again when the zone is back"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_repair_goes_before_what_was_not_looked_at() {
        let open = || vec![("identity: zone b did not answer".to_owned(), None)];
        let exit = |lost, open| outcome(lost, &["vault: a/b".to_owned()], open).map_err(|failure| failure.exit);
        assert_eq!(exit(0, vec![]), Ok(()));
        assert_eq!(exit(0, open()), Err(Exit::Temporary));
        assert_eq!(exit(1, open()), Err(Exit::Unverified));
    }
}
