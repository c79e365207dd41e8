//! The calls about people. Not of the td API.
//!
//! Start at [`Client::show`].

use http::Method;
use serde::{Deserialize, Serialize};

use super::{Client, Content};
use crate::failure::{During, Exit, Failure, Outcome};

/// An answer has a hash for each of somebody's identities, or all of these, or as many values as were sent.
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

/// Who somebody is.
#[derive(Debug, Deserialize)]
pub(crate) struct Person {
    pub(crate) id: String,
    pub(crate) identities: Vec<KnownAs>,
    /// Columns in which the product has identities.
    pub(crate) identity_columns: Vec<String>,
}

/// One identity of somebody. Not printed by mistake: it has no `Debug`.
#[derive(Serialize, Deserialize)]
pub(crate) struct KnownAs {
    pub(crate) identity: String,
    /// In which it came first, where that was noted.
    pub(crate) column: Option<String>,
}

impl std::fmt::Debug for KnownAs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Client {
    /// Who is known by `field` (`identity` or `id`), for a reason.
    pub(crate) async fn show(&mut self, field: &str, value: &str, reason: &str) -> Outcome<Person> {
        let content = Content::form(&[(field, value), ("reason", reason)]);
        self.json_within(MOST, "could not show the person", Method::POST, "/v1/people/show", content)
            .await
    }

    /// What stands sealed in columns, opened if it is this person's.
    pub(crate) async fn open(&mut self, id: &str, reason: &str, values: &[(&str, &str)]) -> Outcome<Vec<Option<String>>> {
        #[derive(Deserialize)]
        struct Answer {
            values: Vec<Option<String>>,
        }
        let what = "could not open what is sealed for the person";
        let asked = serde_json::to_string(values).during("the sealed values cannot be written")?;
        let content = Content::form(&[("id", id), ("reason", reason), ("values", &asked)]);
        let answer: Answer = self.json_within(MOST, what, Method::POST, "/v1/people/open", content).await?;
        if answer.values.len() != values.len() {
            return Err(Failure::new(Exit::Failed, what).why("the answer has another number of values"));
        }
        Ok(answer.values)
    }

    /// Erases whoever is known by `field` (`identity` or `id`).
    pub(crate) async fn erase(&mut self, field: &str, value: &str) -> Outcome<Receipt> {
        let content = Content::form(&[(field, value)]);
        self.json_within(MOST, "could not erase the person", Method::POST, "/v1/people/erase", content)
            .await
    }
}
