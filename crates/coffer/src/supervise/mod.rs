//! The supervisor: all roles of one machine, started in order, restarted when they die, stopped in reverse.
//!
//! Promise: a data directory is run by one supervisor at a time, and by no role of an earlier one. The lock on it is inherited by every role,
//! so it is free only when the last of them is gone; a role ends at once when its standard input does, that is, when the supervisor is gone
//! however it died. The same holds for each zone that is a directory here, whichever data directory it serves. (Not by PR_SET_PDEATHSIG: that is tied to the thread that started the role, and races with a death before it is set.)
//!
//! Start at [`Supervisor::started`]. Does not know what a role does.

mod breach;
mod certificate;
mod child;
mod hosts;
mod listeners;
mod prove;
mod rebuild;
mod signals;
mod zones;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Role, SystemClock, Timestamp};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

pub(crate) use breach::{Breaching, Signing};
pub(crate) use certificate::end_of;
pub(crate) use prove::{Proving, Shown};
pub(crate) use rebuild::Rebuilding;
pub(crate) use signals::asked_to_stop;

use crate::config::Config;
use crate::failure::{Exit, Failure, Outcome};
use crate::layout::{Layout, Lock};
use crate::logging::Logging;
use crate::operator;
use crate::users::{self, Users};
use listeners::Listeners;
use zones::Holds;

/// How long a role may take until it is ready before the next one is started all the same.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often a role may end before it was ever ready until the start as a whole has failed.
const HOPELESS: u32 = 5;
/// How often it is looked whether the vault is still sealed.
const LOOK_AT_SEAL: Duration = Duration::from_millis(250);
/// How long a role may take to stop: what is under way may take 30 seconds.
const STOPPING: Duration = Duration::from_secs(35);

/// What every keeper of a role shares.
#[derive(Debug)]
struct Shared {
    layout: Layout,
    lock: Lock,
    zones: Holds,
    users: Users,
    config: Config,
    listeners: Listeners,
    logging: Logging,
    clock: Arc<dyn Clock>,
    /// When the public certificate ends, for `coffer doctor`.
    public_certificate_ends: Mutex<Option<Timestamp>>,
}

/// How far a role is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Starting,
    Ready,
    /// It ended too often before it was ready.
    Hopeless(String),
    Stopped,
}

/// One role under supervision.
#[derive(Debug)]
struct Kept {
    stop: watch::Sender<bool>,
    phase: watch::Receiver<Phase>,
    task: JoinHandle<()>,
}

/// A running installation.
#[derive(Debug)]
pub(crate) struct Supervisor {
    shared: Arc<Shared>,
    kept: BTreeMap<Role, Kept>,
}

/// What is needed to start; made before the async runtime, because it waits for the lock.
#[derive(Debug)]
pub(crate) struct Prepared(Shared);

impl Prepared {
    /// Takes the data directory and binds every listener.
    pub(crate) fn new(layout: Layout, config: Config, logging: Logging) -> Outcome<Self> {
        users::check_owner(&layout)?;
        layout.make()?;
        let lock = layout.lock()?;
        for role in Role::ALL {
            layout.make_role(role, role != Role::Gateway && !has_zones(&config, role))?;
        }
        let zones = Holds::take(&config, &layout)?;
        let users = Users::choose(&config.shape.users, &layout)?;
        users.settle(&config, &layout, &Role::ALL)?;
        let listeners = Listeners::bind(&config.shape.listen, &layout)?;
        let clock = Arc::new(SystemClock);
        Ok(Self(Shared {
            layout,
            lock,
            zones,
            users,
            config,
            listeners,
            logging,
            clock,
            public_certificate_ends: Mutex::default(),
        }))
    }
}

impl Supervisor {
    /// Nothing runs yet.
    pub(crate) fn new(prepared: Prepared) -> Self {
        Self {
            shared: Arc::new(prepared.0),
            kept: BTreeMap::new(),
        }
    }

    /// Starts every role and waits until all are ready, or as ready as they get. After a failure, and when given up, it has to be stopped.
    pub(crate) async fn start(&mut self) -> Outcome {
        for role in Role::ALL {
            let (stop, stopping) = watch::channel(false);
            let (phases, phase) = watch::channel(Phase::Starting);
            let task = tokio::spawn(child::keep(role, Arc::clone(&self.shared), stopping, phases));
            self.kept.insert(
                role,
                Kept {
                    stop,
                    phase: phase.clone(),
                    task,
                },
            );
            if role == Role::Vault {
                self.unsealed(phase.clone()).await;
            }
            self.first_ready(role, phase).await?;
        }
        self.write_serving().await
    }

    /// Starts, and stops again when that fails or when `stopping` ends first; whether it runs.
    pub(crate) async fn started(prepared: Prepared, stopping: impl Future<Output = Outcome>) -> Outcome<Option<Self>> {
        let mut supervisor = Self::new(prepared);
        let started = tokio::select! {
            started = supervisor.start() => started.map(|()| true),
            asked = stopping => asked.map(|()| false),
        };
        if let Ok(true) = started {
            return Ok(Some(supervisor));
        }
        supervisor.stop().await;
        started.map(|_| None)
    }

    /// `https://` and where the gateway listens, by a name its certificate has.
    pub(crate) fn endpoint(&self) -> String {
        let address = self.shared.listeners.public_address;
        match address.ip() {
            ip if ip.is_loopback() || ip.is_unspecified() => format!("https://localhost:{}", address.port()),
            _ => format!("https://{address}"),
        }
    }

    /// Every process of this installation.
    pub(crate) async fn memory(&self) -> u64 {
        let patience = Duration::from_secs(5);
        let asked = Role::ALL.map(|role| crate::operator::status(&self.shared.layout, role, patience));
        let pids = futures::future::join_all(asked)
            .await
            .into_iter()
            .flatten()
            .map(|status| status.pid);
        crate::memory::together(pids.chain([std::process::id()]))
    }

    /// Whether the roles run in a sandbox, as far as the kernel has one.
    pub(crate) fn sandbox(&self) -> crate::cli::SandboxMode {
        self.shared.config.shape.sandbox
    }

    /// Why the roles are not users of their own, if they are not.
    pub(crate) fn one_user(&self) -> Option<&str> {
        self.shared.users.missing()
    }

    /// Stops all roles, the last started first. What is under way is finished.
    pub(crate) async fn stop(self) {
        for role in Role::ALL.into_iter().rev() {
            let Some(kept) = self.kept.get(&role) else { continue };
            kept.stop.send_replace(true);
            let mut phase = kept.phase.clone();
            // Its keeper gives it STOPPING and then ends it; the margin is for a keeper that is waiting for something else.
            let stopped = phase.wait_for(|phase| *phase == Phase::Stopped || matches!(phase, Phase::Hopeless(_)));
            let patience = tokio::time::timeout(STOPPING + Duration::from_secs(5), stopped);
            if !matches!(patience.await, Ok(Ok(_))) {
                tracing::error!(role = %role, "the {role} role did not stop");
                kept.task.abort();
            }
        }
        let _ = tokio::fs::remove_file(self.shared.layout.serving()).await;
    }

    /// Waits as long as the vault waits for shares, and says so.
    async fn unsealed(&self, mut phase: watch::Receiver<Phase>) {
        let begun = tokio::time::Instant::now();
        let mut said = false;
        while *phase.borrow_and_update() == Phase::Starting {
            match operator::sealed(&self.shared.layout).await {
                Some(_) if said => {}
                Some(shares) => {
                    said = true;
                    tracing::warn!(
                        "THE VAULT IS SEALED: {shares}, with --data {}; nothing else starts before",
                        self.shared.layout.root().display()
                    );
                }
                None if said || begun.elapsed() > PATIENCE => return,
                None => {}
            }
            let _ = tokio::time::timeout(LOOK_AT_SEAL, phase.changed()).await;
        }
    }

    async fn first_ready(&self, role: Role, mut phase: watch::Receiver<Phase>) -> Outcome {
        let settled = tokio::time::timeout(PATIENCE, phase.wait_for(|phase| *phase != Phase::Starting)).await;
        match settled.map(|phase| phase.map(|p| p.clone())) {
            Ok(Ok(Phase::Ready)) => Ok(()),
            Ok(Ok(Phase::Hopeless(why))) => Err(Failure::new(Exit::Failed, format!("the {role} role does not start"))
                .why(why)
                .next("its own lines above say more; `coffer config check` looks at the configuration")),
            Ok(_) => Err(Failure::new(Exit::Failed, format!("the {role} role was stopped while it started"))),
            Err(_) => {
                tracing::warn!(role = %role, "the {role} role is not ready after {} s, going on", PATIENCE.as_secs());
                Ok(())
            }
        }
    }

    /// Where things are, for the operator's other commands.
    async fn write_serving(&self) -> Outcome {
        let shared = &self.shared;
        let ends = *shared.public_certificate_ends.lock().await;
        let serving = serde_json::json!({
            "pid": std::process::id(),
            "endpoint": self.endpoint(),
            "public": shared.listeners.public_address.to_string(),
            "plain": shared.listeners.plain_address.map(|address| address.to_string()),
            "internal": shared.listeners.peers,
            "stores": stores(&shared.config),
            "one_user": shared.users.missing(),
            "sandbox": shared.config.shape.sandbox,
            "users": shared.users,
            "public_certificate_ends": ends.map(Timestamp::as_micros),
        });
        crate::layout::write_private(&shared.layout.serving(), format!("{serving:#}\n").as_bytes())
    }
}

/// Where the zones of each role lie that are in stores.
fn stores(config: &Config) -> BTreeMap<Role, BTreeMap<&str, &str>> {
    let mut stores: BTreeMap<Role, BTreeMap<&str, &str>> = BTreeMap::new();
    for (role, settings) in config.shape.zones() {
        let of_role = settings
            .zones
            .iter()
            .filter_map(|zone| Some((zone.name.as_str(), zone.url.as_deref()?)));
        stores.insert(role, of_role.collect());
    }
    stores
}

/// Whether the operator placed a role's zones.
fn has_zones(config: &Config, role: Role) -> bool {
    let zones = config.part(role).get("zones").and_then(|zones| zones.get("zones").cloned());
    zones
        .and_then(|zones| zones.as_array().map(|list| !list.is_empty()))
        .unwrap_or(false)
}
