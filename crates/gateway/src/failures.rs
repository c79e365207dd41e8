//! Keys that did not work, counted per address, so that nobody tries them by the thousand.
//!
//! Promise: an address that guessed too often waits; callers whose key was good within a day do not notice (`auth` sees to that).
//!
//! Start at [`Failures::check`]. Does not know what a key looks like.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base::Timestamp;

const WINDOW: Duration = Duration::from_secs(60);
/// What is remembered at most. Beyond it, addresses without a record go unlimited rather than unserved.
const MAX_ADDRESSES: usize = 50_000;

#[derive(Debug, Clone, Copy)]
struct Record {
    since: Timestamp,
    count: u32,
}

impl Record {
    // A clock that was turned back must not make the minute longer.
    fn is_of_now(&self, now: Timestamp) -> bool {
        self.since <= now && now.since(self.since) < WINDOW
    }
}

/// Who failed, how often, in the last minute.
#[derive(Debug)]
pub(crate) struct Failures {
    allowed: u32,
    records: Mutex<HashMap<IpAddr, Record>>,
}

impl Failures {
    /// Allows so many failures per address and minute.
    pub(crate) fn allowing(allowed: u32) -> Self {
        Self {
            allowed,
            records: Mutex::default(),
        }
    }

    /// Whether `address` may try a key; if not, in how many seconds.
    pub(crate) fn check(&self, address: IpAddr, now: Timestamp) -> Result<(), u64> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        match records.get(&network(address)) {
            Some(record) if record.count >= self.allowed && record.is_of_now(now) => Err((WINDOW - now.since(record.since)).as_secs() + 1),
            _ => Ok(()),
        }
    }

    /// A key from `address` did not work.
    pub(crate) fn count(&self, address: IpAddr, now: Timestamp) {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let network = network(address);
        if records.len() >= MAX_ADDRESSES && !records.contains_key(&network) {
            records.retain(|_, record| record.is_of_now(now));
            if records.len() >= MAX_ADDRESSES {
                return;
            }
        }
        let record = records.entry(network).or_insert(Record { since: now, count: 0 });
        if !record.is_of_now(now) {
            *record = Record { since: now, count: 0 };
        }
        record.count = record.count.saturating_add(1);
    }
}

/// Who has one IPv6 address has its whole /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_guesses_waits_and_others_do_not() {
        let failures = Failures::allowing(3);
        let (guesser, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let at = Timestamp::from_secs;
        for second in 0..3 {
            assert_eq!(failures.check(guesser, at(second)), Ok(()));
            failures.count(guesser, at(second));
        }
        assert_eq!(failures.check(guesser, at(10)), Err(51));
        assert_eq!(failures.check(other, at(10)), Ok(()));
        assert_eq!(failures.check(guesser, at(60)), Ok(()));
        failures.count(guesser, at(60));
        assert_eq!(failures.check(guesser, at(61)), Ok(()), "the count starts again");
        for _ in 0..3 {
            failures.count(guesser, at(62));
        }
        assert!(failures.check(guesser, at(62)).is_err());
        assert_eq!(failures.check(guesser, at(5)), Ok(()), "the clock was turned back");
    }

    #[test]
    fn an_ipv6_network_counts_as_one() {
        let failures = Failures::allowing(1);
        let at = Timestamp::from_secs(1);
        failures.count("2001:db8::1".parse().unwrap(), at);
        assert!(failures.check("2001:db8::ffff".parse().unwrap(), at).is_err());
        assert!(failures.check("2001:db8:0:1::1".parse().unwrap(), at).is_ok());
        failures.count("::ffff:192.0.2.1".parse().unwrap(), at);
        assert!(failures.check("192.0.2.1".parse().unwrap(), at).is_err());
    }
}
