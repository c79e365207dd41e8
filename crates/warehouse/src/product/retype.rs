//! Columns get other types: declared, and all rows read again from the raw log.
//!
//! Promise: a query sees all rows of a table under one declaration, the old one or the new one; no row is missing under either. What is
//! declared is in the journal before anything else happens; rows are read again until that is what they show, however often this is
//! interrupted.
//!
//! Start at [`Product::declare`], then [`Product::retype`]. Needs the product's private key where rows stand in files already.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use base::{DatabaseName, Role, TableId, TableName, Timestamp};
use columns::catalog::{BatchHash, CatalogError, FileRecord, Swap};
use events::{ColumnType, Declared, Seen};
use journal::Segment;
use query::Lease;
use tokio_util::sync::CancellationToken;

use super::records::{kept_rows, memory_of_ids};
use super::shape::{MAX_COLUMNS, Shaped, blocking, gone};
use super::{Product, ProductError, journal_name};
use crate::entries::{Header, RowsHeader};
use crate::memory::Charge;

/// The most rows that one new file takes.
const MAX_ROWS: usize = 2_000_000;
/// How often rows that were flushed meanwhile are read beside all else, before flushing waits for the last of them.
const ROUNDS: usize = 3;

/// What was read again so far.
struct Work {
    table: TableId,
    declared: Arc<Declared>,
    /// Batches that are in the new files or in `rows`.
    batches: HashSet<BatchHash>,
    files: Vec<FileRecord>,
    /// For the next file.
    rows: Vec<RecordBatch>,
    charges: Vec<Charge>,
    /// Whether anything stands in the overflow column.
    overflows: bool,
    /// Rows from before this are not kept, and how many were left out for that.
    from: Option<i64>,
    left_out: u64,
    /// Whether the table lets go of old rows, or ever did.
    lets_go: bool,
    /// The table whose retention holds for it.
    kept_as: TableId,
}

/// Whether a segment says that a table keeps its rows for some time only.
fn let_go(segment: &Segment, id: TableId) -> Result<bool, ProductError> {
    for header in &segment.headers {
        let header = Header::decode(header).map_err(|error| ProductError::Unreadable(error.to_string()))?;
        if matches!(header, Header::Keep { id: of, retention } if of == id && retention.keep > 0) {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Product {
    /// Declares the types of a table's columns, in place of what was declared before: of `based_on`, where that is given, and of nothing
    /// else. Rows show it once they were read again.
    pub(crate) async fn declare(
        &self,
        database: &DatabaseName,
        name: &TableName,
        declared: Declared,
        based_on: Option<Declared>,
    ) -> Result<TableId, ProductError> {
        let mut waiting = self.control.lock().await;
        self.make_waiting(&mut waiting).await?;
        let id = self.table_id(database, name)?;
        {
            let state = self.read();
            let table = state.tables.get(&id).ok_or_else(|| gone(id))?;
            if *table.declared == declared {
                return Ok(id);
            }
            if based_on.is_some_and(|before| before != *table.declared) {
                return Err(ProductError::DeclaredMeanwhile);
            }
            if table.raw_gone && table.must_be_read_again_under(&declared) {
                return Err(ProductError::Invalid(
                    "the raw log of this table was let go in part, so its older rows cannot be read again under other types: \
                     declare types that show them as they are, or make another table"
                        .into(),
                ));
            }
            let columns = table.counted_under(&declared);
            // A table that has more already (identities, batches at the same moment) may have its types changed all the same.
            if columns > MAX_COLUMNS.max(table.counted()) {
                return Err(ProductError::Invalid(format!(
                    "with these the table would have {columns} columns, at most {MAX_COLUMNS} are possible: declare fewer new ones"
                )));
            }
        }
        let columns = stored(&declared);
        self.change(&mut waiting, Header::Declare { id, columns }).await?;
        Ok(id)
    }

    /// Makes tables show what is declared for which no file has to be read. Leaves it to the next time where somebody else is at work.
    pub(crate) async fn retype_quick(&self) {
        let due = self.changing(false);
        if due.is_empty() {
            return;
        }
        let Ok(_one) = self.retyping.try_lock() else { return };
        for id in due {
            if let Err(error) = self.retype_without_reading(id).await {
                tracing::warn!(product.id = %self.id, table.id = %id, error = %super::flush::chain(&error), "could not change a table's types");
            }
        }
    }

    /// Reads tables again for which that is needed, until `cancel` says stop.
    pub(crate) async fn retype_due(&self, lease: &Lease, cancel: &CancellationToken) {
        for id in self.changing(true) {
            if cancel.is_cancelled() {
                return;
            }
            if !self.rereading.may(&id, self.shared.clock.now()) {
                continue;
            }
            let outcome = self.retype(id, lease, cancel).await;
            self.rereading
                .ended(id, outcome.is_ok() || cancel.is_cancelled(), self.shared.clock.now());
            if let Err(error) = outcome {
                tracing::warn!(product.id = %self.id, table.id = %id, error = %super::flush::chain(&error), "could not read a table again under its new types");
            }
        }
    }

    /// Makes a table show what is declared, unless `cancel` comes first, or another declaration. To be run to its end.
    pub(crate) async fn retype(&self, id: TableId, lease: &Lease, cancel: &CancellationToken) -> Result<(), ProductError> {
        let _one = self.retyping.lock().await;
        let (declared, keep, kept_as) = {
            let state = self.read();
            let Some(table) = state.tables.get(&id).filter(|table| table.is_changing()) else {
                return Ok(());
            };
            let declared = table.must_be_read_again().then(|| Arc::clone(&table.declared));
            (declared, state.retention(table).keep, state.owner(table).id)
        };
        let Some(declared) = declared else {
            return self.retype_without_reading(id).await;
        };
        let mut work = Work {
            table: id,
            declared,
            batches: HashSet::new(),
            files: Vec::new(),
            rows: Vec::new(),
            charges: Vec::new(),
            overflows: false,
            from: self.surely_old(keep).map(Timestamp::as_secs),
            left_out: 0,
            lets_go: keep > 0,
            kept_as,
        };
        let done = self.read_again(&mut work, lease, cancel).await;
        if !matches!(done, Ok(true)) {
            // One that became the table's after all is not condemned: the catalog knows better.
            let made: Vec<_> = work.files.into_iter().map(|file| file.object).collect();
            self.give_up(&made).await;
        }
        done.map(drop)
    }

    /// The tables whose rows do not show what is declared yet.
    fn changing(&self, reading: bool) -> Vec<TableId> {
        let state = self.read();
        let due = state.tables.values().filter(|table| table.is_changing() && table.dropped.is_none());
        due.filter(|table| table.must_be_read_again() == reading)
            .map(|table| table.id)
            .collect()
    }

    async fn retype_without_reading(&self, id: TableId) -> Result<(), ProductError> {
        let writing = self.writing.lock().await;
        let declared = {
            let state = self.read();
            let table = state
                .tables
                .get(&id)
                .filter(|table| table.is_changing() && !table.must_be_read_again());
            let Some(table) = table else { return Ok(()) };
            Arc::clone(&table.declared)
        };
        self.swap_types(id, &declared, None, false, &writing).await.map(drop)
    }

    /// Whether it came to an end.
    async fn read_again(&self, work: &mut Work, lease: &Lease, cancel: &CancellationToken) -> Result<bool, ProductError> {
        for round in 0..=ROUNDS {
            // Rows go on being flushed meanwhile, under the old types. In the last round they wait.
            let waiting = if round == ROUNDS { Some(self.writing.lock().await) } else { None };
            if !self.read_covered(work, lease, cancel).await? {
                return Ok(false);
            }
            let writing = match waiting {
                Some(held) => held,
                None => self.writing.lock().await,
            };
            if !self.is_still(work.table, &work.declared) {
                return Ok(false);
            }
            if self.catalog.covered(work.table).await? != work.batches.len() as u64 {
                continue;
            }
            let old = {
                let state = self.read();
                let Some(table) = state.tables.get(&work.table) else {
                    return Ok(false);
                };
                table.files.clone()
            };
            let (before, after): (u64, u64) = (
                old.iter().map(|file| file.rows).sum(),
                work.files.iter().map(|file| file.rows).sum(),
            );
            // Files of rows that are too old may have been let go, and their rows are in the raw log yet.
            let fits = if work.lets_go {
                before <= after + work.left_out
            } else {
                before == after
            };
            if !fits {
                return Err(ProductError::Unreadable(format!(
                    "the raw log holds {after} rows of a table whose files hold {before}"
                )));
            }
            let count = work.files.len();
            let swap = Some((work.files.clone(), old));
            let swapped = self.swap_types(work.table, &work.declared, swap, work.overflows, &writing).await?;
            let Some(old) = swapped else { return Ok(false) };
            lease.footers().retain(|object| !old.iter().any(|gone| gone.as_str() == object));
            self.condemned_some();
            tracing::info!(product.id = %self.id, table.id = %work.table, rows = after, files = count,
                "read {after} rows again under their new types");
            return Ok(true);
        }
        Err(ProductError::Unreadable(
            "the raw log lacks batches that a table's files hold".into(),
        ))
    }

    /// Reads all batches that are in files and were not read yet. False when told to stop.
    async fn read_covered(&self, work: &mut Work, lease: &Lease, cancel: &CancellationToken) -> Result<bool, ProductError> {
        let shared = &self.shared;
        let (name, head) = (journal_name(self.id), self.journal.head());
        let segments = journal::read_back(&shared.zones, &shared.installation, Role::Warehouse, &name, Some(self.id), &head).await?;
        for segment in segments {
            work.lets_go |= let_go(&segment, work.kept_as)?;
            let wanted = self.wanted(work, &segment).await?;
            if wanted.is_empty() {
                continue;
            }
            if cancel.is_cancelled() || !self.is_still(work.table, &work.declared) {
                return Ok(false);
            }
            // One segment at a time over all products, like what is read back after a start.
            let _turn = shared.memory.turn().await;
            let entries = segment.open(&shared.zones, lease.private_key()).await?;
            let read = blocking(move || {
                let raw = |(entry, header): (usize, RowsHeader)| {
                    let entry = entries
                        .get(entry)
                        .ok_or_else(|| ProductError::Unreadable("an entry is missing".into()))?;
                    let raw = super::append::read_one(&entry.payload)?;
                    if raw.num_rows() as u64 != header.rows {
                        return Err(ProductError::Unreadable(
                            "a batch has another number of rows than its header says".into(),
                        ));
                    }
                    Ok((header.batch, raw))
                };
                wanted.into_iter().map(raw).collect::<Result<Vec<_>, _>>()
            });
            let mut read = read.await?;
            for (batch, raw) in &mut read {
                // Of a batch that brought records which others had brought before, not all rows are stored.
                if let Some(keep) = self.catalog.left_out(work.table, batch).await? {
                    let keep = if keep.is_empty() { vec![false; raw.num_rows()] } else { keep };
                    *raw = kept_rows(raw, keep)?;
                }
            }
            self.take_in(work, read).await?;
        }
        self.write_staged(work).await?;
        Ok(true)
    }

    /// The entries of a segment that are in the table's files and were not read yet. Of a batch that is there twice, the first counts.
    async fn wanted(&self, work: &Work, segment: &Segment) -> Result<Vec<(usize, RowsHeader)>, ProductError> {
        let mut wanted: Vec<(usize, RowsHeader)> = Vec::new();
        for (entry, header) in segment.headers.iter().enumerate() {
            let header = Header::decode(header).map_err(|error| ProductError::Unreadable(error.to_string()))?;
            let Header::Rows(rows) = header else { continue };
            let known = rows.table != work.table
                || work.batches.contains(&rows.batch)
                || wanted.iter().any(|(_, earlier)| earlier.batch == rows.batch);
            if !known && self.catalog.is_covered(rows.table, &rows.batch).await? {
                wanted.push((entry, rows));
            }
        }
        Ok(wanted)
    }

    async fn take_in(&self, work: &mut Work, batches: Vec<(BatchHash, RecordBatch)>) -> Result<(), ProductError> {
        for (batch, raw) in batches {
            let all = raw.num_rows();
            let raw = super::retention::not_before(raw, work.from)?;
            work.left_out += (all - raw.num_rows()) as u64;
            if raw.num_rows() == 0 {
                work.batches.insert(batch);
                continue;
            }
            let folded = {
                let state = self.read();
                let Some(table) = state.tables.get(&work.table) else {
                    return Ok(());
                };
                table.folded(raw.schema_ref(), false)
            };
            let declared = Arc::clone(&work.declared);
            let shaped = blocking(move || Shaped::new(raw, declared, folded)).await?;
            work.charges.push(self.shared.memory.charge_anyway(shaped.memory()));
            work.overflows |= shaped.overflows();
            work.rows.push(shaped.rows);
            work.batches.insert(batch);
            let bytes: usize = work.charges.iter().map(Charge::bytes).sum();
            let rows: usize = work.rows.iter().map(RecordBatch::num_rows).sum();
            let enough = self.shared.settings.flush.table_bytes;
            if bytes >= enough || rows >= MAX_ROWS || self.shared.memory.is_pressed() && bytes >= enough / 8 {
                self.write_staged(work).await?;
            }
        }
        Ok(())
    }

    /// Makes files of what was read, which are none of the table's yet.
    async fn write_staged(&self, work: &mut Work) -> Result<(), ProductError> {
        if work.rows.is_empty() {
            return Ok(());
        }
        let schema = {
            let state = self.read();
            let table = state.tables.get(&work.table).ok_or_else(|| gone(work.table))?;
            let mut schema = table.schema.clone();
            schema.declare(Arc::clone(&work.declared));
            if work.overflows {
                schema.insert(events::OVERFLOW, Seen::JSON);
            }
            schema.arrow_schema()
        };
        let files = self.write_files(work.table, std::mem::take(&mut work.rows), &schema).await?;
        work.files.extend(files);
        work.charges.clear();
        Ok(())
    }

    fn is_still(&self, id: TableId, declared: &Arc<Declared>) -> bool {
        let state = self.read();
        // Of a dropped table it goes on when that comes back.
        let table = state.tables.get(&id).filter(|table| table.dropped.is_none());
        table.is_some_and(|table| Arc::ptr_eq(&table.declared, declared))
    }

    /// Shows the table under what is declared, with new files in place of all old ones, if there are any. Returns the objects of the old
    /// ones; `None` when the table is gone or something else was declared meanwhile. Nothing is flushed while `_writing` is held.
    async fn swap_types(
        &self,
        id: TableId,
        declared: &Arc<Declared>,
        files: Option<(Vec<FileRecord>, Vec<Arc<FileRecord>>)>,
        overflows: bool,
        _writing: &tokio::sync::MutexGuard<'_, ()>,
    ) -> Result<Option<Vec<zones::ObjectName>>, ProductError> {
        let parts: Vec<(BatchHash, Shaped)> = {
            let state = self.read();
            let Some(table) = state.tables.get(&id) else { return Ok(None) };
            table.memory.iter().map(|part| (part.batch, part.shaped.clone())).collect()
        };
        let under = Arc::clone(declared);
        let refit = move |(batch, mut shaped): (BatchHash, Shaped)| shaped.refit(&under).map(|()| (batch, shaped));
        let mut parts = blocking(move || parts.into_iter().map(refit).collect::<Result<HashMap<_, _>, _>>()).await?;

        let _control = self.control.lock().await;
        if !self.is_still(id, declared) {
            return Ok(None);
        }
        let overflows = overflows || parts.values().any(Shaped::overflows);
        let columns = {
            let state = self.read();
            let Some(table) = state.tables.get(&id) else { return Ok(None) };
            let mut columns = table.stored_columns();
            if overflows && table.schema.get(events::OVERFLOW).is_none() {
                columns.push((events::OVERFLOW.to_owned(), Seen::JSON.bits()));
            }
            columns
        };
        let (new, old) = files.unwrap_or_default();
        let old: Vec<_> = old.iter().map(|file| file.object.clone()).collect();
        let swap = Swap {
            table: id,
            add: &new,
            remove: &old,
            covered: &[],
            records: &[],
            left_out: &[],
            columns: &columns,
            at: self.shared.clock.now(),
        };
        let mut swapped = self.catalog.retype(&swap, &stored(declared)).await;
        if let Err(CatalogError::Database(_)) = swapped {
            // The same again is the same as once, whether or not it was made.
            swapped = self.catalog.retype(&swap, &stored(declared)).await;
        }
        swapped?;
        let mut state = self.write();
        let Some(table) = state.tables.get_mut(&id) else { return Ok(None) };
        table.schema.declare(Arc::clone(declared));
        if overflows {
            table.schema.insert(events::OVERFLOW, Seen::JSON);
        }
        if !old.is_empty() {
            table.files = new.into_iter().map(Arc::new).collect();
        }
        for part in &mut table.memory {
            let shaped = match parts.remove(&part.batch) {
                Some(shaped) => shaped,
                // Came while the catalog was written: few rows.
                None => {
                    let mut shaped = part.shaped.clone();
                    shaped.refit(declared)?;
                    shaped
                }
            };
            if shaped.overflows() {
                table.schema.insert(events::OVERFLOW, Seen::JSON);
            }
            let bytes = shaped.memory() + memory_of_ids(&part.records);
            part.charge = Arc::new(self.shared.memory.charge_anyway(bytes));
            part.shaped = shaped;
        }
        Ok(Some(old))
    }
}

pub(super) fn stored(declared: &Declared) -> Vec<(String, ColumnType)> {
    declared.columns().map(|(name, of)| (name.to_owned(), of)).collect()
}
