//! Everything a role works with, put together once it has its certificate.

use std::net::TcpListener;
use std::sync::Arc;

use base::{Clock, Entropy, OsEntropy, Role, SystemClock};
use edge::revocations::Watch;
use edge::{Auditing, ByVault, CurrentSigner, Metrics, Peers, Readiness, RoleContext, RoleTls, Table, ZoneReport, sandbox};
use rustls_pki_types::CertificateDer;
use seal::InstallationKey;
use tokio_util::sync::CancellationToken;

use super::{Listeners, chain, policy};
use crate::Parts;
use crate::failure::{During, Exit, Failure, Outcome};
use crate::handover::Handover;

/// What a role has once it is known to the others.
pub(super) struct Secured {
    pub(super) tls: Arc<RoleTls>,
    pub(super) signer: CurrentSigner,
    pub(super) installation: InstallationKey,
    pub(super) peers: Arc<Peers>,
    pub(super) revocations: Option<Arc<Watch>>,
    pub(super) audit: Auditing,
    pub(super) table: Table,
}

/// The listeners for the world: public and plain.
pub(super) type Public = (Option<TcpListener>, Option<TcpListener>);

/// Gets the first certificate of any role but the vault, and keeps it renewed.
pub(super) async fn enrolled(
    mut handover: Handover,
    listeners: Listeners,
    report: sandbox::Report,
    cancel: CancellationToken,
    parts: Parts,
) -> Outcome<(RoleContext, Public)> {
    let role = handover.role;
    let what = format!("the {role} role could not get its certificate");
    let missing = |which: &str| Failure::new(Exit::Usage, what.as_str()).why(format!("{which} was not handed over"));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let entropy: Arc<dyn Entropy> = Arc::new(OsEntropy);
    let enrolment = handover.enrolment.take().ok_or_else(|| missing("an enrolment token"))?;
    let installation = InstallationKey::try_from(&enrolment.installation_key.0[..]).during(what.as_str())?;
    let ca = CertificateDer::from(enrolment.ca_certificate.0);
    let vault = *handover.peers.get(&Role::Vault).ok_or_else(|| missing("the vault's address"))?;
    let token = enrolment.token.0;
    let enrolled = edge::enrol(
        vault,
        ca,
        installation,
        token.reveal(),
        role,
        Arc::clone(&entropy),
        Arc::clone(&clock),
    )
    .await;
    let (tls, signer) = enrolled.map_err(|error| Failure::new(Exit::from(error.kind()), what.as_str()).why(chain(&error)))?;
    let (tls, signer) = (Arc::new(tls), CurrentSigner::new(signer));
    let peers = Arc::new(Peers::new(Arc::clone(&tls), policy::callees(&handover)));
    edge::spawn_renewal(
        Arc::clone(&tls),
        signer.clone(),
        installation,
        Arc::clone(&peers),
        Arc::clone(&clock),
        cancel.clone(),
    );
    // Accounts tells of revocations itself. Where nobody is served there is nothing to revoke.
    let follows = role != Role::Accounts && handover.rebuild.is_none();
    let revocations = follows.then(|| Watch::follow(&peers, Arc::clone(&clock), &cancel));
    let audit = Auditing::in_order(parts.order);
    audit.by(Arc::new(ByVault::new(peers.channel(Role::Vault))));
    let secured = Secured {
        tls,
        signer,
        installation,
        peers,
        revocations,
        audit,
        table: parts.table,
    };
    Ok(assemble(handover, listeners, report, cancel, clock, entropy, secured))
}

pub(super) fn assemble(
    handover: Handover,
    listeners: Listeners,
    report: sandbox::Report,
    cancel: CancellationToken,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    secured: Secured,
) -> (RoleContext, Public) {
    let Secured {
        tls,
        signer,
        installation,
        peers,
        revocations,
        audit,
        table,
    } = secured;
    let context = RoleContext {
        role: handover.role,
        directory: handover.directory,
        clock,
        entropy,
        tls,
        signer,
        installation,
        peers,
        listener: listeners.internal,
        operator: listeners.operator,
        metrics: Metrics::default(),
        readiness: Readiness::default(),
        zones: ZoneReport::default(),
        drills: edge::Drills::default(),
        audit,
        table,
        sandbox: report,
        revocations,
        cancel,
    };
    (context, (listeners.public, listeners.plain))
}
