//! Time as a part that is handed in, so that a test can turn it by hand.

use std::fmt;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment: microseconds since 1970-01-01T00:00:00Z, negative before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From microseconds since the epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// From whole seconds since the epoch, saturating.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }

    /// Microseconds since the epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Whole milliseconds since the epoch, zero for moments before it (the form a ULID holds).
    pub const fn as_millis(self) -> u64 {
        if self.0 < 0 { 0 } else { (self.0 / 1000) as u64 }
    }

    /// This moment plus `by`, saturating.
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero when it is not after.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The day in UTC as `YYYYMMDD`, as used in object names.
    pub fn day(self) -> String {
        let (y, m, d, ..) = self.civil();
        format!("{y:04}{m:02}{d:02}")
    }

    /// `YYYY-MM-DD hh:mm:ss UTC`, the form td clients read.
    pub fn td_string(self) -> String {
        let (y, m, d, hh, mm, ss) = self.civil();
        format!("{y:04}-{m:02}-{d:02} {hh:02}:{mm:02}:{ss:02} UTC")
    }

    // Days to civil date after Howard Hinnant, "chrono-compatible low-level date algorithms" (public domain).
    fn civil(self) -> (i64, i64, i64, i64, i64, i64) {
        let secs = self.as_secs();
        let (days, rest) = (secs.div_euclid(86_400), secs.rem_euclid(86_400));
        let z = days + 719_468;
        let era = z.div_euclid(146_097);
        let doe = z.rem_euclid(146_097);
        let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let d = doy - (153 * mp + 2) / 5 + 1;
        let m = if mp < 10 { mp + 3 } else { mp - 9 };
        let y = yoe + era * 400 + i64::from(m <= 2);
        (y, m, d, rest / 3600, rest / 60 % 60, rest % 60)
    }
}

impl fmt::Display for Timestamp {
    /// ISO 8601 in UTC, to the second: `2026-11-23T10:00:00Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (y, m, d, hh, mm, ss) = self.civil();
        write!(f, "{y:04}-{m:02}-{d:02}T{hh:02}:{mm:02}:{ss:02}Z")
    }
}

/// Where long-lived loops get the time from. Pure functions take `now` instead.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The time on the wall.
    fn now(&self) -> Timestamp;

    /// How long it is since some moment that does not change while the process runs. Nobody sets this one: it neither jumps nor goes
    /// back. Of a clock that nobody sets, it is the same as the time.
    fn steady(&self) -> Duration {
        self.now().since(Timestamp::from_micros(i64::MIN))
    }
}

/// When this process first asked for a steady time.
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The machine's clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the machine for the time")]
    fn now(&self) -> Timestamp {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => Timestamp(i64::try_from(after.as_micros()).unwrap_or(i64::MAX)),
            Err(before) => Timestamp(-i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX)),
        }
    }

    fn steady(&self) -> Duration {
        BEGAN.elapsed()
    }
}

/// A clock that moves only when a test turns it.
#[derive(Debug)]
pub struct ManualClock {
    wall: AtomicI64,
    steady: AtomicI64,
}

impl ManualClock {
    /// A clock that stands at `now`.
    pub fn at(now: Timestamp) -> Self {
        Self {
            wall: AtomicI64::new(now.0),
            steady: AtomicI64::new(0),
        }
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.wall.fetch_add(by, Ordering::SeqCst);
        self.steady.fetch_add(by, Ordering::SeqCst);
    }

    /// Sets the time on the wall, while none passes.
    pub fn set(&self, now: Timestamp) {
        self.wall.store(now.0, Ordering::SeqCst);
    }

    /// Turns the clock back, while no time passes.
    pub fn turn_back(&self, by: Duration) {
        self.wall
            .fetch_sub(i64::try_from(by.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.wall.load(Ordering::SeqCst))
    }

    fn steady(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.steady.load(Ordering::SeqCst)).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let check = |secs: i64, iso: &str| assert_eq!(Timestamp::from_secs(secs).to_string(), iso);
        check(0, "1970-01-01T00:00:00Z");
        check(951_782_400, "2000-02-29T00:00:00Z");
        check(-1, "1969-12-31T23:59:59Z");
        check(2_147_483_648, "2038-01-19T03:14:08Z");
        assert_eq!(Timestamp::from_secs(951_868_799).td_string(), "2000-02-29 23:59:59 UTC");
        assert_eq!(Timestamp::from_secs(951_868_800).day(), "20000301");
    }

    #[test]
    fn a_manual_clock_moves_only_when_turned() {
        let clock = ManualClock::at(Timestamp::from_secs(10));
        assert_eq!(clock.now().as_secs(), 10);
        clock.advance(Duration::from_millis(1500));
        assert_eq!(clock.now().as_micros(), 11_500_000);
        clock.turn_back(Duration::from_millis(500));
        assert_eq!((clock.now().as_secs(), clock.steady()), (11, Duration::from_millis(1500)));
        clock.set(Timestamp::from_secs(7));
        assert_eq!((clock.now().as_secs(), clock.steady()), (7, Duration::from_millis(1500)));
    }
}
