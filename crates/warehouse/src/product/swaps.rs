//! Swaps of files whose outcome was not heard of.
//!
//! Promise: the catalog decides. What it has made and said to have failed is neither made again nor shown twice: the state follows it.

use std::collections::HashSet;
use std::sync::Arc;

use base::TableId;
use columns::catalog::{BatchHash, CatalogError, Swap};
use tokio::sync::MutexGuard;

use super::changes::Changes;
use super::retype::stored;
use super::state::MemoryPart;
use super::{Product, ProductError};

impl Product {
    /// Makes a swap. One that failed is asked for once more, which is the same as once, so that a lost answer is only seldom a riddle.
    pub(super) async fn swap(&self, swap: &Swap<'_>) -> Result<(), CatalogError> {
        match self.catalog.swap(swap).await {
            Err(CatalogError::Database(_)) => self.catalog.swap(swap).await,
            done => done,
        }
    }

    /// After the catalog refused a swap of a table because it knows better: the state shows what the catalog says.
    ///
    /// Nothing else may be swapped meanwhile, so `writing` is held by the caller as well as `_control`.
    pub(super) async fn follow_catalog(&self, id: TableId, _control: &MutexGuard<'_, Changes>) -> Result<(), ProductError> {
        let contents = self.catalog.load().await?;
        let declared = contents.declared.into_iter().find(|record| record.table == id);
        let declared = declared.map(|record| record.shown).unwrap_or_default();
        let batches: Vec<BatchHash> = {
            let state = self.read();
            let Some(table) = state.tables.get(&id) else { return Ok(()) };
            if stored(table.schema.declared()) != declared {
                return Err(ProductError::Internal(
                    "a table's files were made anew under other types, and the answer was lost: the next start shows them",
                ));
            }
            table.memory.iter().map(|part| part.batch).collect()
        };
        let files: Vec<_> = contents.files.into_iter().filter(|file| file.table == id).map(Arc::new).collect();
        let mut in_files = HashSet::new();
        for batch in batches {
            if self.catalog.is_covered(id, &batch).await? {
                in_files.insert(batch);
            }
        }
        if let Some(table) = self.write().tables.get_mut(&id) {
            table.files = files;
            let (gone, left): (Vec<MemoryPart>, Vec<MemoryPart>) = std::mem::take(&mut table.memory)
                .into_iter()
                .partition(|part| in_files.contains(&part.batch));
            table.memory = left;
            for part in &gone {
                table.known.remove(&part.batch);
                table.records.written(&part.records);
            }
            tracing::warn!(product.id = %self.id, table.id = %id, batches = gone.len(), files = table.files.len(),
                "the catalog had swapped files of a table and said that it had not");
        }
        // What it replaced was passed over as long as the state showed it.
        self.condemned_some();
        Ok(())
    }
}
