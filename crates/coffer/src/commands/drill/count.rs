//! The sums: what was sent and acknowledged against what is there.
//!
//! Knows nothing of who stored it: rows are asked for in SQL, as anybody would.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use base::{DatabaseName, TableName};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::load::{PEOPLE, ROWS, Sent};
use crate::client::Client;
use crate::failure::{Exit, Failure, Outcome};

/// How many batches are named where something is wrong with them.
const NAMED: usize = 5;
const AGAIN: Duration = Duration::from_millis(500);

/// What is there of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stored {
    rows: i64,
    /// Different numbers among them, and the ends of these.
    numbers: i64,
    first: i64,
    last: i64,
}

impl Stored {
    /// Whether it holds no number of another batch. So many different ones as a batch has are then all of its own.
    fn is_of(&self, batch: i64) -> bool {
        let own = batch * ROWS..(batch + 1) * ROWS;
        own.contains(&self.first) && own.contains(&self.last)
    }
}

/// What came of it, in rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) acknowledged: u64,
    pub(super) stored: u64,
    /// Acknowledged and not there as sent; or not acknowledged and there in part, which is no way to store a batch either.
    pub(super) lost: u64,
    /// There more than once, or never sent.
    pub(super) duplicated: u64,
    /// Sent without an answer: there as a whole, once, or not at all.
    pub(super) unanswered: u64,
    /// People that there should be, and that there are: one who became another is one too many.
    pub(super) people: u64,
    pub(super) people_found: u64,
    /// A few of the batches with which something is wrong, in words.
    pub(super) wrong: Vec<String>,
}

impl Tally {
    /// Asks what is there. A question is asked again until it is answered, for so long; what is answered is taken as it is.
    pub(super) async fn take(
        client: &mut Client,
        (database, table): (&DatabaseName, &TableName),
        sent: &Sent,
        patience: Duration,
    ) -> Outcome<Self> {
        let deadline = Instant::now() + patience;
        loop {
            match Self::asked(client, database, table, sent).await {
                Err(failure) if failure.exit == Exit::Temporary && Instant::now() < deadline => sleep(AGAIN).await,
                Err(failure) => {
                    // What nobody can read is not stored.
                    return Err(failure.ended(
                        Exit::Unverified,
                        "the rows of the drill could not be counted: all of them may be lost",
                    ));
                }
                tally => return tally,
            }
        }
    }

    async fn asked(client: &mut Client, database: &DatabaseName, table: &TableName, sent: &Sent) -> Outcome<Self> {
        let all = rows(client, database, &format!("SELECT count(*) FROM {table}")).await?;
        match all.first().and_then(|row| row.first()?.as_u64()) {
            // Where nothing is left, no column is known either that could be asked for.
            Some(0) => return Ok(judge(sent, &BTreeMap::new(), 0)),
            Some(_) => {}
            None => return Err(Failure::new(Exit::Failed, "the answer is not what was asked for").why(format!("{all:?}"))),
        }
        let by_batch = format!("SELECT batch, count(*), count(DISTINCT n), min(n), max(n) FROM {table} GROUP BY batch");
        let mut found = BTreeMap::new();
        for row in rows(client, database, &by_batch).await? {
            let number = |at: usize| row.get(at).and_then(Value::as_i64);
            let (Some(batch), Some(rows), Some(numbers), Some(first), Some(last)) = (number(0), number(1), number(2), number(3), number(4))
            else {
                return Err(Failure::new(Exit::Failed, "the answer is not what was asked for").why(format!("{row:?}")));
            };
            let stored = Stored {
                rows,
                numbers,
                first,
                last,
            };
            found.insert(batch, stored);
        }
        let people = rows(client, database, &format!("SELECT count(DISTINCT email) FROM {table}")).await?;
        let people = people.first().and_then(|row| row.first()?.as_u64()).unwrap_or_default();
        Ok(judge(sent, &found, people))
    }

    /// Whether every acknowledged row is there, once, and everybody is who they were.
    pub(super) fn holds(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.people == self.people_found
    }
}

fn judge(sent: &Sent, found: &BTreeMap<i64, Stored>, people_found: u64) -> Tally {
    let mut tally = Tally {
        people_found,
        ..Tally::default()
    };
    let wrong = |tally: &mut Tally, words: String| {
        if tally.wrong.len() < NAMED {
            tally.wrong.push(words);
        }
    };
    let size = |rows: i64| u64::try_from(rows).unwrap_or_default();
    for (batch, acknowledged) in &sent.batches {
        let stored = found.get(batch);
        if *acknowledged {
            tally.acknowledged += size(ROWS);
        } else {
            tally.unanswered += size(ROWS);
        }
        // What is there, how many different rows of it, and how many of those that were sent.
        let (rows, different, own) = match stored {
            None if !acknowledged => continue,
            None => (0, 0, 0),
            Some(stored) => (stored.rows, stored.numbers, if stored.is_of(*batch) { stored.numbers } else { 0 }),
        };
        tally.stored += size(rows);
        tally.lost += size(ROWS - own);
        tally.duplicated += size(rows - different);
        if rows != ROWS || own != ROWS {
            let said = if *acknowledged { "acknowledged" } else { "not acknowledged" };
            wrong(
                &mut tally,
                format!("batch {batch}, {said}, has {rows} rows, {own} of the {ROWS} that were sent"),
            );
        }
    }
    for (batch, stored) in found.iter().filter(|(batch, _)| !sent.batches.contains_key(batch)) {
        tally.stored += size(stored.rows);
        tally.duplicated += size(stored.rows);
        wrong(&mut tally, format!("batch {batch} has {} rows and was never sent", stored.rows));
    }
    // All rows of a sender are about the same few people, in every batch.
    let senders: std::collections::BTreeSet<i64> = found.keys().map(|batch| batch.rem_euclid(sent.senders.max(1))).collect();
    tally.people = senders.len() as u64 * size(PEOPLE);
    if tally.people != people_found {
        let words = format!("there are {people_found} people where {} were sent about", tally.people);
        wrong(&mut tally, words);
    }
    tally
}

async fn rows(client: &mut Client, database: &DatabaseName, sql: &str) -> Outcome<Vec<Vec<Value>>> {
    let job = client.issue(database.as_str(), sql).await?;
    let ended = client.finished(&job, |_| {}).await?;
    if ended.status != "success" {
        // It may have asked for rows that are being read back, of a role that has just been started.
        return Err(Failure::new(Exit::Temporary, "the rows of the drill could not be counted").why(ended.error()));
    }
    let mut rows = Vec::new();
    let take = |row| {
        rows.push(row);
        Ok(ControlFlow::Continue(()))
    };
    client.result(&job, take).await?;
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(batch: i64) -> Stored {
        Stored {
            rows: ROWS,
            numbers: ROWS,
            first: batch * ROWS,
            last: (batch + 1) * ROWS - 1,
        }
    }

    /// Two senders; batches 0 to 3 acknowledged and there, 4 neither; but `batch` is as given.
    fn judged(batch: i64, there: Option<Stored>) -> Tally {
        let sent = Sent {
            batches: (0..5).map(|batch| (batch, batch < 4)).collect(),
            senders: 2,
        };
        let mut found: BTreeMap<i64, Stored> = (0..4).map(|batch| (batch, whole(batch))).collect();
        found.remove(&batch);
        found.extend(there.map(|there| (batch, there)));
        judge(&sent, &found, 14)
    }

    #[test]
    fn what_was_not_acknowledged_may_be_there_or_not() {
        let without = judged(4, None);
        assert_eq!((without.acknowledged, without.stored, without.unanswered), (200, 200, 50));
        assert!(without.holds(), "{without:?}");
        let with = judged(4, Some(whole(4)));
        assert_eq!((with.stored, with.holds()), (250, true));
    }

    #[test]
    fn whatever_is_missing_twice_or_strange_is_counted() {
        let check = |batch, there, lost, duplicated| {
            let tally = judged(batch, there);
            assert_eq!(
                (tally.lost, tally.duplicated, tally.wrong.len()),
                (lost, duplicated, 1),
                "{tally:?}"
            );
            assert!(!tally.holds());
        };
        let part = |batch| Stored {
            rows: 20,
            numbers: 20,
            ..whole(batch)
        };
        let twice = |batch| Stored { rows: 100, ..whole(batch) };
        check(2, None, 50, 0);
        check(2, Some(part(2)), 30, 0);
        check(4, Some(part(4)), 30, 0);
        check(2, Some(twice(2)), 0, 50);
        check(4, Some(twice(4)), 0, 50);
        // As many as were sent, but one of them twice and another not at all; or all of another batch.
        check(2, Some(Stored { numbers: 49, ..whole(2) }), 1, 1);
        check(2, Some(whole(3)), 50, 0);
        check(9, Some(whole(9)), 0, 50);
    }

    #[test]
    fn where_nothing_is_left_everything_acknowledged_is_lost() {
        let sent = Sent {
            batches: BTreeMap::from([(0, true), (1, false)]),
            senders: 1,
        };
        let tally = judge(&sent, &BTreeMap::new(), 0);
        assert_eq!((tally.acknowledged, tally.stored, tally.lost, tally.holds()), (50, 0, 50, false));
    }

    #[test]
    fn somebody_who_became_another_person_is_noticed() {
        let sent = Sent {
            batches: BTreeMap::from([(0, true)]),
            senders: 1,
        };
        let tally = judge(&sent, &BTreeMap::from([(0, whole(0))]), 8);
        assert_eq!((tally.people, tally.people_found, tally.holds()), (7, 8, false));
    }
}
