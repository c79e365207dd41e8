//! Rows in JSON: an array, or objects one after the other.
//!
//! Held, with another reader of JSON as the judge: what that one takes is not refused as damaged, and all its values are stored,
//! overflowing or set aside; what that one does not take is never taken whole.

use events::Syntax;
use serde::de::IgnoredAny;
use serde_json::Value;

/// Takes any bytes as a body.
pub fn one(data: &[u8]) {
    let text = data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data);
    let is_array = text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    for limits in crate::rows::limits() {
        let decoded = crate::rows::decode(Syntax::Json, data, &limits);
        if let Some(rows) = rows(text, is_array) {
            match &decoded {
                Ok(decoded) => {
                    let sent: Vec<usize> = rows.iter().map(values).collect();
                    crate::rows::nothing_is_missing(decoded, &sent);
                }
                Err(error) => assert_eq!(error.kind(), base::ErrorKind::TooLarge, "JSON is refused: {error}"),
            }
        }
        if let Ok(decoded) = decoded
            && decoded.rejected.is_empty()
        {
            assert!(is_json(text, is_array), "what is not JSON was taken");
        }
    }
}

/// What another reader makes of it; `None` when it is not JSON, or beyond what that reader takes.
fn rows(text: &[u8], is_array: bool) -> Option<Vec<Value>> {
    if is_array {
        return serde_json::from_slice(text).ok();
    }
    serde_json::Deserializer::from_slice(text)
        .into_iter()
        .collect::<Result<_, _>>()
        .ok()
}

fn values(row: &Value) -> usize {
    let Value::Object(object) = row else { return 0 };
    object.iter().filter(|(name, value)| *name != "time" && !value.is_null()).count()
}

/// Only the form: numbers beyond any type are JSON too.
fn is_json(text: &[u8], is_array: bool) -> bool {
    if is_array {
        return serde_json::from_slice::<IgnoredAny>(text).is_ok();
    }
    serde_json::Deserializer::from_slice(text)
        .into_iter::<IgnoredAny>()
        .all(|value| value.is_ok())
}
