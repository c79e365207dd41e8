//! A further process for each role of a running installation, with what the role has, to attack instead of serving.
//!
//! Promise: the installation goes on undisturbed. The process is started by the code that starts the role, with the same line, and what the kernel
//! says of both is compared; its listeners are others of the same kinds, so that no call that is meant for the role goes to it. Only whoever may read
//! what the supervisor wrote for the operator can start one, and it has nothing that they have not.

mod signers;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::{Role, SystemClock};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::sync::Mutex;

pub(crate) use signers::Signing;

use super::Shared;
use super::child::{end, handover, spawn};
use super::listeners::Listeners;
use super::zones::{self, Holds};
use crate::breach::{Attempt, Came, Form, Line, Part, Place, Scene};
use crate::cli::SandboxMode;
use crate::config::Config;
use crate::failure::{During, Exit, Failure, Outcome};
use crate::layout::Layout;
use crate::logging::Logging;
use crate::operator;
use crate::users::Users;

/// How long one role's attacks may take.
const PATIENCE: Duration = Duration::from_secs(180);
/// What one role may say.
const MOST: u64 = 16 << 20;
/// Files of a directory that are attacked, beside the directory.
const FILES: usize = 8;
/// Lines of `/proc/…/status` in which a role and its double have to be the same.
const SAME: [&str; 11] = [
    "Uid:",
    "Gid:",
    "Groups:",
    "CapInh:",
    "CapPrm:",
    "CapEff:",
    "CapBnd:",
    "CapAmb:",
    "NoNewPrivs:",
    "Seccomp:",
    "Seccomp_filters:",
];

/// What the supervisor says of itself, as far as it is needed.
#[derive(Deserialize)]
pub(super) struct Serving {
    pid: i32,
    public: SocketAddr,
    plain: Option<SocketAddr>,
    pub(super) internal: BTreeMap<Role, SocketAddr>,
    pub(super) sandbox: SandboxMode,
    pub(super) users: Users,
}

impl Serving {
    /// Reads it.
    pub(super) fn of(layout: &Layout) -> Outcome<Self> {
        let what = "could not look at the running installation";
        let serving = fs::read(layout.serving()).during(what)?;
        serde_json::from_slice(&serving).map_err(|error| {
            Failure::new(Exit::Failed, what)
                .why(error)
                .next("start the installation again with this version")
        })
    }
}

/// A running installation, to be broken out of.
pub(crate) struct Breaching {
    shared: Shared,
    scene: Scene,
    pids: BTreeMap<Role, i32>,
}

/// What came of the attacks of one role.
pub(crate) struct Breached {
    pub(crate) attempts: Vec<Attempt>,
    /// In what the attacking process was not as the role is.
    pub(crate) unlike: Vec<String>,
}

impl Breaching {
    /// Looks at an installation that runs.
    pub(crate) async fn of(layout: Layout, mut config: Config, logging: Logging) -> Outcome<Self> {
        let serving = Serving::of(&layout)?;
        let mut pids = BTreeMap::new();
        for role in Role::ALL {
            let status = operator::status(&layout, role, Duration::from_secs(10)).await;
            let status = status.map_err(|status| operator::failure(&format!("the {role} role does not answer"), &status))?;
            if !status.not_ready.is_empty() {
                return Err(Failure::new(Exit::Temporary, format!("the {role} role is not ready")).why(status.not_ready));
            }
            pids.insert(role, i32::try_from(status.pid).unwrap_or_default());
        }
        config.shape.sandbox = serving.sandbox;
        let users = match &serving.users {
            Users::Own { ids, .. } => ids.clone(),
            Users::One { .. } => BTreeMap::new(),
        };
        let processes = pids.iter().map(|(role, pid)| (Some(*role), *pid)).chain([(None, serving.pid)]);
        let scene = Scene {
            users_alone: false,
            places: places(&config, &layout),
            processes: processes.collect(),
            users,
            public: std::iter::once(serving.public).chain(serving.plain).collect(),
        };
        let shared = Shared {
            lock: layout.look_at_lock()?,
            zones: Holds::look(&config, &layout),
            users: serving.users,
            listeners: Listeners::further(&layout, serving.internal)?,
            layout,
            config,
            logging,
            clock: Arc::new(SystemClock),
            public_certificate_ends: Mutex::default(),
        };
        Ok(Self { shared, scene, pids })
    }

    /// Why the roles are not users of their own, if they are not.
    pub(crate) fn one_user(&self) -> Option<&str> {
        self.shared.users.missing()
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.shared.layout
    }

    /// Lets `role` attack, with its sandbox or, `users_alone`, without.
    pub(crate) async fn attack(&self, role: Role, users_alone: bool) -> Outcome<Breached> {
        let what = format!("the attacks of the {role} role did not end well");
        let prepared = handover(role, &self.shared, None).await?;
        let mut line = prepared.handover;
        line.breach = Some(Scene {
            users_alone,
            ..self.scene.clone()
        });
        if users_alone {
            line.sandbox = SandboxMode::Off;
        }
        let (mut child, mut pipe) = spawn(role, &self.shared, &line).await?;
        drop(line);
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
        let Some(out) = child.stdout.take() else {
            return Err(Failure::new(Exit::Failed, what));
        };
        let mut attempts = Vec::new();
        let mut unlike = Vec::new();
        let (mut last, mut done) = (false, false);
        let reading = async {
            let mut lines = BufReader::new(out.take(MOST)).lines();
            while let Some(line) = lines.next_line().await.during(what.as_str())? {
                match serde_json::from_str(&line).during(what.as_str())? {
                    Line::Attempt(attempt) => attempts.push(attempt),
                    Line::Begun => {
                        // Before its attacks change what it is. Without its sandbox it is not to be the same.
                        if !users_alone {
                            unlike = self.unlike(role, pid);
                        }
                        pipe.write_all(b"\n").await.during(what.as_str())?;
                    }
                    Line::Last => last = true,
                    Line::Done => {
                        done = true;
                        break;
                    }
                }
            }
            Ok(())
        };
        let read = tokio::time::timeout(PATIENCE, reading).await;
        if done && !users_alone {
            attempts.extend(self.descriptors(role, pid)?);
        }
        // Lets go of it.
        drop(pipe);
        let ended = tokio::time::timeout(Duration::from_secs(5), child.wait()).await;
        if ended.is_err() {
            end(role, &mut child).await;
        }
        read.map_err(|_| Failure::new(Exit::Temporary, what.as_str()).why("they took too long"))??;
        // Whoever could run another program in its place is gone by then, and the attempt says so.
        if !done && !last {
            return Err(Failure::new(Exit::Failed, what).why("it ended before it had tried everything; its own lines above say why"));
        }
        Ok(Breached { attempts, unlike })
    }

    /// In what a process is not as the role that it doubles, by what the kernel says of both.
    fn unlike(&self, role: Role, double: i32) -> Vec<String> {
        let status = |pid: i32| fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let (real, double) = (status(self.pids.get(&role).copied().unwrap_or_default()), status(double));
        let line = |text: &str, name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name).map(|rest| rest.trim().to_owned()))
        };
        let differs = |name: &&&str| line(&real, name).is_none() || line(&real, name) != line(&double, name);
        let unlike = SAME.iter().filter(differs);
        unlike
            .map(|name| {
                format!(
                    "{role}: {name} {:?}, and of its double {:?}",
                    line(&real, name),
                    line(&double, name)
                )
            })
            .collect()
    }

    /// What both the role and its double have open of the installation that is not the role's own.
    fn descriptors(&self, role: Role, double: i32) -> Outcome<Vec<Attempt>> {
        let mut attempts = Vec::new();
        for pid in [self.pids.get(&role).copied().unwrap_or_default(), double] {
            let open = match fs::read_dir(format!("/proc/{pid}/fd")) {
                Ok(open) => open,
                // No other process may look, not even of the same user: only root.
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied && !nix::unistd::geteuid().is_root() => continue,
                Err(error) => return Err(error).during(format!("could not look what the {role} role has open")),
            };
            for descriptor in open {
                // It may be closed by now.
                let Ok(target) = descriptor.and_then(|entry| fs::read_link(entry.path())) else {
                    continue;
                };
                let Ok(inside) = target.strip_prefix(self.shared.layout.root()) else {
                    continue;
                };
                let own = is_own(inside, role) || zones::paths(&self.shared.config, &self.shared.layout, role).contains(&target);
                attempts.push(Attempt {
                    asset: "open files of others".into(),
                    act: inside.display().to_string(),
                    target: target.display().to_string(),
                    came: if own { Came::Refused } else { Came::Got },
                    says: if own { "its own" } else { "open" }.into(),
                });
            }
        }
        Ok(attempts)
    }
}

/// Whether what lies there in the data directory is this role's, or nobody's secret: all hold the lock.
fn is_own(inside: &Path, role: Role) -> bool {
    let parts: Vec<&str> = inside.iter().filter_map(|part| part.to_str()).collect();
    match parts.as_slice() {
        ["roles" | "zones", whose, ..] => *whose == role.as_str(),
        ["lock"] => true,
        ["run", socket] => *socket == format!("{role}.sock"),
        _ => false,
    }
}

/// What of the installation is attacked.
fn places(config: &Config, layout: &Layout) -> Vec<Place> {
    let mut places = Vec::new();
    for role in Role::ALL {
        below(&layout.role(role), Some(role), Part::Own, &mut places);
        for zone in zones::paths(config, layout, role) {
            below(&zone, Some(role), Part::Zone, &mut places);
        }
    }
    let root = layout.root();
    let directories = [root.to_owned(), root.join("roles"), root.join("zones"), layout.run()];
    let files = [
        layout.ca(),
        layout.installation_key(),
        layout.demo_env(),
        root.join("lock"),
        layout.serving(),
    ];
    let sockets = Role::ALL.map(|role| layout.socket(role));
    for path in directories.into_iter().chain(files).chain(sockets) {
        places.extend(place(path, None, Part::Installation));
    }
    places
}

/// A directory and the first files and directories in and below it, keys before anything else.
fn below(directory: &Path, whose: Option<Role>, part: Part, places: &mut Vec<Place>) {
    let (mut files, mut left) = (BTreeSet::new(), vec![directory.to_owned()]);
    places.extend(place(directory.to_owned(), whose, part));
    let mut directories = 0;
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten().take(64) {
            let path = entry.path();
            match entry.file_type() {
                Ok(form) if form.is_dir() && directories < FILES => {
                    directories += 1;
                    left.push(path);
                }
                Ok(form) if form.is_file() => {
                    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    files.insert((!["key", "sqlite", "json"].iter().any(|word| name.contains(word)), path));
                }
                _ => {}
            }
        }
    }
    places.extend(files.into_iter().take(FILES).filter_map(|(_, path)| place(path, whose, part)));
}

fn place(path: PathBuf, whose: Option<Role>, part: Part) -> Option<Place> {
    let form = fs::symlink_metadata(&path).ok()?.file_type();
    let form = if form.is_dir() {
        Form::Directory
    } else if form.is_socket() {
        Form::Socket
    } else {
        Form::File
    };
    Some(Place { whose, part, form, path })
}
