//! What rows say, as one number for each day: to tell whether two ways to the same table lead to the same rows.
//!
//! Promise: it depends on nothing but the values and the key. In which order rows stand, in which files and batches, which of their columns
//! a batch has at all (one that is not there is one without values), and in which order: none of it shows. Each row is hashed, column
//! names and types included, and the hashes are added up, so that a row that is there twice counts twice.
//!
//! The hash is SipHash-1-3 under a secret key. What is lost, doubled or changed by accident shows but for one case in 2^64 (two columns
//! taken for each other) or fewer. So does what somebody changes on purpose who does not have the key, even if they choose all rows.
//!
//! Start at [`Digest::add`].

mod sip;

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, StringArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::record_batch::RecordBatch;
use base::ErrorKind;
use seal::{DataKey, keyed_hash};

use sip::LANES;

/// The way in which rows are hashed. Digests of different versions have nothing in common. Version 1 was BLAKE3 without a key.
pub const DIGEST_VERSION: u8 = 2;

const DAY: i64 = 86_400;
/// How long a sum is.
const SUM: usize = 16;
/// Ends each row.
const END: u64 = 0x656e_6420_6f66_2072;

type Rows = sip::Lanes<1, 3>;

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

/// What rows are hashed under. Digests under different keys have nothing in common.
#[derive(Debug, Clone)]
pub struct DigestKey(DataKey);

impl DigestKey {
    /// From a key that serves nothing else.
    pub fn new(key: DataKey) -> Self {
        Self(key)
    }

    fn of_rows(&self) -> [u64; 2] {
        let hash = keyed_hash(&self.0, b"rows");
        [word(&hash), word(&hash[8..])]
    }

    /// What stands for a column: its type is a number below ten, which no other text begins with that is hashed under this key.
    fn of_column(&self, name: &str, tag: u8) -> u64 {
        word(&keyed_hash(&self.0, &[&[tag], name.as_bytes()].concat()))
    }
}

fn word(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |word| u64::from_le_bytes(*word))
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
    pub fn add(&mut self, key: &DigestKey, rows: &RecordBatch) -> Result<(), DigestError> {
        let time = rows.column_by_name("time").and_then(|time| time.as_primitive_opt::<Int64Type>());
        let time = time.ok_or(DigestError::NoTime)?;
        let mut columns = Vec::new();
        for (field, array) in rows.schema_ref().fields().iter().zip(rows.columns()) {
            if array.null_count() < array.len() {
                columns.push((field.name().as_str(), Values::of(array)?));
            }
        }
        columns.sort_by_key(|(name, _)| *name);
        let columns: Vec<(u64, Values<'_>)> = columns
            .into_iter()
            .map(|(name, values)| (key.of_column(name, values.tag()), values))
            .collect();
        let mut hashes = Box::new(Rows::new(key.of_rows()));
        // Most rows are of the day of the row before.
        let (mut day, mut part) = (0, Part::default());
        for from in (0..rows.num_rows()).step_by(LANES) {
            let count = LANES.min(rows.num_rows() - from);
            hashes.begin();
            for (name, values) in &columns {
                values.hash(*name, from, count, &mut hashes);
            }
            hashes.each(std::iter::repeat_n(END, count));
            hashes.end(count, |lane, sum| {
                let at = if time.is_null(from + lane) { 0 } else { time.value(from + lane) };
                let of = at.div_euclid(DAY);
                if of != day {
                    self.add_part(day, std::mem::take(&mut part));
                    day = of;
                }
                part.add(Part { rows: 1, sum });
            });
        }
        self.add_part(day, part);
        Ok(())
    }

    /// Takes in what was counted elsewhere.
    pub fn add_part(&mut self, day: i64, part: Part) {
        // A day without rows is none.
        if part.rows > 0 {
            self.0.entry(day).or_default().add(part);
        }
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

    const fn tag(&self) -> u8 {
        match self {
            Self::Long(_) => 1,
            Self::Double(_) => 2,
            Self::Bool(_) => 3,
            Self::Text(_) => 4,
        }
    }

    /// Gives each row its value of this column: what stands for the column, then the value. Of a null a row gets nothing.
    fn hash(&self, name: u64, from: usize, count: usize, rows: &mut Rows) {
        match self {
            Self::Long(array) => words(*array, name, &array.values()[from..from + count], from, rows, |long| long as u64),
            // All that is no number is alike, and there is one zero: a copy of a value may hold another form of it.
            Self::Double(array) => words(*array, name, &array.values()[from..from + count], from, rows, |double| {
                canonical(double).to_bits()
            }),
            Self::Bool(array) => {
                for row in (from..from + count).filter(|row| array.is_valid(*row)) {
                    rows.one(row - from, name.wrapping_add(1 + u64::from(array.value(row))));
                }
            }
            Self::Text(array) => {
                let has_nulls = array.null_count() > 0;
                for row in from..from + count {
                    if has_nulls && array.is_null(row) {
                        continue;
                    }
                    let text = array.value(row).as_bytes();
                    rows.one_text(row - from, name.wrapping_add(text.len() as u64), text);
                }
            }
        }
    }
}

/// The same for values of one word.
fn words<T: Copy>(array: &dyn Array, name: u64, values: &[T], from: usize, rows: &mut Rows, word: impl Fn(T) -> u64) {
    if array.null_count() == 0 {
        rows.each(std::iter::repeat_n(name, values.len()));
        rows.each(values.iter().map(|value| word(*value)));
        return;
    }
    for (lane, value) in values.iter().enumerate().filter(|(lane, _)| array.is_valid(from + lane)) {
        rows.one(lane, name);
        rows.one(lane, word(*value));
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

    fn key(seed: u64) -> DigestKey {
        DigestKey::new(DataKey::generate(&base::SeededEntropy::new(seed)))
    }

    fn digest(batches: &[RecordBatch]) -> Digest {
        let mut digest = Digest::new();
        batches.iter().for_each(|batch| digest.add(&key(1), batch).unwrap());
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
    fn an_empty_text_a_null_a_zero_and_false_are_four_things_and_there_is_one_zero_and_one_no_number() {
        let doubles = |value: f64| {
            let all: ArrayRef = Arc::new(Float64Array::from(vec![Some(value)]));
            digest(&[batch(vec![("time", longs(&[Some(1)])), ("a", all)])])
        };
        assert_eq!(doubles(0.0), doubles(-0.0));
        assert_eq!(doubles(f64::NAN), doubles(-f64::NAN));
        let booleans = |value: Option<bool>| {
            let all: ArrayRef = Arc::new(BooleanArray::from(vec![value]));
            digest(&[batch(vec![("time", longs(&[Some(1)])), ("a", all)])])
        };
        let none = digest(&[batch(vec![("time", longs(&[Some(1)]))])]);
        assert_eq!(booleans(None), none);
        let all = [none, booleans(Some(true)), booleans(Some(false)), doubles(0.0), doubles(f64::NAN)];
        let sums: std::collections::BTreeSet<_> = all.iter().map(|digest| digest.whole().sum()).collect();
        assert_eq!(sums.len(), all.len());
    }

    #[test]
    fn without_the_key_nobody_can_tell_what_rows_add_up_to() {
        let rows = batch(vec![("time", longs(&[Some(1)])), ("a", texts(&[Some("x")]))]);
        let under = |seed| {
            let mut digest = Digest::new();
            digest.add(&key(seed), &rows).unwrap();
            digest
        };
        assert_eq!(under(1), under(1));
        assert_ne!(under(1), under(2));
    }

    #[test]
    fn rows_of_many_days_count_each_for_its_own() {
        let days = [3, 3, 5, 3, -1, 0, 0, 5];
        let times: Vec<Option<i64>> = days.iter().cycle().take(LANES * 3 + 5).map(|day| Some(day * DAY + 7)).collect();
        let found = digest(&[batch(vec![("time", longs(&times))])]);
        let rows: Vec<(i64, u64)> = found.days().map(|(day, part)| (day, part.rows)).collect();
        let count = |wanted: i64| times.iter().flatten().filter(|time| time.div_euclid(DAY) == wanted).count() as u64;
        assert_eq!(rows, [-1, 0, 3, 5].map(|day| (day, count(day))));
        assert!(digest(&[batch(vec![("time", longs(&[]))])]).days().next().is_none());
    }

    #[test]
    fn what_is_no_row_of_a_table_has_none() {
        let mut digest = Digest::new();
        assert!(digest.add(&key(1), &batch(vec![("a", longs(&[Some(1)]))])).is_err());
        let strange: ArrayRef = Arc::new(arrow::array::Int32Array::from(vec![1]));
        assert!(
            digest
                .add(&key(1), &batch(vec![("time", longs(&[Some(1)])), ("a", strange)]))
                .is_err()
        );
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
