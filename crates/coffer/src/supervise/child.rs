//! Keeping one role running.

use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use base::{Role, SecretBytes};
use command_fds::{CommandFdExt, FdMapping};
use edge::rebuild::Order;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;
use tokio::time::Instant;
use wire::v1::{MintEnrolmentRequest, MintEnrolmentResponse};
use zones::s3::Known;

use super::certificate::{self, Renewal};
use super::{HOPELESS, LOOK_AT_SEAL, Phase, STOPPING, Shared, hosts};
use crate::failure::{During, Exit, Failure, Outcome};
use crate::handover::{Enrolment, Handover, Hidden, News, Open, PublicCertificate};
use crate::layout::ZONES;
use crate::{environment, layout, operator};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How often it is looked whether the public certificate is to be renewed.
const LOOK: Duration = Duration::from_secs(5);
/// A role that was ready for this long had recovered: its next death starts with the shortest pause again.
const RECOVERED: Duration = Duration::from_secs(1);

/// Why a run of a role ended.
enum End {
    Asked,
    /// The vault ended well without being asked by us: it was sealed.
    Sealed,
    Died(String),
}

/// Starts `role`, and starts it again whenever it ends, until asked to stop.
pub(super) async fn keep(role: Role, shared: Arc<Shared>, mut stop: watch::Receiver<bool>, phase: watch::Sender<Phase>) {
    let mut pause = FIRST_PAUSE;
    let mut early = 0;
    loop {
        let mut ready_at = None;
        let end = run(role, &shared, &mut stop, &phase, &mut ready_at).await;
        let why = match end {
            Ok(End::Asked) => break,
            Ok(End::Sealed) => {
                tracing::warn!("the vault was sealed; starting it again");
                tokio::time::sleep(FIRST_PAUSE).await;
                continue;
            }
            Ok(End::Died(why)) => why,
            Err(failure) => failure.in_one_line(),
        };
        if ready_at.is_some_and(|at: Instant| at.elapsed() >= RECOVERED) {
            pause = FIRST_PAUSE;
        }
        tracing::error!(role = %role, pause_ms = pause.as_millis() as u64, "the {role} role ended: {why}; starting it again");
        if *phase.borrow() == Phase::Starting {
            early += 1;
            if early >= HOPELESS {
                phase.send_replace(Phase::Hopeless(format!(
                    "it ended {early} times before it was ready; the last time: {why}"
                )));
                return;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = asked(&mut stop) => break,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    phase.send_replace(Phase::Stopped);
}

/// Ends when the role is to stop.
async fn asked(stop: &mut watch::Receiver<bool>) {
    // An error means that nobody is left to ask, which is the same.
    drop(stop.wait_for(|stop| *stop).await);
}

async fn run(
    role: Role,
    shared: &Shared,
    stop: &mut watch::Receiver<bool>,
    phase: &watch::Sender<Phase>,
    ready_at: &mut Option<Instant>,
) -> Outcome<End> {
    let begin = async {
        if role != Role::Vault {
            while_sealed(role, shared).await;
        }
        handover(role, shared, None).await
    };
    let prepared = tokio::select! {
        prepared = begin => prepared?,
        () = asked(stop) => return Ok(End::Asked),
    };
    let mut renewal = prepared.renewal;
    // Invariant: this end of the pipe lives as long as the role does; its end tells the role that we are gone.
    let (mut child, mut pipe) = spawn(role, shared, &prepared.handover).await?;
    let mut moved = hosts::watch(hosts::names(role, &shared.config), prepared.handover.hosts.clone());
    drop(prepared);
    let mut looking = std::pin::pin!(ready(role, shared, child.id()));
    // Looked at instead of slept for: the clock may be turned.
    let mut tick = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            status = child.wait() => return Ok(match status {
                Ok(status) if status.success() && role == Role::Vault => End::Sealed,
                status => End::Died(in_words(status)),
            }),
            () = asked(stop) => {
                end(role, &mut child).await;
                return Ok(End::Asked);
            }
            () = &mut looking, if ready_at.is_none() => {
                *ready_at = Some(Instant::now());
                phase.send_if_modified(|phase| {
                    let first = *phase == Phase::Starting;
                    *phase = Phase::Ready;
                    first
                });
                tracing::info!(role = %role, pid = child.id(), "the {role} role is ready");
            }
            Some(known) = moved.recv() => {
                if let Err(failure) = tell(&News::Hosts(known), &mut pipe).await {
                    tracing::warn!("{}", failure.in_one_line());
                }
            }
            _ = tick.tick() => {
                if renewal.is_some_and(|renewal| renewal.is_due(shared.clock.now())) {
                    match renew(shared, &mut pipe).await {
                        Ok(next) => renewal = next,
                        Err(failure) => tracing::warn!("{}; trying again in a moment", failure.in_one_line()),
                    }
                }
            }
        }
    }
}

/// Waits until the vault is not sealed: it certifies nobody before.
async fn while_sealed(role: Role, shared: &Shared) {
    let mut said = false;
    while operator::sealed(&shared.layout).await.is_some() {
        if !said {
            said = true;
            tracing::warn!(role = %role, "the {role} role waits until the vault is unsealed");
        }
        tokio::time::sleep(LOOK_AT_SEAL).await;
    }
}

/// Hands the gateway its next public certificate, while it runs.
async fn renew(shared: &Shared, pipe: &mut ChildStdin) -> Outcome<Option<Renewal>> {
    let issued = certificate::public(&shared.config.shape.certificate, &shared.layout, &*shared.clock).await?;
    tell(&News::Certificate(issued.certificate), pipe).await?;
    *shared.public_certificate_ends.lock().await = issued.expires_at;
    Ok(issued.renewal)
}

/// Hands a running role something more.
async fn tell(news: &News, pipe: &mut ChildStdin) -> Outcome {
    let what = "could not hand a role what is new";
    let mut line = serde_json::to_vec(news).during(what)?;
    line.push(b'\n');
    let written = pipe.write_all(&line).await;
    line.fill(0);
    written.during(what)
}

/// A role's first line, and when what is in it has to be renewed.
pub(super) struct Prepared {
    pub(super) handover: Handover,
    renewal: Option<Renewal>,
}

pub(super) async fn handover(role: Role, shared: &Shared, rebuild: Option<Order>) -> Outcome<Prepared> {
    let enrolment = if role == Role::Vault {
        None
    } else {
        Some(mint(role, shared).await?)
    };
    let mut public: Option<PublicCertificate> = None;
    let mut renewal = None;
    if role == Role::Gateway {
        let issued = certificate::public(&shared.config.shape.certificate, &shared.layout, &*shared.clock).await?;
        *shared.public_certificate_ends.lock().await = issued.expires_at;
        (public, renewal) = (Some(issued.certificate), issued.renewal);
    }
    let (_, listeners) = shared.listeners.of(role)?;
    let handover = Handover {
        role,
        directory: shared.layout.role(role),
        settings: settings(role, shared)?,
        sandbox: shared.config.shape.sandbox,
        user: shared.users.of(role),
        peers: shared
            .listeners
            .peers
            .iter()
            .filter(|(peer, _)| **peer != role)
            .map(|(peer, address)| (*peer, *address))
            .collect(),
        enrolment,
        public,
        hosts: hosts::look_up(&hosts::names(role, &shared.config), &Known::new()).await,
        listeners,
        rebuild,
        breach: None,
        prove: None,
        logging: shared.logging.clone(),
    };
    Ok(Prepared { handover, renewal })
}

/// What the operator wrote for this role, and the default zones where they wrote none.
pub(super) fn settings(role: Role, shared: &Shared) -> Outcome<serde_json::Value> {
    let mut part = shared.config.part(role);
    if role != Role::Gateway && !super::has_zones(&shared.config, role) {
        let directory = shared.layout.zones(role);
        let mut list = toml::value::Array::new();
        for name in ZONES {
            let path = directory.join(name);
            let path = path
                .to_str()
                .ok_or_else(|| Failure::new(Exit::Refused, "the path of the data directory is not text"))?;
            let zone = [("name".to_owned(), name.into()), ("path".to_owned(), path.into())];
            list.push(toml::Table::from_iter(zone).into());
        }
        let zones = part.entry("zones").or_insert_with(|| toml::Table::new().into());
        if let Some(zones) = zones.as_table_mut() {
            zones.insert("zones".into(), list.into());
        }
    }
    serde_json::to_value(part).during("could not write a role's settings")
}

async fn mint(role: Role, shared: &Shared) -> Outcome<Enrolment> {
    let request = MintEnrolmentRequest {
        role: role.as_str().into(),
    };
    let what = format!("could not get an enrolment token for the {role} role from the vault");
    let minted: MintEnrolmentResponse = operator::ask(&what, operator::vault(&shared.layout).mint_enrolment(request)).await?;
    if role == Role::ALL[1] {
        keep_ca(shared, &minted.ca_certificate)?;
        keep_file(
            &shared.layout.installation_key(),
            &format!("{}\n", hex::encode(&minted.installation_key)),
        )?;
    }
    Ok(Enrolment {
        token: Hidden(SecretBytes::new(minted.token)),
        installation_key: Open(minted.installation_key),
        ca_certificate: Open(minted.ca_certificate),
    })
}

/// Clients trust this file. It changes only if the installation does.
fn keep_ca(shared: &Shared, der: &[u8]) -> Outcome {
    keep_file(&shared.layout.ca(), &certificate::pem(der))
}

fn keep_file(path: &std::path::Path, text: &str) -> Outcome {
    if std::fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    layout::write_private(path, text.as_bytes())
}

/// Starts a role's process and hands it its first line. The pipe must live as long as it does.
pub(super) async fn spawn(role: Role, shared: &Shared, handover: &Handover) -> Outcome<(Child, ChildStdin)> {
    let what = format!("could not start the {role} role");
    let (fds, _) = shared.listeners.of(role)?;
    let count = fds.len();
    let mut mappings: Vec<FdMapping> = fds
        .into_iter()
        .zip(3..)
        .map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd })
        .collect();
    // After the listeners: as long as this role lives, the data directory and its zones are in use.
    let held = std::iter::once(shared.lock.share()).chain(shared.zones.share(role));
    for (at, held) in held.enumerate() {
        mappings.push(FdMapping {
            parent_fd: held?,
            child_fd: 3 + (count + at) as i32,
        });
    }
    // This very program, even if its file was replaced meanwhile.
    let mut command = std::process::Command::new("/proc/self/exe");
    command
        .args(["role", role.as_str()])
        .stdin(Stdio::piped())
        .stdout(if is_asked(handover) { Stdio::piped() } else { Stdio::null() })
        .env_clear()
        .env("LISTEN_FDS", count.to_string());
    // Each arena of the allocator keeps memory of its own; a role has few threads.
    command
        .env("MALLOC_ARENA_MAX", "2")
        .env("MALLOC_TRIM_THRESHOLD_", "1048576")
        .env("MALLOC_MMAP_THRESHOLD_", "1048576");
    if let Some(backtrace) = environment::text("RUST_BACKTRACE") {
        command.env("RUST_BACKTRACE", backtrace);
    }
    {
        use std::os::unix::process::CommandExt;
        // A group of its own: Ctrl-C is for the supervisor, which stops the roles in order.
        command.arg0("coffer").process_group(0);
    }
    command.fd_mappings(mappings).during(what.as_str())?;
    let mut command = Command::from(command);
    let mut child = command.kill_on_drop(true).spawn().during(what.as_str())?;
    drop(command);
    let mut line = serde_json::to_vec(handover).during(what.as_str())?;
    line.push(b'\n');
    // Taken out, because waiting for the child would close it.
    let Some(mut stdin) = child.stdin.take() else {
        return Err(Failure::new(Exit::Failed, what));
    };
    let written = stdin.write_all(&line).await;
    line.fill(0);
    written.during(what)?;
    Ok((child, stdin))
}

/// Whether it is to say something to whoever started it, instead of serving.
fn is_asked(handover: &Handover) -> bool {
    handover.breach.is_some() || handover.prove.is_some()
}

/// Ends when the role says that it is ready.
async fn ready(role: Role, shared: &Shared, pid: Option<u32>) {
    let mut pause = Duration::from_millis(10);
    loop {
        let status = operator::status(&shared.layout, role, Duration::from_secs(2)).await;
        if status.is_ok_and(|status| status.not_ready.is_empty() && Some(status.pid) == pid) {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(250));
    }
}

/// SIGTERM, patience, SIGKILL.
pub(super) async fn end(role: Role, child: &mut Child) {
    let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) else {
        return;
    };
    if let Err(error) = kill(Pid::from_raw(pid), Signal::SIGTERM) {
        tracing::warn!(role = %role, %error, "could not ask the {role} role to stop");
    }
    if tokio::time::timeout(STOPPING, child.wait()).await.is_err() {
        tracing::error!(role = %role, "the {role} role did not stop in {} s and is ended", STOPPING.as_secs());
        let _ = child.kill().await;
    }
}

pub(super) fn in_words(status: std::io::Result<ExitStatus>) -> String {
    use std::os::unix::process::ExitStatusExt;
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (_, Some(signal)) => format!("signal {signal}"),
            _ => "no exit code".into(),
        },
        Err(error) => error.to_string(),
    }
}
