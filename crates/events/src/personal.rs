//! Personal columns: their values taken out for sealing, each with who owns it, and sealed texts put in their place.
//!
//! Promise: after [`replace`] no value of these columns is in the batch any more; null stays null, and an empty text is a value.
//!
//! Knows whose a value is only as a place among the batch's identities. Does not know ciphers.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{ArrayRef, StringBuilder},
    datatypes::Schema,
    record_batch::RecordBatch,
};
use base::{ColumnNames, Secret};

use crate::identities::{Distinct, ReplaceError};
use crate::{AdaptError, Seen, field, text::push_base64, widen::cells_as_text};

/// How the text of a sealed value begins. What follows is base64.
pub const SEALED_PREFIX: &str = "sealed1:";
/// What sealing adds to a value, at most.
const SEALING: usize = 80;
/// What a value takes while it is gathered, besides its text.
const GATHERED: usize = 192;
/// Bytes of one column's texts: their offsets have 31 bits.
const MOST_TEXT: usize = 1 << 30;

/// One value, once for each owner and column that have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonalValue {
    /// Which of the batch's identities owns it; `None` for a row that has none.
    pub owner: Option<usize>,
    /// Which of the columns that were asked for it is of.
    pub column: usize,
    /// The value as text.
    pub value: Secret,
}

/// The distinct personal values of a batch, and where each stood.
#[derive(Debug, Default)]
pub struct Personal {
    values: Vec<PersonalValue>,
    /// Per personal column of the batch: its index there, and per row which value.
    cells: Vec<(usize, Vec<Option<u32>>)>,
}

impl Personal {
    /// The values, in order of first sight.
    pub fn values(&self) -> &[PersonalValue] {
        &self.values
    }

    /// Whether there is nothing to seal and nothing to replace.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// About how much memory the values take until they are replaced, and what replaces them.
    pub fn bytes(&self) -> usize {
        let gathered = |value: &PersonalValue| 2 * value.value.reveal().len() + GATHERED + SEALING;
        let gathered: usize = self.values.iter().map(gathered).sum();
        gathered.saturating_add(self.cells.iter().map(|(_, cells)| self.sealed_len(cells)).sum())
    }

    fn sealed_len(&self, cells: &[Option<u32>]) -> usize {
        let sealed = |cell: &Option<u32>| match cell.and_then(|cell| self.values.get(cell as usize)) {
            Some(value) => size_of::<i32>() + SEALED_PREFIX.len() + (value.value.reveal().len() + SEALING).div_ceil(3) * 4,
            None => size_of::<i32>(),
        };
        cells.iter().map(sealed).sum()
    }
}

/// Gathers the values of those `columns` that the batch has; `identities` are the declared identity columns, `found` what they hold.
/// A row belongs to the first of them, in the order in which they were declared, that has somebody in it.
pub fn gather(batch: &RecordBatch, columns: &[String], identities: &[String], found: &Distinct) -> Result<Personal, AdaptError> {
    let schema = batch.schema();
    let (names, people) = (ColumnNames::new(columns), ColumnNames::new(identities));
    let mut texts = Vec::new();
    for (index, field) in schema.fields().iter().enumerate().skip(1) {
        let place = names.position(field.name());
        // What is an identity becomes an id.
        if let Some(place) = place.filter(|_| !people.contains(field.name())) {
            texts.push((index, place, cells_as_text(batch.column(index))?));
        }
    }
    if texts.is_empty() {
        return Ok(Personal::default());
    }
    let owners = found.owners(batch, identities);
    let mut numbers: HashMap<(Option<u32>, usize, &str), u32> = HashMap::new();
    let mut values = Vec::new();
    let mut cells = Vec::new();
    for (index, column, texts) in &texts {
        let rows = texts.iter().zip(&owners).map(|(text, owner)| {
            let text = text?;
            let number = numbers.entry((*owner, *column, text)).or_insert_with(|| {
                values.push(PersonalValue {
                    owner: owner.map(|owner| owner as usize),
                    column: *column,
                    value: Secret::new(text.to_owned()),
                });
                // Cells are far fewer than 2^32: see `Limits::max_cells`.
                (values.len() - 1) as u32
            });
            Some(*number)
        });
        cells.push((*index, rows.collect()));
    }
    Ok(Personal { values, cells })
}

/// The batch with sealed texts in place of personal values, in order of [`Personal::values`]. The columns become strings.
pub fn replace(batch: &RecordBatch, personal: &Personal, sealed: &[Vec<u8>]) -> Result<RecordBatch, ReplaceError> {
    if sealed.len() != personal.values.len() {
        return Err(ReplaceError::SealedCount {
            values: personal.values.len(),
            sealed: sealed.len(),
        });
    }
    let schema = batch.schema();
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    let mut arrays: Vec<ArrayRef> = batch.columns().to_vec();
    let mut text = Vec::new();
    for (index, cells) in &personal.cells {
        if *index >= arrays.len() || cells.len() != batch.num_rows() {
            return Err(ReplaceError::OtherBatch);
        }
        let expected = personal.sealed_len(cells);
        let mut rows = StringBuilder::with_capacity(cells.len(), expected.min(MOST_TEXT));
        let mut room = MOST_TEXT;
        for cell in cells {
            let Some(cell) = cell else {
                rows.append_null();
                continue;
            };
            let sealed = sealed.get(*cell as usize).ok_or(ReplaceError::OtherBatch)?;
            text.clear();
            text.extend_from_slice(SEALED_PREFIX.as_bytes());
            push_base64(&mut text, sealed);
            room = room.checked_sub(text.len()).ok_or(ReplaceError::TooMuchText)?;
            rows.append_value(std::str::from_utf8(&text).map_err(|_| ReplaceError::OtherBatch)?);
        }
        fields[*index] = Arc::new(field(schema.field(*index).name(), Seen::STRING));
        arrays[*index] = Arc::new(rows.finish());
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}

#[cfg(test)]
mod tests;
