//! Dropped things go for good once nobody can want them back any more: from the catalog at once, from the zones soon.
//!
//! Promise: nothing goes before it was dropped for as long as is set, whatever a clock says. That it went is in the journal before
//! anything of it is deleted; its objects are condemned with it (see `condemned`), so none is left behind.
//!
//! A clock that jumps ahead would have time pass that did not. So time is reckoned twice (see [`Pace`]): what is dropped is dropped at
//! the later of the two, and what is due is due by the earlier. What is left is a clock that was wrong already when this process began,
//! or before it; against that stand a margin, and some time after each start in which nothing goes.

use std::sync::Arc;
use std::time::Duration;

use base::{Clock, DatabaseName, TableId, Timestamp};

use super::{Product, ProductError};
use crate::entries::Header;

/// So much later than set: clocks are wrong by an hour twice a year.
pub(super) const MARGIN: Duration = Duration::from_secs(2 * 3600);

/// What time it is, by the clock on the wall and by how long this process has run.
#[derive(Debug)]
pub(super) struct Pace {
    clock: Arc<dyn Clock>,
    /// By the steady clock, and by the one on the wall.
    started: Duration,
    began: Timestamp,
    /// When something was last written before, as its writer said.
    latest: Timestamp,
}

impl Pace {
    /// From now on.
    pub(super) fn begin(clock: Arc<dyn Clock>, latest: Timestamp) -> Self {
        Self {
            started: clock.steady(),
            began: clock.now(),
            latest,
            clock,
        }
    }

    /// It is not earlier than this, if it was not when the process began: a clock that jumps ahead moves it no faster than time.
    pub(super) fn at_least(&self) -> Timestamp {
        self.clock.now().min(self.began.plus(self.runs_for()))
    }

    /// It is not later than this: a clock that is turned back, now or at a start, does not move it.
    pub(super) fn at_most(&self) -> Timestamp {
        self.clock.now().max(self.began.plus(self.runs_for())).max(self.latest)
    }

    pub(super) fn runs_for(&self) -> Duration {
        self.clock.steady().saturating_sub(self.started)
    }
}

/// What is to go.
#[derive(Debug, Default)]
struct Due {
    tables: Vec<TableId>,
    databases: Vec<(DatabaseName, Timestamp)>,
}

impl Due {
    fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.databases.is_empty()
    }
}

impl Product {
    /// Lets go for good what was dropped long enough ago. Where that fails, the next round tries again.
    pub(super) async fn purge_due(&self) {
        if let Err(error) = self.purge().await {
            tracing::warn!(product.id = %self.id, error = %super::flush::chain(&error), "could not let go what was dropped long ago");
        }
        self.expire_due().await;
    }

    pub(super) async fn purge(&self) -> Result<(), ProductError> {
        if self.due().is_empty() {
            return Ok(());
        }
        let mut waiting = self.control.lock().await;
        self.make_waiting(&mut waiting).await?;
        // Some may have been brought back meanwhile.
        let due = self.due();
        if due.is_empty() {
            return Ok(());
        }
        let Due { tables, databases } = due;
        let (count, of_databases) = (tables.len(), databases.len());
        self.change(&mut waiting, Header::Purge { tables, databases }).await?;
        tracing::info!(product.id = %self.id, tables = count, databases = of_databases,
            "{count} tables and {of_databases} databases went for good that were dropped long ago");
        Ok(())
    }

    fn due(&self) -> Due {
        let settings = &self.shared.settings.drops;
        if self.pace.runs_for() < settings.settle {
            return Due::default();
        }
        let now = self.pace.at_least();
        let margin = MARGIN.min(settings.keep / 10);
        let is_due = |at: Timestamp| at.plus(settings.keep).plus(margin) <= now;
        let state = self.read();
        let tables = state
            .tables
            .values()
            .filter(|table| table.dropped.is_some_and(|dropped| is_due(dropped.at)));
        Due {
            tables: tables.map(|table| table.id).collect(),
            databases: state.dropped_databases.keys().filter(|(_, at)| is_due(*at)).cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use base::ManualClock;

    use super::*;

    #[test]
    fn time_is_reckoned_so_that_no_jump_of_a_clock_makes_it_pass() {
        let hour = Duration::from_secs(3600);
        let at = |hours: u32| Timestamp::from_secs(1_800_000_000).plus(hour * hours);
        let clock = Arc::new(ManualClock::at(at(100)));
        let pace = Pace::begin(Arc::clone(&clock) as Arc<dyn Clock>, at(90));
        clock.advance(hour * 2);
        let check = |wall: Timestamp, least: Timestamp, most: Timestamp| {
            clock.set(wall);
            assert_eq!((pace.at_least(), pace.at_most()), (least, most), "{wall}");
        };
        check(at(102), at(102), at(102));
        // Ahead, by an hour or to 2038, and back.
        check(at(103), at(102), at(103));
        check(at(99_999), at(102), at(99_999));
        check(at(101), at(101), at(102));
        // A process that begins with a clock that was turned back knows from the journal that it is later.
        clock.set(at(1));
        assert_eq!(Pace::begin(clock, at(90)).at_most(), at(90));
    }
}
