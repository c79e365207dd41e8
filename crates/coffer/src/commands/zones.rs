//! `coffer zones`: how the zones of each role are, and their scrubber, through the roles' local sockets.

mod scrub;

use std::time::Duration;

use base::{Clock, Role, SystemClock, Timestamp};
use serde_json::{Value, json};
use tonic::Status;
use wire::v1::{ScrubRun, ZoneHealth, ZonesRequest, ZonesResponse};

use super::tables::in_words;
use crate::cli::{Zones, ZonesStatus};
use crate::failure::{Exit, Failure, Outcome};
use crate::layout::Layout;
use crate::operator;
use crate::output::{self, Format};

/// How long a role may take to say how its zones are. It knows without asking them.
const PATIENCE: Duration = Duration::from_secs(5);

/// For people, who want to know whether something is wrong.
const SHORT: [&str; 8] = ["role", "zone", "state", "detail", "lag", "missing", "corrupt", "last scrub"];
/// For programs.
const LONG: [&str; 25] = [
    "role",
    "zone",
    "state",
    "detail",
    "since",
    "circuit",
    "next_try_ms",
    "lag_objects",
    "lag_bytes",
    "lag_since",
    "compared",
    "missing",
    "corrupt",
    "repaired",
    "counted_since",
    "read_p95_us",
    "scrubbing",
    "scrubbed_at",
    "scrub_full",
    "scrub_objects",
    "scrub_missing",
    "scrub_corrupt",
    "scrub_repaired",
    "scrub_foreign",
    "scrub_lost",
];

/// Shows or scrubs.
pub(crate) async fn run(args: Zones) -> Outcome {
    match args {
        Zones::Status(args) => status(args).await,
        Zones::Scrub(args) => scrub::run(args).await,
        Zones::Drill(args) => Box::pin(super::drill::run(&args)).await,
    }
}

async fn status(args: ZonesStatus) -> Outcome {
    let layout = Layout::at(&args.data.data)?;
    let format = Format::chosen(args.output);
    let asked = futures::future::join_all(Zones::roles().map(|role| {
        let layout = &layout;
        async move { (role, ask(layout, role).await) }
    }))
    .await;
    let now = SystemClock.now();
    let people = format == Format::Table;
    let mut rows = output::to_stdout(format, true, if people { &SHORT } else { &LONG });
    let mut silent: Vec<(Role, Status)> = Vec::new();
    for (role, answer) in asked {
        match answer {
            Ok(answer) => {
                for zone in &answer.zones {
                    rows.row(if people {
                        short(role, &answer, zone, now)
                    } else {
                        long(role, &answer, zone)
                    })?;
                }
            }
            Err(status) => silent.push((role, status)),
        }
    }
    rows.finish()?;
    let Some((first, status)) = silent.first() else { return Ok(()) };
    let names: Vec<&str> = silent.iter().map(|(role, _)| role.as_str()).collect();
    let what = if silent.len() == Zones::roles().count() {
        "could not ask the roles how their zones are".to_owned()
    } else {
        format!("could not ask {} how its zones are", names.join(", "))
    };
    let failure = operator::failure(&what, status);
    if failure.exit == Exit::Temporary {
        return Err(failure);
    }
    let (exit, why) = (Exit::Temporary, format!("{first}: {}", status.message()));
    Err(Failure::new(exit, what).why(why).next("`coffer doctor` says what runs"))
}

async fn ask(layout: &Layout, role: Role) -> Result<ZonesResponse, Status> {
    let mut client = operator::zones(layout, role);
    let asked = tokio::time::timeout(PATIENCE, client.status(ZonesRequest {})).await;
    asked
        .unwrap_or_else(|_| Err(Status::unavailable("no answer")))
        .map(tonic::Response::into_inner)
}

fn short(role: Role, answer: &ZonesResponse, zone: &ZoneHealth, now: Timestamp) -> Vec<Value> {
    let mut detail = zone.detail.clone();
    let mut add = |words: String| {
        if !detail.is_empty() {
            detail.push_str(", ");
        }
        detail.push_str(&words);
    };
    if zone.circuit != "closed" {
        add(format!("circuit {}, next try in {} ms", zone.circuit, zone.next_try_ms));
    }
    if zone.compare {
        add("yet to be compared with the others".into());
    }
    let lag = match zone.waiting {
        0 => "none".to_owned(),
        objects => format!(
            "{objects} objects, {} known, for {}",
            in_words(zone.waiting_bytes),
            age(now, zone.waiting_since)
        ),
    };
    let found = |found: u64| match found {
        0 => "none".to_owned(),
        found => format!("{found} since {}", Timestamp::from_micros(answer.counted_since)),
    };
    let mut corrupt = found(zone.corrupt);
    if zone.repaired > 0 {
        corrupt.push_str(&format!(" ({} of both repaired)", zone.repaired));
    }
    vec![
        json!(role.as_str()),
        json!(zone.name),
        json!(zone.state),
        json!(detail),
        json!(lag),
        json!(found(zone.missing)),
        json!(corrupt),
        json!(scrubbed(answer, &zone.name, now)),
    ]
}

/// The last scrub in words.
fn scrubbed(answer: &ZonesResponse, zone: &str, now: Timestamp) -> String {
    let under_way = if answer.scrubbing { "; one is under way" } else { "" };
    let Some(run) = &answer.last_scrub else {
        return format!("never{under_way}");
    };
    let how = if run.full { "all" } else { "a sample" };
    let Some(found) = run.zones.iter().find(|found| found.name == zone) else {
        return format!("without this zone{under_way}");
    };
    if !found.silent.is_empty() {
        return format!("{} ago, without this zone: {}{under_way}", age(now, run.ended_at), found.silent);
    }
    let mut says = format!("{} ago, {} objects, {how} read", age(now, run.ended_at), found.objects);
    for (count, what) in [
        (found.missing, "missing"),
        (found.corrupt, "corrupt"),
        (found.repaired, "repaired"),
        (count(&run.foreign), "foreign"),
        (count(&run.lost), "beyond repair"),
    ] {
        if count > 0 {
            says.push_str(&format!(", {count} {what}"));
        }
    }
    says + under_way
}

fn count(names: &Option<wire::v1::ScrubNames>) -> u64 {
    names.as_ref().map_or(0, |names| names.count)
}

fn age(now: Timestamp, then: i64) -> String {
    let seconds = now.since(Timestamp::from_micros(then)).as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn long(role: Role, answer: &ZonesResponse, zone: &ZoneHealth) -> Vec<Value> {
    let when = |micros: i64| match micros {
        0 => Value::Null,
        micros => json!(Timestamp::from_micros(micros).to_string()),
    };
    let run = answer.last_scrub.as_ref();
    let found = run.and_then(|run| run.zones.iter().find(|found| found.name == zone.name));
    let of_run = |of: fn(&ScrubRun) -> Value| run.map_or(Value::Null, of);
    vec![
        json!(role.as_str()),
        json!(zone.name),
        json!(zone.state),
        json!(zone.detail),
        when(zone.since),
        json!(zone.circuit),
        json!(zone.next_try_ms),
        json!(zone.waiting),
        json!(zone.waiting_bytes),
        when(zone.waiting_since),
        json!(!zone.compare),
        json!(zone.missing),
        json!(zone.corrupt),
        json!(zone.repaired),
        when(answer.counted_since),
        if zone.read_p95_us == 0 {
            Value::Null
        } else {
            json!(zone.read_p95_us)
        },
        json!(answer.scrubbing),
        when(run.map_or(0, |run| run.ended_at)),
        of_run(|run| json!(run.full)),
        found.map_or(Value::Null, |found| json!(found.objects)),
        found.map_or(Value::Null, |found| json!(found.missing)),
        found.map_or(Value::Null, |found| json!(found.corrupt)),
        found.map_or(Value::Null, |found| json!(found.repaired)),
        of_run(|run| json!(count(&run.foreign))),
        of_run(|run| json!(count(&run.lost))),
    ]
}
