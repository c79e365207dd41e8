//! Parameters, however a client sends them: query string, multipart, form, JSON, or none at all.
//!
//! Promise: all of them are accepted on every POST, and none is read beyond its cap.
//!
//! Start at [`Params::from_query`] and [`Params::from_body`]. Does not know what a parameter means.

use std::{collections::BTreeMap, fmt, ops::RangeInclusive, str::FromStr};

use axum::extract::{DefaultBodyLimit, FromRequest, Multipart};
use base::ErrorKind;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use percent_encoding::percent_decode;

use crate::errors::ApiError;

/// No request of any studied client comes near.
const MAX_COUNT: usize = 100;

/// Named texts. Never printed: a query is among them.
#[derive(Default, PartialEq, Eq)]
pub(crate) struct Params(BTreeMap<String, String>);

impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Params {
    /// From the query string of a GET.
    pub(crate) fn from_query(query: Option<&str>) -> Result<Self, ApiError> {
        Self::from_form(query.unwrap_or_default().as_bytes())
    }

    /// From the body of a POST, by its content type; an empty body has no parameters, whatever its type says.
    pub(crate) async fn from_body(headers: &HeaderMap, body: Bytes) -> Result<Self, ApiError> {
        if body.is_empty() {
            return Ok(Self::default());
        }
        let content_type = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        match content_type
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase()
            .as_str()
        {
            "multipart/form-data" => Self::from_multipart(content_type, body).await,
            "application/x-www-form-urlencoded" => Self::from_form(&body),
            "application/json" => Self::from_json(&body),
            _ => Err(ApiError::with_status(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "send parameters as multipart/form-data, application/x-www-form-urlencoded or application/json",
            )),
        }
    }

    fn from_form(form: &[u8]) -> Result<Self, ApiError> {
        let mut params = Self::default();
        for pair in form.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            let name = decoded(halves.next().unwrap_or_default())?;
            params.insert(name, decoded(halves.next().unwrap_or_default())?)?;
        }
        Ok(params)
    }

    fn from_json(body: &[u8]) -> Result<Self, ApiError> {
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(body).map_err(|_| ApiError::invalid("the body is not a JSON object"))?;
        let mut params = Self::default();
        for (name, value) in object {
            match value {
                serde_json::Value::Null => {}
                serde_json::Value::String(text) => params.insert(name, text)?,
                other => params.insert(name, other.to_string())?,
            }
        }
        Ok(params)
    }

    async fn from_multipart(content_type: &str, body: Bytes) -> Result<Self, ApiError> {
        let wrong = |_| ApiError::invalid("the multipart body is damaged or holds something that is not UTF-8");
        let mut request = Request::builder()
            .header(header::CONTENT_TYPE, content_type)
            .body(axum::body::Body::from(body))
            .map_err(|_| ApiError::of(ErrorKind::Invalid))?;
        // The body was bounded when it was read.
        DefaultBodyLimit::disable().apply(&mut request);
        let mut multipart = Multipart::from_request(request, &())
            .await
            .map_err(|_| ApiError::invalid("the multipart boundary is missing"))?;
        let mut params = Self::default();
        while let Some(field) = multipart.next_field().await.map_err(wrong)? {
            let name = field.name().unwrap_or_default().to_owned();
            let bytes = field.bytes().await.map_err(wrong)?;
            let text = String::from_utf8(bytes.into()).map_err(|_| not_utf8())?;
            params.insert(name, text)?;
        }
        Ok(params)
    }

    fn insert(&mut self, name: String, value: String) -> Result<(), ApiError> {
        if name.is_empty() || name.len() > 128 || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ApiError::invalid("a parameter has no valid name"));
        }
        if self.0.len() >= MAX_COUNT {
            return Err(ApiError::invalid(format!("more than {MAX_COUNT} parameters")));
        }
        // Two values for one name would mean different things to different readers.
        if self.0.get(&name).is_some_and(|earlier| *earlier != value) {
            return Err(ApiError::invalid(format!("the parameter {name} is given twice")));
        }
        self.0.insert(name, value);
        Ok(())
    }

    /// All of them.
    pub(crate) fn into_pairs(self) -> BTreeMap<String, String> {
        self.0
    }

    /// The value, if there is one; an empty one counts as none.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A number within `range`, or `default` when absent.
    pub(crate) fn number<N: FromStr + PartialOrd + fmt::Display>(
        &self,
        name: &str,
        range: RangeInclusive<N>,
        default: N,
    ) -> Result<N, ApiError> {
        let Some(text) = self.get(name) else { return Ok(default) };
        text.trim()
            .parse()
            .ok()
            .filter(|number| range.contains(number))
            .ok_or_else(|| ApiError::invalid(format!("{name} is a whole number from {} to {}", range.start(), range.end())))
    }

    /// A truth value: Python sends `True`, Ruby `true`, a person `1`.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.get(name).map(str::to_ascii_lowercase).as_deref() {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(_) => Err(ApiError::invalid(format!("{name} is true or false"))),
        }
    }
}

/// `+` and percent codes, decoded once.
fn decoded(text: &[u8]) -> Result<String, ApiError> {
    let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    String::from_utf8(percent_decode(&spaced).collect()).map_err(|_| not_utf8())
}

fn not_utf8() -> ApiError {
    ApiError::invalid("a parameter is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(content_type: Option<&str>, body: &'static str) -> Result<Params, u16> {
        let mut headers = HeaderMap::new();
        if let Some(text) = content_type {
            headers.insert(header::CONTENT_TYPE, text.parse().unwrap());
        }
        Params::from_body(&headers, Bytes::from(body))
            .await
            .map_err(|error| error.status().as_u16())
    }

    fn params(pairs: &[(&str, &str)]) -> Params {
        Params(
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        )
    }

    #[tokio::test]
    async fn the_three_encodings_say_the_same() {
        let expected = params(&[("query", "SELECT 'käse' + 1"), ("priority", "-1")]);
        let multipart = "--b\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\nSELECT 'käse' + 1\r\n\
            --b\r\nContent-Disposition: form-data; name=\"priority\"\r\nContent-Type: text/plain\r\n\r\n-1\r\n--b--\r\n";
        assert_eq!(
            read(Some("multipart/form-data; boundary=b"), multipart).await.as_ref(),
            Ok(&expected)
        );
        let form = "query=SELECT+%27k%C3%A4se%27+%2B%201&priority=-1";
        assert_eq!(read(Some("application/x-www-form-urlencoded"), form).await.as_ref(), Ok(&expected));
        let json = r#"{"query":"SELECT 'käse' + 1","priority":-1,"result":null}"#;
        assert_eq!(read(Some("Application/JSON; charset=utf-8"), json).await.as_ref(), Ok(&expected));
    }

    #[tokio::test]
    async fn an_empty_body_has_no_parameters() {
        for content_type in [None, Some("application/json"), Some("text/plain"), Some("multipart/form-data")] {
            assert_eq!(read(content_type, "").await, Ok(Params::default()), "{content_type:?}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_refused_with_its_reason() {
        for (content_type, body, status) in [
            (Some("text/plain"), "a=b", 415),
            (None, "a=b", 415),
            (Some("multipart/form-data"), "--b--", 400),
            (Some("multipart/form-data; boundary=b"), "--b\r\nContent-Dispo", 400),
            (Some("application/json"), "[1]", 400),
            (Some("application/json"), "{\"a\":", 400),
            (Some("application/x-www-form-urlencoded"), "a=%ff", 400),
            (Some("application/x-www-form-urlencoded"), "a=1&a=2", 400),
            (Some("application/x-www-form-urlencoded"), "=1", 400),
            (Some("application/x-www-form-urlencoded"), "a%0d%0a=1", 400),
        ] {
            assert_eq!(read(content_type, body).await, Err(status), "{content_type:?} {body}");
        }
        let many: String = (0..=MAX_COUNT).map(|n| format!("p{n}=1&")).collect();
        assert!(Params::from_query(Some(&many)).is_err());
    }

    #[test]
    fn numbers_and_flags_have_bounds() {
        let given = params(&[("to", "19"), ("header", "True"), ("empty", ""), ("bad", "x")]);
        assert_eq!(given.number("to", 0..=100u64, 5).ok(), Some(19));
        assert_eq!(given.number("empty", 0..=100u64, 5).ok(), Some(5));
        assert!(given.number("to", 0..=18u64, 5).is_err() && given.number("bad", 0..=18u64, 5).is_err());
        assert_eq!(
            (given.flag("header").ok(), given.flag("none").ok(), given.flag("bad").ok()),
            (Some(true), Some(false), None)
        );
    }
}
