//! `coffer demo`: a running installation with a product, keys and sample events, in an empty directory or where it was left.
//!
//! Promise: it starts over nowhere. Keys are shown once, so they are written to `demo.env` before anything else is done with them;
//! batches have ids, so that sending them again after an interruption stores nothing twice.
//!
//! Start at [`run`]. The events are in [`events`].

mod events;
mod keys;
mod msgpack;
mod sending;
mod words;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base::Role;
use futures::future::join_all;
use tokio::runtime::Builder;
use wire::v1::StatusResponse;

use crate::cli::{Demo, SandboxMode};
use crate::client::access::EnvFile;
use crate::commands::tables::in_words;
use crate::config::Config;
use crate::failure::{During, Outcome};
use crate::layout::Layout;
use crate::logging::Logging;
use crate::supervise::{Prepared, Supervisor, asked_to_stop};
use crate::terminal::grouped;
use crate::{operator, terminal};

/// What the demo's product is called.
const PRODUCT: &str = "demo";
/// The query that is printed for trying.
const QUERY: &str = "SELECT event, count(*) FROM web.events GROUP BY 1 ORDER BY 2 DESC";

/// Runs until asked to stop, or stops after printing.
pub(crate) fn run(args: &Demo) -> Outcome {
    let mut config = Config::load(&args.settings)?;
    if let Some(port) = args.port {
        config.shape.listen.public.set_port(port);
    }
    // People read what the demo prints: it says itself what the kernel does not enforce and where the root key lies.
    let logging = Logging::from_environment("error");
    logging.start("demo")?;
    edge::harden_process();
    let begun = Instant::now();
    let layout = Layout::at(&args.data.data)?;
    let prepared = Prepared::new(layout.clone(), config, logging)?;
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .during("could not start")?;
    runtime.block_on(async {
        let mut stopping = std::pin::pin!(asked_to_stop());
        let Some(supervisor) = Supervisor::started(prepared, &mut stopping).await? else {
            return Ok(());
        };
        let started = begun.elapsed();
        let shown = tokio::select! {
            shown = show(&supervisor, &layout, &args.data.data, started) => shown,
            asked = &mut stopping => {
                supervisor.stop().await;
                return asked;
            }
        };
        if shown.is_ok() && !args.exit {
            terminal::say("  (Ctrl-C stops it; `coffer demo` goes on where it was)");
            stopping.await?;
        }
        supervisor.stop().await;
        shown
    })
}

/// Fills the installation where it is empty, and prints what there is.
async fn show(supervisor: &Supervisor, layout: &Layout, named: &Path, started: Duration) -> Outcome {
    let endpoint = supervisor.endpoint();
    let keys = keys::ready(layout, &endpoint).await?;
    let sent = sending::fill(layout, &endpoint, &keys).await?;
    let proof = sending::ask(layout, &endpoint, &keys, QUERY).await?;
    let statuses = statuses(layout).await;

    let mut lines = vec![format!(
        "  coffer {} · data in {} · development: one machine, root key in a 0600 file",
        env!("CARGO_PKG_VERSION"),
        named.display()
    )];
    lines.extend(zones(&statuses));
    lines.push(roles(&statuses, supervisor.sandbox(), started, supervisor.memory().await));
    let env = shown(named, &layout.demo_env());
    lines.push(format!("  ✓ product \"{PRODUCT}\": keys in {env} (write, read, admin)"));
    lines.push(match sent {
        Some(took) => format!(
            "  ✓ {} sample events from {} people sent through the public API in {:.1} s",
            grouped(events::EVENTS as u64),
            grouped(events::PEOPLE as u64),
            took.as_secs_f64()
        ),
        None => format!(
            "  ✓ {} events from {} people are there already",
            grouped(proof.events),
            grouped(proof.people)
        ),
    });
    let kinds: Vec<String> = proof
        .kinds
        .iter()
        .map(|(name, count)| format!("{name} {}", grouped(*count)))
        .collect();
    lines.push(format!(
        "  ✓ asked back in {} ms: {} events, {} people: {}",
        proof.took.as_millis(),
        grouped(proof.events),
        grouped(proof.people),
        kinds.join(" · ")
    ));
    lines.push(format!("  API            {endpoint}      (as a Treasure Data endpoint)"));
    lines.push(format!("  CA certificate {}", shown(named, &layout.ca())));
    let how = if named == Path::new("coffer-data") {
        String::new()
    } else {
        format!(" --data {}", EnvFile::quoted(&named.display().to_string()))
    };
    lines.push(format!("  Try            coffer sql{how} \"{QUERY}\""));
    terminal::print(lines.join("\n"))
}

async fn statuses(layout: &Layout) -> Vec<StatusResponse> {
    let asked = join_all(Role::ALL.map(|role| operator::status(layout, role, Duration::from_secs(5)))).await;
    asked.into_iter().flatten().collect()
}

fn zones(statuses: &[StatusResponse]) -> Option<String> {
    let zones = &statuses.iter().find(|status| status.role == Role::Warehouse.as_str())?.zones;
    if zones.is_empty() {
        return None;
    }
    let (up, down): (Vec<_>, Vec<_>) = zones.iter().partition(|zone| zone.up);
    let names = |zones: Vec<&wire::v1::ZoneStatus>| zones.iter().map(|zone| zone.name.as_str()).collect::<Vec<_>>().join(" ");
    let missing = if down.is_empty() {
        String::new()
    } else {
        format!(" (down: {})", names(down))
    };
    Some(format!(
        "  ✓ zones {}{missing}, acknowledged by {} of {}",
        names(up),
        zones.len() / 2 + 1,
        zones.len()
    ))
}

fn roles(statuses: &[StatusResponse], mode: SandboxMode, started: Duration, memory: u64) -> String {
    let missing: Vec<&str> = statuses
        .iter()
        .flat_map(|status| status.not_enforced.iter().map(String::as_str))
        .collect();
    let cage = match mode {
        SandboxMode::Off => ", without a sandbox, as asked for".to_owned(),
        _ if statuses.iter().any(|status| status.enforced.is_empty()) => ", not in a sandbox: this kernel has none".to_owned(),
        _ => ", each in its sandbox".to_owned(),
    };
    let except = match missing.first() {
        Some(first) if mode != SandboxMode::Off => format!("\n    not enforced here: {first} (`coffer doctor` says all)"),
        _ => String::new(),
    };
    format!(
        "  ✓ {} roles up in {:.1} s{cage}, {} of memory{except}",
        statuses.len(),
        started.as_secs_f64(),
        in_words(memory)
    )
}

/// A path below the data directory the way the data directory was given.
fn shown(named: &Path, path: &Path) -> String {
    let file: PathBuf = named.join(path.file_name().unwrap_or_default());
    file.display().to_string()
}
