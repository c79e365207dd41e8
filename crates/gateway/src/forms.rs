//! In which form a body of events comes: how its rows are written, and how it is compressed.
//!
//! Does not know what is done with them.

use events::{Encoding, Limits, Syntax};
use http::{HeaderMap, StatusCode, header};

use crate::errors::ApiError;
use crate::records;

/// The form of one body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) syntax: Syntax,
    pub(crate) encoding: Encoding,
}

impl Form {
    /// What the last part of an import's path says (`msgpack.gz`), and the headers, which must not contradict it.
    pub(crate) fn of_import(format: &str, headers: &HeaderMap) -> Result<Self, ApiError> {
        let (syntax, compressed) = match format.split_once('.') {
            None => (format, None),
            Some((syntax, "gz")) => (syntax, Some(Encoding::Gzip)),
            Some((syntax, "zst")) => (syntax, Some(Encoding::Zstd)),
            Some(_) => return Err(unknown_format()),
        };
        let syntax = match syntax {
            "msgpack" => Syntax::Msgpack,
            "json" | "jsonl" => Syntax::Json,
            _ => return Err(unknown_format()),
        };
        check_type(syntax, headers)?;
        let encoding = match (compressed, encoding(headers)?) {
            (None, stated) => stated,
            (Some(of_path), Encoding::Identity) => of_path,
            (Some(_), _) => {
                return Err(unsupported(
                    "leave the content encoding out; the end of the path says already how the body is compressed",
                ));
            }
        };
        Ok(Self { syntax, encoding })
    }

    /// How much a body of this form may be.
    pub(crate) fn limits(self, most: &Limits) -> Limits {
        if self.is_records() { records::limits(most) } else { most.clone() }
    }

    /// Whether each row gets an answer of its own.
    pub(crate) const fn is_records(self) -> bool {
        matches!(self.syntax, Syntax::Records(_))
    }
}

fn unknown_format() -> ApiError {
    unsupported("imports are sent as msgpack, json or jsonl, compressed with .gz or .zst after it (msgpack.gz), or by a content encoding")
}

/// How the body is compressed.
pub(crate) fn encoding(headers: &HeaderMap) -> Result<Encoding, ApiError> {
    let text = match headers.get(header::CONTENT_ENCODING).map(header::HeaderValue::to_str) {
        None => "",
        Some(Ok(text)) => text,
        Some(Err(_)) => "?",
    };
    Encoding::from_name(text).ok_or_else(|| unsupported("the content encoding is one of gzip, deflate, zstd and identity"))
}

/// The media type of the body, in lower case and without parameters; empty when none is stated.
pub(crate) fn media_type(headers: &HeaderMap) -> Result<String, ApiError> {
    let text = headers.get(header::CONTENT_TYPE).map_or(Ok(""), |value| value.to_str());
    let text = text.map_err(|_| unsupported("the content type cannot be read"))?;
    Ok(text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// A content type that contradicts the path is refused: one of the two is a mistake.
fn check_type(syntax: Syntax, headers: &HeaderMap) -> Result<(), ApiError> {
    let fits = match media_type(headers)?.as_str() {
        // The last one is what curl says of whatever it sends.
        ""
        | "application/octet-stream"
        | "application/gzip"
        | "application/x-gzip"
        | "application/zstd"
        | "application/x-www-form-urlencoded" => true,
        "application/msgpack" | "application/x-msgpack" | "application/vnd.msgpack" => syntax == Syntax::Msgpack,
        "application/json"
        | "application/jsonl"
        | "application/jsonlines"
        | "application/x-ndjson"
        | "application/x-jsonlines"
        | "text/plain" => syntax == Syntax::Json,
        _ => false,
    };
    if fits {
        Ok(())
    } else {
        Err(unsupported(
            "the content type does not fit the format in the path; application/octet-stream fits all",
        ))
    }
}

/// 415, with what is supported.
pub(crate) fn unsupported(message: &str) -> ApiError {
    ApiError::with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(format: &str, headers: &[(header::HeaderName, &str)]) -> Result<(Syntax, Encoding), u16> {
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        Form::of_import(format, &headers)
            .map(|form| (form.syntax, form.encoding))
            .map_err(|error| error.status().as_u16())
    }

    #[test]
    fn the_path_says_how_rows_are_written_and_compressed() {
        assert_eq!(form("msgpack.gz", &[]), Ok((Syntax::Msgpack, Encoding::Gzip)));
        assert_eq!(form("msgpack", &[]), Ok((Syntax::Msgpack, Encoding::Identity)));
        assert_eq!(form("jsonl.zst", &[]), Ok((Syntax::Json, Encoding::Zstd)));
        assert_eq!(form("json", &[]), Ok((Syntax::Json, Encoding::Identity)));
        for unknown in ["", "csv.gz", "msgpack.br", "msgpack.gz.gz", "MSGPACK", ".gz"] {
            assert_eq!(form(unknown, &[]), Err(415), "{unknown}");
        }
    }

    #[test]
    fn a_content_encoding_says_it_where_the_path_does_not() {
        let coded = |format, encoding| form(format, &[(header::CONTENT_ENCODING, encoding)]);
        assert_eq!(coded("json", "gzip"), Ok((Syntax::Json, Encoding::Gzip)));
        assert_eq!(coded("msgpack", "zstd"), Ok((Syntax::Msgpack, Encoding::Zstd)));
        assert_eq!(coded("json", "deflate"), Ok((Syntax::Json, Encoding::Deflate)));
        assert_eq!(coded("msgpack.gz", "identity"), Ok((Syntax::Msgpack, Encoding::Gzip)));
        for (format, wrong) in [("msgpack.gz", "gzip"), ("json", "br"), ("json", "gzip, gzip")] {
            assert_eq!(coded(format, wrong), Err(415), "{format} {wrong}");
        }
    }

    #[test]
    fn content_types_that_contradict_the_path_are_refused() {
        let typed = |format, kind| form(format, &[(header::CONTENT_TYPE, kind)]).map(|_| ());
        for good in [
            "application/octet-stream",
            "Application/X-Msgpack; a=b",
            "application/x-www-form-urlencoded",
        ] {
            assert_eq!(typed("msgpack", good), Ok(()), "{good}");
        }
        for good in ["application/json; charset=utf-8", "application/x-ndjson", "text/plain"] {
            assert_eq!(typed("jsonl", good), Ok(()), "{good}");
        }
        for (format, bad) in [
            ("msgpack", "application/json"),
            ("json", "application/msgpack"),
            ("json", "multipart/form-data; boundary=b"),
            ("msgpack.gz", "text/html"),
        ] {
            assert_eq!(typed(format, bad), Err(415), "{bad}");
        }
    }
}
