//! When an event happened: four ways in which files say it, recognised from a sample or named by the sender.
//!
//! Promise: a time is never taken for something that it might not be. Where values are not all of one kind, nothing is recognised.

use std::sync::LazyLock;

use base::{Clock as _, SystemClock};
use clap::ValueEnum;

/// How times are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TimeFormat {
    /// Seconds since 1970, with or without a fraction
    Seconds,
    /// Milliseconds since 1970
    Milliseconds,
    /// Microseconds since 1970
    Microseconds,
    /// Such as 2026-11-23T10:00:00Z; without a zone it is UTC
    Iso8601,
}

/// From 1990 until a year from now numbers are told apart by their size alone, and from dates written without signs between their
/// parts: 20240102153000 would be milliseconds of the year 2611, 2024010215 seconds of 2034.
const LEAST: i64 = 631_152_000;
static MOST: LazyLock<i64> = LazyLock::new(|| SystemClock.now().as_secs() + 366 * 86_400);

impl TimeFormat {
    /// What this text is, if it can be only one thing.
    pub(super) fn of(text: &str) -> Option<Self> {
        let text = text.trim_ascii();
        let Some(number) = Number::read(text) else {
            return civil_seconds(text).map(|_| Self::Iso8601);
        };
        let within = |unit: i64| !number.negative && (LEAST..*MOST).contains(&(number.whole / unit));
        [(1, Self::Seconds), (1_000, Self::Milliseconds), (1_000_000, Self::Microseconds)]
            .into_iter()
            .find_map(|(unit, form)| within(unit).then_some(form))
    }

    /// Whole seconds since 1970, rounded down.
    fn seconds(self, text: &str) -> Option<i64> {
        let text = text.trim_ascii();
        let unit = match self {
            Self::Iso8601 => return civil_seconds(text),
            Self::Seconds => 1,
            Self::Milliseconds => 1_000,
            Self::Microseconds => 1_000_000,
        };
        let number = Number::read(text)?;
        // A fraction only ever makes a number smaller in size: below zero that is one more step down.
        let below = number.negative && number.fraction;
        let whole = if number.negative { -number.whole } else { number.whole };
        whole.checked_sub(i64::from(below)).map(|whole| whole.div_euclid(unit))
    }

    /// For people.
    pub(super) fn in_words(self) -> &'static str {
        match self {
            Self::Seconds => "seconds since 1970",
            Self::Milliseconds => "milliseconds since 1970, rounded down to seconds",
            Self::Microseconds => "microseconds since 1970, rounded down to seconds",
            Self::Iso8601 => "ISO 8601, UTC where no zone is given, rounded down to seconds",
        }
    }

    /// As on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Milliseconds => "milliseconds",
            Self::Microseconds => "microseconds",
            Self::Iso8601 => "iso8601",
        }
    }
}

/// Which column says when a row happened, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TimeRule {
    pub(super) column: String,
    pub(super) format: TimeFormat,
    /// Named by the sender, so every value of that form counts; else only those that could be nothing else.
    pub(super) given: bool,
}

impl TimeRule {
    /// Whole seconds since 1970; `None` where the text does not say it in the way of the others.
    pub(super) fn seconds(&self, text: &str) -> Option<i64> {
        if self.given || TimeFormat::of(text) == Some(self.format) {
            self.format.seconds(text)
        } else {
            None
        }
    }

    /// Whether the column is `time` itself, which is then replaced; any other stays as it is beside it.
    pub(super) fn replaces(&self) -> bool {
        self.column == events::TIME
    }
}

/// What was found in a sample of a time column.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) values: u64,
    pub(super) counts: [u64; 4],
}

impl Times {
    /// Looks at one value that is not empty.
    pub(super) fn see(&mut self, text: &str) {
        self.values += 1;
        if let Some(format) = TimeFormat::of(text) {
            self.counts[format as usize] += 1;
        }
    }

    /// What all of them are.
    pub(super) fn format(&self) -> Option<TimeFormat> {
        let all = [
            TimeFormat::Seconds,
            TimeFormat::Milliseconds,
            TimeFormat::Microseconds,
            TimeFormat::Iso8601,
        ];
        all.into_iter()
            .find(|format| self.values > 0 && self.counts[*format as usize] == self.values)
    }
}

struct Number {
    negative: bool,
    whole: i64,
    /// Whether anything but zeros stands after the point.
    fraction: bool,
}

impl Number {
    fn read(text: &str) -> Option<Self> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) || digits.ends_with('.') {
            return None;
        }
        Some(Self {
            negative,
            whole: whole.parse().ok()?,
            fraction: fraction.bytes().any(|digit| digit != b'0'),
        })
    }
}

/// `YYYY-MM-DD`, then perhaps `T` or a space and `hh:mm[:ss[.fff]]`, then perhaps `Z`, ` UTC` or an offset.
fn civil_seconds(text: &str) -> Option<i64> {
    let mut rest = Rest(text.as_bytes());
    let year = rest.number(4)?;
    rest.one_of(b"-")?;
    let month = rest.number(2)?;
    rest.one_of(b"-")?;
    let day = rest.number(2)?;
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let days_of_month = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=days_of_month).contains(&day) {
        return None;
    }
    let midnight = days_from_civil(year, month, day) * 86_400;
    if rest.0.is_empty() {
        return Some(midnight);
    }
    rest.one_of(b"Tt ")?;
    let hour = rest.number(2)?;
    rest.one_of(b":")?;
    let minute = rest.number(2)?;
    let mut second = 0;
    if rest.one_of(b":").is_some() {
        second = rest.number(2)?;
        if rest.one_of(b".,").is_some() {
            rest.digits()?;
        }
    }
    // A leap second counts as the one after it, as clocks count.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some(midnight + hour * 3_600 + minute * 60 + second - rest.offset()?)
}

struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn number(&mut self, digits: usize) -> Option<i64> {
        let (number, rest) = self.0.split_at_checked(digits)?;
        self.0 = rest;
        number
            .iter()
            .try_fold(0, |all, digit| digit.is_ascii_digit().then(|| all * 10 + i64::from(digit - b'0')))
    }

    fn one_of(&mut self, allowed: &[u8]) -> Option<()> {
        let (first, rest) = self.0.split_first()?;
        allowed.contains(first).then(|| self.0 = rest)
    }

    fn digits(&mut self) -> Option<()> {
        let digits = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.0 = &self.0[digits..];
        (digits > 0).then_some(())
    }

    /// Seconds east of UTC; all that is left must be that.
    fn offset(&mut self) -> Option<i64> {
        match self.0 {
            b"" | b"Z" | b"z" | b" UTC" | b" Z" => return Some(0),
            [b' ', b'+' | b'-', ..] => self.0 = &self.0[1..],
            _ => {}
        }
        let sign = if self.0.first() == Some(&b'-') { -1 } else { 1 };
        self.one_of(b"+-")?;
        let hours = self.number(2)?;
        let minutes = if self.0.is_empty() {
            0
        } else {
            let _colon = self.one_of(b":");
            self.number(2)?
        };
        (self.0.is_empty() && hours <= 18 && minutes <= 59).then_some(sign * (hours * 3_600 + minutes * 60))
    }
}

/// Days since 1970 of a day of the Gregorian calendar: whole years before it, then the days of its year, which begins in March.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // 719,468 days lie between the first of March of the year 0 and 1970.
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use base::Timestamp;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_way_of_writing_a_time_is_recognised() {
        let check = |text: &str, format: Option<TimeFormat>, seconds: i64| {
            assert_eq!(TimeFormat::of(text), format, "{text}");
            if let Some(format) = format {
                assert_eq!(format.seconds(text), Some(seconds), "{text}");
            }
        };
        use TimeFormat::*;
        check("1700000000", Some(Seconds), 1_700_000_000);
        check("1700000000.999", Some(Seconds), 1_700_000_000);
        check("1700000000999", Some(Milliseconds), 1_700_000_000);
        check("1700000000999999", Some(Microseconds), 1_700_000_000);
        check("2023-11-14T22:13:20Z", Some(Iso8601), 1_700_000_000);
        check("2023-11-14 22:13:20.999999 UTC", Some(Iso8601), 1_700_000_000);
        check("2023-11-15T00:13:20+02:00", Some(Iso8601), 1_700_000_000);
        check("2023-11-14T17:43:20 -0430", Some(Iso8601), 1_700_000_000);
        check("2023-11-14T22:13", Some(Iso8601), 1_699_999_980);
        check("2024-02-29", Some(Iso8601), 1_709_164_800);
        check("1969-12-31T23:59:59.5Z", Some(Iso8601), -1);
        // A date without dashes could be a number of seconds in 1970, and the other way round.
        for neither in [
            "20240102",
            "2024010215",
            "202401021530",
            "20240102153000",
            "20240102153000000",
            "500000000",
            "0",
            "-1700000000",
            "1700000000000000000",
            "1.7e9",
            "1700000000.",
            "",
            "soon",
        ] {
            check(neither, None, 0);
        }
        for no_date in [
            "2023-02-29",
            "2023-13-01",
            "2023-00-10",
            "2023-1-01",
            "2023-11-14T24:00Z",
            "2023-11-14T22:13:20X",
            "2023-11-14T",
            "2023-11-14T22:13:20+99",
            "2023-11-14T22:13:20.Z",
        ] {
            check(no_date, None, 0);
        }
    }

    #[test]
    fn a_named_form_takes_every_value_of_it_and_a_recognised_one_only_what_is_certain() {
        let rule = |given| TimeRule {
            column: "t".into(),
            format: TimeFormat::Milliseconds,
            given,
        };
        assert_eq!(rule(true).seconds("-1"), Some(-1));
        assert_eq!(rule(true).seconds("0"), Some(0));
        assert_eq!(rule(true).seconds("2023-11-14"), None);
        assert_eq!(rule(false).seconds("0"), None);
        assert_eq!(rule(false).seconds("1700000000"), None);
        assert_eq!(rule(false).seconds(" 1700000000000 "), Some(1_700_000_000));
        assert_eq!(TimeFormat::Seconds.seconds("-1.5"), Some(-2));
    }

    #[test]
    fn values_of_two_kinds_are_no_kind() {
        let of = |texts: &[&str]| {
            let mut times = Times::default();
            texts.iter().for_each(|text| times.see(text));
            times.format()
        };
        assert_eq!(of(&["1700000000", "1700000001.5"]), Some(TimeFormat::Seconds));
        assert_eq!(of(&["1700000000", "1700000000000"]), None);
        assert_eq!(of(&["2023-11-14", "yesterday"]), None);
        assert_eq!(of(&[]), None);
    }

    proptest! {
        #[test]
        fn every_second_of_ten_thousand_years_reads_back(seconds in -62_167_219_200_i64..253_402_300_800) {
            let moment = Timestamp::from_secs(seconds);
            prop_assert_eq!(civil_seconds(&moment.to_string()), Some(seconds));
            prop_assert_eq!(civil_seconds(&moment.td_string()), Some(seconds));
        }

        #[test]
        fn no_text_is_a_panic(text in "[-0-9T:.+Z ]{0,40}|.{0,20}") {
            let format = TimeFormat::of(&text);
            for form in [TimeFormat::Seconds, TimeFormat::Milliseconds, TimeFormat::Microseconds, TimeFormat::Iso8601] {
                let seconds = form.seconds(&text);
                prop_assert!(format != Some(form) || seconds.is_some());
            }
        }
    }
}
