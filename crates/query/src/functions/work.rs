//! Functions that work long on little, held to a bound: a call cannot be broken off before its batch of rows is done.
//!
//! Knows them by name. Does not know how much they make.

use std::collections::HashSet;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{ColumnarValue, Expr};

use super::sizes::{items, sizes};

/// How many pairs of characters or items are compared in one call: about a second's work.
const MOST_PAIRS: u64 = 300_000_000;
/// How many patterns a call may translate. Each of them can take ten megabytes and a tenth of a second.
const MOST_PATTERNS: usize = 16;

/// What a function does with its arguments.
enum Work {
    /// Compares each part of the first with each of the second.
    Pairs(fn(&dyn Array) -> Vec<u64>),
    /// Translates its second argument, a pattern, under the flags in this place.
    Patterns { flags: usize },
}

impl Work {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "levenshtein" => Self::Pairs(sizes),
            "array_has_all" | "array_has_any" => Self::Pairs(items),
            "regexp_like" | "regexp_match" => Self::Patterns { flags: 2 },
            "regexp_count" | "regexp_replace" => Self::Patterns { flags: 3 },
            "regexp_instr" => Self::Patterns { flags: 4 },
            _ => return None,
        })
    }
}

/// Whether a function is one of those that are held to a bound here.
pub(super) fn is_bounded(name: &str) -> bool {
    Work::of(name).is_some()
}

/// Refuses a call that would work too long.
pub(super) fn check(name: &str, arguments: &[ColumnarValue], rows: usize) -> Result<()> {
    match (Work::of(name), arguments) {
        (Some(Work::Pairs(parts)), [first, second, ..]) => pairs(name, first, second, rows, parts),
        (Some(Work::Patterns { flags }), [_, pattern, ..]) => patterns(name, pattern, arguments.get(flags)),
        _ => Ok(()),
    }
}

/// Whether the engine may make something else of a call, an operator say, that nobody would hold to the bound.
pub(super) fn may_become_an_operator(name: &str, arguments: &[Expr]) -> bool {
    match Work::of(name) {
        Some(Work::Patterns { .. }) => matches!(arguments.get(1), Some(Expr::Literal(..))),
        _ => true,
    }
}

fn pairs(name: &str, first: &ColumnarValue, second: &ColumnarValue, rows: usize, parts: fn(&dyn Array) -> Vec<u64>) -> Result<()> {
    let counted = |argument: &ColumnarValue| -> Result<Vec<u64>> {
        Ok(match argument {
            ColumnarValue::Array(array) => parts(array.as_ref()),
            ColumnarValue::Scalar(value) => {
                let one = parts(value.to_array_of_size(1)?.as_ref());
                vec![one.first().copied().unwrap_or(0); rows]
            }
        })
    };
    let (first, second) = (counted(first)?, counted(second)?);
    let all = first
        .iter()
        .zip(&second)
        .fold(0u64, |sum, (first, second)| sum.saturating_add(first.saturating_mul(*second)));
    if all > MOST_PAIRS {
        return exec_err!("{name} would compare more than {MOST_PAIRS} pairs at once: ask for shorter values");
    }
    Ok(())
}

fn patterns(name: &str, pattern: &ColumnarValue, flags: Option<&ColumnarValue>) -> Result<()> {
    let text = |argument: Option<&ColumnarValue>| -> Result<Option<ArrayRef>> {
        match argument {
            Some(ColumnarValue::Array(array)) => Ok(Some(cast(array, &DataType::Utf8)?)),
            _ => Ok(None),
        }
    };
    let (patterns, flags) = (text(Some(pattern))?, text(flags)?);
    let rows = patterns.as_ref().or(flags.as_ref()).map_or(0, Array::len);
    let value = |array: &Option<ArrayRef>, row: usize| -> Option<String> {
        let array = array.as_ref()?.as_string::<i32>();
        array.is_valid(row).then(|| array.value(row).to_owned())
    };
    let mut seen = HashSet::new();
    for row in 0..rows {
        seen.insert((value(&patterns, row), value(&flags, row)));
        if seen.len() > MOST_PATTERNS {
            return exec_err!("{name} would translate more than {MOST_PATTERNS} patterns at once: write the pattern as a text in quotes");
        }
    }
    Ok(())
}
