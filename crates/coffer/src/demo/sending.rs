//! Sending the sample events through the public API, and asking them back.

use std::io::Write;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::{DatabaseName, Secret, TableName, Timestamp};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::{StreamExt, TryStreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::events::{self, EVENTS};
use super::keys::DemoKeys;
use super::msgpack;
use crate::client::{Access, Client};
use crate::failure::{During, Exit, Failure, Outcome};
use crate::layout::Layout;
use crate::terminal;

const SEED: u64 = 2026;
const BATCH: usize = 5_000;
/// Senders at the same time.
const SENDERS: usize = 4;
/// How often a batch that meets "try again" is sent.
const TRIES: u32 = 5;

/// What a query said.
pub(super) struct Proof {
    pub(super) events: u64,
    pub(super) people: u64,
    pub(super) kinds: Vec<(String, u64)>,
    pub(super) took: Duration,
}

/// Sends what is missing; how long it took, or nothing when all was there.
pub(super) async fn fill(layout: &Layout, endpoint: &str, keys: &DemoKeys) -> Outcome<Option<Duration>> {
    let (database, table) = names()?;
    let mut admin = client(layout, endpoint, &keys.admin)?;
    let there = admin.databases().await?.iter().any(|d| d.name == database.as_str());
    if there
        && admin
            .tables(database.as_str())
            .await?
            .iter()
            .any(|t| t.name == table.as_str() && t.count >= EVENTS as u64)
    {
        return Ok(None);
    }
    admin.make_database(&database).await?;
    admin.make_table(&database, &table).await?;

    // The month ends when the product was made: an interrupted run sends the very same batches again.
    let end = Timestamp::from_micros(keys.product.created_at);
    let batches = tokio::task::spawn_blocking(move || batches(end))
        .await
        .during("could not make the sample events")??;
    let progress = progress(batches.len() as u64);
    let writer = client(layout, endpoint, &keys.write)?;
    let (database, table) = (Arc::new(database), Arc::new(table));
    let begun = Instant::now();
    let queue: Vec<(usize, Bytes)> = batches.into_iter().enumerate().collect();
    let shares: Vec<Vec<(usize, Bytes)>> = (0..SENDERS)
        .map(|n| queue.iter().skip(n).step_by(SENDERS).cloned().collect())
        .collect();
    stream::iter(shares)
        .map(|share| {
            let (mut sender, database, table, progress) = (writer.another(), Arc::clone(&database), Arc::clone(&table), progress.clone());
            async move {
                for (number, batch) in share {
                    send(&mut sender, &database, &table, number, batch).await?;
                    progress.inc(1);
                }
                Ok::<(), Failure>(())
            }
        })
        .buffer_unordered(SENDERS)
        .try_collect::<()>()
        .await?;
    let took = begun.elapsed();
    progress.finish_and_clear();
    Ok(Some(took))
}

async fn send(sender: &mut Client, database: &DatabaseName, table: &TableName, number: usize, batch: Bytes) -> Outcome {
    let id = format!("demo-{SEED}-{number}");
    let mut tries = 0;
    loop {
        match sender.import(database, table, &id, batch.clone()).await {
            Err(failure) if failure.exit == Exit::Temporary && tries < TRIES => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(200 << tries)).await;
            }
            other => return other.map(drop),
        }
    }
}

fn batches(end: Timestamp) -> Outcome<Vec<Bytes>> {
    let all = events::events(SEED, end, |event| {
        let mut plain = Vec::with_capacity(512);
        msgpack::encode_map(event, &mut plain);
        plain.into_boxed_slice()
    });
    let pack = |events: &[Box<[u8]>]| {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        events.iter().try_for_each(|event| packed.write_all(event))?;
        packed.finish().map(Bytes::from)
    };
    all.chunks(BATCH)
        .map(pack)
        .collect::<Result<_, std::io::Error>>()
        .during("could not pack the sample events")
}

/// Asks how many of what there are, with the read key, as anybody would.
pub(super) async fn ask(layout: &Layout, endpoint: &str, keys: &DemoKeys, query: &str) -> Outcome<Proof> {
    let (database, _) = names()?;
    let mut reader = client(layout, endpoint, &keys.read)?;
    let people = rows(&mut reader, &database, "SELECT count(*), count(DISTINCT email) FROM web.events").await?;
    let begun = Instant::now();
    let kinds = rows(&mut reader, &database, query).await?;
    let took = begun.elapsed();
    let number = |row: Option<&Vec<Value>>, at: usize| row.and_then(|row| row.get(at)?.as_u64()).unwrap_or(0);
    let kinds = kinds
        .iter()
        .filter_map(|row| Some((terminal::harmless(row.first()?.as_str()?).into_owned(), row.get(1)?.as_u64()?)))
        .take(6)
        .collect();
    Ok(Proof {
        events: number(people.first(), 0),
        people: number(people.first(), 1),
        kinds,
        took,
    })
}

async fn rows(reader: &mut Client, database: &DatabaseName, query: &str) -> Outcome<Vec<Vec<Value>>> {
    let job = reader.issue(database.as_str(), query).await?;
    let finished = reader.finished(&job, |_| {}).await?;
    if finished.status != "success" {
        return Err(Failure::new(Exit::Failed, "the sample query failed").why(finished.error()));
    }
    let mut rows = Vec::new();
    reader
        .result(&job, |row| {
            rows.push(row);
            Ok(ControlFlow::Continue(()))
        })
        .await?;
    Ok(rows)
}

fn client(layout: &Layout, endpoint: &str, key: &Secret) -> Outcome<Client> {
    Ok(Client::new(Access::new(endpoint, Some(&layout.ca()), key.clone())?))
}

fn names() -> Outcome<(DatabaseName, TableName)> {
    let what = "the names of the sample tables are wrong";
    Ok(("web".parse().during(what)?, "events".parse().during(what)?))
}

fn progress(batches: u64) -> ProgressBar {
    if !terminal::shows_messages() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(batches);
    if let Ok(style) = ProgressStyle::with_template("  sending sample events {bar:30} {percent}%") {
        bar.set_style(style);
    }
    bar
}
