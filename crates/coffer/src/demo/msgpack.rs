//! Just enough of msgpack to send events.

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
    length(fields.len(), 0x80, 0xde, out);
    for (name, value) in fields {
        text(name, out);
        encode(value, out);
    }
}

fn encode(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Bool(flag) => out.push(0xc2 + u8::from(*flag)),
        Value::Int(number @ 0..=0x7f) => out.push(*number as u8),
        Value::Int(number) => {
            out.push(0xd3);
            out.extend(number.to_be_bytes());
        }
        Value::Float(number) => {
            out.push(0xcb);
            out.extend(number.to_be_bytes());
        }
        Value::Text(string) => text(string, out),
        Value::List(items) => {
            length(items.len(), 0x90, 0xdc, out);
            items.iter().for_each(|item| encode(item, out));
        }
        Value::Map(fields) => encode_map(fields, out),
    }
}

fn length(count: usize, short: u8, long: u8, out: &mut Vec<u8>) {
    match u16::try_from(count) {
        Ok(few @ 0..=15) => out.push(short | few as u8),
        Ok(many) => {
            out.push(long);
            out.extend(many.to_be_bytes());
        }
        Err(_) => {
            out.push(long + 1);
            out.extend((count as u32).to_be_bytes());
        }
    }
}

fn text(string: &str, out: &mut Vec<u8>) {
    match string.len() {
        short @ 0..=31 => out.push(0xa0 | short as u8),
        more @ 32..=0xff => out.extend([0xd9, more as u8]),
        long => {
            out.push(0xdb);
            out.extend((long as u32).to_be_bytes());
        }
    }
    out.extend(string.as_bytes());
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
