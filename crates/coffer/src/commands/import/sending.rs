//! Chunks on their way: packed, sent under their ids, sent again while that can help.
//!
//! Promise: at most [`AT_ONCE`] chunks are under way; what is sent again has the same id and the same bytes.
//!
//! Start at [`Senders::send`]. Does not know files.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::{DatabaseName, TableName};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use indicatif::ProgressBar;
use tokio::time::Instant;

use super::chunks::Chunk;
use super::rows::Rows;
use crate::client::Client;
use crate::client::td::Imported;
use crate::failure::{During, Exit, Failure, Outcome};
use crate::terminal;

/// Chunks that are under way at the same time. With one that waits and one that is being read, that is all there is in memory.
pub(super) const AT_ONCE: usize = 4;
/// How long one answer may take. A server that is at work answers sooner, if only to say that it is busy.
const ANSWER: Duration = Duration::from_secs(150);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// A chunk as it is sent.
pub(super) struct Packed {
    pub(super) body: Bytes,
    /// Rows that could not be read. They are in the body as they stand, and the server sets them aside.
    pub(super) unreadable: u64,
    /// Where in the file the first of them begins.
    pub(super) first_unreadable: Option<u64>,
}

/// Packs a chunk row by row: only the packed form is in memory as a whole.
pub(super) fn pack(chunk: &Chunk, rows: &Rows) -> std::io::Result<Packed> {
    const ENOUGH: usize = 64 << 10;
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    let (mut plain, mut unreadable, mut first_unreadable) = (Vec::with_capacity(ENOUGH * 2), 0, None);
    for row in &chunk.rows {
        if !rows.encode(chunk.row(*row), row.sound, &mut plain) {
            unreadable += 1;
            first_unreadable.get_or_insert(chunk.place(*row));
        }
        if plain.len() > ENOUGH {
            packed.write_all(&plain)?;
            plain.clear();
        }
    }
    packed.write_all(&plain)?;
    Ok(Packed {
        body: packed.finish()?.into(),
        unreadable,
        first_unreadable,
    })
}

/// Nothing at all, packed.
pub(super) fn nothing() -> Outcome<Bytes> {
    let packed = GzEncoder::new(Vec::new(), Compression::fast()).finish();
    packed.map(Bytes::from).during("could not pack nothing")
}

/// Tries again while that can help.
#[derive(Debug)]
pub(super) struct Patience {
    most: Duration,
    told: AtomicBool,
    progress: ProgressBar,
}

impl Patience {
    /// Of so long, without any success in between.
    pub(super) fn of(most: Duration, progress: ProgressBar) -> Self {
        Self {
            most,
            told: AtomicBool::new(false),
            progress,
        }
    }

    /// Does `attempt` until it succeeds, fails for good, or patience is at an end.
    pub(super) async fn with<T, Attempt: Future<Output = Outcome<T>>>(&self, mut attempt: impl FnMut() -> Attempt) -> Outcome<T> {
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let failure = match tokio::time::timeout(ANSWER, attempt()).await {
                Ok(Ok(done)) => {
                    self.told.store(false, Ordering::Relaxed);
                    return Ok(done);
                }
                Ok(Err(failure)) => failure,
                Err(_) => Failure::new(Exit::Temporary, "could not send events")
                    .why(format!("the server did not answer within {} s", ANSWER.as_secs()))
                    .again_after(Duration::ZERO),
            };
            let Some(wanted) = failure.again else { return Err(failure) };
            let wait = pause.max(wanted);
            if begun.elapsed() + wait > self.most {
                let most = humantime::format_duration(self.most);
                return Err(failure
                    .ended(Exit::Temporary, format!("could not send events, after trying for {most}"))
                    .next("run the same command again later: what arrived is not stored twice. --patience waits longer"));
            }
            if !self.told.swap(true, Ordering::Relaxed) {
                let most = humantime::format_duration(self.most);
                let why = failure.in_one_line();
                self.progress
                    .suspend(|| terminal::say(format_args!("{why}; trying again for up to {most}")));
            }
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Connections to one table.
pub(super) struct Senders {
    first: Client,
    idle: Mutex<Vec<Client>>,
    database: DatabaseName,
    table: TableName,
    patience: Arc<Patience>,
}

impl Senders {
    /// None is connected yet.
    pub(super) fn new(first: Client, database: DatabaseName, table: TableName, patience: Arc<Patience>) -> Self {
        Self {
            first,
            idle: Mutex::default(),
            database,
            table,
            patience,
        }
    }

    /// Sends a chunk until it is acknowledged.
    pub(super) async fn send(&self, id: &str, body: &Bytes) -> Outcome<Imported> {
        let attempt = || async {
            let idle = self.idle().pop();
            let mut client = idle.unwrap_or_else(|| self.first.another());
            let imported = client.import(&self.database, &self.table, id, body.clone()).await?;
            self.idle().push(client);
            Ok(imported)
        };
        self.patience.with(attempt).await
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Client>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::Read;

    use super::super::chunks::{Cut, Cutter};
    use super::super::frames::Lines;
    use super::*;

    fn patience(most: Duration) -> Patience {
        Patience::of(most, ProgressBar::hidden())
    }

    fn busy(after: Duration) -> Failure {
        Failure::new(Exit::Temporary, "no").why("busy").again_after(after)
    }

    #[tokio::test]
    async fn what_can_help_is_tried_again_and_what_cannot_is_not() {
        let tries = Cell::new(0);
        let third = || async {
            tries.set(tries.get() + 1);
            if tries.get() < 3 {
                Err(busy(Duration::ZERO))
            } else {
                Ok(tries.get())
            }
        };
        assert_eq!(patience(Duration::from_secs(60)).with(third).await.unwrap(), 3);

        tries.set(0);
        let never = || async {
            tries.set(tries.get() + 1);
            Err::<(), _>(Failure::new(Exit::NotAllowed, "no"))
        };
        assert_eq!(
            patience(Duration::from_secs(60)).with(never).await.unwrap_err().exit,
            Exit::NotAllowed
        );
        assert_eq!(tries.get(), 1);
    }

    #[tokio::test]
    async fn patience_ends_with_advice_and_the_last_reason() {
        let server_error = || async { Err::<(), _>(Failure::new(Exit::Failed, "no").why("a fault").again_after(Duration::ZERO)) };
        let failure = patience(Duration::from_millis(700)).with(server_error).await.unwrap_err();
        assert_eq!(failure.exit, Exit::Temporary);
        let words = failure.to_string();
        assert!(words.contains("a fault") && words.contains("run the same command again"), "{words}");

        // A server that wants more time than there is gets no second try.
        let tries = Cell::new(0);
        let much = || async {
            tries.set(tries.get() + 1);
            Err::<(), _>(busy(Duration::from_secs(3_600)))
        };
        assert!(patience(Duration::from_secs(60)).with(much).await.is_err());
        assert_eq!(tries.get(), 1);
    }

    #[test]
    fn a_packed_chunk_holds_every_row_and_unreadable_ones_as_texts() {
        let text = "{\"a\":1}\nnot json\n{\"a\":2}\n";
        let cut = Cut {
            rows: 10,
            bytes: Cut::BYTES,
            per_row: 0,
            weight: Cut::WEIGHT,
        };
        let mut cutter = Cutter::new(text.as_bytes(), Box::new(Lines::new(false)), cut);
        let chunk = cutter.next_chunk().unwrap().unwrap();
        let packed = pack(&chunk, &Rows::Json(None)).unwrap();
        assert_eq!((packed.unreadable, packed.first_unreadable), (1, Some(8)));
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&packed.body[..]).read_to_end(&mut plain).unwrap();
        let mut values = Vec::new();
        let mut at = 0;
        while at < plain.len() {
            let (value, length) = crate::msgpack::read::value(&plain[at..]).unwrap();
            values.push(value);
            at += length;
        }
        assert_eq!(serde_json::Value::from(values).to_string(), r#"[{"a":1},"not json",{"a":2}]"#);
        assert!(nothing().unwrap().len() <= 20);
    }
}
