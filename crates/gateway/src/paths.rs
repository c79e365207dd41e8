//! Paths as clients really write them, brought into the one form that the table of routes knows.
//!
//! Promise: a path means the same to the router and to a handler: slashes in a row are one, percent codes are decoded once,
//! and no segment is `.` or `..` under any spelling.
//!
//! Start at [`normal`]. Does not know which routes there are.

use std::borrow::Cow;

use http::uri::{PathAndQuery, Uri};
use percent_encoding::percent_decode_str;

use crate::errors::ApiError;

/// The same address with its path in normal form.
pub(crate) fn normal(uri: &Uri) -> Result<Option<Uri>, ApiError> {
    let wrong = || ApiError::invalid("the path cannot be read");
    let Cow::Owned(path) = normal_path(uri.path())? else {
        return Ok(None);
    };
    let path_and_query = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path_and_query).map_err(|_| wrong())?);
    Uri::from_parts(parts).map(Some).map_err(|_| wrong())
}

fn normal_path(path: &str) -> Result<Cow<'_, str>, ApiError> {
    for segment in path.split('/') {
        let Ok(decoded) = percent_decode_str(segment).decode_utf8() else {
            return Err(ApiError::invalid("the path is not UTF-8"));
        };
        if matches!(&*decoded, "." | "..") || decoded.chars().any(char::is_control) {
            return Err(ApiError::invalid("the path has a segment that no name can be"));
        }
    }
    let mut normal = Cow::Borrowed(path);
    if path.contains("//") {
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        let slash = if path.ends_with('/') && !segments.is_empty() { "/" } else { "" };
        normal = Cow::Owned(format!("/{}{slash}", segments.join("/")));
    }
    if let Some(plain) = normal.strip_suffix(".json").filter(|plain| ends_in_a_word_of_ours(plain)) {
        normal = Cow::Owned(plain.to_owned());
    }
    Ok(normal)
}

/// Old documents write `/v3/job/list.json` and `/v3/job/show/12.json`. A name that somebody gave is left as it is: `events.json` is
/// not the table `events`.
fn ends_in_a_word_of_ours(path: &str) -> bool {
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match segments.as_slice() {
        ["v3", "job", _, job] => job.bytes().all(|byte| byte.is_ascii_digit()),
        ["v3", _, _] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(before: &str, after: &str) {
        let uri: Uri = before.parse().unwrap();
        let normal = normal(&uri).unwrap().unwrap_or(uri);
        assert_eq!(normal.to_string(), after, "{before}");
    }

    #[test]
    fn paths_have_one_form() {
        check("/v3/job/list", "/v3/job/list");
        check("//v3/job/list?from=0", "/v3/job/list?from=0");
        check("///v3//job///list/?a=//b", "/v3/job/list/?a=//b");
        check("/v3/job/list.json?x=1.json", "/v3/job/list?x=1.json");
        check("/v3/job/show/12.json", "/v3/job/show/12");
        check("/v3/table/delete/web/events.json", "/v3/table/delete/web/events.json");
        check("/v3/database/delete/web.json", "/v3/database/delete/web.json");
        check(
            "/v3/table/import_with_id/d/t/a%2F%2Fb%252F/msgpack.gz",
            "/v3/table/import_with_id/d/t/a%2F%2Fb%252F/msgpack.gz",
        );
        check("https://host:1//v3/x", "https://host:1/v3/x");
        check("//", "/");
    }

    #[test]
    fn no_spelling_of_a_step_upwards_passes() {
        for path in [
            "/v3/../x",
            "/v3/./x",
            "/v3/%2e%2e/x",
            "/v3/.%2E",
            "/v3/%2E",
            "/v3/a%00b",
            "/v3/a%0ab",
            "/v3/%ff",
        ] {
            assert!(normal(&path.parse().unwrap()).is_err(), "{path}");
        }
        // Decoded once: this is a name with a percent sign in it.
        check("/v3/%252e%252e", "/v3/%252e%252e");
    }
}
