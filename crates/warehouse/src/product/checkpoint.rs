//! How much of the journal a start need not read: all that it holds is in the catalog and in files.
//!
//! Promise: of what stands before the checkpoint, every row is in a file (or its table is gone) and every change is made. So a start
//! reads the last segment before it, which shows that the journal still is the same, and what came after.
//!
//! A checkpoint is begun at the journal's end and made once all who were appending by then are done and all rows have left memory that
//! were there then.
//!
//! An append that is undecided when it is done is in no memory and need not be: the journal tries its place again, and has moved past it
//! only with another segment in that place, beside which the undecided one never counts. So it either stands after the checkpoint, where
//! the next start looks for it, or is not in the journal. What was shown nowhere because its table has gone for good is not looked for either.
//! An append of which nobody heard the end (whoever waited for it broke off) may be in the journal and in no memory: from then on there is
//! no further checkpoint in this process, and the next start reads what came since the last.
//!
//! Invariant for whoever takes tables away: rows in memory of a table that may come back are to be in a file before.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::TableId;
use columns::catalog::{Catalog, CatalogError};
use journal::{AppendError, Entry, Head};
use sqlx::Row;

use super::readers::{Reader, Readers};
use super::{Product, ProductError};

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS checkpoint (
    only INTEGER NOT NULL PRIMARY KEY CHECK (only = 1),
    length INTEGER NOT NULL,
    hash BLOB NOT NULL
) STRICT;
";

/// The next checkpoint of a product.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    /// Who is appending.
    appending: Readers,
    /// Something may be in the journal and nowhere else.
    spoiled: AtomicBool,
    next: tokio::sync::Mutex<Next>,
}

#[derive(Debug, Default)]
struct Next {
    /// The length of the journal at the last.
    made: u64,
    begun: Option<Begun>,
}

#[derive(Debug)]
struct Begun {
    head: Head,
    turn: u64,
    /// How many batches each table had been shown when nobody of that turn was appending any more.
    shown: Option<HashMap<TableId, u64>>,
}

/// Somebody is appending. To be told when all that was appended is shown.
pub(super) struct Appending<'a> {
    of: &'a Checkpoints,
    _turn: Arc<Reader>,
    is_known: bool,
}

impl Appending<'_> {
    /// Nothing of it is in the journal before a checkpoint that is not shown.
    pub(super) fn done(mut self) {
        self.is_known = true;
    }

    /// It was to be shown, which came to this: all of it, or its table has gone for good and there is nothing to show.
    pub(super) fn shown(self, outcomes: [Result<(), ProductError>; 2]) -> Result<(), ProductError> {
        let is_known = |outcome: &Result<(), ProductError>| matches!(outcome, Ok(()) | Err(ProductError::NotFound { .. }));
        if outcomes.iter().all(is_known) {
            self.done();
        }
        outcomes.into_iter().collect()
    }
}

impl Drop for Appending<'_> {
    fn drop(&mut self) {
        // Invariant: before the turn is left, so that whoever sees it left sees this.
        if !self.is_known {
            self.of.spoiled.store(true, Ordering::SeqCst);
        }
    }
}

impl Checkpoints {
    /// After a start from a checkpoint.
    pub(super) fn after(head: Head) -> Self {
        Self {
            next: tokio::sync::Mutex::new(Next {
                made: head.length,
                begun: None,
            }),
            ..Self::default()
        }
    }
}

/// The last checkpoint; the beginning of the journal when there is none.
pub(super) async fn load(catalog: &Catalog) -> Result<Head, CatalogError> {
    sqlx::raw_sql(SCHEMA).execute(catalog.pool()).await?;
    let row = sqlx::query("SELECT length, hash FROM checkpoint")
        .fetch_optional(catalog.pool())
        .await?;
    let Some(row) = row else { return Ok(Head::default()) };
    let corrupt = || CatalogError::Corrupt { what: "checkpoint" };
    Ok(Head {
        length: u64::try_from(row.try_get::<i64, _>("length")?).map_err(|_| corrupt())?,
        hash: row.try_get::<Vec<u8>, _>("hash")?.as_slice().try_into().map_err(|_| corrupt())?,
    })
}

async fn save(catalog: &Catalog, head: &Head) -> Result<(), CatalogError> {
    sqlx::query("INSERT INTO checkpoint (only, length, hash) VALUES (1, ?1, ?2) ON CONFLICT (only) DO UPDATE SET length = ?1, hash = ?2")
        .bind(i64::try_from(head.length).unwrap_or(i64::MAX))
        .bind(&head.hash[..])
        .execute(catalog.pool())
        .await?;
    Ok(())
}

impl Product {
    /// Appends rows to the journal. What is returned is to be told once they are shown.
    pub(super) async fn append_entries(&self, entries: Vec<Entry>) -> Result<Appending<'_>, ProductError> {
        let appending = Appending {
            of: &self.checkpoints,
            _turn: self.checkpoints.appending.enter(),
            is_known: false,
        };
        match self.journal.append_all(entries).await {
            Ok(_) => Ok(appending),
            Err(error) => {
                // Invariant: not in the journal, or, undecided, not in it before the end that it has now or will have: see above.
                let is_decided = matches!(
                    error,
                    AppendError::TooFewZones { .. }
                        | AppendError::TooMuch { .. }
                        | AppendError::TooLarge { .. }
                        | AppendError::NoCertificate
                );
                if is_decided || matches!(error, AppendError::Undecided { .. }) {
                    appending.done();
                }
                Err(error.into())
            }
        }
    }

    /// One look at the next checkpoint: begins it, or makes it if it is time.
    pub(super) async fn advance_checkpoint(&self) {
        let Ok(mut next) = self.checkpoints.next.try_lock() else { return };
        if let Err(error) = self.advance(&mut next).await {
            tracing::warn!(product.id = %self.id, error = %super::flush::chain(&error), "could not note how much of the journal is in files");
        }
    }

    async fn advance(&self, next: &mut Next) -> Result<(), ProductError> {
        let checkpoints = &self.checkpoints;
        let Some(begun) = &mut next.begun else {
            let head = self.journal.head();
            if head.length > next.made {
                next.begun = Some(Begun {
                    head,
                    turn: checkpoints.appending.end_turn(),
                    shown: None,
                });
            }
            return Ok(());
        };
        if !checkpoints.appending.have_left(begun.turn) {
            return Ok(());
        }
        let is_in_files = {
            let state = self.read();
            // Rows from before this start that nobody has opened yet.
            if !state.sealed.is_empty() {
                next.begun = None;
                return Ok(());
            }
            let count = || state.tables.values().map(|table| (table.id, table.shown)).collect();
            let shown: &HashMap<TableId, u64> = begun.shown.get_or_insert_with(count);
            // Batches leave memory in the order in which they came.
            let written = |(id, shown): (&TableId, &u64)| {
                let table = state.tables.get(id);
                table.is_none_or(|table| table.shown - table.memory.len() as u64 >= *shown)
            };
            shown.iter().all(written)
        };
        if !is_in_files {
            return Ok(());
        }
        let control = self.control.lock().await;
        if !control.is_empty() || checkpoints.spoiled.load(Ordering::SeqCst) {
            return Ok(());
        }
        save(&self.catalog, &begun.head).await?;
        next.made = begun.head.length;
        next.begun = None;
        Ok(())
    }
}
