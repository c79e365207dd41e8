//! How long rows are kept, table by table: in answers and files by their `time`, in the raw log by when they came.
//!
//! Promise: a row older than its table keeps rows is in no answer from that moment on, to the second. Files of which all rows are older are
//! deleted, some hours later and never because a clock jumped (see `purge`). Where a file has younger ones too, the older are left out when
//! it is merged, and it is written anew for that alone once they have been too old for a quarter of the time that rows are kept. An entry of the raw log goes only when its rows are in a
//! file, so in a majority of zones.
//!
//! What is set aside beside a table is kept as long as its rows.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use base::{DatabaseName, TableId, TableName, Timestamp};
use columns::catalog::{FileRecord, Retention};
use query::FileView;

use super::purge::MARGIN;
use super::state::{State, Table, time_range};
use super::{Product, ProductError};
use crate::entries::Header;

/// The least and the most that may be set, in seconds: a day, a hundred years.
const LEAST: u64 = 86_400;
const MOST: u64 = 100 * 366 * 86_400;

impl State {
    /// The table that one stands beside, or itself.
    pub(super) fn owner<'a>(&'a self, table: &'a Table) -> &'a Table {
        let owner = table.name.of_aside().and_then(|owner| self.table(&table.database, &owner));
        owner.unwrap_or(table)
    }

    /// Of a table, or of the one that it stands beside.
    pub(super) fn retention(&self, table: &Table) -> Retention {
        self.owner(table).retention
    }
}

/// From when on rows are taken along when files are written anew, in seconds of `time`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    /// Rows of an earlier `time` are left out.
    pub(super) from: i64,
    /// Files that hold a row of an earlier `time` than this are written anew for that alone.
    pub(super) overdue: i64,
}

/// Rows of an earlier `time` than this are not kept at `now`; `None` where all are.
fn first_kept(keep: u64, now: Timestamp) -> Option<i64> {
    let keep = i64::try_from(keep).ok().filter(|keep| *keep > 0)?;
    Some(now.as_secs().saturating_sub(keep))
}

impl Product {
    /// Sets how long a table's rows are kept. What is not said stays as it is.
    pub(crate) async fn set_retention(
        &self,
        database: &DatabaseName,
        name: &TableName,
        keep: Option<u64>,
        keep_raw: Option<u64>,
    ) -> Result<(), ProductError> {
        for seconds in [keep, keep_raw].into_iter().flatten() {
            if seconds != 0 && !(LEAST..=MOST).contains(&seconds) {
                return Err(ProductError::Invalid(
                    "rows are kept for a day at least, a hundred years at most, or forever".into(),
                ));
            }
        }
        let mut waiting = self.control.lock().await;
        self.make_waiting(&mut waiting).await?;
        let id = self.table_id(database, name)?;
        let before = self.read().tables.get(&id).map(|table| table.retention).unwrap_or_default();
        let retention = Retention {
            keep: keep.unwrap_or(before.keep),
            keep_raw: keep_raw.unwrap_or(before.keep_raw),
        };
        if retention == before {
            return Ok(());
        }
        self.change(&mut waiting, Header::Keep { id, retention }).await
    }

    /// The first second of which rows of the table are shown now.
    pub(super) fn shown_from(&self, state: &State, table: &Table) -> Option<i64> {
        first_kept(state.retention(table).keep, self.shared.clock.now())
    }

    /// How a query is told of a table's files: without those that are too old, and of others from when on their rows are shown.
    pub(super) fn files_shown(&self, table: &Table, from: Option<i64>, reader: &query::Held) -> Vec<FileView> {
        let files = table.files.iter().filter(|file| from.is_none_or(|from| file.time_max >= from));
        let view = |file: &Arc<FileRecord>| FileView {
            not_before: from.filter(|from| file.time_min < *from),
            ..self.file_view(file, reader)
        };
        files.map(view).collect()
    }

    /// The moment before which rows may be deleted that are kept for so long; `None` when none may now.
    pub(super) fn surely_old(&self, keep: u64) -> Option<Timestamp> {
        if keep == 0 || self.pace.runs_for() < self.shared.settings.drops.settle {
            return None;
        }
        let age = Duration::from_secs(keep).saturating_add(MARGIN);
        let micros = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
        Some(Timestamp::from_micros(self.pace.at_least().as_micros().saturating_sub(micros)))
    }

    /// Which of a table's rows are left out when its files are written anew; `None` while none is. A dropped table comes back with all.
    pub(super) fn cut(&self, state: &State, table: &Table) -> Option<Cut> {
        if table.dropped.is_some() {
            return None;
        }
        let keep = state.retention(table).keep;
        let from = self.surely_old(keep)?.as_secs();
        let grace = i64::try_from((keep / 4).max(LEAST)).unwrap_or(i64::MAX);
        Some(Cut {
            from,
            overdue: from.saturating_sub(grace),
        })
    }

    /// Lets go files of which all rows are older than their tables keep them.
    pub(super) async fn expire_due(&self) {
        for (id, objects) in self.expired() {
            if let Err(error) = self.expire(id, objects).await {
                tracing::warn!(product.id = %self.id, table.id = %id, error = %super::flush::chain(&error), "could not let go files that are too old");
            }
        }
    }

    fn expired(&self) -> Vec<(TableId, Vec<zones::ObjectName>)> {
        let state = self.read();
        let tables = state.tables.values().filter_map(|table| {
            let before = self.surely_old(state.retention(table).keep)?.as_secs();
            let old = table.files.iter().filter(|file| file.time_max < before);
            let old: Vec<_> = old.map(|file| file.object.clone()).collect();
            (!old.is_empty() && table.dropped.is_none()).then_some((table.id, old))
        });
        tables.collect()
    }

    async fn expire(&self, id: TableId, old: Vec<zones::ObjectName>) -> Result<(), ProductError> {
        let _writing = self.writing.lock().await;
        let _control = self.control.lock().await;
        // Merged into others meanwhile, or read again: those are looked at the next time.
        let is_there = |state: &State, object: &zones::ObjectName| {
            let table = state.tables.get(&id);
            table.is_some_and(|table| table.files.iter().any(|file| file.object == *object))
        };
        let old: Vec<_> = {
            let state = self.read();
            old.into_iter().filter(|object| is_there(&state, object)).collect()
        };
        self.catalog.expire(id, &old).await?;
        if let Some(table) = self.write().tables.get_mut(&id) {
            table.files.retain(|file| !old.contains(&file.object));
        }
        self.condemned_some();
        tracing::info!(product.id = %self.id, table.id = %id, files = old.len(), "let go {} files of rows that are too old", old.len());
        Ok(())
    }
}

/// The rows that are not older than this.
pub(super) fn not_before(rows: RecordBatch, from: Option<i64>) -> Result<RecordBatch, ProductError> {
    let Some(from) = from.filter(|from| time_range(&rows).is_some_and(|(oldest, _)| oldest < *from)) else {
        return Ok(rows);
    };
    let time = rows
        .column_by_name(events::TIME)
        .and_then(|time| time.as_primitive_opt::<Int64Type>());
    let time = time.ok_or(ProductError::Internal("rows have no time"))?;
    let keep: Vec<bool> = (0..time.len()).map(|row| time.is_valid(row) && time.value(row) >= from).collect();
    Ok(events::keep_rows(&rows, &keep)?)
}
