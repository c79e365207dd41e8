//! The warehouse: what happened. Raw logs, tables, jobs and queries of every product, each under that product's keys.
//!
//! Promise: rows that were acknowledged are in a majority of zones and in the next query's answer, exactly once. Nothing stored is
//! readable here without a lease that some reading credential's pass led to.
//!
//! Start at [`run`], then `service.rs` (what the gateway may ask), `product/` (rows in, files, recovery) and `jobs/` (questions).
//! Does not know identities, HTTP or who members are.

mod aside;
mod entries;
mod jobs;
mod known;
mod leases;
mod memory;
mod product;
mod queries;
mod service;
mod settings;
mod shared;
mod tail;
mod warehouse;

use std::sync::Arc;
use std::time::Duration;

use base::{ErrorKind, Role, WriterId};
use edge::{RoleContext, serve_role};
use query::Engine;
use seal::{DataKey, Purpose, derive};
use tonic::service::Routes;
use wire::v1::heads_client::HeadsClient;
use wire::v1::vault_client::VaultClient;
use wire::v1::warehouse_server::WarehouseServer;
use wire::v1::{Head, RecallRequest, RememberRequest, StateKeyRequest};
use zones::Zones;

pub use settings::{FlushSettings, JobSettings, WarehouseSettings};

use crate::known::Known;
use crate::memory::Memory;
use crate::product::LOOK_EVERY;
use crate::queries::Queries;
use crate::service::Service;
use crate::shared::Shared;
use crate::warehouse::Warehouse;

/// Why the warehouse could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The zones cannot be used.
    #[error("the zones cannot be used")]
    Zones(#[from] zones::SettingsError),
    /// The vault could not be asked.
    #[error("the vault could not be asked for {what}")]
    Vault {
        /// What for.
        what: &'static str,
        /// Its answer.
        source: Box<tonic::Status>,
    },
    /// The process is ending.
    #[error("interrupted while starting")]
    Interrupted,
    /// The threads for queries could not be started.
    #[error("the threads for queries could not be started")]
    Threads(#[source] std::io::Error),
    /// Other roles could not be served.
    #[error(transparent)]
    Serve(#[from] edge::ServeError),
}

impl RunError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Zones(source) => source.kind(),
            Self::Vault { source, .. } => edge::kind_of(source),
            Self::Threads(_) | Self::Interrupted => ErrorKind::Unavailable,
            Self::Serve(source) => source.kind(),
        }
    }
}

/// Runs the warehouse until its context is cancelled: then requests in flight finish and memory is flushed.
pub async fn run(settings: WarehouseSettings, ctx: RoleContext) -> Result<(), RunError> {
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
    let (directory, clock) = (ctx.directory.clone(), Arc::clone(&ctx.clock));
    let opened = tokio::task::spawn_blocking(move || Zones::open_of_role(zones_settings, &directory, clock)).await;
    let zones = opened.map_err(|_| RunError::Interrupted)??;
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
        zones: Arc::clone(&zones),
        signer: ctx.signer.clone(),
        installation: ctx.installation,
        writer,
        batch_key,
        memory,
        rewriting,
        known,
        stages: edge::Stages::of(&ctx.metrics),
    });
    let warehouse = Arc::new(Warehouse::new(
        shared,
        Arc::clone(&ctx.peers),
        ctx.revocations.clone(),
        engine,
        (queries, merging),
        remembered,
    ));
    let keeping = tokio::spawn(keep(Arc::clone(&warehouse), heads, ctx.cancel.clone()));
    let watching = ctx
        .revocations
        .clone()
        .map(|watch| tokio::spawn(follow(Arc::clone(&warehouse), watch, ctx.cancel.clone())));
    let readiness = tokio::spawn(say_whether_ready(Arc::clone(&zones), ctx.readiness.clone(), ctx.cancel.clone()));
    let rows = ctx.metrics.clone();
    warehouse.count_with(rows);

    let service = WarehouseServer::new(Service::new(Arc::clone(&warehouse)))
        .max_decoding_message_size(wire::MAX_MESSAGE)
        .max_encoding_message_size(wire::MAX_MESSAGE);
    serve_role(&ctx, Routes::new(service), Routes::default()).await?;

    // Requests in flight have finished. What stands in memory goes into files, so that the next start has nothing to replay.
    for task in [Some(keeping), watching, Some(readiness)].into_iter().flatten() {
        let _ = task.await;
    }
    warehouse.close().await;
    Ok(())
}

/// Writes rows to files when it is time, merges files, ends leases, and has the heads of journals remembered.
async fn keep(warehouse: Arc<Warehouse>, mut heads: HeadsClient<tonic::transport::Channel>, cancel: tokio_util::sync::CancellationToken) {
    let mut told: std::collections::HashMap<String, u64> = std::collections::HashMap::new();
    let mut merging: Option<tokio::task::JoinHandle<()>> = None;
    let mut retyping: Option<tokio::task::JoinHandle<()>> = None;
    let mut deleting: Option<tokio::task::JoinHandle<()>> = None;
    while cancel.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
        warehouse.sweep();
        warehouse.flush_due().await;
        // Beside all this, not within: a merge may take minutes, and leases must end and memory be written meanwhile.
        if merging.as_ref().is_none_or(tokio::task::JoinHandle::is_finished) {
            let (merger, stop) = (Arc::clone(&warehouse), cancel.clone());
            merging = Some(warehouse.merging.spawn(async move { merger.merge_due(&stop).await }));
        }
        if deleting.as_ref().is_none_or(tokio::task::JoinHandle::is_finished) {
            let deleter = Arc::clone(&warehouse);
            deleting = Some(tokio::spawn(async move { deleter.delete_condemned().await }));
        }
        if retyping.as_ref().is_none_or(tokio::task::JoinHandle::is_finished) {
            let (reader, stop) = (Arc::clone(&warehouse), cancel.clone());
            retyping = Some(warehouse.queries.spawn(async move { reader.retype_due(&stop).await }));
        }
        let news: Vec<Head> = warehouse
            .heads()
            .into_iter()
            .filter(|head| told.get(&head.journal) != Some(&head.length))
            .collect();
        if news.is_empty() {
            continue;
        }
        let lengths: Vec<_> = news.iter().map(|head| (head.journal.clone(), head.length)).collect();
        match tokio::time::timeout(Duration::from_secs(5), heads.remember(RememberRequest { heads: news })).await {
            Ok(Ok(_)) => told.extend(lengths),
            Ok(Err(status)) => tracing::debug!(
                error = status.message(),
                "the vault did not remember the journals' heads, trying again"
            ),
            Err(_) => tracing::debug!("the vault did not answer about the journals' heads, trying again"),
        }
    }
}

/// Ends what a revoked credential has open, and everything that is read once revocations are not heard any more.
async fn follow(warehouse: Arc<Warehouse>, watch: Arc<edge::revocations::Watch>, cancel: tokio_util::sync::CancellationToken) {
    use tokio::sync::broadcast::error::RecvError;
    let mut told = watch.subscribe();
    loop {
        let next = tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            next = tokio::time::timeout(Duration::from_millis(500), told.recv()) => next,
        };
        match next {
            Ok(Ok(credential)) => warehouse.revoke(credential),
            // Some were missed: ending every lease is safe, whoever still may will get another.
            Ok(Err(RecvError::Lagged(_))) => warehouse.revoke_all(),
            Ok(Err(RecvError::Closed)) => return,
            Err(_) if !watch.may_read() => warehouse.revoke_all(),
            Err(_) => {}
        }
    }
}

async fn say_whether_ready(zones: Arc<Zones>, readiness: edge::Readiness, cancel: tokio_util::sync::CancellationToken) {
    loop {
        if zones.can_commit() {
            readiness.set_ready();
        } else {
            readiness.set_not_ready("fewer than a majority of the zones take writes");
        }
        if cancel
            .run_until_cancelled(tokio::time::sleep(Duration::from_millis(250)))
            .await
            .is_none()
        {
            return;
        }
    }
}
