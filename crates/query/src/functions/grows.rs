//! How much a call makes at most, out of what it is given.
//!
//! Promise: no function of the engine that can make more than a few times what it is given is missing here; one that nobody
//! has looked at is taken to put its arguments together. Start at [`Grows::of`] and [`Grows::bytes`].
//! Knows the functions by name. Does not know what is done about a call that makes too much.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit};
use datafusion::common::Result;
use datafusion::logical_expr::ColumnarValue;

use super::sizes::{PLACE, items, leaves, sizes, width};
use super::work;

/// What says how much a call makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Grows {
    /// All arguments, one after the other.
    Parts,
    /// All arguments, each in a place of its own.
    Places,
    /// The first argument between all others.
    Joined,
    /// The first argument as often as the second says.
    Times,
    /// As many characters as the second argument says.
    To,
    /// The first argument as an item, as often as the second says.
    Items,
    /// A list as long as the second argument says, filled with the third.
    Filled,
    /// One item for each step between the first arguments.
    Between,
    /// The third argument wherever the second is found in the first.
    Replaced,
    /// The third argument wherever the pattern matches the first.
    Matched,
    /// A copy of the first argument for each group of the pattern.
    Groups,
    /// Two characters for a byte.
    Encoded,
    /// What each letter of the second argument, a format, stands for.
    Formatted,
    /// The third argument in place of items of the first.
    Exchanged,
    /// As many items as the longest list has, from each list.
    Zipped,
    /// The items of a list as text, the other arguments between them.
    Written,
    /// A place for every piece of a text.
    Split,
    /// Another type: of a fixed size, it takes as much where nothing is.
    Cast,
    /// Little. It is bounded for its work.
    Little,
}

impl Grows {
    /// What says how much the function of this name makes; none for one that makes a few times what it is given at most.
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "repeat" => Self::Times,
            "lpad" | "rpad" => Self::To,
            "array_repeat" => Self::Items,
            "array_resize" => Self::Filled,
            "range" | "generate_series" => Self::Between,
            "replace" => Self::Replaced,
            "regexp_replace" => Self::Matched,
            "regexp_match" => Self::Groups,
            "concat_ws" => Self::Joined,
            "encode" => Self::Encoded,
            "to_char" => Self::Formatted,
            "array_replace" | "array_replace_n" | "array_replace_all" => Self::Exchanged,
            "arrays_zip" => Self::Zipped,
            "array_to_string" => Self::Written,
            "string_to_array" => Self::Split,
            "arrow_cast" | "arrow_try_cast" | "cast_to_type" | "try_cast_to_type" => Self::Cast,
            "make_array" | "array_append" | "array_prepend" | "array_concat" | "array_union" | "map" | "struct" | "named_struct" => {
                Self::Places
            }
            _ if work::is_bounded(name) => Self::Little,
            _ if STEADY.contains(&name) => return None,
            _ => Self::Parts,
        })
    }

    /// The most that a call makes for each of `rows` rows, as a value of type `made`.
    pub(super) fn bytes(self, arguments: &[ColumnarValue], rows: usize, made: &DataType) -> Result<Vec<u64>> {
        let given = Given { arguments, rows };
        let each = |bytes: &dyn Fn(usize) -> u64| (0..rows).map(bytes).collect::<Vec<_>>();
        let all = |least: u64| -> Result<Vec<u64>> {
            arguments
                .iter()
                .enumerate()
                .try_fold(vec![0; rows], |mut sums: Vec<u64>, (nth, _)| {
                    let size = given.size(nth)?;
                    sums.iter_mut()
                        .enumerate()
                        .for_each(|(row, sum)| *sum = sum.saturating_add(size.get(row).max(least)));
                    Ok(sums)
                })
        };
        let first = || given.size(0);
        Ok(match self {
            Self::Parts => all(0)?,
            Self::Places => all(PLACE)?,
            Self::Joined => {
                let (between, gaps) = (first()?, arguments.len().saturating_sub(3) as u64);
                let parts = all(0)?;
                each(&|row| parts[row].saturating_add(between.get(row).saturating_mul(gaps)))
            }
            Self::Times => {
                let (text, times) = (first()?, given.number(1)?);
                each(&|row| text.get(row).saturating_mul(times.get(row)))
            }
            Self::To => {
                let characters = given.number(1)?;
                each(&|row| characters.get(row).saturating_mul(4))
            }
            Self::Items => {
                let (item, times, least) = (first()?, given.number(1)?, given.width(0));
                each(&|row| item.get(row).max(least).saturating_mul(times.get(row)))
            }
            Self::Filled => {
                let (list, length, filling) = (first()?, given.number(1)?, given.size(2)?);
                let least = width(item_of(made));
                each(&|row| {
                    list.get(row)
                        .saturating_add(filling.get(row).max(least).saturating_mul(length.get(row)))
                })
            }
            Self::Between => given.between()?.into_iter().map(|steps| steps.saturating_mul(PLACE)).collect(),
            Self::Replaced => {
                let (text, wanted, instead) = (first()?, given.size(1)?, given.size(2)?);
                each(&|row| {
                    let found = text.get(row).checked_div(wanted.get(row)).unwrap_or(0);
                    text.get(row).saturating_add(found.saturating_mul(instead.get(row)))
                })
            }
            Self::Matched => {
                let (text, instead) = (first()?, given.size(2)?);
                let (references, everywhere) = (given.count(2, &['$', '\\'])?, given.count(3, &['g'])?);
                each(&|row| {
                    let found = if everywhere.get(row) > 0 {
                        text.get(row).saturating_add(1)
                    } else {
                        1
                    };
                    let copies = references.get(row).saturating_add(1).saturating_mul(text.get(row));
                    copies.saturating_add(found.saturating_mul(instead.get(row)))
                })
            }
            Self::Groups => {
                let (text, groups) = (first()?, given.count(1, &['('])?);
                each(&|row| groups.get(row).saturating_add(1).saturating_mul(text.get(row).max(PLACE)))
            }
            Self::Encoded => {
                let bytes = first()?;
                each(&|row| bytes.get(row).saturating_mul(2))
            }
            Self::Formatted => {
                let format = given.size(1)?;
                // "%+" alone is a whole moment with its zone.
                each(&|row| format.get(row).saturating_mul(20).saturating_add(64))
            }
            Self::Exchanged => {
                let (list, places, instead) = (first()?, given.each(0, items)?, given.size(2)?);
                each(&|row| list.get(row).saturating_add(places.get(row).saturating_mul(instead.get(row))))
            }
            Self::Zipped => {
                let (lists, least) = (all(0)?, width(item_of(made)));
                let places = (0..arguments.len()).map(|nth| given.each(nth, items)).collect::<Result<Vec<_>>>()?;
                each(&|row| {
                    let longest = places.iter().map(|places| places.get(row)).max().unwrap_or(0);
                    lists[row].saturating_add(longest.saturating_mul(least))
                })
            }
            Self::Written => {
                let (list, leaves) = (first()?, given.each(0, leaves)?);
                let (between, missing) = (given.size(1)?, given.size(2)?);
                let written = longest_text(&arguments[0].data_type());
                each(&|row| {
                    let item = between.get(row).saturating_add(missing.get(row).max(written));
                    list.get(row).saturating_add(leaves.get(row).saturating_mul(item))
                })
            }
            Self::Split => {
                let text = first()?;
                each(&|row| text.get(row).saturating_add(1).saturating_mul(PLACE))
            }
            Self::Cast => {
                let (value, least) = (first()?, width(made));
                each(&|row| value.get(row).max(least))
            }
            Self::Little => vec![0; rows],
        })
    }
}

/// The arguments of a call.
struct Given<'a> {
    arguments: &'a [ColumnarValue],
    rows: usize,
}

/// A number for each row, or one for all of them.
enum Each {
    One(u64),
    Many(Vec<u64>),
}

impl Each {
    fn get(&self, row: usize) -> u64 {
        match self {
            Self::One(one) => *one,
            Self::Many(many) => many.get(row).copied().unwrap_or(0),
        }
    }
}

impl Given<'_> {
    /// What `of` says of an argument; zero where there is no such argument.
    fn each(&self, nth: usize, of: impl Fn(&dyn Array) -> Vec<u64>) -> Result<Each> {
        Ok(match self.arguments.get(nth) {
            None => Each::One(0),
            Some(ColumnarValue::Array(array)) => Each::Many(of(array.as_ref())),
            Some(ColumnarValue::Scalar(value)) => Each::One(of(value.to_array_of_size(1)?.as_ref()).first().copied().unwrap_or(0)),
        })
    }

    fn size(&self, nth: usize) -> Result<Each> {
        self.each(nth, sizes)
    }

    fn width(&self, nth: usize) -> u64 {
        self.arguments.get(nth).map_or(PLACE, |argument| width(&argument.data_type()))
    }

    /// A number that is not below zero.
    fn number(&self, nth: usize) -> Result<Each> {
        let Some(argument) = self.arguments.get(nth) else {
            return Ok(Each::One(0));
        };
        let array = match argument {
            ColumnarValue::Array(array) => Arc::clone(array),
            ColumnarValue::Scalar(value) => value.to_array_of_size(1)?,
        };
        let numbers = numbers(&array)?;
        let number = |row| u64::try_from(numbers.get(row)).unwrap_or(0);
        Ok(match argument {
            ColumnarValue::Array(_) => Each::Many((0..array.len()).map(number).collect()),
            ColumnarValue::Scalar(_) => Each::One(number(0)),
        })
    }

    /// How many of these characters stand in a text.
    fn count(&self, nth: usize, wanted: &[char]) -> Result<Each> {
        let Some(argument) = self.arguments.get(nth) else {
            return Ok(Each::One(0));
        };
        let text = cast(
            &argument.to_array(if matches!(argument, ColumnarValue::Array(_)) {
                self.rows
            } else {
                1
            })?,
            &DataType::Utf8,
        )?;
        let counts: Vec<u64> = text
            .as_string::<i32>()
            .iter()
            .map(|text| text.map_or(0, |text| text.matches(wanted).count() as u64))
            .collect();
        Ok(match argument {
            ColumnarValue::Array(_) => Each::Many(counts),
            ColumnarValue::Scalar(_) => Each::One(counts.first().copied().unwrap_or(0)),
        })
    }

    /// The steps from the first argument to the second, or from zero to the first.
    fn between(&self) -> Result<Vec<u64>> {
        let arrays = self
            .arguments
            .iter()
            .map(|argument| argument.to_array(self.rows))
            .collect::<Result<Vec<_>>>()?;
        let (from, to, step) = match arrays.as_slice() {
            [] => return Ok(vec![0; self.rows]),
            [to] => (None, numbers(to)?, None),
            [from, to] => (Some(numbers(from)?), numbers(to)?, None),
            [from, to, step, ..] => (Some(numbers(from)?), numbers(to)?, Some(numbers(step)?)),
        };
        let steps = |row| {
            let from = from.as_ref().map_or(0, |from| from.get(row));
            let step = step.as_ref().map_or(1, |step| step.get(row)).unsigned_abs().max(1);
            to.get(row).abs_diff(from) / step
        };
        Ok((0..self.rows).map(steps).collect())
    }
}

/// Whole numbers; moments and spans as nanoseconds.
struct Numbers(ArrayRef);

impl Numbers {
    /// The number in a row, zero where there is none.
    fn get(&self, row: usize) -> i64 {
        let numbers = self.0.as_primitive::<Int64Type>();
        if numbers.is_null(row) { 0 } else { numbers.value(row) }
    }
}

fn numbers(array: &ArrayRef) -> Result<Numbers> {
    const DAY: i64 = 86_400_000_000_000;
    let array = match array.data_type() {
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => cast(array, &DataType::Timestamp(TimeUnit::Nanosecond, None))?,
        DataType::Interval(_) => {
            let spans = cast(array, &DataType::Interval(IntervalUnit::MonthDayNano))?;
            let nanos = spans.as_primitive::<IntervalMonthDayNanoType>().unary::<_, Int64Type>(|span| {
                let days = i64::from(span.months).saturating_mul(28).saturating_add(i64::from(span.days));
                days.saturating_mul(DAY).saturating_add(span.nanoseconds)
            });
            Arc::new(nanos) as ArrayRef
        }
        _ => Arc::clone(array),
    };
    Ok(Numbers(cast(&array, &DataType::Int64)?))
}

fn item_of(list: &DataType) -> &DataType {
    match list {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => item.data_type(),
        other => other,
    }
}

/// As long as one value of this type, other than a text, gets when it is written.
fn longest_text(list: &DataType) -> u64 {
    match list {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => longest_text(item.data_type()),
        // Written without an exponent.
        DataType::Float16 | DataType::Float32 | DataType::Float64 => 330,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => 0,
        _ => 80,
    }
}

/// Functions that make at most a few times what they are given, and not more when one is put into another.
#[rustfmt::skip]
pub(super) const STEADY: [&str; 138] = [
    "abs", "nullif", "arrow_field", "nvl", "nvl2", "arrow_typeof", "get_field", "coalesce", "greatest", "least",
    "union_extract", "union_tag", "current_date", "current_time", "date_bin", "date_part", "date_trunc",
    "from_unixtime", "make_date", "make_time", "now", "to_date", "to_local_time", "to_time", "to_unixtime",
    "to_timestamp", "to_timestamp_seconds", "to_timestamp_millis", "to_timestamp_micros", "to_timestamp_nanos",
    "decode", "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "ceil", "cos", "cosh", "cot",
    "degrees", "exp", "factorial", "floor", "gcd", "isnan", "iszero", "lcm", "ln", "log", "log2", "log10", "nanvl",
    "pi", "power", "radians", "random", "signum", "sin", "sinh", "sqrt", "tan", "tanh", "round", "trunc",
    "digest", "md5", "sha224", "sha256", "sha384", "sha512",
    "character_length", "find_in_set", "initcap", "left", "reverse", "right", "strpos", "substr", "substr_index",
    "translate", "ascii", "bit_length", "btrim", "chr", "ends_with", "lower", "ltrim", "octet_length",
    "rtrim", "split_part", "starts_with", "to_hex", "upper", "uuid", "contains", "array_compact", "array_dims",
    "cardinality", "array_ndims", "array_except", "array_element", "array_pop_back", "array_pop_front", "array_slice",
    "array_any_value", "array_has", "empty", "array_length", "array_normalize",
    "array_add", "array_avg", "array_product", "array_scale", "array_subtract", "array_sum", "cosine_distance",
    "inner_product", "array_distance", "flatten", "array_max", "array_min", "array_sort", "array_reverse",
    "array_distinct", "array_intersect", "array_position", "array_positions", "array_remove", "array_remove_all",
    "array_remove_n", "map_entries", "map_extract", "map_keys", "map_values",
];
