//! Parameters of a request, in whatever form they come.
//!
//! Held: what was read is not more than what was sent, and says the same when it is sent again in each other form.

use std::collections::BTreeMap;

use gateway::fuzzing::params;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// Takes any bytes as the content type, a line, and the body behind it.
pub fn one(data: &[u8]) {
    let (head, body) = match data.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &[][..]),
    };
    let Ok(content_type) = std::str::from_utf8(head) else { return };
    let read = |content_type: &str, body: &[u8]| futures::executor::block_on(params(content_type, body));
    let Some(pairs) = read(content_type, body) else { return };
    let bytes: usize = pairs.iter().map(|(name, value)| name.len() + value.len()).sum();
    // A number in JSON may become longer: 1e15.
    assert!(pairs.len() <= 100 && bytes <= 8 * body.len(), "more than was sent");

    let escape = |text: &String| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let form: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{}={}", escape(name), escape(value)))
        .collect();
    let form = read("application/x-www-form-urlencoded", form.join("&").as_bytes());
    assert_eq!(form.as_ref(), Some(&pairs), "as a form");
    let json = serde_json::to_vec(&pairs).expect("texts are JSON");
    assert_eq!(read("application/json", &json).as_ref(), Some(&pairs), "as JSON");
    if let Some(multipart) = multipart(&pairs) {
        let again = read("multipart/form-data; boundary=boundary-of-ours", multipart.as_bytes());
        assert_eq!(again.as_ref(), Some(&pairs), "as multipart");
    }
}

/// `None` where a name would need quoting, which is not agreed upon, or a value holds the boundary.
fn multipart(pairs: &BTreeMap<String, String>) -> Option<String> {
    const BOUNDARY: &str = "--boundary-of-ours";
    let mut body = String::new();
    for (name, value) in pairs {
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) || value.contains(BOUNDARY) {
            return None;
        }
        body.push_str(&format!(
            "{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
        ));
    }
    (!pairs.is_empty()).then(|| format!("{body}{BOUNDARY}--\r\n"))
}
