//! The roles started to rebuild: each as for serving, in its sandbox and under its certificate, but told to rebuild and to serve nobody.
//!
//! Promise: nothing listens to the world meanwhile, no gateway runs, and no role is started again that ended: whoever asked is told.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::{Role, SystemClock};
use edge::rebuild::Order;
use tokio::process::{Child, ChildStdin};
use tokio::sync::Mutex;
use tonic::{Code, Response};
use wire::v1::rebuild_operator_client::RebuildOperatorClient;
use wire::v1::{RebuildLookRequest, RebuildLookResponse};

use super::child::{end, handover, in_words, settings, spawn};
use super::listeners::Listeners;
use super::zones::Holds;
use super::{PATIENCE, Shared};
use crate::config::Config;
use crate::failure::{During, Exit, Failure, Outcome};
use crate::layout::Layout;
use crate::logging::Logging;
use crate::users::{self, Users};
use crate::{operator, terminal};

/// Those who own something, in the order in which they are started: each needs those before it.
const ROLES: [Role; 4] = [Role::Vault, Role::Accounts, Role::Identity, Role::Warehouse];
/// A role that does not answer for so long is looked after: it may have ended, and its listener is ours.
const ANSWER: Duration = Duration::from_secs(2);

/// The roles of a stopped installation, being rebuilt.
pub(crate) struct Rebuilding {
    shared: Arc<Shared>,
    order: Order,
    running: Vec<Running>,
}

struct Running {
    role: Role,
    child: Child,
    /// Its end tells the role that we are gone.
    _pipe: ChildStdin,
}

impl Rebuilding {
    /// Takes the data directory; nothing runs yet. Of zones that are `lost` empty ones are put in their places.
    pub(crate) fn prepare(layout: Layout, config: Config, logging: Logging, order: Order, lost: &[String]) -> Outcome<Self> {
        let nothing = |path: &Path| Failure::new(Exit::NotFound, format!("there is no installation at {}", path.display()));
        if !layout.root().is_dir() {
            return Err(nothing(layout.root()).next("give its directory with --data"));
        }
        users::check_owner(&layout)?;
        let lock = layout.lock()?;
        layout.make()?;
        for role in ROLES {
            layout.make_role(role, false)?;
        }
        let listeners = Listeners::inner(&config.shape.listen, &layout, &ROLES)?;
        let zones_held = Holds::take(&config, &layout)?;
        let users = Users::choose(&config.shape.users, &layout)?;
        let shared = Shared {
            layout,
            lock,
            zones: zones_held,
            users,
            config,
            listeners,
            logging,
            clock: Arc::new(SystemClock),
            public_certificate_ends: Mutex::default(),
        };
        for role in ROLES {
            let settings = settings(role, &shared)?;
            let (zones, stores) = (zones(&settings), in_stores(&settings));
            if let Some(name) = stores.iter().find(|name| lost.contains(name)) {
                return Err(Failure::new(Exit::Usage, format!("zone {name} of the {role} role is in a store"))
                    .why("--lost makes empty directories only")
                    .next(format!(
                        "empty its place in the store, put an object `adopt-as-{name}` there, and leave it out of --lost"
                    )));
            }
            // What a store holds is seen when the role asks it.
            if stores.is_empty() && !zones.iter().any(|(_, path)| is_zone(path)) {
                return Err(Failure::new(Exit::NotFound, format!("no zone of the {role} role is there"))
                    .why(
                        zones
                            .iter()
                            .map(|(_, path)| path.display().to_string())
                            .collect::<Vec<_>>()
                            .join(", "),
                    )
                    .next("bring one of them back; give the installation's directory with --data and its configuration with --config"));
            }
            for (name, path) in zones.iter().filter(|(name, _)| lost.contains(name)) {
                replace(role, name, path)?;
            }
        }
        shared.users.settle(&shared.config, &shared.layout, &ROLES)?;
        Ok(Self {
            shared: Arc::new(shared),
            order,
            running: Vec::new(),
        })
    }

    /// The roles that rebuild, in their order.
    pub(crate) fn roles() -> [Role; 4] {
        ROLES
    }

    /// Starts a role, and waits until it can be looked at.
    pub(crate) async fn start(&mut self, role: Role) -> Outcome {
        let prepared = handover(role, &self.shared, Some(self.order)).await?;
        let (child, pipe) = spawn(role, &self.shared, &prepared.handover).await?;
        drop(prepared);
        self.running.push(Running { role, child, _pipe: pipe });
        let begun = tokio::time::Instant::now();
        let mut said = role != Role::Vault;
        loop {
            self.check()?;
            if self.look(role, 0).await?.is_some() {
                return Ok(());
            }
            if !said && let Some(shares) = operator::sealed(&self.shared.layout).await {
                said = true;
                terminal::say(format_args!("the vault is sealed: {shares}"));
            }
            // The vault reads its journal before it answers: as long as it lives, it is at work.
            if role != Role::Vault && begun.elapsed() > PATIENCE * 6 {
                return Err(Failure::new(Exit::Temporary, format!("the {role} role does not answer")));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// How far a role is, with what it found from finding number `from` on; `None` when it does not answer yet.
    pub(crate) async fn look(&mut self, role: Role, from: u64) -> Outcome<Option<RebuildLookResponse>> {
        self.check()?;
        let mut client = RebuildOperatorClient::new(edge::operator_channel(self.shared.layout.short_socket(role)));
        let asked = tokio::time::timeout(ANSWER, client.look(RebuildLookRequest { from })).await;
        match asked.map(|answer| answer.map(Response::into_inner)) {
            Ok(Ok(answer)) => Ok(Some(answer)),
            Err(_) => Ok(None),
            // A sealed vault has nothing to look at.
            Ok(Err(status)) if matches!(status.code(), Code::Unavailable | Code::Unimplemented) => Ok(None),
            Ok(Err(status)) => Err(operator::failure(&format!("could not look how far the {role} role is"), &status)),
        }
    }

    /// Stops all, the last started first.
    pub(crate) async fn stop(mut self) {
        for running in self.running.iter_mut().rev() {
            end(running.role, &mut running.child).await;
        }
    }

    /// Whether all that were started still run.
    fn check(&mut self) -> Outcome {
        for running in &mut self.running {
            let role = running.role;
            let Some(status) = running.child.try_wait().during(format!("could not ask after the {role} role"))? else {
                continue;
            };
            let exit = match status.code() {
                Some(code) if code == Exit::Unverified as i32 => Exit::Unverified,
                Some(code) if code == Exit::NotFound as i32 => Exit::NotFound,
                Some(code) if code == Exit::Temporary as i32 => Exit::Temporary,
                _ => Exit::Failed,
            };
            return Err(Failure::new(exit, format!("the {role} role ended: {}", in_words(Ok(status))))
                .next("its own lines above say why; mend that and run the same command again, it goes on where it was"));
        }
        Ok(())
    }
}

/// Name and directory of each zone that a role is to have.
fn zones(settings: &serde_json::Value) -> Vec<(String, PathBuf)> {
    let zones = settings["zones"]["zones"].as_array().map(Vec::as_slice).unwrap_or_default();
    let zone = |zone: &serde_json::Value| Some((zone["name"].as_str()?.to_owned(), PathBuf::from(zone["path"].as_str()?)));
    zones.iter().filter_map(zone).collect()
}

/// Names of zones that lie in stores.
fn in_stores(settings: &serde_json::Value) -> Vec<String> {
    let zones = settings["zones"]["zones"].as_array().map(Vec::as_slice).unwrap_or_default();
    let stored = zones.iter().filter(|zone| zone["url"].is_string());
    stored.filter_map(|zone| Some(zone["name"].as_str()?.to_owned())).collect()
}

fn is_zone(path: &Path) -> bool {
    path.join("zone.json").is_file()
}

/// An empty zone in a lost one's place, in the way that an operator would put it there. One that is there stays.
fn replace(role: Role, name: &str, path: &Path) -> Outcome {
    let what = || format!("could not put an empty zone {name} of the {role} role at {}", path.display());
    if is_zone(path) {
        return Ok(());
    }
    if !path.exists() {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new().mode(0o700).create(path).during(what())?;
    }
    let word = format!("adopt-as-{name}");
    let foreign = fs::read_dir(path).during(what())?.flatten().find(|entry| {
        let entry = entry.file_name();
        entry != word.as_str() && !entry.to_string_lossy().starts_with('.') && entry != "lost+found"
    });
    if let Some(entry) = foreign {
        return Err(Failure::new(Exit::Conflict, what())
            .why(format!("there is something, such as {}", entry.file_name().display()))
            .next("move it away if it is not the zone's; a zone that is only damaged is mended by itself"));
    }
    let word = path.join(word);
    // Made anew or there as a plain file: a link would be followed to whatever it names.
    match fs::OpenOptions::new().write(true).create_new(true).open(&word) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && word.symlink_metadata().is_ok_and(|meta| meta.is_file()) => {}
        Err(error) => return Err(error).during(what()),
    }
    terminal::say(format_args!(
        "zone {name} of the {role} role begins empty and is filled from the others"
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_zone_is_put_only_where_there_is_nothing() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        replace(Role::Vault, "b", &at("b")).unwrap();
        replace(Role::Vault, "b", &at("b")).unwrap();
        assert!(at("b").join("adopt-as-b").is_file());

        fs::create_dir(at("c")).unwrap();
        fs::write(at("c").join("zone.json"), "{}").unwrap();
        replace(Role::Vault, "c", &at("c")).unwrap();
        assert!(!at("c").join("adopt-as-c").exists());

        fs::create_dir(at("d")).unwrap();
        fs::write(at("d").join("letters"), "").unwrap();
        assert_eq!(replace(Role::Vault, "d", &at("d")).unwrap_err().exit, Exit::Conflict);
        assert!(!at("d").join("adopt-as-d").exists());
    }
}
