//! A vault that was started to rebuild: its view is made anew from its journal, and it lends keys for rebuilding and for nothing else.
//!
//! Whether a vault rebuilds is said on its standard input by who starts it, which takes the owner of the data directory and of the root
//! key in it; no call can say it. Promise: products' private keys leave it without a pass only then, and only to the warehouse that was
//! enrolled in this very start, by a token from the owner's local socket. A certificate from before does not do.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use base::Role;
use edge::Peer;
use edge::rebuild::{Finding, Order, RebuildLog, put_in_place, remove_database};
use journal::Recovered;
use seal::HolderId;
use zones::Zones;

use crate::open::{OpenError, catch_up};
use crate::root::RootKey;
use crate::view::{HeadRow, View};

/// What a vault that rebuilds has beside what every vault has.
pub(crate) struct Rebuilding {
    order: Order,
    pub(crate) log: RebuildLog,
    warehouses: Mutex<HashSet<HolderId>>,
}

impl Rebuilding {
    pub(crate) fn of(order: Order) -> Self {
        Self {
            order,
            log: RebuildLog::default(),
            warehouses: Mutex::default(),
        }
    }

    /// Whether anything is to be changed.
    pub(crate) fn changes(&self) -> bool {
        !self.order.compare_only
    }

    /// A role was enrolled in this start.
    pub(crate) fn enrolled(&self, role: Role, holder: HolderId) {
        if role == Role::Warehouse {
            self.warehouses.lock().unwrap_or_else(PoisonError::into_inner).insert(holder);
        }
    }

    /// Whether keys may be lent to this one.
    pub(crate) fn may_lease(&self, peer: &Peer) -> bool {
        let known = || {
            self.warehouses
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .contains(&peer.holder)
        };
        peer.role == Role::Warehouse && known()
    }

    /// Makes the view at `at` anew, beside the old one, and puts it in its place once it holds the whole journal. The heads of other
    /// roles' journals are in its journal only as they were some time ago: where the old view can still be read, they are taken over.
    pub(crate) async fn view(&self, at: &Path, zones: &Zones, root: &RootKey, recovered: &Recovered) -> Result<(), OpenError> {
        if self.order.compare_only {
            return Ok(());
        }
        let heads = self.heads(at, zones, root, recovered).await?;
        let new_at = at.with_extension("rebuilding");
        remove_database(&new_at).map_err(OpenError::Replace)?;
        let new = View::open(&new_at).await?;
        catch_up(&new, zones, root, recovered).await?;
        for (role, heads) in &heads {
            new.remember(*role, heads).await?;
        }
        new.close().await;
        put_in_place(&new_at, at).map_err(OpenError::Replace)
    }

    /// Says what there is now.
    pub(crate) async fn tell(&self, view: &View, recovered: &Recovered) -> Result<(), OpenError> {
        let (products, credentials, revoked) = view.counts().await?;
        let says = format!(
            "{} segments: keys of {products} products, {credentials} keys made for them, {revoked} of these revoked",
            recovered.segments.len()
        );
        self.log.found("vault", Finding::Good, says);
        Ok(())
    }

    /// Says how much there is of the audit journal.
    pub(crate) fn tell_audit(&self, records: u64) {
        self.log
            .found("audit", Finding::Good, format!("{records} records, each on the one before it"));
    }

    /// Accounts signed another state of the audit journal.
    pub(crate) fn audit_went_back(&self, another: &dyn std::error::Error) {
        self.log.found("audit", Finding::Damaged, another.to_string());
    }

    /// Says something about the audit journal that is no fault of it.
    pub(crate) fn note_audit(&self, says: String) {
        self.log.found("audit", Finding::Note, says);
    }

    /// What the accounts role remembers of the vault's own journal was compared with it: that is the last there is to say.
    pub(crate) fn compared(&self, went_back: bool) {
        if went_back {
            let says = "the accounts role remembers another state of the vault's journal than its zones hold: bring back the zones that hold the rest";
            self.log.found("vault", Finding::Damaged, says);
        }
        self.log.finish();
    }

    async fn heads(&self, at: &Path, zones: &Zones, root: &RootKey, recovered: &Recovered) -> Result<Vec<(Role, Vec<HeadRow>)>, OpenError> {
        if !at.exists() {
            self.log.found("vault", Finding::Note, "its view was gone: how long other roles' journals were is known as of the last time that it was noted in the vault's own, every six hours and at a stop");
            return Ok(Vec::new());
        }
        match old_heads(at, zones, root, recovered).await {
            Ok(heads) => Ok(heads),
            Err(OpenError::View(error)) => {
                let says = format!(
                    "its old view cannot be read: how long other roles' journals were is known as of the last time that it was noted in the vault's own: {error}"
                );
                self.log.found("vault", Finding::Note, says);
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }
}

/// What the old view remembers. One that has seen more than the journal holds is an error: that is missing.
async fn old_heads(at: &Path, zones: &Zones, root: &RootKey, recovered: &Recovered) -> Result<Vec<(Role, Vec<HeadRow>)>, OpenError> {
    let old = View::open(at).await?;
    let read = async {
        catch_up(&old, zones, root, recovered).await?;
        let mut heads = Vec::new();
        for role in Role::ALL {
            heads.push((role, old.recall(role).await?));
        }
        Ok(heads)
    };
    let heads = read.await;
    old.close().await;
    heads
}
