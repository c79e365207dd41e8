//! Senders that go on through outages and remember what was acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use testkit::{Client, until};
use tokio::task::JoinHandle;

/// Rows in a batch.
const ROWS: i64 = 40;
/// How many send at once under ids, each the same batch until it is taken.
const PATIENT: usize = 3;
/// A pause after a refusal, as a polite client makes.
const PAUSE: Duration = Duration::from_millis(100);

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// 200: durable, exactly once.
    Taken,
    /// No answer, or a failure: perhaps, and at most once.
    Unknown,
}

#[derive(Debug, Default)]
struct Shared {
    ending: AtomicBool,
    taken: AtomicUsize,
    batches: Mutex<BTreeMap<String, Fate>>,
    statuses: Mutex<BTreeMap<u16, usize>>,
}

/// Senders at work.
pub(crate) struct Senders {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

/// What was sent, when nothing is sent any more.
pub(crate) struct Sent {
    batches: BTreeMap<String, Fate>,
}

impl Senders {
    /// Some that repeat a batch under its id until it is taken, and one that sends each batch once and without an id.
    pub(crate) fn start(client: &Client, database: &str, table: &str) -> Self {
        let shared = Arc::new(Shared::default());
        let mut tasks = Vec::new();
        for number in 0..=PATIENT {
            let sender = Sender {
                number,
                client: client.clone(),
                database: database.into(),
                table: table.into(),
                shared: Arc::clone(&shared),
            };
            tasks.push(tokio::spawn(sender.run()));
        }
        Self { shared, tasks }
    }

    /// How many batches were taken so far.
    pub(crate) fn taken(&self) -> usize {
        self.shared.taken.load(Ordering::SeqCst)
    }

    /// Waits until more than `count` batches were taken.
    pub(crate) async fn taken_since(&self, count: usize, within: Duration) -> anyhow::Result<()> {
        let statuses = || self.shared.statuses.lock().unwrap_or_else(PoisonError::into_inner).clone();
        until("another batch is taken", within, || async {
            ensure!(self.taken() > count, "{count} so far; statuses: {:?}", statuses());
            Ok(())
        })
        .await
    }

    /// Lets each finish the batch at hand.
    pub(crate) async fn stop(self) -> anyhow::Result<Sent> {
        self.shared.ending.store(true, Ordering::SeqCst);
        for task in self.tasks {
            tokio::time::timeout(Duration::from_secs(120), task)
                .await
                .context("a sender does not end")??;
        }
        let batches = self.shared.batches.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Sent { batches })
    }
}

struct Sender {
    number: usize,
    client: Client,
    database: String,
    table: String,
    shared: Arc<Shared>,
}

impl Sender {
    async fn run(self) {
        let mut sequence = 0;
        while !self.shared.ending.load(Ordering::SeqCst) {
            let batch = format!("s{}-{sequence}", self.number);
            sequence += 1;
            let patient = self.number < PATIENT;
            while !self.send(&batch, patient).await && patient {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn send(&self, batch: &str, with_id: bool) -> bool {
        let rows: Vec<Value> = (0..ROWS)
            .map(|n| json!({"time": 1_700_000_000 + n, "batch": batch, "n": n, "email": format!("p{}@example.com", n % 7 + self.number as i64 * 7)}))
            .collect();
        let answer = self
            .client
            .import(&self.database, &self.table, with_id.then_some(batch), &rows)
            .await;
        let status = answer.map_or(0, |answer| answer.status);
        let lock = |fate| {
            self.shared
                .batches
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(batch.to_owned(), fate)
        };
        *self
            .shared
            .statuses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(status)
            .or_default() += 1;
        lock(if status == 200 { Fate::Taken } else { Fate::Unknown });
        if status == 200 {
            self.shared.taken.fetch_add(1, Ordering::SeqCst);
        }
        status == 200
    }
}

impl Sent {
    /// Every batch that was taken is there exactly once and whole; any other once or not at all; and nothing else is.
    pub(crate) async fn check(&self, client: &Client, database: &str, table: &str) -> anyhow::Result<()> {
        let sql = format!("SELECT batch, count(*), count(DISTINCT n), count(DISTINCT email) FROM {table} GROUP BY batch");
        // The roles may just have been started: a query is tried until it is answered, the answer is taken as it is.
        let found = until("a query is answered", Duration::from_secs(60), || client.query(database, &sql)).await?;
        let mut wrong = Vec::new();
        let mut there = BTreeMap::new();
        for row in &found {
            let batch = row[0].as_str().with_context(|| format!("no batch in {row:?}"))?;
            there.insert(batch.to_owned(), row[1].as_i64().unwrap_or_default());
            if row[1..] != [json!(ROWS), json!(ROWS), json!(7)] {
                wrong.push(format!("{batch} is there as {:?}", &row[1..]));
            }
            if !self.batches.contains_key(batch) {
                wrong.push(format!("{batch} was never sent"));
            }
        }
        for (batch, fate) in &self.batches {
            if *fate == Fate::Taken && !there.contains_key(batch) {
                wrong.push(format!("{batch} was acknowledged and is gone"));
            }
        }
        ensure!(
            wrong.is_empty(),
            "{} of {} batches are wrong: {wrong:#?}",
            wrong.len(),
            self.batches.len()
        );
        // All identities of one sender are seven people, however often the identity role was killed between their first sights.
        let senders: BTreeSet<&str> = there.keys().filter_map(|batch| batch.split('-').next()).collect();
        let people = client
            .number(database, &format!("SELECT count(DISTINCT email) FROM {table}"))
            .await?;
        ensure!(
            people == 7 * senders.len() as i64,
            "{people} people where {} senders have 7 each",
            senders.len()
        );
        Ok(())
    }
}
