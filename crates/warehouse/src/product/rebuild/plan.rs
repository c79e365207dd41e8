//! What is to be read of a raw log: which batches count, which rows of them, and for which tables.
//!
//! The whole log is gone through by its clear headers, so that tables that were deleted are known before anything is opened.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use base::TableId;
use columns::catalog::{BatchHash, Catalog};
use journal::{Recovered, Segment};

use super::super::ProductError;
use super::super::changes::commit;
use super::super::records::Window;
use super::super::recover::loaded;
use super::super::state::State;
use super::covered;
use crate::entries::Header;

/// Segments with what is wanted of them, in their order.
pub(super) type Segments = Vec<(Arc<Segment>, Vec<Wanted>)>;
/// Batches by table.
type Batches = HashMap<TableId, HashSet<BatchHash>>;

/// A batch to be read.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) entry: usize,
    pub(super) table: TableId,
    /// Which of its rows count, where not all do.
    pub(super) keep: Option<Arc<[bool]>>,
    /// It was in a file before.
    pub(super) earlier: bool,
    rows: u64,
}

impl Wanted {
    /// How many of its rows count.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }
}

/// All that is to be read.
pub(super) struct Plan {
    /// The tables, with all their columns, and with the files that they have already.
    pub(super) state: State,
    pub(super) segments: Segments,
    /// How many rows these are.
    pub(super) rows: u64,
    /// How many rows of each table the log has beside them: in no file, or in the new ones already.
    pub(super) waiting: HashMap<TableId, u64>,
    /// How many rows of each table the log has in all.
    pub(super) counted: HashMap<TableId, u64>,
    /// How many rows of each table it had before they were let go.
    pub(super) let_go: HashMap<TableId, u64>,
}

impl Plan {
    /// To put all into `catalog` that is not in it yet, changes to databases and tables at once. `earlier` are those that were in files
    /// before. A table of which the raw log was let go in part keeps what it has in the catalog `before`.
    pub(super) async fn to_make(
        recovered: Recovered,
        catalog: &Catalog,
        before: Option<&Path>,
        earlier: Option<&Batches>,
    ) -> Result<Self, ProductError> {
        let (_, upto) = loaded(catalog).await?;
        for segment in recovered.segments.iter().filter(|segment| segment.id.sequence >= upto) {
            let mut changes = Vec::new();
            for header in &segment.headers {
                match decoded(header)? {
                    Header::Rows(_) => {}
                    change => changes.push(change),
                }
            }
            // A catalog that is not whole yet has no files of tables that went for good.
            if !changes.is_empty() {
                commit(catalog, &changes, segment.id.sequence).await?;
            }
        }
        let (mut state, mut upto) = loaded(catalog).await?;
        if let Some(before) = before {
            for table in rows_let_go(&recovered)?.into_keys() {
                let has_files = earlier.is_some_and(|earlier| earlier.contains_key(&table));
                if has_files && state.tables.contains_key(&table) {
                    catalog.carry_over(before, table).await?;
                }
            }
            (state, upto) = loaded(catalog).await?;
        }
        let done = covered(catalog, &state).await?;
        let is_in = |batches: &Batches, table: &TableId, batch: &BatchHash| batches.get(table).is_some_and(|all| all.contains(batch));
        let mut plan = go(recovered, state, upto, |table, batch| {
            let earlier = earlier.is_some_and(|earlier| is_in(earlier, table, batch));
            (!is_in(&done, table, batch)).then_some(earlier)
        })?;
        // One whose older rows cannot be read again goes on showing them as it does.
        for table in plan.state.tables.values_mut().filter(|table| !table.raw_gone) {
            let declared = Arc::clone(&table.declared);
            table.schema.declare(declared);
        }
        Ok(plan)
    }

    /// To read what is in files, as a catalog says that was read into `state`.
    pub(super) fn to_compare(recovered: Recovered, state: State, upto: u64, covered: &Batches) -> Result<Self, ProductError> {
        go(recovered, state, upto, |table, batch| {
            covered.get(table).is_some_and(|all| all.contains(batch)).then_some(true)
        })
    }
}

/// `wanted` says whether a batch is to be read, and then whether it was in a file before.
fn go(
    recovered: Recovered,
    mut state: State,
    upto: u64,
    wanted: impl Fn(&TableId, &BatchHash) -> Option<bool>,
) -> Result<Plan, ProductError> {
    let mut seen: Batches = HashMap::new();
    let mut windows: HashMap<TableId, Window> = HashMap::new();
    let mut waiting: HashMap<TableId, u64> = HashMap::new();
    let mut counted: HashMap<TableId, u64> = HashMap::new();
    let mut segments: Segments = Vec::new();
    let let_go = rows_let_go(&recovered)?;
    for segment in recovered.segments {
        let segment = Arc::new(segment);
        let mut here = Vec::new();
        for header in &segment.trimmed {
            // Of a table that has these rows yet they are known, as they were.
            if let Header::Rows(header) = decoded(header)?
                && !header.records.is_empty()
                && state.tables.get(&header.table).is_some_and(|table| table.raw_gone)
            {
                windows.entry(header.table).or_default().take(&header.records, segment.created_at);
            }
        }
        for (entry, header) in segment.headers.iter().enumerate() {
            let header = match decoded(header)? {
                Header::Rows(header) => header,
                _ if segment.id.sequence < upto => continue,
                change => {
                    state.show(change);
                    continue;
                }
            };
            let Some(table) = state.tables.get_mut(&header.table) else {
                continue;
            };
            table.note_columns(&header)?;
            // A batch can be in the journal twice: its first writer never heard that it was durable. The first one counts.
            if !seen.entry(header.table).or_default().insert(header.batch) {
                continue;
            }
            let mut rows = header.rows;
            let mut keep = None;
            if !header.records.is_empty() {
                let new = windows.entry(header.table).or_default().take(&header.records, segment.created_at);
                rows = new.iter().filter(|new| **new).count() as u64;
                keep = Some(new).filter(|new| !new.iter().all(|new| *new)).map(Arc::from);
            }
            *counted.entry(header.table).or_default() += rows;
            match wanted(&header.table, &header.batch) {
                Some(earlier) => here.push(Wanted {
                    entry,
                    table: header.table,
                    keep,
                    earlier,
                    rows,
                }),
                None => *waiting.entry(header.table).or_default() += rows,
            }
        }
        segments.push((segment, here));
    }
    // Tables that were deleted later.
    for (_, wanted) in &mut segments {
        wanted.retain(|batch| state.tables.contains_key(&batch.table));
    }
    segments.retain(|(_, wanted)| !wanted.is_empty());
    let rows = segments.iter().flat_map(|(_, wanted)| wanted).map(|batch| batch.rows).sum();
    Ok(Plan {
        state,
        segments,
        rows,
        waiting,
        counted,
        let_go,
    })
}

/// How many rows of each table the log does not hold any more.
fn rows_let_go(recovered: &Recovered) -> Result<HashMap<TableId, u64>, ProductError> {
    let mut rows: HashMap<TableId, u64> = HashMap::new();
    for header in recovered.segments.iter().flat_map(|segment| &segment.trimmed) {
        if let Header::Rows(header) = decoded(header)? {
            *rows.entry(header.table).or_default() += header.rows;
        }
    }
    Ok(rows)
}

fn decoded(header: &[u8]) -> Result<Header, ProductError> {
    Header::decode(header).map_err(|error| ProductError::Unreadable(error.to_string()))
}
