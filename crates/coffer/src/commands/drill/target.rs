//! What a drill breaks: zones of a role, taken away through its local socket, and roles, killed.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use base::Role;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};
use wire::v1::{DrillZoneRequest, StatusResponse};

use crate::cli::Drill;
use crate::failure::{Exit, Failure, Outcome};
use crate::layout::Layout;
use crate::operator;

/// For how long a zone is taken away at once. Said again all the time; when nobody does any more, it is back after this.
const LEASE: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(500);
/// How long a role may take for an answer on its local socket.
const ANSWER: Duration = Duration::from_secs(5);
/// How long the zones' return is tried.
const RETURN: Duration = Duration::from_secs(60);
/// How long a start is waited for that is nearly over.
const START: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(100);

/// What is to be broken.
pub(super) struct Target {
    layout: Layout,
    endpoint: String,
    supervisor: i32,
    role: Role,
    absence: &'static str,
    zones: Vec<String>,
    roles: Vec<Role>,
}

/// What was broken.
pub(super) struct Broken {
    at: Instant,
    /// Whether zones are away: until they are back nothing can be whole.
    zones: bool,
    /// Roles that were killed, with the number of the process that was.
    roles: BTreeMap<Role, u32>,
}

impl Broken {
    /// From when on it could be whole again, the zones having been back at `back`.
    pub(super) fn mended_from(&self, back: Instant) -> Instant {
        if self.zones { back } else { self.at }
    }
}

/// A process that is to be killed.
pub(super) struct Victim(Role, Pid);

impl Victim {
    /// SIGKILL.
    fn kill(self) -> Outcome {
        kill(self.1, Signal::SIGKILL).map_err(|error| Failure::new(Exit::Failed, format!("could not kill the {} role", self.0)).why(error))
    }
}

impl Target {
    /// Finds what is meant in the running installation, and refuses where something is broken already.
    pub(super) async fn find(layout: &Layout, args: &Drill) -> Outcome<Self> {
        let what = "could not begin the drill";
        let status = operator::status(layout, args.role, ANSWER).await;
        let status = status.map_err(|status| operator::failure(what, &status))?;
        let Some((supervisor, endpoint)) = served(layout, status.pid).await else {
            return Err(Failure::new(Exit::Temporary, what)
                .why("the installation has not started, or not all of it")
                .next("wait until `coffer serve` says where it serves"));
        };
        let mut target = Self {
            layout: layout.clone(),
            endpoint,
            supervisor,
            role: args.role,
            absence: args.how.as_str(),
            zones: Vec::new(),
            roles: Vec::new(),
        };
        for name in &args.kill {
            if status.zones.iter().any(|zone| zone.name == *name) {
                target.zones.push(name.clone());
            } else if let Ok(role) = name.parse() {
                target.roles.push(role);
            } else {
                let zones: Vec<&str> = status.zones.iter().map(|zone| zone.name.as_str()).collect();
                return Err(Failure::new(
                    Exit::NotFound,
                    format!("{name:?} is no zone of the {} role, and no role", args.role),
                )
                .why(format!(
                    "its zones are {}; the roles are {}",
                    if zones.is_empty() { "none".to_owned() } else { zones.join(", ") },
                    Role::ALL.map(Role::as_str).join(", ")
                ))
                .next("give one of these; --role says whose zones are meant"));
            }
        }
        if let Some(reason) = unwell(&status) {
            return Err(Failure::new(Exit::Temporary, what)
                .why(format!("the {} role is not whole as it is: {reason}", args.role))
                .next("`coffer doctor` says how the zones and roles are"));
        }
        Ok(target)
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(super) fn role(&self) -> Role {
        self.role
    }

    /// What is broken, as a line for a person.
    pub(super) fn in_words(&self, length: Duration) -> String {
        let zones = match self.zones.len() {
            0 => None,
            many => Some(format!(
                "zone{} {} of the {} role {} away for {} ({})",
                if many == 1 { "" } else { "s" },
                self.zones.join(", "),
                self.role,
                if many == 1 { "is" } else { "are" },
                humantime::format_duration(length),
                self.absence
            )),
        };
        let roles =
            (!self.roles.is_empty()).then(|| format!("killed: {}", self.roles.iter().map(Role::to_string).collect::<Vec<_>>().join(", ")));
        zones.into_iter().chain(roles).collect::<Vec<_>>().join("; ")
    }

    /// Takes the zones away and kills the roles.
    pub(super) async fn begin(&self) -> Outcome<Broken> {
        let mut victims = Vec::new();
        for role in &self.roles {
            victims.push(self.victim(*role).await?);
        }
        self.take_away().await?;
        self.kill(victims)
    }

    /// Kills them, in this order.
    pub(super) fn kill(&self, victims: Vec<Victim>) -> Outcome<Broken> {
        let mut roles = BTreeMap::new();
        for victim in victims {
            roles.insert(victim.0, victim.1.as_raw().unsigned_abs());
            victim.kill()?;
        }
        Ok(self.broken(roles))
    }

    fn broken(&self, roles: BTreeMap<Role, u32>) -> Broken {
        Broken {
            at: Instant::now(),
            zones: !self.zones.is_empty(),
            roles,
        }
    }

    /// Takes the zones away, for as long as a lease.
    pub(super) async fn take_away(&self) -> Outcome {
        self.say_to_zones(LEASE).await
    }

    /// Keeps the zones away, over restarts of the role as well. Ends with a failure only.
    pub(super) async fn stay_away(&self) -> Outcome {
        loop {
            sleep(AGAIN).await;
            match self.say_to_zones(LEASE).await {
                // It is being started again; it will be told once it is there.
                Err(failure) if failure.exit != Exit::Temporary => return Err(failure),
                _ => {}
            }
        }
    }

    /// Brings the zones back, and says when they were.
    pub(super) async fn bring_back(&self) -> Outcome<Instant> {
        let deadline = Instant::now() + RETURN;
        loop {
            match self.say_to_zones(Duration::ZERO).await {
                Err(failure) if failure.exit == Exit::Temporary && Instant::now() < deadline => sleep(LOOK).await,
                Err(failure) => return Err(failure.next(format!("a zone that is away is back by itself after {} s", LEASE.as_secs()))),
                Ok(()) => return Ok(Instant::now()),
            }
        }
    }

    async fn say_to_zones(&self, within: Duration) -> Outcome {
        for zone in &self.zones {
            let what = format!("could not take zone {zone} of the {} role away, or bring it back", self.role);
            let request = DrillZoneRequest {
                zone: zone.clone(),
                absence: self.absence.to_owned(),
                seconds: u32::try_from(within.as_secs()).unwrap_or_default(),
            };
            let mut role = operator::role(&self.layout, self.role);
            let told = tokio::time::timeout(ANSWER, role.drill_zone(request)).await;
            told.unwrap_or_else(|_| Err(tonic::Status::unavailable("no answer")))
                .map_err(|status| operator::failure(&what, &status))?;
        }
        Ok(())
    }

    /// Whom to kill at the end: the role whose zones are away, and the one that will count.
    pub(super) async fn victims(&self) -> Outcome<Vec<Victim>> {
        let mut roles = vec![self.role];
        if self.role != Role::Warehouse {
            roles.push(Role::Warehouse);
        }
        let mut victims = Vec::new();
        for role in roles {
            victims.push(self.victim(role).await?);
        }
        Ok(victims)
    }

    async fn victim(&self, role: Role) -> Outcome<Victim> {
        let what = format!("could not kill the {role} role");
        let status = self.status(role).await.map_err(|status| operator::failure(&what, &status))?;
        let pid = i32::try_from(status.pid).ok().filter(|pid| *pid > 1);
        // A number alone may be somebody else's by now, so it has to be a child of the supervisor.
        match pid.filter(|pid| parent(*pid) == Some(self.supervisor)) {
            Some(pid) => Ok(Victim(role, Pid::from_raw(pid))),
            None => Err(Failure::new(Exit::Failed, what).why("its process was not started by the supervisor of this data directory")),
        }
    }

    /// Waits until nothing waits for any zone and every role that was killed is ready; when that was.
    pub(super) async fn is_whole(&self, broken: &Broken) -> Instant {
        while let Some(_missing) = self.what_is_missing(broken).await {
            sleep(LOOK).await;
        }
        Instant::now()
    }

    /// What is not whole, in words.
    pub(super) async fn missing(&self, broken: &Broken) -> String {
        self.what_is_missing(broken).await.unwrap_or_else(|| "now it is".to_owned())
    }

    async fn what_is_missing(&self, broken: &Broken) -> Option<String> {
        let mut roles = broken.roles.clone();
        roles.entry(self.role).or_default();
        for (role, before) in roles {
            let missing = match self.status(role).await {
                Ok(status) if status.pid == before => Some("the process that was killed answers".to_owned()),
                Ok(status) => unwell(&status),
                Err(status) => Some(status.message().to_owned()),
            };
            if let Some(missing) = missing {
                return Some(format!("{role}: {missing}"));
            }
        }
        None
    }

    async fn status(&self, role: Role) -> Result<StatusResponse, tonic::Status> {
        operator::status(&self.layout, role, ANSWER).await
    }
}

/// Who supervises the process of a role, and where the installation serves: the last thing that is written at a start.
async fn served(layout: &Layout, role: u32) -> Option<(i32, String)> {
    let deadline = Instant::now() + START;
    loop {
        let serving: serde_json::Value = fs::read(layout.serving())
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        let supervisor = serving["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
        // What an earlier supervisor wrote, who was killed, is about other processes.
        let current = supervisor.filter(|_| i32::try_from(role).ok().and_then(parent) == supervisor);
        match (current, serving["endpoint"].as_str()) {
            (Some(supervisor), Some(endpoint)) => return Some((supervisor, endpoint.to_owned())),
            _ if Instant::now() >= deadline => return None,
            _ => sleep(LOOK).await,
        }
    }
}

/// Why a role is not whole, if it is not.
fn unwell(status: &StatusResponse) -> Option<String> {
    if !status.not_ready.is_empty() {
        return Some(format!("not ready: {}", status.not_ready));
    }
    status.zones.iter().find_map(|zone| match zone.waiting {
        _ if !zone.up => Some(format!("zone {} is down: {}", zone.name, zone.detail)),
        0 if zone.detail.is_empty() => None,
        0 => Some(format!("zone {}: {}", zone.name, zone.detail)),
        many => Some(format!("{many} objects wait for zone {}", zone.name)),
    })
}

/// The parent of a process. The name in the second field may hold anything, so fields are counted from behind it.
fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use wire::v1::ZoneStatus;

    use super::*;

    #[test]
    fn a_role_is_whole_once_nothing_waits_for_any_zone() {
        let zone = |up, waiting, detail: &str| ZoneStatus {
            name: "b".into(),
            up,
            detail: detail.into(),
            waiting,
        };
        let role = |not_ready: &str, zone: ZoneStatus| StatusResponse {
            not_ready: not_ready.into(),
            zones: vec![zone],
            ..StatusResponse::default()
        };
        assert_eq!(unwell(&role("", zone(true, 0, ""))), None);
        for unwhole in [
            role("starting", zone(true, 0, "")),
            role("", zone(false, 0, "")),
            role("", zone(true, 3, "")),
            role("", zone(true, 0, "catching up")),
        ] {
            assert!(unwell(&unwhole).is_some(), "{unwhole:?}");
        }
    }

    #[test]
    fn a_process_that_is_not_the_supervisors_is_not_killed() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert_eq!(parent(child.id() as i32), Some(std::process::id() as i32));
        assert_ne!(parent(std::process::id() as i32), Some(std::process::id() as i32));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
