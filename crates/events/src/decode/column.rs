//! One column while it is being filled: as narrow as what it has held allows, wider the moment it must be.
//!
//! Promise: a row that turns out to be none leaves no trace here, neither a value nor a type: [`Column::undo`].

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, BooleanArray, BooleanBufferBuilder, Float64Array, Int64Array, NullBufferBuilder, StringArray},
    buffer::{Buffer, OffsetBuffer, ScalarBuffer},
    datatypes::Field,
};

use crate::{
    ColumnType, Seen, field,
    kinds::{Kind, Kinds},
    text::{push_double, push_integer},
};

/// What the columns of a batch share while one value is pushed.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Bytes of text that may still come.
    pub(super) room: usize,
    /// Whether the value made its column take in another kind, for the first time in this row.
    pub(super) widened: bool,
}

/// Texts end to end, and where each begins.
struct Texts {
    offsets: Vec<i32>,
    bytes: Vec<u8>,
}

impl Texts {
    fn of_nulls(rows: usize) -> Self {
        Self {
            offsets: vec![0; rows + 1],
            bytes: Vec::new(),
        }
    }

    /// Ends the text that was just written. `room` has seen to it that offsets fit.
    fn end(&mut self, ledger: &mut Ledger) -> Result<(), TooMuchText> {
        let from = self.offsets.last().map_or(0, |offset| *offset as usize);
        ledger.room = ledger.room.checked_sub(self.bytes.len() - from).ok_or(TooMuchText)?;
        self.offsets.push(i32::try_from(self.bytes.len()).map_err(|_| TooMuchText)?);
        Ok(())
    }

    fn pad(&mut self, rows: usize) {
        let end = self.offsets.last().copied().unwrap_or_default();
        self.offsets.resize(self.offsets.len() + rows, end);
    }

    fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows + 1);
        self.bytes.truncate(self.offsets.last().map_or(0, |offset| *offset as usize));
    }
}

/// The values of a column, one per row so far, whatever stands where the null bits say that there is none.
enum Cells {
    /// Only nulls so far: nothing to keep but their number.
    Nothing,
    Bools(BooleanBufferBuilder),
    Longs(Vec<i64>),
    Doubles(Vec<f64>),
    /// Strings and JSON.
    Texts(Texts),
}

impl Cells {
    fn of_nulls(of: ColumnType, rows: usize) -> Self {
        match of {
            ColumnType::Boolean => {
                let mut bools = BooleanBufferBuilder::new(rows);
                bools.append_n(rows, false);
                Self::Bools(bools)
            }
            ColumnType::Long => Self::Longs(vec![0; rows]),
            ColumnType::Double => Self::Doubles(vec![0.0; rows]),
            ColumnType::String | ColumnType::Json => Self::Texts(Texts::of_nulls(rows)),
        }
    }
}

/// More text than a batch may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMuchText;

/// A column as it was when the row began.
struct Before {
    seen: Seen,
    /// Where the row has changed their type.
    cells: Option<Cells>,
}

pub(super) struct Column {
    pub(super) name: Box<str>,
    /// The column whose key came after this one's, last time.
    pub(super) next: usize,
    /// Whether its values are identities.
    pub(super) identity: bool,
    seen: Seen,
    /// Rows filled so far. Rows without this key are filled with nulls when the next value comes.
    rows: usize,
    /// Kept from the first value on.
    nulls: NullBufferBuilder,
    cells: Cells,
    /// Which of the texts were sent as something else. Nothing while the cells are no texts, or JSON only.
    kinds: Kinds,
    /// Kept while the row that widened the column is not complete.
    before: Option<Before>,
}

impl Column {
    pub(super) fn new(name: &str) -> Self {
        let nulls = NullBufferBuilder::new(0);
        Self {
            name: name.into(),
            next: 0,
            identity: false,
            seen: Seen::NOTHING,
            rows: 0,
            nulls,
            cells: Cells::Nothing,
            kinds: Kinds::default(),
            before: None,
        }
    }

    /// The row that widened the column is complete.
    pub(super) fn keep(&mut self) {
        self.before = None;
    }

    /// The row that put a value here is none: the column becomes again what it was after `rows` rows.
    pub(super) fn undo(&mut self, rows: usize) {
        if let Some(before) = self.before.take() {
            self.seen = before.seen;
            if let Some(cells) = before.cells {
                self.cells = cells;
            }
            if let Cells::Nothing = self.cells {
                self.nulls = NullBufferBuilder::new(0);
            }
            if !matches!(self.cells, Cells::Texts(_)) || self.seen == Seen::JSON {
                self.kinds.clear();
            }
        }
        if self.rows > rows {
            self.truncate(rows);
        }
    }

    /// Makes the column ready for a value in `row`: nulls up to there, and an earlier value of the same row forgotten.
    #[inline]
    pub(super) fn begin(&mut self, row: usize) {
        if self.rows < row {
            self.pad(row - self.rows);
        } else if self.rows > row {
            self.truncate(row);
        }
    }

    pub(super) fn push_bool(&mut self, value: bool, ledger: &mut Ledger) -> Result<(), TooMuchText> {
        self.see(Seen::BOOL, ledger)?;
        match &mut self.cells {
            Cells::Bools(bools) => bools.append(value),
            _ => self.text_of(Kind::Bool, ledger, |out| out.extend_from_slice(crate::bool_text(value).as_bytes()))?,
        }
        self.filled();
        Ok(())
    }

    #[inline]
    pub(super) fn push_long(&mut self, value: i64, ledger: &mut Ledger) -> Result<(), TooMuchText> {
        self.see(Seen::of_long(value), ledger)?;
        match &mut self.cells {
            Cells::Longs(longs) => longs.push(value),
            // Exact: a column with longs beyond 2^53 is never one of doubles.
            Cells::Doubles(doubles) => doubles.push(value as f64),
            _ => self.text_of(Kind::Long, ledger, |out| push_integer(out, value))?,
        }
        self.filled();
        Ok(())
    }

    #[inline]
    pub(super) fn push_double(&mut self, value: f64, ledger: &mut Ledger) -> Result<(), TooMuchText> {
        self.see(Seen::DOUBLE, ledger)?;
        match &mut self.cells {
            Cells::Doubles(doubles) => doubles.push(value),
            _ => self.text_of(Kind::Double, ledger, |out| push_double(out, value))?,
        }
        self.filled();
        Ok(())
    }

    /// The bytes are UTF-8: the caller has checked, and so does Arrow at the end.
    #[inline]
    pub(super) fn push_text(&mut self, text: &[u8], ledger: &mut Ledger) -> Result<(), TooMuchText> {
        self.see(Seen::STRING, ledger)?;
        self.kinds.text();
        self.text(ledger, |out| out.extend_from_slice(text))?;
        self.filled();
        Ok(())
    }

    /// A number that no other type holds exactly, as its digits.
    pub(super) fn push_number(&mut self, digits: &[u8], ledger: &mut Ledger) -> Result<(), TooMuchText> {
        self.see(Seen::STRING, ledger)?;
        self.text_of(Kind::Number, ledger, |out| out.extend_from_slice(digits))?;
        self.filled();
        Ok(())
    }

    pub(super) fn push_json(&mut self, json: &[u8], ledger: &mut Ledger) -> Result<(), TooMuchText> {
        self.see(Seen::JSON, ledger)?;
        match self.seen {
            Seen::JSON => self.text(ledger, |out| out.extend_from_slice(json))?,
            _ => self.text_of(Kind::Json, ledger, |out| out.extend_from_slice(json))?,
        }
        self.filled();
        Ok(())
    }

    /// The field and the array, unless there was nothing but nulls.
    pub(super) fn finish(mut self, rows: usize) -> Option<(Field, ArrayRef)> {
        self.begin(rows);
        let nulls = self.nulls.finish();
        let array: ArrayRef = match self.cells {
            Cells::Nothing => return None,
            Cells::Bools(mut bools) => Arc::new(BooleanArray::new(bools.finish(), nulls)),
            Cells::Longs(longs) => Arc::new(Int64Array::new(longs.into(), nulls)),
            Cells::Doubles(doubles) => Arc::new(Float64Array::new(doubles.into(), nulls)),
            Cells::Texts(texts) => {
                let offsets = OffsetBuffer::new(ScalarBuffer::from(texts.offsets));
                Arc::new(StringArray::new(offsets, Buffer::from_vec(texts.bytes), nulls))
            }
        };
        Some((self.kinds.noted_in(field(&self.name, self.seen)), array))
    }

    #[inline]
    fn filled(&mut self) {
        self.nulls.append_non_null();
        self.rows += 1;
    }

    fn pad(&mut self, count: usize) {
        self.rows += count;
        match &mut self.cells {
            Cells::Nothing => return,
            Cells::Bools(bools) => bools.append_n(count, false),
            Cells::Longs(longs) => longs.resize(self.rows, 0),
            Cells::Doubles(doubles) => doubles.resize(self.rows, 0.0),
            Cells::Texts(texts) => texts.pad(count),
        }
        self.nulls.append_n_nulls(count);
    }

    fn truncate(&mut self, rows: usize) {
        self.rows = rows;
        self.kinds.truncate(rows);
        match &mut self.cells {
            Cells::Nothing => return,
            Cells::Bools(bools) => bools.truncate(rows),
            Cells::Longs(longs) => longs.truncate(rows),
            Cells::Doubles(doubles) => doubles.truncate(rows),
            Cells::Texts(texts) => texts.truncate(rows),
        }
        self.nulls.truncate(rows);
    }

    /// Appends to the text cells.
    #[inline]
    fn text(&mut self, ledger: &mut Ledger, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), TooMuchText> {
        match &mut self.cells {
            Cells::Texts(texts) => {
                write(&mut texts.bytes);
                texts.end(ledger)
            }
            _ => unreachable!("`see` made this a column of texts, as nothing narrower holds the value"),
        }
    }

    /// Appends the text of what was not sent as text.
    fn text_of(&mut self, kind: Kind, ledger: &mut Ledger, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), TooMuchText> {
        self.kinds.note(self.rows, kind);
        self.text(ledger, write)
    }

    /// Notes the kind of the next value, and widens the column when it does not fit.
    #[inline]
    fn see(&mut self, kind: Seen, ledger: &mut Ledger) -> Result<(), TooMuchText> {
        if self.seen.contains(kind) {
            Ok(())
        } else {
            self.widen(self.seen | kind, ledger)
        }
    }

    #[cold]
    fn widen(&mut self, seen: Seen, ledger: &mut Ledger) -> Result<(), TooMuchText> {
        let wider = match (&self.cells, seen.column_type()) {
            (Cells::Nothing, Some(to)) => {
                // Not for none: one call with nulls makes the builder keep bits for ever.
                if self.rows > 0 {
                    self.nulls.append_n_nulls(self.rows);
                }
                Some(Cells::of_nulls(to, self.rows))
            }
            (Cells::Longs(longs), Some(ColumnType::Double)) => Some(Cells::Doubles(longs.iter().map(|long| *long as f64).collect())),
            (Cells::Longs(longs), Some(ColumnType::String)) => Some(self.texts(ledger, |row, out| push_integer(out, longs[row]))?),
            (Cells::Doubles(doubles), Some(ColumnType::String)) => Some(self.texts(ledger, |row, out| push_double(out, doubles[row]))?),
            (Cells::Bools(bools), Some(ColumnType::String)) => Some(self.texts(ledger, |row, out| {
                out.extend_from_slice(crate::bool_text(bools.get_bit(row)).as_bytes())
            })?),
            // JSON to string is the same text; a big long among longs changes nothing yet.
            _ => None,
        };
        // What is there so far was all of one kind, or is told already.
        match (&self.cells, &wider) {
            (Cells::Longs(_), Some(Cells::Texts(_))) => self.kinds.fill(self.rows, Kind::Long),
            (Cells::Doubles(_), Some(Cells::Texts(_))) => self.kinds.fill(self.rows, Kind::Double),
            (Cells::Bools(_), Some(Cells::Texts(_))) => self.kinds.fill(self.rows, Kind::Bool),
            (Cells::Texts(_), _) if self.seen == Seen::JSON => self.kinds.fill(self.rows, Kind::Json),
            _ => {}
        }
        let narrower = wider.map(|wider| std::mem::replace(&mut self.cells, wider));
        let before = self.before.get_or_insert(Before {
            seen: self.seen,
            cells: None,
        });
        if before.cells.is_none() {
            before.cells = narrower;
        }
        ledger.widened = true;
        self.seen = seen;
        Ok(())
    }

    /// All rows so far as texts.
    fn texts(&self, ledger: &mut Ledger, write: impl Fn(usize, &mut Vec<u8>)) -> Result<Cells, TooMuchText> {
        let mut texts = Texts::of_nulls(0);
        for row in 0..self.rows {
            if self.nulls.is_valid(row) {
                write(row, &mut texts.bytes);
            }
            texts.end(ledger)?;
        }
        Ok(Cells::Texts(texts))
    }
}
