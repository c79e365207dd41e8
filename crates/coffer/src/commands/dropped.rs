//! `coffer tables dropped`, `undrop` and `set`: what was dropped, how it comes back, and how long rows are kept.

use base::DatabaseName;
use serde_json::json;

use crate::cli::{Dropped, Keep, Undrop, table_name};
use crate::client::{Access, Client};
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{self, Format};
use crate::terminal;

/// Lists.
pub(crate) async fn list(args: Dropped) -> Outcome {
    let mut client = Client::new(Access::managing(&args.client)?);
    let columns = ["name", "kind", "dropped_at", "rows", "kept_until"];
    let mut rows = output::to_stdout(Format::chosen(args.output), true, &columns);
    for dropped in client.dropped().await? {
        if args.database.as_ref().is_some_and(|only| *only != dropped.database) {
            continue;
        }
        let (name, kind) = match &dropped.table {
            Some(table) => (format!("{}.{table}", dropped.database), "table"),
            None => (dropped.database.clone(), "database"),
        };
        rows.row(vec![
            json!(name),
            json!(kind),
            json!(dropped.dropped_at),
            json!(dropped.count),
            json!(dropped.kept_until),
        ])?;
    }
    rows.finish().map(drop)
}

/// Brings back.
pub(crate) async fn bring_back(args: Undrop) -> Outcome {
    let usage = |why| Failure::new(Exit::Usage, "nothing was brought back").why(why);
    let mut client = Client::new(Access::managing(&args.client)?);
    let to = args.to.as_deref();
    if let Some(table) = &args.table {
        let (database, table) = table_name(table, args.database.as_deref()).map_err(usage)?;
        let done = client.undrop(&database, Some(&table), to).await;
        done.map_err(|failure| advised(failure, &format!("{database}.{table}")))?;
        terminal::say(format!("{database}.{} is back", to.unwrap_or(table.as_str())));
    } else if let Some(name) = &args.database {
        let database: DatabaseName = name.parse().map_err(|error: base::NameError| usage(error.to_string()))?;
        let done = client.undrop(&database, None, to).await;
        done.map_err(|failure| advised(failure, &format!("--database {database}")))?;
        terminal::say(format!("{} is back with its tables", to.unwrap_or(database.as_str())));
    }
    Ok(())
}

/// Says how long rows are kept, and shows it.
pub(crate) async fn keep(args: Keep) -> Outcome {
    let (database, table) =
        table_name(&args.table, args.database.as_deref()).map_err(|why| Failure::new(Exit::Usage, "there is no table to set").why(why))?;
    let changes = args.keep.is_some() || args.keep_raw.is_some();
    let access = if changes {
        Access::managing(&args.client)?
    } else {
        Access::reading(&args.client)?
    };
    let mut client = Client::new(access);
    if changes {
        client.keep(&database, &table, args.keep, args.keep_raw).await?;
    }
    let found = client
        .tables(database.as_str())
        .await?
        .into_iter()
        .find(|found| found.name == table.as_str());
    let found = found.ok_or_else(|| {
        Failure::new(Exit::NotFound, format!("there is no table {database}.{table}"))
            .next(format!("`coffer tables {database}` shows those there are"))
    })?;
    let shown = |days: Option<u32>| json!(days.map_or("forever".to_owned(), |days| format!("{days}d")));
    let mut rows = output::to_stdout(Format::chosen(args.output), true, &["table", "keep", "keep_raw"]);
    rows.row(vec![
        json!(format!("{database}.{table}")),
        shown(found.expire_days),
        shown(found.raw_expire_days),
    ])?;
    rows.finish().map(drop)
}

fn advised(failure: Failure, what: &str) -> Failure {
    match failure.exit {
        Exit::Conflict => failure.next(format!(
            "`coffer tables undrop {what} --as NAME` brings it back beside what is there"
        )),
        Exit::NotFound => failure.next("`coffer tables dropped` lists what can be brought back; a table needs its database to be there"),
        _ => failure,
    }
}
