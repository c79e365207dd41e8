//! One role process, from its first line on standard input to its end.
//!
//! In this order: the line, the role's own user, the log, the inherited listeners, the sandbox, and only then threads: the async runtime, the
//! watch on standard input, the first certificate, the role itself. (The program is run by root and then lets go of it: another user may not
//! be able to reach the program's file.)
//!
//! Start at [`run`]. Does not know what a role does.

pub(crate) mod breach;
mod context;
pub(crate) mod policy;
mod prove;
pub(crate) mod token;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use base::{OsEntropy, Role, SystemClock};
use edge::public::PublicCertificate as Shown;
use edge::rebuild::Order;
use edge::{Peers, sandbox};
use listenfd::ListenFd;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::de::DeserializeOwned;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use zones::s3::Hosts;

use context::{Secured, assemble, enrolled};

use crate::Parts;
use crate::cli::SandboxMode;
use crate::failure::{During, Exit, Failure, Outcome};
use crate::handover::{Handover, Listening, News, PublicCertificate};

/// Threads that run tasks. A role waits more than it computes; what computes long has threads of its own.
const WORKERS: usize = 2;
/// Threads for files and long computations, made when needed.
const BLOCKING: usize = 64;

/// How long computations may go on after the end.
const LAST: Duration = Duration::from_secs(2);

/// What is inherited.
struct Listeners {
    internal: TcpListener,
    operator: UnixListener,
    public: Option<TcpListener>,
    plain: Option<TcpListener>,
}

/// Runs until asked to stop, or until the supervisor is gone.
pub(crate) fn run(role: Role, parts: Parts) -> Outcome {
    // Not `Stdin`, whose buffer would keep the line with its secrets for good; and with hardly a buffer, for the same reason.
    let pipe = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .during("could not read standard input")?;
    let mut input = BufReader::with_capacity(1, File::from(pipe));
    let mut handover = first_line(role, &mut input)?;
    // Before anything from outside is read or opened: the line above came from the supervisor, through a pipe.
    if let Some(who) = handover.user {
        edge::become_user(who.user, who.group).map_err(|error| {
            Failure::new(Exit::NotAllowed, format!("the {role} role cannot be the user that it is to be")).why(chain(&error))
        })?;
    }
    handover.logging.start(role.as_str())?;
    // The name that `ps` and `top` show.
    let _ = nix::sys::prctl::set_name(&std::ffi::CString::new(format!("coffer-{role}")).unwrap_or_default());
    for undone in edge::harden_process() {
        tracing::warn!("{undone}");
    }
    let listeners = inherited(&handover)?;
    let hosts = Hosts::given(std::mem::take(&mut handover.hosts));
    // The vault reads its root key and finds its zones before it can do nothing else any more.
    let scene = handover.breach.take();
    let to_prove = handover.prove.take();
    let prover = match &to_prove {
        Some(to_prove) if role == Role::Vault && to_prove.proof.takes_keys() => Some(prove::prover(&handover, to_prove)?),
        _ => None,
    };
    let prepared = if role == Role::Vault && scene.is_none() && to_prove.is_none() {
        Some(prepare_vault(&handover, &hosts, parts)?)
    } else {
        None
    };
    let report = cage(&handover)?;
    if let Some(scene) = scene {
        return breach::run(handover, &scene, input);
    }
    if let Some(to_prove) = to_prove {
        return prove::run(&handover, &to_prove, prover, parts, input);
    }

    let runtime = Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING)
        .thread_name(format!("coffer-{role}"))
        .enable_all()
        .build()
        .during("could not start")?;
    let cancel = CancellationToken::new();
    let (certificates, renewed) = mpsc::channel(1);
    let heard = hosts.clone();
    thread::Builder::new()
        .name("supervisor".into())
        .spawn(move || follow_supervisor(input, &certificates, &heard))
        .during("could not start")?;
    let result = runtime.block_on(async {
        stop_when_asked(cancel.clone())?;
        let settings = std::mem::take(&mut handover.settings);
        if let Some(order) = handover.rebuild.filter(|_| role != Role::Vault) {
            return rebuild((order, parts), (settings, hosts), handover, listeners, report, cancel).await;
        }
        match role {
            Role::Vault => {
                let prepared = prepared.ok_or_else(|| Failure::new(Exit::Failed, "the vault was not prepared"))?;
                vault(prepared, handover, listeners, report, cancel, parts).await
            }
            Role::Accounts => {
                let mut settings: accounts::AccountsSettings = read(role, settings)?;
                settings.zones.hosts = hosts;
                ended(
                    role,
                    accounts::run(settings, enrolled(handover, listeners, report, cancel, parts).await?.0).await,
                )
            }
            Role::Identity => {
                let mut settings: identity::IdentitySettings = read(role, settings)?;
                settings.zones.hosts = hosts;
                ended(
                    role,
                    identity::run(settings, enrolled(handover, listeners, report, cancel, parts).await?.0).await,
                )
            }
            Role::Warehouse => {
                let mut settings: warehouse::WarehouseSettings = read(role, settings)?;
                settings.zones.hosts = hosts;
                settings.journal.acknowledge = parts.acknowledge;
                settings.binding = parts.files.binding();
                ended(
                    role,
                    warehouse::run(settings, enrolled(handover, listeners, report, cancel, parts).await?.0).await,
                )
            }
            Role::Gateway => {
                let settings = read(role, settings)?;
                gateway((settings, parts), handover, listeners, report, cancel, renewed).await
            }
        }
    });
    // What still computes is about something nobody waits for any more.
    runtime.shutdown_timeout(LAST);
    result
}

fn first_line(role: Role, input: &mut impl BufRead) -> Outcome<Handover> {
    const MOST: u64 = 4 << 20;
    let what = "a role is started by `coffer serve`, which hands it one line of JSON on standard input";
    let mut line = Vec::with_capacity(64 << 10);
    std::io::Read::take(&mut *input, MOST).read_until(b'\n', &mut line).during(what)?;
    let read: Result<Handover, _> = serde_json::from_slice(&line);
    line.fill(0);
    // Not the error's own words, which may repeat a part of the line.
    let handover = read.map_err(|error| Failure::new(Exit::Usage, what).why(format!("column {} cannot be read", error.column())))?;
    if handover.role != role {
        return Err(Failure::new(Exit::Usage, what).why(format!("the line is for the {} role", handover.role)));
    }
    Ok(handover)
}

fn inherited(handover: &Handover) -> Outcome<Listeners> {
    let mut fds = ListenFd::from_env();
    let what = "a role inherits its listeners by LISTEN_FDS";
    let missing = || Failure::new(Exit::Usage, what).why("one is missing");
    let internal = fds.take_tcp_listener(0).during(what)?.ok_or_else(missing)?;
    let operator = fds.take_unix_listener(1).during(what)?.ok_or_else(missing)?;
    let mut listeners = Listeners {
        internal,
        operator,
        public: None,
        plain: None,
    };
    for (at, name) in handover.listeners.iter().enumerate() {
        let listener = Some(fds.take_tcp_listener(2 + at).during(what)?.ok_or_else(missing)?);
        match name {
            Listening::Public => listeners.public = listener,
            Listening::Plain => listeners.plain = listener,
        }
    }
    Ok(listeners)
}

fn cage(handover: &Handover) -> Outcome<sandbox::Report> {
    if handover.sandbox == SandboxMode::Off {
        return Ok(sandbox::off());
    }
    let report = sandbox::enter(&policy::of(handover)).during("could not enter the sandbox")?;
    if handover.sandbox == SandboxMode::Required && !report.not_enforced.is_empty() {
        return Err(
            Failure::new(Exit::Failed, "the sandbox is required and this kernel cannot enforce all of it")
                .why(report.not_enforced.join("; "))
                .next("use a newer kernel, or `sandbox = \"on\"` to do without"),
        );
    }
    for missing in &report.not_enforced {
        tracing::warn!("the sandbox does not enforce: {missing}");
    }
    tracing::debug!(enforced = report.enforced.join("; "), "in the sandbox");
    Ok(report)
}

/// Reads further lines, each a piece of news, until the supervisor is gone; then ends the process.
///
/// At once and not in good order: the other roles end now as well, what was acknowledged is durable, and nobody is left to ask for more.
/// The data directory stays locked until this process is gone.
fn follow_supervisor(mut input: impl BufRead, certificates: &mpsc::Sender<PublicCertificate>, hosts: &Hosts) {
    let mut line = String::new();
    loop {
        line.clear();
        match input.read_line(&mut line) {
            Ok(0) | Err(_) => {
                tracing::error!("the supervisor is gone, ending");
                #[expect(
                    clippy::disallowed_methods,
                    reason = "there is no main to return to: it may be waiting for something that never comes"
                )]
                std::process::exit(1);
            }
            Ok(_) => {
                match serde_json::from_str(&line) {
                    // An error means that this role shows none, or is ending.
                    Ok(News::Certificate(certificate)) => drop(certificates.blocking_send(certificate)),
                    Ok(News::Hosts(known)) => hosts.replace(known),
                    Err(_) => tracing::error!("what the supervisor says cannot be understood"),
                }
                // Wiped: it holds a private key.
                line = String::from_utf8(vec![b'0'; line.len()]).unwrap_or_default();
            }
        }
    }
}

fn stop_when_asked(cancel: CancellationToken) -> Outcome {
    let what = "could not listen for signals";
    let mut terminate = signal(SignalKind::terminate()).during(what)?;
    let mut interrupt = signal(SignalKind::interrupt()).during(what)?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        cancel.cancel();
    });
    Ok(())
}

fn read<T: DeserializeOwned>(role: Role, settings: serde_json::Value) -> Outcome<T> {
    serde_json::from_value(settings)
        .map_err(|error| Failure::new(Exit::Refused, format!("the settings of the {role} role are wrong")).why(error))
}

/// The token that holds the root key, where there is one.
fn token_of(settings: &vault::VaultSettings, handover: &Handover) -> Option<Arc<dyn vault::Token>> {
    let mut pkcs11 = settings.pkcs11.clone()?;
    pkcs11.pin_file = handover.directory.join(pkcs11.pin_file);
    Some(Arc::new(token::ByProcess(pkcs11)))
}

fn prepare_vault(handover: &Handover, hosts: &Hosts, ours: Parts) -> Outcome<vault::Prepared> {
    let mut settings: vault::VaultSettings = read(Role::Vault, handover.settings.clone())?;
    settings.zones.hosts = hosts.clone();
    settings.keeping = ours.keeping;
    let token = token_of(&settings, handover);
    settings.lookups = ours.lookups;
    let parts = vault::VaultParts {
        directory: handover.directory.clone(),
        token,
        clock: Arc::new(SystemClock),
        entropy: Arc::new(OsEntropy),
    };
    let prepared = match handover.rebuild {
        None => vault::prepare(settings, parts),
        Some(order) => vault::prepare_to_rebuild(settings, parts, order),
    };
    prepared.map_err(|error| Failure::new(Exit::from(error.kind()), "the vault does not start").why(chain(&error)))
}

/// A role that makes what it owns anew, and serves nobody.
async fn rebuild(
    (order, parts): (Order, Parts),
    (settings, hosts): (serde_json::Value, Hosts),
    handover: Handover,
    listeners: Listeners,
    report: sandbox::Report,
    cancel: CancellationToken,
) -> Outcome {
    let role = handover.role;
    match role {
        Role::Accounts => {
            let mut settings: accounts::AccountsSettings = read(role, settings)?;
            settings.zones.hosts = hosts;
            let context = enrolled(handover, listeners, report, cancel, parts).await?.0;
            ended(role, accounts::rebuild(settings, context, order).await)
        }
        Role::Identity => {
            let mut settings: identity::IdentitySettings = read(role, settings)?;
            settings.zones.hosts = hosts;
            let context = enrolled(handover, listeners, report, cancel, parts).await?.0;
            ended(role, identity::rebuild(settings, context, order).await)
        }
        Role::Warehouse => {
            let mut settings: warehouse::WarehouseSettings = read(role, settings)?;
            settings.zones.hosts = hosts;
            let context = enrolled(handover, listeners, report, cancel, parts).await?.0;
            ended(role, warehouse::rebuild(settings, context, order).await)
        }
        Role::Vault | Role::Gateway => Err(Failure::new(Exit::Usage, format!("the {role} role has nothing to rebuild"))),
    }
}

/// The vault certifies everybody, itself first.
async fn vault(
    prepared: vault::Prepared,
    handover: Handover,
    listeners: Listeners,
    report: sandbox::Report,
    cancel: CancellationToken,
    parts: Parts,
) -> Outcome {
    let audit = edge::Auditing::in_order(parts.order);
    let failed = |error: vault::OpenError| Failure::new(Exit::from(error.kind()), "the vault does not start").why(chain(&error));
    let prepared = match prepared {
        vault::Prepared::Open(prepared) => *prepared,
        vault::Prepared::Sealed(sealed) => {
            let keyless = edge::Keyless {
                role: Role::Vault,
                clock: Arc::new(SystemClock),
                entropy: Arc::new(OsEntropy),
                operator: listeners.operator.try_clone().during("could not take shares")?,
                readiness: edge::Readiness::default(),
                sandbox: report.clone(),
                audit: audit.clone(),
            };
            match sealed.unsealed(keyless, &cancel).await.map_err(failed)? {
                Some(prepared) => prepared,
                // Asked to stop before.
                None => return Ok(()),
            }
        }
    };
    let opened = prepared.open().await.map_err(failed)?;
    let tls = opened.tls();
    let peers = Arc::new(Peers::new(Arc::clone(&tls), policy::callees(&handover)));
    let (signer, installation) = (opened.signer(), opened.installation());
    let secured = Secured {
        tls,
        signer,
        installation,
        peers,
        revocations: None,
        audit,
        table: parts.table,
    };
    let (clock, entropy) = (Arc::new(SystemClock), Arc::new(OsEntropy));
    let context = assemble(handover, listeners, report, cancel, clock, entropy, secured).0;
    ended(Role::Vault, opened.serve(context).await)
}

async fn gateway(
    (settings, parts): (gateway::GatewaySettings, Parts),
    mut handover: Handover,
    listeners: Listeners,
    report: sandbox::Report,
    cancel: CancellationToken,
    mut renewed: mpsc::Receiver<PublicCertificate>,
) -> Outcome {
    let what = "the gateway has no public certificate that it can use";
    let certificate = handover.public.take().ok_or_else(|| Failure::new(Exit::Usage, what))?;
    let (chain, key) = der(certificate);
    let tls = Shown::new(chain, key).during(what)?;
    let showing = tls.clone();
    tokio::spawn(async move {
        while let Some(certificate) = renewed.recv().await {
            let (chain, key) = der(certificate);
            match showing.replace(chain, key) {
                Ok(()) => tracing::info!("shows a new public certificate"),
                Err(error) => tracing::error!(%error, "the new public certificate cannot be used, the old one stays"),
            }
        }
    });
    let (context, (public, plain)) = enrolled(handover, listeners, report, cancel, parts).await?;
    let listener = public.ok_or_else(|| Failure::new(Exit::Usage, "the gateway inherited no public listener"))?;
    ended(
        Role::Gateway,
        gateway::run(settings, context, gateway::PublicListener { listener, tls }, plain).await,
    )
}

fn der(certificate: PublicCertificate) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = certificate.chain.into_iter().map(|der| CertificateDer::from(der.0)).collect();
    let key = certificate.key.0.reveal().to_vec();
    // A key in a form other than PKCS #8 (an operator's old file) is tried as what it is.
    let key = PrivateKeyDer::try_from(key.clone()).unwrap_or_else(|_| PrivatePkcs8KeyDer::from(key).into());
    (chain, key)
}

fn ended<E: std::error::Error>(role: Role, result: Result<(), E>) -> Outcome {
    result.map_err(|error| Failure::new(Exit::Failed, format!("the {role} role ended")).why(chain(&error)))?;
    tracing::info!("stopped");
    Ok(())
}

/// An error with all that is behind it; each says its own part once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let more = inner.to_string();
        if !words.ends_with(&more) {
            words = format!("{words}: {more}");
        }
        source = inner.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use journal::Acknowledge;
    use serde_json::json;
    use warehouse::WarehouseSettings;

    use super::*;

    #[test]
    fn nothing_handed_over_makes_a_role_acknowledge_too_early() {
        for value in [json!("TooEarly"), json!("too_early"), json!(true)] {
            let settings = json!({"journal": {"acknowledge": value}});
            assert!(read::<WarehouseSettings>(Role::Warehouse, settings).is_err());
        }
        let mut twin = WarehouseSettings::default();
        twin.journal.acknowledge = Acknowledge::TooEarly;
        let handed_over = serde_json::to_value(&twin).unwrap();
        let read: WarehouseSettings = read(Role::Warehouse, handed_over).unwrap();
        assert_eq!(read.journal.acknowledge, Acknowledge::WhenDurable);
        assert_eq!(Parts::default().acknowledge, Acknowledge::WhenDurable);
    }
}
