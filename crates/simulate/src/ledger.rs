//! What those who send rows to a product were told.

use std::collections::BTreeMap;

use base::TableId;
use columns::catalog::BatchHash;

/// A table, as far as somebody was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Perhaps,
    There,
    /// It is being deleted.
    Going,
    Gone,
}

/// A batch, and whether its sender was told that it is stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Batch {
    pub(crate) table: TableId,
    pub(crate) accepted: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) tables: BTreeMap<TableId, Standing>,
    pub(crate) batches: BTreeMap<BatchHash, Batch>,
    pub(crate) numbers: u64,
    /// Objects in the zones that no catalog refers to, at the end.
    pub(crate) left: usize,
}

impl Ledger {
    pub(crate) fn standing(&self, table: &TableId) -> Option<Standing> {
        self.tables.get(table).copied()
    }

    /// A batch that nobody has sent yet; none when there are as many as there can be.
    pub(crate) fn fresh(&mut self, table: TableId) -> Option<BatchHash> {
        let batch = [u8::try_from(self.batches.len() + 1).ok()?; 16];
        self.batches.insert(batch, Batch { table, accepted: false });
        Some(batch)
    }

    /// Batches of a table whose senders were not told that they are stored: they are sent again.
    pub(crate) fn open(&self, table: TableId) -> Vec<BatchHash> {
        let open = self.batches.iter().filter(|(_, batch)| batch.table == table && !batch.accepted);
        open.map(|(id, _)| *id).collect()
    }

    /// Batches of a table that are stored.
    pub(crate) fn accepted(&self, table: TableId) -> Vec<BatchHash> {
        let accepted = self.batches.iter().filter(|(_, batch)| batch.table == table && batch.accepted);
        accepted.map(|(id, _)| *id).collect()
    }

    pub(crate) fn totals(&self) -> [usize; 2] {
        [self.batches.values().filter(|batch| batch.accepted).count(), self.left]
    }
}
