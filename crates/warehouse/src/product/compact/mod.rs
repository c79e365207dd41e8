//! Small files into large ones, in order of time, beside all else.
//!
//! Promise: a query sees the rows of the old files or those of the new ones, all of them and once. Old files go when nothing reads them;
//! what a merge that ends early has made goes as well. However many rows there are, a merge takes no more memory than
//! `flush.rewrite_memory`, and there is one at a time in the whole process. Rows that are too old are left out (see `retention`), none
//! that might be shown to anybody yet.
//!
//! Start at [`Product::merge_due`]; what is merged with what is in [`plan`]. Needs the product's private key, so it happens only while
//! somebody's lease is alive, and ends with it.

mod plan;
pub(super) mod spool;

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow::record_batch::RecordBatch;
use base::{TableId, WriterId};
use columns::FileWriter;
use columns::catalog::{CatalogError, FileRecord, Swap};
use columns::merge::{Merge, Step};
use edge::Lap;
use query::{FileView, Lease, OpenFile};
use seal::{DataKey, seal_key};
use tokio_util::sync::CancellationToken;

use self::plan::Sizes;
use self::spool::Spool;
use super::state::Table;
use super::{Product, ProductError};
use crate::memory::Memory;
use crate::settings::FlushSettings;

/// The directory of files that are being written, in the product's own.
pub(crate) const SPOOLS: &str = "merging";
/// How many rows are written at once.
const ROWS_AT_ONCE: usize = 8_192;
/// How many cells are laid out at once, empty ones included, unless one row has more.
const CELLS_AT_ONCE: usize = 256 << 10;
/// What a cell takes that was laid out: where rows were picked, and once more where they are encoded.
const PER_CELL: usize = 2 * 9;
/// What a file of very little may take.
const SMALL: u64 = 1 << 20;
/// Between two batches, how long a merge waits at most for memory that rows on their way in need more.
const GIVE_WAY: Duration = Duration::from_millis(100);

/// How large a file may become that is made of so many bytes, and how much memory it takes while it is put into the zones: it can be
/// larger than they were, where it is compressed less well.
fn largest(sizes: Sizes, bytes: u64) -> u64 {
    sizes.most().min(bytes.saturating_mul(2).saturating_add(SMALL))
}

/// What writing files of so many columns takes: a row group, what each column needs, and rows as they are laid out.
fn for_writing(memory: &Memory, columns: usize) -> usize {
    let cells = columns.saturating_mul(rows_at_once(columns));
    memory.limit() / 12 + columns::memory_of_columns(columns, for_compressing(memory)) + cells.saturating_mul(PER_CELL)
}

/// What compressing may take of it.
fn for_compressing(memory: &Memory) -> usize {
    memory.limit() / 8
}

/// How many rows of so many columns are laid out at once.
fn rows_at_once(columns: usize) -> usize {
    (CELLS_AT_ONCE / columns.max(1)).clamp(1, ROWS_AT_ONCE)
}

impl FlushSettings {
    fn sizes(&self) -> Sizes {
        Sizes {
            full: self.file_bytes.min(self.rewrite_memory as u64 / 3).max(1),
            fan: self.merge_files.max(2),
        }
    }
}

/// One file on its way.
struct Output {
    writer: FileWriter<Spool>,
    file: String,
    sealed_key: Vec<u8>,
    /// How many rows it is to take yet.
    left: u64,
}

/// What is merged next.
struct Chosen {
    files: Vec<Arc<FileRecord>>,
    /// Rows of an earlier `time` are left out.
    from: Option<i64>,
    reader: query::Held,
}

/// What came of reading and writing.
struct Work<'a> {
    table: TableId,
    schema: SchemaRef,
    cancel: &'a CancellationToken,
    /// How many rows the next files take.
    layout: std::vec::IntoIter<u64>,
    /// Of the last file, which became full before all of these were in it.
    left_over: Option<u64>,
    output: Option<Output>,
    made: Vec<FileRecord>,
    rows: u64,
    /// Rows of an earlier `time` are left out.
    from: Option<i64>,
    /// How many were.
    left_out: u64,
    /// How large a file may become.
    largest: u64,
}

impl Product {
    /// Merges files of every table that has many of a size, a set of each.
    pub(crate) async fn merge_due(&self, lease: &Arc<Lease>, cancel: &CancellationToken) {
        let sizes = self.shared.settings.flush.sizes();
        let due: Vec<TableId> = {
            let (state, now) = (self.read(), self.shared.clock.now());
            let is_due = |table: &&Table| table.files.len() >= sizes.fan || self.cut(&state, table).is_some();
            let tables = state.tables.values().filter(is_due);
            tables.map(|table| table.id).filter(|id| self.merging.may(id, now)).collect()
        };
        for table in due {
            if cancel.is_cancelled() {
                return;
            }
            let next = {
                let state = self.read();
                state.tables.get(&table).and_then(|table| {
                    let cut = self.cut(&state, table);
                    let overdue = cut.and_then(|cut| plan::overdue(&table.files, cut.overdue, sizes));
                    let files = overdue.or_else(|| plan::next(&table.files, sizes))?;
                    Some(Chosen {
                        files,
                        from: cut.map(|cut| cut.from),
                        reader: self.readers.enter() as query::Held,
                    })
                })
            };
            let Some(chosen) = next else { continue };
            let outcome = self.merge(table, chosen, sizes, lease, cancel).await;
            self.merging
                .ended(table, outcome.is_ok() || cancel.is_cancelled(), self.shared.clock.now());
            if let Err(error) = outcome
                && !cancel.is_cancelled()
            {
                tracing::warn!(product.id = %self.id, table.id = %table, error = %super::flush::chain(&error), "could not merge files");
            }
        }
    }

    /// How many files there are, and how many of them wait to be merged.
    pub(crate) fn count_files(&self) -> (usize, usize) {
        let sizes = self.shared.settings.flush.sizes();
        let state = self.read();
        let count = |table: &Table| (table.files.len(), plan::backlog(&table.files, sizes));
        state
            .tables
            .values()
            .map(count)
            .fold((0, 0), |(all, waiting), (files, due)| (all + files, waiting + due))
    }

    async fn merge(
        &self,
        id: TableId,
        chosen: Chosen,
        sizes: Sizes,
        lease: &Arc<Lease>,
        cancel: &CancellationToken,
    ) -> Result<(), ProductError> {
        let Chosen { mut files, from, reader } = chosen;
        let mut lap = Lap::begin();
        let memory = &self.shared.rewriting;
        let (inputs, columns) = self.open_files(&mut files, &reader, lease, sizes).await?;
        let taken: usize = inputs.iter().map(OpenFile::memory).sum();
        let _charge = memory
            .charge(taken + for_writing(memory, columns.len()))
            .ok_or(ProductError::Internal("two merges run at once"))?;
        let (schema, own) = {
            let state = self.read();
            let Some(table) = state.tables.get(&id) else { return Ok(()) };
            let others = table
                .files
                .iter()
                .filter(|file| !files.iter().any(|input| input.object == file.object));
            // Of the table's columns those that something of the files has: others read as nothing.
            let schema = super::flush::only(&table.schema.arrow_schema(), &columns);
            (schema, plan::own_bytes(others.map(AsRef::as_ref)))
        };
        let bytes: u64 = files.iter().map(|file| file.bytes).sum();
        let days = days_of(&files, &inputs, bytes, from, sizes, cancel).await?;
        let mut work = Work {
            table: id,
            schema,
            cancel,
            layout: plan::layout(&days, bytes, &own, sizes).into_iter(),
            left_over: None,
            output: None,
            made: Vec::new(),
            rows: 0,
            from,
            left_out: 0,
            largest: largest(sizes, bytes),
        };
        let done = self.rewrite(&mut work, &inputs).await;
        let made: Vec<_> = work.made.iter().map(|file| file.object.clone()).collect();
        drop((work.output.take(), inputs, reader));
        let expected: u64 = files.iter().map(|file| file.rows).sum();
        let swapped = match done {
            Ok(()) if work.rows + work.left_out != expected => Err(ProductError::File(format!(
                "{} rows were read of files that hold {expected}",
                work.rows + work.left_out
            ))),
            // All are too old by now: they go as files that are (see `retention`).
            Ok(()) if made.is_empty() => Ok(false),
            Ok(()) => {
                // Invariant: a retention that was made longer meanwhile finds all rows.
                let left_out = from.filter(|_| work.left_out > 0);
                self.swap_merged(id, &files, &work.made, left_out).await
            }
            Err(error) => Err(error),
        };
        if !matches!(swapped, Ok(true)) {
            self.give_up(&made).await;
            return swapped.map(drop);
        }
        lease
            .footers()
            .retain(|object| !files.iter().any(|gone| gone.object.as_str() == object));
        self.condemned_some();
        self.shared.stages.took("merge files", lap.end(), expected);
        tracing::info!(product.id = %self.id, table.id = %id, files = files.len(), into = made.len(), rows = expected, left_out = work.left_out, bytes,
            "merged {} files into {}", files.len(), made.len());
        Ok(())
    }

    /// Opens as many of the files as can be merged at once within the memory for it, and leaves the others out. Returns their columns as well.
    async fn open_files(
        &self,
        files: &mut Vec<Arc<FileRecord>>,
        reader: &query::Held,
        lease: &Arc<Lease>,
        sizes: Sizes,
    ) -> Result<(Vec<OpenFile>, HashSet<String>), ProductError> {
        let (mut inputs, mut taken, mut bytes, mut columns) = (Vec::new(), 0_usize, 0, HashSet::new());
        let (memory, least) = (&self.shared.rewriting, files.len().min(2));
        for file in files.iter() {
            let view = self.file_view(file, reader);
            let input = OpenFile::open(&self.shared.zones, lease, view).await?;
            let more: Vec<String> = input.columns().filter(|name| !columns.contains(*name)).map(str::to_owned).collect();
            taken = taken.saturating_add(input.memory());
            bytes += file.bytes;
            let put = usize::try_from(largest(sizes, bytes)).unwrap_or(usize::MAX);
            let writing = for_writing(memory, columns.len() + more.len());
            if taken.saturating_add(put).saturating_add(writing) > memory.limit() {
                break;
            }
            columns.extend(more);
            inputs.push(input);
        }
        files.truncate(inputs.len());
        if inputs.len() < least {
            return Err(ProductError::File(format!(
                "{least} of the files cannot be read at once within {} bytes, with the columns that they have: let `flush.rewrite_memory` be larger",
                memory.limit()
            )));
        }
        Ok((inputs, columns))
    }

    /// Reads all inputs side by side and writes their rows into new files.
    async fn rewrite(&self, work: &mut Work<'_>, inputs: &[OpenFile]) -> Result<(), ProductError> {
        let mut readers = inputs.iter().map(OpenFile::rows).collect::<Result<Vec<_>, _>>()?;
        // Wide rows come in small batches, and go out in such.
        let most = inputs.iter().map(OpenFile::rows_at_once).min().unwrap_or(1);
        let most = most.clamp(1, rows_at_once(work.schema.fields().len()));
        let mut merge = Merge::new(readers.len(), most);
        let failed = |error: &dyn std::error::Error| ProductError::File(super::flush::chain(error));
        loop {
            match merge.step().map_err(|error| failed(&error))? {
                Step::Give(input) => {
                    let reader = readers.get_mut(input).ok_or(ProductError::Internal("an input is missing"))?;
                    let batch = reader.next().await?;
                    let adapted = batch.map(|batch| events::adapt(&batch, &work.schema)).transpose();
                    merge.give(input, adapted?).map_err(|error| failed(&error))?;
                }
                Step::Rows(rows) => {
                    #[cfg(test)]
                    self.merge_cells
                        .fetch_max(rows.num_rows() * rows.num_columns(), std::sync::atomic::Ordering::SeqCst);
                    self.give_way(work.cancel).await?;
                    let all = rows.num_rows();
                    let rows = super::retention::not_before(rows, work.from)?;
                    work.left_out += (all - rows.num_rows()) as u64;
                    self.write_rows(work, rows).await?;
                }
                Step::Done => break,
            }
            #[cfg(test)]
            self.note_peak(work, &merge);
        }
        match work.output.take() {
            Some(output) => self.end_output(work, output).await,
            None => Ok(()),
        }
    }

    /// Lets go while rows on their way in need memory, for a while: what is merged makes room as well.
    async fn give_way(&self, cancel: &CancellationToken) -> Result<(), ProductError> {
        let until = tokio::time::Instant::now() + GIVE_WAY;
        while self.shared.memory.is_pressed() && !cancel.is_cancelled() && tokio::time::Instant::now() < until {
            tokio::time::sleep(GIVE_WAY / 10).await;
        }
        tokio::task::yield_now().await;
        stopped(cancel)
    }

    async fn write_rows(&self, work: &mut Work<'_>, mut rows: RecordBatch) -> Result<(), ProductError> {
        while rows.num_rows() > 0 {
            let mut output = match work.output.take() {
                Some(output) => output,
                None => {
                    let left = work.left_over.take().or_else(|| work.layout.next());
                    self.begin_output(work, left.unwrap_or(u64::MAX))?
                }
            };
            let piece = rows_within(&rows, work.largest / 16)?;
            let count = usize::try_from(output.left).map_or(piece, |left| left.min(piece));
            let written = output.writer.write(&rows.slice(0, count));
            written.map_err(|error| ProductError::File(super::flush::chain(&error)))?;
            rows = rows.slice(count, rows.num_rows() - count);
            output.left -= count as u64;
            work.rows += count as u64;
            let left = output.left;
            // Rows can be larger than those before them were. What is not encoded to the end seems larger than it will be.
            let limit = work.largest / 8 * 7;
            if output.writer.size() >= limit {
                output
                    .writer
                    .flush()
                    .map_err(|error| ProductError::File(super::flush::chain(&error)))?;
            }
            let is_full = output.writer.size() >= limit;
            if left == 0 || is_full {
                self.end_output(work, output).await?;
                work.left_over = Some(left).filter(|left| *left > 0);
            } else {
                work.output = Some(output);
            }
        }
        Ok(())
    }

    fn begin_output(&self, work: &Work<'_>, left: u64) -> Result<Output, ProductError> {
        let file = WriterId::generate(self.shared.clock.now(), &*self.shared.entropy).to_string();
        let key = DataKey::generate(&*self.shared.entropy);
        let binding = self.shared.settings.binding;
        let sealed_key = seal_key(&self.public_key, &key, &binding.key_context(self.id, work.table, &file));
        let spool = Spool::begin(&self.spools(), &file).map_err(ProductError::Spool)?;
        let aad = binding.aad_prefix(self.id, work.table, &file);
        let writer = FileWriter::new(spool, &work.schema, &key, &aad, for_compressing(&self.shared.rewriting));
        Ok(Output {
            writer: writer.map_err(|error| ProductError::File(super::flush::chain(&error)))?,
            file,
            sealed_key,
            left,
        })
    }

    async fn end_output(&self, work: &mut Work<'_>, output: Output) -> Result<(), ProductError> {
        let finished = output.writer.finish();
        let (spool, contents) = finished.map_err(|error| ProductError::File(super::flush::chain(&error)))?;
        let bytes = spool.length();
        // One at a time, and no larger than what is left for it: this is there.
        let _charge = usize::try_from(bytes).ok().and_then(|bytes| self.shared.rewriting.charge(bytes));
        let _charge = _charge.ok_or(ProductError::Internal("a merged file is larger than it can be"))?;
        let content = spool.into_bytes().map_err(ProductError::Spool)?;
        stopped(work.cancel)?;
        let object = self.place(work.table, &output.file, content, contents.rows).await?;
        work.made.push(FileRecord {
            object,
            table: work.table,
            file: output.file,
            bytes,
            rows: contents.rows,
            time_min: contents.time_min,
            time_max: contents.time_max,
            sealed_key: output.sealed_key,
        });
        Ok(())
    }

    /// Puts the new files in the place of the old. False when the table is gone by now, or its files were replaced by others, or rows
    /// that were `left_out`, being of an earlier `time`, are to be kept by now.
    pub(super) async fn swap_merged(
        &self,
        id: TableId,
        old: &[Arc<FileRecord>],
        new: &[FileRecord],
        left_out: Option<i64>,
    ) -> Result<bool, ProductError> {
        let objects: Vec<_> = old.iter().map(|file| file.object.clone()).collect();
        // Held for the swap only: rows are flushed while others are merged.
        let _writing = self.writing.lock().await;
        let control = self.control.lock().await;
        let columns = {
            let state = self.read();
            let has = |table: &&Table| objects.iter().all(|object| table.files.iter().any(|file| file.object == *object));
            let may_go = |table: &&Table| left_out.is_none_or(|from| self.cut(&state, table).is_some_and(|cut| from <= cut.from));
            state.tables.get(&id).filter(has).filter(may_go).map(Table::stored_columns)
        };
        let Some(columns) = columns else { return Ok(false) };
        let swapped = self
            .swap(&Swap {
                table: id,
                add: new,
                remove: &objects,
                covered: &[],
                records: &[],
                left_out: &[],
                columns: &columns,
                at: self.shared.clock.now(),
            })
            .await;
        if let Err(CatalogError::Stale { .. }) = swapped {
            self.follow_catalog(id, &control).await?;
        }
        swapped?;
        if let Some(table) = self.write().tables.get_mut(&id) {
            table.files.retain(|file| !objects.contains(&file.object));
            table.files.extend(new.iter().cloned().map(Arc::new));
        }
        Ok(true)
    }

    /// Where files are while they are written.
    pub(super) fn spools(&self) -> PathBuf {
        self.shared.directory.join("products").join(self.id.to_string()).join(SPOOLS)
    }

    /// A file as queries read it, for as long as they hold `reader`.
    pub(super) fn file_view(&self, file: &FileRecord, reader: &query::Held) -> FileView {
        FileView {
            object: file.object.clone(),
            bytes: file.bytes,
            rows: file.rows,
            time_min: file.time_min,
            time_max: file.time_max,
            not_before: None,
            sealed_key: file.sealed_key.clone(),
            aad_prefix: self.shared.settings.binding.aad_prefix(self.id, file.table, &file.file),
            key_context: self.shared.settings.binding.key_context(self.id, file.table, &file.file),
            held: Arc::clone(reader),
        }
    }

    /// What a merge holds now, for tests of its bound.
    #[cfg(test)]
    fn note_peak(&self, work: &Work<'_>, merge: &Merge) {
        let writing = work.output.as_ref().map_or(0, |output| output.writer.memory());
        let columns = work.output.as_ref().map_or(0, |_| work.schema.fields().len());
        let open = columns::memory_of_columns(columns, for_compressing(&self.shared.rewriting));
        self.merge_peak
            .fetch_max(writing + open + merge.held(), std::sync::atomic::Ordering::SeqCst);
    }
}

/// How many rows of a batch have so many bytes, if all are alike.
fn rows_within(rows: &RecordBatch, bytes: u64) -> Result<usize, ProductError> {
    let all = columns::bytes_of(rows).map_err(|error| ProductError::File(error.to_string()))?;
    let fitting = rows.num_rows() as u128 * u128::from(bytes) / all.max(1) as u128;
    Ok(usize::try_from(fitting).unwrap_or(usize::MAX).clamp(1, rows.num_rows().max(1)))
}

fn stopped(cancel: &CancellationToken) -> Result<(), ProductError> {
    if cancel.is_cancelled() {
        Err(ProductError::Stopped)
    } else {
        Ok(())
    }
}

/// How many rows of each day the files hold that are not of an earlier `time` than `from`, in order. Where that changes nothing, all of
/// them pass for one day's.
async fn days_of(
    files: &[Arc<FileRecord>],
    inputs: &[OpenFile],
    bytes: u64,
    from: Option<i64>,
    sizes: Sizes,
    cancel: &CancellationToken,
) -> Result<Vec<(i64, u64)>, ProductError> {
    let days = |time: fn(&FileRecord) -> i64| files.iter().map(move |file| plan::day_of(time(file)));
    let (first, last) = (days(|file| file.time_min).min(), days(|file| file.time_max).max());
    let mut days = BTreeMap::new();
    if first == last || bytes < sizes.piece() {
        days.insert(first.unwrap_or(0), files.iter().map(|file| file.rows).sum());
        return Ok(days.into_iter().collect());
    }
    for input in inputs {
        let mut times = input.times()?;
        while let Some(batch) = times.next().await? {
            stopped(cancel)?;
            let Some(times) = batch
                .column_by_name(events::TIME)
                .and_then(|times| times.as_primitive_opt::<Int64Type>())
            else {
                return Err(ProductError::File("a file has no column \"time\" of type long".into()));
            };
            for time in times.values().iter().filter(|time| from.is_none_or(|from| **time >= from)) {
                *days.entry(plan::day_of(*time)).or_default() += 1;
            }
            tokio::task::yield_now().await;
        }
    }
    Ok(days.into_iter().collect())
}
