//! Moments as td clients read them: always strings, or null for what has not happened. A number would crash some of them.

use base::Timestamp;
use serde_json::Value;

/// `YYYY-MM-DD hh:mm:ss UTC`, from microseconds; 0 is null.
pub(crate) fn td(micros: i64) -> Value {
    if micros == 0 {
        Value::Null
    } else {
        Value::String(Timestamp::from_micros(micros).td_string())
    }
}

/// ISO 8601, from microseconds; 0 is null.
pub(crate) fn iso(micros: i64) -> Value {
    if micros == 0 {
        Value::Null
    } else {
        Value::String(Timestamp::from_micros(micros).to_string())
    }
}

/// ISO 8601, from seconds; 0 is null, and so is what no calendar of a client can hold.
pub(crate) fn iso_secs(secs: i64) -> Value {
    const YEAR_1: i64 = -62_135_596_800;
    const YEAR_10000: i64 = 253_402_300_800;
    if secs == 0 || !(YEAR_1..YEAR_10000).contains(&secs) {
        Value::Null
    } else {
        Value::String(Timestamp::from_secs(secs).to_string())
    }
}

/// Whole seconds between two moments in microseconds; null while one of them has not happened.
pub(crate) fn seconds_between(from: i64, to: i64) -> Value {
    if from == 0 || to == 0 {
        Value::Null
    } else {
        (to.saturating_sub(from) / 1_000_000).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_strings_or_null() {
        assert_eq!(td(1_700_000_000_000_000), "2023-11-14 22:13:20 UTC");
        assert_eq!(iso(1_700_000_000_999_999), "2023-11-14T22:13:20Z");
        assert_eq!(iso_secs(951_868_800), "2000-03-01T00:00:00Z");
        for nothing in [
            td(0),
            iso(0),
            iso_secs(0),
            iso_secs(i64::MAX),
            iso_secs(i64::MIN),
            seconds_between(0, 5),
            seconds_between(5, 0),
        ] {
            assert_eq!(nothing, Value::Null);
        }
        assert_eq!(seconds_between(1_000_000, 3_900_000), 2);
    }
}
