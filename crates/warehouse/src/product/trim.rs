//! The raw log lets go of rows that went for good.
//!
//! Old entries of tables that keep their raw log for some time only go the same way, once their rows are in files (see `retention`).
//!
//! Promise: of a table that went for good no row stays in the journal, in any zone; of any other table none is lost by it. An entry is
//! taken out only where the journal itself says that its table went for good and nothing here knows the table any more.
//!
//! A segment of which nothing is kept is trimmed without any key. One that also holds rows of other tables has to be opened and sealed
//! anew, so it waits for somebody's lease, as merging does. How a segment is trimmed is in the crate `journal`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use base::{DatabaseName, Role, TableId, Timestamp};
use journal::Segment;
use query::Lease;
use tokio_util::sync::CancellationToken;
use zones::ObjectName;

use super::pauses::Pauses;
use super::state::Table;
use super::{Product, ProductError, journal_name};
use crate::entries::Header;

/// So many segments are trimmed before the objects that held them are deleted.
const AT_ONCE: usize = 32;
/// In seconds.
const HOUR: u64 = 3600;

/// What is to be trimmed.
#[derive(Debug)]
pub(super) struct Trimming {
    /// Whether the catalog may say that the journal holds rows that went for good, and nobody has looked since.
    look: AtomicBool,
    /// Whether somebody has looked, and some wait for a lease.
    wait: AtomicBool,
    /// How long after the start raw logs were last looked at that are kept for some time only, in seconds.
    last: AtomicU64,
    pauses: Pauses<()>,
    one: tokio::sync::Mutex<()>,
}

impl Default for Trimming {
    fn default() -> Self {
        Self {
            // A process before this one may not have come to its end: the catalog knows.
            look: AtomicBool::new(true),
            wait: AtomicBool::new(false),
            last: AtomicU64::new(0),
            pauses: Pauses::default(),
            one: tokio::sync::Mutex::default(),
        }
    }
}

impl Trimming {
    /// Something went for good.
    pub(super) fn look_again(&self) {
        self.look.store(true, Ordering::SeqCst);
    }

    /// Where raw logs are kept for some time only, there is more to let go as time passes. A look reads all heads of the journal, so it
    /// is taken once in a hundredth of the shortest such time, and once an hour at most.
    fn look_at_times(&self, runs_for: Duration, shortest: impl Fn() -> Option<u64>) {
        let now = runs_for.as_secs();
        let last = self.last.load(Ordering::SeqCst);
        if now.saturating_sub(last) >= HOUR
            && let Some(shortest) = shortest()
            && now - last >= (shortest / 100).max(HOUR)
        {
            self.last.store(now, Ordering::SeqCst);
            self.look_again();
        }
    }

    fn is_due(&self, lease: bool) -> bool {
        self.look.load(Ordering::SeqCst) || lease && self.wait.load(Ordering::SeqCst)
    }
}

/// What may be taken out.
#[derive(Debug, Default)]
struct Gone {
    /// Tables that went for good, as the journal says.
    tables: HashSet<TableId>,
    /// Tables that are there, and before which moment their rows came that the raw log need not hold any more.
    old: HashMap<TableId, Timestamp>,
}

impl Gone {
    fn of(segments: &[Arc<Segment>]) -> Result<Self, ProductError> {
        let mut gone = Self::default();
        let mut made: HashMap<DatabaseName, Vec<TableId>> = HashMap::new();
        for header in segments.iter().flat_map(|segment| &segment.headers) {
            match decoded(header)? {
                Header::CreateTable { id, database, .. } => made.entry(database).or_default().push(id),
                Header::Purge { tables, .. } => gone.tables.extend(tables),
                Header::DeleteTable { id, at: None } => drop(gone.tables.insert(id)),
                Header::DeleteDatabase { name, at: None } => gone.tables.extend(made.remove(&name).unwrap_or_default()),
                _ => {}
            }
        }
        Ok(gone)
    }
}

fn decoded(header: &bytes::Bytes) -> Result<Header, ProductError> {
    Header::decode(header).map_err(|error| ProductError::Unreadable(error.to_string()))
}

impl Product {
    /// Takes rows out of the journal that went for good, until `cancel` says stop. With a lease also where other rows stay.
    pub(crate) async fn trim_due(&self, lease: Option<&Lease>, cancel: &CancellationToken) {
        let (trimming, now) = (&self.trimming, self.shared.clock.now());
        trimming.look_at_times(self.pace.runs_for(), || {
            let state = self.read();
            let kept = state.tables.values().map(|table| table.retention.keep_raw);
            kept.filter(|keep_raw| *keep_raw > 0).min()
        });
        if !trimming.is_due(lease.is_some()) || !trimming.pauses.may(&(), now) {
            return;
        }
        let Ok(_one) = trimming.one.try_lock() else { return };
        trimming.look.store(false, Ordering::SeqCst);
        let done = self.trim(lease, cancel).await;
        if done.is_err() || cancel.is_cancelled() {
            trimming.look_again();
        }
        trimming.pauses.ended((), done.is_ok(), self.shared.clock.now());
        if let Err(error) = done {
            tracing::warn!(product.id = %self.id, error = %super::flush::chain(&error), "could not take rows out of the raw log that went for good");
        }
    }

    async fn trim(&self, lease: Option<&Lease>, cancel: &CancellationToken) -> Result<(), ProductError> {
        let mut wanted = self.catalog.wanted_trim().await?;
        if wanted.is_none() && !self.may_be_old() {
            return Ok(());
        }
        let shared = &self.shared;
        let (name, head) = (journal_name(self.id), self.journal.head());
        let back = journal::read_back_forms(&shared.zones, &shared.installation, Role::Warehouse, &name, Some(self.id), &head);
        let (segments, superseded) = back.await?;
        let segments: Vec<Arc<Segment>> = segments.into_iter().map(Arc::new).collect();
        // What broke off before left these.
        self.replace(superseded, &segments).await?;
        let mut gone = Gone::of(&segments)?;
        {
            // Looked at after the journal was read: a table whose rows are in it is known here by then, if it is anywhere.
            let state = self.read();
            gone.tables.retain(|id| !state.tables.contains_key(id));
        }
        self.find_old(&mut gone, &segments).await?;
        let parts = shared.journal_parts();
        let (mut waiting, mut before, mut forms, mut count) = (0_usize, Vec::new(), Vec::new(), 0_usize);
        for segment in segments {
            if cancel.is_cancelled() {
                break;
            }
            let kept = self.kept(&gone, &segment).await?;
            if kept.len() == segment.headers.len() {
                continue;
            }
            if !kept.is_empty() && lease.is_none() {
                waiting += 1;
                continue;
            }
            if wanted.is_none() {
                self.catalog.want_trim().await?;
                wanted = self.catalog.wanted_trim().await?;
            }
            // One at a time over all products, like whatever opens segments.
            let _turn = if kept.is_empty() { None } else { Some(shared.memory.turn().await) };
            let with = lease.map(Lease::private_key);
            let form = journal::trim(&parts, &segment, &kept, &self.public_key, with).await?;
            before.push(segment.name.clone());
            forms.push(Arc::new(form));
            count += 1;
            if forms.len() >= AT_ONCE {
                self.replace(std::mem::take(&mut before), &std::mem::take(&mut forms)).await?;
            }
        }
        self.replace(before, &forms).await?;
        self.trimming.wait.store(waiting > 0, Ordering::SeqCst);
        if let Some(wanted) = wanted.filter(|_| waiting == 0 && !cancel.is_cancelled()) {
            self.catalog.trimmed(wanted).await?;
        }
        if count + waiting > 0 {
            tracing::info!(product.id = %self.id, segments = count, waiting, "took rows out of {count} segments that went for good");
        }
        Ok(())
    }

    /// Which of a segment's entries stay. Of a table that is there only rows are let go that are in a file.
    async fn kept(&self, gone: &Gone, segment: &Segment) -> Result<Vec<usize>, ProductError> {
        let mut kept = Vec::new();
        for (at, header) in segment.headers.iter().enumerate() {
            let goes = match decoded(header)? {
                Header::Rows(rows) if gone.tables.contains(&rows.table) => true,
                Header::Rows(rows) if gone.old.get(&rows.table).is_some_and(|before| segment.created_at < *before) => {
                    // Invariant: what is in memory, or sealed yet, is known; a flush enters it into the catalog before it leaves there.
                    let known = |table: &Table| table.known.contains(&rows.batch);
                    !self.read().tables.get(&rows.table).is_none_or(known) && self.catalog.is_covered(rows.table, &rows.batch).await?
                }
                _ => false,
            };
            if !goes {
                kept.push(at);
            }
        }
        Ok(kept)
    }

    /// Whether the raw log may hold what is older than it is kept.
    fn may_be_old(&self) -> bool {
        let state = self.read();
        let mut kept = state.tables.values().filter(|table| table.dropped.is_none());
        kept.any(|table| self.surely_old(state.retention(table).keep_raw).is_some())
    }

    /// Of which tables the raw log is older than it is kept. From now on none of them gets types for which it would be needed.
    async fn find_old(&self, gone: &mut Gone, segments: &[Arc<Segment>]) -> Result<(), ProductError> {
        let mut old: HashMap<TableId, Timestamp> = HashMap::new();
        {
            let state = self.read();
            let kept = state.tables.values().filter(|table| table.dropped.is_none());
            old.extend(kept.filter_map(|table| Some((table.id, self.surely_old(state.retention(table).keep_raw)?))));
        }
        if old.is_empty() {
            return Ok(());
        }
        let mut found = HashSet::new();
        for segment in segments {
            for header in &segment.headers {
                if let Header::Rows(rows) = decoded(header)?
                    && old.get(&rows.table).is_some_and(|before| segment.created_at < *before)
                {
                    found.insert(rows.table);
                }
            }
        }
        // Nothing is declared meanwhile.
        let _control = self.control.lock().await;
        for id in found {
            let is_changing = self.read().tables.get(&id).is_none_or(Table::is_changing);
            let Some(before) = old.get(&id).filter(|_| !is_changing) else {
                continue;
            };
            self.catalog.let_raw_go(id).await?;
            if let Some(table) = self.write().tables.get_mut(&id) {
                table.raw_gone = true;
            }
            gone.old.insert(id, *before);
        }
        Ok(())
    }

    /// Deletes the objects of segments that have another form now, once nothing here reads them any more. Those that stay because that
    /// fails are found the next time.
    async fn replace(&self, mut before: Vec<ObjectName>, forms: &[Arc<Segment>]) -> Result<(), ProductError> {
        if before.is_empty() {
            return Ok(());
        }
        // Whoever holds one of these reads segments that it has listed before.
        let _retyping = self.retyping.lock().await;
        let _unsealing = self.unsealing.lock().await;
        {
            let mut state = self.write();
            for batch in &mut state.sealed {
                let Some(at) = before.iter().position(|object| *object == batch.segment.name) else {
                    continue;
                };
                let moved = forms
                    .iter()
                    .find_map(|form| Some((form, form.place_of(&batch.segment, batch.entry)?)));
                match moved {
                    Some((form, entry)) => (batch.segment, batch.entry) = (Arc::clone(form), entry),
                    // What is yet to be opened is not taken away, whatever else is wrong.
                    None => drop(before.swap_remove(at)),
                }
            }
        }
        for object in &before {
            self.shared.zones.delete(object).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_heads_are_read_once_an_hour_at_most_and_less_often_where_raw_logs_are_kept_long() {
        let trimming = Trimming::default();
        let check = |hours: u64, shortest: Option<u64>, expected: bool| {
            trimming.look.store(false, Ordering::SeqCst);
            trimming.look_at_times(Duration::from_secs(hours * HOUR), || shortest);
            assert_eq!(trimming.is_due(false), expected, "{hours}");
        };
        let (day, month) = (Some(24 * HOUR), Some(30 * 24 * HOUR));
        check(0, day, false);
        check(1, None, false);
        check(1, day, true);
        check(1, day, false);
        check(2, day, true);
        check(9, month, false);
        check(10, month, true);
        check(17, month, false);
        check(17, day, true);
    }
}
