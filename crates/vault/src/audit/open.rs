//! How the audit journal is opened: read from where the view has it, brought into the view, and gone on with.

use std::path::Path;
use std::sync::Arc;

use audit::HashKey;
use base::{Clock, Entropy, Role, WriterId};
use bytes::Bytes;
use edge::CurrentSigner;
use edge::rebuild::{put_in_place, remove_database};
use journal::{Head, Journal, JournalParts, JournalSettings, Recovered, recover_after};
use seal::{InstallationKey, PrivateKey};
use tokio::sync::{Notify, watch};
use zones::Zones;

use super::clerk::{Clerk, Desk};
use super::view::{AuditView, Edge, Stored};
use super::{AuditLog, AuditViewError, JOURNAL, Keeping, Standing, VIEW};
use crate::open::OpenError;
use crate::rebuild::Rebuilding;

/// Records that get into the view at once.
const AT_ONCE: usize = 5000;

/// What it takes to open it.
pub(crate) struct Opening<'a> {
    pub(crate) directory: &'a Path,
    pub(crate) zones: &'a Arc<Zones>,
    pub(crate) key: InstallationKey,
    /// To what records are sealed.
    pub(crate) private: PrivateKey,
    pub(crate) hashes: HashKey,
    pub(crate) signer: CurrentSigner,
    pub(crate) clock: &'a Arc<dyn Clock>,
    pub(crate) entropy: &'a Arc<dyn Entropy>,
    pub(crate) journal: JournalSettings,
    pub(crate) keeping: Keeping,
    pub(crate) rebuilding: Option<&'a Rebuilding>,
}

/// Opens it. An installation from before there was one begins with an empty journal.
pub(crate) async fn open(opening: Opening<'_>) -> Result<AuditLog, OpenError> {
    let at = opening.directory.join(VIEW);
    if let Some(rebuilding) = opening.rebuilding.filter(|rebuilding| rebuilding.changes()) {
        rebuild(&opening, rebuilding, &at).await?;
    }
    let view = AuditView::open(&at).await?;
    let (recovered, edge) = catch_up(&opening, &view).await?;
    if let Some(rebuilding) = opening.rebuilding {
        rebuilding.tell_audit(edge.tree.size());
    }
    let signer = opening.signer.clone();
    let parts = JournalParts {
        zones: Arc::clone(opening.zones),
        signer: Arc::new(move || signer.get()),
        clock: Arc::clone(opening.clock),
        entropy: Arc::clone(opening.entropy),
    };
    let journal = Journal::start(
        parts,
        opening.journal.clone(),
        JOURNAL,
        None,
        opening.private.public(),
        WriterId::generate(opening.clock.now(), &**opening.entropy),
        recovered.tail(),
    );
    let newest = view.newest().await?.map_or(0, |head| head.head.size);
    let (standing, standing_seen) = watch::channel(Standing {
        size: edge.tree.size(),
        root: edge.tree.root(),
    });
    let (compared, compared_seen) = watch::channel(false);
    let clerk = Clerk::at(Desk {
        journal,
        view: view.clone(),
        edge,
        hashes: opening.hashes,
        keeping: opening.keeping,
        compared: compared_seen,
        standing,
    });
    Ok(AuditLog {
        clerk,
        view,
        key: opening.key,
        signer: opening.signer,
        clock: Arc::clone(opening.clock),
        standing: standing_seen,
        compared,
        wanted: Notify::new(),
        signed: watch::channel(newest).0,
    })
}

/// Puts into the view what it lacks of the journal.
async fn catch_up(opening: &Opening<'_>, view: &AuditView) -> Result<(Recovered, Edge), OpenError> {
    let after = view.journal().await?;
    let recovered = recover_after(opening.zones, &opening.key, Role::Vault, JOURNAL, None, &after).await?;
    let mut edge = view.edge().await?;
    let mut fresh: Vec<Stored> = Vec::new();
    let mut reached = after;
    for segment in &recovered.segments {
        for entry in segment.open(opening.zones, &opening.private).await? {
            let line = text(entry.payload, &edge)?;
            let (record, complete) = edge.follow(&line)?;
            fresh.push(Stored { record, line, complete });
        }
        reached = Head {
            length: segment.id.sequence + 1,
            hash: segment.hash,
        };
        if fresh.len() >= AT_ONCE {
            view.apply(&fresh, reached).await?;
            fresh.clear();
        }
    }
    if reached != after || !fresh.is_empty() {
        view.apply(&fresh, reached).await?;
    }
    tracing::info!(
        records = edge.tree.size(),
        fresh = recovered.segments.len(),
        "the view holds the audit journal"
    );
    Ok((recovered, edge))
}

fn text(payload: Bytes, edge: &Edge) -> Result<String, AuditViewError> {
    String::from_utf8(payload.to_vec()).map_err(|_| AuditViewError::Broken(edge.tree.size() + 1))
}

/// Makes the view anew beside the old one, and puts it in its place once it holds the whole journal. An old one that knows of more is an
/// error: that is missing. Heads that both roles signed are taken over from it where it can still be read.
async fn rebuild(opening: &Opening<'_>, rebuilding: &Rebuilding, at: &Path) -> Result<(), OpenError> {
    let old = match at.exists() {
        false => None,
        true => match known(at).await {
            Ok(known) => Some(known),
            Err(error) => {
                rebuilding.note_audit(format!("the old view of the audit journal cannot be read: {error}"));
                None
            }
        },
    };
    let new_at = at.with_extension("rebuilding");
    remove_database(&new_at).map_err(OpenError::Replace)?;
    let new = AuditView::open(&new_at).await?;
    let (recovered, _) = catch_up(opening, &new).await?;
    if let Some((journal, newest)) = old {
        recovered.check_head(&journal).map_err(OpenError::AuditWentBack)?;
        if let Some(head) = newest {
            new.keep(&head, &opening.key).await?;
        }
    }
    new.close().await;
    put_in_place(&new_at, at).map_err(OpenError::Replace)
}

async fn known(at: &Path) -> Result<(Head, Option<audit::SignedHead>), AuditViewError> {
    let old = AuditView::open(at).await?;
    let read = async { Ok((old.journal().await?, old.newest().await?)) };
    let read = read.await;
    old.close().await;
    read
}
