//! The accounts role: which products there are, and what each credential may do.
//!
//! Promise: a grant is signed only for an assertion that the vault signed, that is live and that its caller may use; what was answered is in
//! the journal, in a majority of this role's zones, and only then in the view.
//!
//! Start at [`run`]; the rules are in [`state`]. Knows products, credentials' ids and verbs. Does not know keys, verifiers, events or identities,
//! and cannot say who somebody is.

mod columns;
mod facts;
mod grants;
mod heads;
mod operator;
mod rebuild;
mod settings;
mod state;
mod view;
mod witness;

use std::sync::Arc;
use std::time::Duration;

use base::{ErrorKind, Role, Timestamp};
use edge::RoleContext;
use edge::revocations::Feed;
use seal::{PrivateKey, Purpose, derive};
use tonic::service::Routes;
use wire::v1::accounts_operator_server::AccountsOperatorServer;
use wire::v1::accounts_server::AccountsServer;
use wire::v1::audit_witness_server::AuditWitnessServer;
use wire::v1::heads_client::HeadsClient;
use wire::v1::heads_server::HeadsServer;
use wire::v1::vault_client::VaultClient;
use wire::v1::{RecallRequest, StateKeyRequest};
use zones::Zones;

pub use columns::{Change, Declared};
pub use rebuild::rebuild;
pub use settings::AccountsSettings;
pub use state::{GrantError, OpenError, Parts, Product, ProductError, ProductName, State, StateError};

/// How often is looked whether enough zones work.
const LOOK: Duration = Duration::from_millis(200);

/// Why the role ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The zones as set up cannot work.
    #[error("the zones are not set up well")]
    Zones(#[from] zones::SettingsError),
    /// The vault gave no state key, or not what it should.
    #[error("the vault gave no state key: {0}")]
    Vault(String),
    /// The state could not be opened.
    #[error("the state could not be opened")]
    Open(#[from] OpenError),
    /// A new view could not be made.
    #[error("the view could not be made anew")]
    Replace(#[source] std::io::Error),
    /// The process is ending.
    #[error("interrupted")]
    Interrupted,
    /// Serving ended.
    #[error("serving failed")]
    Serve(#[from] edge::ServeError),
}

impl RunError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Zones(error) => error.kind(),
            Self::Vault(_) | Self::Replace(_) | Self::Interrupted => ErrorKind::Unavailable,
            Self::Open(error) => error.kind(),
            Self::Serve(error) => error.kind(),
        }
    }
}

/// Serves until the context is cancelled.
pub async fn run(settings: AccountsSettings, ctx: RoleContext) -> Result<(), RunError> {
    let vault = ctx.peers.channel(Role::Vault);
    let state_key = lease_state_key(vault.clone()).await?;
    let zones = open_zones(&settings, &ctx, &state_key, Zones::open_of_role).await?;
    let catching_up = zones.spawn_catch_up(ctx.cancel.clone());
    let remembered = recall(vault.clone()).await?;
    let state = State::open(parts(&settings, &ctx, &zones, state_key, remembered)).await?;
    let telling = heads::Vault::follow(Arc::clone(&state), vault, ctx.cancel.clone());
    report(&ctx, &zones);

    let feed = Feed::new(
        Arc::clone(&ctx.clock),
        std::iter::empty::<(Timestamp, base::CredentialId)>(),
        ctx.cancel.clone(),
    );
    let grants = grants::Grants {
        state: Arc::clone(&state),
        granted: ctx.metrics.counter("grants_signed", "grants signed for gateways"),
        refused: ctx.metrics.counter("grants_refused", "assertions for which nothing was granted"),
    };
    let services = Routes::new(AccountsServer::new(grants).max_decoding_message_size(1 << 20))
        .add_service(HeadsServer::new(heads::RememberedHeads { state: Arc::clone(&state) }))
        .add_service(AuditWitnessServer::new(witness(&state, &ctx)))
        .add_service(feed.service());
    let operator = Routes::new(AccountsOperatorServer::new(operator::Operator {
        state: Arc::clone(&state),
        vault: telling,
        feed,
    }));
    let served = edge::serve_role(&ctx, services, operator).await;
    state.close().await;
    // Copies to zones that were behind are finished or left to the next start.
    let _ = catching_up.await;
    Ok(served?)
}

fn witness(state: &Arc<State>, ctx: &RoleContext) -> witness::Witness {
    witness::Witness {
        state: Arc::clone(state),
        installation: ctx.installation,
        signer: ctx.signer.clone(),
        clock: Arc::clone(&ctx.clock),
        one: tokio::sync::Mutex::default(),
    }
}

fn parts(
    settings: &AccountsSettings,
    ctx: &RoleContext,
    zones: &Arc<Zones>,
    state_key: PrivateKey,
    remembered: Vec<journal::Head>,
) -> Parts {
    let signer = ctx.signer.clone();
    Parts {
        zones: Arc::clone(zones),
        signer: Arc::new(move || signer.get()),
        installation: ctx.installation,
        state_key,
        directory: ctx.directory.clone(),
        clock: Arc::clone(&ctx.clock),
        entropy: Arc::clone(&ctx.entropy),
        journal: settings.journal.clone(),
        remembered,
    }
}

/// How zones are opened: at a start, or to rebuild.
type Opening = fn(zones::ZonesSettings, &std::path::Path, Arc<dyn base::Clock>) -> Result<Arc<Zones>, zones::SettingsError>;

/// Ready means that a change could be written now.
fn report(ctx: &RoleContext, zones: &Arc<Zones>) {
    ctx.look_after(zones);
    let (zones, readiness, cancel) = (Arc::clone(zones), ctx.readiness.clone(), ctx.cancel.clone());
    tokio::spawn(async move {
        let mut look = tokio::time::interval(LOOK);
        while cancel.run_until_cancelled(look.tick()).await.is_some() {
            if zones.can_commit() {
                readiness.set_ready();
            } else {
                readiness.set_not_ready("fewer zones work than a majority");
            }
        }
        readiness.set_not_ready("stopping");
    });
}

async fn open_zones(settings: &AccountsSettings, ctx: &RoleContext, state_key: &PrivateKey, open: Opening) -> Result<Arc<Zones>, RunError> {
    let (mut settings, directory, clock) = (settings.zones.clone(), ctx.directory.clone(), Arc::clone(&ctx.clock));
    if settings.installation.is_empty() {
        settings.installation = ctx.installation.name();
    }
    settings.role = Role::Accounts.to_string();
    settings.grave_key = zones::GraveKey::new(*derive(state_key.to_secret_bytes().reveal(), Purpose::Graves, b"accounts").reveal());
    let opened = tokio::task::spawn_blocking(move || open(settings, &directory, clock)).await;
    let (zones, key) = (opened.map_err(|_| RunError::Interrupted)??, ctx.installation);
    ctx.drills.by(zones.drills());
    zones.vouch_with(Arc::new(move |name, object| {
        journal::is_segment(&key, Role::Accounts, name, object)
    }));
    Ok(zones)
}

async fn lease_state_key(channel: tonic::transport::Channel) -> Result<PrivateKey, RunError> {
    let lease = VaultClient::new(channel)
        .lease_state_key(StateKeyRequest {})
        .await
        .map_err(|error| RunError::Vault(error.message().into()))?;
    let bytes = base::SecretBytes::new(lease.into_inner().private_key);
    PrivateKey::try_from(bytes.reveal()).map_err(|error| RunError::Vault(error.to_string()))
}

async fn recall(channel: tonic::transport::Channel) -> Result<Vec<journal::Head>, RunError> {
    let recalled = HeadsClient::new(channel)
        .recall(RecallRequest {})
        .await
        .map_err(|error| RunError::Vault(error.message().into()))?;
    let ours = recalled
        .into_inner()
        .heads
        .into_iter()
        .filter(|head| head.journal == state::JOURNAL);
    ours.map(|head| {
        let hash = head
            .hash
            .try_into()
            .map_err(|_| RunError::Vault("a remembered head cannot be read".into()))?;
        Ok(journal::Head { length: head.length, hash })
    })
    .collect()
}
