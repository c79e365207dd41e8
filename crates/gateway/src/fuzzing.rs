//! Parsers of the gateway, for whoever throws any bytes at them (the crate `fuzz`). Nothing of the product calls this.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};

use crate::params::Params;
use crate::person_id::Calls;

/// The parameters in a body of this content type; `None` where they are refused.
pub async fn params(content_type: &str, body: &[u8]) -> Option<BTreeMap<String, String>> {
    let content_type = HeaderValue::from_str(content_type).ok()?;
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, content_type)]);
    let params = Params::from_body(&headers, Bytes::copy_from_slice(body)).await.ok()?;
    Some(params.into_pairs())
}

/// The identities that `person_id` asks for, and the text with numbers in their place, counted from `first`; `None` where it is refused.
pub fn person_ids(text: &str, first: i64) -> Option<(Vec<String>, String)> {
    let calls = Calls::find(text).ok()?;
    let identities: Vec<String> = calls.identities().iter().map(|identity| identity.reveal().to_owned()).collect();
    let ids: Vec<i64> = (first..).take(identities.len()).collect();
    Some((identities, calls.replaced(&ids)))
}
