//! What could not be rows of a table: kept in a table of its own beside it, sealed by the gateway under a key that nobody here can have.
//!
//! Promise: it is stored in the same segment as the rows of its body, so both are there or neither is; sent again under the same id it
//! is stored once. It is deleted with its table.
//!
//! That one was taken by a replay is another row of the same table, stored in the same segment as what it became.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, Schema};
use arrow::record_batch::RecordBatch;
use base::{DatabaseName, ProductId, RequestId, TableId, TableName, Timestamp};
use bytes::Bytes;
use events::{Seen, TIME, field, time_field};
use journal::Entry;
use wire::v1::{self, AsideName};

use super::shape::{Shaped, Stored};
use super::state::time_range;
use super::{Product, ProductError};
use crate::entries::{Header, RowsHeader};
use crate::memory::{Charge, memory_of};

/// The reason of a row that says that another was taken by a replay.
pub(crate) const REPLAYED: &str = "replayed";

type Number = fn(&v1::AsideRow) -> i64;
type Text = for<'a> fn(&'a Body, &'a v1::AsideRow) -> &'a str;

/// The columns of numbers, behind the time.
const NUMBERS: [(&str, Number); 2] = [("row_no", |row| long(row.row)), ("bytes", |row| long(row.size))];
/// The columns of texts, behind them. An empty text is none.
const TEXTS: [(&str, Text); 8] = [
    ("request", |body, _| &body.aside.request),
    ("reason", |body, row| body.reason(row).map_or("", |reason| &reason.reason)),
    ("message", |body, row| body.reason(row).map_or("", |reason| &reason.message)),
    ("syntax", |body, _| &body.aside.syntax),
    ("key_id", |body, _| &body.aside.credential),
    ("import_id", |body, _| &body.import_id),
    ("sealed", |_, row| &row.sealed),
    ("sealed_key", |body, _| &body.aside.sealed_key),
];
/// What a row takes besides its texts: numbers, and where each of its texts ends.
const CELLS: usize = (1 + NUMBERS.len()) * 8 + TEXTS.len() * 5;
/// What each of the columns takes, however few rows there are.
const COLUMN: usize = 256;

/// What the gateway sent beside the rows of a body.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    /// What cannot be rows.
    pub(crate) aside: Option<v1::AsideBatch>,
    /// The rows are this one, tried again.
    pub(crate) replays: Option<AsideName>,
    /// What was charged for the message that brought all of it.
    pub(crate) arrived: Option<Charge>,
}

impl Beside {
    /// What the rows are told by from all others: a sender's id, or that they are something that was set aside, tried again. A product's
    /// number comes first where a sender chose the rest, so no sender's id is a replay's.
    pub(super) fn own_id(&self, product: ProductId, table: TableId, sender_id: Option<&str>) -> Option<String> {
        own_id(self.replays.as_ref(), product, table, sender_id)
    }

    /// What goes into the table beside; `None` for nothing. That a row was taken by a replay is noted at `now`. The gateway may have
    /// been taken over: what is no name of a request is refused.
    fn into_body(self, import_id: Option<&str>, now: Timestamp) -> Result<Option<Body>, ProductError> {
        let aside = match (self.aside, self.replays) {
            (None, None) => return Ok(None),
            (Some(aside), None) => aside,
            (None, Some(AsideName { request, row })) => v1::AsideBatch {
                request,
                time: now.as_secs(),
                reasons: vec![v1::AsideReason {
                    reason: REPLAYED.into(),
                    message: "it was taken when it was tried again".into(),
                }],
                rows: vec![v1::AsideRow {
                    row,
                    ..v1::AsideRow::default()
                }],
                ..v1::AsideBatch::default()
            },
            (Some(_), Some(_)) => return Err(ProductError::Invalid("what is tried again sets something aside".into())),
        };
        let import_id = import_id.unwrap_or_default().to_owned();
        let body = Body { aside, import_id };
        if body.aside.request.parse::<RequestId>().is_err() || !body.aside.rows.iter().all(|row| body.reason(row).is_some()) {
            return Err(ProductError::Invalid("what is set aside has no name or no reason".into()));
        }
        Ok(Some(body).filter(|body| !body.aside.rows.is_empty()))
    }
}

/// What of one body cannot be rows.
#[derive(Debug)]
struct Body {
    aside: v1::AsideBatch,
    import_id: String,
}

impl Body {
    fn reason(&self, row: &v1::AsideRow) -> Option<&v1::AsideReason> {
        self.aside.reasons.get(usize::try_from(row.reason).ok()?)
    }

    /// What a column of texts holds.
    fn text_bytes(&self, text: Text) -> usize {
        self.aside.rows.iter().map(|row| text(self, row).len()).sum()
    }

    /// What it takes, and how much it will take as rows: told before there are any, because what it says once stands in each of them.
    fn memory(&self) -> (usize, usize) {
        let rows = self.aside.rows.len();
        let sealed: usize = self.aside.rows.iter().map(|row| row.sealed.len()).sum();
        let texts: usize = TEXTS.iter().map(|(_, text)| self.text_bytes(*text)).sum();
        let columns = (1 + NUMBERS.len() + TEXTS.len()) * COLUMN;
        (
            rows.saturating_mul(size_of::<v1::AsideRow>()).saturating_add(sealed),
            rows.saturating_mul(CELLS).saturating_add(texts).saturating_add(columns),
        )
    }

    /// As rows.
    fn rows(&self) -> Result<RecordBatch, ProductError> {
        let rows = &self.aside.rows;
        let mut fields = vec![time_field()];
        let mut arrays: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_value(self.aside.time, rows.len()))];
        for (name, number) in NUMBERS {
            fields.push(field(name, Seen::LONG));
            arrays.push(Arc::new(Int64Array::from_iter_values(rows.iter().map(number))));
        }
        for (name, text) in TEXTS {
            fields.push(field(name, Seen::STRING));
            let mut texts = StringBuilder::with_capacity(rows.len(), self.text_bytes(text));
            for row in rows {
                texts.append_option(Some(text(self, row)).filter(|text| !text.is_empty()));
            }
            arrays.push(Arc::new(texts.finish()));
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(|_| ProductError::Internal("what is set aside is no batch"))
    }
}

fn own_id(replays: Option<&AsideName>, product: ProductId, table: TableId, sender_id: Option<&str>) -> Option<String> {
    match (replays, sender_id) {
        (Some(name), _) => Some(format!("replay/{product}/{table}/{}/{}", name.request, name.row)),
        (None, Some(id)) => Some(format!("{product}/{table}/{id}")),
        (None, None) => None,
    }
}

/// What cannot be rows, on its way into the table for it.
pub(super) struct Aside {
    ipc: Bytes,
    shaped: Shaped,
    charge: Charge,
    header: RowsHeader,
}

impl Aside {
    /// The journal's entry.
    pub(super) fn entry(&self) -> Entry {
        Entry {
            header: Header::Rows(self.header.clone()).encode().into(),
            payload: self.ipc.clone(),
        }
    }
}

fn long(number: u64) -> i64 {
    // Sizes and numbers of rows are far below what a double holds exactly; what claims more is no better than that.
    i64::try_from(number).unwrap_or(i64::MAX).min(1 << 53)
}

/// The columns that [`read`] needs.
pub(crate) const COLUMNS: &str = "time, row_no, bytes, request, reason, message, syntax, key_id, import_id, sealed, sealed_key";

/// Rows of the table beside as messages.
pub(crate) fn read(rows: &RecordBatch) -> Result<Vec<v1::Aside>, ProductError> {
    let column = |name: &str, kind: &DataType| {
        let array = rows.column_by_name(name)?;
        cast(array, kind).ok()
    };
    let broken = || ProductError::Internal("what was set aside cannot be read back");
    let numbers = |name: &str| column(name, &DataType::Int64).ok_or_else(broken);
    let texts = |name: &str| column(name, &DataType::Utf8).ok_or_else(broken);
    let (time, row_no, bytes) = (numbers(TIME)?, numbers("row_no")?, numbers("bytes")?);
    let columns = TEXTS.map(|(name, _)| texts(name));
    let [request, reason, message, syntax, key_id, import_id, sealed, sealed_key] = columns;
    let columns = [request?, reason?, message?, syntax?, key_id?, import_id?, sealed?, sealed_key?];
    let number = |array: &ArrayRef, at: usize| array.as_primitive::<Int64Type>().value(at);
    let text = |column: usize, at: usize| {
        let array = columns[column].as_string::<i32>();
        if array.is_null(at) {
            String::new()
        } else {
            array.value(at).to_owned()
        }
    };
    let aside = |at: usize| v1::Aside {
        time: number(&time, at),
        name: Some(AsideName {
            request: text(0, at),
            row: number(&row_no, at).unsigned_abs(),
        }),
        reason: text(1, at),
        message: text(2, at),
        syntax: text(3, at),
        size: number(&bytes, at).unsigned_abs(),
        credential: text(4, at),
        import_id: text(5, at),
        sealed: text(6, at),
        sealed_key: text(7, at),
    };
    Ok((0..rows.num_rows()).map(aside).collect())
}

impl Product {
    /// Whether the table beside has something under this id.
    pub(super) async fn is_beside(
        &self,
        database: &DatabaseName,
        name: &TableName,
        table: TableId,
        beside: &Beside,
        sender_id: Option<&str>,
    ) -> Result<bool, ProductError> {
        let Some(table) = self.known_beside(database, name, table) else {
            return Ok(false);
        };
        match beside.own_id(self.id, table, sender_id) {
            Some(id) => self.is_stored(table, &self.batch_hash(Some(&id))).await,
            None => Ok(false),
        }
    }

    /// Makes what cannot be rows ready to be stored: nothing, if there is nothing. The caller has made sure that it is not stored yet.
    pub(super) async fn set_aside(
        &self,
        database: &DatabaseName,
        name: &TableName,
        table: TableId,
        sender_id: Option<&str>,
        beside: Beside,
    ) -> Result<Option<Aside>, ProductError> {
        let replays = beside.replays.clone();
        let Some(body) = beside.into_body(sender_id, self.shared.clock.now())? else {
            return Ok(None);
        };
        let (memory, limit) = (&self.shared.memory, self.shared.memory.limit());
        // What came, the rows that are made of it, and the stream that is made of them.
        let (came, as_rows) = body.memory();
        let bytes = came.saturating_add(as_rows.saturating_mul(2));
        if bytes > limit {
            return Err(ProductError::BatchTooLarge { bytes, limit });
        }
        let mut charge = memory.charge(bytes).ok_or(ProductError::MemoryFull)?;
        let table = self.table_beside(database, name, table).await?;
        let id = own_id(replays.as_ref(), self.id, table, sender_id);
        let batch = self.batch_hash(id.as_deref());
        let encoded = tokio::task::spawn_blocking(move || {
            let rows = body.rows()?;
            drop(body);
            Ok::<_, ProductError>((events::to_ipc(&rows), rows))
        });
        let (ipc, rows) = encoded
            .await
            .map_err(|_| ProductError::Internal("encoding a batch was interrupted"))??;
        charge.resize(memory_of(&rows).saturating_add(ipc.len()).min(charge.bytes()));
        let (time_min, time_max) = time_range(&rows).unwrap_or_default();
        let schema = rows.schema();
        let fields = schema.fields().iter().filter(|field| field.name() != TIME);
        let header = RowsHeader {
            table,
            batch,
            rows: rows.num_rows() as u64,
            time_min,
            time_max,
            columns: fields.map(|field| (field.name().clone(), events::seen_of(field).bits())).collect(),
            records: Vec::new(),
        };
        let shaped = self.shaped(table, rows, &mut charge, ipc.len()).await?;
        Ok(Some(Aside {
            ipc,
            shaped,
            charge,
            header,
        }))
    }

    /// Stores it alone: its body has no rows, or none that is new.
    pub(super) async fn store_aside(&self, aside: Option<Aside>) -> Result<(), ProductError> {
        let Some(aside) = aside else { return Ok(()) };
        let appending = self.append_entries(vec![aside.entry()]).await?;
        appending.shown([self.show_aside(Some(aside)).await, Ok(())])
    }

    /// Puts it where queries see it.
    pub(super) async fn show_aside(&self, aside: Option<Aside>) -> Result<(), ProductError> {
        let Some(Aside {
            shaped,
            mut charge,
            header,
            ..
        }) = aside
        else {
            return Ok(());
        };
        charge.resize(shaped.memory());
        let stored = Stored {
            batch: header.batch,
            records: [].into(),
            keep: None,
        };
        self.show(header.table, stored, shaped, charge).await
    }

    /// The table for what cannot be rows of `table`, and of no other: one that was made again under its name may have another by now.
    fn known_beside(&self, database: &DatabaseName, name: &TableName, table: TableId) -> Option<TableId> {
        let state = self.read();
        state.table(database, name).filter(|known| known.id == table)?;
        state.table(database, &name.aside()).map(|beside| beside.id)
    }

    /// The table for what cannot be rows of `table`, made when it is not there.
    pub(super) async fn table_beside(&self, database: &DatabaseName, name: &TableName, table: TableId) -> Result<TableId, ProductError> {
        let known = || self.known_beside(database, name, table);
        if let Some(id) = known() {
            return Ok(id);
        }
        let mut waiting = self.control.lock().await;
        self.make_waiting(&mut waiting).await?;
        // It may have been deleted, and even made again, while we waited.
        if self.table_id(database, name)? != table {
            return Err(ProductError::NotFound {
                what: "table",
                name: format!("{database}.{name}"),
            });
        }
        if let Some(id) = known() {
            return Ok(id);
        }
        let at = self.shared.clock.now();
        let id = TableId::generate(at, &*self.shared.entropy);
        let made = Header::CreateTable {
            id,
            number: self.read().last_number + 1,
            database: database.clone(),
            name: name.aside(),
            at,
        };
        self.change(&mut waiting, made).await?;
        Ok(id)
    }
}
