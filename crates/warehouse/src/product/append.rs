//! Rows in: once, durable, and visible.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use base::{DatabaseName, TableId, TableName};
use bytes::Bytes;
use columns::catalog::BatchHash;
use edge::Lap;
use journal::Entry;
use seal::keyed_hash;
use tokio::sync::Notify;

use super::aside::{Aside, Beside};
use super::records::{memory_of_ids, with_id};
use super::shape::Stored;
use super::state::time_range;
use super::{Product, ProductError};
use crate::entries::{Header, RowsHeader};
use crate::memory::{Charge, memory_of};

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Appended {
    /// How many rows it brought.
    pub(crate) rows: u64,
    /// Whether all of it had been stored before.
    pub(crate) duplicate: bool,
}

impl Product {
    /// Takes in a batch: when this returns, a majority of zones holds it and the next query sees it.
    ///
    /// `sender_id` is the sender's own id of the batch: sent again under the same id, it is acknowledged and not stored again.
    /// `record_ids` are the sender's ids of the rows, in the same way: see [`Product::fresh`].
    /// What is `beside` the rows is stored with them or not at all, and once as they are.
    pub(crate) async fn append(
        &self,
        database: &DatabaseName,
        name: &TableName,
        sender_id: Option<&str>,
        ipc: Bytes,
        record_ids: &[u8],
        mut beside: Beside,
    ) -> Result<Appended, ProductError> {
        let table = self.table_id(database, name)?;
        let wire = ipc.len();
        let (memory, limit) = (&self.shared.memory, self.shared.memory.limit());
        if wire > limit {
            return Err(ProductError::BatchTooLarge { bytes: wire, limit });
        }
        let charge = match beside.arrived.take() {
            Some(arrived) => arrived,
            None => memory.charge(wire).ok_or(ProductError::MemoryFull)?,
        };
        let mut lap = Lap::begin();
        let (ipc, rows, mut charge) = decode(ipc, charge, limit).await?;
        let count = rows.num_rows() as u64;
        self.shared.stages.took("decode batch", lap.end(), count);
        let duplicate = Appended {
            rows: count,
            duplicate: true,
        };
        let own_id = beside.own_id(self.id, table, sender_id);
        let batch = self.batch_hash(own_id.as_deref());
        // Without an id nothing can repeat it, so nobody need look for it.
        let _claim = match own_id {
            Some(_) => match self.claim(table, batch).await? {
                Some(claim) => Some(claim),
                None => {
                    // Invariant: found at a start and on its way to be decided only, it could give way to what arrives later.
                    self.journal.decide().await?;
                    return Ok(duplicate);
                }
            },
            None => None,
        };
        // Invariant: all of a body is in one segment, so what is known in one of the two tables was stored as a whole, whatever its sender
        // sends under the same id now. Whoever holds the claim is the only one to store it, in either table.
        if self.is_beside(database, name, table, &beside, sender_id).await? {
            self.journal.decide().await?;
            return Ok(duplicate);
        }
        let aside = self.set_aside(database, name, table, sender_id, beside).await?;
        if count == 0 {
            self.store_aside(aside).await?;
            return Ok(Appended { rows: 0, duplicate: false });
        }
        let fresh = self.fresh(table, record_ids, rows, ipc).await?;
        let count = fresh.rows.num_rows() as u64;
        let Some((time_min, time_max)) = time_range(&fresh.rows) else {
            self.store_aside(aside).await?;
            self.journal.decide().await?;
            return Ok(Appended { rows: 0, duplicate: true });
        };
        let shaped = self.shaped(table, fresh.rows.clone(), &mut charge, wire).await?;
        let header = Header::Rows(RowsHeader {
            table,
            batch,
            rows: count,
            time_min,
            time_max,
            columns: shaped.columns(),
            records: fresh.ids.clone(),
        });
        self.shared.stages.took("look for the same batch", lap.end(), count);
        let mut entries = vec![Entry {
            header: header.encode().into(),
            payload: fresh.ipc.clone(),
        }];
        entries.extend(aside.as_ref().map(Aside::entry));
        let appending = self.append_entries(entries).await?;
        self.shared.stages.took("commit to zones", lap.end(), count);
        // The stream has gone.
        charge.resize(shaped.memory() + memory_of_ids(&fresh.ids));
        let stored = Stored {
            batch,
            records: with_id(&fresh.ids).collect(),
            keep: None,
        };
        let shown = self.show(table, stored, shaped, charge).await;
        // Its table may be there when the other has gone.
        appending.shown([shown, self.show_aside(aside).await])?;
        self.shared.stages.took("show", lap.end(), count);
        Ok(Appended {
            rows: count,
            duplicate: false,
        })
    }

    /// What tells a batch from others: of its id, or, without one, by chance.
    pub(super) fn batch_hash(&self, id: Option<&str>) -> BatchHash {
        match id {
            Some(id) => hash(keyed_hash(&self.shared.batch_key, id.as_bytes())),
            None => {
                let mut random = [0; 16];
                self.shared.entropy.fill(&mut random);
                random
            }
        }
    }

    /// Claims a batch for this request: `None` when it is stored already. Waits while another request is storing it.
    pub(super) async fn claim(&self, id: TableId, batch: BatchHash) -> Result<Option<Claim<'_>>, ProductError> {
        loop {
            let other = {
                let mut state = self.write();
                let gone = || ProductError::NotFound {
                    what: "table",
                    name: id.to_string(),
                };
                let table = state.tables.get_mut(&id).filter(|table| table.dropped.is_none()).ok_or_else(gone)?;
                if table.known.contains(&batch) {
                    return Ok(None);
                }
                match table.under_way.get(&batch) {
                    Some(other) => Some(Arc::clone(other).notified_owned()),
                    None => {
                        table.under_way.insert(batch, Arc::new(Notify::new()));
                        None
                    }
                }
            };
            if let Some(other) = other {
                other.await;
                continue;
            }
            let claim = Claim {
                product: self,
                table: id,
                batch,
            };
            return Ok(if self.is_stored(id, &batch).await? { None } else { Some(claim) });
        }
    }

    /// Whether a batch is stored already.
    pub(super) async fn is_stored(&self, id: TableId, batch: &BatchHash) -> Result<bool, ProductError> {
        if self.read().tables.get(&id).is_some_and(|table| table.known.contains(batch)) {
            return Ok(true);
        }
        // Invariant: a flush enters a batch into the catalog before it takes it out of `known`, so whoever did not find it
        // there and looks into the catalog afterwards cannot miss it.
        Ok(self.catalog.is_covered(id, batch).await?)
    }
}

/// A batch that one request is storing. Dropped, stored or not, it lets the others look again.
pub(super) struct Claim<'a> {
    product: &'a Product,
    table: TableId,
    batch: BatchHash,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut state = self.product.write();
        if let Some(waiting) = state
            .tables
            .get_mut(&self.table)
            .and_then(|table| table.under_way.remove(&self.batch))
        {
            waiting.notify_waiters();
        }
    }
}

fn unusable(what: &str) -> ProductError {
    ProductError::Invalid(format!("the batch cannot be used: {what}"))
}

pub(super) fn hash(long: [u8; 32]) -> BatchHash {
    let mut short = BatchHash::default();
    short.copy_from_slice(&long[..16]);
    short
}

/// Reads the batch that the gateway sent. It is checked like anything from outside: the gateway may have been taken over.
///
/// `charge` grows by what the batch says that it inflates to before it is inflated, and stands for stream and rows afterwards.
async fn decode(ipc: Bytes, mut charge: Charge, limit: usize) -> Result<(Bytes, RecordBatch, Charge), ProductError> {
    tokio::task::spawn_blocking(move || {
        // Both at once, the stream and its rows, but never so much that one batch could not get in alone.
        let mut grow = |bytes: usize| match charge.resize(bytes.saturating_add(ipc.len()).min(limit)) {
            _ if bytes > limit => Err(ProductError::BatchTooLarge { bytes, limit }),
            true => Ok(()),
            false => Err(ProductError::MemoryFull),
        };
        let inflated = events::inflated_len(&ipc).map_err(|error| unusable(&error.to_string()))?;
        grow(usize::try_from(inflated).unwrap_or(usize::MAX))?;
        let rows = read_one(&ipc)?;
        grow(memory_of(&rows))?;
        Ok((ipc, rows, charge))
    })
    .await
    .map_err(|_| ProductError::Internal("decoding a batch was interrupted"))?
}

/// One batch from an Arrow IPC stream, `time` first and a long.
pub(super) fn read_one(ipc: &[u8]) -> Result<RecordBatch, ProductError> {
    let mut batches = events::from_ipc(ipc).map_err(|error| unusable(&error.to_string()))?;
    let rows = match batches.len() {
        1 => batches.remove(0),
        other => return Err(unusable(&format!("it has {other} parts, one is expected"))),
    };
    let schema = rows.schema();
    let time_first = schema
        .fields()
        .first()
        .is_some_and(|f| f.name() == events::TIME && *f.data_type() == arrow::datatypes::DataType::Int64);
    if !time_first || rows.column(0).null_count() > 0 {
        return Err(unusable("its first column is not \"time\", a long without nulls"));
    }
    for field in schema.fields().iter().skip(1) {
        let seen = events::seen_of(field);
        let expected = seen.column_type().unwrap_or(events::ColumnType::String).data_type();
        if *field.data_type() != expected {
            return Err(unusable("the type of a column is not what its values are said to be"));
        }
    }
    Ok(rows)
}
