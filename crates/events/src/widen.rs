//! Batches and files of older, narrower types, brought to what their table holds by now.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, StringArray, StringBuilder, new_null_array},
    compute::cast,
    datatypes::{DataType, Field, Float64Type, Int64Type, SchemaRef},
    error::ArrowError,
    record_batch::RecordBatch,
};
use base::ErrorKind;

use crate::{
    ColumnType, TIME, bool_text,
    text::{push_double, push_integer},
};

/// Why a batch does not fit a table. Tables only ever widen, so each of these is a mistake of ours or a changed file.
#[derive(Debug, thiserror::Error)]
pub enum AdaptError {
    /// A type cannot become another without changing values.
    #[error("a column of {from} cannot become one of {to}")]
    Narrower {
        /// What it is.
        from: DataType,
        /// What it should be.
        to: DataType,
    },
    /// A batch without `time`.
    #[error("a batch has no column `time`")]
    NoTime,
    /// More values fit no column than a batch can hold beside its columns.
    #[error("what fits no column takes more than {max} bytes: send it in smaller parts")]
    TooMuchOverflow {
        /// The most, in bytes.
        max: usize,
    },
    /// A text that is none.
    #[error("a text is not UTF-8")]
    NotText,
    /// Arrow could not make the array.
    #[error("a column could not be converted")]
    Arrow(#[from] ArrowError),
}

impl AdaptError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Narrower { .. } | Self::NoTime => ErrorKind::Corrupt,
            Self::TooMuchOverflow { .. } => ErrorKind::TooLarge,
            Self::NotText | Self::Arrow(_) => ErrorKind::Internal,
        }
    }
}

/// Columns that a batch lacks: nulls of its length. All of one type are the same array, so that thousands take no more memory than one.
#[derive(Debug)]
pub struct Missing {
    rows: usize,
    columns: Vec<ArrayRef>,
}

impl Missing {
    /// For a batch of so many rows.
    pub fn of(rows: usize) -> Self {
        Self { rows, columns: Vec::new() }
    }

    /// One of this type.
    pub fn column(&mut self, of: &DataType) -> ArrayRef {
        if let Some(made) = self.columns.iter().find(|column| column.data_type() == of) {
            return Arc::clone(made);
        }
        let column = new_null_array(of, self.rows);
        self.columns.push(Arc::clone(&column));
        column
    }
}

/// The batch with exactly the columns of `schema`: widened where the table has widened, null where the batch has none ([`Missing`]).
pub fn adapt(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, AdaptError> {
    if batch.schema_ref() == schema {
        return Ok(batch.clone());
    }
    let mut missing = Missing::of(batch.num_rows());
    let columns = schema.fields().iter().map(|field| match batch.column_by_name(field.name()) {
        Some(array) => cast_field(array, field.data_type()),
        None if field.name() == TIME => Err(AdaptError::NoTime),
        None => Ok(missing.column(field.data_type())),
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    // A query without columns still counts rows.
    let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

/// The column as a wider type. No value changes: longs become doubles only in columns whose longs doubles hold exactly.
pub fn widen(array: &ArrayRef, to: ColumnType) -> Result<ArrayRef, AdaptError> {
    cast_field(array, &to.data_type())
}

/// The column as Arrow type `to`, which must be as wide or wider. Takes the string types that file readers prefer
/// (views, large, dictionaries) on both sides.
pub fn cast_field(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, AdaptError> {
    if array.data_type() == to {
        return Ok(Arc::clone(array));
    }
    match (array.data_type(), to) {
        // A column that held nothing but nulls has no type yet and is kept as text: it fits everywhere.
        _ if array.null_count() == array.len() => Ok(new_null_array(to, array.len())),
        (DataType::Null, _) => Ok(new_null_array(to, array.len())),
        (DataType::Int64, DataType::Float64) => {
            let doubles = array.as_primitive::<Int64Type>().unary::<_, Float64Type>(|long| long as f64);
            Ok(Arc::new(doubles))
        }
        (from, to) if is_text(from) && is_text(to) => Ok(cast(array, to)?),
        (_, to) if is_text(to) => {
            let texts: ArrayRef = Arc::new(texts_of(array, to)?);
            cast_field(&texts, to)
        }
        (from, to) => Err(AdaptError::Narrower {
            from: from.clone(),
            to: to.clone(),
        }),
    }
}

/// Whether the field is one of text, in any of Arrow's forms.
pub(crate) fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

/// Every value of a boolean, long or double column as text.
fn texts_of(array: &ArrayRef, to: &DataType) -> Result<StringArray, AdaptError> {
    let mut texts = StringBuilder::with_capacity(array.len(), array.len().saturating_mul(8));
    let mut text = Vec::new();
    let mut fill = |write: &dyn Fn(usize, &mut Vec<u8>)| {
        for row in 0..array.len() {
            if array.is_null(row) {
                texts.append_null();
                continue;
            }
            text.clear();
            write(row, &mut text);
            texts.append_value(std::str::from_utf8(&text).expect("numbers and words are written in ASCII"));
        }
    };
    match array.data_type() {
        DataType::Boolean => {
            let bools = array.as_boolean();
            fill(&|row, out| out.extend_from_slice(bool_text(bools.value(row)).as_bytes()));
        }
        DataType::Int64 => {
            let longs = array.as_primitive::<Int64Type>();
            fill(&|row, out| push_integer(out, longs.value(row)));
        }
        DataType::Float64 => {
            let doubles = array.as_primitive::<Float64Type>();
            fill(&|row, out| push_double(out, doubles.value(row)));
        }
        from => {
            return Err(AdaptError::Narrower {
                from: from.clone(),
                to: to.clone(),
            });
        }
    }
    Ok(texts.finish())
}

/// The text of each cell of a column of any type that batches have; `None` for null.
pub(crate) fn cells_as_text(array: &ArrayRef) -> Result<StringArray, AdaptError> {
    let texts = cast_field(array, Field::new("", DataType::Utf8, true).data_type())?;
    Ok(texts.as_string::<i32>().clone())
}

#[cfg(test)]
mod tests {
    use arrow::array::{BooleanArray, Int64Array};
    use arrow::datatypes::Schema;

    use super::*;
    use crate::{Seen, field, time_field};

    #[test]
    fn columns_that_a_batch_lacks_are_one_array_for_each_type() {
        let kinds = [Seen::LONG, Seen::STRING, Seen::JSON];
        let wide = (0..9_000).map(|nth| field(&nth.to_string(), kinds[nth % 3]));
        let schema = Arc::new(Schema::new(std::iter::once(time_field()).chain(wide).collect::<Vec<_>>()));
        let times: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1_000));
        let flags: ArrayRef = Arc::new(BooleanArray::from(vec![true; 1_000]));
        let batch = RecordBatch::try_from_iter([(TIME, times), ("none of these", flags)]).unwrap();
        let adapted = adapt(&batch, &schema).unwrap();
        assert_eq!((adapted.num_rows(), adapted.num_columns()), (1_000, 9_001));
        let mut different: Vec<*const ()> = adapted.columns().iter().map(|column| Arc::as_ptr(column).cast()).collect();
        different.sort_unstable();
        different.dedup();
        // The times, the longs, and the texts.
        assert_eq!(different.len(), 3);
        assert!(adapted.columns().iter().skip(1).all(|column| column.null_count() == 1_000));
    }
}
