//! Rebuilding every product's people from their journals, in a role that was started for that.
//!
//! New views are made beside the old ones and take their place when they hold all of their journals. One that was begun is gone on
//! with: a view knows how much of its journal is in it. Meanwhile nothing is served.

use std::path::Path;
use std::sync::Arc;

use base::{ErrorKind, ProductId, Role};
use edge::RoleContext;
use edge::rebuild::{Finding, Order, RebuildLog, put_in_place};
use journal::RecoverError;
use tonic::service::Routes;
use zones::Zones;

use crate::ledger::{JOURNALS, journal_name};
use crate::people::{Parts, People, kept};
use crate::settings::IdentitySettings;
use crate::view::{View, ViewError};
use crate::{RunError, StartError, open_zones, parts, state_key};

/// Why nothing was rebuilt.
#[derive(Debug, thiserror::Error)]
enum RebuildError {
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("the people of product {0} are not what an older view of them says")]
    WentBack(ProductId, #[source] RecoverError),
    #[error("a new view could not be put in an old one's place")]
    Replace(#[from] std::io::Error),
    #[error(transparent)]
    View(#[from] ViewError),
}

impl RebuildError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Run(error) => error.kind(),
            Self::Start(error) => error.kind(),
            Self::WentBack(_, error) => error.kind(),
            Self::Replace(_) => ErrorKind::Unavailable,
            Self::View(error) => error.kind(),
        }
    }
}

/// Rebuilds, and then stays for whoever looks until the context is cancelled.
pub async fn rebuild(settings: IdentitySettings, ctx: RoleContext, order: Order) -> Result<(), RunError> {
    let log = RebuildLog::default();
    let serving = edge::serve_role(&ctx, Routes::default(), Routes::new(log.service()));
    let working = async {
        let Some(outcome) = ctx.cancel.run_until_cancelled(work(settings, &ctx, order, &log)).await else {
            return;
        };
        if let Err(error) = outcome {
            log.found("identity", Finding::of(error.kind()), crate::ledger::chain(&error));
        }
        ctx.readiness.set_ready();
        log.finish();
    };
    let (served, ()) = tokio::join!(serving, working);
    Ok(served?)
}

async fn work(settings: IdentitySettings, ctx: &RoleContext, order: Order, log: &RebuildLog) -> Result<(), RebuildError> {
    let Some(key) = state_key(ctx).await else { return Ok(()) };
    let zones = open_zones(&settings, ctx, &key, Zones::open_to_rebuild).await?;
    drop(key);
    zones.spawn_catch_up(ctx.cancel.clone());
    let mut parts = parts(settings, ctx, &zones);
    log.doing("people", 0, 0);
    if !order.compare_only {
        let old = ctx.directory.join(JOURNALS);
        let place = ctx.directory.join("rebuilding");
        ask_old_views(&parts, &zones, &old, log).await?;
        parts.directory.clone_from(&place);
        let people = People::start(&parts).await?;
        people.close().await;
        let new = place.join(JOURNALS);
        for product in kept(new.clone()).await? {
            let name = format!("{product}.sqlite");
            put_in_place(&new.join(&name), &old.join(&name))?;
        }
        std::fs::remove_dir_all(&place)?;
        parts.directory.clone_from(&ctx.directory);
    }
    let people = People::start(&parts).await?;
    for product in kept(ctx.directory.join(JOURNALS)).await? {
        let view = View::open(&ctx.directory.join(JOURNALS).join(format!("{product}.sqlite"))).await?;
        let (length, count) = (view.applied().await?.length, view.count().await?);
        view.close().await;
        log.found(
            format!("identity of product {product}"),
            Finding::Good,
            format!("{length} segments: {count} people"),
        );
    }
    people.tell_heads().await;
    people.close().await;
    Ok(())
}

/// An old view that can still be read says how long its journal was at least: a journal that ends before is not whole.
async fn ask_old_views(parts: &Parts, zones: &Arc<Zones>, old: &Path, log: &RebuildLog) -> Result<(), RebuildError> {
    for product in kept(old.to_owned()).await? {
        let read = async {
            let view = View::open(&old.join(format!("{product}.sqlite"))).await?;
            let applied = view.applied().await;
            view.close().await;
            applied
        };
        match read.await {
            Ok(applied) => {
                let name = journal_name(product);
                let checked = journal::recover_after(zones, &parts.installation, Role::Identity, &name, Some(product), &applied).await;
                checked.map_err(|error| RebuildError::WentBack(product, error))?;
            }
            Err(error) => log.found(
                format!("identity of product {product}"),
                Finding::Note,
                format!("its old view cannot be read: {error}"),
            ),
        }
    }
    Ok(())
}
