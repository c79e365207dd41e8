//! The time of a row: in which forms it may be sent, and whether a column of whole seconds holds all of it.
//!
//! A number is read by its size: as seconds where that is a date of the years 1 to 9999, else as milliseconds, else as
//! microseconds. For dates after 1978 the three never overlap.

use arrow::array::timezone::Tz;
use arrow::compute::kernels::cast_utils::string_to_datetime;

use super::RowFault;

/// The first second of the year 1.
const FIRST: i64 = -62_135_596_800;
/// The last second of the year 9999.
const LAST: i64 = 253_402_300_799;

/// A time as read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    /// Whole seconds since 1970, rounded down.
    pub(super) secs: i64,
    /// Whether these seconds are all that was said. If not, what was sent goes to the overflow column as well.
    pub(super) whole: bool,
}

/// From a number of seconds, milliseconds or microseconds.
pub(super) fn of_long(value: i64) -> Result<Moment, RowFault> {
    for unit in [1, 1_000, 1_000_000] {
        let secs = value.div_euclid(unit);
        if (FIRST..=LAST).contains(&secs) {
            let whole = value.rem_euclid(unit) == 0;
            return Ok(Moment { secs, whole });
        }
    }
    Err(RowFault::Time)
}

/// The same with a fraction.
pub(super) fn of_double(value: f64) -> Result<Moment, RowFault> {
    let down = value.floor();
    // Far beyond every time that is taken, and far within what a long holds.
    if down.is_nan() || down.abs() >= 1e18 {
        return Err(RowFault::Time);
    }
    let moment = of_long(down as i64)?;
    Ok(Moment {
        whole: moment.whole && down == value,
        ..moment
    })
}

/// From a text that holds a number, or a date in ISO 8601 as td's clients write it (`2024-05-06 07:08:09 UTC` too). Without an
/// offset it is UTC.
pub(super) fn of_text(text: &str) -> Result<Moment, RowFault> {
    let text = text.trim_ascii();
    if let Ok(value) = text.parse() {
        return of_long(value);
    }
    let digits = |b: &u8| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+' | b'e' | b'E');
    if text.as_bytes().iter().all(digits)
        && let Ok(value) = text.parse()
    {
        return of_double(value);
    }
    // The parser cuts by bytes, which only ASCII stands. The longest date with nine decimals and an offset has 35.
    if !text.is_ascii() || text.len() > 64 {
        return Err(RowFault::Time);
    }
    let date = text.strip_suffix(" UTC").or_else(|| text.strip_suffix(" GMT")).unwrap_or(text);
    let utc: Tz = "+00:00".parse().map_err(|_| RowFault::Time)?;
    let moment = string_to_datetime(&utc, date).map_err(|_| RowFault::Time)?;
    of_parts(moment.timestamp(), moment.timestamp_subsec_nanos())
}

/// From seconds and nanoseconds.
pub(super) fn of_parts(secs: i64, nanos: u32) -> Result<Moment, RowFault> {
    if (FIRST..=LAST).contains(&secs) {
        Ok(Moment { secs, whole: nanos == 0 })
    } else {
        Err(RowFault::Time)
    }
}

/// The timestamp of msgpack itself (-1, in its three lengths), and the event time of the forward protocol (0).
pub(super) fn of_ext(kind: i8, bytes: &[u8]) -> Result<Moment, RowFault> {
    let word = |bytes: &[u8; 4]| u32::from_be_bytes(*bytes);
    match (kind, bytes) {
        (-1, &[a, b, c, d]) => of_parts(i64::from(word(&[a, b, c, d])), 0),
        (-1, bytes) if bytes.len() == 8 => {
            let word = bytes.iter().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
            of_parts((word & ((1 << 34) - 1)) as i64, (word >> 34) as u32)
        }
        (-1, &[a, b, c, d, ref secs @ ..]) => {
            let secs = secs.try_into().map_err(|_| RowFault::Time)?;
            of_parts(i64::from_be_bytes(secs), word(&[a, b, c, d]))
        }
        (0, &[a, b, c, d, e, f, g, h]) => of_parts(i64::from(word(&[a, b, c, d])), word(&[e, f, g, h])),
        _ => Err(RowFault::Time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(secs: i64) -> Result<Moment, RowFault> {
        Ok(Moment { secs, whole: true })
    }

    fn cut(secs: i64) -> Result<Moment, RowFault> {
        Ok(Moment { secs, whole: false })
    }

    #[test]
    fn numbers_are_read_by_their_size() {
        assert_eq!(of_long(0), whole(0));
        assert_eq!(of_long(-5), whole(-5));
        assert_eq!(of_long(LAST), whole(LAST));
        assert_eq!(of_long(1_700_000_000_000), whole(1_700_000_000));
        assert_eq!(of_long(1_700_000_000_001), cut(1_700_000_000));
        assert_eq!(of_long(1_700_000_000_000_000), whole(1_700_000_000));
        assert_eq!(of_long(1_700_000_000_999_999), cut(1_700_000_000));
        assert_eq!(of_long(LAST * 1_000_000 + 999_999), cut(LAST));
        assert_eq!(of_long((LAST + 1) * 1_000_000), Err(RowFault::Time));
        assert_eq!(of_long(i64::MAX), Err(RowFault::Time));
        assert_eq!(of_long(i64::MIN), Err(RowFault::Time));
        assert_eq!(of_double(12.9), cut(12));
        assert_eq!(of_double(-0.5), cut(-1));
        assert_eq!(of_double(1.7e12), whole(1_700_000_000));
        for wrong in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 9.3e18, -9.3e18] {
            assert_eq!(of_double(wrong), Err(RowFault::Time));
        }
    }

    #[test]
    fn texts_hold_numbers_and_dates() {
        assert_eq!(of_text("1700000001"), whole(1_700_000_001));
        assert_eq!(of_text(" 1700000001.75 "), cut(1_700_000_001));
        assert_eq!(of_text("1.7e9"), whole(1_700_000_000));
        assert_eq!(of_text("2023-11-14T22:13:20Z"), whole(1_700_000_000));
        assert_eq!(of_text("2023-11-14 22:13:20 UTC"), whole(1_700_000_000));
        assert_eq!(of_text("2023-11-14 22:13:20"), whole(1_700_000_000));
        assert_eq!(of_text("2023-11-15T00:13:20+02:00"), whole(1_700_000_000));
        assert_eq!(of_text("2023-11-14T22:13:20.123456Z"), cut(1_700_000_000));
        assert_eq!(of_text("2023-11-14"), whole(1_699_920_000));
        for wrong in [
            "",
            "soon",
            "inf",
            "NaN",
            "1e40",
            "2024-13-01",
            "2024-02-30",
            "2024-01-01T25:00:00",
            "2024-01-01 é",
            "--",
            "2024-01-01T00:00:00Zz",
        ] {
            assert_eq!(of_text(wrong), Err(RowFault::Time), "{wrong}");
        }
    }

    #[test]
    fn extension_values_hold_seconds_and_nanoseconds() {
        assert_eq!(of_ext(-1, &[0, 0, 0, 9]), whole(9));
        assert_eq!(of_ext(-1, &[0, 0, 0, 0, 0, 0, 0, 9]), whole(9));
        assert_eq!(of_ext(-1, &[0xff, 0xff, 0xff, 0xfd, 0, 0, 0, 9]), cut((1 << 32) + 9));
        assert_eq!(of_ext(-1, &[[0; 4].as_slice(), &(-9i64).to_be_bytes()].concat()), whole(-9));
        assert_eq!(of_ext(0, &[0, 0, 0, 9, 0, 0, 0, 1]), cut(9));
        for (kind, length) in [(-1, 0), (-1, 11), (0, 4), (3, 8)] {
            assert_eq!(of_ext(kind, &vec![1; length]), Err(RowFault::Time), "{kind} {length}");
        }
        assert_eq!(
            of_ext(-1, &[[0; 4].as_slice(), &i64::MAX.to_be_bytes()].concat()),
            Err(RowFault::Time)
        );
    }
}
