//! Which type a column of text has, judged by a sample, and how a value of it is sent.
//!
//! Promise: a guess never changes a value. A value is sent as a number or as true and false only where the server, should the
//! column become one of text, would write the very same text again; else it is sent as the text that it is.
//! Only a type that the sender has named may read more into a text than that.

use std::fmt;

use clap::ValueEnum;

use crate::msgpack;

/// The types of columns that a text can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColumnType {
    Long,
    Double,
    Boolean,
    String,
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Long => "long",
            Self::Double => "double",
            Self::Boolean => "boolean",
            Self::String => "string",
        })
    }
}

/// A column's type, and who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Guessed(ColumnType),
    Given(ColumnType),
}

impl Kind {
    pub(super) fn column_type(self) -> ColumnType {
        let (Self::Guessed(kind) | Self::Given(kind)) = self;
        kind
    }

    /// Appends the value: as its type where it fits, as the text that it is where not.
    pub(super) fn put(self, text: &str, out: &mut Vec<u8>) {
        let put = match self {
            Self::Guessed(kind) => put_exact(kind, text, out),
            Self::Given(kind) => put_lenient(kind, text, out),
        };
        if put.is_none() {
            msgpack::text(text.as_bytes(), out);
        }
    }
}

fn put_exact(kind: ColumnType, text: &str, out: &mut Vec<u8>) -> Option<()> {
    match kind {
        ColumnType::Long => msgpack::long(exact_long(text)?, out),
        ColumnType::Double => msgpack::double(exact_double(text)?, out),
        ColumnType::Boolean => msgpack::boolean(exact_boolean(text)?, out),
        ColumnType::String => return None,
    }
    Some(())
}

/// Spaces around, signs, zeros in front and at the end: the sender says that they mean nothing.
fn put_lenient(kind: ColumnType, text: &str, out: &mut Vec<u8>) -> Option<()> {
    let text = text.trim_ascii();
    match kind {
        ColumnType::Long => msgpack::long(text.parse().ok()?, out),
        ColumnType::Double => msgpack::double(number(text)?, out),
        ColumnType::Boolean => {
            let is = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
            let truth = match text {
                _ if is(&["true", "t", "yes", "y", "1"]) => true,
                _ if is(&["false", "f", "no", "n", "0"]) => false,
                _ => return None,
            };
            msgpack::boolean(truth, out);
        }
        ColumnType::String => return None,
    }
    Some(())
}

/// A long whose text is this one.
fn exact_long(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = match digits.as_bytes() {
        [b'0'] => digits.len() == text.len(),
        [b'1'..=b'9', rest @ ..] => rest.len() < 19 && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if plain { text.parse().ok() } else { None }
}

/// A double whose text, as the server writes it, is this one.
fn exact_double(text: &str) -> Option<f64> {
    let value = number(text)?;
    (events::double_text(value) == text).then_some(value)
}

fn exact_boolean(text: &str) -> Option<bool> {
    [true, false].into_iter().find(|truth| events::bool_text(*truth) == text)
}

/// A finite number in digits. No text of a double is longer than this.
fn number(text: &str) -> Option<f64> {
    const LONGEST: usize = 400;
    let plain = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E');
    if text.len() > LONGEST || !text.bytes().all(plain) {
        return None;
    }
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

/// A number that people would call one, though a double may write it otherwise.
fn is_plain_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let whole = digits.split(['.', 'e', 'E']).next().unwrap_or_default();
    let is_code = whole.is_empty() || (whole.len() > 1 && whole.starts_with('0')) || whole.len() > 15 || whole.starts_with('+');
    !is_code && number(text).is_some()
}

/// What a sample says of one column.
#[derive(Debug, Clone)]
pub(super) struct Evidence {
    /// Values that are not empty.
    pub(super) seen: u64,
    longs: bool,
    doubles: bool,
    booleans: bool,
    numbers: bool,
    /// The form of the first value: letters and digits are replaced.
    pub(super) shape: Option<String>,
}

impl Default for Evidence {
    fn default() -> Self {
        Self {
            seen: 0,
            longs: true,
            doubles: true,
            booleans: true,
            numbers: true,
            shape: None,
        }
    }
}

impl Evidence {
    /// Looks at one value that is not empty.
    pub(super) fn see(&mut self, text: &str) {
        self.seen += 1;
        self.longs = self.longs && exact_long(text).is_some();
        self.doubles = self.doubles && exact_double(text).is_some();
        self.booleans = self.booleans && exact_boolean(text).is_some();
        self.numbers = self.numbers && is_plain_number(text);
        self.shape.get_or_insert_with(|| shape(text));
    }

    /// The narrowest type in which every value keeps its text.
    pub(super) fn guess(&self) -> ColumnType {
        match self {
            Self { seen: 0, .. } => ColumnType::String,
            Self { booleans: true, .. } => ColumnType::Boolean,
            Self { longs: true, .. } => ColumnType::Long,
            Self { doubles: true, .. } => ColumnType::Double,
            _ => ColumnType::String,
        }
    }

    /// Whether all are numbers and are kept as text only because a double would be written in another way, such as 1.5 for 1.50.
    /// Zeros in front, signs and many digits are left alone: they tell of codes more often than of numbers.
    pub(super) fn is_numbers_as_text(&self) -> bool {
        self.seen > 0 && self.numbers && self.guess() == ColumnType::String
    }
}

/// What a value looks like, without the value: `2026-11-23` is `9999-99-99`.
fn shape(text: &str) -> String {
    const LONGEST: usize = 24;
    let mut shape: String = text
        .chars()
        .take(LONGEST)
        .map(|c| match c {
            c if c.is_numeric() => '9',
            c if c.is_uppercase() => 'A',
            c if c.is_alphabetic() => 'a',
            c if c.is_ascii_graphic() || c == ' ' => c,
            _ => '·',
        })
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        shape.push('…');
    }
    shape
}

/// Whether a column's name says that it holds people: not even the form of its values is shown.
pub(super) fn is_named_like_identity(name: &str) -> bool {
    let plain: String = name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    const PARTS: [&str; 12] = [
        "mail", "identity", "user", "customer", "person", "member", "phone", "mobile", "name", "address", "login", "account",
    ];
    const WHOLE: [&str; 6] = ["id", "ip", "ssn", "iban", "uid", "cookie"];
    PARTS.iter().any(|part| plain.contains(part)) || WHOLE.contains(&plain.as_str())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn guessed(texts: &[&str]) -> ColumnType {
        let mut evidence = Evidence::default();
        texts.iter().for_each(|text| evidence.see(text));
        evidence.guess()
    }

    /// The text that the server would write for what was sent.
    fn written_back(kind: Kind, text: &str) -> String {
        match sent(kind, text) {
            Value::Bool(truth) => events::bool_text(truth).to_owned(),
            Value::Number(number) => number
                .as_i64()
                .map_or_else(|| events::double_text(number.as_f64().unwrap()), |long| long.to_string()),
            Value::String(text) => text,
            other => panic!("{other}"),
        }
    }

    fn sent(kind: Kind, text: &str) -> Value {
        let mut out = Vec::new();
        kind.put(text, &mut out);
        let (value, length) = crate::msgpack::read::value(&out).unwrap();
        assert_eq!(length, out.len());
        value
    }

    #[test]
    fn a_column_has_the_narrowest_type_in_which_every_value_keeps_its_text() {
        use ColumnType::*;
        let check = |texts: &[&str], expected| assert_eq!(guessed(texts), expected, "{texts:?}");
        check(&["1", "-5", "0", "9223372036854775807", "-9223372036854775808"], Long);
        check(&["1", "2.5", "-0.25", "1e16"], Double);
        check(&["true", "false"], Boolean);
        check(&["true", "1"], String);
        check(&[], String);
        // Each of these would come back as another text.
        for text in [
            "007",
            "+5",
            "12.50",
            "1e3",
            "-00",
            ".5",
            "5.",
            "1_000",
            " 5",
            "0x10",
            "9223372036854775808",
            "12345678901234567890123",
            "0.1234567890123456789",
            "NaN",
            "inf",
            "Infinity",
            "1e999",
            "True",
            "TRUE",
            "yes",
            "2026-11-23",
        ] {
            check(&[text], String);
            check(&["5", text], String);
        }
        check(&["-0"], Double);
        // Doubles hold this long, but write it as 1e17.
        check(&["100000000000000000", "0.5"], String);
    }

    #[test]
    fn a_value_that_does_not_fit_its_column_is_sent_as_the_text_it_is() {
        assert_eq!(sent(Kind::Guessed(ColumnType::Long), "42"), json!(42));
        assert_eq!(sent(Kind::Guessed(ColumnType::Long), "n/a"), json!("n/a"));
        assert_eq!(sent(Kind::Guessed(ColumnType::Long), "042"), json!("042"));
        assert_eq!(sent(Kind::Guessed(ColumnType::Double), "2"), json!(2.0));
        assert_eq!(sent(Kind::Guessed(ColumnType::Boolean), "FALSE"), json!("FALSE"));
        assert_eq!(sent(Kind::Guessed(ColumnType::String), "42"), json!("42"));
    }

    #[test]
    fn a_named_type_reads_more_into_a_text() {
        assert_eq!(sent(Kind::Given(ColumnType::Double), "12.50"), json!(12.5));
        assert_eq!(sent(Kind::Given(ColumnType::Double), " +7 "), json!(7.0));
        assert_eq!(sent(Kind::Given(ColumnType::Long), "007"), json!(7));
        assert_eq!(sent(Kind::Given(ColumnType::Boolean), "No"), json!(false));
        assert_eq!(sent(Kind::Given(ColumnType::Boolean), "maybe"), json!("maybe"));
        assert_eq!(
            sent(Kind::Given(ColumnType::Long), "9223372036854775808"),
            json!("9223372036854775808")
        );
        assert_eq!(sent(Kind::Given(ColumnType::String), "5"), json!("5"));
    }

    #[test]
    fn numbers_that_stay_text_are_noticed() {
        let mut evidence = Evidence::default();
        ["12.50", "3.00", "1"].iter().for_each(|text| evidence.see(text));
        assert!(evidence.is_numbers_as_text());
        for code in ["x", "007.5", "+5.50", "1234567890123456", ".50"] {
            let mut evidence = evidence.clone();
            evidence.see(code);
            assert!(!evidence.is_numbers_as_text(), "{code}");
        }
        assert!(!Evidence::default().is_numbers_as_text());
    }

    #[test]
    fn a_shape_shows_no_value() {
        assert_eq!(shape("2026-11-23T10:00"), "9999-99-99A99:99");
        assert_eq!(shape("Ärger, ²"), "Aaaaa, 9");
        assert_eq!(shape("a\u{1b}[2J"), "a·[9A");
        assert_eq!(shape(&"x".repeat(100)), format!("{}…", "a".repeat(24)));
        for name in ["email", "E-Mail", "user_id", "Identity", "customerId", "id", "first_name", "IP"] {
            assert!(is_named_like_identity(name), "{name}");
        }
        for name in ["price", "time", "event", "order_id", "tip"] {
            assert!(!is_named_like_identity(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_guess_never_changes_a_value_whatever_comes_later(
            sample in proptest::collection::vec("[-+]?[0-9]{1,20}|[-]?[0-9]{1,5}[.][0-9]{1,5}|true|false|[-+0-9.eE]{1,8}|.{1,6}", 1..6),
            later in "[-+]?[0-9]{1,20}|[-+0-9.eE]{1,24}|true|false|.{1,12}",
        ) {
            let texts: Vec<&str> = sample.iter().map(String::as_str).collect();
            let kind = Kind::Guessed(guessed(&texts));
            for text in texts.iter().copied().chain([later.as_str()]) {
                prop_assert_eq!(written_back(kind, text), text);
            }
        }

        #[test]
        fn every_long_and_every_double_is_recognised_by_its_text(long in any::<i64>(), double in any::<f64>()) {
            prop_assert_eq!(exact_long(&long.to_string()), Some(long));
            if double.is_finite() {
                prop_assert_eq!(exact_double(&events::double_text(double)).map(f64::to_bits), Some(double.to_bits()));
            }
        }
    }
}
