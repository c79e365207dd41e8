//! What every role is given at its start.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use base::{Clock, Entropy, Role};
use seal::{InstallationKey, Signer};
use tokio_util::sync::CancellationToken;

use crate::revocations::Watch;
use crate::{Metrics, Peers, Readiness, RoleTls, ZoneReport, sandbox};

/// Everything a role works with that is not its own business. The binary makes it; every field is handed in.
#[derive(Debug)]
pub struct RoleContext {
    /// Which role this is.
    pub role: Role,
    /// The role's own directory.
    pub directory: PathBuf,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub entropy: Arc<dyn Entropy>,
    /// The role's certificate and key.
    pub tls: Arc<RoleTls>,
    /// What the role signs with.
    pub signer: CurrentSigner,
    /// What signatures of this installation are checked against.
    pub installation: InstallationKey,
    /// The other roles.
    pub peers: Arc<Peers>,
    /// Where other roles call; bound already.
    pub listener: std::net::TcpListener,
    /// Where the operator calls; bound already.
    pub operator: std::os::unix::net::UnixListener,
    /// What is counted.
    pub metrics: Metrics,
    /// Whether the role can do its work.
    pub readiness: Readiness,
    /// The role's zones, for the operator's eyes.
    pub zones: ZoneReport,
    /// The role's zones, for the operator's drills.
    pub drills: crate::Drills,
    /// The way into the audit journal.
    pub audit: crate::Auditing,
    /// Which table of calls the role goes by.
    pub table: crate::Table,
    /// What the kernel enforces.
    pub sandbox: sandbox::Report,
    /// What was revoked. Vault and accounts serve this themselves and have `None`; every other role refuses all passes without it.
    pub revocations: Option<Arc<Watch>>,
    /// Ends the role.
    pub cancel: CancellationToken,
}

/// What a role signs with now. Renewed while it runs; every clone sees the newest.
#[derive(Clone)]
pub struct CurrentSigner(Arc<RwLock<Arc<Signer>>>);

impl CurrentSigner {
    /// Starts with `signer`.
    pub fn new(signer: Signer) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(signer))))
    }

    /// The newest.
    pub fn get(&self) -> Arc<Signer> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces it, for everyone who asks from now on.
    pub fn set(&self, signer: Signer) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(signer);
    }
}

impl fmt::Debug for CurrentSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CurrentSigner")
    }
}
