//! What the role begins with, whether it is to serve or to rebuild: its keys, its zones, and what the vault remembers of its journals.

use std::path::Path;
use std::sync::Arc;

use base::{Clock, Role, WriterId};
use edge::RoleContext;
use query::Engine;
use seal::{DataKey, Purpose, derive};
use tonic::transport::Channel;
use wire::v1::heads_client::HeadsClient;
use wire::v1::vault_client::VaultClient;
use wire::v1::{Head, RecallRequest, StateKeyRequest};
use zones::{SettingsError, Zones, ZonesSettings};

use crate::known::Known;
use crate::memory::Memory;
use crate::queries::Queries;
use crate::settings::WarehouseSettings;
use crate::shared::Shared;
use crate::{RunError, jobs};

/// How zones are opened.
pub(crate) type Opening = fn(ZonesSettings, &Path, Arc<dyn Clock>) -> Result<Arc<Zones>, SettingsError>;

/// What there is then.
pub(crate) struct Started {
    pub(crate) shared: Arc<Shared>,
    pub(crate) heads: HeadsClient<Channel>,
    pub(crate) remembered: Vec<Head>,
    pub(crate) queries: Queries,
    pub(crate) merging: Queries,
    pub(crate) engine: Engine,
}

/// Asks the vault, opens the zones, and has them caught up until the context is cancelled.
pub(crate) async fn start(settings: WarehouseSettings, ctx: &RoleContext, open: Opening) -> Result<Started, RunError> {
    let failed = |what| {
        move |status| RunError::Vault {
            what,
            source: Box::new(status),
        }
    };
    let mut vault = VaultClient::new(ctx.peers.channel(Role::Vault));
    let state_key = vault
        .lease_state_key(StateKeyRequest {})
        .await
        .map_err(failed("its state key"))?
        .into_inner();
    let state_key = base::SecretBytes::new(state_key.private_key);
    let mut zones_settings = settings.zones.clone();
    zones_settings.grave_key = zones::GraveKey::new(*derive(state_key.reveal(), Purpose::Graves, b"warehouse").reveal());
    if zones_settings.installation.is_empty() {
        zones_settings.installation = ctx.installation.name();
    }
    zones_settings.role = Role::Warehouse.to_string();
    let (directory, clock) = (ctx.directory.clone(), Arc::clone(&ctx.clock));
    let opened = tokio::task::spawn_blocking(move || open(zones_settings, &directory, clock)).await;
    let zones = opened.map_err(|_| RunError::Interrupted)??;
    ctx.drills.by(zones.drills());
    let known = Known::load(&ctx.directory).await;
    zones.vouch_with(known.vouch(ctx.installation));
    zones.spawn_catch_up(ctx.cancel.clone());
    ctx.look_after(&zones);

    let batch_key: DataKey = derive(state_key.reveal(), Purpose::BatchIds, b"warehouse");
    let mut heads = HeadsClient::new(ctx.peers.channel(Role::Vault));
    let remembered = heads
        .recall(RecallRequest {})
        .await
        .map_err(failed("the heads it remembers"))?
        .into_inner()
        .heads;

    let writer = WriterId::generate(ctx.clock.now(), &*ctx.entropy);
    let queries = Queries::start("query", settings.query.target_partitions.get()).map_err(RunError::Threads)?;
    let merging = Queries::start("merge", 1).map_err(RunError::Threads)?;
    let engine = Engine::new(Arc::clone(&zones), settings.query.clone());
    let memory = Memory::new(settings.flush.memory_limit);
    let rewriting = Memory::new(settings.flush.rewrite_memory);
    let (most, products) = (settings.jobs.results_in_all, ctx.directory.join("products"));
    let results = tokio::task::spawn_blocking(move || jobs::Room::of_all(most, &products)).await;
    let running = Arc::new(tokio::sync::Semaphore::new(settings.jobs.running_in_all.max(1)));
    let shared = Arc::new(Shared {
        running,
        results: results.map_err(|_| RunError::Interrupted)?,
        settings,
        directory: ctx.directory.clone(),
        clock: Arc::clone(&ctx.clock),
        entropy: Arc::clone(&ctx.entropy),
        zones,
        signer: ctx.signer.clone(),
        installation: ctx.installation,
        writer,
        batch_key,
        memory,
        rewriting,
        known,
        stages: edge::Stages::of(&ctx.metrics),
    });
    Ok(Started {
        shared,
        heads,
        remembered,
        queries,
        merging,
        engine,
    })
}
