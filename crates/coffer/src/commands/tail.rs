//! `coffer tail`: the newest rows of a table, and those that arrive.

mod window;

use std::time::Duration;

use serde_json::Value;

use self::window::{Row, Window, columns, rows_of};
use crate::cli::{Tail, table_name};
use crate::client::{Access, Client};
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{self, Format};
use crate::terminal;

/// How often it is asked whether there is more.
const EVERY: Duration = Duration::from_secs(1);
/// While the server is away.
const LATER: Duration = Duration::from_secs(5);
/// Rows that one look can show; servers give no more.
const MOST: u32 = 1_000;

/// Prints, once or for ever.
pub(crate) async fn run(args: Tail) -> Outcome {
    let (database, table) = table_name(&args.table, args.database.as_deref())
        .map_err(|why| Failure::new(Exit::Usage, "there is no table to look at").why(why))?;
    let mut client = Client::new(Access::reading(&args.client)?);
    if !args.follow {
        let rows = rows_of(&client.tail(&database, &table, args.rows).await?)?;
        return print(Format::chosen(args.output), &rows);
    }
    let format = args.output.unwrap_or(Format::Jsonl);
    if format == Format::Json {
        return Err(Failure::new(Exit::Usage, "rows that go on arriving are no JSON array").next("use -o jsonl: an object per line"));
    }
    let mut rows = rows_of(&client.tail(&database, &table, MOST).await?)?;
    let mut window = Window::default();
    window.advance(&rows);
    let mut printer = Printer::new(format);
    rows.drain(..rows.len().saturating_sub(args.rows as usize));
    printer.print(&rows)?;
    let mut away = false;
    loop {
        tokio::time::sleep(if away { LATER } else { EVERY }).await;
        let read = match client.tail(&database, &table, MOST).await {
            Ok(read) => read,
            Err(failure) if failure.again.is_some() => {
                if !std::mem::replace(&mut away, true) {
                    terminal::say(format_args!("{}; trying again", failure.in_one_line()));
                }
                continue;
            }
            Err(failure) => return Err(failure),
        };
        away = false;
        let rows = rows_of(&read)?;
        let new = window.advance(&rows);
        if new.missed {
            terminal::say(format_args!("more than {MOST} rows arrived at once: some of them are not shown"));
        }
        printer.print(&new.rows)?;
    }
}

/// All at once.
fn print(format: Format, rows: &[Row]) -> Outcome {
    let columns = columns(rows);
    let names: Vec<&str> = columns.iter().map(String::as_str).collect();
    let mut out = output::to_stdout(format, true, &names);
    for row in rows {
        out.row(values(row, &columns))?;
    }
    out.finish().map(drop)
}

fn values(row: &Row, columns: &[String]) -> Vec<Value> {
    let value = |column| row.iter().find(|(name, _)| name == column).map(|(_, value)| value.clone());
    columns.iter().map(|column| value(column).unwrap_or_default()).collect()
}

/// Rows as they arrive.
struct Printer {
    format: Format,
    /// csv, tsv: the columns whose names were printed.
    columns: Vec<String>,
}

impl Printer {
    fn new(format: Format) -> Self {
        Self {
            format,
            columns: Vec::new(),
        }
    }

    fn print(&mut self, rows: &[Row]) -> Outcome {
        if rows.is_empty() {
            return Ok(());
        }
        if !matches!(self.format, Format::Csv | Format::Tsv) {
            return print(self.format, rows);
        }
        let here = columns(rows);
        let header = self.columns.is_empty();
        if header {
            self.columns = here;
        } else if let Some(new) = here.iter().find(|column| !self.columns.contains(column)) {
            // The line of names is printed already; a second one would be taken for a row.
            return Err(
                Failure::new(Exit::Failed, "rows arrive with a column that the first ones did not have")
                    .why(format!("it is called {new:?}"))
                    .next("begin again, or use -o jsonl"),
            );
        }
        let names: Vec<&str> = self.columns.iter().map(String::as_str).collect();
        let mut out = output::to_stdout(self.format, header, &names);
        for row in rows {
            out.row(values(row, &self.columns))?;
        }
        out.finish().map(drop)
    }
}
