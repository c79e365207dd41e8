//! The identity role: who a person is. Identities become ids, per product, and stay here.
//!
//! Promise: one identity has one id within a product, durable in a majority of this role's zones before it is answered, and
//! unrelated to the same person's id elsewhere. Personal values leave sealed under their owner's own key. This role's disk alone tells nobody who is who: people are
//! kept sealed under a keyring, whose key the vault leases for minutes against a pass, and identities are found in memory only. Who is erased is erased from
//! every older copy of the disk as well.
//!
//! Start at [`run`], then `people.rs` (what is asked), `ledger.rs` (how ids are given) and `keys.rs` (what is held, how long).
//! Does not know events, columns, members or what an id will be used for.

mod erasure;
mod facts;
mod index;
mod keys;
mod ledger;
mod links;
mod look;
mod people;
mod personal;
mod prove;
mod rebuild;
mod receipt;
mod reveal;
mod ring;
mod service;
mod settings;
mod vault;
mod view;

#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base::{ErrorKind, Role};
use edge::RoleContext;
use edge::revocations::Watch;
use journal::JournalParts;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::sleep;
use tonic::service::Routes;
use wire::v1::identity_server::IdentityServer;
use zones::Zones;

pub use ledger::LedgerOpenError;
pub use people::StartError;
pub use prove::{Alike, ProveError, ProveParts, prove, unlinkable};
pub use rebuild::rebuild;
pub use receipt::{CheckError, Checked, Receipt, check};
pub use settings::IdentitySettings;

use crate::people::{LONGEST, MOST_TRANSLATED, Parts, People};
use crate::personal::{MOST_PERSONAL, MOST_PERSONAL_BYTES};
use crate::service::Service;
use crate::vault::VaultRole;

/// How often leases and readiness are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// How long heads are gathered before the vault is told.
const GATHER: Duration = Duration::from_millis(200);
/// How long to wait before trying again what failed for want of another role or a zone.
const AGAIN: Duration = Duration::from_millis(500);
/// The largest call: all identities and personal values as long as may be, and what the encoding adds.
const LARGEST_CALL: usize = MOST_TRANSLATED * (LONGEST + 4) + MOST_PERSONAL_BYTES + MOST_PERSONAL * 24 + (64 << 10);

/// Why the role ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The zones as set up cannot work.
    #[error("the zones are not set up well")]
    Zones(#[from] zones::SettingsError),
    /// The state could not be opened, and trying again will not help.
    #[error("the people could not be opened")]
    Start(#[from] StartError),
    /// Serving ended.
    #[error("serving failed")]
    Serve(#[from] edge::ServeError),
    /// The process is ending.
    #[error("interrupted while starting")]
    Interrupted,
}

impl RunError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Zones(error) => error.kind(),
            Self::Start(error) => error.kind(),
            Self::Serve(error) => error.kind(),
            Self::Interrupted => ErrorKind::Unavailable,
        }
    }
}

/// Serves until the context is cancelled. Callers are answered from the first moment; until the people are there, with "not now".
pub async fn run(settings: IdentitySettings, ctx: RoleContext) -> Result<(), RunError> {
    let Some(state_key) = state_key(&ctx).await else { return Ok(()) };
    let zones = open_zones(&settings, &ctx, &state_key, Zones::open_of_role).await?;
    drop(state_key);
    let catching_up = zones.spawn_catch_up(ctx.cancel.clone());
    ctx.look_after(&zones);

    let people = Arc::new(OnceLock::new());
    let service = IdentityServer::new(Service::new(Arc::clone(&people), &ctx.metrics)).max_decoding_message_size(LARGEST_CALL);
    let serving = edge::serve_role(&ctx, Routes::new(service), Routes::default());
    let starting = async {
        let parts = parts(settings, &ctx, &zones);
        let started = open_people(&parts, &ctx).await;
        match started {
            Ok(Some(opened)) => {
                keep(&opened, &zones, &ctx);
                let _ = people.set(opened);
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(error) => {
                ctx.readiness.set_not_ready(error.to_string());
                ctx.cancel.cancel();
                Err(error)
            }
        }
    };
    let (served, started) = tokio::join!(serving, starting);
    ctx.readiness.set_not_ready("stopping");
    if let Some(people) = people.get() {
        people.close().await;
    }
    // Copies to zones that were behind are finished or left to the next start.
    let _ = catching_up.await;
    started?;
    Ok(served?)
}

/// The role's state key, asked for until the vault gives it; `None` when the role is to end first.
async fn state_key(ctx: &RoleContext) -> Option<base::SecretBytes> {
    let mut vault = wire::v1::vault_client::VaultClient::new(ctx.peers.channel(base::Role::Vault));
    loop {
        match ctx
            .cancel
            .run_until_cancelled(vault.lease_state_key(wire::v1::StateKeyRequest {}))
            .await?
        {
            Ok(lease) => return Some(base::SecretBytes::new(lease.into_inner().private_key)),
            Err(status) => tracing::warn!(error = status.message(), "the vault did not give the state key, asking again"),
        }
        ctx.cancel
            .run_until_cancelled(tokio::time::sleep(std::time::Duration::from_millis(300)))
            .await?;
    }
}

/// How zones are opened: at a start, or to rebuild.
type Opening = fn(zones::ZonesSettings, &std::path::Path, Arc<dyn base::Clock>) -> Result<Arc<Zones>, zones::SettingsError>;

async fn open_zones(
    settings: &IdentitySettings,
    ctx: &RoleContext,
    state_key: &base::SecretBytes,
    open: Opening,
) -> Result<Arc<Zones>, RunError> {
    let (mut settings, directory, clock) = (settings.zones.clone(), ctx.directory.clone(), Arc::clone(&ctx.clock));
    if settings.installation.is_empty() {
        settings.installation = ctx.installation.name();
    }
    settings.role = Role::Identity.to_string();
    settings.grave_key = zones::GraveKey::new(*seal::derive(state_key.reveal(), seal::Purpose::Graves, b"identity").reveal());
    let opened = tokio::task::spawn_blocking(move || open(settings, &directory, clock)).await;
    let (zones, key) = (opened.map_err(|_| RunError::Interrupted)??, ctx.installation);
    ctx.drills.by(zones.drills());
    zones.vouch_with(Arc::new(move |name, object| {
        journal::is_segment(&key, Role::Identity, name, object)
    }));
    Ok(zones)
}

fn parts(settings: IdentitySettings, ctx: &RoleContext, zones: &Arc<Zones>) -> Parts {
    let signer = ctx.signer.clone();
    Parts {
        journal: JournalParts {
            zones: Arc::clone(zones),
            signer: Arc::new(move || signer.get()),
            clock: Arc::clone(&ctx.clock),
            entropy: Arc::clone(&ctx.entropy),
        },
        settings: settings.journal,
        hot_identities: settings.hot_identities,
        reveals_per_hour: settings.reveals_per_hour,
        installation: ctx.installation,
        directory: ctx.directory.clone(),
        vault: Arc::new(VaultRole {
            channel: ctx.peers.channel(Role::Vault),
        }),
    }
}

/// Opens the people, however long the vault or the zones need. `None` when the role is to stop meanwhile.
async fn open_people(parts: &Parts, ctx: &RoleContext) -> Result<Option<Arc<People>>, StartError> {
    while let Some(started) = ctx.cancel.run_until_cancelled(People::start(parts)).await {
        match started {
            Ok(people) => return Ok(Some(people)),
            Err(error) if error.kind().is_temporary() => ctx.readiness.set_not_ready(error.to_string()),
            Err(error) => return Err(error),
        }
        if ctx.cancel.run_until_cancelled(sleep(AGAIN)).await.is_none() {
            break;
        }
    }
    Ok(None)
}

/// What goes on beside the calls, until the role stops.
fn keep(people: &Arc<People>, zones: &Arc<Zones>, ctx: &RoleContext) {
    let (looked_at, zones, readiness, cancel) = (Arc::clone(people), Arc::clone(zones), ctx.readiness.clone(), ctx.cancel.clone());
    let leased = ctx.metrics.gauge("lookup_keys", "products whose lookup key is leased now");
    tokio::spawn(async move {
        let mut look = tokio::time::interval(LOOK);
        while cancel.run_until_cancelled(look.tick()).await.is_some() {
            looked_at.sweep();
            leased.set(i64::try_from(looked_at.leases().len()).unwrap_or(i64::MAX));
            if zones.can_commit() {
                readiness.set_ready();
            } else {
                readiness.set_not_ready("fewer zones work than a majority");
            }
        }
    });
    let (told_of, cancel) = (Arc::clone(people), ctx.cancel.clone());
    tokio::spawn(async move {
        while cancel.run_until_cancelled(told_of.grown()).await.is_some() {
            while cancel.run_until_cancelled(sleep(GATHER)).await.is_some() && !told_of.tell_heads().await {
                cancel.run_until_cancelled(sleep(AGAIN)).await;
            }
        }
    });
    if let Some(watch) = ctx.revocations.clone() {
        let (people, cancel) = (Arc::clone(people), ctx.cancel.clone());
        tokio::spawn(async move {
            cancel.run_until_cancelled(follow(people, watch)).await;
        });
    }
}

/// Ends the leases of revoked credentials.
async fn follow(people: Arc<People>, watch: Arc<Watch>) {
    let mut told = watch.subscribe();
    loop {
        match told.recv().await {
            Ok(credential) => people.revoke(credential),
            Err(RecvError::Lagged(_)) => people.revoke_all(),
            Err(RecvError::Closed) => return,
        }
    }
}
