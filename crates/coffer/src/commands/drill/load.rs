//! Senders: each sends batch after batch under ids of their own, and a batch again and again until it is acknowledged.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::{Clock, DatabaseName, SystemClock, TableName};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::client::Client;
use crate::failure::{During, Exit, Failure, Outcome};
use crate::msgpack;

/// Rows in a batch.
pub(super) const ROWS: i64 = 50;
/// People whom each sender's rows are about.
pub(super) const PEOPLE: i64 = 7;
/// How long an answer is waited for before the batch is sent again.
const ATTEMPT: Duration = Duration::from_secs(30);
/// A pause after a refusal lasts as long as the answer says, within these.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// What was sent, and what was said to it.
#[derive(Debug, Clone, Default)]
pub(super) struct Sent {
    /// Batches by number, with whether they were acknowledged.
    pub(super) batches: BTreeMap<i64, bool>,
    /// How many send: batch `n` is of sender `n` modulo this.
    pub(super) senders: i64,
}

/// What the load has met since [`Load::measure`].
#[derive(Debug, Clone, Default)]
pub(super) struct Measured {
    /// From sending a batch to its acknowledgement, one for each that was acknowledged.
    pub(super) pauses: Vec<Duration>,
    /// Answers that said no.
    pub(super) refused: u64,
    /// Requests that sent a batch again.
    pub(super) retried: u64,
}

#[derive(Debug, Default)]
struct Ledger {
    sent: Sent,
    measured: Measured,
    /// Of each sender: how many of its batches were acknowledged, and how many answers of any kind it had.
    taken: Vec<u64>,
    answers: Vec<u64>,
    failure: Option<Failure>,
}

#[derive(Debug, Default)]
struct Shared {
    ledger: Mutex<Ledger>,
    acknowledged: Notify,
    answered: Notify,
    failed: Notify,
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Senders at work.
pub(super) struct Load {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

impl Load {
    /// Starts them, at `rate` rows a second together.
    pub(super) fn start(client: Client, (database, table): (&DatabaseName, &TableName), rate: u32, senders: u16) -> Self {
        let shared = Arc::new(Shared::default());
        {
            let mut ledger = shared.ledger();
            ledger.sent.senders = senders.into();
            ledger.taken = vec![0; senders.into()];
            ledger.answers = vec![0; senders.into()];
        }
        let period = Duration::from_secs(1).mul_f64(ROWS as f64 * f64::from(senders) / f64::from(rate.max(1)));
        let mut tasks = JoinSet::new();
        for number in 0..senders {
            let sender = Sender {
                number: number.into(),
                senders: senders.into(),
                client: client.another(),
                database: database.clone(),
                table: table.clone(),
                shared: Arc::clone(&shared),
            };
            tasks.spawn(sender.run(period));
        }
        Self { shared, tasks }
    }

    /// Waits until each sender had so many more batches acknowledged.
    pub(super) async fn each_took(&self, more: u64, within: Duration) -> Outcome {
        let wanted: Vec<u64> = self.shared.ledger().taken.iter().map(|taken| taken + more).collect();
        let reached = |ledger: &Ledger| ledger.taken.iter().zip(&wanted).all(|(taken, wanted)| taken >= wanted);
        tokio::select! {
            reached = timeout(within, self.until(&self.shared.acknowledged, reached)) => reached.map_err(|_| {
                Failure::new(Exit::Temporary, "nothing is acknowledged that the drill sends")
                    .why(format!("waited {} s", within.as_secs()))
                    .next("`coffer doctor` says how the zones and roles are")
            }),
            failed = self.failed() => failed,
        }
    }

    /// Waits until each sender had so many more answers, of whatever kind.
    pub(super) async fn answers(&self, more: u64) {
        let wanted: Vec<u64> = self.shared.ledger().answers.iter().map(|answers| answers + more).collect();
        let reached = |ledger: &Ledger| ledger.answers.iter().zip(&wanted).all(|(answers, wanted)| answers >= wanted);
        self.until(&self.shared.answered, reached).await;
    }

    /// Waits for the next acknowledgement.
    pub(super) async fn acknowledged(&self) {
        self.shared.acknowledged.notified().await;
    }

    /// Waits until a sender has met what no sending again helps against. Ends with a failure only.
    pub(super) async fn failed(&self) -> Outcome {
        self.until(&self.shared.failed, |ledger| ledger.failure.is_some()).await;
        self.shared.ledger().failure.take().map_or(Ok(()), Err)
    }

    async fn until(&self, told: &Notify, reached: impl Fn(&Ledger) -> bool) {
        loop {
            // Listening before looking, so that nothing is missed between the two.
            let mut next = std::pin::pin!(told.notified());
            next.as_mut().enable();
            if reached(&self.shared.ledger()) {
                return;
            }
            next.await;
        }
    }

    /// From now on it is measured.
    pub(super) fn measure(&self) {
        self.shared.ledger().measured = Measured::default();
    }

    /// What was measured so far.
    pub(super) fn measured(&self) -> Measured {
        self.shared.ledger().measured.clone()
    }

    /// Stops every sender where it is. What has no answer yet gets none: it may be stored, once, or not.
    pub(super) fn halt(&mut self) -> Sent {
        self.tasks.abort_all();
        let mut ledger = self.shared.ledger();
        // From here on it says nothing about the installation.
        ledger.failure = None;
        std::mem::take(&mut ledger.sent)
    }
}

struct Sender {
    number: i64,
    senders: i64,
    client: Client,
    database: DatabaseName,
    table: TableName,
    shared: Arc<Shared>,
}

impl Sender {
    async fn run(mut self, period: Duration) {
        let mut pace = interval(period);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut number = self.number;
        loop {
            pace.tick().await;
            if let Err(failure) = self.send(number).await {
                self.shared.ledger().failure = Some(failure);
                self.shared.failed.notify_waiters();
                return;
            }
            number += self.senders;
        }
    }

    /// Sends a batch until it is acknowledged.
    async fn send(&mut self, number: i64) -> Outcome {
        let body = batch(number, self.number, SystemClock.now().as_secs())?;
        let id = format!("drill-{number}");
        let begun = Instant::now();
        self.shared.ledger().sent.batches.insert(number, false);
        loop {
            let answer = timeout(ATTEMPT, self.client.import(&self.database, &self.table, &id, body.clone())).await;
            let mut pause = PAUSE.0;
            let refused = match answer {
                Ok(Ok(imported)) if imported.rejected == 0 => {
                    self.taken(number, begun.elapsed());
                    return Ok(());
                }
                Ok(Ok(_)) => return Err(Failure::new(Exit::Failed, "rows of the drill were set aside, as if they were none")),
                Ok(Err(failure)) => {
                    let Some(again) = failure.again else { return Err(failure) };
                    pause = again.clamp(PAUSE.0, PAUSE.1);
                    failure.was_answered()
                }
                Err(_) => false,
            };
            {
                let mut ledger = self.shared.ledger();
                ledger.measured.refused += u64::from(refused);
                self.answered(&mut ledger);
            }
            sleep(pause).await;
            self.shared.ledger().measured.retried += 1;
        }
    }

    fn taken(&self, number: i64, pause: Duration) {
        let mut ledger = self.shared.ledger();
        ledger.sent.batches.insert(number, true);
        ledger.measured.pauses.push(pause);
        if let Some(taken) = usize::try_from(self.number).ok().and_then(|at| ledger.taken.get_mut(at)) {
            *taken += 1;
        }
        self.answered(&mut ledger);
        self.shared.acknowledged.notify_waiters();
    }

    fn answered(&self, ledger: &mut Ledger) {
        if let Some(answers) = usize::try_from(self.number).ok().and_then(|at| ledger.answers.get_mut(at)) {
            *answers += 1;
        }
        self.shared.answered.notify_waiters();
    }
}

/// Rows of a batch: numbered through all batches, about a few people of their sender.
fn batch(number: i64, sender: i64, time: i64) -> Outcome<Bytes> {
    let mut plain = Vec::with_capacity(4 << 10);
    for n in number * ROWS..(number + 1) * ROWS {
        let email = format!("p{}-{sender}@drill.example", n % PEOPLE);
        msgpack::map(4, &mut plain);
        for (name, value) in [("time", time), ("batch", number), ("n", n)] {
            msgpack::text(name.as_bytes(), &mut plain);
            msgpack::long(value, &mut plain);
        }
        msgpack::text(b"email", &mut plain);
        msgpack::text(email.as_bytes(), &mut plain);
    }
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed
        .write_all(&plain)
        .and_then(|()| packed.finish())
        .map(Bytes::from)
        .during("could not pack the drill's rows")
}
