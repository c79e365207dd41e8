//! `coffer prove tenancy` and `coffer prove unlinkable`: what roles find out about their own files, each in its sandbox.

use std::path::PathBuf;

use base::{Role, SecretBytes};
use edge::proving::{Line, Tally};
use serde_json::json;
use tokio::runtime::Builder;

use crate::cli::{Settings, Tenancy, Unlinkable};
use crate::config::Config;
use crate::failure::{During, Exit, Failure, Outcome};
use crate::handover::{Hidden, Proof};
use crate::layout::{self, Layout};
use crate::logging::Logging;
use crate::output::{self, Format};
use crate::supervise::{Proving, Shown, asked_to_stop};
use crate::{operator, terminal};

/// How many wrong things are shown in the end.
const SHOWN: usize = 40;

/// What was heard.
#[derive(Default)]
pub(super) struct Heard {
    tallies: Vec<Tally>,
    pub(super) wrong: Vec<String>,
    compared: Option<Line>,
    /// Zones that were looked at, and those that were not.
    pub(super) looked: Option<(usize, usize)>,
    /// Records of the audit journal, of how many, and the newest head's root.
    pub(super) records: Option<(u64, u64, String)>,
    pub(super) faults: Vec<audit::Fault>,
}

impl Heard {
    fn hear(&mut self, line: Line) {
        match line {
            Line::Tally(tally) => self.tallies.push(tally),
            Line::Wrong(what) => self.wrong.push(terminal::harmless(&what).to_string()),
            Line::Note(what) => terminal::say(terminal::harmless(&what)),
            Line::Compared { .. } => self.compared = Some(line),
            Line::Looked(zones, stores) => self.looked = Some((zones, stores)),
            Line::Records(records, size, root) => self.records = Some((records, size, root)),
            Line::Fault(record, what) => self.faults.push(audit::Fault { record, what }),
            Line::Doing(_) | Line::Key(_) | Line::Sealed(..) | Line::Failed(..) | Line::Done => {}
        }
    }
}

pub(super) fn open(data: &std::path::Path, settings: &Settings) -> Outcome<Proving> {
    edge::harden_process();
    let layout = Layout::at(data)?;
    if !layout.root().is_dir() {
        return Err(
            Failure::new(Exit::NotFound, format!("there is no installation at {}", layout.root().display()))
                .next("give its directory with --data"),
        );
    }
    crate::users::check_owner(&layout)?;
    let config = Config::load(settings)?;
    Proving::of(layout, config, Logging::from_environment("error"))
}

fn secrets(files: &[PathBuf]) -> Outcome<Vec<Hidden>> {
    let read = |file: &PathBuf| Ok(Hidden(SecretBytes::new(layout::read_private(file)?.into_bytes())));
    files.iter().map(read).collect()
}

pub(super) async fn heard(proving: &Proving, roles: &[Role], what: (Proof, Option<u64>), shown: Shown) -> Outcome<Heard> {
    let mut heard = Heard::default();
    let mut hear = |line| {
        heard.hear(line);
        Ok(())
    };
    tokio::select! {
        done = proving.prove(roles, what, shown, &mut hear) => done?,
        asked = asked_to_stop() => return asked.and(Err(Failure::new(Exit::Temporary, "interrupted"))),
    }
    Ok(heard)
}

fn wait<T>(command: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .during("could not start")?
        .block_on(command)
}

/// Files of a product are that product's alone.
pub(crate) fn tenancy(args: &Tenancy) -> Outcome {
    let shown = Shown {
        keys: secrets(&args.key_file)?,
        shares: secrets(&args.share_file)?,
    };
    let heard = wait(async {
        let proving = open(&args.data.data, &args.settings)?;
        heard(&proving, &[Role::Warehouse, Role::Identity], (Proof::Tenancy, args.sample), shown).await
    })?;
    let columns = ["product", "files", "tried", "opened", "left_out", "refused", "attempts"];
    let mut rows = output::to_stdout(Format::chosen(args.output), true, &columns);
    let (mut files, mut opened, mut refused, mut left_out) = (0, 0, 0, 0);
    for tally in &heard.tallies {
        let all: u64 = tally.refused.values().sum();
        (files, opened) = (files + tally.files, opened + tally.opened);
        (refused, left_out) = (refused + all, left_out + tally.left_out);
        let attempts: Vec<String> = tally.refused.iter().map(|(what, count)| format!("{what} {count}")).collect();
        rows.row(vec![
            json!(tally.product),
            json!(tally.kind),
            json!(tally.files),
            json!(tally.opened),
            json!(tally.left_out),
            json!(all),
            json!(attempts.join(", ")),
        ])?;
    }
    rows.finish()?;
    if !heard.wrong.is_empty() {
        return Err(not_proven("the tenancy of the files is not proven", &heard.wrong));
    }
    if files == 0 {
        return Err(Failure::new(Exit::NotFound, "no product has a file yet: there is nothing to prove"));
    }
    terminal::say(format_args!(
        "proven: {files} files, of which {opened} opened with what has to open them; {refused} attempts were refused, none was not"
    ));
    if opened < files {
        terminal::say(format_args!("{} did not open for want of a key that was shown", files - opened));
    }
    if left_out > 0 {
        terminal::say(format_args!("NOT TRIED: {left_out} more files, left out by --sample"));
    }
    Ok(())
}

fn not_proven(what: &str, wrong: &[String]) -> Failure {
    let mut lines: Vec<String> = wrong.iter().take(SHOWN).cloned().collect();
    if wrong.len() > SHOWN {
        lines.push(format!("and {} more", wrong.len() - SHOWN));
    }
    Failure::new(Exit::Unverified, what).why(lines.join("\n"))
}

/// Two products have nothing in common by which anybody could be told.
pub(crate) fn unlinkable(args: &Unlinkable) -> Outcome {
    let what = "whether the products have something in common is not proven";
    let [first, second] = &args.products[..] else {
        return Err(Failure::new(Exit::Usage, "two products are compared").next("--products A,B"));
    };
    let shown = Shown {
        shares: secrets(&args.share_file)?,
        ..Shown::default()
    };
    let heard = wait(async {
        let proving = open(&args.data.data, &args.settings)?;
        let layout = Layout::at(&args.data.data)?;
        let (first, second) = (number(&layout, &proving, first).await?, number(&layout, &proving, second).await?);
        if first == second {
            return Err(Failure::new(Exit::Usage, "a product is not compared with itself"));
        }
        heard(&proving, &[Role::Identity], (Proof::Unlinkable(first, second), None), shown).await
    })?;
    let Some(Line::Compared {
        people,
        values,
        identities,
        common,
    }) = heard.compared
    else {
        return Err(Failure::new(Exit::Failed, what));
    };
    let mut rows = output::to_stdout(Format::chosen(args.output), true, &["value", "in_both"]);
    for (kind, count) in &common {
        rows.row(vec![json!(kind), json!(count)])?;
    }
    rows.finish()?;
    let linked = common.iter().filter(|(_, count)| **count > 0);
    let linked: Vec<String> = linked.map(|(kind, count)| format!("{count} {kind} are the same in both")).collect();
    if !linked.is_empty() {
        return Err(not_proven("the products can be linked", &linked));
    }
    let [first, second] = people;
    terminal::say(format_args!(
        "proven: {values} values of {first} and {second} people were compared; {identities} identities are known in both, and nothing else is the same"
    ));
    if identities == 0 {
        terminal::say("nobody is known in both: what two products keep of the same person was not seen");
    }
    Ok(())
}

/// A product's number. Names are the accounts role's, which answers while it runs.
async fn number(layout: &Layout, proving: &Proving, wanted: &str) -> Outcome<u64> {
    if let Ok(number) = wanted.parse() {
        return Ok(number);
    }
    if !proving.runs {
        return Err(Failure::new(Exit::Usage, format!("{wanted:?} is not the number of a product"))
            .next("products are named by their numbers while the installation does not run"));
    }
    Ok(operator::product(layout, wanted).await?.number)
}
