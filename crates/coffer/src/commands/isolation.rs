//! `coffer prove isolation`: the breach drill. Every role attacks the others, and what it got has to be what is written.

mod pairs;

use std::collections::BTreeMap;
use std::time::Duration;

use base::Role;
use tokio::runtime::Builder;
use wire::v1::AuditReadRequest;
use wire::v1::audit_operator_client::AuditOperatorClient;

use crate::breach::matrix::Matrix;
use crate::breach::{Attempt, Came};
use crate::cli::Isolation;
use crate::config::Config;
use crate::failure::{During, Exit, Failure, Outcome};
use crate::layout::Layout;
use crate::logging::Logging;
use crate::supervise::{Breaching, Prepared, Supervisor, asked_to_stop};
use crate::{operator, terminal};

/// What is written: the tables of the threat model, which the program carries with it.
const WRITTEN: &str = include_str!("../../../../docs/threat-model.md");
const ALL_WALLS: &str = "## What a role gets";
const TWO: &str = "## What two roles get together";
const USERS_ALONE: &str = "## What a role gets without its sandbox";
/// Fewer than this were no drill.
const ENOUGH: usize = 200;
/// How long records of refused calls may take.
///
/// Of one caller, thirty in a minute are recorded one by one and the others as a number, when the minute is over.
const RECORDED: Duration = Duration::from_secs(90);
/// Records that are read at once.
const AT_ONCE: u32 = 10_000;

/// Breaks out of every role, and compares.
pub(crate) fn run(args: &Isolation) -> Outcome {
    edge::harden_process();
    let layout = Layout::at(&args.data.data)?;
    if !layout.root().is_dir() {
        return Err(
            Failure::new(Exit::NotFound, format!("there is no installation at {}", layout.root().display()))
                .next("give its directory with --data"),
        );
    }
    crate::users::check_owner(&layout)?;
    let mut config = Config::load(&args.settings)?;
    let logging = Logging::from_environment("error");
    let runs = match layout.lock() {
        Ok(_) => false,
        Err(failure) if failure.exit == Exit::Conflict => true,
        Err(failure) => return Err(failure),
    };
    let prepared = if runs {
        None
    } else {
        logging.start("prove")?;
        // Nobody but the drill is served.
        (config.shape.listen.public, config.shape.listen.plain) = (([127, 0, 0, 1], 0).into(), None);
        Some(Prepared::new(layout.clone(), config, logging.clone())?)
    };
    let config = Config::load(&args.settings)?;
    Builder::new_current_thread()
        .enable_all()
        .build()
        .during("could not start")?
        .block_on(async {
            let Some(prepared) = prepared else {
                return drill(args, layout, config, logging).await;
            };
            let mut stopping = std::pin::pin!(asked_to_stop());
            let Some(supervisor) = Supervisor::started(prepared, &mut stopping).await? else {
                return Err(Failure::new(Exit::Temporary, "interrupted"));
            };
            let done = tokio::select! {
                done = drill(args, layout, config, logging) => done,
                asked = &mut stopping => asked.and(Err(Failure::new(Exit::Temporary, "interrupted"))),
            };
            supervisor.stop().await;
            done
        })
}

async fn drill(args: &Isolation, layout: Layout, config: Config, logging: Logging) -> Outcome {
    let breaching = Breaching::of(layout, config, logging).await?;
    let mut wrong = Vec::new();
    let mut count = Count::default();
    let mut refused = BTreeMap::new();
    let before = newest(breaching.layout()).await?;
    let mut got = Matrix::default();
    for role in Role::ALL {
        let breached = breaching.attack(role, false).await?;
        wrong.extend(
            breached
                .unlike
                .into_iter()
                .map(|line| format!("the drill had not what the role has: {line}")),
        );
        refused.insert(role, refusals(&breached.attempts));
        count.add(role, &breached.attempts, &mut got, args.attacks)?;
    }
    let (mut said, mut said_of_two) = (written(ALL_WALLS)?, written(TWO)?);
    let vault = match breaching.signing_of_vault().await? {
        Ok(signing) => {
            let attempts = breaching.calls_of_vault(&signing).await?;
            refused.insert(Role::Vault, refusals(&attempts));
            count.add(Role::Vault, &attempts, &mut got, args.attacks)?;
            Some(signing)
        }
        Err(why) => {
            terminal::say(format_args!(
                "NOT TRIED: what the vault may call, and what others have together with it, for its keys cannot be had: {why}"
            ));
            said = said.without(|asset, role| role == Role::Vault && asset.starts_with("call "));
            said_of_two = said_of_two.without(|asset, _| asset == "with vault");
            None
        }
    };
    wrong.extend(got.differs(&said));
    wrong.extend(unrecorded(breaching.layout(), before, &refused).await?);
    let mut users = Matrix::default();
    if let Some(why) = breaching.one_user() {
        terminal::say(format_args!(
            "NOT TRIED: what the users keep apart by themselves, for all roles run under one: {why}"
        ));
    } else {
        for role in Role::ALL {
            let breached = breaching.attack(role, true).await?;
            count.add(role, &breached.attempts, &mut users, args.attacks)?;
        }
        wrong.extend(users.differs(&written(USERS_ALONE)?));
    }
    let mut two = Matrix::default();
    for (role, attempt) in pairs::attack(&breaching, vault, &got).await? {
        count.add(role, &[attempt], &mut two, args.attacks)?;
    }
    wrong.extend(two.differs(&said_of_two));
    if !args.attacks {
        terminal::print(format_args!("{ALL_WALLS}\n\n{}", got.table()))?;
        terminal::print(format_args!("{TWO}\n\n{}", two.table()))?;
        if breaching.one_user().is_none() {
            terminal::print(format_args!("{USERS_ALONE}\n\n{}", users.table()))?;
        }
    }
    if count.tried() < ENOUGH {
        wrong.push(format!("only {} attacks found something to attack", count.tried()));
    }
    if wrong.is_empty() {
        terminal::say(format_args!(
            "proven: {} attacks, {} refused, {} got what docs/threat-model.md says and nothing else; {} found nothing to attack",
            count.tried(),
            count.refused,
            count.got,
            count.absent
        ));
        return Ok(());
    }
    Err(Failure::new(Exit::Unverified, "the isolation of the roles is not proven")
        .why(wrong.join("\n"))
        .next("`coffer doctor` says what this machine cannot enforce; --attacks shows each attack"))
}

/// How the attacks came out.
#[derive(Default)]
struct Count {
    got: usize,
    refused: usize,
    absent: usize,
}

impl Count {
    fn tried(&self) -> usize {
        self.got + self.refused
    }

    fn add(&mut self, role: Role, attempts: &[Attempt], matrix: &mut Matrix, show: bool) -> Outcome {
        for attempt in attempts {
            matrix.note(role, attempt);
            let (counted, word) = match attempt.came {
                Came::Got => (&mut self.got, "got"),
                Came::Refused => (&mut self.refused, "refused"),
                Came::Absent => (&mut self.absent, "absent"),
            };
            *counted += 1;
            if show {
                let Attempt {
                    asset, act, target, says, ..
                } = attempt;
                let says = terminal::harmless(says);
                terminal::print(format_args!("{role}\t{asset}\t{act}\t{target}\t{word}\t{says}"))?;
            }
        }
        Ok(())
    }
}

fn written(begin: &str) -> Outcome<Matrix> {
    Matrix::read(WRITTEN, begin).map_err(|why| Failure::new(Exit::Failed, "docs/threat-model.md cannot be read").why(why))
}

/// What has to be found in the audit journal: calls outside the table, and passes that do not hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Refusals {
    calls: bool,
    passes: bool,
}

fn refusals(attempts: &[Attempt]) -> Refusals {
    let by_role = |attempt: &&Attempt| attempt.came == Came::Refused && !attempt.says.starts_with("no connection");
    let any = |begin: &str| attempts.iter().filter(by_role).any(|attempt| attempt.asset.starts_with(begin));
    Refusals {
        calls: any("call "),
        passes: any("passes "),
    }
}

/// The number of the newest record of the audit journal.
async fn newest(layout: &Layout) -> Outcome<u64> {
    let last = records(layout, None, 1).await?;
    Ok(last.iter().filter_map(|record| record["n"].as_u64()).max().unwrap_or(0))
}

async fn records(layout: &Layout, after: Option<u64>, last: u32) -> Outcome<Vec<serde_json::Value>> {
    let what = "could not read the audit journal";
    let mut client = AuditOperatorClient::new(operator::channel(layout, Role::Vault)).max_decoding_message_size(wire::MAX_MESSAGE);
    let asked = AuditReadRequest {
        after,
        last,
        ..AuditReadRequest::default()
    };
    let mut stream = operator::ask(what, client.read(asked)).await?;
    let mut records = Vec::new();
    while let Some(lines) = stream.message().await.map_err(|status| operator::failure(what, &status))? {
        for line in &lines.lines {
            records.push(serde_json::from_str(line).during(what)?);
        }
    }
    Ok(records)
}

/// Of which roles no refusal is in the audit journal, though there was one.
async fn unrecorded(layout: &Layout, before: u64, refused: &BTreeMap<Role, Refusals>) -> Outcome<Vec<String>> {
    let begun = tokio::time::Instant::now();
    loop {
        let records = records(layout, Some(before), AT_ONCE).await?;
        let has = |role: &Role, rule: &str| {
            let who = format!("role:{role}");
            records
                .iter()
                .any(|record| record["who"] == who.as_str() && record["decision"] == "refused" && record["rule"] == rule)
        };
        let mut missing = Vec::new();
        for (role, refusals) in refused {
            for (expected, rule) in [(refusals.calls, "call"), (refusals.passes, "pass")] {
                if expected && !has(role, rule) {
                    missing.push(format!(
                        "refused attempts of the {role} role (rule {rule}) are not in the audit journal"
                    ));
                }
            }
        }
        if missing.is_empty() || begun.elapsed() > RECORDED {
            return Ok(missing);
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        for (begin, gets) in [(ALL_WALLS, true), (TWO, true), (USERS_ALONE, false)] {
            let said = Matrix::read(WRITTEN, begin).unwrap();
            assert_eq!(Matrix::default().differs(&said).is_empty(), !gets, "{begin}");
        }
    }

    #[test]
    fn the_calls_that_are_written_are_those_of_the_table() {
        use wire::calls::{CALLS, Caller, may_call};
        let said = Matrix::read(WRITTEN, ALL_WALLS).unwrap();
        for role in Role::ALL {
            let written: Vec<&str> = said
                .of(role)
                .filter(|(_, got)| !got.is_empty())
                .filter_map(|(asset, _)| asset.strip_prefix("call "))
                .collect();
            let mut listed: Vec<&str> = CALLS
                .iter()
                .map(|(method, _)| *method)
                // Anybody may enrol at the vault, but for itself.
                .filter(|method| may_call(method, Caller::Role(role)) && !(role == Role::Vault && method.ends_with("/Enrol")))
                .map(|method| method.trim_start_matches("/coffer.v1."))
                .collect();
            listed.sort_unstable();
            assert_eq!(
                written, listed,
                "{role}: docs/threat-model.md is to have the table that `coffer prove isolation` prints"
            );
        }
    }
}
