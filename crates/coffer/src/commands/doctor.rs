//! `coffer doctor`: what runs, what is enforced, what is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use base::{Clock, Role, SystemClock, Timestamp};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use wire::v1::StatusResponse;

use super::tables::in_words;
use crate::cli::Doctor;
use crate::failure::{Exit, Failure, Outcome};
use crate::layout::Layout;
use crate::output::{self, Format};
use crate::supervise::end_of;
use crate::users::users_of;
use crate::{memory, operator, terminal};

const PATIENCE: Duration = Duration::from_secs(5);
/// A role renews its certificate at half of its 24 hours; with less than this left, something keeps it from doing so.
const ROLE_MARGIN: Duration = Duration::from_secs(4 * 3600);
const PUBLIC_MARGIN: Duration = Duration::from_secs(7 * 24 * 3600);

/// One thing that was looked at.
struct Finding {
    about: String,
    good: bool,
    says: String,
}

/// Looks at everything; fails when something is wrong.
pub(crate) async fn run(args: Doctor) -> Outcome {
    let layout = Layout::at(&args.data.data)?;
    let now = SystemClock.now();
    let format = Format::chosen(args.output);
    let mut findings = Vec::new();
    let mut pids = Vec::new();
    let mut running = Vec::new();
    let serving: Value = fs::read(layout.serving())
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default();
    let asked = futures::future::join_all(Role::ALL.map(|role| operator::status(&layout, role, PATIENCE))).await;
    for (role, status) in Role::ALL.into_iter().zip(asked) {
        match status {
            Ok(status) => {
                pids.push(status.pid);
                running.push((role, status.pid));
                let stores = &serving["stores"][role.as_str()];
                examine(role, &status, stores, format, now, &mut findings);
            }
            Err(status) => findings.push(Finding {
                about: role.to_string(),
                good: false,
                says: format!("does not run: {}", status.message()),
            }),
        }
    }
    users(&serving, &running, &mut findings);
    supervisor(&serving, &mut pids, now, &mut findings);
    findings.push(Finding {
        about: "memory".into(),
        good: true,
        says: format!("{} in all, counting what they share once", in_words(memory::together(pids))),
    });
    certificates(&layout, now, &mut findings);

    let mut rows = output::to_stdout(format, true, &["about", "state", "says"]);
    let wrong = findings.iter().filter(|finding| !finding.good).count();
    for finding in findings {
        let state = if finding.good { "ok" } else { "wrong" };
        rows.row(vec![json!(finding.about), json!(state), json!(finding.says)])?;
    }
    rows.finish()?;
    if wrong > 0 {
        return Err(Failure::new(Exit::Failed, format!("{wrong} things are wrong"))
            .next("the lines marked `wrong` say what; the logs of the roles say more"));
    }
    terminal::say("all is well");
    Ok(())
}

fn examine(role: Role, status: &StatusResponse, stores: &Value, format: Format, now: Timestamp, findings: &mut Vec<Finding>) {
    let mut add = |about: String, good, says| findings.push(Finding { about, good, says });
    let since = Timestamp::from_micros(status.started_at);
    let ready = if status.not_ready.is_empty() {
        "ready".to_owned()
    } else {
        format!("not ready: {}", status.not_ready)
    };
    add(
        role.to_string(),
        status.not_ready.is_empty(),
        format!("{ready}, pid {}, since {since}, {}", status.pid, in_words(status.resident_bytes)),
    );
    let enforced = match (status.enforced.len(), format) {
        (0, _) => "nothing".to_owned(),
        // People want to know whether; programs, what.
        (many, Format::Table) => format!("{many} restrictions"),
        _ => status.enforced.join("; "),
    };
    // What a kernel cannot do is not wrong, but it is said.
    let missing = if status.not_enforced.is_empty() {
        String::new()
    } else {
        format!(" · not enforced: {}", status.not_enforced.join("; "))
    };
    add(
        format!("{role} sandbox"),
        !status.enforced.is_empty(),
        format!("enforced: {enforced}{missing}"),
    );
    if status.certificate_expires_at > 0 {
        let ends = Timestamp::from_micros(status.certificate_expires_at);
        add(format!("{role} certificate"), ends.since(now) > ROLE_MARGIN, format!("ends {ends}"));
    }
    for zone in &status.zones {
        let state = if zone.up { "up" } else { "down" };
        let detail = if zone.detail.is_empty() {
            String::new()
        } else {
            format!(": {}", zone.detail)
        };
        let waiting = if zone.waiting == 0 {
            String::new()
        } else {
            format!(", {} objects still to be copied there", zone.waiting)
        };
        let place = stores[&zone.name].as_str().map(|url| format!(" in {url}")).unwrap_or_default();
        add(
            format!("{role} zone {}", zone.name),
            zone.up,
            format!("{state}{place}{detail}{waiting}"),
        );
    }
}

/// Who the roles are to the kernel, as it says itself.
fn users(serving: &Value, running: &[(Role, u32)], findings: &mut Vec<Finding>) {
    let ids: BTreeMap<Role, BTreeSet<u32>> = running
        .iter()
        .filter_map(|(role, pid)| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            Some((*role, users_of(&status)?.into_iter().collect()))
        })
        .collect();
    if ids.is_empty() {
        return;
    }
    let distinct: BTreeSet<u32> = ids.values().flatten().copied().collect();
    let own = ids.values().all(|ids| ids.len() == 1) && distinct.len() == ids.len();
    let list = |ids: &BTreeSet<u32>| ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" and ");
    let why = serving["one_user"].as_str();
    let (good, says) = match why {
        None if own => {
            let each: Vec<_> = ids.iter().map(|(role, ids)| format!("{role} {}", list(ids))).collect();
            (true, format!("each role is a user of its own: {}", each.join(", ")))
        }
        None if ids.len() > 1 => (false, format!("some roles share a user id: {}", list(&distinct))),
        None => return,
        // Not wrong, but it is said.
        Some(why) => (true, format!("all roles run under one user id ({}): {why}", list(&distinct))),
    };
    findings.push(Finding {
        about: "users".into(),
        good,
        says,
    });
}

fn supervisor(serving: &Value, pids: &mut Vec<u32>, now: Timestamp, findings: &mut Vec<Finding>) {
    let Some(pid) = serving["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()) else {
        return;
    };
    let memory = memory::together([pid]);
    if memory == 0 {
        return findings.push(Finding {
            about: "supervisor".into(),
            good: false,
            says: format!("process {pid} is gone"),
        });
    }
    pids.push(pid);
    let endpoint = serving["endpoint"].as_str().unwrap_or("?");
    findings.push(Finding {
        about: "supervisor".into(),
        good: true,
        says: format!("pid {pid}, serves {endpoint}, {}", in_words(memory)),
    });
    if let Some(ends) = serving["public_certificate_ends"].as_i64().map(Timestamp::from_micros) {
        findings.push(Finding {
            about: "public certificate".into(),
            good: ends.since(now) > PUBLIC_MARGIN,
            says: format!("ends {ends}"),
        });
    }
}

fn certificates(layout: &Layout, now: Timestamp, findings: &mut Vec<Finding>) {
    let ends = CertificateDer::from_pem_file(layout.ca()).ok().and_then(|der| end_of(&der));
    let (good, says) = match ends {
        Some(ends) => (ends > now, format!("ends {ends}")),
        None => (false, "ca.pem cannot be read".into()),
    };
    findings.push(Finding {
        about: "CA certificate".into(),
        good,
        says,
    });
}
