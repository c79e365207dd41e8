//! After a restart: what the catalog says, and from the journal what it does not cover.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use base::{ProductId, Role, TableId, Timestamp};
use columns::catalog::{BatchHash, Catalog};
use events::Seen;
use journal::{Recovered, Segment, Tail};
use seal::PrivateKey;
use wire::v1::Head;

use super::changes::commit;
use super::drop::Dropped;
use super::records::{Window, kept, kept_rows, memory_of_ids, unrepeated, with_id};
use super::shape::{Shaped, Stored};
use super::state::{SealedBatch, State, Table};
use super::{Product, ProductError, journal_name};
use crate::entries::{Header, RowsHeader};
use crate::shared::Shared;

/// What there is after a start.
pub(super) struct Found {
    pub(super) state: State,
    /// Where the journal goes on.
    pub(super) tail: Tail,
    /// The latest moment at which something was written, as its writers said.
    pub(super) latest: Timestamp,
}

/// Reads the catalog, replays the clear headers of what the journal holds after a checkpoint over it, and notes which batches are still
/// sealed.
pub(super) async fn recover(
    id: ProductId,
    shared: &Shared,
    catalog: &Catalog,
    after: &journal::Head,
    remembered: Option<&Head>,
) -> Result<Found, ProductError> {
    let recovered = raw_log(id, shared, after, remembered).await?;
    let (tail, latest) = (recovered.tail(), recovered.latest);
    let mut windows = HashMap::new();
    let (mut state, changed_upto) = loaded(catalog).await?;
    if !recovered.superseded.is_empty() {
        // What trimmed them did not come to its end.
        catalog.want_trim().await?;
    }
    for segment in recovered.segments {
        let segment = Arc::new(segment);
        let mut changes = Vec::new();
        for (entry, header) in segment.headers.iter().enumerate() {
            let header = Header::decode(header).map_err(|error| ProductError::Unreadable(error.to_string()))?;
            match header {
                Header::Rows(header) => note_rows(&mut state, shared, catalog, &mut windows, (&segment, entry), header).await?,
                // Made, and perhaps undone by a later change, which the catalog has seen as well.
                _ if segment.id.sequence < changed_upto => {}
                change => changes.push(change),
            }
        }
        note_trimmed(&mut state, catalog, &segment, shared).await?;
        if !changes.is_empty() {
            commit(catalog, &changes, segment.id.sequence).await?;
            changes.into_iter().for_each(|change| state.show(change));
        }
    }
    tracing::info!(product.id = %id, tables = state.tables.len(), sealed_batches = state.sealed.len(), "opened product {id}");
    Ok(Found { state, tail, latest })
}

/// The product's journal after a head, which is what others remember of it, or a continuation.
pub(super) async fn raw_log(
    id: ProductId,
    shared: &Shared,
    after: &journal::Head,
    remembered: Option<&Head>,
) -> Result<Recovered, ProductError> {
    let name = journal_name(id);
    let recovered = journal::recover_after(&shared.zones, &shared.installation, Role::Warehouse, &name, Some(id), after).await?;
    if let Some(head) = remembered {
        let unreadable = |_| ProductError::Unreadable("the remembered head has no hash of 32 bytes".into());
        let head = journal::Head {
            length: head.length,
            hash: head.hash.as_slice().try_into().map_err(unreadable)?,
        };
        recovered
            .check_head(&head)
            .map_err(|error| ProductError::Unreadable(error.to_string()))?;
    }
    Ok(recovered)
}

/// What the catalog says, and up to which segment it knows all changes.
pub(super) async fn loaded(catalog: &Catalog) -> Result<(State, u64), ProductError> {
    let contents = catalog.load().await?;
    let mut state = State::default();
    state
        .databases
        .extend(contents.databases.into_iter().map(|database| (database.name, database.created_at)));
    for table in contents.tables {
        state.insert_table(Table::new(table));
    }
    for dropped in contents.dropped {
        let mut table = Table::new(dropped.table);
        table.dropped = Some(Dropped {
            at: dropped.dropped_at,
            with_database: dropped.with_database,
        });
        state.insert_table(table);
    }
    let gone = contents.dropped_databases.into_iter();
    state
        .dropped_databases
        .extend(gone.map(|database| ((database.name, database.dropped_at), database.created_at)));
    for file in contents.files {
        if let Some(table) = state.tables.get_mut(&file.table) {
            table.files.push(Arc::new(file));
        }
    }
    for (id, retention) in contents.retention {
        if let Some(table) = state.tables.get_mut(&id) {
            table.retention = retention;
        }
    }
    for id in contents.raw_gone {
        if let Some(table) = state.tables.get_mut(&id) {
            table.raw_gone = true;
        }
    }
    for record in contents.declared {
        state.declare(record.table, record.declared);
        if let Some(table) = state.tables.get_mut(&record.table) {
            table.schema.declare(super::shape::declared(record.shown));
        }
    }
    Ok((state, contents.changed_upto))
}

async fn note_rows(
    state: &mut State,
    shared: &Shared,
    catalog: &Catalog,
    windows: &mut HashMap<TableId, Window>,
    (segment, entry): (&Arc<Segment>, usize),
    mut header: RowsHeader,
) -> Result<(), ProductError> {
    let Some(table) = state.tables.get_mut(&header.table) else {
        return Ok(());
    };
    table.note_columns(&header)?;
    // A batch can be in the journal twice: its first writer never heard that it was durable. The first one counts.
    if catalog.is_covered(header.table, &header.batch).await? || !table.known.insert(header.batch) {
        return Ok(());
    }
    let mut keep = None;
    if !header.records.is_empty() {
        let window = windows.entry(header.table).or_default();
        let new = unrepeated(catalog, header.table, window, &header.records, segment.created_at).await?;
        header.records = kept(&header.records, &new);
        if header.records.is_empty() {
            // Remembered as covered, or it would be new again once its records are forgotten.
            table.known.remove(&header.batch);
            return Ok(catalog.cover_nothing_of(header.table, &header.batch, shared.clock.now()).await?);
        }
        header.rows = header.records.len() as u64;
        table.records.know(&with_id(&header.records).collect::<Vec<_>>());
        keep = Some(new).filter(|new| !new.iter().all(|keep| *keep));
    }
    state.sealed.push(SealedBatch {
        segment: Arc::clone(segment),
        entry,
        header,
        keep,
    });
    Ok(())
}

/// Rows of tables that are there and whose raw log was let go are in files that the catalog knows; a lost catalog cannot be told of them.
async fn note_trimmed(state: &mut State, catalog: &Catalog, segment: &Segment, shared: &Shared) -> Result<(), ProductError> {
    for header in &segment.trimmed {
        let header = Header::decode(header).map_err(|error| ProductError::Unreadable(error.to_string()))?;
        let Header::Rows(rows) = header else { continue };
        let Some(table) = state.tables.get_mut(&rows.table) else { continue };
        if !table.raw_gone {
            catalog.let_raw_go(rows.table).await?;
            table.raw_gone = true;
        }
        if !catalog.is_covered(rows.table, &rows.batch).await? {
            // Sent again, it is a duplicate as before.
            catalog.cover_nothing_of(rows.table, &rows.batch, shared.clock.now()).await?;
        }
    }
    Ok(())
}

impl Table {
    /// Takes in the columns of a batch in the journal.
    pub(super) fn note_columns(&mut self, header: &RowsHeader) -> Result<(), ProductError> {
        for (name, seen) in &header.columns {
            let seen =
                Seen::from_bits(*seen).ok_or_else(|| ProductError::Unreadable("a column was seen to hold what no column can".into()))?;
            self.schema.insert(name, seen);
        }
        Ok(())
    }
}

impl Product {
    /// Reads the rows back that were in memory when the last process ended.
    ///
    /// However many they are: once they take much memory, those that were read back become files before the next are.
    pub(super) async fn unseal(self: &Arc<Self>, key: &PrivateKey) -> Result<(), ProductError> {
        if self.read().sealed.is_empty() {
            return Ok(());
        }
        let _unsealing = self.unsealing.lock().await;
        loop {
            // One segment at a time, so that a long replay neither holds all payloads at once nor starts again after a failure.
            let Some(segment) = self.read().sealed.first().map(|batch| Arc::clone(&batch.segment)) else {
                return Ok(());
            };
            self.make_room().await?;
            let _turn = self.shared.memory.turn().await;
            if self.shared.memory.used() > self.shared.memory.limit() {
                return Err(ProductError::MemoryFull);
            }
            let entries = segment.open(&self.shared.zones, key).await?;
            let wanted: Vec<SealedBatch> = self.read().sealed.iter().filter(|b| b.segment.id == segment.id).cloned().collect();
            let parts = tokio::task::spawn_blocking(move || {
                let open = |batch: &SealedBatch| {
                    let entry = entries
                        .get(batch.entry)
                        .ok_or_else(|| ProductError::Unreadable("an entry is missing".into()))?;
                    let rows = super::append::read_one(&entry.payload)?;
                    let rows = match &batch.keep {
                        Some(keep) => kept_rows(&rows, keep.clone())?,
                        None => rows,
                    };
                    let stored = Stored {
                        batch: batch.header.batch,
                        records: with_id(&batch.header.records).collect(),
                        keep: batch.keep.as_deref().map(Arc::from),
                    };
                    Ok((batch.header.table, stored, rows))
                };
                wanted.iter().map(open).collect::<Result<Vec<_>, ProductError>>()
            })
            .await
            .map_err(|_| ProductError::Internal("reading back was interrupted"))??;
            let shaped = self.shaped_again(parts).await?;
            self.shown_again(&segment, shaped)?;
        }
    }

    /// Writes rows to files when memory is short of room. Needs no private key.
    async fn make_room(self: &Arc<Self>) -> Result<(), ProductError> {
        if !self.shared.memory.is_pressed() {
            return Ok(());
        }
        let product = Arc::clone(self);
        // A task of its own: the query that needs this may be killed at any moment, and a flush that stops between the catalog
        // and the state would leave its rows in both, a file and memory.
        tokio::spawn(async move { product.flush_all().await })
            .await
            .map_err(|_| ProductError::Internal("writing rows to files was interrupted"))
    }

    /// Rows leave the sealed list and enter memory in one step, so that no query sees them twice or not at all.
    fn shown_again(&self, segment: &Segment, mut parts: Vec<(TableId, Stored, Shaped)>) -> Result<(), ProductError> {
        let since = self.shared.clock.now();
        let mut state = self.write();
        // Should another declaration be shown since a moment ago, once more: rarely.
        for (id, _, shaped) in &mut parts {
            if let Some(table) = state.tables.get(id) {
                shaped.refit(table.schema.declared())?;
            }
        }
        // Tables may have been deleted meanwhile, and their sealed batches with them.
        let still: HashSet<BatchHash> = state
            .sealed
            .iter()
            .filter(|b| b.segment.id == segment.id)
            .map(|b| b.header.batch)
            .collect();
        state.sealed.retain(|batch| batch.segment.id != segment.id);
        for (id, stored, shaped) in parts {
            let Some(table) = state.tables.get_mut(&id).filter(|_| still.contains(&stored.batch)) else {
                continue;
            };
            let charge = self.shared.memory.charge_anyway(shaped.memory() + memory_of_ids(&stored.records));
            table.show(stored, shaped, charge, since);
        }
        Ok(())
    }
}
