//! A batch as its table shows it: declared columns of their types, and what fits no column in `_overflow`.
//!
//! Promise: column and `_overflow` together hold every value that was sent. A value stands in a column of a declared type only where
//! it can be read back as what was sent; otherwise the column is null there, and the value stands in the row's `_overflow`, under its key.
//!
//! Start at [`fit`]. Which values fit which type is in [`Sent`](crate::sent).

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, BooleanArray, BooleanBuilder, Float64Builder, Int64Builder, StringBuilder},
    compute::filter_record_batch,
    datatypes::{Field, FieldRef, Schema},
    record_batch::{RecordBatch, RecordBatchOptions},
};

use crate::{
    AdaptError, ColumnType, Declared, OVERFLOW, Seen, TIME, field,
    kinds::Kinds,
    seen_of,
    sent::{Sent, SentColumn},
    text::push_json_string,
    widen::{cast_field, cells_as_text, is_text},
};

/// How much JSON one batch may overflow with, in bytes: Arrow counts in 31 bits.
const MAX_OVERFLOW: usize = i32::MAX as usize;

/// The batch with its declared columns of their types, and without those that the table does not `keep`: what the one and the other
/// leaves over is in `_overflow`. A batch of which nothing has to change comes back as it is.
///
/// Columns that are declared, and `time`, are kept whatever `keep` says.
pub fn fit(batch: &RecordBatch, declared: &Declared, keep: impl Fn(&Field) -> bool) -> Result<RecordBatch, AdaptError> {
    let schema = batch.schema();
    let fate = |field: &FieldRef| match field.name().as_str() {
        TIME | OVERFLOW => Fate::Same,
        name => match declared.get(name) {
            Some(of) if is_exactly(field, of) => Fate::Same,
            Some(of) => Fate::Typed(of),
            None if keep(field) => Fate::Same,
            None => Fate::Folded,
        },
    };
    let fates: Vec<Fate> = schema.fields().iter().map(fate).collect();
    if fates.iter().all(|fate| matches!(fate, Fate::Same)) {
        return Ok(batch.clone());
    }
    let mut over = Overflow::default();
    let (mut fields, mut arrays): (Vec<FieldRef>, Vec<ArrayRef>) = (Vec::new(), Vec::new());
    let mut given = None;
    for ((field, array), fate) in schema.fields().iter().zip(batch.columns()).zip(fates) {
        let shown = match fate {
            Fate::Same if field.name() == OVERFLOW => {
                given = Some((fields.len(), array));
                Arc::clone(array)
            }
            Fate::Same => Arc::clone(array),
            Fate::Typed(of) => typed(field, array, of, &mut over)?,
            Fate::Folded => {
                over.take_all(field, array)?;
                continue;
            }
        };
        fields.push(match fate {
            Fate::Typed(of) => Arc::new(crate::field(field.name(), of.widest())),
            _ => Arc::clone(field),
        });
        arrays.push(shown);
    }
    if !over.rows.is_empty() {
        let merged = over.merged(batch.num_rows(), given.map(|(_, array)| array))?;
        let of = Arc::new(field(OVERFLOW, Seen::JSON));
        match given {
            Some((index, _)) => {
                fields[index] = of;
                arrays[index] = merged;
            }
            None => {
                fields.push(of);
                arrays.push(merged);
            }
        }
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?)
}

/// The batch without the rows that are not to be kept, one word for each row. Rows are not to be left out in any other way: a column of
/// texts says by the number of a row what was no text.
pub fn keep_rows(batch: &RecordBatch, keep: &[bool]) -> Result<RecordBatch, AdaptError> {
    let kept = filter_record_batch(batch, &BooleanArray::from(keep.to_vec()))?;
    let field = |field: &FieldRef| Kinds::of(field).kept(keep).noted_in(field.as_ref().clone());
    let fields: Vec<Field> = kept.schema_ref().fields().iter().map(field).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(kept.num_rows()));
    let columns = kept.columns().to_vec();
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
}

/// Whether all of the batch could overflow at once. What passes can be shown under every declaration that there may ever be, so a
/// batch that does not is to be refused before anything is promised.
pub fn can_overflow(batch: &RecordBatch) -> Result<(), AdaptError> {
    let most = |text: fn(&str) -> usize| most_overflow(batch, |_| true, text);
    if most(|text| text.len() * 6)? <= MAX_OVERFLOW || most(json_len)? <= MAX_OVERFLOW {
        Ok(())
    } else {
        Err(AdaptError::TooMuchOverflow { max: MAX_OVERFLOW })
    }
}

/// The most bytes that a batch can overflow with if nothing of these columns fits.
pub fn overflow_of(batch: &RecordBatch, columns: impl Fn(&Field) -> bool) -> Result<usize, AdaptError> {
    most_overflow(batch, columns, json_len)
}

/// The same, where `text` says how long a text is in JSON at most.
fn most_overflow(batch: &RecordBatch, columns: impl Fn(&Field) -> bool, text: impl Fn(&str) -> usize) -> Result<usize, AdaptError> {
    // Braces.
    let mut most = batch.num_rows() * 2;
    let all = batch.schema_ref().fields().iter().zip(batch.columns());
    for (field, array) in all.filter(|(field, _)| columns(field)) {
        let values = array.len() - array.null_count();
        // Quotes, colon and comma of the key; then the longest number, or the quotes of a text.
        let each = json_len(field.name()) + 4;
        let value = if is_text(array.data_type()) { 2 } else { 26 };
        most = most.saturating_add(values.saturating_mul(each + value));
        if is_text(array.data_type()) {
            most = cells_as_text(array)?
                .iter()
                .flatten()
                .fold(most, |sum, cell| sum.saturating_add(text(cell)));
        }
    }
    Ok(most)
}

/// How long a text is in JSON, without its quotes.
fn json_len(text: &str) -> usize {
    let each = |byte: u8| match byte {
        b'"' | b'\\' => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(each).sum()
}

#[derive(Clone, Copy)]
enum Fate {
    /// Shown as it is.
    Same,
    /// Shown as this type.
    Typed(ColumnType),
    /// No column of the table.
    Folded,
}

/// Whether all that the column can hold is of this type anyway.
fn is_exactly(field: &Field, of: ColumnType) -> bool {
    let seen = seen_of(field);
    seen.column_type() == Some(of) && *field.data_type() == of.data_type()
}

/// The column as this type; what does not fit goes over.
fn typed(field: &Field, array: &ArrayRef, of: ColumnType, over: &mut Overflow) -> Result<ArrayRef, AdaptError> {
    if of == ColumnType::String {
        // Everything has a text.
        return cast_field(array, &of.data_type());
    }
    let column = SentColumn::new(field, array)?;
    let rows = array.len();
    let mut each = |fits: &mut dyn FnMut(Option<Sent<'_>>) -> bool| -> Result<(), AdaptError> {
        for row in 0..rows {
            let value = column.get(row);
            if !fits(value)
                && let Some(value) = value
            {
                over.take(field.name(), row, &column, &value)?;
            }
        }
        Ok(())
    };
    Ok(match of {
        ColumnType::Long => {
            let mut longs = Int64Builder::with_capacity(rows);
            each(&mut |value| {
                let long = value.and_then(Sent::as_long);
                longs.append_option(long);
                long.is_some()
            })?;
            Arc::new(longs.finish())
        }
        ColumnType::Double => {
            let mut doubles = Float64Builder::with_capacity(rows);
            each(&mut |value| {
                let double = value.and_then(Sent::as_double);
                doubles.append_option(double);
                double.is_some()
            })?;
            Arc::new(doubles.finish())
        }
        ColumnType::Boolean => {
            let mut bools = BooleanBuilder::with_capacity(rows);
            each(&mut |value| {
                let bool = value.and_then(Sent::as_bool);
                bools.append_option(bool);
                bool.is_some()
            })?;
            Arc::new(bools.finish())
        }
        ColumnType::Json | ColumnType::String => {
            let mut texts = StringBuilder::with_capacity(rows, 0);
            each(&mut |value| {
                let json = value.as_ref().and_then(Sent::as_json);
                texts.append_option(json);
                json.is_some()
            })?;
            Arc::new(texts.finish())
        }
    })
}

/// `"key":value` for what has no column, by row, with a comma after each.
#[derive(Default)]
struct Overflow {
    rows: BTreeMap<usize, Vec<u8>>,
    bytes: usize,
}

impl Overflow {
    fn take(&mut self, name: &str, row: usize, column: &SentColumn, value: &Sent<'_>) -> Result<(), AdaptError> {
        let out = self.rows.entry(row).or_default();
        let before = out.len();
        push_json_string(out, name);
        out.push(b':');
        column.push_json(value, out);
        out.push(b',');
        self.bytes += out.len() - before;
        self.check()
    }

    fn take_all(&mut self, field: &Field, array: &ArrayRef) -> Result<(), AdaptError> {
        let column = SentColumn::new(field, array)?;
        for row in 0..array.len() {
            if let Some(value) = column.get(row) {
                self.take(field.name(), row, &column, &value)?;
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), AdaptError> {
        if self.bytes > MAX_OVERFLOW {
            Err(AdaptError::TooMuchOverflow { max: MAX_OVERFLOW })
        } else {
            Ok(())
        }
    }

    /// The column `_overflow`, with what stood there before.
    fn merged(mut self, rows: usize, given: Option<&ArrayRef>) -> Result<ArrayRef, AdaptError> {
        let given = given.map(cells_as_text).transpose()?;
        self.bytes += given.as_ref().map_or(0, |texts| texts.value_data().len());
        self.check()?;
        let mut merged = StringBuilder::with_capacity(rows, self.bytes);
        let mut text = Vec::new();
        for row in 0..rows {
            let before = given.as_ref().filter(|texts| texts.is_valid(row)).map(|texts| texts.value(row));
            let Some(new) = self.rows.remove(&row) else {
                merged.append_option(before);
                continue;
            };
            text.clear();
            text.push(b'{');
            match before.map(|object| (object, object.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')))) {
                None | Some((_, Some(""))) => {}
                Some((_, Some(members))) => {
                    text.extend_from_slice(members.as_bytes());
                    text.push(b',');
                }
                // The decoder makes objects only.
                Some((other, None)) => {
                    push_json_string(&mut text, OVERFLOW);
                    text.push(b':');
                    push_json_string(&mut text, other);
                    text.push(b',');
                }
            }
            text.extend_from_slice(&new);
            // In place of the last comma.
            text.pop();
            text.push(b'}');
            merged.append_value(std::str::from_utf8(&text).map_err(|_| AdaptError::NotText)?);
        }
        Ok(Arc::new(merged.finish()))
    }
}

#[cfg(test)]
mod tests;
