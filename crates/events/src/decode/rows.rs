//! Rows on their way into columns, whatever syntax they came in.
//!
//! Promise: a row is taken whole or leaves no trace; a value that no column can take stands in the overflow column as it was sent.
//!
//! What makes it quick: rows of one sender have their keys in the same order, so each column remembers which one followed it.

mod beside;

use std::{collections::HashMap, ops::Range, sync::Arc};

use arrow::{
    array::{ArrayRef, Int64Array},
    datatypes::Schema,
    record_batch::RecordBatch,
};
use base::{ColumnNames, LONGEST_IDENTITY};

use super::column::{Column, Ledger, TooMuchText};
use super::records::{ADDRESS, Records, UUID};
use super::time::{self, Moment};
use super::{DecodeError, Decoded, Rejected, RowFault, Told};
use crate::{
    Limits, OVERFLOW, TIME,
    msgpack::Fault,
    text::{BASE64_PREFIX, push_base64, push_integer, push_json_double, push_json_string},
    time_field,
};
use beside::Beside;

/// Why a row was not finished.
#[derive(Debug)]
pub(super) enum Stop {
    /// The row cannot be one; the next can.
    Row(RowFault),
    /// Nothing more can be read, or taken.
    Body(DecodeError),
    /// The bytes end, or the window that a row may fill.
    Truncated,
    /// The bytes are not of this syntax.
    Damaged,
    /// More text than a batch may have.
    TooMuchText,
}

impl From<RowFault> for Stop {
    fn from(fault: RowFault) -> Self {
        Self::Row(fault)
    }
}

impl From<TooMuchText> for Stop {
    fn from(_: TooMuchText) -> Self {
        Self::TooMuchText
    }
}

/// One value that is not nested.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'v> {
    Null,
    Bool(bool),
    Long(i64),
    Double(f64),
    /// A number that is kept as its digits: neither a long nor a double holds it.
    Number(&'v [u8]),
    /// Text, known to be UTF-8.
    Text(&'v [u8]),
    /// Text or other bytes.
    Bytes(&'v [u8]),
}

impl Value<'_> {
    /// Whether its text, or what would stand for it as text, is too long to name somebody.
    fn is_too_long(self) -> bool {
        let in_base64 = |bytes: usize| BASE64_PREFIX.len() + bytes.div_ceil(3) * 4;
        match self {
            Self::Number(text) | Self::Text(text) => text.len() > LONGEST_IDENTITY,
            Self::Bytes(bytes) => {
                bytes.len() > LONGEST_IDENTITY || in_base64(bytes.len()) > LONGEST_IDENTITY && std::str::from_utf8(bytes).is_err()
            }
            // A few hundred bytes at most.
            Self::Null | Self::Bool(_) | Self::Long(_) | Self::Double(_) => false,
        }
    }
}

/// Where the value of a key goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    Time,
    Column(usize),
    /// There are as many columns as there may be. The key stands in the row's overflow already.
    Overflow,
    /// A record's own id.
    Id,
    /// The address that a record came from.
    Address,
}

/// Where `time` stands in the order of keys. It is no column like the others.
const TIME_INDEX: usize = 0;
/// How many columns to skip in search of the next key: sparse columns that this row lacks.
const HOPS: usize = 4;
/// For a longer one the identity role would refuse the whole body.
const TOO_LONG: RowFault = RowFault::Identity { max: LONGEST_IDENTITY };
/// How many cells a row that is set aside counts as: it is remembered by its place.
const ASIDE: usize = size_of::<Rejected>().div_ceil(size_of::<i64>());

pub(super) struct Rows<'a> {
    pub(super) told: &'a Told<'a>,
    /// What was told of columns, to be looked up by name: those of identities, and all that are of people.
    identities: ColumnNames,
    people: ColumnNames,
    received_at: i64,
    times: Vec<i64>,
    rejected: Vec<Rejected>,
    rejected_bytes: usize,
    /// The first stands for `time` and holds nothing.
    columns: Vec<Column>,
    by_name: HashMap<Box<[u8]>, usize>,
    first: usize,
    /// Which of the columns is the one for what no other column takes.
    overflow_column: Option<usize>,
    ledger: Ledger,
    scratch: Vec<u8>,
    row: Row,
    /// What only records have.
    beside: Option<Beside>,
}

/// What is known of the row in hand.
#[derive(Default)]
struct Row {
    previous: Option<usize>,
    keys: usize,
    time: Option<i64>,
    /// The time as sent, where whole seconds are not all of it.
    time_sent: Vec<u8>,
    /// `"key":value` for what no column takes, with a comma after each.
    overflow: Vec<u8>,
    /// How many columns there were, and how much room, when it began.
    columns: usize,
    room: usize,
    /// Columns that it has put a value into.
    touched: Vec<usize>,
    /// Columns that it has widened.
    widened: Vec<usize>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(told: &'a Told<'a>) -> Self {
        Self {
            told,
            identities: ColumnNames::new(told.identities),
            people: ColumnNames::new(told.identities.iter().chain(told.personal)),
            received_at: told.received_at.as_secs(),
            times: Vec::new(),
            rejected: Vec::new(),
            rejected_bytes: 0,
            columns: vec![Column::new(TIME)],
            by_name: HashMap::from([(TIME.as_bytes().into(), TIME_INDEX)]),
            first: TIME_INDEX,
            overflow_column: None,
            ledger: Ledger {
                // Offsets into a column's text are 31 bits.
                room: told.limits.max_text.min(1 << 30),
                widened: false,
            },
            scratch: Vec::new(),
            row: Row::default(),
            beside: None,
        }
    }

    /// The rows to come are records.
    pub(super) fn are_records(&mut self, records: Records) {
        // An id goes on as it is. What was declared to be of people never does.
        let with_ids = !self.people.contains(UUID);
        self.beside = Some(Beside::new(records, with_ids));
    }

    /// The number of the row in hand, from 1.
    pub(super) fn number(&self) -> usize {
        self.times.len() + self.rejected.len() + 1
    }

    /// How many rows were taken so far.
    pub(super) fn taken(&self) -> usize {
        self.times.len()
    }

    /// How many bytes of text a nested value may still become.
    pub(super) fn room(&self) -> usize {
        self.ledger.room
    }

    /// Begins a row.
    pub(super) fn begin(&mut self) -> Result<(), Stop> {
        let row = &mut self.row;
        row.previous = None;
        row.keys = 0;
        row.time = None;
        row.time_sent.clear();
        row.overflow.clear();
        row.touched.clear();
        row.columns = self.columns.len();
        row.room = self.ledger.room;
        if let Some(beside) = &mut self.beside {
            beside.begin();
        }
        let max = self.told.limits.max_rows;
        if self.number() > max {
            return Err(Stop::Body(DecodeError::TooManyRows { max }));
        }
        self.check_cells()
    }

    /// Where the value of this key goes.
    #[inline]
    pub(super) fn slot(&mut self, name: &[u8]) -> Result<Slot, Stop> {
        self.row.keys += 1;
        if self.row.keys > self.told.limits.max_keys {
            let max = self.told.limits.max_keys;
            return Err(RowFault::TooManyKeys { max }.into());
        }
        match &self.beside {
            Some(beside) if name == UUID.as_bytes() && beside.with_ids => Ok(Slot::Id),
            Some(beside) if name == ADDRESS.as_bytes() && beside.address.is_some() => Ok(Slot::Address),
            _ => self.column(name),
        }
    }

    /// Where the value of a key goes that means nothing but itself.
    #[inline]
    fn column(&mut self, name: &[u8]) -> Result<Slot, Stop> {
        let mut guess = self.row.previous.map_or(self.first, |index| self.columns[index].next);
        for _ in 0..HOPS {
            // A column that was undone may still be remembered as the next one.
            let Some(column) = self.columns.get(guess) else { break };
            if column.name.as_bytes() == name && Some(guess) != self.overflow_column {
                self.row.previous = Some(guess);
                return Ok(slot_of(guess));
            }
            guess = column.next;
        }
        self.slot_by_name(name)
    }

    fn slot_by_name(&mut self, name: &[u8]) -> Result<Slot, Stop> {
        let known = self.by_name.get(name).copied().filter(|index| Some(*index) != self.overflow_column);
        let index = match known {
            Some(index) => index,
            None => match self.add(name)? {
                Some(index) => index,
                None => return Ok(Slot::Overflow),
            },
        };
        match self.row.previous {
            Some(previous) => self.columns[previous].next = index,
            None => self.first = index,
        }
        self.row.previous = Some(index);
        Ok(slot_of(index))
    }

    /// A column of this name, unless there are too many: then the key is written where overflowing values go.
    fn add(&mut self, name: &[u8]) -> Result<Option<usize>, Stop> {
        let text = std::str::from_utf8(name).map_err(|_| RowFault::KeyNotText)?;
        let max = self.told.limits.max_name;
        if text.is_empty() || text.len() > max {
            return Err(RowFault::Name { max }.into());
        }
        // `time` and the overflow column are not counted. Identities and personal values always have a column: they must be found to be replaced.
        let full = self.columns.len() > self.told.limits.max_columns + usize::from(self.overflow_column.is_some());
        if text == OVERFLOW || full && !self.people.contains(text) {
            push_json_string(&mut self.row.overflow, text);
            self.row.overflow.push(b':');
            return Ok(None);
        }
        let index = self.new_column(text);
        self.check_cells()?;
        Ok(Some(index))
    }

    fn new_column(&mut self, name: &str) -> usize {
        let index = self.columns.len();
        let mut column = Column::new(name);
        column.identity = name != OVERFLOW && self.identities.contains(name);
        self.columns.push(column);
        self.by_name.insert(name.as_bytes().into(), index);
        index
    }

    /// Refuses what would fill memory with empty cells: many columns in a few rows, many rows of a few bytes, taken or not.
    fn check_cells(&self) -> Result<(), Stop> {
        let max = self.told.limits.max_cells;
        let cells = (self.times.len() + 1).saturating_mul(self.columns.len());
        let cells = cells.saturating_add(self.rejected.len().saturating_mul(ASIDE));
        if cells > max {
            let row = self.number();
            Err(Stop::Body(DecodeError::TooManyCells { row, max }))
        } else {
            Ok(())
        }
    }

    /// Takes a value.
    #[inline]
    pub(super) fn value(&mut self, slot: Slot, value: Value<'_>) -> Result<(), Stop> {
        match slot {
            Slot::Column(index) => self.cell(index, value),
            Slot::Time => self.time(value),
            Slot::Overflow => {
                write_json(&mut self.row.overflow, value);
                self.row.overflow.push(b',');
                Ok(())
            }
            Slot::Id => self.id(value),
            Slot::Address => self.address(value),
        }
    }

    #[inline]
    fn cell(&mut self, index: usize, value: Value<'_>) -> Result<(), Stop> {
        let column = &mut self.columns[index];
        if column.identity && value.is_too_long() {
            return Err(TOO_LONG.into());
        }
        column.begin(self.times.len());
        match value {
            Value::Null => {}
            Value::Bool(value) => column.push_bool(value, &mut self.ledger)?,
            Value::Long(value) => column.push_long(value, &mut self.ledger)?,
            Value::Double(value) => column.push_double(value, &mut self.ledger)?,
            Value::Number(digits) => column.push_number(digits, &mut self.ledger)?,
            Value::Text(text) => column.push_text(text, &mut self.ledger)?,
            Value::Bytes(bytes) if std::str::from_utf8(bytes).is_ok() => column.push_text(bytes, &mut self.ledger)?,
            Value::Bytes(bytes) => {
                self.scratch.clear();
                self.scratch.extend_from_slice(BASE64_PREFIX);
                push_base64(&mut self.scratch, bytes);
                column.push_text(&self.scratch, &mut self.ledger)?;
            }
        }
        self.note(index);
        Ok(())
    }

    #[inline]
    fn note(&mut self, index: usize) {
        self.row.touched.push(index);
        if std::mem::take(&mut self.ledger.widened) {
            self.row.widened.push(index);
        }
    }

    /// Takes a nested value, or another that only JSON can tell: `write` appends its JSON.
    pub(super) fn nested(&mut self, slot: Slot, write: impl FnOnce(&mut Vec<u8>) -> Result<(), Stop>) -> Result<(), Stop> {
        match slot {
            Slot::Column(index) => {
                let mut json = std::mem::take(&mut self.scratch);
                json.clear();
                let written = write(&mut json);
                self.scratch = json;
                written?;
                self.json(index)
            }
            Slot::Time => Err(RowFault::Time.into()),
            Slot::Overflow => {
                write(&mut self.row.overflow)?;
                self.row.overflow.push(b',');
                Ok(())
            }
            Slot::Id | Slot::Address => {
                let slot = self.nested_beside(slot)?;
                self.nested(slot, write)
            }
        }
    }

    /// Puts the JSON in `scratch` into a column.
    fn json(&mut self, index: usize) -> Result<(), Stop> {
        let column = &mut self.columns[index];
        if column.identity && self.scratch.len() > LONGEST_IDENTITY {
            return Err(TOO_LONG.into());
        }
        column.begin(self.times.len());
        column.push_json(&self.scratch, &mut self.ledger)?;
        self.note(index);
        Ok(())
    }

    fn time(&mut self, value: Value<'_>) -> Result<(), Stop> {
        let moment = match value {
            Value::Null => {
                self.row.time = None;
                self.row.time_sent.clear();
                return Ok(());
            }
            Value::Long(value) => time::of_long(value)?,
            Value::Double(value) => time::of_double(value)?,
            Value::Text(text) | Value::Bytes(text) => time::of_text(std::str::from_utf8(text).map_err(|_| RowFault::Time)?)?,
            Value::Bool(_) | Value::Number(_) => return Err(RowFault::Time.into()),
        };
        self.moment(moment, |sent| write_json(sent, value));
        Ok(())
    }

    /// Takes the time; `sent` writes as JSON how it was sent.
    pub(super) fn moment(&mut self, moment: Moment, sent: impl FnOnce(&mut Vec<u8>)) {
        self.row.time = Some(moment.secs);
        self.row.time_sent.clear();
        if !moment.whole {
            sent(&mut self.row.time_sent);
        }
    }

    /// The row is complete.
    pub(super) fn keep(&mut self) -> Result<(), Stop> {
        self.missing_address()?;
        if !self.row.time_sent.is_empty() || !self.row.overflow.is_empty() {
            self.keep_overflow()?;
        }
        for index in self.row.widened.drain(..) {
            self.columns[index].keep();
        }
        self.times.push(self.row.time.unwrap_or(self.received_at));
        self.note_id();
        Ok(())
    }

    fn keep_overflow(&mut self) -> Result<(), Stop> {
        let index = match self.overflow_column {
            Some(index) => index,
            None => {
                let index = self.new_column(OVERFLOW);
                self.overflow_column = Some(index);
                self.check_cells()?;
                index
            }
        };
        self.scratch.clear();
        self.scratch.push(b'{');
        if !self.row.time_sent.is_empty() {
            push_json_string(&mut self.scratch, TIME);
            self.scratch.push(b':');
            self.scratch.append(&mut self.row.time_sent);
            self.scratch.push(b',');
        }
        self.scratch.append(&mut self.row.overflow);
        // In place of the last comma.
        self.scratch.pop();
        self.scratch.push(b'}');
        self.json(index)
    }

    /// The row is none: it is set aside as `sent`, a range of the body, and nothing of it stays in the columns.
    pub(super) fn set_aside(&mut self, fault: RowFault, sent: Range<usize>) -> Result<(), DecodeError> {
        for index in self.row.touched.drain(..) {
            self.columns[index].undo(self.times.len());
        }
        self.row.widened.clear();
        self.ledger.widened = false;
        self.ledger.room = self.row.room;
        for column in self.columns.drain(self.row.columns..) {
            self.by_name.remove(column.name.as_bytes());
        }
        if self.overflow_column.is_some_and(|index| index >= self.row.columns) {
            self.overflow_column = None;
        }
        let row = self.number();
        self.rejected_bytes = self.rejected_bytes.saturating_add(sent.len());
        self.rejected.push(Rejected { row, fault, sent });
        self.note_id();
        let limits = self.told.limits;
        if self.rejected_bytes > limits.max_rejected_bytes {
            let max = limits.max_rejected_bytes;
            return Err(DecodeError::TooMuchRejected { max });
        }
        match self.rejected.first() {
            Some(Rejected { row, fault, .. }) if self.rejected.len() > limits.max_rejected => Err(DecodeError::TooManyRejected {
                row: *row,
                fault: *fault,
                max: limits.max_rejected,
            }),
            _ => Ok(()),
        }
    }

    /// Whether there was nothing but what is no map at all.
    pub(super) fn saw_no_map(&self) -> bool {
        self.times.is_empty() && self.rejected.iter().all(|rejected| rejected.fault == RowFault::NotAMap)
    }

    pub(super) fn finish(self) -> Decoded {
        let rows = self.times.len();
        let mut fields = vec![time_field()];
        let mut arrays: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(self.times))];
        for (field, array) in self.columns.into_iter().skip(1).filter_map(|column| column.finish(rows)) {
            fields.push(field);
            arrays.push(array);
        }
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).expect("every column was filled to the number of rows");
        Decoded {
            batch,
            rejected: self.rejected,
            ids: self.beside.map_or_else(Vec::new, |beside| beside.ids),
        }
    }
}

const fn slot_of(index: usize) -> Slot {
    if index == TIME_INDEX { Slot::Time } else { Slot::Column(index) }
}

impl Stop {
    /// What a fault of msgpack means for the row that it is in.
    pub(super) fn of_msgpack(fault: Fault, limits: &Limits) -> Self {
        match fault {
            Fault::Truncated => Self::Truncated,
            Fault::Reserved => Self::Damaged,
            Fault::TooDeep => RowFault::TooDeep { max: limits.max_depth }.into(),
            Fault::TooManyKeys => RowFault::TooManyKeys { max: limits.max_keys }.into(),
            Fault::KeyNotText => RowFault::KeyNotText.into(),
            Fault::TooMuchText => Self::TooMuchText,
        }
    }

    /// Why the body is refused that row `row` of it stopped at.
    pub(super) fn refusal(self, row: usize, form: &'static str, limits: &Limits) -> DecodeError {
        match self {
            Self::Body(error) => error,
            Self::Truncated => DecodeError::Truncated { row },
            Self::TooMuchText => DecodeError::TooMuchText { row, max: limits.max_text },
            // A fault of one row ends no body; were it to, it would be for not being what it should.
            Self::Damaged | Self::Row(_) => DecodeError::Damaged { row, form },
        }
    }
}

fn write_json(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(value) => out.extend_from_slice(crate::bool_text(value).as_bytes()),
        Value::Long(value) => push_integer(out, value),
        Value::Double(value) => push_json_double(out, value),
        Value::Number(digits) => out.extend_from_slice(digits),
        Value::Text(bytes) | Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => push_json_string(out, text),
            Err(_) => {
                out.push(b'"');
                out.extend_from_slice(BASE64_PREFIX);
                push_base64(out, bytes);
                out.push(b'"');
            }
        },
    }
}
