//! `coffer import` and `coffer tail`.

use std::path::PathBuf;
use std::time::Duration;

use base::{DatabaseName, TableName};
use clap::Args;

use super::ClientArgs;
use crate::commands::import::{ColumnType, FileFormat, TimeFormat};
use crate::output::Format;

/// What is said below the options.
const MORE: &str = "\
Going on after an interruption: run the same command again. A file is cut into
chunks; each has an id made of its content, place, table and the options above
that change what rows mean. The server stores an id once, so sending again
stores nothing twice, and what was acknowledged is remembered in
~/.local/state/coffer/imports (ids only) to be skipped quickly. A file that has
changed in between is noticed and refused. Standard input cannot be gone on
with: each run of it is an import of its own.

What becomes of values: JSON numbers and nested values are sent as they stand.
In CSV and TSV an empty field is nothing, and a type is guessed for each column
from the first 10,000 rows. A guess never changes a value: 007, +5 or 12.50 stay
text unless --types says otherwise, and what does not fit its column's type is
sent as text. A row that cannot be read (another number of fields, bytes that
are no UTF-8, a time unlike the others) is sent as it stands, and the server
sets it aside, as it does with what else cannot be a row; the last line says how
many, and `coffer rejected` shows them. Where none of the first rows can be
taken the import stops. --dry-run counts rows that cannot be read.

Memory: 6 chunks at most, each of 8 MiB or a little more, and 8 MiB for looking
at the beginning of a file.

  coffer import clicks.csv.gz --table web.clicks --dry-run
  coffer import export/*.parquet --table web.clicks --time-column clicked_at
  zcat old.jsonl.gz | coffer import - --table web.events --format jsonl

Exit codes: 0 also when some rows were set aside, 6 the file or its first rows
are refused, 7 temporary (run it again), 5 the file changed, 4 no such file or
table, 3 the key may not.";

/// Send files of events into a table
#[derive(Debug, Args)]
#[command(after_long_help = MORE, after_help = "Run with --help for how it goes on after an interruption, and for examples.")]
pub(crate) struct Import {
    /// Files of JSON lines, JSON, CSV, TSV, msgpack or Parquet, plain or in gzip or zstd; `-` is standard input
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Where to: DATABASE.TABLE, or TABLE beside --database. Made when missing, if the key may
    #[arg(short, long, value_name = "NAME")]
    pub(crate) table: String,
    /// The table's database
    #[arg(short, long, value_name = "NAME", env = "COFFER_DATABASE")]
    pub(crate) database: Option<String>,
    /// Say what would be sent and made, and send nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// What the files hold [default: told by name and first bytes]
    #[arg(
        long,
        value_name = "FORMAT",
        value_enum,
        hide_possible_values = true,
        long_help = "\
        What the files hold [default: told by name and first bytes]: jsonl (an object per line), json (an array, or objects one \
        after the other), csv, tsv (with \\t, \\n, \\r, \\\\ and \\N as `coffer sql -o tsv` writes it), msgpack, parquet"
    )]
    pub(crate) format: Option<FileFormat>,
    /// Names of the columns of CSV or TSV, whose first line then is a row like the others
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) columns: Vec<String>,
    /// Types of columns of CSV or TSV instead of guessed ones, such as zip=string,price=double
    #[arg(long, value_name = "NAME=TYPE", value_delimiter = ',', value_parser = typed)]
    pub(crate) types: Vec<(String, ColumnType)>,
    /// The column that says when [default: time; rows without one get the time at which they arrive]
    #[arg(long, value_name = "NAME")]
    pub(crate) time_column: Option<String>,
    /// How it says it: seconds, milliseconds, microseconds or iso8601 [default: recognised, and said]
    #[arg(long, value_name = "FORM", value_enum, hide_possible_values = true)]
    pub(crate) time_format: Option<TimeFormat>,
    /// In TSV, a backslash is a backslash
    #[arg(long)]
    pub(crate) no_escapes: bool,
    /// How long to try again when the server is away or busy
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration)]
    pub(crate) patience: Duration,
    /// Rows in a chunk at most; the same each time, as other chunks have other ids
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) chunk_rows: u32,
    /// Forget what is remembered of this file and send all of it; chunks that are the same are still stored once
    #[arg(long)]
    pub(crate) again: bool,
    /// Import the same content once more: under another label its rows are other rows
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) label: String,
    /// Print a summary per file on standard output in this form
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Format>,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// Show the newest rows of a table, and with -f those that arrive
#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// DATABASE.TABLE, or TABLE beside --database
    #[arg(value_name = "TABLE")]
    pub(crate) table: String,
    /// The table's database
    #[arg(short, long, value_name = "NAME", env = "COFFER_DATABASE")]
    pub(crate) database: Option<String>,
    /// How many rows
    #[arg(short = 'n', long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) rows: u32,
    /// Go on and print rows as they arrive, each once
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Form of the rows, oldest first [default: table on a terminal, otherwise tsv; with -f, jsonl]
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Format>,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// `database.table`, or the two of them apart.
pub(crate) fn table_name(table: &str, database: Option<&str>) -> Result<(DatabaseName, TableName), String> {
    let (database, table) = match (table.split_once('.'), database) {
        (Some((database, table)), _) => (database, table),
        (None, Some(database)) => (database, table),
        (None, None) => return Err(format!("{table:?} names no database; write DATABASE.{table}, or add --database")),
    };
    Ok((
        database.parse().map_err(|error| format!("{database:?}: {error}"))?,
        table.parse().map_err(|error| format!("{table:?}: {error}"))?,
    ))
}

fn typed(text: &str) -> Result<(String, ColumnType), String> {
    let (name, kind) = text.rsplit_once('=').ok_or("write NAME=TYPE")?;
    let kind = <ColumnType as clap::ValueEnum>::from_str(kind, true).map_err(|_| "the types are long, double, boolean and string")?;
    Ok((name.to_owned(), kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_named_in_one_word_or_two() {
        let check =
            |table: &str, database: Option<&str>| table_name(table, database).map(|(database, table)| format!("{database}.{table}"));
        assert_eq!(check("web.events", None).unwrap(), "web.events");
        assert_eq!(check("events", Some("web")).unwrap(), "web.events");
        assert_eq!(check("web.events", Some("other")).unwrap(), "web.events");
        for wrong in ["events", "Web.events", "web.", "web.a.b", "we b.events"] {
            assert!(check(wrong, None).is_err(), "{wrong}");
        }
    }

    #[test]
    fn types_are_named_by_column() {
        assert_eq!(typed("a=b=Long"), Ok(("a=b".into(), ColumnType::Long)));
        assert!(typed("a").is_err() && typed("a=number").is_err());
    }
}
