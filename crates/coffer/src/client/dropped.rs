//! The calls about what was dropped. Not of the td API.

use base::{DatabaseName, TableName};
use http::Method;
use serde::Deserialize;
use serde_json::Value;

use super::{Client, Content};
use crate::failure::Outcome;

/// A table or a database that can be brought back.
#[derive(Debug, Deserialize)]
pub(crate) struct Dropped {
    pub(crate) database: String,
    /// None for a whole database.
    pub(crate) table: Option<String>,
    pub(crate) count: u64,
    pub(crate) dropped_at: Option<String>,
    pub(crate) kept_until: Option<String>,
}

/// The list has a line for each of 100,000 tables at most.
const MOST: usize = 64 << 20;

impl Client {
    /// What can be brought back, the last dropped first.
    pub(crate) async fn dropped(&mut self) -> Outcome<Vec<Dropped>> {
        #[derive(Deserialize)]
        struct Answer {
            dropped: Vec<Dropped>,
        }
        let what = "could not list what was dropped";
        let answer: Answer = self.json_within(MOST, what, Method::GET, "/v1/dropped", Content::Nothing).await?;
        Ok(answer.dropped)
    }

    /// Brings a table back, or without one a database, under its own name or another.
    pub(crate) async fn undrop(&mut self, database: &DatabaseName, table: Option<&TableName>, to: Option<&str>) -> Outcome {
        let (of, path) = match table {
            Some(table) => (
                format!("table {database}.{table}"),
                format!("/v1/dropped/{database}/{table}/restore"),
            ),
            None => (format!("database {database}"), format!("/v1/dropped/{database}/restore")),
        };
        let content = to.map_or(Content::Nothing, |to| Content::form(&[("as", to)]));
        let what = format!("could not bring the {of} back");
        self.json_within::<Value>(MOST, &what, Method::POST, &path, content).await.map(drop)
    }
}
