//! Rebuilding the view from the journal, in a role that was started for that.
//!
//! The new view is made beside the old one and takes its place when it holds the whole journal. What is remembered of the vault's journal
//! is in no journal of ours: where the old view can still be read, it is taken over. Meanwhile nothing is served but that.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use base::{ErrorKind, Role};
use edge::rebuild::{Finding, Order, RebuildLog, put_in_place, remove_database};
use edge::{CurrentSigner, RoleContext, status};
use seal::InstallationKey;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use wire::v1::audit_witness_server::{AuditWitness, AuditWitnessServer};
use wire::v1::heads_server::{Heads, HeadsServer};
use wire::v1::{
    CounterSignRequest, CounterSignResponse, LastHeadRequest, LastHeadResponse, RecallRequest, RecallResponse, RememberRequest,
    RememberResponse,
};
use zones::Zones;

use crate::heads::RememberedHeads;
use crate::settings::AccountsSettings;
use crate::state::State;
use crate::view::{FILE, RememberedHead, View, ViewError};
use crate::witness::Witness;
use crate::{RunError, lease_state_key, open_zones, parts, recall};

/// Rebuilds, and then stays for whoever looks until the context is cancelled.
pub async fn rebuild(settings: AccountsSettings, ctx: RoleContext, order: Order) -> Result<(), RunError> {
    let (log, state) = (RebuildLog::default(), Arc::new(OnceLock::new()));
    let late = || Late {
        state: Arc::clone(&state),
        installation: ctx.installation,
        signer: ctx.signer.clone(),
        clock: Arc::clone(&ctx.clock),
    };
    let services = Routes::new(HeadsServer::new(late())).add_service(AuditWitnessServer::new(late()));
    let serving = edge::serve_role(&ctx, services, Routes::new(log.service()));
    let working = async {
        let outcome = match ctx.cancel.run_until_cancelled(work(&settings, &ctx, order, &log)).await {
            Some(outcome) => outcome,
            None => return,
        };
        match outcome {
            Ok(rebuilt) => drop(state.set(rebuilt)),
            Err(error) => log.found("accounts", Finding::of(error.kind()), chain(&error)),
        }
        ctx.readiness.set_ready();
        log.finish();
    };
    let (served, ()) = tokio::join!(serving, working);
    if let Some(state) = state.get() {
        state.close().await;
    }
    Ok(served?)
}

async fn work(settings: &AccountsSettings, ctx: &RoleContext, order: Order, log: &RebuildLog) -> Result<Arc<State>, RunError> {
    let vault = ctx.peers.channel(Role::Vault);
    let state_key = lease_state_key(vault.clone()).await?;
    let zones = open_zones(settings, ctx, &state_key, Zones::open_to_rebuild).await?;
    zones.spawn_catch_up(ctx.cancel.clone());
    let remembered = recall(vault).await?;
    if !order.compare_only {
        let old = ctx.directory.join(FILE);
        let (heads, audited) = old_heads(&ctx.directory, log).await;
        let place = ctx.directory.join("rebuilding");
        let new = place.join(FILE);
        std::fs::create_dir_all(&place).map_err(RunError::Replace)?;
        remove_database(&new).map_err(RunError::Replace)?;
        let mut beside = parts(settings, ctx, &zones, state_key.clone(), remembered.clone());
        beside.directory.clone_from(&place);
        let state = State::open(beside).await?;
        state.remember(Role::Vault, &heads).await.map_err(crate::OpenError::from)?;
        if let Some((size, root)) = audited {
            state.keep_audit_head(size, &root).await.map_err(crate::OpenError::from)?;
        }
        state.close().await;
        put_in_place(&new, &old).map_err(RunError::Replace)?;
        std::fs::remove_dir(&place).map_err(RunError::Replace)?;
    }
    let state = State::open(parts(settings, ctx, &zones, state_key, remembered)).await?;
    let products = state.products().await.map_err(crate::OpenError::from)?.len();
    log.found(
        "accounts",
        Finding::Good,
        format!(
            "{} segments: {products} products, and what each key may do",
            state.head().await.length
        ),
    );
    Ok(state)
}

/// What the old view remembers of the vault's journal.
async fn old_heads(directory: &Path, log: &RebuildLog) -> (Vec<RememberedHead>, Option<(u64, audit::Hash)>) {
    if !directory.join(FILE).exists() {
        return (Vec::new(), None);
    }
    let read = async {
        let old = View::open(directory).await?;
        let heads = async { Ok((old.heads(Role::Vault).await?, old.audit_head().await?)) }.await;
        old.close().await;
        heads
    };
    read.await.unwrap_or_else(|error: ViewError| {
        let says = format!("its old view cannot be read, and with it what it remembered of how long the vault's journal is: {error}");
        log.found("accounts", Finding::Note, says);
        (Vec::new(), None)
    })
}

/// The remembered heads, once there is a view that has them.
struct Late {
    state: Arc<OnceLock<Arc<State>>>,
    installation: InstallationKey,
    signer: CurrentSigner,
    clock: Arc<dyn base::Clock>,
}

impl Late {
    fn state(&self) -> Result<Arc<State>, Status> {
        let state = self.state.get().cloned();
        state.ok_or_else(|| status(ErrorKind::Unavailable, "what is remembered is being rebuilt"))
    }

    fn heads(&self) -> Result<RememberedHeads, Status> {
        Ok(RememberedHeads { state: self.state()? })
    }

    fn witness(&self) -> Result<Witness, Status> {
        Ok(Witness {
            state: self.state()?,
            installation: self.installation,
            signer: self.signer.clone(),
            clock: Arc::clone(&self.clock),
            // The vault asks for one after the other.
            one: tokio::sync::Mutex::default(),
        })
    }
}

#[tonic::async_trait]
impl AuditWitness for Late {
    async fn last(&self, request: Request<LastHeadRequest>) -> Result<Response<LastHeadResponse>, Status> {
        self.witness()?.last(request).await
    }

    async fn counter_sign(&self, request: Request<CounterSignRequest>) -> Result<Response<CounterSignResponse>, Status> {
        self.witness()?.counter_sign(request).await
    }
}

#[tonic::async_trait]
impl Heads for Late {
    async fn remember(&self, request: Request<RememberRequest>) -> Result<Response<RememberResponse>, Status> {
        self.heads()?.remember(request).await
    }

    async fn recall(&self, request: Request<RecallRequest>) -> Result<Response<RecallResponse>, Status> {
        self.heads()?.recall(request).await
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}
