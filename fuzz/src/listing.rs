//! Pages of a listing, as a store answers them.
//!
//! Held: whatever a store sends, what is taken from it is no longer than it was; and the same page, written anew, is the same page.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use zones::s3::page;

/// Takes any bytes as an answer.
pub fn one(data: &[u8]) {
    let Some(read) = page(data) else { return };
    let taken: usize = read.keys.iter().chain(&read.next).map(String::len).sum();
    assert!(taken <= data.len(), "{taken} bytes out of {}", data.len());
    assert!(read.next.as_deref() != Some(""), "an empty word for the next page");

    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let keys: String = read
        .keys
        .iter()
        .map(|key| format!("<Contents><Key>{}</Key></Contents>", encoded(key)))
        .collect();
    // A word is handed back as it is; written here it may have nothing that XML takes for its own.
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric());
    let Some(next) = read.next.as_deref().map_or(Some(""), |next| plain(next).then_some(next)) else {
        return;
    };
    let more = !next.is_empty();
    let anew = format!(
        "<ListBucketResult><IsTruncated>{more}</IsTruncated><NextContinuationToken>{next}</NextContinuationToken>{keys}</ListBucketResult>"
    );
    assert_eq!(page(anew.as_bytes()), Some(read), "{anew}");
}
