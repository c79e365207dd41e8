//! The calls about what could not be rows and was set aside. Not of the td API.

use base::{DatabaseName, TableName};
use http::Method;
use serde::Deserialize;
use serde_json::Value;

use super::{Client, Content, escaped};
use crate::failure::Outcome;

/// Something that was set aside.
#[derive(Debug, Deserialize)]
pub(crate) struct SetAside {
    /// When it was received, seconds since the epoch.
    pub(crate) time: i64,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) request: String,
    pub(crate) row: u64,
    pub(crate) syntax: String,
    pub(crate) bytes: u64,
    pub(crate) key_id: String,
    pub(crate) import_id: Option<String>,
    /// As it was sent, if that is text.
    pub(crate) content: Option<String>,
    /// As it was sent, if that is not text.
    pub(crate) content_hex: Option<String>,
    /// Why neither is there.
    pub(crate) content_error: Option<String>,
}

/// A part of the list.
#[derive(Debug, Deserialize)]
pub(crate) struct Page {
    pub(crate) rejected: Vec<SetAside>,
    /// Where it goes on.
    pub(crate) next: Option<String>,
}

/// What came of trying a part of the list again.
#[derive(Debug, Deserialize)]
pub(crate) struct Replayed {
    pub(crate) taken: u64,
    pub(crate) left: Vec<Left>,
    pub(crate) next: Option<String>,
}

/// Something that still cannot be a row.
#[derive(Debug, Deserialize)]
pub(crate) struct Left {
    pub(crate) reason: String,
}

/// No page is larger: the server ends one before.
const MOST: usize = 512 << 20;

impl Client {
    /// What was set aside of a table, `count` at most, from after `after` on.
    pub(crate) async fn rejected(&mut self, database: &DatabaseName, table: &TableName, count: u32, after: Option<&str>) -> Outcome<Page> {
        let what = format!("could not show what was set aside of {database}.{table}");
        let after = after.map_or(String::new(), |after| format!("&after={}", escaped(after)));
        let path = format!("/v1/rejected/{database}/{table}?count={count}{after}");
        self.json_within(MOST, &what, Method::GET, &path, Content::Nothing).await
    }

    /// Tries it again, or only says what would become of it.
    pub(crate) async fn replay(
        &mut self,
        database: &DatabaseName,
        table: &TableName,
        count: u32,
        after: Option<&str>,
        dry_run: bool,
    ) -> Outcome<Replayed> {
        let what = format!("could not try again what was set aside of {database}.{table}");
        let count = count.to_string();
        let mut fields = vec![("count", count.as_str())];
        fields.extend(after.map(|after| ("after", after)));
        if dry_run {
            fields.push(("dry_run", "true"));
        }
        let path = format!("/v1/rejected/{database}/{table}/replay");
        self.json_within(MOST, &what, Method::POST, &path, Content::form(&fields)).await
    }
}

/// How many of an import's rows the server set aside.
pub(super) fn rejected_of(answer: &Value) -> u64 {
    answer.get("rejected").and_then(Value::as_u64).unwrap_or(0)
}
