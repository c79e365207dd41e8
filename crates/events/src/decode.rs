//! One pass from msgpack bytes into Arrow columns, discovering the columns and their types on the way.
//!
//! What makes it quick: rows of one sender have their keys in the same order, so each column remembers which one followed it.

mod column;
mod error;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{ArrayRef, Int64Array},
    datatypes::Schema,
    record_batch::RecordBatch,
};
use base::Timestamp;

use self::column::Column;
pub use self::error::DecodeError;
use crate::{
    Limits, TIME,
    msgpack::{Fault, Nesting, Reader, Token, push_json},
    text::{BASE64_PREFIX, push_base64, push_integer},
    time_field,
};

/// Concatenated msgpack maps as one batch: `time` first, then the columns in the order in which they appeared.
/// A key that is null in every row makes no column: nobody knows its type.
///
/// Within a row the last of several equal keys wins. A row without a time gets `received_at`.
pub fn decode_msgpack(body: &[u8], limits: &Limits, received_at: Timestamp) -> Result<RecordBatch, DecodeError> {
    if body.len() > limits.max_inflated {
        return Err(DecodeError::BodyTooLarge { max: limits.max_inflated });
    }
    let mut reader = Reader::new(body);
    let mut batch = Batch::new(limits, received_at.as_secs());
    while !reader.is_at_end() {
        let clipped = reader.window(limits.max_row);
        batch.row(&mut reader).map_err(|stop| batch.error(stop, clipped))?;
    }
    Ok(batch.finish())
}

/// Why decoding stopped; [`Batch::error`] adds the row.
enum Stop {
    Fault(Fault),
    NotAMap,
    Name,
    Time,
    Columns,
    Rows,
    Cells,
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Where `time` stands in the order of keys. It is no column like the others.
const TIME_INDEX: usize = 0;
/// How many columns to skip in search of the next key: sparse columns that this row lacks.
const HOPS: usize = 4;

struct Batch<'a> {
    limits: &'a Limits,
    received_at: i64,
    times: Vec<i64>,
    /// The first stands for `time` and holds nothing.
    columns: Vec<Column>,
    by_name: HashMap<Box<[u8]>, usize>,
    first: usize,
    /// Bytes of text that may still come.
    room: usize,
    scratch: Vec<u8>,
}

impl<'a> Batch<'a> {
    fn new(limits: &'a Limits, received_at: i64) -> Self {
        Self {
            limits,
            received_at,
            times: Vec::new(),
            columns: vec![Column::new(TIME)],
            by_name: HashMap::from([(TIME.as_bytes().into(), TIME_INDEX)]),
            first: TIME_INDEX,
            // Offsets into a column's text are 31 bits.
            room: limits.max_text.min(1 << 30),
            scratch: Vec::new(),
        }
    }

    fn row(&mut self, reader: &mut Reader<'_>) -> Result<(), Stop> {
        let Token::Map(keys) = reader.token()? else {
            return Err(Stop::NotAMap);
        };
        if keys as usize > self.limits.max_keys {
            return Err(Fault::TooManyKeys.into());
        }
        if self.times.len() >= self.limits.max_rows {
            return Err(Stop::Rows);
        }
        self.check_cells()?;
        let mut time = None;
        let mut previous = None;
        for _ in 0..keys {
            let (Token::Str(name) | Token::Bin(name)) = reader.token()? else {
                return Err(Fault::KeyNotText.into());
            };
            let index = self.find(name, previous)?;
            previous = Some(index);
            let token = reader.token()?;
            if index == TIME_INDEX {
                time = time_of(token)?;
            } else {
                self.value(reader, index, token)?;
            }
        }
        self.times.push(time.unwrap_or(self.received_at));
        Ok(())
    }

    #[inline]
    fn find(&mut self, name: &[u8], previous: Option<usize>) -> Result<usize, Stop> {
        let mut guess = previous.map_or(self.first, |index| self.columns[index].next);
        for _ in 0..HOPS {
            let column = &self.columns[guess];
            if column.name.as_bytes() == name {
                return Ok(guess);
            }
            guess = column.next;
        }
        let index = match self.by_name.get(name) {
            Some(index) => *index,
            None => self.add(name)?,
        };
        match previous {
            Some(previous) => self.columns[previous].next = index,
            None => self.first = index,
        }
        Ok(index)
    }

    fn add(&mut self, name: &[u8]) -> Result<usize, Stop> {
        let text = std::str::from_utf8(name).map_err(|_| Fault::KeyNotText)?;
        if text.is_empty() || text.len() > self.limits.max_name {
            return Err(Stop::Name);
        }
        if self.columns.len() > self.limits.max_columns {
            return Err(Stop::Columns);
        }
        let index = self.columns.len();
        self.columns.push(Column::new(text));
        self.by_name.insert(name.into(), index);
        self.check_cells()?;
        Ok(index)
    }

    /// Refuses what would fill memory with empty cells: many columns in a few rows, many rows of a few bytes.
    fn check_cells(&self) -> Result<(), Stop> {
        let cells = (self.times.len() + 1).saturating_mul(self.columns.len());
        if cells > self.limits.max_cells { Err(Stop::Cells) } else { Ok(()) }
    }

    fn value(&mut self, reader: &mut Reader<'_>, index: usize, token: Token<'_>) -> Result<(), Stop> {
        let column = &mut self.columns[index];
        column.begin(self.times.len());
        match token {
            Token::Nil => {}
            Token::Bool(value) => column.push_bool(value, &mut self.room)?,
            Token::Long(value) => column.push_long(value, &mut self.room)?,
            Token::Double(value) => column.push_double(value, &mut self.room)?,
            Token::Str(bytes) | Token::Bin(bytes) if std::str::from_utf8(bytes).is_ok() => {
                column.push_text(bytes, &mut self.room)?;
            }
            Token::Str(bytes) | Token::Bin(bytes) => {
                self.scratch.clear();
                self.scratch.extend_from_slice(BASE64_PREFIX);
                push_base64(&mut self.scratch, bytes);
                column.push_text(&self.scratch, &mut self.room)?;
            }
            Token::BigLong(value) => {
                self.scratch.clear();
                push_integer(&mut self.scratch, value);
                column.push_text(&self.scratch, &mut self.room)?;
            }
            Token::Array(_) | Token::Map(_) | Token::Ext(..) => {
                self.scratch.clear();
                let allowed = Nesting {
                    depth: self.limits.max_depth,
                    keys: self.limits.max_keys,
                    out: self.room,
                };
                push_json(reader, token, allowed, &mut self.scratch)?;
                column.push_json(&self.scratch, &mut self.room)?;
            }
        }
        Ok(())
    }

    fn error(&self, stop: Stop, clipped: bool) -> DecodeError {
        let (row, limits) = (self.times.len() + 1, self.limits);
        match stop {
            // The window ended, not the body.
            Stop::Fault(Fault::Truncated) if clipped => DecodeError::RowTooLarge { row, max: limits.max_row },
            Stop::Fault(Fault::Truncated) => DecodeError::Truncated { row },
            Stop::Fault(Fault::Reserved) => DecodeError::Damaged { row },
            Stop::Fault(Fault::TooDeep) => DecodeError::TooDeep {
                row,
                max: limits.max_depth,
            },
            Stop::Fault(Fault::TooManyKeys) => DecodeError::TooManyKeys { row, max: limits.max_keys },
            Stop::Fault(Fault::KeyNotText) => DecodeError::KeyNotText { row },
            Stop::Fault(Fault::TooMuchText) => DecodeError::TooMuchText { row, max: limits.max_text },
            Stop::NotAMap => DecodeError::NotAMap { row },
            Stop::Name => DecodeError::Name { row, max: limits.max_name },
            Stop::Time => DecodeError::Time { row },
            Stop::Columns => DecodeError::TooManyColumns {
                row,
                max: limits.max_columns,
            },
            Stop::Rows => DecodeError::TooManyRows { max: limits.max_rows },
            Stop::Cells => DecodeError::TooManyCells {
                row,
                max: limits.max_cells,
            },
        }
    }

    fn finish(self) -> RecordBatch {
        let rows = self.times.len();
        let mut fields = vec![time_field()];
        let mut arrays: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(self.times))];
        for (field, array) in self.columns.into_iter().skip(1).filter_map(|column| column.finish(rows)) {
            fields.push(field);
            arrays.push(array);
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).expect("every column was filled to the number of rows")
    }
}

/// Seconds since the epoch; `None` when absent. Fractions are cut off.
fn time_of(token: Token<'_>) -> Result<Option<i64>, Stop> {
    match token {
        Token::Nil => Ok(None),
        Token::Long(secs) => Ok(Some(secs)),
        Token::Double(secs) => whole(secs).map(Some),
        Token::Str(text) | Token::Bin(text) => {
            let text = std::str::from_utf8(text).map_err(|_| Stop::Time)?.trim_ascii();
            match text.parse() {
                Ok(secs) => Ok(Some(secs)),
                Err(_) => text.parse().map_err(|_| Stop::Time).and_then(whole).map(Some),
            }
        }
        // The timestamp of msgpack itself, and the event time of the forward protocol.
        Token::Ext(-1, &[a, b, c, d]) => Ok(Some(i64::from(u32::from_be_bytes([a, b, c, d])))),
        Token::Ext(-1, bytes) if bytes.len() == 8 => {
            let word = bytes.iter().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
            Ok(Some((word & ((1 << 34) - 1)) as i64))
        }
        Token::Ext(-1, &[_, _, _, _, ref secs @ ..]) => secs.try_into().map(|secs| Some(i64::from_be_bytes(secs))).map_err(|_| Stop::Time),
        Token::Ext(0, &[a, b, c, d, _, _, _, _]) => Ok(Some(i64::from(u32::from_be_bytes([a, b, c, d])))),
        _ => Err(Stop::Time),
    }
}

fn whole(secs: f64) -> Result<i64, Stop> {
    // The upper bound itself is 2^63: one more than a long holds.
    let fits = secs >= i64::MIN as f64 && secs < i64::MAX as f64;
    if fits { Ok(secs as i64) } else { Err(Stop::Time) }
}
