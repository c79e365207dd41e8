//! Small files into one. Needs the product's private key, so it happens only while somebody's lease is alive.

use std::sync::Arc;

use base::TableId;
use columns::catalog::{FileRecord, Swap};
use edge::Lap;
use query::{DatabaseView, Engine, FileView, Lease, ProductView, TableView};
use tokio_util::sync::CancellationToken;

use super::{Product, ProductError};

/// The most rows that one merge takes in: what fits well into memory while it is sorted.
const MAX_ROWS: u64 = 2_000_000;
/// The most bytes, as the files are: texts that do not compress are as large in memory.
const MAX_BYTES: u64 = 256 << 20;
/// A file of so many bytes is not small, however few rows it has.
const LARGE: u64 = 64 << 20;

impl Product {
    /// Merges the small files of every table that has many of them.
    pub(crate) async fn merge_due(&self, engine: &Engine, lease: &Arc<Lease>, cancel: &CancellationToken) {
        let settings = &self.shared.settings.flush;
        let due: Vec<(TableId, Vec<Arc<FileRecord>>)> = {
            let state = self.read();
            let now = self.shared.clock.now();
            let tables = state
                .tables
                .values()
                .filter(|table| self.merging.may(&table.id, now))
                .filter_map(|table| {
                    let (mut rows, mut bytes) = (0, 0);
                    let is_small = |file: &&Arc<FileRecord>| file.rows < settings.small_file_rows && file.bytes < LARGE;
                    let some: Vec<_> = table
                        .files
                        .iter()
                        .filter(is_small)
                        .take_while(|file| {
                            rows += file.rows;
                            bytes += file.bytes;
                            rows <= MAX_ROWS && bytes <= MAX_BYTES
                        })
                        .cloned()
                        .collect();
                    (some.len() >= settings.merge_files.max(2)).then_some((table.id, some))
                });
            tables.collect()
        };
        for (table, files) in due {
            if cancel.is_cancelled() {
                return;
            }
            let outcome = self.merge(table, files, engine, lease, cancel).await;
            self.merging
                .ended(table, outcome.is_ok() || cancel.is_cancelled(), self.shared.clock.now());
            if let Err(error) = outcome {
                tracing::warn!(product.id = %self.id, table.id = %table, error = %super::flush::chain(&error), "could not merge small files");
            }
        }
    }

    async fn merge(
        &self,
        id: TableId,
        files: Vec<Arc<FileRecord>>,
        engine: &Engine,
        lease: &Arc<Lease>,
        cancel: &CancellationToken,
    ) -> Result<(), ProductError> {
        let Some(schema) = self.read().tables.get(&id).map(|table| table.schema.arrow_schema()) else {
            return Ok(());
        };
        let reader: query::Held = self.readers.enter();
        let view = ProductView {
            databases: vec![DatabaseView {
                name: "merge".into(),
                tables: vec![TableView {
                    name: "files".into(),
                    schema: Arc::clone(&schema),
                    memory: Vec::new(),
                    files: files.iter().map(|file| self.file_view(file, &reader)).collect(),
                }],
            }],
        };
        let failed = |error: &dyn std::error::Error| ProductError::File(error.to_string());
        let mut lap = Lap::begin();
        let running = engine
            .run(&view, Arc::clone(lease), "merge", "SELECT * FROM files", cancel.clone())
            .await;
        let rows: Vec<_> = running.map_err(|e| failed(&e))?.collect().await.map_err(|e| failed(&e))?;
        let count: u64 = rows.iter().map(|part| part.num_rows() as u64).sum();
        let expected: u64 = files.iter().map(|file| file.rows).sum();
        if count != expected {
            return Err(ProductError::File(format!("{count} rows were read of files that hold {expected}")));
        }
        self.shared.stages.took("read files to merge", lap.end(), count);
        let merged = self.write_file(id, rows, schema).await?;
        let old: Vec<_> = files.iter().map(|file| file.object.clone()).collect();

        // Held for the swap only: rows are flushed while others are merged.
        let _writing = self.writing.lock().await;
        let _control = self.control.lock().await;
        let columns = {
            let state = self.read();
            // The table may be gone by now, or its files replaced by others of other types.
            let has = |table: &&super::state::Table| old.iter().all(|object| table.files.iter().any(|file| file.object == *object));
            state.tables.get(&id).filter(has).map(super::state::Table::stored_columns)
        };
        let Some(columns) = columns else {
            self.give_up(&[merged.object]).await;
            return Ok(());
        };
        let at = self.shared.clock.now();
        self.catalog
            .swap(&Swap {
                table: id,
                add: std::slice::from_ref(&merged),
                remove: &old,
                covered: &[],
                records: &[],
                left_out: &[],
                columns: &columns,
                at,
            })
            .await?;
        if let Some(table) = self.write().tables.get_mut(&id) {
            table.files.retain(|file| !old.contains(&file.object));
            table.files.push(Arc::new(merged));
        }
        lease.footers().retain(|object| !old.iter().any(|gone| gone.as_str() == object));
        self.condemned_some();
        tracing::info!(product.id = %self.id, table.id = %id, files = files.len(), rows = count, "merged {} files into one", files.len());
        Ok(())
    }

    /// How a query is told of a file.
    /// A file as queries read it, for as long as they hold `reader`.
    pub(super) fn file_view(&self, file: &FileRecord, reader: &query::Held) -> FileView {
        FileView {
            object: file.object.clone(),
            bytes: file.bytes,
            rows: file.rows,
            time_min: file.time_min,
            time_max: file.time_max,
            sealed_key: file.sealed_key.clone(),
            aad_prefix: columns::aad_prefix(self.id, file.table, &file.file),
            key_context: columns::key_context(self.id, file.table, &file.file),
            held: Arc::clone(reader),
        }
    }
}
