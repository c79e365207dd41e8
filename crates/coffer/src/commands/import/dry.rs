//! What an import would do, without sending anything.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use base::{DatabaseName, TableName};
use serde_json::{Value, json};

use super::chunks::Cutter;
use super::plan::Plan;
use super::rows::Rows;
use super::source::{SAMPLE_BYTES, Source};
use super::target::{Known, Target};
use super::{aside, show, summary, unreadable};
use crate::cli::Import;
use crate::client::Access;
use crate::failure::Outcome;
use crate::output;
use crate::terminal;

/// A file as it lies is cut to its end up to this size; of a larger one only the beginning is.
const CHEAP: u64 = 128 << 20;

struct Look {
    file: String,
    format: Value,
    rows: u64,
    chunks: u64,
    unreadable: u64,
    whole: bool,
    columns: Value,
}

/// Says it.
pub(super) async fn run(args: Arc<Import>, database: DatabaseName, table: TableName) -> Outcome {
    let named = format!("{database}.{table}");
    let mut looks = Vec::new();
    for path in args.files.clone() {
        let own = Arc::clone(&args);
        let (look, lines) = aside(move || look(&path, &own)).await?;
        lines.iter().for_each(terminal::say);
        looks.push(look);
    }
    let table = where_to(&args, database, table).await;
    terminal::say(format_args!("  {named}: {table}"));
    terminal::say("nothing was sent");
    let Some(format) = args.output else { return Ok(()) };
    let columns = [
        "file",
        "table",
        "format",
        "compression",
        "rows",
        "chunks",
        "rows_unreadable",
        "whole",
        "columns",
    ];
    let mut rows = output::to_stdout(format, true, &columns);
    for look in looks {
        rows.row(vec![
            json!(look.file),
            json!(named),
            look.format[0].clone(),
            look.format[1].clone(),
            json!(look.rows),
            json!(look.chunks),
            json!(look.unreadable),
            json!(look.whole),
            look.columns,
        ])?;
    }
    rows.finish().map(drop)
}

fn look(path: &Path, args: &Import) -> Outcome<(Look, Vec<String>)> {
    let mut source = Source::open(path, args.format)?;
    let plan = Plan::make(&source, args)?;
    let mut lines = show::lines(&source, &plan);
    let whole = source.is_short || source.file.as_ref().is_some_and(|file| file.size <= CHEAP);
    let mut look = Look {
        file: source.name.clone(),
        format: json!([source.format.name(), source.compression.name()]),
        rows: 0,
        chunks: 0,
        unreadable: 0,
        whole,
        columns: columns(&source, &plan),
    };
    let content = source.content();
    if whole {
        let mut cutter = Cutter::new(content, plan.framing(), plan.cut);
        let mut unused = Vec::new();
        while let Some(chunk) = cutter.next_chunk().map_err(|error| unreadable(&source.name, error))? {
            look.rows += chunk.rows.len() as u64;
            look.chunks += u64::from(!chunk.rows.is_empty());
            for row in &chunk.rows {
                unused.clear();
                look.unreadable += u64::from(!plan.rows.encode(chunk.row(*row), row.sound, &mut unused));
            }
        }
        lines.push(format!(
            "  would send {} in {}; {} of them cannot be read",
            summary::counted(look.rows, "row"),
            summary::counted(look.chunks, "chunk"),
            look.unreadable
        ));
    } else {
        look.rows = plan.sample.rows;
        look.unreadable = plan.sample.unreadable;
        let known = source.rows.map_or_else(String::new, |rows| {
            format!("; the file says that it has {}", summary::counted(rows, "row"))
        });
        lines.push(format!(
            "  looked at the first {} (within {} MiB) only{known}",
            summary::counted(plan.sample.rows, "row"),
            SAMPLE_BYTES >> 20
        ));
    }
    Ok((look, lines))
}

fn columns(source: &Source, plan: &Plan) -> Value {
    let pairs: BTreeMap<String, String> = match &plan.rows {
        Rows::Delimited(delimited) => delimited
            .columns
            .iter()
            .map(|column| (column.name.clone(), column.kind.column_type().to_string()))
            .collect(),
        _ => source.columns.iter().cloned().collect(),
    };
    json!(pairs)
}

/// What would be made, as far as somebody with these keys may know.
async fn where_to(args: &Import, database: DatabaseName, table: TableName) -> String {
    let access = match Access::sending(&args.client) {
        Ok(access) => access,
        Err(_) => return "no key and endpoint were given, so nobody was asked whether it is there".into(),
    };
    let may_make = "it would be made, if the key may";
    match Target::new(database, table, access).look().await {
        Ok(Known::There(_)) => "is there".into(),
        Ok(Known::NoTable) => format!("there is no such table yet; {may_make}"),
        Ok(Known::NoDatabase) => format!("there is no such database yet; {may_make}, and the table in it"),
        Ok(Known::Hidden) => "this key may send, and not see whether it is there".into(),
        Err(failure) => format!("whether it is there is not known: {}", failure.in_one_line()),
    }
}
