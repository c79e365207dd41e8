//! Processes of roles that prove something of their own files: each as the role is started, in its sandbox and as its user, and told to prove.
//!
//! Promise: the installation goes on undisturbed if it runs, and is not started if it does not. Keys go from the vault's process to the others
//! sealed to them: this process carries what it cannot read.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base::{Role, SystemClock};
use edge::proving::Line;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::Mutex;
use zones::s3::Known;

use super::Shared;
use super::breach::Serving;
use super::child::{end, in_words, settings, spawn};
use super::listeners::Listeners;
use super::zones::Holds;
use crate::config::Config;
use crate::failure::{During, Exit, Failure, Outcome};
use crate::handover::{Handover, Hidden, Open, Proof, ToProve};
use crate::layout::{self, Layout};
use crate::logging::Logging;
use crate::users::{Identity, Users};

/// A process says something at least so often: what takes longest without a word is one large file.
const SILENT: Duration = Duration::from_secs(600);

/// An installation of which something is to be proven.
pub(crate) struct Proving {
    shared: Shared,
    installation: Vec<u8>,
    /// Whether it runs.
    pub(crate) runs: bool,
}

/// What is needed beside the files.
#[derive(Default)]
pub(crate) struct Shown {
    pub(crate) keys: Vec<Hidden>,
    pub(crate) shares: Vec<Hidden>,
}

struct Running {
    role: Role,
    child: Child,
    pipe: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Proving {
    /// Looks at one that runs, or takes one that does not.
    pub(crate) fn of(layout: Layout, mut config: Config, logging: Logging) -> Outcome<Self> {
        let installation = layout::installation_key_in(&layout.installation_key())?;
        let held = match layout.lock() {
            Ok(lock) => Some(lock),
            Err(failure) if failure.exit == Exit::Conflict => None,
            Err(failure) => return Err(failure),
        };
        let runs = held.is_none();
        let (lock, peers) = match held {
            Some(lock) => (lock, BTreeMap::new()),
            None => {
                let serving = Serving::of(&layout)?;
                config.shape.sandbox = serving.sandbox;
                (layout.look_at_lock()?, serving.internal)
            }
        };
        let shared = Shared {
            lock,
            zones: Holds::look(&config, &layout),
            // Each process is whoever the role's directory belongs to: see `owner`.
            users: Users::One { why: String::new() },
            listeners: Listeners::further(&layout, peers)?,
            layout,
            config,
            logging,
            clock: Arc::new(SystemClock),
            public_certificate_ends: Mutex::default(),
        };
        Ok(Self {
            shared,
            installation: installation.as_bytes().to_vec(),
            runs,
        })
    }

    /// Lets `roles` prove it, and passes on what they say.
    pub(crate) async fn prove(
        &self,
        roles: &[Role],
        (proof, sample): (Proof, Option<u64>),
        shown: Shown,
        hear: &mut dyn FnMut(Line) -> Outcome,
    ) -> Outcome {
        let mut running = Vec::new();
        let done = self.prove_with(roles, (proof, sample), shown, &mut running, hear).await;
        for Running { role, mut child, pipe, .. } in running {
            // Lets go of it.
            drop(pipe);
            if tokio::time::timeout(Duration::from_secs(5), child.wait()).await.is_err() {
                end(role, &mut child).await;
            }
        }
        done
    }

    async fn prove_with(
        &self,
        roles: &[Role],
        (proof, sample): (Proof, Option<u64>),
        shown: Shown,
        running: &mut Vec<Running>,
        hear: &mut dyn FnMut(Line) -> Outcome,
    ) -> Outcome {
        let to_prove = ToProve {
            installation: Open(self.installation.clone()),
            proof,
            sample,
            sealed_to: BTreeMap::new(),
            shown: Vec::new(),
            shares: Vec::new(),
        };
        if !to_prove.proof.takes_keys() {
            for role in roles {
                running.push(self.start(*role, to_prove.clone()).await?);
            }
            return all_said(running.iter_mut(), hear).await;
        }
        let mut sealed_to = BTreeMap::new();
        for role in roles {
            let mut started = self.start(*role, to_prove.clone()).await?;
            let said = started.line().await;
            running.push(started);
            match said? {
                Line::Key(key) => sealed_to.insert(*role, Open(hex::decode(key).during("a role did not say its key")?)),
                _ => return Err(Failure::new(Exit::Failed, format!("the {role} role did not say its key"))),
            };
        }
        let for_vault = ToProve {
            sealed_to,
            shown: shown.keys,
            shares: shown.shares,
            ..to_prove
        };
        let vault = self.start(Role::Vault, for_vault).await?;
        running.push(vault);
        while let Some(vault) = running.last_mut() {
            match vault.line().await? {
                Line::Sealed(role, keys) => {
                    if let Some(role) = running.iter_mut().find(|running| running.role == role) {
                        let what = format!("could not hand keys to the {} role", role.role);
                        role.pipe.write_all(format!("{keys}\n").as_bytes()).await.during(what)?;
                    }
                }
                Line::Done => break,
                line => hear(line)?,
            }
        }
        all_said(running.iter_mut().filter(|running| running.role != Role::Vault), hear).await
    }

    async fn start(&self, role: Role, to_prove: ToProve) -> Outcome<Running> {
        let (_, listeners) = self.shared.listeners.of(role)?;
        let peers = self.shared.listeners.peers.iter();
        let handover = Handover {
            role,
            directory: self.shared.layout.role(role),
            settings: settings(role, &self.shared)?,
            sandbox: self.shared.config.shape.sandbox,
            user: owner(&self.shared.layout.role(role))?,
            peers: peers
                .filter(|(peer, _)| **peer != role)
                .map(|(peer, address)| (*peer, *address))
                .collect(),
            enrolment: None,
            public: None,
            hosts: Known::new(),
            listeners,
            rebuild: None,
            breach: None,
            prove: Some(to_prove),
            logging: self.shared.logging.clone(),
        };
        let (mut child, pipe) = spawn(role, &self.shared, &handover).await?;
        let what = format!("could not hear what the {role} role says");
        let out = child.stdout.take().ok_or_else(|| Failure::new(Exit::Failed, what))?;
        let lines = BufReader::new(out).lines();
        Ok(Running { role, child, pipe, lines })
    }
}

/// Passes on what they say until there is nothing more to come.
async fn all_said(running: impl Iterator<Item = &mut Running>, hear: &mut dyn FnMut(Line) -> Outcome) -> Outcome {
    for role in running {
        loop {
            match role.line().await? {
                Line::Done => break,
                line => hear(line)?,
            }
        }
    }
    Ok(())
}

/// Who a role's directory belongs to, where root is asked; the directories above it are root's. None: whoever asks.
fn owner(directory: &Path) -> Outcome<Option<Identity>> {
    let what = || format!("could not look at {}", directory.display());
    let found = std::fs::symlink_metadata(directory).map_err(|error| Failure::new(Exit::NotFound, what()).why(error))?;
    if !found.is_dir() {
        return Err(Failure::new(Exit::Unverified, what()).why("it is no directory"));
    }
    let another = nix::unistd::geteuid().is_root() && found.uid() != 0;
    Ok(another.then(|| Identity {
        user: found.uid(),
        group: found.gid(),
    }))
}

impl Running {
    /// The next line.
    async fn line(&mut self) -> Outcome<Line> {
        let what = format!("the {} role did not prove anything", self.role);
        let read = tokio::time::timeout(SILENT, self.lines.next_line()).await;
        let read = read.map_err(|_| Failure::new(Exit::Temporary, what.as_str()).why("it said nothing for ten minutes"))?;
        if let Some(line) = read.during(what.as_str())? {
            return match serde_json::from_str(&line).during(what.as_str())? {
                Line::Failed(exit, why) => Err(Failure::new(exit_of(exit), what).why(why)),
                line => Ok(line),
            };
        }
        let ended = tokio::time::timeout(Duration::from_secs(5), self.child.wait()).await;
        let status = ended.map_err(|_| Failure::new(Exit::Failed, what.as_str()))?;
        Err(Failure::new(Exit::Failed, what)
            .why(in_words(status))
            .next("its own line above says why"))
    }
}

fn exit_of(code: u8) -> Exit {
    let known = [
        Exit::Usage,
        Exit::NotAllowed,
        Exit::NotFound,
        Exit::Conflict,
        Exit::Refused,
        Exit::Temporary,
        Exit::Unverified,
    ];
    known.into_iter().find(|exit| *exit as u8 == code).unwrap_or(Exit::Failed)
}
