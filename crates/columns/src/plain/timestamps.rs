//! Timestamps as texts, with every digit that their unit has.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use arrow::error::ArrowError;
use base::Timestamp;

/// The texts of a column of timestamps; `None` for a column of anything else.
pub(super) fn as_texts(array: &ArrayRef) -> Result<Option<ArrayRef>, ArrowError> {
    let DataType::Timestamp(unit, zone) = array.data_type() else {
        return Ok(None);
    };
    let (per_second, digits) = match unit {
        TimeUnit::Second => (1, 0),
        TimeUnit::Millisecond => (1_000, 3),
        TimeUnit::Microsecond => (1_000_000, 6),
        TimeUnit::Nanosecond => (1_000_000_000, 9),
    };
    // Ticks count from 1970 in UTC where a zone is declared. Without one nobody knows what they count from: the text names none.
    let zone = if zone.is_some() { " UTC" } else { "" };
    let ticks = cast(array, &DataType::Int64)?;
    let ticks = ticks.as_primitive::<Int64Type>().iter();
    let texts: StringArray = ticks
        .map(|ticks| ticks.map(|ticks| text(ticks, per_second, digits, zone)))
        .collect();
    Ok(Some(Arc::new(texts)))
}

fn text(ticks: i64, per_second: i64, digits: usize, zone: &str) -> String {
    let (secs, rest) = (ticks.div_euclid(per_second), ticks.rem_euclid(per_second));
    // A moment holds microseconds: seconds beyond its range, some 292,000 years from now, stay a number.
    if i64::checked_mul(secs, 1_000_000).is_none() {
        return ticks.to_string();
    }
    let whole = Timestamp::from_secs(secs).td_string();
    let whole = whole.strip_suffix(" UTC").unwrap_or(&whole);
    if digits == 0 {
        format!("{whole}{zone}")
    } else {
        format!("{whole}.{rest:0digits$}{zone}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_digit_of_a_moment_is_in_its_text() {
        assert_eq!(text(1_700_000_000, 1, 0, " UTC"), "2023-11-14 22:13:20 UTC");
        assert_eq!(text(1_700_000_000_007, 1_000, 3, " UTC"), "2023-11-14 22:13:20.007 UTC");
        assert_eq!(text(1_700_000_000_123_456, 1_000_000, 6, ""), "2023-11-14 22:13:20.123456");
        assert_eq!(
            text(1_700_000_000_000_000_001, 1_000_000_000, 9, ""),
            "2023-11-14 22:13:20.000000001"
        );
        assert_eq!(text(-1, 1_000, 3, " UTC"), "1969-12-31 23:59:59.999 UTC");
        assert_eq!(text(i64::MAX, 1, 0, ""), i64::MAX.to_string());
    }
}
