//! Records that came with an id of their own: each is stored once, however often and in whatever company it is sent.
//!
//! Promise: a record that was acknowledged is known by its id for at least seven days, over restarts too. Two requests at once that
//! share records store each of them once, and neither waits while it holds what the other waits for.
//!
//! An id is kept as a keyed hash, bound to its table: in memory while its row is, in the catalog from the moment that the row is in a
//! file. In the journal it stands in the clear header of its batch, one for each row.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use base::{TableId, Timestamp};
use bytes::Bytes;
use columns::catalog::{Catalog, RecordHash};
use seal::keyed_hash;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use super::append::hash;
use super::{Product, ProductError};

/// The place of a row that came without an id.
pub(crate) const NO_RECORD: RecordHash = [0; 16];
/// How long a record is remembered after it was written to a file. Seven days are promised.
const REMEMBERED: Duration = Duration::from_secs(8 * 86_400);
/// How often old ids are looked for, and how many are forgotten at once.
const LOOK_EVERY: Duration = Duration::from_secs(60);
const FORGET_AT_ONCE: u32 = 20_000;
/// How many rows a batch with ids may have: their hashes stand in its header.
const MAX_ROWS: usize = 10_000;
/// What one known id takes in memory, twice: with its row, and to be found.
const MEMORY: usize = 64;

/// The records of one table whose rows are in no file yet.
#[derive(Default)]
pub(super) struct Records {
    /// In the journal, from now or from before this start.
    known: HashSet<RecordHash>,
    /// On their way into the journal, and who waits for them.
    under_way: HashMap<RecordHash, Arc<Notify>>,
}

impl Records {
    pub(super) fn know(&mut self, records: &[RecordHash]) {
        self.known.extend(records);
    }

    /// They are in the catalog now.
    pub(super) fn written(&mut self, records: &[RecordHash]) {
        for record in records {
            self.known.remove(record);
        }
    }

    /// The table is gone: whoever waits has to look again.
    pub(super) fn wake(&self) {
        self.under_way.values().for_each(|waiting| waiting.notify_waiters());
    }

    /// Claims all those of `rows` that are not known, or none of them: then another request has some, and can be waited for.
    fn claim(&mut self, rows: &[RecordHash]) -> Result<HashSet<RecordHash>, OwnedNotified> {
        let mut claimed = HashSet::new();
        for record in rows {
            if let Some(other) = self.under_way.get(record) {
                return Err(Arc::clone(other).notified_owned());
            }
            if *record != NO_RECORD && !self.known.contains(record) {
                claimed.insert(*record);
            }
        }
        let waiting = Arc::new(Notify::new());
        self.under_way.extend(claimed.iter().map(|record| (*record, Arc::clone(&waiting))));
        Ok(claimed)
    }
}

/// Records that one request is storing. Dropped, stored or not, it lets the others look again.
struct Claim<'a> {
    product: &'a Product,
    table: TableId,
    records: HashSet<RecordHash>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut state = self.product.write();
        let Some(table) = state.tables.get_mut(&self.table) else { return };
        for record in &self.records {
            if let Some(waiting) = table.records.under_way.remove(record) {
                waiting.notify_waiters();
            }
        }
    }
}

/// The rows of one request that are to be stored, and the right to store them.
pub(super) struct Fresh<'a> {
    /// For each row its id, or [`NO_RECORD`]; empty when no row has one.
    pub(super) ids: Vec<RecordHash>,
    pub(super) rows: RecordBatch,
    pub(super) ipc: Bytes,
    _claim: Option<Claim<'a>>,
}

impl Product {
    /// Leaves those rows out that are stored already, or that another before them in the batch repeats. Waits while another request is
    /// storing one of them. `ids` has 16 bytes for each row, zeros for one without an id; or nothing, when none has one.
    pub(super) async fn fresh(&self, table: TableId, ids: &[u8], rows: RecordBatch, ipc: Bytes) -> Result<Fresh<'_>, ProductError> {
        if ids.is_empty() {
            return Ok(Fresh {
                ids: Vec::new(),
                rows,
                ipc,
                _claim: None,
            });
        }
        let ids = self.hashes(table, ids, rows.num_rows())?;
        let claim = self.claim_records(table, &ids).await?;
        // Invariant: a flush enters records into the catalog before it takes them out of `known`, so whoever did not find one there and
        // looks into the catalog afterwards cannot miss it.
        let asked: Vec<RecordHash> = claim.records.iter().copied().collect();
        let stored = self.catalog.stored_records(table, &asked).await?;
        let mut wanted = &claim.records - &stored;
        let keep: Vec<bool> = ids.iter().map(|record| *record == NO_RECORD || wanted.remove(record)).collect();
        if keep.iter().all(|keep| *keep) {
            return Ok(Fresh {
                ids,
                rows,
                ipc,
                _claim: Some(claim),
            });
        }
        let ids = kept(&ids, &keep);
        let (rows, ipc) = tokio::task::spawn_blocking(move || {
            let rows = kept_rows(&rows, keep)?;
            let ipc = events::to_ipc(&rows);
            Ok::<_, ProductError>((rows, ipc))
        })
        .await
        .map_err(|_| ProductError::Internal("leaving out records was interrupted"))??;
        Ok(Fresh {
            ids,
            rows,
            ipc,
            _claim: Some(claim),
        })
    }

    fn hashes(&self, table: TableId, ids: &[u8], rows: usize) -> Result<Vec<RecordHash>, ProductError> {
        if rows > MAX_ROWS || ids.len() != rows * NO_RECORD.len() {
            let said = format!("a batch with record ids has at most {MAX_ROWS} rows and an id of 16 bytes for each");
            return Err(ProductError::Invalid(said));
        }
        let place = format!("{}/{table}\0", self.id).into_bytes();
        let hashed = |id: &[u8]| {
            if *id == NO_RECORD {
                return NO_RECORD;
            }
            hash(keyed_hash(&self.shared.batch_key, &[place.as_slice(), id].concat()))
        };
        Ok(ids.chunks_exact(NO_RECORD.len()).map(hashed).collect())
    }

    async fn claim_records(&self, id: TableId, rows: &[RecordHash]) -> Result<Claim<'_>, ProductError> {
        loop {
            let claimed = {
                let mut state = self.write();
                let gone = || ProductError::NotFound {
                    what: "table",
                    name: id.to_string(),
                };
                let table = state.tables.get_mut(&id).filter(|table| table.dropped.is_none());
                table.ok_or_else(gone)?.records.claim(rows)
            };
            match claimed {
                Ok(records) => {
                    return Ok(Claim {
                        product: self,
                        table: id,
                        records,
                    });
                }
                Err(other) => other.await,
            }
        }
    }

    /// Forgets records that were stored long ago, now and then.
    pub(super) async fn forget_records(&self) {
        let now = self.shared.clock.now();
        if !self.looked.is_due(now.as_micros()) {
            return;
        }
        let before = Timestamp::from_micros(now.as_micros() - REMEMBERED.as_micros() as i64);
        match self.catalog.forget_records(before, FORGET_AT_ONCE).await {
            // There may be more: the next round goes on.
            Ok(forgotten) if forgotten >= u64::from(FORGET_AT_ONCE) => self.looked.again(),
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(product.id = %self.id, error = %super::flush::chain(&error), "could not forget the ids of old records");
            }
        }
    }
}

/// When old ids were last looked for.
#[derive(Default)]
pub(super) struct Looked(AtomicI64);

impl Looked {
    fn is_due(&self, now: i64) -> bool {
        let due = now.abs_diff(self.0.load(Ordering::Relaxed)) >= LOOK_EVERY.as_micros() as u64;
        if due {
            self.0.store(now, Ordering::Relaxed);
        }
        due
    }

    fn again(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// Which records a walk through the journal has come by, and when they were stored.
///
/// A record can be in it twice because its first writer never heard that it was durable, and sent it again: then the first one counts.
/// Or because its id was used again when it had long been forgotten: then both do. Which of them it is follows from the time between.
#[derive(Debug, Default)]
pub(super) struct Window {
    seen: HashMap<RecordHash, Timestamp>,
    /// How many there are when the old ones are looked for.
    sweep_at: usize,
}

impl Window {
    /// Which rows of a batch, stored at `at`, are no repetitions.
    pub(super) fn take(&mut self, ids: &[RecordHash], at: Timestamp) -> Vec<bool> {
        if self.seen.len() >= self.sweep_at {
            self.seen.retain(|_, seen| is_remembered(*seen, at));
            self.sweep_at = (self.seen.len() * 2).max(100_000);
        }
        let is_new = |id: &RecordHash| *id == NO_RECORD || !self.seen.insert(*id, at).is_some_and(|seen| is_remembered(seen, at));
        ids.iter().map(is_new).collect()
    }
}

/// Whether a record that was stored at `stored` is still known at `now`. By clocks that go back it is.
fn is_remembered(stored: Timestamp, now: Timestamp) -> bool {
    now.since(stored) <= REMEMBERED
}

/// The records that have to be known still, of those stored at `at`.
pub(super) fn to_be_known(at: Timestamp, now: Timestamp, ids: &[RecordHash]) -> impl Iterator<Item = (RecordHash, Timestamp)> {
    let ids = if is_remembered(at, now) { ids } else { &[] };
    with_id(ids).map(move |id| (id, at))
}

/// Which rows of a batch in the journal, stored at `at`, are to be read back: those that are no repetitions, and before all not of one
/// that is in a file.
pub(super) async fn unrepeated(
    catalog: &Catalog,
    table: TableId,
    window: &mut Window,
    ids: &[RecordHash],
    at: Timestamp,
) -> Result<Vec<bool>, ProductError> {
    let asked: Vec<RecordHash> = with_id(ids).collect();
    let stored = catalog.stored_records(table, &asked).await?;
    let mut new = window.take(ids, at);
    for (id, new) in ids.iter().zip(&mut new) {
        *new &= !stored.contains(id);
    }
    Ok(new)
}

/// The ids that are some.
pub(super) fn with_id(ids: &[RecordHash]) -> impl Iterator<Item = RecordHash> {
    ids.iter().copied().filter(|record| *record != NO_RECORD)
}

/// Those whose rows are kept.
pub(super) fn kept(ids: &[RecordHash], keep: &[bool]) -> Vec<RecordHash> {
    let kept = ids.iter().zip(keep).filter(|(_, keep)| **keep);
    kept.map(|(record, _)| *record).collect()
}

/// The rows that are kept.
pub(super) fn kept_rows(rows: &RecordBatch, keep: Vec<bool>) -> Result<RecordBatch, ProductError> {
    if keep.len() != rows.num_rows() {
        return Err(ProductError::Unreadable("a batch has another number of rows than ids".into()));
    }
    Ok(events::keep_rows(rows, &keep)?)
}

/// What these ids take in memory.
pub(super) fn memory_of_ids(ids: &[RecordHash]) -> usize {
    ids.len().saturating_mul(MEMORY)
}
