//! The vault while it runs: services, its own renewal, readiness, and what keeps its history from going back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base::{ErrorKind, Role, Timestamp};
use edge::revocations::{Feed, REMEMBERED};
use edge::{RoleContext, RoleTls, ServeError, TlsError};
use seal::SealError;
use tokio::time::sleep;
use tonic::service::Routes;
use wire::v1::audit_operator_server::AuditOperatorServer;
use wire::v1::audit_server::AuditServer;
use wire::v1::heads_server::HeadsServer;
use wire::v1::people_keys_server::PeopleKeysServer;
use wire::v1::vault_operator_server::VaultOperatorServer;
use wire::v1::vault_root_server::VaultRootServer;
use wire::v1::vault_server::VaultServer;

use crate::OpenedVault;
use crate::audit;
use crate::authority::AuthorityError;
use crate::own_head;
use crate::services::audit::Own;
use crate::services::{Chain, Counts, Services, Shared};
use crate::view::ViewError;

const LOOK: Duration = Duration::from_secs(5);
/// How often heads of other roles' journals are put into this one: each time it grows by one segment, which every start reads.
const NOTE_EVERY: Duration = Duration::from_secs(6 * 3600);
const ASK_ZONES: Duration = Duration::from_millis(500);

/// Why the vault stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not serve.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The view failed at the start.
    #[error(transparent)]
    View(#[from] ViewError),
    /// Another role remembers more of the journal than the zones hold.
    #[error("the accounts role remembers another state of the vault's journal than its zones hold; they hold an older one")]
    WentBack,
    /// Another role signed another state of the audit journal.
    #[error("the accounts role signed another state of the audit journal than the vault has: what it has is an older or another one")]
    AuditWentBack,
}

impl RunError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Serve(error) => error.kind(),
            Self::View(error) => error.kind(),
            Self::WentBack | Self::AuditWentBack => ErrorKind::Corrupt,
        }
    }
}

impl OpenedVault {
    /// Takes calls until the context's token is cancelled.
    pub async fn serve(self, ctx: RoleContext) -> Result<(), RunError> {
        let Self {
            shared,
            tls,
            zones,
            recovered,
        } = self;
        ctx.drills.by(zones.drills());
        ctx.audit.by(Arc::new(Own(Arc::clone(&shared))));
        let now = ctx.clock.now();
        let since = Timestamp::from_micros(now.as_micros() - i64::try_from(REMEMBERED.as_micros()).unwrap_or_default());
        let recent = shared.keyring.view.revoked_since(since).await?;
        let feed = Feed::new(Arc::clone(&ctx.clock), recent, ctx.cancel.clone());

        let catch_up = zones.spawn_catch_up(ctx.cancel.clone());
        ctx.look_after(&zones);

        let services = Arc::new(Services {
            shared: Arc::clone(&shared),
            feed: feed.clone(),
            counts: Counts::new(&ctx.metrics),
            cancel: ctx.cancel.clone(),
        });
        let for_roles = Routes::new(VaultServer::from_arc(Arc::clone(&services)))
            .add_service(HeadsServer::from_arc(Arc::clone(&services)))
            .add_service(AuditServer::from_arc(Arc::clone(&services)).max_decoding_message_size(4 << 20))
            .add_service(PeopleKeysServer::from_arc(Arc::clone(&services)))
            .add_service(feed.service());
        let for_operator = Routes::new(VaultOperatorServer::from_arc(Arc::clone(&services)))
            .add_service(VaultRootServer::from_arc(Arc::clone(&services)))
            .add_service(AuditOperatorServer::from_arc(services));
        let for_operator = match &shared.rebuilding {
            Some(rebuilding) => for_operator.add_service(rebuilding.log.service()),
            None => for_operator,
        };

        let compared = AtomicBool::new(false);
        let watching = ctx.cancel.child_token();
        let background = async {
            let ready = async {
                loop {
                    if zones.can_commit() {
                        ctx.readiness.set_ready();
                    } else {
                        ctx.readiness.set_not_ready("fewer than a majority of the vault's zones work");
                    }
                    sleep(ASK_ZONES).await;
                }
            };
            let heads = async {
                let went_back = own_head::guard(&shared, &recovered, &ctx.peers, &compared).await;
                if let Some(rebuilding) = &shared.rebuilding {
                    // It serves nobody; whoever had it started is told.
                    rebuilding.compared(true);
                    return std::future::pending().await;
                }
                // Yesterday's state must not go on being served as today's.
                tracing::error!(error = %Chain(&went_back), "the vault stops");
                ctx.cancel.cancel();
                went_back
            };
            let witness = async {
                let another = Box::pin(audit::guard(&shared.audit, &ctx.peers, &compared)).await;
                if let Some(rebuilding) = &shared.rebuilding {
                    rebuilding.audit_went_back(&another);
                    return std::future::pending().await;
                }
                tracing::error!(error = %another, "the vault stops");
                ctx.cancel.cancel();
                RunError::AuditWentBack
            };
            tokio::select! {
                () = ready => None,
                () = renew(&shared, &tls) => None,
                () = note(&shared, &compared) => None,
                went_back = heads => Some(went_back),
                another = witness => Some(another),
            }
        };
        let serving = async {
            let served = edge::serve_role(&ctx, for_roles, for_operator).await;
            watching.cancel();
            served
        };
        let (served, went_back) = tokio::join!(serving, watching.run_until_cancelled(background));
        // `serve_role` also returns when a listener fails; what was started here ends with it.
        ctx.cancel.cancel();
        if let Err(error) = catch_up.await {
            tracing::error!(%error, "the vault's zones were not caught up to the end");
        }
        // The others have stopped before, and told how far they came. A journal that may be an older one is not written to: what is newer
        // would then stand beside it when it is back.
        if compared.load(Ordering::SeqCst) && !matches!(went_back, Some(Some(_))) {
            note_all(&shared).await;
        }
        shared.audit.close().await;
        shared.keyring.view.close().await;
        served?;
        match went_back.flatten() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

async fn note(shared: &Shared, compared: &AtomicBool) {
    loop {
        sleep(NOTE_EVERY).await;
        if compared.load(Ordering::SeqCst) {
            note_all(shared).await;
        }
    }
}

async fn note_all(shared: &Shared) {
    if shared.rebuilding.as_ref().is_some_and(|rebuilding| !rebuilding.changes()) {
        return;
    }
    loop {
        match shared.keyring.note_heads().await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return tracing::warn!(error = %Chain(&error), "could not note how long other roles' journals are"),
        }
    }
}

// At half of their life, as every role does; only here nobody else has to be asked.
async fn renew(shared: &Shared, tls: &RoleTls) {
    loop {
        sleep(LOOK).await;
        shared.keyring.unlocked.tidy(shared.clock.now());
        if !tls.is_due() && tls.is_in_force() {
            continue;
        }
        match renew_once(shared, tls) {
            Ok(()) => tracing::info!(expires_at = %tls.expires_at(), "renewed the certificate of the vault role"),
            Err(error) => {
                tracing::error!(error = %Chain(&error), expires_at = %tls.expires_at(), "could not renew the vault's certificate")
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum RenewError {
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Seal(#[from] SealError),
}

fn renew_once(shared: &Shared, tls: &RoleTls) -> Result<(), RenewError> {
    let present = shared.signer.get();
    let (issued, signing) = shared.certify(Role::Vault, &tls.certificate_request()?, *present.certificate().public_key())?;
    let renewed = present.renewed(signing)?;
    tls.renew(vec![issued.certificate])?;
    shared.signer.set(renewed);
    Ok(())
}
