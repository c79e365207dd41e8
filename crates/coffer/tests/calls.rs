//! The table of calls, tried live: every method that the protocol has, at every role, by every role with a real certificate, by somebody
//! without one and by the operator. Whoever is not listed is refused before a handler runs; whoever is listed is not refused by the table.
//!
//! The list of methods is the protocol's own, so that a new one is tried as soon as it is there.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use base::{OsEntropy, Role, SystemClock};
use bytes::Bytes;
use edge::Peers;
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use seal::InstallationKey;
use testkit::{Installation, until};
use tokio::net::TcpStream;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use wire::calls::{CALLS, Caller, METHODS, may_call};
use wire::v1::MintEnrolmentRequest;
use wire::v1::vault_operator_client::VaultOperatorClient;

/// A call that hangs is no refusal.
const PATIENCE: Duration = Duration::from_secs(30);

/// What became of a call.
#[derive(Debug, PartialEq, Eq)]
enum Became {
    /// The table refused it.
    Refused,
    /// It came past the table; what happened then is of no matter here.
    Passed,
    /// There was no connection to call by.
    Unheard,
}

/// Makes one call with an empty message, and looks at the beginning of the answer.
async fn call(mut channel: Channel, method: &str) -> anyhow::Result<Became> {
    // No compression, a message of no bytes.
    let empty = Full::new(Bytes::from_static(&[0; 5]));
    let request = http::Request::post(method)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(empty))?;
    let answering = async {
        std::future::poll_fn(|cx| tonic::client::GrpcService::<Body>::poll_ready(&mut channel, cx)).await?;
        tonic::client::GrpcService::<Body>::call(&mut channel, request).await
    };
    let answer: Result<_, tonic::transport::Error> = tokio::time::timeout(PATIENCE, answering).await.context("no answer")?;
    let Ok(answer) = answer else { return Ok(Became::Unheard) };
    ensure!(answer.status() == 200, "status {}", answer.status());
    let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let refused = header("grpc-status") == "7" && header("grpc-message").replace("%20", " ") == "this caller may not make this call";
    Ok(if refused { Became::Refused } else { Became::Passed })
}

/// A way to every role.
struct Tried {
    name: String,
    caller: Caller,
    channels: BTreeMap<Role, Channel>,
}

/// Where the roles listen for each other.
fn addresses(installation: &Installation) -> anyhow::Result<BTreeMap<Role, SocketAddr>> {
    let path = installation.data().join("run/serving.json");
    let serving: serde_json::Value = serde_json::from_slice(&fs::read(path).context("it does not say where it serves")?)?;
    Ok(serde_json::from_value(serving["internal"].clone())?)
}

/// With the certificate that the vault gives to a role that is started.
async fn role(installation: &Installation, role: Role) -> anyhow::Result<Tried> {
    let addresses = addresses(installation)?;
    let socket = edge::operator_channel(installation.data().join("run/vault.sock"));
    let request = MintEnrolmentRequest { role: role.to_string() };
    let minted = VaultOperatorClient::new(socket).mint_enrolment(request).await?.into_inner();
    let (tls, _) = edge::enrol(
        addresses[&Role::Vault],
        CertificateDer::from(minted.ca_certificate),
        InstallationKey::try_from(&minted.installation_key[..])?,
        &minted.token,
        role,
        Arc::new(OsEntropy),
        Arc::new(SystemClock),
    )
    .await?;
    Ok(with(role, &Peers::new(Arc::new(tls), addresses)))
}

/// With a certificate of the vault's own, which is given to nobody: out of a copy of all that it has.
async fn vault(installation: &Installation, copy: &Path) -> anyhow::Result<(Tried, vault::OpenedVault)> {
    let zones: Vec<_> = ["a", "b", "c"]
        .map(|name| serde_json::json!({"name": name, "path": copy.join("zones/vault").join(name)}))
        .into();
    let settings = serde_json::from_value(serde_json::json!({"zones": {"zones": zones}}))?;
    let parts = vault::VaultParts {
        directory: copy.join("roles/vault"),
        token: None,
        clock: Arc::new(SystemClock),
        entropy: Arc::new(OsEntropy),
    };
    let prepared = tokio::task::spawn_blocking(move || vault::prepare(settings, parts)).await??;
    let vault::Prepared::Open(prepared) = prepared else {
        anyhow::bail!("it is sealed")
    };
    let opened = prepared.open().await?;
    let peers = Peers::new(opened.tls(), addresses(installation)?);
    Ok((with(Role::Vault, &peers), opened))
}

fn with(role: Role, peers: &Peers) -> Tried {
    Tried {
        name: role.to_string(),
        caller: Caller::Role(role),
        channels: Role::ALL.map(|to| (to, peers.channel(to))).into(),
    }
}

/// Over TLS, and without a certificate.
fn nobody(installation: &Installation) -> anyhow::Result<Tried> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(installation.ca()).map_err(|error| anyhow!("ca.pem: {error}"))?)?;
    let mut tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let tls = tokio_rustls::TlsConnector::from(Arc::new(tls));
    let mut channels = BTreeMap::new();
    for (role, address) in addresses(installation)? {
        let (tls, name) = (tls.clone(), ServerName::try_from(role.server_name())?);
        let channel = Endpoint::from_static("http://role").connect_with_connector_lazy(tower::service_fn(move |_| {
            let (tls, name) = (tls.clone(), name.clone());
            async move { tls.connect(name, TcpStream::connect(address).await?).await.map(TokioIo::new) }
        }));
        channels.insert(role, channel);
    }
    Ok(Tried {
        name: "nobody".into(),
        caller: Caller::Nobody,
        channels,
    })
}

fn operator(installation: &Installation) -> Tried {
    let socket = |role: Role| edge::operator_channel(installation.data().join("run").join(format!("{role}.sock")));
    Tried {
        name: "operator".into(),
        caller: Caller::Operator,
        channels: Role::ALL.map(|role| (role, socket(role))).into(),
    }
}

/// What a role says that it refused because of the table.
async fn refused_by(installation: &Installation, role: Role) -> anyhow::Result<u64> {
    let text = installation.operator(&["metrics", role.as_str()]).await?.ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("coffer_calls_refused_total{reason=\"call\"} "));
    Ok(line.unwrap_or("0").trim().parse()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_that_is_not_in_the_table_is_refused_to_every_caller_at_every_role() -> anyhow::Result<()> {
    edge::install_crypto();
    let mut installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    installation.stop().await?;
    let copy = installation.aside("copy");
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([installation.data(), copy.clone()])
        .status()?;
    ensure!(copied.success(), "could not copy");
    installation.up().await?;
    // Written a moment after every role is ready.
    until("it says where it serves", PATIENCE, || async { addresses(&installation) }).await?;

    let mut callers = vec![nobody(&installation)?, operator(&installation)];
    for caller in Role::ALL.into_iter().filter(|role| *role != Role::Vault) {
        callers.push(role(&installation, caller).await?);
    }
    let (as_vault, _opened) = vault(&installation, &copy).await?;
    callers.push(as_vault);
    ensure!(callers.len() == Role::ALL.len() + 2, "somebody is missing");

    let mut before = BTreeMap::new();
    for role in Role::ALL {
        before.insert(role, refused_by(&installation, role).await?);
    }
    let mut refused: BTreeMap<Role, u64> = BTreeMap::new();
    let (mut passed, mut unheard) = (0, 0);
    for tried in &callers {
        for (at, channel) in &tried.channels {
            for method in METHODS
                .iter()
                .copied()
                .chain(["/coffer.v1.Vault/Unheard", "/", "/coffer.v1.Vault/Enrol/"])
            {
                let became = call(channel.clone(), method)
                    .await
                    .with_context(|| format!("{} calls {method} of {at}", tried.name))?;
                // Only the vault listens to somebody without a certificate.
                let expected = if tried.caller == Caller::Nobody && *at != Role::Vault {
                    Became::Unheard
                } else if may_call(method, tried.caller) {
                    Became::Passed
                } else {
                    Became::Refused
                };
                ensure!(became == expected, "{} calls {method} of {at}: {became:?}", tried.name);
                match became {
                    Became::Refused => *refused.entry(*at).or_default() += 1,
                    Became::Passed => passed += 1,
                    Became::Unheard => unheard += 1,
                }
            }
        }
    }
    let all: u64 = refused.values().sum();
    eprintln!(
        "{all} calls were refused by the table, {passed} were not, {unheard} had no connection; there are {} methods",
        METHODS.len()
    );
    ensure!(passed >= CALLS.len() && all > 1_000, "{passed} passed, {all} were refused");
    for role in Role::ALL {
        let counted = refused_by(&installation, role).await? - before[&role];
        ensure!(
            counted == refused[&role],
            "{role} counts {counted} refused calls of {}",
            refused[&role]
        );
    }
    installation.finish().await
}
