//! What is to be read of a raw log: which batches count, which rows of them, and for which tables.
//!
//! The whole log is gone through by its clear headers, so that tables that were deleted are known before anything is opened.

use std::collections::{HashMap, HashSet};
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
}

impl Plan {
    /// To put all into `catalog` that is not in it yet, changes to databases and tables at once. `earlier` are those that were in files
    /// before.
    pub(super) async fn to_make(recovered: Recovered, catalog: &Catalog, earlier: Option<&Batches>) -> Result<Self, ProductError> {
        let (state, upto) = loaded(catalog).await?;
        let done = covered(catalog, &state).await?;
        for segment in &recovered.segments {
            for header in &segment.headers {
                match decoded(header)? {
                    Header::Rows(_) => {}
                    _ if segment.id.sequence < upto => {}
                    // A catalog that is not whole yet has no files of deleted tables.
                    change => drop(commit(catalog, &change, segment.id.sequence).await?),
                }
            }
        }
        let is_in = |batches: &Batches, table: &TableId, batch: &BatchHash| batches.get(table).is_some_and(|all| all.contains(batch));
        let mut plan = go(recovered, state, upto, |table, batch| {
            let earlier = earlier.is_some_and(|earlier| is_in(earlier, table, batch));
            (!is_in(&done, table, batch)).then_some(earlier)
        })?;
        for table in plan.state.tables.values_mut() {
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
    for segment in recovered.segments {
        let segment = Arc::new(segment);
        let mut here = Vec::new();
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
    })
}

fn decoded(header: &[u8]) -> Result<Header, ProductError> {
    Header::decode(header).map_err(|error| ProductError::Unreadable(error.to_string()))
}
