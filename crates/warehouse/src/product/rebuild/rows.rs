//! From the raw log into files: segments are read, opened and shaped beside one another, and files are written beside that.
//!
//! Memory is bounded: so many segments are open at once as there are processors, so many files are encoded, so many are read back, and what
//! waits for a file takes at most half of what rows in memory may. Files that are encoded wait for zones beside that, [`PLACING`] for each
//! processor: as bytes, a fraction of their rows. A file has at most so many cells as one that is written from memory: rows of a table
//! of very many columns, each with few of them, are never laid out at the table's full width.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use base::{TableId, Timestamp};
use columns::catalog::{BatchHash, FileRecord, Rebuilt, RebuiltDay, RecordHash};
use columns::{Digest, DigestKey};
use events::Seen;
use futures::{StreamExt, stream};
use journal::{Entry, Segment};
use seal::PrivateKey;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use zones::ObjectName;

use super::super::append::read_one;
use super::super::flush::{FILE_CELLS, only};
use super::super::records::{kept, kept_rows, to_be_known};
use super::super::shape::{Shaped, blocking, gone};
use super::super::state::Table;
use super::super::{Product, ProductError};
use super::compare::Back;
use super::plan::{Segments, Wanted};
use super::{Rebuild, Totals};
use crate::entries::Header;
use crate::memory::memory_of;

/// The most rows that one file takes.
const MAX_ROWS: usize = 2_000_000;
/// For each processor, how many files may be on their way at once, those included that are encoded: zones take their time to flush.
const PLACING: usize = 3;

/// A batch that was read.
struct Batch {
    table: TableId,
    batch: BatchHash,
    at: Timestamp,
    rows: RecordBatch,
    /// The ids of its rows that count, or none.
    records: Vec<RecordHash>,
    keep: Option<Arc<[bool]>>,
    overflows: bool,
    bytes: usize,
    earlier: bool,
    digest: Digest,
}

/// What waits for a table's next file.
#[derive(Default)]
struct Waiting {
    batches: Vec<Batch>,
    rows: usize,
    bytes: usize,
    /// Which columns the rows have together.
    columns: HashSet<String>,
}

/// The columns of a table as its rows are hashed, by name.
pub(super) type Types = Arc<HashMap<String, FieldRef>>;

impl Rebuild<'_> {
    /// Reads all segments. With `write` their rows become files; and if it is asked for, what they say is added to `totals`.
    pub(super) async fn go_through(
        &self,
        product: &Arc<Product>,
        segments: Segments,
        write: bool,
        totals: &mut HashMap<TableId, Totals>,
    ) -> Result<ReadBack, ProductError> {
        let settings = &self.shared.settings;
        let at_once = settings.query.target_partitions.get();
        let enough = settings
            .flush
            .table_bytes
            .saturating_mul(2)
            .min(settings.flush.memory_limit / 4)
            .max(1);
        let most = settings.flush.memory_limit / 2;
        if !write {
            let rows = segments.iter().flat_map(|(_, wanted)| wanted).map(Wanted::rows).sum();
            self.log.doing(format!("raw log of product {}", self.id), 0, rows);
        }
        let hashing = (self.order.verify || self.order.compare_only).then(|| Hashing {
            key: self.digest_key(),
            tables: types(product),
        });
        let hashing = Arc::new(hashing);
        let mut files = Files {
            rebuild: self,
            writing: JoinSet::new(),
            encoding: Arc::new(Semaphore::new(at_once)),
            most: at_once * PLACING,
            back: (write && self.order.verify).then(|| self.reading_back(at_once)),
            hashing: Arc::clone(&hashing),
            read: ReadBack::new(),
        };
        let read = |(segment, wanted)| {
            let (product, key, hashing) = (Arc::clone(product), self.key.clone(), Arc::clone(&hashing));
            tokio::spawn(async move { read(product, segment, wanted, &key, hashing).await })
        };
        let mut reading = stream::iter(segments).map(read).buffered(at_once);
        let mut waiting: HashMap<TableId, Waiting> = HashMap::new();
        let mut bytes = 0;
        while let Some(batches) = reading.next().await {
            let batches = batches.map_err(|_| ProductError::Internal("reading a segment was interrupted"))??;
            for batch in batches {
                if !write {
                    self.log.advance(batch.rows.num_rows() as u64);
                    add(totals, batch.table, &batch.digest, batch.earlier);
                    continue;
                }
                if batch.overflows
                    && let Some(table) = product.write().tables.get_mut(&batch.table)
                {
                    table.schema.insert(events::OVERFLOW, Seen::JSON);
                }
                let table = batch.table;
                if waiting.get(&table).is_some_and(|waiting| !waiting.has_room(&batch))
                    && let Some(full) = waiting.remove(&table)
                {
                    bytes -= full.bytes;
                    files.begin(product, table, full, totals).await?;
                }
                bytes += batch.bytes;
                waiting.entry(table).or_default().push(batch);
            }
            loop {
                let fullest = waiting.iter().max_by_key(|(_, waiting)| waiting.bytes);
                let due = fullest.filter(|(_, waiting)| waiting.bytes >= enough || waiting.rows >= MAX_ROWS || bytes > most);
                let many = waiting.iter().find(|(_, waiting)| waiting.rows >= MAX_ROWS);
                let Some(table) = due.or(many).map(|(table, _)| *table) else {
                    break;
                };
                let Some(full) = waiting.remove(&table) else { break };
                bytes -= full.bytes;
                files.begin(product, table, full, totals).await?;
            }
        }
        for (table, rest) in waiting {
            files.begin(product, table, rest, totals).await?;
        }
        files.end(totals).await
    }
}

/// What files held when they were read back right after they were written; not in it is what could not be read as expected.
pub(super) type ReadBack = HashMap<ObjectName, (Digest, Types)>;

/// The files that are on their way.
struct Files<'a> {
    rebuild: &'a Rebuild<'a>,
    writing: JoinSet<Result<Written, ProductError>>,
    /// A place for each that may be encoded at once.
    encoding: Arc<Semaphore>,
    most: usize,
    back: Option<Back>,
    hashing: Arc<Option<Hashing>>,
    read: ReadBack,
}

impl Files<'_> {
    /// Begins to write, once there is room.
    async fn begin(
        &mut self,
        product: &Arc<Product>,
        table: TableId,
        waiting: Waiting,
        totals: &mut HashMap<TableId, Totals>,
    ) -> Result<(), ProductError> {
        while self.writing.len() >= self.most {
            if let Some(written) = self.writing.join_next().await {
                self.written(written, totals)?;
            }
        }
        while let Some(written) = self.writing.try_join_next() {
            self.written(written, totals)?;
        }
        let place = Arc::clone(&self.encoding).acquire_owned().await;
        let place = place.map_err(|_| ProductError::Internal("encoding files was interrupted"))?;
        let types = self.hashing.as_ref().as_ref().and_then(|hashing| hashing.tables.get(&table));
        let back = self.back.clone().zip(types.cloned());
        self.writing.spawn(write(Arc::clone(product), table, waiting, place, back));
        Ok(())
    }

    /// Waits for all of them.
    async fn end(mut self, totals: &mut HashMap<TableId, Totals>) -> Result<ReadBack, ProductError> {
        while let Some(written) = self.writing.join_next().await {
            self.written(written, totals)?;
        }
        Ok(self.read)
    }

    fn written(
        &mut self,
        written: Result<Result<Written, ProductError>, tokio::task::JoinError>,
        totals: &mut HashMap<TableId, Totals>,
    ) -> Result<(), ProductError> {
        let written = written.map_err(|_| ProductError::Internal("writing a file was interrupted"))??;
        let (table, totals) = (written.table, totals.entry(written.table).or_default());
        totals.all.merge(&written.totals.all);
        totals.earlier.merge(&written.totals.earlier);
        self.read.extend(written.read);
        self.rebuild.log.advance(written.rows);
        tracing::debug!(product.id = %self.rebuild.id, table.id = %table, rows = written.rows, "rebuilt {} rows", written.rows);
        Ok(())
    }
}

impl Waiting {
    /// Whether a file with this batch as well has no more cells than are good, empty ones included.
    fn has_room(&self, batch: &Batch) -> bool {
        let fields = batch.rows.schema_ref().fields().iter();
        let new = fields.filter(|field| !self.columns.contains(field.name())).count();
        (self.columns.len() + new).saturating_mul(self.rows + batch.rows.num_rows()) <= FILE_CELLS
    }

    fn push(&mut self, batch: Batch) {
        if batch.rows.num_rows() > 0 {
            let fields = batch.rows.schema_ref().fields().iter();
            let new: Vec<String> = fields
                .map(|field| field.name())
                .filter(|name| !self.columns.contains(*name))
                .cloned()
                .collect();
            self.columns.extend(new);
        }
        self.rows += batch.rows.num_rows();
        self.bytes += batch.bytes;
        self.batches.push(batch);
    }
}

fn add(totals: &mut HashMap<TableId, Totals>, table: TableId, digest: &Digest, earlier: bool) {
    let totals = totals.entry(table).or_default();
    totals.all.merge(digest);
    if earlier {
        totals.earlier.merge(digest);
    }
}

/// How rows are hashed.
struct Hashing {
    key: DigestKey,
    tables: HashMap<TableId, Types>,
}

fn types(product: &Product) -> HashMap<TableId, Types> {
    let state = product.read();
    let tables = state.tables.values();
    tables.map(|table| (table.id, types_of(table))).collect()
}

/// The table's columns, all that it has or may get, and the overflow column in any case: where it has no values, it does not count.
pub(super) fn types_of(table: &Table) -> Types {
    let mut schema = table.schema.clone();
    schema.insert(events::OVERFLOW, Seen::JSON);
    let schema = schema.arrow_schema();
    Arc::new(
        schema
            .fields()
            .iter()
            .map(|field| (field.name().clone(), Arc::clone(field)))
            .collect(),
    )
}

/// Takes rows into a digest, under the types that their table has now: those columns alone that they have. Takes CPU for a while.
pub(super) fn hash(digest: &mut Digest, key: &DigestKey, rows: &RecordBatch, types: &Types) -> Result<(), ProductError> {
    let (mut fields, mut arrays) = (Vec::new(), Vec::new());
    for (field, array) in rows.schema_ref().fields().iter().zip(rows.columns()) {
        if let Some(to) = types.get(field.name()) {
            arrays.push(events::cast_field(array, to.data_type())?);
            fields.push(Arc::clone(to));
        }
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    let failed = |error: &dyn std::error::Error| ProductError::File(super::super::chain(error));
    let typed = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options);
    digest
        .add(key, &typed.map_err(|error| failed(&error))?)
        .map_err(|error| failed(&error))
}

async fn read(
    product: Arc<Product>,
    segment: Arc<Segment>,
    wanted: Vec<Wanted>,
    key: &PrivateKey,
    hashing: Arc<Option<Hashing>>,
) -> Result<Vec<Batch>, ProductError> {
    let entries = segment.open(&product.shared.zones, key).await?;
    blocking(move || {
        wanted
            .iter()
            .map(|wanted| batch(&product, &segment, &entries, wanted, hashing.as_ref().as_ref()))
            .collect()
    })
    .await
}

fn batch(
    product: &Product,
    segment: &Segment,
    entries: &[Entry],
    wanted: &Wanted,
    hashing: Option<&Hashing>,
) -> Result<Batch, ProductError> {
    let unreadable = |what: &str| ProductError::Unreadable(what.to_owned());
    let entry = entries.get(wanted.entry).ok_or_else(|| unreadable("an entry is missing"))?;
    let Ok(Header::Rows(header)) = Header::decode(&entry.header) else {
        return Err(unreadable("an entry that should hold rows does not"));
    };
    let mut raw = read_one(&entry.payload)?;
    if raw.num_rows() as u64 != header.rows {
        return Err(unreadable("a batch has another number of rows than its header says"));
    }
    let mut records = header.records;
    if let Some(keep) = &wanted.keep {
        raw = kept_rows(&raw, keep.to_vec())?;
        records = kept(&records, keep);
    }
    let (declared, folded) = {
        let state = product.read();
        let table = state.tables.get(&wanted.table).ok_or_else(|| gone(wanted.table))?;
        (Arc::clone(table.schema.declared()), table.folded(raw.schema_ref(), false))
    };
    let shaped = Shaped::new(raw, declared, folded)?;
    let overflows = shaped.overflows();
    let mut digest = Digest::new();
    if let Some(hashing) = hashing {
        let types = hashing.tables.get(&wanted.table).ok_or_else(|| gone(wanted.table))?;
        hash(&mut digest, &hashing.key, &shaped.rows, types)?;
    }
    Ok(Batch {
        table: wanted.table,
        batch: header.batch,
        at: segment.created_at,
        bytes: memory_of(&shaped.rows),
        rows: shaped.rows,
        records,
        keep: wanted.keep.clone(),
        overflows,
        earlier: wanted.earlier,
        digest,
    })
}

struct Written {
    table: TableId,
    rows: u64,
    totals: Totals,
    read: Option<(ObjectName, (Digest, Types))>,
}

/// One file, the catalog's word on it, and what it holds. Its place among those that are encoded is given up as soon as it is.
async fn write(
    product: Arc<Product>,
    id: TableId,
    waiting: Waiting,
    place: OwnedSemaphorePermit,
    back: Option<(Back, Types)>,
) -> Result<Written, ProductError> {
    let (schema, columns) = {
        let state = product.read();
        let table = state.tables.get(&id).ok_or_else(|| gone(id))?;
        (only(&table.schema.arrow_schema(), &waiting.columns), table.stored_columns())
    };
    let now = product.shared.clock.now();
    let (mut rows, mut covered, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
    let (mut records, mut totals) = (Vec::new(), Totals::default());
    for batch in waiting.batches {
        covered.push((batch.batch, batch.at));
        records.extend(to_be_known(batch.at, now, &batch.records));
        // As where a whole batch repeats others: nothing is said of its rows one by one.
        left_out.extend(
            batch
                .keep
                .map(|keep| (batch.batch, if batch.rows.num_rows() == 0 { Arc::from([]) } else { keep })),
        );
        totals.all.merge(&batch.digest);
        if batch.earlier {
            totals.earlier.merge(&batch.digest);
        }
        if batch.rows.num_rows() > 0 {
            rows.push(batch.rows);
        }
    }
    let file: Option<FileRecord> = if rows.is_empty() {
        None
    } else {
        let encoded = product.encode_file(id, rows, schema).await?;
        drop(place);
        Some(product.place_file(encoded).await?)
    };
    let day = |earlier| {
        move |(day, part): (i64, columns::Part)| RebuiltDay {
            earlier,
            day,
            rows: part.rows,
            sum: part.sum(),
        }
    };
    let days: Vec<RebuiltDay> = totals
        .all
        .days()
        .map(day(false))
        .chain(totals.earlier.days().map(day(true)))
        .collect();
    let part = Rebuilt {
        table: id,
        file: file.as_ref(),
        covered: &covered,
        records: &records,
        left_out: &left_out,
        columns: &columns,
        days: &days,
    };
    product.catalog.add_rebuilt(&part).await?;
    let Some(file) = file.map(Arc::new) else {
        return Ok(Written {
            table: id,
            rows: 0,
            totals,
            read: None,
        });
    };
    if let Some(table) = product.write().tables.get_mut(&id) {
        table.files.push(Arc::clone(&file));
    }
    let read = match back {
        Some((back, types)) => back.read(&product, &file, types).await,
        None => None,
    };
    Ok(Written {
        table: id,
        rows: file.rows,
        totals,
        read,
    })
}
