//! A cell as its value was sent, whatever type its column has had to take.

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, StringArray},
    datatypes::{DataType, Field, Float64Type, Int64Type},
};

use crate::{
    AdaptError, Seen, double_text,
    kinds::{Kind, Kinds},
    seen_of,
    text::{push_double, push_integer, push_json_double, push_json_string},
    widen::cells_as_text,
};

/// A value as sent. Numbers are equal as numbers: a column with fractions does not know 5 from 5.0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Sent<'a> {
    Bool(bool),
    Long(i64),
    Double(f64),
    /// The digits of a number that neither long nor double holds exactly.
    Number(&'a str),
    Text(&'a str),
    /// Arrays, maps and extension values.
    Json(&'a str),
}

impl Sent<'_> {
    /// The long that is the same value: whose text is the text that was sent, or whose number is the number.
    pub(crate) fn as_long(self) -> Option<i64> {
        match self {
            Self::Long(value) => Some(value),
            Self::Double(value) => {
                // 2^63 itself is no long. -0.0 is another value than 0.
                let within = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&value);
                let long = value as i64;
                (within && (long as f64).to_bits() == value.to_bits()).then_some(long)
            }
            Self::Text(text) => text.parse::<i64>().ok().filter(|long| long.to_string() == text),
            Self::Bool(_) | Self::Number(_) | Self::Json(_) => None,
        }
    }

    /// The double that is the same value, likewise. A text that says that something is no number is none.
    pub(crate) fn as_double(self) -> Option<f64> {
        match self {
            Self::Double(value) => Some(value),
            Self::Long(value) => {
                let double = value as f64;
                (double as i128 == i128::from(value)).then_some(double)
            }
            Self::Text(text) | Self::Number(text) => {
                let double = text.parse::<f64>().ok().filter(|double| double.is_finite())?;
                (double_text(double) == text).then_some(double)
            }
            Self::Bool(_) | Self::Json(_) => None,
        }
    }

    /// The boolean that is the same value.
    pub(crate) fn as_bool(self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(value),
            Self::Text("true") => Some(true),
            Self::Text("false") => Some(false),
            _ => None,
        }
    }

    /// The text of a nested value: one that was sent nested, or as a text that is an array or an object.
    pub(crate) fn as_json(&self) -> Option<&str> {
        match self {
            Self::Json(json) => Some(json),
            Self::Text(text) => {
                let nested = text.trim_ascii_start().starts_with(['[', '{']);
                (nested && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()).then_some(*text)
            }
            _ => None,
        }
    }

    /// Appends the text that a column of strings has for it.
    pub(crate) fn push_text(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Bool(value) => out.extend_from_slice(crate::bool_text(value).as_bytes()),
            Self::Long(value) => push_integer(out, value),
            Self::Double(value) => push_double(out, value),
            Self::Number(text) | Self::Text(text) | Self::Json(text) => out.extend_from_slice(text.as_bytes()),
        }
    }
}

/// The cells of one column of a batch.
pub(crate) struct SentColumn {
    cells: Cells,
    kinds: Kinds,
    /// What a text is that nothing is said of.
    json: bool,
    /// All numbers were sent with a fraction, if only `.0`.
    fractions: bool,
}

enum Cells {
    Bools(BooleanArray),
    Longs(Int64Array),
    Doubles(Float64Array),
    Texts(StringArray),
}

impl SentColumn {
    pub(crate) fn new(field: &Field, array: &ArrayRef) -> Result<Self, AdaptError> {
        let seen = seen_of(field);
        Ok(Self {
            cells: match array.data_type() {
                DataType::Boolean => Cells::Bools(array.as_boolean().clone()),
                DataType::Int64 => Cells::Longs(array.as_primitive::<Int64Type>().clone()),
                DataType::Float64 => Cells::Doubles(array.as_primitive::<Float64Type>().clone()),
                _ => Cells::Texts(cells_as_text(array)?),
            },
            kinds: Kinds::of(field),
            json: seen == Seen::JSON,
            fractions: seen == Seen::DOUBLE,
        })
    }

    /// The value in this row; `None` for null.
    pub(crate) fn get(&self, row: usize) -> Option<Sent<'_>> {
        Some(match &self.cells {
            Cells::Bools(bools) => Sent::Bool(bools.is_valid(row).then(|| bools.value(row))?),
            Cells::Longs(longs) => Sent::Long(longs.is_valid(row).then(|| longs.value(row))?),
            Cells::Doubles(doubles) => Sent::Double(doubles.is_valid(row).then(|| doubles.value(row))?),
            Cells::Texts(texts) => {
                let text = texts.is_valid(row).then(|| texts.value(row))?;
                let told = match self.kinds.at(row) {
                    Some(Kind::Bool) => Some(Sent::Bool(text == "true")),
                    Some(Kind::Long) => text.parse().ok().map(Sent::Long),
                    Some(Kind::Double) => text.parse().ok().map(Sent::Double),
                    Some(Kind::Number) => Some(Sent::Number(text)),
                    Some(Kind::Json) => Some(Sent::Json(text)),
                    None if self.json => Some(Sent::Json(text)),
                    None => None,
                };
                told.unwrap_or(Sent::Text(text))
            }
        })
    }

    /// Appends the JSON of a value of this column.
    pub(crate) fn push_json(&self, value: &Sent<'_>, out: &mut Vec<u8>) {
        match *value {
            Sent::Text(text) => push_json_string(out, text),
            Sent::Double(value) if self.fractions || !value.is_finite() => push_json_double(out, value),
            _ => value.push_text(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_a_long_when_nothing_of_it_is_lost() {
        let check = |sent: Sent<'_>, long| assert_eq!(sent.as_long(), long, "{sent:?}");
        check(Sent::Long(i64::MIN), Some(i64::MIN));
        check(Sent::Double(42.0), Some(42));
        check(Sent::Double(42.5), None);
        check(Sent::Double(-0.0), None);
        check(Sent::Double(-9_223_372_036_854_775_808.0), Some(i64::MIN));
        check(Sent::Double(9_223_372_036_854_775_808.0), None);
        check(Sent::Double(f64::NAN), None);
        check(Sent::Text("42"), Some(42));
        for text in ["042", "+42", " 42", "42.0", "-0", "", "9223372036854775808", "4_2"] {
            check(Sent::Text(text), None);
        }
        check(Sent::Number("9223372036854775808"), None);
        check(Sent::Bool(true), None);
    }

    #[test]
    fn a_value_is_a_double_when_nothing_of_it_is_lost() {
        let check = |sent: Sent<'_>, double| assert_eq!(sent.as_double(), double, "{sent:?}");
        check(Sent::Long(1 << 53), Some(9_007_199_254_740_992.0));
        check(Sent::Long((1 << 53) + 1), None);
        check(Sent::Long(i64::MAX), None);
        check(Sent::Long(i64::MIN), Some(-9_223_372_036_854_775_808.0));
        check(Sent::Text("1.5"), Some(1.5));
        check(Sent::Text("5"), Some(5.0));
        check(Sent::Text("1e16"), Some(1e16));
        for text in ["1.50", "5.0", "NaN", "Infinity", "inf", "1e400", "0x1", " 1", ""] {
            check(Sent::Text(text), None);
        }
        check(Sent::Number("18446744073709551615"), None);
        check(Sent::Number("1e400"), None);
    }

    #[test]
    fn booleans_and_nested_values_may_have_been_sent_as_texts() {
        assert_eq!(Sent::Text("true").as_bool(), Some(true));
        assert_eq!(Sent::Text("True").as_bool(), None);
        assert_eq!(Sent::Long(1).as_bool(), None);
        assert_eq!(Sent::Text("[1, {}]").as_json(), Some("[1, {}]"));
        for text in ["[1", "1", "\"a\"", "{a}", "[]]", ""] {
            assert_eq!(Sent::Text(text).as_json(), None, "{text}");
        }
        assert_eq!(Sent::Long(1).as_json(), None);
        let deep = "[".repeat(100_000);
        assert_eq!(Sent::Text(&deep).as_json(), None);
    }
}
