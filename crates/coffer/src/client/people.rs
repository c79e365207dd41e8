//! The calls about people. Not of the td API.

use http::Method;
use serde::{Deserialize, Serialize};

use super::{Client, Content};
use crate::failure::Outcome;

/// The answer has a hash for each of somebody's identities.
const MOST: usize = 64 << 20;

/// What says that somebody was erased, as it is printed and kept.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Receipt {
    /// The id that they had.
    pub(crate) id: String,
    pub(crate) erased_at: String,
    /// How many identities went; 0 when they had been erased before.
    pub(crate) identities: u64,
    /// What was signed, base64.
    pub(crate) receipt: String,
}

impl Client {
    /// Erases whoever is known by `field` (`identity` or `id`).
    pub(crate) async fn erase(&mut self, field: &str, value: &str) -> Outcome<Receipt> {
        let content = Content::form(&[(field, value)]);
        self.json_within(MOST, "could not erase the person", Method::POST, "/v1/people/erase", content)
            .await
    }
}
