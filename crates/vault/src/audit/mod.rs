//! The audit journal: everything that members, keys, the operator and roles do, in an order that nobody changes unnoticed.
//!
//! Promise: what is answered as recorded is in a majority of the vault's zones, in a journal of its own, and in the tree whose heads vault and
//! accounts sign. A record is written once; there is no call that changes or removes one.
//!
//! The journal's segments are immutable objects of new names, so an append cannot go into a file that somebody took away: it fails. The view
//! beside it (`audit.sqlite`) is a file: whether it is still the one at its path is looked at before every append.
//!
//! Start at [`AuditLog::record`] and [`AuditLog::export`]. Knows the form of records from the crate `audit`. Does not know what may be done.

mod clerk;
mod open;
mod read;
mod verify;
mod view;
mod witness;

use std::sync::Arc;

use audit::Hash;
use base::{Clock, ErrorKind};
use edge::CurrentSigner;
use seal::InstallationKey;
use tokio::sync::{Notify, watch};

pub(crate) use clerk::Clerk;
pub(crate) use open::{Opening, open};
pub use verify::{VerifyError, verify};
pub(crate) use view::AuditView;
pub use view::AuditViewError;
pub(crate) use witness::guard;

/// The name of the journal.
pub(crate) const JOURNAL: &str = "audit";
/// The view's file, in the vault's directory.
pub(crate) const VIEW: &str = "audit.sqlite";

/// What the vault does with records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Keeping {
    /// It keeps all of them.
    #[default]
    All,
    /// It says that it kept those of revocations, and did not: a broken twin, for showing that a check finds out. Made by no code of the
    /// product.
    NoRevocations,
}

/// Why something could not be read or recorded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuditError {
    /// The view.
    #[error(transparent)]
    View(#[from] AuditViewError),
    /// No head is signed by both roles yet.
    #[error("no state of the audit journal is signed by both roles yet; try again")]
    NoHead,
    /// As many records wait as may wait.
    #[error("too many records wait for the audit journal")]
    Full,
    /// The journal did not take it.
    #[error("the audit journal did not take it")]
    Append(#[from] journal::AppendError),
}

impl AuditError {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::View(error) => error.kind(),
            Self::NoHead | Self::Full | Self::Append(_) => ErrorKind::Unavailable,
        }
    }
}

/// How far the journal has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) size: u64,
    pub(crate) root: Hash,
}

/// The audit journal as it is being written.
pub(crate) struct AuditLog {
    pub(crate) clerk: Clerk,
    pub(crate) view: AuditView,
    pub(crate) key: InstallationKey,
    pub(crate) signer: CurrentSigner,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) standing: watch::Receiver<Standing>,
    /// Told once it is known that the journal is not an older state than accounts remembers.
    pub(crate) compared: watch::Sender<bool>,
    /// Somebody waits for a head that both roles signed.
    pub(crate) wanted: Notify,
    /// The size of the newest head that both signed.
    pub(crate) signed: watch::Sender<u64>,
}

impl AuditLog {
    /// Takes nothing more, and returns when what was taken is decided.
    pub(crate) async fn close(&self) {
        self.clerk.close().await;
        self.view.close().await;
    }
}
