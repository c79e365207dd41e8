//! `coffer sql`: a question through the public API.

use std::io::{IsTerminal, Read};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::Sql;
use crate::client::{Access, Client};
use crate::failure::{During, Exit, Failure, Outcome};
use crate::output::{self, Format};
use crate::terminal;

/// The largest query read from a file or a pipe.
const MOST: u64 = 1 << 20;

/// Asks and prints.
pub(crate) async fn run(args: Sql) -> Outcome {
    let query = query(&args)?;
    let mut client = Client::new(Access::reading(&args.client)?);
    let database = match args.database {
        Some(database) => database,
        None => default_database(&mut client).await?,
    };
    let progress = progress();
    let job = client.issue(&database, &query).await?;
    let mut killer = client.another();
    let finished = tokio::select! {
        finished = client.finished(&job, |state| progress.set_message(state.to_owned())) => finished?,
        _ = tokio::signal::ctrl_c() => {
            progress.finish_and_clear();
            killer.kill(&job).await?;
            return Err(Failure::new(Exit::Failed, "the query was ended").why("you asked for it"));
        }
    };
    match finished.status.as_str() {
        "success" => {}
        "killed" => {
            progress.finish_and_clear();
            return Err(Failure::new(Exit::Failed, "the query was ended").why(format!("job {job} was killed")));
        }
        _ => {
            progress.finish_and_clear();
            return Err(Failure::new(Exit::Refused, "the query failed")
                .why(finished.error())
                .next("correct it; `coffer tables` lists tables and columns"));
        }
    }
    let columns = finished.columns()?;
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let format = Format::chosen(args.output);
    let mut rows = output::to_stdout(format, !args.no_header, &columns);
    progress.set_message("reading");
    let mut count = 0_u64;
    client
        .result(&job, |row| {
            count += 1;
            progress.set_position(count);
            // From here on standard output is in use, and may be the same terminal.
            if format != Format::Table && count == 1 {
                progress.finish_and_clear();
            }
            rows.row(row)?;
            Ok(if rows.is_full() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        })
        .await?;
    progress.finish_and_clear();
    let all = finished.num_records;
    if let (true, Some(all)) = (rows.is_full(), all.filter(|all| *all > count)) {
        rows.finish()?;
        terminal::say(format_args!(
            "the first {count} of {all} rows: a table is held in memory until it is drawn; all rows come with -o csv, tsv or jsonl, fewer with LIMIT"
        ));
        return Ok(());
    }
    rows.finish()?;
    if all.is_some_and(|expected| expected != count) {
        return Err(Failure::new(Exit::Unverified, "the result is not whole")
            .why(format!("{count} rows came"))
            .next("ask again"));
    }
    if format == Format::Table {
        terminal::say(format_args!("{count} {}", if count == 1 { "row" } else { "rows" }));
    }
    Ok(())
}

fn query(args: &Sql) -> Outcome<String> {
    let text = match (&args.query, &args.file) {
        (_, Some(file)) if file != Path::new("-") => {
            let what = format!("could not read {}", file.display());
            let opened = std::fs::File::open(file).map_err(|e| Failure::new(Exit::NotFound, what.as_str()).why(e))?;
            read(opened, &what)?
        }
        (Some(query), None) if query != "-" => query.clone(),
        (None, None) if std::io::stdin().is_terminal() => {
            return Err(Failure::new(Exit::Usage, "there is no query").next("coffer sql \"SELECT 1\", or -f FILE, or pipe one in"));
        }
        _ => read(std::io::stdin(), "could not read standard input")?,
    };
    if text.trim().is_empty() {
        return Err(Failure::new(Exit::Usage, "the query is empty"));
    }
    Ok(text)
}

fn read(from: impl Read, what: &str) -> Outcome<String> {
    let mut text = String::new();
    let length = from.take(MOST + 1).read_to_string(&mut text).during(what)?;
    if length as u64 > MOST {
        return Err(Failure::new(Exit::Refused, what).why("a query has at most 1 MiB"));
    }
    Ok(text)
}

/// The only database there is, or the first one: names with a database in front do not depend on it.
async fn default_database(client: &mut Client) -> Outcome<String> {
    let mut names: Vec<String> = client.databases().await?.into_iter().map(|database| database.name).collect();
    names.sort();
    names.into_iter().next().ok_or_else(|| {
        Failure::new(Exit::NotFound, "there is no database to ask")
            .next("`coffer import FILE --table DATABASE.TABLE` with an admin key makes one and sends a file; so does any td client")
    })
}

fn progress() -> ProgressBar {
    if !terminal::shows_messages() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed} {pos}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}
