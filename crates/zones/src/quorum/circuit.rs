//! The circuit breaker of one zone: after some failures in a row nothing more is written to it, until a try has shown that it works.
//!
//! Promise: a zone that keeps failing is tried less and less often, and never less often than the settings say. A zone that fails again
//! soon after it passed for mended goes on where it stopped.

use std::time::Duration;

use base::time::Instant;

use super::member::Use;

/// So many failures of one kind in a row open it.
const IN_A_ROW: u32 = 3;

/// Whether requests go to a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Circuit {
    /// They do.
    Closed,
    /// They do not, until the zone is tried again; reads only go there when nobody else can answer.
    Open,
    /// It is being tried.
    HalfOpen,
}

#[derive(Debug)]
pub(super) struct Breaker {
    state: Circuit,
    /// Failures in a row: of writes and tries, and of reads. A full disk reads well.
    writes: u32,
    reads: u32,
    /// How often it was opened without having held in between.
    openings: u32,
    closed_at: Instant,
    next_try: Instant,
    first_wait: Duration,
    longest_wait: Duration,
}

impl Breaker {
    pub(super) fn new(first_wait: Duration, longest_wait: Duration) -> Self {
        let now = Instant::now();
        Self {
            state: Circuit::Closed,
            writes: 0,
            reads: 0,
            openings: 0,
            closed_at: now,
            next_try: now,
            first_wait,
            longest_wait: longest_wait.max(first_wait),
        }
    }

    pub(super) fn state(&self) -> Circuit {
        self.state
    }

    /// When the zone is to be tried again, where its circuit is open.
    pub(super) fn next_try(&self) -> Option<Instant> {
        (self.state != Circuit::Closed).then_some(self.next_try)
    }

    /// A try begins, whether it is time for it or not.
    pub(super) fn trying(&mut self) {
        if self.state == Circuit::Open {
            self.state = Circuit::HalfOpen;
        }
    }

    /// The zone did what it was asked. True when that closed the circuit.
    pub(super) fn worked(&mut self, what: Use, now: Instant) -> bool {
        match what {
            Use::Read => self.reads = 0,
            Use::Write => self.writes = 0,
            Use::Probe => {
                self.writes = 0;
                if self.state != Circuit::Closed {
                    self.state = Circuit::Closed;
                    (self.reads, self.closed_at) = (0, now);
                    return true;
                }
            }
        }
        false
    }

    /// The zone failed. True when that opened the circuit, which it does at once where the zone does not answer at all.
    pub(super) fn failed(&mut self, what: Use, hangs: bool, now: Instant) -> bool {
        let row = if what == Use::Read { &mut self.reads } else { &mut self.writes };
        *row = row.saturating_add(1);
        let opens = match self.state {
            Circuit::Closed => hangs || *row >= IN_A_ROW,
            Circuit::HalfOpen => what == Use::Probe,
            Circuit::Open => false,
        };
        if !opens {
            return false;
        }
        if self.state == Circuit::Closed && now.since(self.closed_at) > self.wait() {
            self.openings = 0;
        }
        self.openings = self.openings.saturating_add(1);
        self.state = Circuit::Open;
        self.next_try = now + self.wait();
        true
    }

    /// Doubled with every opening in a row.
    fn wait(&self) -> Duration {
        let doubled = 1_u32.checked_shl(self.openings.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first_wait.saturating_mul(doubled).min(self.longest_wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn breaker() -> (Breaker, Instant) {
        (Breaker::new(SECOND, 8 * SECOND), Instant::now())
    }

    #[test]
    fn three_failures_in_a_row_open_it_and_fewer_do_not() {
        let (mut breaker, now) = breaker();
        for _ in 0..5 {
            assert!(!breaker.failed(Use::Write, false, now) && !breaker.failed(Use::Write, false, now));
            breaker.worked(Use::Write, now);
        }
        assert_eq!((breaker.state(), breaker.next_try()), (Circuit::Closed, None));

        let opened: Vec<bool> = (0..4).map(|_| breaker.failed(Use::Write, false, now)).collect();

        assert_eq!(opened, [false, false, true, false]);
        assert_eq!((breaker.state(), breaker.next_try()), (Circuit::Open, Some(now + SECOND)));
    }

    #[test]
    fn reads_that_work_do_not_hide_that_writes_fail() {
        let (mut breaker, now) = breaker();
        for _ in 0..3 {
            breaker.failed(Use::Write, false, now);
            breaker.worked(Use::Read, now);
        }
        assert_eq!(breaker.state(), Circuit::Open);
    }

    #[test]
    fn each_try_that_fails_doubles_the_wait_up_to_a_bound() {
        let (mut breaker, mut now) = breaker();
        assert!(
            breaker.failed(Use::Read, true, now),
            "what does not answer at all is not waited for twice"
        );
        for seconds in [1, 2, 4, 8, 8, 8] {
            assert_eq!(breaker.next_try(), Some(now + seconds * SECOND));
            now = now + seconds * SECOND;
            breaker.trying();
            assert_eq!(breaker.state(), Circuit::HalfOpen);
            assert!(!breaker.failed(Use::Read, true, now), "what was asked before the try says nothing");
            assert!(breaker.failed(Use::Probe, false, now));
        }
        breaker.trying();
        assert!(breaker.worked(Use::Probe, now));
        assert_eq!((breaker.state(), breaker.next_try()), (Circuit::Closed, None));
    }

    #[test]
    fn a_zone_that_fails_again_at_once_is_not_trusted_as_at_first_and_one_that_held_is() {
        for (held, wait) in [(SECOND, 4), (9 * SECOND, 1)] {
            let (mut breaker, now) = breaker();
            breaker.failed(Use::Write, true, now);
            breaker.trying();
            breaker.failed(Use::Probe, false, now);
            breaker.trying();
            breaker.worked(Use::Probe, now);

            let later = now + held;
            breaker.failed(Use::Write, true, later);

            assert_eq!(breaker.next_try(), Some(later + wait * SECOND), "after {held:?}");
        }
    }
}
