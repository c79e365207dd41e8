//! `coffer rejected`: what was sent and could not be rows.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use base::{DatabaseName, TableName, Timestamp};
use serde_json::{Value, json};

use crate::cli::{Rejected, TableArgs, table_name};
use crate::client::rejected::SetAside;
use crate::client::{Access, Client};
use crate::failure::{Exit, Failure, Outcome};
use crate::msgpack::read;
use crate::output::{self, Format};
use crate::terminal;

/// How much is asked for at once.
const PAGE: u32 = 200;
/// How much of a content a table shows.
const WIDTH: usize = 200;

/// Counts, shows or tries again.
pub(crate) async fn run(args: Rejected) -> Outcome {
    match args {
        Rejected::List { table, output, client } => {
            let table = table.map(|table| named(&table, None)).transpose()?;
            list(&mut Client::new(Access::reading(&client)?), table, Format::chosen(output)).await
        }
        Rejected::Show { table, limit, output } => {
            let (mut client, database, table) = managing(&table)?;
            show(&mut client, &database, &table, limit, Format::chosen(output)).await
        }
        Rejected::Replay {
            table,
            dry_run,
            yes,
            output,
        } => {
            let (mut client, database, table) = managing(&table)?;
            let question = format!("Try all that was set aside of {database}.{table} again?");
            if !dry_run && !yes && !terminal::confirmed(question) {
                return Err(Failure::new(Exit::Usage, "nothing was tried again")
                    .why("it was not confirmed")
                    .next("add --yes, or --dry-run to see what would be taken"));
            }
            replay(&mut client, &database, &table, dry_run, output).await
        }
    }
}

fn named(table: &str, database: Option<&str>) -> Outcome<(DatabaseName, TableName)> {
    table_name(table, database).map_err(|why| Failure::new(Exit::Usage, "there is no such table to look at").why(why))
}

fn managing(args: &TableArgs) -> Outcome<(Client, DatabaseName, TableName)> {
    let (database, table) = named(&args.table, args.database.as_deref())?;
    Ok((Client::new(Access::managing(&args.client)?), database, table))
}

async fn list(client: &mut Client, only: Option<(DatabaseName, TableName)>, format: Format) -> Outcome {
    if let Some((database, table)) = &only
        && !client
            .tables(database.as_str())
            .await?
            .iter()
            .any(|known| known.name == table.as_str())
    {
        return Err(
            Failure::new(Exit::NotFound, format!("there is no table {database}.{table}")).next("`coffer tables` lists those there are")
        );
    }
    let columns = ["table", "reason", "count", "bytes", "oldest", "newest"];
    let mut rows = output::to_stdout(format, true, &columns);
    // Any database will do to ask in: names are written in full.
    let first = client.databases().await?.into_iter().map(|database| database.name).min();
    if let Some(first) = first {
        for (database, table) in beside(client, &first).await? {
            let of = format!("{database}.{table}");
            if only.as_ref().is_some_and(|only| *only != (database.clone(), table.clone())) {
                continue;
            }
            for counted in ask(client, &first, &counts(&database, &table)).await? {
                let mut row = vec![json!(of)];
                row.extend(
                    counted
                        .into_iter()
                        .enumerate()
                        .map(|(at, value)| if at < 3 { value } else { moment(&value) }),
                );
                rows.row(row)?;
            }
        }
    }
    rows.finish().map(drop)
}

/// The tables of which something was set aside.
async fn beside(client: &mut Client, database: &str) -> Outcome<Vec<(DatabaseName, TableName)>> {
    let sql = "SELECT table_schema, table_name FROM information_schema.tables WHERE table_name LIKE '%$rejected' ORDER BY 1, 2";
    let found = ask(client, database, sql).await?;
    let name = |row: &Vec<Value>| {
        let database: DatabaseName = row.first()?.as_str()?.parse().ok()?;
        Some((database, TableName::from_stored(row.get(1)?.as_str()?).ok()?.of_aside()?))
    };
    Ok(found.iter().filter_map(name).collect())
}

/// What of a table was set aside and not taken by a replay since.
fn counts(database: &DatabaseName, table: &TableName) -> String {
    let name = format!("\"{database}\".\"{}\"", table.aside());
    format!(
        "SELECT a.reason, count(*), sum(a.bytes), min(a.time), max(a.time) FROM {name} AS a WHERE a.reason <> 'replayed' AND NOT EXISTS \
         (SELECT 1 FROM {name} AS b WHERE b.reason = 'replayed' AND b.request = a.request AND b.row_no = a.row_no) \
         GROUP BY a.reason ORDER BY 2 DESC, 1"
    )
}

async fn ask(client: &mut Client, database: &str, sql: &str) -> Outcome<Vec<Vec<Value>>> {
    let job = client.issue(database, sql).await?;
    let finished = client.finished(&job, |_| ()).await?;
    if finished.status != "success" {
        return Err(Failure::new(Exit::Failed, "could not count what was set aside")
            .why(finished.error())
            .next("try again"));
    }
    let mut rows = Vec::new();
    client
        .result(&job, |row| {
            rows.push(row);
            Ok(ControlFlow::Continue(()))
        })
        .await?;
    Ok(rows)
}

fn moment(seconds: &Value) -> Value {
    seconds
        .as_i64()
        .map_or(Value::Null, |seconds| json!(Timestamp::from_secs(seconds).to_string()))
}

async fn show(client: &mut Client, database: &DatabaseName, table: &TableName, limit: u32, format: Format) -> Outcome {
    let mut columns = vec![
        "time",
        "reason",
        "message",
        "request",
        "row",
        "key_id",
        "import_id",
        "syntax",
        "bytes",
        "content",
    ];
    let for_programs = matches!(format, Format::Json | Format::Jsonl);
    match format {
        // What fits on a terminal.
        Format::Table => columns.retain(|column| ["time", "reason", "row", "content"].contains(column)),
        _ => columns.push("content_hex"),
    }
    let mut rows = output::to_stdout(format, true, &columns);
    let (mut left, mut after) = (limit, None::<String>);
    loop {
        let page = client.rejected(database, table, left.min(PAGE), after.as_deref()).await?;
        left = left.saturating_sub(u32::try_from(page.rejected.len()).unwrap_or(u32::MAX));
        for aside in page.rejected {
            let shown = shown(aside, for_programs);
            let value = |column: &&str| match (*column, shown.get(*column)) {
                ("content", Some(Value::String(text))) if format == Format::Table => json!(beginning(text)),
                (_, value) => value.cloned().unwrap_or_default(),
            };
            rows.row(columns.iter().map(value).collect())?;
        }
        after = page.next;
        if after.is_none() || left == 0 || rows.is_full() {
            break;
        }
    }
    rows.finish()?;
    if after.is_some() {
        terminal::say("there is more; -n shows more of it");
    }
    Ok(())
}

/// As columns. Content that is no text is shown as the JSON that it is in other words, if it has any, and for programs as bytes as well.
fn shown(aside: SetAside, for_programs: bool) -> serde_json::Map<String, Value> {
    let packed = aside.content_hex.as_deref().and_then(|bytes| hex::decode(bytes).ok());
    let content = match (&aside.content, &packed) {
        (Some(text), _) => json!(text),
        (None, Some(bytes)) if aside.syntax == "msgpack" => match read::value(bytes) {
            Ok((value, length)) if length == bytes.len() && for_programs => value,
            // An import sends a line that it cannot read as a text.
            Ok((Value::String(text), length)) if length == bytes.len() => json!(text),
            Ok((value, length)) if length == bytes.len() => json!(value.to_string()),
            _ => Value::Null,
        },
        (None, Some(bytes)) => json!(String::from_utf8_lossy(bytes)),
        (None, None) => json!(aside.content_error.map(|why| format!("({why})"))),
    };
    let content = match (content, &aside.content_hex) {
        (Value::Null, Some(bytes)) if packed.as_deref() != Some(&[0xc0]) => json!(bytes),
        (content, _) => content,
    };
    let columns = [
        ("time", json!(Timestamp::from_secs(aside.time).to_string())),
        ("reason", json!(aside.reason)),
        ("message", json!(aside.message)),
        ("request", json!(aside.request)),
        ("row", json!(aside.row)),
        ("key_id", json!(aside.key_id)),
        ("import_id", json!(aside.import_id)),
        ("syntax", json!(aside.syntax)),
        ("bytes", json!(aside.bytes)),
        ("content", content),
        ("content_hex", json!(aside.content_hex)),
    ];
    columns.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn beginning(text: &str) -> String {
    let mut shown: String = text.chars().take(WIDTH).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

async fn replay(client: &mut Client, database: &DatabaseName, table: &TableName, dry_run: bool, output: Option<Format>) -> Outcome {
    let (mut taken, mut left, mut after) = (0, BTreeMap::<String, u64>::new(), None::<String>);
    loop {
        let page = client.replay(database, table, PAGE, after.as_deref(), dry_run).await?;
        taken += page.taken;
        for stays in page.left {
            *left.entry(stays.reason).or_default() += 1;
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let stay: u64 = left.values().sum();
    terminal::say(said(taken, &left, dry_run));
    if let Some(format) = output {
        let mut rows = output::to_stdout(format, true, &["table", "dry_run", "taken", "left"]);
        rows.row(vec![
            json!(format!("{database}.{table}")),
            json!(dry_run),
            json!(taken),
            json!(stay),
        ])?;
        rows.finish()?;
    }
    if taken == 0 && stay > 0 {
        return Err(Failure::new(Exit::Refused, "nothing of it can be taken")
            .why("what made it no row is still so")
            .next(format!("`coffer rejected show {database}.{table}` shows it as it was sent")));
    }
    Ok(())
}

fn said(taken: u64, left: &BTreeMap<String, u64>, dry_run: bool) -> String {
    let rows = |count: u64| format!("{} {}", terminal::grouped(count), if count == 1 { "row" } else { "rows" });
    let taken = match dry_run {
        true => format!("{} would be taken", rows(taken)),
        false => format!("{} taken", rows(taken)),
    };
    if left.is_empty() {
        return taken;
    }
    let reasons: Vec<String> = left
        .iter()
        .map(|(reason, count)| format!("{reason} {}", terminal::grouped(*count)))
        .collect();
    format!("{taken}; {} set aside still ({})", rows(left.values().sum()), reasons.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aside(syntax: &str, content: Option<&str>, hex: Option<&str>) -> SetAside {
        SetAside {
            time: 1_700_000_000,
            reason: "time".into(),
            message: String::new(),
            request: "r".into(),
            row: 1,
            syntax: syntax.into(),
            bytes: 3,
            key_id: "k".into(),
            import_id: None,
            content: content.map(str::to_owned),
            content_hex: hex.map(str::to_owned),
            content_error: None,
        }
    }

    #[test]
    fn content_is_shown_in_words_where_it_has_any() {
        let content = |aside, for_programs| shown(aside, for_programs)["content"].clone();
        assert_eq!(content(aside("json", Some("{\"a\":"), None), false), "{\"a\":");
        assert_eq!(content(aside("msgpack", None, Some("9101")), false), "[1]");
        assert_eq!(content(aside("msgpack", None, Some("9101")), true), json!([1]));
        assert_eq!(content(aside("msgpack", None, Some("a478797a31")), false), "xyz1");
        assert_eq!(content(aside("msgpack", None, Some("c1")), false), "c1", "no value: its bytes");
        assert_eq!(content(aside("json", None, Some("61ff")), false), "a\u{fffd}");
    }

    #[test]
    fn what_became_of_it_is_one_line() {
        let left = BTreeMap::from([("not_a_map".to_owned(), 1), ("time".to_owned(), 2_000)]);
        assert_eq!(
            said(1, &left, false),
            "1 row taken; 2,001 rows set aside still (not_a_map 1, time 2,000)"
        );
        assert_eq!(said(2, &BTreeMap::new(), true), "2 rows would be taken");
        assert_eq!(beginning("short"), "short");
        assert_eq!(beginning(&"ä".repeat(300)).chars().count(), WIDTH + 1);
    }
}
