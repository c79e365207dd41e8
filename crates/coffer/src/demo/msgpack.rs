//! The demo's events as msgpack.

use crate::msgpack;

/// A value of an event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Int(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    List(Vec<Value>),
    Map(Fields),
}

/// Names and values, in order.
pub(crate) type Fields = Vec<(&'static str, Value)>;

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

/// Appends one map.
pub(crate) fn encode_map(fields: &Fields, out: &mut Vec<u8>) {
    msgpack::map(fields.len(), out);
    for (name, value) in fields {
        msgpack::text(name.as_bytes(), out);
        encode(value, out);
    }
}

fn encode(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Bool(flag) => msgpack::boolean(*flag, out),
        Value::Int(number) => msgpack::long(*number, out),
        Value::Float(number) => msgpack::double(*number, out),
        Value::Text(string) => msgpack::text(string.as_bytes(), out),
        Value::List(items) => {
            msgpack::array(items.len(), out);
            items.iter().for_each(|item| encode(item, out));
        }
        Value::Map(fields) => encode_map(fields, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_the_format() {
        let fields = vec![
            ("time", Value::Int(1_700_000_000)),
            ("ok", Value::Bool(true)),
            ("n", Value::Int(-1)),
            ("x", Value::Float(1.5)),
            ("l", Value::List(vec![1.into(), "a".into()])),
        ];
        let mut out = Vec::new();
        encode_map(&fields, &mut out);
        assert_eq!(
            hex::encode(out),
            "85a474696d65d3000000006553f100a26f6bc3a16ed3ffffffffffffffffa178cb3ff8000000000000a16c9201a161"
        );
    }
}
