//! What rows say, as one number for each day: to tell whether two ways to the same table lead to the same rows.
//!
//! Promise: it depends on nothing but the values. In which order rows stand, in which files and batches, which of their columns a batch
//! has at all (one that is not there is one without values), and in which order: none of it shows. Each row is hashed with BLAKE3, column
//! names and types included, and the hashes are added up, so that a row that is there twice counts twice.
//!
//! It finds what was lost, doubled or changed by accident. Whoever can choose both tables could, with much work, choose two that add up
//! to the same.

use std::collections::{BTreeMap, HashMap};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, StringArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::record_batch::RecordBatch;
use base::ErrorKind;

const DAY: i64 = 86_400;
/// Of the hash of a row, so much is added up.
const SUM: usize = 16;

/// Why rows have no digest: they are not rows of a table.
#[derive(Debug, thiserror::Error)]
pub enum DigestError {
    /// A column of a type that no column of a table has.
    #[error("a column is of {0}, which no column of a table is")]
    Type(DataType),
    /// No time.
    #[error("the rows have no column \"time\" of type long")]
    NoTime,
}

impl DigestError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }
}

/// Some rows: how many, and the sum of their hashes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Part {
    /// How many.
    pub rows: u64,
    sum: u128,
}

impl Part {
    /// As it is stored.
    pub fn from_stored(rows: u64, sum: [u8; SUM]) -> Self {
        Self {
            rows,
            sum: u128::from_be_bytes(sum),
        }
    }

    /// The number that two of the same rows have in common.
    pub fn sum(&self) -> [u8; SUM] {
        self.sum.to_be_bytes()
    }

    fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

/// The rows of a table, by day in UTC.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Digest(BTreeMap<i64, Part>);

impl Digest {
    /// Of no rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes rows in, whose columns are of their table's present types. Takes CPU for a while.
    pub fn add(&mut self, rows: &RecordBatch) -> Result<(), DigestError> {
        let time = rows.column_by_name("time").and_then(|time| time.as_primitive_opt::<Int64Type>());
        let time = time.ok_or(DigestError::NoTime)?;
        let mut columns = Vec::new();
        for (field, array) in rows.schema_ref().fields().iter().zip(rows.columns()) {
            if array.null_count() < array.len() {
                columns.push((field.name().as_str(), Values::of(array)?));
            }
        }
        columns.sort_by_key(|(name, _)| *name);
        let mut shapes = Shapes::of(&columns);
        let mut row_bytes = Vec::with_capacity(1_024);
        for row in 0..rows.num_rows() {
            row_bytes.clear();
            row_bytes.extend(shapes.of_row(row));
            for (_, values) in &columns {
                values.push(row, &mut row_bytes);
            }
            let hash = blake3::hash(&row_bytes);
            let mut sum = [0; SUM];
            sum.copy_from_slice(&hash.as_bytes()[..SUM]);
            let at = if time.is_null(row) { 0 } else { time.value(row) };
            self.add_part(at.div_euclid(DAY), Part::from_stored(1, sum));
        }
        Ok(())
    }

    /// Takes in what was counted elsewhere.
    pub fn add_part(&mut self, day: i64, part: Part) {
        self.0.entry(day).or_default().add(part);
    }

    /// Takes in other rows.
    pub fn merge(&mut self, other: &Self) {
        for (day, part) in &other.0 {
            self.add_part(*day, *part);
        }
    }

    /// All rows together.
    pub fn whole(&self) -> Part {
        let mut whole = Part::default();
        self.0.values().for_each(|part| whole.add(*part));
        whole
    }

    /// Each day, as its number since the epoch, with its rows.
    pub fn days(&self) -> impl Iterator<Item = (i64, Part)> {
        self.0.iter().map(|(day, part)| (*day, *part))
    }
}

/// The values of one column.
enum Values<'a> {
    Long(&'a Int64Array),
    Double(&'a Float64Array),
    Bool(&'a BooleanArray),
    Text(&'a StringArray),
}

impl<'a> Values<'a> {
    fn of(array: &'a ArrayRef) -> Result<Self, DigestError> {
        Ok(match array.data_type() {
            DataType::Int64 => Self::Long(array.as_primitive::<Int64Type>()),
            DataType::Float64 => Self::Double(array.as_primitive::<Float64Type>()),
            DataType::Boolean => Self::Bool(array.as_boolean()),
            DataType::Utf8 => Self::Text(array.as_string::<i32>()),
            other => return Err(DigestError::Type(other.clone())),
        })
    }

    fn array(&self) -> &dyn Array {
        match self {
            Self::Long(array) => *array,
            Self::Double(array) => *array,
            Self::Bool(array) => *array,
            Self::Text(array) => *array,
        }
    }

    const fn tag(&self) -> u8 {
        match self {
            Self::Long(_) => 1,
            Self::Double(_) => 2,
            Self::Bool(_) => 3,
            Self::Text(_) => 4,
        }
    }

    /// Nothing for a null. Each value says where it ends.
    fn push(&self, row: usize, to: &mut Vec<u8>) {
        if self.array().is_null(row) {
            return;
        }
        match self {
            Self::Long(array) => to.extend(array.value(row).to_le_bytes()),
            // All that is no number is alike, and there is one zero: a copy of a value may hold another form of it.
            Self::Double(array) => to.extend(canonical(array.value(row)).to_le_bytes()),
            Self::Bool(array) => to.push(u8::from(array.value(row))),
            Self::Text(array) => {
                let text = array.value(row).as_bytes();
                to.extend((text.len() as u64).to_le_bytes());
                to.extend(text);
            }
        }
    }
}

fn canonical(value: f64) -> f64 {
    if value.is_nan() {
        f64::NAN
    } else if value == 0.0 {
        0.0
    } else {
        value
    }
}

/// Which columns of a row have values, as a hash of their names and types.
struct Shapes<'a> {
    columns: &'a [(&'a str, Values<'a>)],
    known: HashMap<Vec<u64>, [u8; SUM]>,
    present: Vec<u64>,
    last: Option<(Vec<u64>, [u8; SUM])>,
}

impl<'a> Shapes<'a> {
    fn of(columns: &'a [(&'a str, Values<'a>)]) -> Self {
        Self {
            columns,
            known: HashMap::new(),
            present: vec![0; columns.len().div_ceil(64)],
            last: None,
        }
    }

    fn of_row(&mut self, row: usize) -> [u8; SUM] {
        self.present.fill(0);
        for (at, (_, values)) in self.columns.iter().enumerate() {
            if !values.array().is_null(row) {
                self.present[at / 64] |= 1 << (at % 64);
            }
        }
        if let Some((present, hash)) = &self.last
            && *present == self.present
        {
            return *hash;
        }
        let hash = match self.known.get(&self.present) {
            Some(hash) => *hash,
            None => {
                let hash = self.hash();
                // Every row may have a shape of its own.
                if self.known.len() < 1_024 {
                    self.known.insert(self.present.clone(), hash);
                }
                hash
            }
        };
        self.last = Some((self.present.clone(), hash));
        hash
    }

    fn hash(&self) -> [u8; SUM] {
        let mut hasher = blake3::Hasher::new();
        for (at, (name, values)) in self.columns.iter().enumerate() {
            if self.present[at / 64] & (1 << (at % 64)) != 0 {
                hasher.update(&(name.len() as u64).to_le_bytes());
                hasher.update(name.as_bytes());
                hasher.update(&[values.tag()]);
            }
        }
        let mut hash = [0; SUM];
        hash.copy_from_slice(&hasher.finalize().as_bytes()[..SUM]);
        hash
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::compute::{concat_batches, take_record_batch};
    use proptest::prelude::*;

    use super::*;

    fn longs(values: &[Option<i64>]) -> ArrayRef {
        Arc::new(Int64Array::from(values.to_vec()))
    }

    fn texts(values: &[Option<&str>]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
    }

    fn digest(batches: &[RecordBatch]) -> Digest {
        let mut digest = Digest::new();
        batches.iter().for_each(|batch| digest.add(batch).unwrap());
        digest
    }

    #[test]
    fn order_files_and_columns_without_values_do_not_show() {
        let (time, a, b) = (
            longs(&[Some(1), Some(90_000), Some(2)]),
            texts(&[Some("x"), None, Some("")]),
            longs(&[None, Some(5), None]),
        );
        let whole = batch(vec![("time", time.clone()), ("a", a.clone()), ("b", b.clone())]);
        let turned = batch(vec![("b", b), ("c", texts(&[None, None, None])), ("a", a), ("time", time)]);
        let order = arrow::array::UInt32Array::from(vec![2, 0, 1]);
        let turned = take_record_batch(&turned, &order).unwrap();
        let expected = digest(std::slice::from_ref(&whole));
        assert_eq!(digest(&[turned]), expected);
        assert_eq!(digest(&[whole.slice(2, 1), whole.slice(0, 2)]), expected);
        let without = batch(vec![("time", longs(&[Some(1)])), ("a", texts(&[Some("x")]))]);
        assert_eq!(digest(&[without, whole.slice(1, 2)]), expected);
        assert_eq!(
            expected.days().map(|(day, part)| (day, part.rows)).collect::<Vec<_>>(),
            [(0, 2), (1, 1)]
        );
        let mut in_parts = Digest::new();
        for (day, part) in expected.days() {
            in_parts.add_part(day, Part::from_stored(part.rows, part.sum()));
        }
        assert_eq!((in_parts.whole(), in_parts), (expected.whole(), expected));
    }

    #[test]
    fn every_other_value_shows() {
        let base = || vec![("time", longs(&[Some(1)])), ("a", texts(&[Some("xy")])), ("b", texts(&[Some("z")]))];
        let changed = |at: usize, to: (&'static str, ArrayRef)| {
            let mut columns = base();
            columns[at] = to;
            batch(columns)
        };
        let all = [
            batch(base()),
            changed(0, ("time", longs(&[Some(2)]))),
            changed(1, ("a", texts(&[Some("x")]))),
            changed(1, ("a", texts(&[None]))),
            changed(1, ("a", texts(&[Some("")]))),
            changed(1, ("c", texts(&[Some("xy")]))),
            changed(1, ("a", longs(&[Some(1)]))),
            changed(1, ("a", Arc::new(Float64Array::from(vec![1.0])))),
            changed(1, ("a", Arc::new(BooleanArray::from(vec![true])))),
            // What ends in one column does not begin in the next.
            batch(vec![
                ("time", longs(&[Some(1)])),
                ("a", texts(&[Some("x")])),
                ("b", texts(&[Some("yz")])),
            ]),
            batch(vec![
                ("time", longs(&[Some(1)])),
                ("a", texts(&[Some("z")])),
                ("b", texts(&[Some("xy")])),
            ]),
            concat_batches(batch(base()).schema_ref(), &[batch(base()), batch(base())]).unwrap(),
        ];
        let sums: std::collections::BTreeSet<_> = all.iter().map(|batch| digest(std::slice::from_ref(batch)).whole().sum()).collect();
        assert_eq!(sums.len(), all.len());
        // And a value does not go over to another row.
        let two = |one: &str, other: &str| batch(vec![("time", longs(&[Some(1), Some(2)])), ("a", texts(&[Some(one), Some(other)]))]);
        assert_ne!(digest(&[two("x", "y")]), digest(&[two("y", "x")]));
    }

    #[test]
    fn what_is_no_row_of_a_table_has_none() {
        let mut digest = Digest::new();
        assert!(digest.add(&batch(vec![("a", longs(&[Some(1)]))])).is_err());
        let strange: ArrayRef = Arc::new(arrow::array::Int32Array::from(vec![1]));
        assert!(digest.add(&batch(vec![("time", longs(&[Some(1)])), ("a", strange)])).is_err());
        assert_eq!(digest, Digest::new());
    }

    proptest! {
        #[test]
        fn cut_anywhere_it_is_the_same(rows in prop::collection::vec((any::<i32>(), prop::option::of(".{0,5}")), 0..40), at in 0usize..40) {
            let time: Vec<_> = rows.iter().map(|(time, _)| Some(i64::from(*time))).collect();
            let text: Vec<_> = rows.iter().map(|(_, text)| text.as_deref()).collect();
            let whole = batch(vec![("time", longs(&time)), ("a", texts(&text))]);
            let at = at.min(whole.num_rows());
            let cut = [whole.slice(at, whole.num_rows() - at), whole.slice(0, at)];
            prop_assert_eq!(digest(&cut), digest(&[whole]));
        }
    }
}
