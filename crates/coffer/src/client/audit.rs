//! The calls about the audit journal. Not of the td API.

use http::Method;
use http_body_util::BodyExt;

use super::{Client, Content};
use crate::failure::{Exit, Failure, Outcome};

impl Client {
    /// The last records, or those after a number.
    pub(crate) async fn audit(&mut self, after: Option<u64>, last: u32) -> Outcome<Vec<String>> {
        let after = after.map_or_else(String::new, |after| format!("&after={after}"));
        let mut lines = Vec::new();
        let path = format!("/v1/audit?last={last}{after}");
        self.audit_lines("could not read the audit journal", &path, |line| {
            lines.push(line.to_owned());
            Ok(())
        })
        .await?;
        Ok(lines)
    }

    /// All of it, line by line.
    pub(crate) async fn audit_export(&mut self, boundary: Option<u64>, line: impl FnMut(&str) -> Outcome) -> Outcome {
        let boundary = boundary.map_or_else(String::new, |at| format!("?boundary={at}"));
        let path = format!("/v1/audit/export{boundary}");
        self.audit_lines("could not export the audit journal", &path, line).await
    }

    async fn audit_lines(&mut self, what: &str, path: &str, mut each: impl FnMut(&str) -> Outcome) -> Outcome {
        let mut body = self.call(what, Method::GET, path, Content::Nothing).await?.into_body();
        let wrong = |why: String| Failure::new(Exit::Temporary, what).why(format!("the answer broke off: {why}"));
        let mut pending = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| wrong(error.to_string()))?;
            let Ok(data) = frame.into_data() else { continue };
            pending.extend_from_slice(&data);
            while let Some(end) = memchr::memchr(b'\n', &pending) {
                let line: Vec<u8> = pending.drain(..=end).take(end).collect();
                each(std::str::from_utf8(&line).map_err(|error| wrong(error.to_string()))?)?;
            }
        }
        if pending.is_empty() {
            Ok(())
        } else {
            Err(wrong("in the middle of a line".into()))
        }
    }
}
