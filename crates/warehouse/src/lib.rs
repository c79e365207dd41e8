//! The warehouse: what happened. Raw logs, tables, jobs and queries of every product, each under that product's keys.
//!
//! Promise: rows that were acknowledged are in a majority of zones and in the next query's answer, exactly once. Nothing stored is
//! readable here without a lease that some reading credential's pass led to.
//!
//! Start at [`run`], then `service.rs` (what the gateway may ask), `product/` (rows in, files, recovery) and `jobs/` (questions).
//! Does not know identities, HTTP or who members are.

mod arriving;
mod aside;
mod entries;
mod jobs;
mod known;
mod leases;
mod memory;
mod product;
mod prove;
mod queries;
mod rebuild;
mod service;
mod settings;
mod shared;
mod start;
mod tail;
mod warehouse;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base::ErrorKind;
use edge::{RoleContext, serve_role};
use tonic::service::Routes;
use wire::v1::heads_client::HeadsClient;
use wire::v1::warehouse_server::WarehouseServer;
use wire::v1::{Head, RememberRequest};
use zones::Zones;

pub use prove::{Files, ProveError, ProveParts, prove};
pub use rebuild::rebuild;
pub use settings::{DropSettings, FlushSettings, JobSettings, WarehouseSettings};

use crate::arriving::Arriving;
use crate::product::LOOK_EVERY;
use crate::service::Service;
use crate::shared::Shared;
use crate::start::Started;
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
    /// It is not certain which journals there are.
    #[error("it is not certain which journals there are")]
    Settle(#[from] zones::SettleError),
    /// Which rebuild is under way could not be noted or read.
    #[error("could not note in the role's directory which rebuild is under way")]
    Mark(#[source] std::io::Error),
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
            Self::Settle(source) => source.kind(),
            Self::Threads(_) | Self::Interrupted | Self::Mark(_) => ErrorKind::Unavailable,
            Self::Serve(source) => source.kind(),
        }
    }
}

/// Runs the warehouse until its context is cancelled: then requests in flight finish and memory is flushed.
pub async fn run(settings: WarehouseSettings, ctx: RoleContext) -> Result<(), RunError> {
    let Started {
        shared,
        mut heads,
        remembered,
        queries,
        merging,
        engine,
    } = start::start(settings, &ctx, Zones::open_of_role).await?;
    let zones = Arc::clone(&shared.zones);
    let warehouse = Arc::new(Warehouse::new(
        shared,
        Arc::clone(&ctx.peers),
        ctx.revocations.clone(),
        engine,
        (queries, merging),
        remembered,
    ));
    let keeping = tokio::spawn(keep(Arc::clone(&warehouse), heads.clone(), ctx.cancel.clone()));
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
    let service = Arriving::new(service, Arc::clone(&warehouse.shared.memory));
    serve_role(&ctx, Routes::new(service), Routes::default()).await?;

    // Requests in flight have finished. What stands in memory goes into files, so that the next start has nothing to replay.
    for task in [Some(keeping), watching, Some(readiness)].into_iter().flatten() {
        let _ = task.await;
    }
    warehouse.close().await;
    tell(&warehouse, &mut heads, &mut HashMap::new()).await;
    Ok(())
}

/// Writes rows to files when it is time, merges files, ends leases, and has the heads of journals remembered.
async fn keep(warehouse: Arc<Warehouse>, mut heads: HeadsClient<tonic::transport::Channel>, cancel: tokio_util::sync::CancellationToken) {
    let mut told = HashMap::new();
    let mut merging: Option<tokio::task::JoinHandle<()>> = None;
    let mut retyping: Option<tokio::task::JoinHandle<()>> = None;
    let mut deleting: Option<tokio::task::JoinHandle<()>> = None;
    let mut trimming: Option<tokio::task::JoinHandle<()>> = None;
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
        if trimming.as_ref().is_none_or(tokio::task::JoinHandle::is_finished) {
            let (trimmer, stop) = (Arc::clone(&warehouse), cancel.clone());
            trimming = Some(warehouse.queries.spawn(async move { trimmer.trim_due(&stop).await }));
        }
        tell(&warehouse, &mut heads, &mut told).await;
    }
}

/// Has the vault remember those heads of journals that it was not told of yet.
async fn tell(warehouse: &Warehouse, heads: &mut HeadsClient<tonic::transport::Channel>, told: &mut HashMap<String, u64>) {
    let news: Vec<Head> = warehouse
        .heads()
        .into_iter()
        .filter(|head| told.get(&head.journal) != Some(&head.length))
        .collect();
    if news.is_empty() {
        return;
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
