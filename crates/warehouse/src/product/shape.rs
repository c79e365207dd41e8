//! Rows as their table shows them: declared columns of their types, and no more columns than a table may have.
//!
//! Invariant: what the journal holds is what was sent; what is shown follows from it, from what is declared, and from the table's columns.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use arrow::record_batch::RecordBatch;
use base::{TableId, Timestamp};
use columns::catalog::{BatchHash, RecordHash};
use events::{ColumnType, Declared, Seen};

use super::records::memory_of_ids;
use super::state::{MemoryPart, State, Table};
use super::{Product, ProductError};
use crate::memory::{Charge, memory_of, memory_of_both};

/// How many columns a table may have, `time` and the overflow column not counted. What is beyond goes to the overflow column.
pub(super) const MAX_COLUMNS: usize = 10_000;
/// How many columns of identities a table may have beyond these: they must be columns to be asked for.
const MAX_IDENTITIES: usize = 100;

/// A batch as it was sent, and as its table shows it.
#[derive(Debug, Clone)]
pub(super) struct Shaped {
    pub(super) raw: RecordBatch,
    pub(super) rows: RecordBatch,
    under: Arc<Declared>,
    /// Columns that the table has no room for.
    folded: Arc<HashSet<String>>,
}

impl Shaped {
    /// Takes CPU for a while.
    pub(super) fn new(raw: RecordBatch, under: Arc<Declared>, folded: HashSet<String>) -> Result<Self, ProductError> {
        let mut shaped = Self {
            rows: raw.clone(),
            raw,
            under,
            folded: Arc::new(folded),
        };
        shaped.fit()?;
        Ok(shaped)
    }

    /// Once more, should this not be the declaration that it was made under.
    pub(super) fn refit(&mut self, under: &Arc<Declared>) -> Result<(), ProductError> {
        if !Arc::ptr_eq(&self.under, under) {
            self.under = Arc::clone(under);
            self.fit()?;
        }
        Ok(())
    }

    fn fit(&mut self) -> Result<(), ProductError> {
        self.rows = events::fit(&self.raw, &self.under, |field| !self.folded.contains(field.name()))?;
        Ok(())
    }

    /// The columns of the batch that are columns of the table, with what they hold.
    pub(super) fn columns(&self) -> Vec<(String, u8)> {
        self.kept().map(|(name, seen)| (name.clone(), seen.bits())).collect()
    }

    fn kept(&self) -> impl Iterator<Item = (&String, Seen)> {
        let fields = self.raw.schema_ref().fields().iter();
        let kept = fields.filter(|field| field.name() != events::TIME && !self.folded.contains(field.name()));
        kept.map(|field| (field.name(), events::seen_of(field)))
    }

    /// What it keeps from being freed.
    pub(super) fn memory(&self) -> usize {
        memory_of_both(&self.raw, &self.rows)
    }

    /// Whether something stands in the overflow column.
    pub(super) fn overflows(&self) -> bool {
        self.rows.schema_ref().column_with_name(events::OVERFLOW).is_some()
    }
}

/// What a batch in the journal is known by, beside its rows.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) batch: BatchHash,
    /// The ids of those rows that came with one.
    pub(super) records: Arc<[RecordHash]>,
    /// Which of its rows are stored, where not all are.
    pub(super) keep: Option<Arc<[bool]>>,
}

/// From a list that was checked when it was declared.
pub(super) fn declared(columns: Vec<(String, ColumnType)>) -> Arc<Declared> {
    let declared = Declared::new(columns);
    Arc::new(declared.unwrap_or_else(|error| {
        tracing::error!(error = %error, "what was declared of a table cannot be, its types follow from its values");
        Declared::default()
    }))
}

impl Table {
    /// Which columns of a batch have no column in the table. With `admit`, the batch may add as many as there is room for.
    pub(super) fn folded(&self, raw: &Schema, admit: bool) -> HashSet<String> {
        let mut room = None;
        let mut has_room = |field: &Field| {
            let columns = room.get_or_insert_with(|| self.counted());
            let most = if events::identities::is_translated(field) {
                MAX_COLUMNS + MAX_IDENTITIES
            } else {
                MAX_COLUMNS
            };
            let fits = *columns < most;
            *columns += usize::from(fits);
            fits
        };
        let new = raw.fields().iter().filter(|field| {
            let name = field.name();
            let special = name == events::TIME || name == events::OVERFLOW;
            !special && self.schema.get(name).is_none() && self.declared_anywhere(name).is_none()
        });
        new.filter(|field| !(admit && has_room(field)))
            .map(|field| field.name().clone())
            .collect()
    }

    fn declared_anywhere(&self, name: &str) -> Option<ColumnType> {
        self.schema.declared().get(name).or_else(|| self.declared.get(name))
    }

    /// How many columns count against the most that there may be.
    pub(super) fn counted(&self) -> usize {
        self.schema.len() - usize::from(self.schema.get(events::OVERFLOW).is_some())
    }

    /// How many there would be under another declaration.
    pub(super) fn counted_under(&self, declared: &Declared) -> usize {
        let columns = self.schema.columns_under(declared);
        columns.filter(|(name, _)| *name != events::OVERFLOW).count()
    }

    /// Whether the rows do not show what is declared yet.
    pub(super) fn is_changing(&self) -> bool {
        let shown = self.schema.declared();
        !Arc::ptr_eq(shown, &self.declared) && **shown != *self.declared
    }

    /// Whether the rows in files have to be read from the raw log to show what is declared.
    pub(super) fn must_be_read_again(&self) -> bool {
        self.must_be_read_again_under(&self.declared)
    }

    /// The same of another declaration.
    pub(super) fn must_be_read_again_under(&self, declared: &Declared) -> bool {
        let unfolds = || {
            let new = declared.columns().any(|(name, _)| self.schema.get(name).is_none());
            new && self.counted() >= MAX_COLUMNS
        };
        !self.files.is_empty() && (!self.schema.looks_the_same_under(declared) || unfolds())
    }

    /// Puts rows where queries see them.
    pub(super) fn show(&mut self, stored: Stored, shaped: Shaped, charge: Charge, since: Timestamp) {
        for (name, seen) in shaped.kept() {
            self.schema.insert(name, seen);
        }
        if shaped.overflows() {
            self.schema.insert(events::OVERFLOW, Seen::JSON);
        }
        self.shown += 1;
        self.memory.push(MemoryPart {
            batch: stored.batch,
            records: stored.records,
            keep: stored.keep,
            shaped,
            charge: Arc::new(charge),
            since,
        });
    }
}

impl State {
    /// Notes what was declared of a table. What it shows stays as it is until its rows are read again.
    pub(super) fn declare(&mut self, id: TableId, columns: Vec<(String, ColumnType)>) {
        if let Some(table) = self.tables.get_mut(&id) {
            table.declared = declared(columns);
        }
    }
}

impl Product {
    /// A batch that was sent, as the table shows it now. `charge` grows by what that takes, beside the stream of `wire` bytes.
    pub(super) async fn shaped(&self, id: TableId, raw: RecordBatch, charge: &mut Charge, wire: usize) -> Result<Shaped, ProductError> {
        let (under, folded) = {
            let state = self.read();
            let table = state.tables.get(&id).ok_or_else(|| gone(id))?;
            (Arc::clone(table.schema.declared()), table.folded(raw.schema_ref(), true))
        };
        let limit = self.shared.memory.limit();
        if !under.is_empty() || !folded.is_empty() {
            // What overflows is written twice on its way, and one byte may become six.
            let (raw, under, folded) = (raw.clone(), Arc::clone(&under), folded.clone());
            let own = memory_of(&raw);
            let overflow = move || {
                let may = |field: &Field| {
                    let typed = under.get(field.name()).is_some_and(|of| of != ColumnType::String);
                    typed || folded.contains(field.name())
                };
                Ok(events::overflow_of(&raw, may)?)
            };
            let bytes = own.saturating_add(blocking(overflow).await?.saturating_mul(2)).saturating_add(wire);
            if bytes > limit {
                return Err(ProductError::BatchTooLarge { bytes, limit });
            }
            if !charge.resize(bytes) {
                return Err(ProductError::MemoryFull);
            }
        }
        let shape = move || {
            // Whatever is declared later, what is taken now must be possible to show then.
            events::can_overflow(&raw)?;
            Shaped::new(raw, under, folded)
        };
        let shaped = blocking(shape).await?;
        let bytes = shaped.memory();
        if bytes > limit {
            return Err(ProductError::BatchTooLarge { bytes, limit });
        }
        if !charge.resize(bytes.saturating_add(wire).min(limit)) {
            return Err(ProductError::MemoryFull);
        }
        Ok(shaped)
    }

    /// Shows a batch that the journal has, under what is declared by then.
    pub(super) async fn show(&self, id: TableId, stored: Stored, mut shaped: Shaped, mut charge: Charge) -> Result<(), ProductError> {
        loop {
            let under = {
                let mut state = self.write();
                // Deleted while the batch was on its way: the rows went with the table.
                let table = state.tables.get_mut(&id).ok_or_else(|| gone(id))?;
                if Arc::ptr_eq(table.schema.declared(), &shaped.under) {
                    let now = self.shared.clock.now();
                    table.updated_at = now;
                    table.known.insert(stored.batch);
                    table.records.know(&stored.records);
                    table.show(stored, shaped, charge, now);
                    return Ok(());
                }
                Arc::clone(table.schema.declared())
            };
            shaped = blocking(move || shaped.refit(&under).map(|()| shaped)).await?;
            charge = self.shared.memory.charge_anyway(shaped.memory() + memory_of_ids(&stored.records));
        }
    }

    /// Batches that were read back, as their tables show them. Those of tables that are gone are left out.
    pub(super) async fn shaped_again(
        &self,
        parts: Vec<(TableId, Stored, RecordBatch)>,
    ) -> Result<Vec<(TableId, Stored, Shaped)>, ProductError> {
        let parts: Vec<_> = {
            let state = self.read();
            let known = parts.into_iter().filter_map(|(id, stored, raw)| {
                let table = state.tables.get(&id)?;
                let folded = table.folded(raw.schema_ref(), false);
                Some((id, stored, raw, Arc::clone(table.schema.declared()), folded))
            });
            known.collect()
        };
        let shape = |(id, stored, raw, under, folded)| Ok((id, stored, Shaped::new(raw, under, folded)?));
        blocking(move || parts.into_iter().map(shape).collect()).await
    }
}

pub(super) fn gone(id: TableId) -> ProductError {
    ProductError::NotFound {
        what: "table",
        name: id.to_string(),
    }
}

/// Runs what takes CPU for a while away from the threads that answer.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ProductError> + Send + 'static,
) -> Result<T, ProductError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| ProductError::Internal("shaping rows was interrupted"))?
}
