//! From memory into encrypted files.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use base::{TableId, WriterId};
use bytes::Bytes;
use columns::catalog::{BatchHash, CatalogError, FileRecord, RecordHash, Swap};
use edge::Lap;
use seal::{DataKey, seal_key};
use zones::ObjectName;

use super::state::MemoryPart;
use super::{Product, ProductError};
use crate::known::TABLES;
use crate::memory::memory_of;

/// How many cells a file that is written from memory has at most, empty ones included, unless one batch has more.
pub(super) const FILE_CELLS: usize = 8 << 20;

impl Product {
    /// Writes the tables to files whose rows have waited long enough or take too much memory, and makes changes that wait.
    pub(crate) async fn flush_due(&self) {
        self.make_waiting_or_log().await;
        self.purge_due().await;
        self.forget_records().await;
        self.retype_quick().await;
        let settings = &self.shared.settings.flush;
        let pressed = self.shared.memory.is_pressed();
        let now = self.shared.clock.now();
        let due: Vec<TableId> = {
            let state = self.read();
            let tables = state.tables.values().filter(|table| {
                let old = table.memory.first().is_some_and(|part| now.since(part.since) >= settings.after);
                // Nobody looks at the rows of a dropped table: they are in files rather than in memory.
                let old = old || table.dropped.is_some();
                !table.memory.is_empty() && (pressed || old || table.memory_bytes() >= settings.table_bytes)
            });
            tables.map(|table| table.id).collect()
        };
        self.flush(&due).await;
        self.advance_checkpoint().await;
    }

    /// Writes all tables to files.
    pub(super) async fn flush_all(&self) {
        let all: Vec<TableId> = {
            let state = self.read();
            let full = state.tables.values().filter(|table| !table.memory.is_empty());
            full.map(|table| table.id).collect()
        };
        self.flush(&all).await;
    }

    async fn flush(&self, tables: &[TableId]) {
        for table in tables {
            if let Err(error) = self.flush_table(*table).await {
                // The rows stay in memory and in the journal; the next round tries again.
                tracing::warn!(product.id = %self.id, table.id = %table, error = %chain(&error), "could not write rows to a file");
                if error.kind().is_temporary() {
                    return;
                }
            }
        }
    }

    /// Writes the rows of one table that are in memory now to a file, or to several where they have too few columns in common.
    async fn flush_table(&self, id: TableId) -> Result<(), ProductError> {
        let _writing = self.writing.lock().await;
        let Some((parts, schema)) = self
            .read()
            .tables
            .get(&id)
            .map(|table| (table.memory.clone(), table.schema.arrow_schema()))
        else {
            return Ok(());
        };
        if parts.is_empty() {
            return Ok(());
        }
        let batches = parts.iter().map(|part| part.shaped.rows.clone()).collect();
        let files = self.write_files(id, batches, &schema).await?;
        let covered: Vec<BatchHash> = parts.iter().map(|part| part.batch).collect();
        let left_out: Vec<_> = parts.iter().filter_map(|part| Some((part.batch, part.keep.clone()?))).collect();
        let records: Vec<RecordHash> = parts.iter().flat_map(|part| part.records.iter().copied()).collect();

        let control = self.control.lock().await;
        let Some(columns) = self.read().tables.get(&id).map(super::state::Table::stored_columns) else {
            self.give_up(&objects(&files)).await;
            return Ok(());
        };
        let at = self.shared.clock.now();
        let swapped = self
            .swap(&Swap {
                table: id,
                add: &files,
                remove: &[],
                covered: &covered,
                records: &records,
                left_out: &left_out,
                columns: &columns,
                at,
            })
            .await;
        if let Err(error) = swapped {
            self.give_up(&objects(&files)).await;
            if let CatalogError::Stale { .. } = error {
                self.follow_catalog(id, &control).await?;
            }
            return Err(error.into());
        }
        let (rows, bytes): (u64, u64) = (files.iter().map(|file| file.rows).sum(), files.iter().map(|file| file.bytes).sum());
        if let Some(table) = self.write().tables.get_mut(&id) {
            // Invariant: parts are only ever added at the end, so those written are the first ones.
            let written: Vec<MemoryPart> = table.memory.drain(..parts.len()).collect();
            table.files.extend(files.into_iter().map(Arc::new));
            for part in &written {
                table.known.remove(&part.batch);
                table.records.written(&part.records);
            }
        }
        tracing::info!(product.id = %self.id, table.id = %id, rows, bytes, "wrote {rows} rows to a file");
        Ok(())
    }

    /// Writes rows into files: into several where they have too few columns in common, of each table's column what its rows have. All of
    /// them are staged, until they are swapped in or given up; after an error none is.
    pub(super) async fn write_files(
        &self,
        table: TableId,
        rows: Vec<RecordBatch>,
        schema: &SchemaRef,
    ) -> Result<Vec<FileRecord>, ProductError> {
        let mut files = Vec::new();
        let most = (FILE_CELLS, self.shared.settings.flush.table_bytes);
        for (rows, schema) in groups(rows, schema, most) {
            match self.write_file(table, rows, schema).await {
                Ok(file) => files.push(file),
                Err(error) => {
                    self.give_up(&objects(&files)).await;
                    return Err(error);
                }
            }
        }
        Ok(files)
    }

    /// Puts rows in order, encrypts them under a key of their own, and puts the file into a majority of zones. It is staged until it is swapped
    /// in or given up.
    pub(super) async fn write_file(&self, table: TableId, rows: Vec<RecordBatch>, schema: SchemaRef) -> Result<FileRecord, ProductError> {
        let encoded = self.encode_file(table, rows, schema).await?;
        self.place_file(encoded).await
    }

    /// The first half of [`Self::write_file`], which takes CPU and no zone.
    pub(super) async fn encode_file(&self, table: TableId, rows: Vec<RecordBatch>, schema: SchemaRef) -> Result<Encoded, ProductError> {
        let file = WriterId::generate(self.shared.clock.now(), &*self.shared.entropy).to_string();
        let binding = self.shared.settings.binding;
        let aad = binding.aad_prefix(self.id, table, &file);
        let key = DataKey::generate(&*self.shared.entropy);
        let sealed_key = seal_key(&self.public_key, &key, &binding.key_context(self.id, table, &file));
        let (stages, memory) = (self.shared.stages.clone(), self.shared.settings.flush.table_bytes);
        let count: u64 = rows.iter().map(|part| part.num_rows() as u64).sum();
        let written = tokio::task::spawn_blocking(move || {
            let mut lap = Lap::begin();
            let failed = |error: &dyn std::error::Error| ProductError::File(error.to_string());
            let adapted = rows
                .iter()
                .map(|part| events::adapt(part, &schema))
                .collect::<Result<Vec<_>, _>>()
                .map_err(|e| failed(&e))?;
            let in_order = columns::InOrder::new(adapted).map_err(|e| failed(&e))?;
            stages.took("sort for a file", lap.end(), count);
            let written = columns::write_in_order(in_order, &schema, &key, &aad, memory).map_err(|e| failed(&e))?;
            stages.took("encode and encrypt a file", lap.end(), count);
            Ok::<_, ProductError>(written)
        })
        .await
        .map_err(|_| ProductError::Internal("writing a file was interrupted"))??;
        Ok(Encoded {
            table,
            file,
            sealed_key,
            written,
        })
    }

    /// The second half, which waits for zones.
    pub(super) async fn place_file(&self, encoded: Encoded) -> Result<FileRecord, ProductError> {
        let Encoded {
            table,
            file,
            sealed_key,
            written,
        } = encoded;
        let size = written.bytes.len() as u64;
        let object = self.place(table, &file, written.bytes, written.rows).await?;
        Ok(FileRecord {
            object,
            table,
            file,
            bytes: size,
            rows: written.rows,
            time_min: written.time_min,
            time_max: written.time_max,
            sealed_key,
        })
    }

    /// Stages a file of `rows` rows and puts it into a majority of zones.
    pub(super) async fn place(&self, table: TableId, file: &str, bytes: Bytes, rows: u64) -> Result<ObjectName, ProductError> {
        let object = ObjectName::new(&format!("{TABLES}/{}/{table}", self.id), file, &bytes)
            .map_err(|_| ProductError::Internal("the name of a file is not valid"))?;
        // Invariant: known and staged before it can be in a zone, so that it is either copied and used or deleted.
        self.shared.known.add([object.clone()]);
        self.catalog.stage(table, &object).await?;
        let mut lap = Lap::begin();
        if let Err(error) = self.shared.zones.put(&object, bytes).await {
            // Refused for certain, as it is every second while zones are away, it leaves nothing to delete and needs no grave.
            if matches!(error, zones::PutError::TooFewZones { .. }) && self.catalog.unstage(&object).await.is_ok() {
                self.shared.known.remove(&object);
            } else {
                self.give_up(&[object]).await;
            }
            return Err(error.into());
        }
        self.shared.stages.took("put a file into zones", lap.end(), rows);
        Ok(object)
    }
}

/// A file that is in no zone yet.
pub(super) struct Encoded {
    table: TableId,
    file: String,
    sealed_key: Vec<u8>,
    written: columns::WrittenFile,
}

/// The rows of parts as they go into files, in their order, each with the columns that something of it has: at most so many cells and
/// bytes of memory, unless one batch has more.
///
/// Whoever reads a file lays its rows out with all of its columns, where some may be empty in most of them: of a table with thousands, a
/// few small batches would take gigabytes. What a file lacks reads as nothing.
fn groups(batches: Vec<RecordBatch>, schema: &SchemaRef, most: (usize, usize)) -> Vec<(Vec<RecordBatch>, SchemaRef)> {
    let mut groups = Vec::new();
    let (mut rows, mut names, mut count, mut bytes) = (Vec::new(), HashSet::new(), 0, 0_usize);
    for batch in batches {
        let fields = batch.schema();
        let new = fields.fields().iter().filter(|field| !names.contains(field.name()));
        let cells = (names.len() + new.count()).saturating_mul(count + batch.num_rows());
        let own = memory_of(&batch);
        if (cells > most.0 || bytes.saturating_add(own) > most.1) && !rows.is_empty() {
            groups.push((std::mem::take(&mut rows), only(schema, &names)));
            names.clear();
            (count, bytes) = (0, 0);
        }
        names.extend(fields.fields().iter().map(|field| field.name().clone()));
        count += batch.num_rows();
        bytes += own;
        rows.push(batch);
    }
    groups.push((rows, only(schema, &names)));
    groups
}

fn objects(files: &[FileRecord]) -> Vec<ObjectName> {
    files.iter().map(|file| file.object.clone()).collect()
}

/// The columns of these names.
pub(super) fn only(schema: &SchemaRef, names: &HashSet<String>) -> SchemaRef {
    let fields = schema.fields().iter().filter(|field| names.contains(field.name()));
    Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()))
}

/// How often [`Product::flush_due`] is worth calling.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};

    use super::*;

    /// So many rows with these columns.
    fn batch(rows: i64, columns: &[&str]) -> RecordBatch {
        let values = Arc::new((0..rows).collect::<Int64Array>()) as ArrayRef;
        RecordBatch::try_from_iter(columns.iter().map(|name| (*name, Arc::clone(&values)))).unwrap()
    }

    #[test]
    fn a_file_has_the_columns_of_its_rows_and_no_more_cells_than_are_good() {
        let all = batch(0, &["time", "a", "b", "c", "d", "never"]).schema();
        let batches = vec![
            batch(10, &["time", "a"]),
            batch(10, &["time", "b"]),
            batch(10, &["time", "c"]),
            batch(100, &["time", "c", "d"]),
            batch(1, &["time", "d"]),
        ];
        let found: Vec<(usize, Vec<String>)> = groups(batches.clone(), &all, (100, usize::MAX))
            .iter()
            .map(|(rows, schema)| {
                let names = schema.fields().iter().map(|field| field.name().clone()).collect();
                (rows.iter().map(RecordBatch::num_rows).sum(), names)
            })
            .collect();
        let expected = [
            (20, vec!["time", "a", "b"]),
            (10, vec!["time", "c"]),
            (100, vec!["time", "c", "d"]),
            (1, vec!["time", "d"]),
        ];
        let named = |(rows, names): (usize, Vec<&str>)| (rows, names.into_iter().map(str::to_owned).collect());
        assert_eq!(found, expected.map(named));

        let bytes = memory_of(&batches[0]);
        assert_eq!(groups(batches[..3].to_vec(), &all, (usize::MAX, 2 * bytes)).len(), 2);
        assert_eq!(groups(batches, &all, (usize::MAX, 0)).len(), 5);
    }
}
