//! `coffer people export`: all that is known of a person, as lines of JSON.
//!
//! Promise: a file or a pipe that ends with the line `{"rows":…}` is whole. What is the person's is opened; what is another's stays sealed.
//!
//! Start at [`run`]. Everything goes through the public API, under the one key.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt as _;

use base::folded;
use serde_json::{Map, Value, json};

use super::{named, told_why};
use crate::cli::ExportPerson;
use crate::client::people::Person;
use crate::client::td::{Job, Table};
use crate::client::{Access, Client};
use crate::failure::{During, Exit, Failure, Outcome, output_broke};
use crate::terminal;

/// How the text of a sealed value begins.
const SEALED: &str = "sealed1:";
/// Rows wait for what is sealed in them until there are so many of these values, rows, or bytes of texts. The server takes more.
const MOST_VALUES: usize = 1_000;
const MOST_BYTES: usize = 512 << 10;

/// Asks, and writes.
pub(super) async fn run(args: ExportPerson) -> Outcome {
    let access = Access::revealing(&args.client)?;
    let (field, value) = named(&args.whom)?;
    let mut client = Client::new(access);
    let person = client.show(field, value.reveal(), &args.reason).await.map_err(told_why)?;
    let what = "could not write the export";
    let out: Box<dyn Write + Send> = match &args.out {
        Some(path) => {
            let mut options = File::options();
            // Never in place of something, and never readable by others.
            let opened = options.write(true).create_new(true).mode(0o600).open(path);
            Box::new(opened.map_err(|error| {
                let exit = if error.kind() == std::io::ErrorKind::AlreadyExists {
                    Exit::Conflict
                } else {
                    Exit::Failed
                };
                Failure::new(exit, format!("could not make {}", path.display())).why(error)
            })?)
        }
        None => Box::new(std::io::stdout()),
    };
    let mut lines = Lines {
        opener: client.another(),
        person: &person,
        reason: &args.reason,
        out: BufWriter::new(out),
        waiting: Vec::new(),
        values: 0,
        bytes: 0,
        written: 0,
    };
    lines.line(&json!({ "person": person.id, "identities": person.identities }))?;
    let mut databases: Vec<String> = client.databases().await?.into_iter().map(|database| database.name).collect();
    databases.sort();
    for database in databases {
        for table in client.tables(&database).await? {
            export(&mut client, &mut lines, &database, &table).await?;
        }
    }
    let written = lines.written;
    lines.line(&json!({ "rows": written }))?;
    lines.out.flush().map_err(|error| output_broke(&error))?;
    if args.out.is_some() {
        lines
            .out
            .into_inner()
            .map_err(|error| error.into_error())
            .during(what)?
            .flush()
            .during(what)?;
    }
    terminal::say(format_args!("{written} rows of the person {}", person.id));
    Ok(())
}

/// The rows of one table in which the person stands in a column of identities.
async fn export(client: &mut Client, lines: &mut Lines<'_>, database: &str, table: &Table) -> Outcome {
    let places = places(table, lines.person)?;
    if places.is_empty() {
        return Ok(());
    }
    let name = format!("{database}.{}", table.name);
    let query = format!(
        "SELECT * FROM {}.{} WHERE {} IN ({})",
        quoted(database),
        quoted(&table.name),
        lines.person.id,
        places.join(", ")
    );
    let job = client.issue(database, &query).await?;
    let finished = client.finished(&job, |_| ()).await?;
    let columns = columns(&name, &finished)?;
    let (mut fetched, expected) = (0_u64, finished.num_records);
    client
        .result_to(&job, async |row| {
            fetched += 1;
            let row = columns.iter().cloned().zip(row).filter(|(_, value)| !value.is_null());
            lines.row(&name, row.collect()).await?;
            Ok(ControlFlow::Continue(()))
        })
        .await?;
    if expected.is_some_and(|expected| expected != fetched) {
        return Err(Failure::new(Exit::Unverified, format!("the rows of {name} are not whole"))
            .why(format!("{fetched} rows came"))
            .next("ask again"));
    }
    lines.open_all().await
}

fn columns(table: &str, job: &Job) -> Outcome<Vec<String>> {
    if job.status == "success" {
        return job.columns();
    }
    Err(Failure::new(Exit::Failed, format!("the rows of {table} could not be read")).why(job.error()))
}

/// The table's columns of identities, quoted. They hold ids, so no other type is one.
fn places(table: &Table, person: &Person) -> Outcome<Vec<String>> {
    if table.schema.is_empty() {
        return Ok(Vec::new());
    }
    let schema: Vec<Vec<Value>> = serde_json::from_str(&table.schema).during("the server's list of columns cannot be read")?;
    let place = |column: &Vec<Value>| {
        let [Value::String(name), Value::String(kind), ..] = &column[..] else {
            return None;
        };
        let holds_ids = kind == "long" && person.identity_columns.iter().any(|known| folded(known) == folded(name));
        holds_ids.then(|| quoted(name))
    };
    Ok(schema.iter().filter_map(place).collect())
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Lines on their way out.
struct Lines<'a> {
    opener: Client,
    person: &'a Person,
    reason: &'a str,
    out: BufWriter<Box<dyn Write + Send>>,
    /// Rows in which something is sealed, with their tables.
    waiting: Vec<(String, Map<String, Value>)>,
    values: usize,
    bytes: usize,
    written: u64,
}

impl Lines<'_> {
    async fn row(&mut self, table: &str, row: Map<String, Value>) -> Outcome {
        let values = row.values().filter_map(sealed).count();
        let bytes: usize = row.values().filter_map(Value::as_str).map(str::len).sum();
        if self.values + values > MOST_VALUES || self.bytes + bytes > MOST_BYTES || self.waiting.len() >= MOST_VALUES {
            self.open_all().await?;
        }
        self.values += values;
        self.bytes += bytes;
        self.waiting.push((table.to_owned(), row));
        Ok(())
    }

    /// Opens what waits, and writes it.
    async fn open_all(&mut self) -> Outcome {
        let mut rows = std::mem::take(&mut self.waiting);
        (self.values, self.bytes) = (0, 0);
        let fields = rows.iter().flat_map(|(_, row)| row.iter());
        let asked: Vec<(&str, &str)> = fields
            .filter_map(|(column, value)| Some((column.as_str(), sealed(value)?)))
            .collect();
        if !asked.is_empty() {
            let opened = self.opener.open(&self.person.id, self.reason, &asked).await.map_err(told_why)?;
            let mut opened = opened.into_iter();
            for value in rows.iter_mut().flat_map(|(_, row)| row.values_mut()) {
                if sealed(value).is_some()
                    && let Some(text) = opened.next().flatten()
                {
                    *value = Value::String(text);
                }
            }
        }
        for (table, row) in rows {
            self.line(&json!({ "table": table, "row": row }))?;
            self.written += 1;
        }
        Ok(())
    }

    fn line(&mut self, line: &Value) -> Outcome {
        writeln!(self.out, "{line}").map_err(|error| output_broke(&error))
    }
}

fn sealed(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| text.starts_with(SEALED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_looked_for_where_identities_stand_as_ids() {
        let person = Person {
            id: "7".into(),
            identities: Vec::new(),
            identity_columns: vec!["email".into(), "user_id".into()],
        };
        let table = |schema: &str| Table {
            schema: schema.into(),
            ..serde_json::from_str(r#"{"name":"visits"}"#).unwrap()
        };
        let at = |schema: &str| places(&table(schema), &person).unwrap();
        assert_eq!(
            at(r#"[["Email","long","Email"],["user_id","long",null],["n","long"],["a\"b","string"]]"#),
            ["\"Email\"", "\"user_id\""]
        );
        assert!(
            at(r#"[["email","string"]]"#).is_empty(),
            "from before it was declared: no id stands there"
        );
        assert!(at("").is_empty() && at("[]").is_empty());
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
    }
}
