//! The role when it was started to rebuild: product after product, each from its own journal and under its own key.
//!
//! Promise: nothing is served meanwhile but a look at how far it is. A product that cannot be rebuilt is named, and the others are
//! rebuilt all the same. Interrupted, it goes on where it was: a file in the role's directory names the rebuild that is under way.
//!
//! The key of a product comes from the vault, which lends it to nobody but a role that was started with it to rebuild (`leased`).

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::Path;

use base::{Entropy, ErrorKind, ProductId, Role, SecretBytes};
use edge::rebuild::{Finding, Order, RebuildLog};
use edge::{RoleContext, kind_of};
use seal::PrivateKey;
use tonic::service::Routes;
use wire::v1::vault_client::VaultClient;
use wire::v1::{Head, RebuildLeaseRequest, RememberRequest};
use zones::Zones;

use crate::product::rebuild::{Rebuild, RunId};
use crate::product::{JOURNALS, ProductError, chain, journal_name};
use crate::settings::WarehouseSettings;
use crate::start::{Started, start};
use crate::{RunError, Shared};

/// Why a product was not rebuilt.
#[derive(Debug, thiserror::Error)]
enum RebuildError {
    #[error("the vault gave no key to rebuild with: {}", .0.message())]
    Lease(Box<tonic::Status>),
    #[error("the vault's answer is not a key")]
    NotAKey(#[from] seal::SealError),
    #[error(transparent)]
    Product(#[from] ProductError),
}

impl RebuildError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Lease(status) => kind_of(status),
            Self::NotAKey(_) => ErrorKind::Internal,
            Self::Product(error) => error.kind(),
        }
    }
}

/// Rebuilds, and then stays for whoever looks until the context is cancelled.
pub async fn rebuild(settings: WarehouseSettings, ctx: RoleContext, order: Order) -> Result<(), RunError> {
    let log = RebuildLog::default();
    let serving = edge::serve_role(&ctx, Routes::default(), Routes::new(log.service()));
    let working = async {
        let Some(outcome) = ctx.cancel.run_until_cancelled(Box::pin(work(settings, &ctx, order, &log))).await else {
            return;
        };
        if let Err(error) = outcome {
            log.found("warehouse", Finding::of(error.kind()), chain(&error));
        }
        ctx.readiness.set_ready();
        log.finish();
    };
    let (served, ()) = tokio::join!(serving, working);
    Ok(served?)
}

async fn work(settings: WarehouseSettings, ctx: &RoleContext, order: Order, log: &RebuildLog) -> Result<(), RunError> {
    let Started {
        shared,
        mut heads,
        remembered,
        queries,
        ..
    } = start(settings, ctx, Zones::open_to_rebuild).await?;
    let remembered: HashMap<String, Head> = remembered.into_iter().map(|head| (head.journal.clone(), head)).collect();
    let mark = ctx.directory.join("rebuilding");
    let run = run_id(&mark, order, &*ctx.entropy).await?;
    let mut whole = true;
    for product in products(&shared, &remembered).await? {
        let attempt = async {
            let key = leased(ctx, product).await?;
            let rebuild = Rebuild {
                id: product,
                shared: &shared,
                key,
                queries: &queries.handle(),
                remembered: remembered.get(&journal_name(product)),
                run,
                order,
                log,
            };
            Ok::<_, RebuildError>(Box::pin(rebuild.run()).await?)
        };
        match attempt.await {
            Ok(head) => {
                let told = heads.remember(RememberRequest { heads: vec![head] }).await;
                told.map_err(|status| RunError::Vault {
                    what: "room for the heads of journals",
                    source: Box::new(status),
                })?;
            }
            Err(error) => {
                whole = false;
                log.found(format!("product {product}"), Finding::of(error.kind()), chain(&error));
            }
        }
    }
    if whole && !order.compare_only {
        std::fs::remove_file(&mark).map_err(RunError::Mark)?;
    }
    Ok(())
}

/// The product's private key. All that a rebuild opens, it opens with what this gives; a product whose key its customer keeps would
/// need it handed over with the order to rebuild, and is refused here until then.
async fn leased(ctx: &RoleContext, product: ProductId) -> Result<PrivateKey, RebuildError> {
    let mut vault = VaultClient::new(ctx.peers.channel(Role::Vault));
    let leased = vault.lease_to_rebuild(RebuildLeaseRequest { product: product.get() }).await;
    let leased = leased.map_err(|status| RebuildError::Lease(Box::new(status)))?.into_inner();
    let bytes = SecretBytes::new(leased.private_key);
    Ok(PrivateKey::try_from(bytes.reveal())?)
}

/// Every product that has a journal, or of which one is remembered.
async fn products(shared: &Shared, remembered: &HashMap<String, Head>) -> Result<BTreeSet<ProductId>, RunError> {
    let settled = shared.zones.settle(JOURNALS).await?;
    let names = settled.objects.iter().chain(&settled.doubtful).map(|name| name.as_str());
    let names = names.chain(remembered.keys().map(String::as_str));
    let number = |name: &str| name.split('/').nth(1)?.parse().ok();
    Ok(names.filter_map(number).collect())
}

/// The rebuild that is under way, or a new one.
async fn run_id(mark: &Path, order: Order, entropy: &dyn Entropy) -> Result<RunId, RunError> {
    let mut new = RunId::default();
    entropy.fill(&mut new);
    if order.compare_only {
        return Ok(new);
    }
    match std::fs::read(mark).map(RunId::try_from) {
        Ok(Ok(begun)) => return Ok(begun),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(RunError::Mark(error)),
        // None, or one that was broken off while it was written.
        _ => {}
    }
    std::fs::write(mark, new).map_err(RunError::Mark)?;
    Ok(new)
}

#[cfg(test)]
mod tests {
    use base::SeededEntropy;

    use super::*;

    #[tokio::test]
    async fn a_rebuild_that_was_interrupted_is_the_same_one() {
        let directory = tempfile::tempdir().unwrap();
        let (mark, chance) = (directory.path().join("rebuilding"), SeededEntropy::new(1));
        let (rebuild, compare) = [false, true]
            .map(|compare_only| Order {
                verify: true,
                compare_only,
            })
            .into();
        run_id(&mark, compare, &chance).await.unwrap();
        assert!(!mark.exists(), "whoever only compares begins nothing");
        let begun = run_id(&mark, rebuild, &chance).await.unwrap();
        assert_eq!(run_id(&mark, rebuild, &chance).await.unwrap(), begun);
        std::fs::write(&mark, b"half").unwrap();
        assert_ne!(run_id(&mark, rebuild, &chance).await.unwrap(), begun);
    }
}
