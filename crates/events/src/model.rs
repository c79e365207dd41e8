//! For tests: rows as plain values, written to msgpack and read back without any of the code under test but its tokens.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::{
    ColumnType, Seen,
    msgpack::{Reader, Token},
};

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Nil,
    Bool(bool),
    Long(i64),
    BigLong(u64),
    Double(f64),
    Str(String),
    Bin(Vec<u8>),
    Array(Vec<Value>),
    Map(Vec<(String, Value)>),
    Ext(i8, Vec<u8>),
}

pub(crate) type Row = BTreeMap<String, Value>;

impl Value {
    pub(crate) fn seen(&self) -> Seen {
        match self {
            Self::Nil => Seen::NOTHING,
            Self::Bool(_) => Seen::BOOL,
            Self::Long(value) => Seen::of_long(*value),
            Self::Double(_) => Seen::DOUBLE,
            Self::BigLong(_) | Self::Str(_) | Self::Bin(_) => Seen::STRING,
            Self::Array(_) | Self::Map(_) | Self::Ext(..) => Seen::JSON,
        }
    }

    /// What a column of type `to` should hold for this value. Says it in other ways than the code under test where it can.
    pub(crate) fn held_as(&self, to: ColumnType) -> Self {
        match (self, to) {
            (Self::Nil, _) => Self::Nil,
            (Self::Bool(_), ColumnType::Boolean) | (Self::Long(_), ColumnType::Long) | (Self::Double(_), ColumnType::Double) => {
                self.clone()
            }
            (Self::Long(value), ColumnType::Double) => {
                let double = *value as f64;
                assert_eq!(double as i64, *value, "a long in a double column must be exact");
                Self::Double(double)
            }
            (_, ColumnType::String | ColumnType::Json) => Self::Str(match self {
                Self::Bool(value) => value.to_string(),
                Self::Long(value) => value.to_string(),
                Self::BigLong(value) => value.to_string(),
                Self::Double(value) => crate::double_text(*value),
                Self::Str(text) => text.clone(),
                Self::Bin(bytes) => String::from_utf8(bytes.clone()).unwrap_or_else(|_| self.json().as_str().unwrap().to_owned()),
                Self::Nil | Self::Array(_) | Self::Map(_) | Self::Ext(..) => self.json().to_string(),
            }),
            _ => panic!("{self:?} was put into a column of {to}"),
        }
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        use serde_json::{Value as J, json};
        let base64 = |bytes: &[u8]| {
            let mut text = Vec::new();
            crate::text::push_base64(&mut text, bytes);
            String::from_utf8(text).unwrap()
        };
        match self {
            Self::Nil => J::Null,
            Self::Bool(value) => J::Bool(*value),
            Self::Long(value) => json!(value),
            Self::BigLong(value) => json!(value),
            Self::Double(value) if value.is_finite() => json!(value),
            Self::Double(value) => J::String(crate::double_text(*value)),
            Self::Str(text) => J::String(text.clone()),
            Self::Bin(bytes) => J::String(String::from_utf8(bytes.clone()).unwrap_or_else(|_| format!("base64:{}", base64(bytes)))),
            Self::Array(values) => J::Array(values.iter().map(Self::json).collect()),
            Self::Map(entries) => J::Object(entries.iter().map(|(key, value)| (key.clone(), value.json())).collect()),
            Self::Ext(kind, bytes) => json!({"ext": kind, "data": base64(bytes)}),
        }
    }

    /// Long forms only: the short ones are tested by bytes written by hand.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let mut head = |lead: u8, len: usize| {
            out.push(lead);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        };
        match self {
            Self::Nil => out.push(0xc0),
            Self::Bool(value) => out.push(0xc2 + u8::from(*value)),
            Self::Long(value) => {
                out.push(0xd3);
                out.extend_from_slice(&value.to_be_bytes());
            }
            Self::BigLong(value) => {
                out.push(0xcf);
                out.extend_from_slice(&value.to_be_bytes());
            }
            Self::Double(value) => {
                out.push(0xcb);
                out.extend_from_slice(&value.to_be_bytes());
            }
            Self::Str(text) => {
                head(0xdb, text.len());
                out.extend_from_slice(text.as_bytes());
            }
            Self::Bin(bytes) => {
                head(0xc6, bytes.len());
                out.extend_from_slice(bytes);
            }
            Self::Array(values) => {
                head(0xdd, values.len());
                values.iter().for_each(|value| value.write(out));
            }
            Self::Map(entries) => {
                head(0xdf, entries.len());
                for (key, value) in entries {
                    Self::Str(key.clone()).write(out);
                    value.write(out);
                }
            }
            Self::Ext(kind, bytes) => {
                head(0xc9, bytes.len());
                out.push(*kind as u8);
                out.extend_from_slice(bytes);
            }
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Self {
        match reader.token().unwrap() {
            Token::Nil => Self::Nil,
            Token::Bool(value) => Self::Bool(value),
            Token::Long(value) => Self::Long(value),
            Token::BigLong(value) => Self::BigLong(value),
            Token::Double(value) => Self::Double(value),
            Token::Str(bytes) => Self::Str(String::from_utf8(bytes.to_vec()).unwrap()),
            Token::Bin(bytes) => Self::Bin(bytes.to_vec()),
            Token::Ext(kind, bytes) => Self::Ext(kind, bytes.to_vec()),
            Token::Array(count) => Self::Array((0..count).map(|_| Self::read(reader)).collect()),
            Token::Map(count) => {
                let entry = |reader: &mut Reader<'_>| match Self::read(reader) {
                    Self::Str(key) => (key, Self::read(reader)),
                    other => panic!("{other:?} as a key"),
                };
                Self::Map((0..count).map(|_| entry(reader)).collect())
            }
        }
    }

    /// All values one after another.
    pub(crate) fn read_all(bytes: &[u8]) -> Vec<Self> {
        let mut reader = Reader::new(bytes);
        std::iter::from_fn(|| (!reader.is_at_end()).then(|| Self::read(&mut reader))).collect()
    }

    /// Equal, with all NaN alike.
    pub(crate) fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Double(a), Self::Double(b)) => a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan(),
            _ => self == other,
        }
    }
}

/// Rows as a td client sends them.
pub(crate) fn write_rows(rows: &[Row]) -> Vec<u8> {
    let mut out = Vec::new();
    for row in rows {
        Value::Map(row.clone().into_iter().collect()).write(&mut out);
    }
    out
}

/// The type that each column of these rows must get.
pub(crate) fn types_of(rows: &[Row]) -> BTreeMap<String, Seen> {
    let mut types = BTreeMap::new();
    for (name, value) in rows.iter().flatten().filter(|(_, value)| **value != Value::Nil) {
        let seen = types.entry(name.clone()).or_insert(Seen::NOTHING);
        *seen = *seen | value.seen();
    }
    types
}

fn any_scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::Bool),
        (-40i64..40).prop_map(Value::Long),
        any::<i64>().prop_map(Value::Long),
        (-3i64..3).prop_map(|i| Value::Long((1 << 53) + i)),
        (i64::MAX as u64 + 1..).prop_map(Value::BigLong),
        (-10i32..10).prop_map(|i| Value::Double(f64::from(i) / 2.0)),
        any::<f64>().prop_map(Value::Double),
        Just(Value::Double(f64::INFINITY)),
        ".{0,12}".prop_map(Value::Str),
        "[0-9.e]{0,4}".prop_map(Value::Str),
        prop::collection::vec(any::<u8>(), 0..8).prop_map(Value::Bin),
        (any::<i8>(), prop::collection::vec(any::<u8>(), 0..20)).prop_map(|(kind, bytes)| Value::Ext(kind, bytes)),
    ]
}

/// Any value, nested ones among them.
pub(crate) fn any_value() -> impl Strategy<Value = Value> {
    any_scalar().prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map(".{0,3}", inner, 0..4).prop_map(|map| Value::Map(map.into_iter().collect())),
        ]
    })
}

/// Few columns, so that kinds of value meet in them. Every row can be one.
pub(crate) fn any_rows() -> impl Strategy<Value = Vec<Row>> {
    prop::collection::vec(any_row((-62_135_596_800i64..=253_402_300_799).prop_map(Value::Long)), 0..30)
}

/// The same with times in every unit and none.
pub(crate) fn any_rows_at_any_time() -> impl Strategy<Value = Vec<Row>> {
    let time = prop_oneof![
        any_value(),
        any::<i64>().prop_map(Value::Long),
        (946_684_800_000i64..2_000_000_000_000).prop_map(Value::Long),
        (946_684_800i64..2_000_000_000).prop_map(|secs| Value::Long(secs * 1000)),
        (946_684_800i64..2_000_000_000).prop_map(|secs| Value::Str(secs.to_string())),
    ];
    prop::collection::vec(any_row(time), 0..30)
}

fn any_row(time: impl Strategy<Value = Value>) -> impl Strategy<Value = Row> {
    let row = prop::collection::btree_map("[a-e]", any_value(), 0..5);
    (row, proptest::option::of(time)).prop_map(|(mut row, time)| {
        row.extend(time.map(|time| ("time".to_owned(), time)));
        row
    })
}

/// The batch that a body of rows becomes.
pub(crate) fn decoded(body: &[u8]) -> arrow::record_batch::RecordBatch {
    let told = crate::Told {
        limits: &crate::Limits::default(),
        received_at: base::Timestamp::default(),
        identities: &[],
        personal: &[],
    };
    crate::decode(crate::Syntax::Msgpack, body, &told).unwrap().batch
}
