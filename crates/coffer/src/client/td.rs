//! The calls of the td API, version 3, that the commands need.

use std::ops::ControlFlow;
use std::time::Duration;

use base::{DatabaseName, TableName};
use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use serde_json::Value;

use super::rejected::rejected_of;
use super::{Client, Content, escaped};
use crate::failure::{During, Exit, Failure, Outcome};

/// No answer about jobs, databases or tables is larger.
const MOST: usize = 64 << 20;
/// No row of a result is longer, as JSON: the server breaks off before.
const MOST_ROW: usize = 256 << 20;

/// A database.
#[derive(Debug, Deserialize)]
pub(crate) struct Database {
    pub(crate) name: String,
}

/// What became of an import.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Imported {
    /// How many of its rows could not be rows and were set aside.
    pub(crate) rejected: u64,
    /// Whether all of it had been stored before, under the same id.
    pub(crate) duplicate: bool,
}

/// A table.
#[derive(Debug, Deserialize)]
pub(crate) struct Table {
    pub(crate) name: String,
    /// Another one for a table that was made anew under the same name.
    #[serde(default)]
    pub(crate) id: Option<u64>,
    #[serde(default)]
    pub(crate) count: u64,
    #[serde(default)]
    pub(crate) estimated_storage_size: u64,
    #[serde(default)]
    pub(crate) last_log_timestamp: Option<String>,
    /// JSON in a text: `[[name, type, alias], ...]`, without `time`.
    #[serde(default)]
    pub(crate) schema: String,
    /// The same of the columns whose type somebody declared, with our own names of types.
    #[serde(default)]
    pub(crate) declared_schema: String,
    /// How long rows are kept, and the raw log; none for ever.
    #[serde(default)]
    pub(crate) expire_days: Option<u32>,
    #[serde(default)]
    pub(crate) raw_expire_days: Option<u32>,
    /// Rows are yet to be read again under what is declared.
    #[serde(default)]
    pub(crate) schema_changing: bool,
}

/// A job.
#[derive(Debug, Deserialize)]
pub(crate) struct Job {
    pub(crate) status: String,
    #[serde(default)]
    pub(crate) num_records: Option<u64>,
    /// JSON in a text: `[[name, type], ...]`.
    #[serde(default)]
    hive_result_schema: Option<String>,
    #[serde(default)]
    debug: Option<Value>,
}

impl Job {
    /// Whether nothing more will come of it.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.status.as_str(), "success" | "error" | "killed")
    }

    /// Column names, in order.
    pub(crate) fn columns(&self) -> Outcome<Vec<String>> {
        let schema = self.hive_result_schema.as_deref().unwrap_or("[]");
        let pairs: Vec<(String, String)> = serde_json::from_str(schema).during("the server's list of columns cannot be read")?;
        Ok(pairs.into_iter().map(|(name, _)| name).collect())
    }

    /// Why it failed.
    pub(crate) fn error(&self) -> String {
        let part = |name: &str| {
            self.debug
                .as_ref()
                .and_then(|debug| debug.get(name))
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty())
        };
        part("stderr")
            .or_else(|| part("cmdout"))
            .unwrap_or("the server gives no reason")
            .trim()
            .to_owned()
    }
}

impl Client {
    /// Databases that this key may see.
    pub(crate) async fn databases(&mut self) -> Outcome<Vec<Database>> {
        #[derive(Deserialize)]
        struct Answer {
            databases: Vec<Database>,
        }
        let answer: Answer = self
            .json("could not list the databases", Method::GET, "/v3/database/list", Content::Nothing)
            .await?;
        Ok(answer.databases)
    }

    /// Tables of a database.
    pub(crate) async fn tables(&mut self, database: &str) -> Outcome<Vec<Table>> {
        #[derive(Deserialize)]
        struct Answer {
            tables: Vec<Table>,
        }
        let what = format!("could not list the tables of {database:?}");
        let answer: Answer = self
            .json(
                &what,
                Method::GET,
                &format!("/v3/table/list/{}", escaped(database)),
                Content::Nothing,
            )
            .await?;
        Ok(answer.tables)
    }

    /// Makes a database, unless it is there.
    pub(crate) async fn make_database(&mut self, database: &DatabaseName) -> Outcome {
        self.make("could not make the database", &format!("/v3/database/create/{database}"))
            .await
    }

    /// Makes a table, unless it is there.
    pub(crate) async fn make_table(&mut self, database: &DatabaseName, table: &TableName) -> Outcome {
        self.make("could not make the table", &format!("/v3/table/create/{database}/{table}/log"))
            .await
    }

    /// Declares types of columns, in place of `before`; if something else is declared by now, that stays.
    pub(crate) async fn declare(
        &mut self,
        database: &DatabaseName,
        table: &TableName,
        before: &[(String, String)],
        columns: &[(String, String)],
    ) -> Outcome {
        let before = serde_json::to_string(before).during("the list of columns cannot be written")?;
        let schema = serde_json::to_string(columns).during("the list of columns cannot be written")?;
        let path = format!("/v3/table/update-schema/{database}/{table}");
        let content = Content::form(&[("schema", &schema), ("based_on", &before)]);
        self.json::<Value>("could not declare the types", Method::POST, &path, content)
            .await
            .map(drop)
    }

    /// Deletes a database with all that is in it.
    pub(crate) async fn delete_database(&mut self, database: &str) -> Outcome {
        let path = format!("/v3/database/delete/{}", escaped(database));
        self.json::<Value>("could not delete the database", Method::POST, &path, Content::Nothing)
            .await
            .map(drop)
    }

    /// Sets how many days a table's rows and its raw log are kept; 0 for ever.
    pub(crate) async fn keep(&mut self, database: &DatabaseName, table: &TableName, keep: Option<u32>, raw: Option<u32>) -> Outcome {
        let [keep, raw] = [keep, raw].map(|days| days.map(|days| days.to_string()));
        let fields = [("expire_days", keep.as_deref()), ("raw_expire_days", raw.as_deref())];
        let fields: Vec<(&str, &str)> = fields.iter().filter_map(|(name, days)| Some((*name, (*days)?))).collect();
        let path = format!("/v3/table/update/{database}/{table}");
        self.json::<Value>("could not set how long rows are kept", Method::POST, &path, Content::form(&fields))
            .await
            .map(drop)
    }

    async fn make(&mut self, what: &str, path: &str) -> Outcome {
        match self.json::<Value>(what, Method::POST, path, Content::Nothing).await {
            Err(failure) if failure.exit == Exit::Conflict => Ok(()),
            other => other.map(drop),
        }
    }

    /// Sends a gzip of msgpack maps. The same `id` again stores nothing again.
    pub(crate) async fn import(&mut self, database: &DatabaseName, table: &TableName, id: &str, batch: Bytes) -> Outcome<Imported> {
        let path = format!("/v3/table/import_with_id/{database}/{table}/{}/msgpack.gz", escaped(id));
        let answer: Value = self
            .json("could not send events", Method::PUT, &path, Content::Binary(batch))
            .await?;
        Ok(Imported {
            rejected: rejected_of(&answer),
            duplicate: answer["duplicate"].as_bool().unwrap_or(false),
        })
    }

    /// Asks whether a table is there and may be sent to, by sending nothing.
    pub(crate) async fn import_nothing(&mut self, database: &DatabaseName, table: &TableName, nothing: Bytes) -> Outcome {
        let path = format!("/v3/table/import/{database}/{table}/msgpack.gz");
        let what = format!("could not send to {database}.{table}");
        self.json::<Value>(&what, Method::PUT, &path, Content::Binary(nothing))
            .await
            .map(drop)
    }

    /// The newest rows of a table as msgpack maps, the newest first.
    pub(crate) async fn tail(&mut self, database: &DatabaseName, table: &TableName, count: u32) -> Outcome<Bytes> {
        let what = format!("could not read the end of {database}.{table}");
        let path = format!("/v3/table/tail/{database}/{table}?count={count}&format=msgpack");
        self.bytes(&what, Method::GET, &path, Content::Nothing).await
    }

    /// Hands in a query; the job's id.
    pub(crate) async fn issue(&mut self, database: &str, query: &str) -> Outcome<String> {
        #[derive(Deserialize)]
        struct Answer {
            job_id: String,
        }
        let path = format!("/v3/job/issue/trino/{}", escaped(database));
        let answer: Answer = self
            .json(
                "the query was not accepted",
                Method::POST,
                &path,
                Content::form(&[("query", query)]),
            )
            .await?;
        Ok(answer.job_id)
    }

    /// Waits until a job is over. `look` is told its state each time.
    pub(crate) async fn finished(&mut self, job: &str, mut look: impl FnMut(&str)) -> Outcome<Job> {
        let mut pause = Duration::from_millis(5);
        loop {
            let what = "could not ask how the query is doing";
            let status: Job = self
                .json(what, Method::GET, &format!("/v3/job/status/{}", escaped(job)), Content::Nothing)
                .await?;
            look(&status.status);
            if status.is_over() {
                return self
                    .json(what, Method::GET, &format!("/v3/job/show/{}", escaped(job)), Content::Nothing)
                    .await;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(Duration::from_millis(500));
        }
    }

    /// Ends a job.
    pub(crate) async fn kill(&mut self, job: &str) -> Outcome {
        let path = format!("/v3/job/kill/{}", escaped(job));
        self.json::<Value>("could not end the query", Method::POST, &path, Content::Nothing)
            .await
            .map(drop)
    }

    /// A finished job's rows, handed on one by one as they arrive, until `row` has seen enough.
    pub(crate) async fn result(&mut self, job: &str, mut row: impl FnMut(Vec<Value>) -> Outcome<ControlFlow<()>>) -> Outcome {
        self.result_to(job, async |values| row(values)).await
    }

    /// The same for whoever has something to wait for at each row; the next piece of the answer waits as well.
    pub(crate) async fn result_to(&mut self, job: &str, mut row: impl AsyncFnMut(Vec<Value>) -> Outcome<ControlFlow<()>>) -> Outcome {
        let what = "could not get the result";
        let path = format!("/v3/job/result/{}?format=json", escaped(job));
        let mut body = self.call(what, Method::GET, &path, Content::Nothing).await?.into_body();
        let mut line: Vec<u8> = Vec::new();
        let mut whole = async |line: &[u8]| -> Outcome<ControlFlow<()>> {
            if line.is_empty() {
                Ok(ControlFlow::Continue(()))
            } else {
                row(serde_json::from_slice(line).during("a row of the result cannot be read")?).await
            }
        };
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                Failure::new(Exit::Temporary, what)
                    .why(format!("the answer broke off: {error}"))
                    .next("try again")
            })?;
            let Some(data) = frame.data_ref() else { continue };
            let mut parts = data.split(|byte| *byte == b'\n').peekable();
            while let Some(part) = parts.next() {
                if line.len() + part.len() > MOST_ROW {
                    return Err(Failure::new(Exit::Refused, what)
                        .why(format!("one row is longer than {} MiB", MOST_ROW >> 20))
                        .next("ask for fewer columns"));
                }
                line.extend_from_slice(part);
                if parts.peek().is_some() {
                    if whole(&line).await?.is_break() {
                        return Ok(());
                    }
                    line.clear();
                }
            }
        }
        whole(&line).await.map(drop)
    }

    async fn json<T: serde::de::DeserializeOwned>(&mut self, what: &str, method: Method, path: &str, content: Content) -> Outcome<T> {
        self.json_within(MOST, what, method, path, content).await
    }

    pub(super) async fn json_within<T: serde::de::DeserializeOwned>(
        &mut self,
        most: usize,
        what: &str,
        method: Method,
        path: &str,
        content: Content,
    ) -> Outcome<T> {
        let body = self.bytes_within(most, what, method, path, content).await?;
        serde_json::from_slice(&body).map_err(|error| {
            Failure::new(Exit::Failed, what)
                .why(format!("the answer is not what this program understands: {error}"))
                .next("is it a coffer of this version?")
        })
    }

    async fn bytes(&mut self, what: &str, method: Method, path: &str, content: Content) -> Outcome<Bytes> {
        self.bytes_within(MOST, what, method, path, content).await
    }

    async fn bytes_within(&mut self, most: usize, what: &str, method: Method, path: &str, content: Content) -> Outcome<Bytes> {
        let answer = self.call(what, method, path, content).await?;
        let body = Limited::new(answer.into_body(), most).collect().await;
        let body = body.map_err(|error| {
            Failure::new(Exit::Temporary, what)
                .why(format!("the answer broke off: {error}"))
                .next("try again")
                .again_after(Duration::ZERO)
        })?;
        Ok(body.to_bytes())
    }
}
