//! The one who writes: gathers records for a moment, gives each its place, and has them all in one segment.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use audit::{Draft, HashKey, Numbers, Record};
use journal::{Entry, Journal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::view::{AuditView, Edge, Stored};
use super::{AuditError, Keeping, Standing};
use crate::services::Chain;

/// Calls that wait; each brings a thousand records at most.
const MOST_WAITING: usize = 1024;
/// Records in one segment, about.
const AT_ONCE: usize = 2000;
/// So long is gathered.
const GATHER: Duration = Duration::from_millis(3);

struct Asked {
    drafts: Vec<Draft>,
    reply: oneshot::Sender<Result<(), AuditError>>,
}

/// Takes records.
#[derive(Debug)]
pub(crate) struct Clerk {
    queue: Mutex<Option<mpsc::Sender<Asked>>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// What the clerk works with.
pub(crate) struct Desk {
    pub(crate) journal: Journal,
    pub(crate) view: AuditView,
    pub(crate) edge: Edge,
    pub(crate) hashes: HashKey,
    pub(crate) keeping: Keeping,
    pub(crate) compared: watch::Receiver<bool>,
    pub(crate) standing: watch::Sender<Standing>,
}

impl Clerk {
    /// Begins to write.
    pub(crate) fn at(desk: Desk) -> Self {
        let (queue, incoming) = mpsc::channel(MOST_WAITING);
        let writer = Writer {
            desk,
            unapplied: Vec::new(),
        };
        Self {
            queue: Mutex::new(Some(queue)),
            task: Mutex::new(Some(tokio::spawn(writer.run(incoming)))),
        }
    }

    /// Records; returns once all of them are durable. Whoever stops waiting before it is their turn is not recorded.
    pub(crate) async fn record(&self, drafts: Vec<Draft>) -> Result<(), AuditError> {
        let (reply, decided) = oneshot::channel();
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let queue = queue.ok_or(AuditError::Append(journal::AppendError::Closed))?;
        queue.try_send(Asked { drafts, reply }).map_err(|_| AuditError::Full)?;
        decided.await.unwrap_or(Err(AuditError::Append(journal::AppendError::Closed)))
    }

    /// Takes nothing more, and returns when what was taken is decided.
    pub(crate) async fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!("the writer of the audit journal broke off: {error}");
        }
    }
}

struct Writer {
    desk: Desk,
    /// Durable, and not in the view, because that failed.
    unapplied: Vec<Stored>,
}

impl Writer {
    async fn run(mut self, mut incoming: mpsc::Receiver<Asked>) {
        while let Some(first) = incoming.recv().await {
            // Nothing is written behind what may be an older state. While that is not known, callers give up by themselves; at a stop
            // nobody will say it any more.
            let mut compared = self.desk.compared.clone();
            let known = tokio::select! {
                known = async { compared.wait_for(|known| *known).await.is_ok() } => known,
                () = closed(&incoming) => false,
            };
            if !known {
                tracing::warn!("what was to be recorded before accounts said what it remembers of the audit journal is not recorded");
                break;
            }
            sleep(GATHER).await;
            let mut batch = vec![first];
            let mut count = batch[0].drafts.len();
            while count < AT_ONCE
                && let Ok(next) = incoming.try_recv()
            {
                count += next.drafts.len();
                batch.push(next);
            }
            batch.retain(|asked| !asked.reply.is_closed());
            let (drafts, replies): (Vec<_>, Vec<_>) = batch.into_iter().map(|asked| (asked.drafts, asked.reply)).unzip();
            let outcome = self.write(drafts.into_iter().flatten().collect()).await;
            if let Err(error) = &outcome {
                tracing::error!(error = %Chain(error), "the audit journal took no record");
            }
            let failed = outcome.err().map(Arc::new);
            for reply in replies {
                let answer = match &failed {
                    None => Ok(()),
                    Some(error) => Err(match &**error {
                        AuditError::Append(error) => AuditError::Append(error.clone()),
                        _ => AuditError::Full,
                    }),
                };
                let _ = reply.send(answer);
            }
        }
        self.desk.journal.close().await;
    }

    async fn write(&mut self, drafts: Vec<Draft>) -> Result<(), AuditError> {
        let keeping = self.desk.keeping;
        let kept = drafts
            .into_iter()
            .filter(|draft| keeping == Keeping::All || !draft.method.ends_with("/RevokeCredential"));
        self.desk.view.in_place()?;
        self.apply().await?;
        // Becomes the edge only once the journal has the records: a refusal leaves no trace.
        let mut edge = self.desk.edge.clone();
        let mut records = Vec::new();
        for draft in kept {
            let product = draft.product.map_or(0, base::ProductId::get);
            let of_product = match product {
                0 => 0,
                product => edge.of_product.get(&product).copied().unwrap_or(0) + 1,
            };
            let at = Numbers {
                number: edge.tree.size() + 1,
                of_product,
                previous: edge.last,
            };
            let line = Record::new(&draft, at, &self.desk.hashes).to_line();
            let (record, complete) = edge.follow(&line)?;
            records.push(Stored { record, line, complete });
        }
        if records.is_empty() {
            return Ok(());
        }
        let entries = records.iter().map(|stored| Entry::sealed(stored.line.clone())).collect();
        self.desk.journal.append_all_at_once(entries).await?;
        self.desk.edge = edge;
        self.unapplied.extend(records);
        // It is durable: whoever asked hears so even if the view fails just now.
        if let Err(error) = self.apply().await {
            tracing::error!(error = %Chain(&error), "the view of the audit journal did not take what the journal has");
        }
        Ok(())
    }

    async fn apply(&mut self) -> Result<(), AuditError> {
        if !self.unapplied.is_empty() {
            self.desk.view.apply(&self.unapplied, self.desk.journal.head()).await?;
            self.unapplied.clear();
            // Only now: whoever signs a head asks the view for the parts of the tree.
            let tree = &self.desk.edge.tree;
            self.desk.standing.send_replace(Standing {
                size: tree.size(),
                root: tree.root(),
            });
        }
        Ok(())
    }
}

// Returns when nobody can send any more.
async fn closed(incoming: &mpsc::Receiver<Asked>) {
    while !incoming.is_closed() {
        sleep(Duration::from_millis(100)).await;
    }
}
