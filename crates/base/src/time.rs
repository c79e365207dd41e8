//! Waiting: what `tokio::time` offers, but a simulation can take it over.
//!
//! Outside a simulation this is `tokio::time` and nothing else. On a thread that has entered a [`SimulatedTime`], time stands still until
//! that is told to go on ([`SimulatedTime::advance`]), and then jumps to the next moment that anybody waits for: hours pass in no
//! time, and in the same order each time.
//!
//! Crates whose code is to be simulated (zones, journal, warehouse) wait with this and never with `tokio::time`, which does not
//! exist in a simulation's runtime: forgetting it breaks the first simulated seed that comes by.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Add;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// A moment of the machine's steady clock, or of the simulated one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(std::time::Instant);

impl Instant {
    /// Now.
    pub fn now() -> Self {
        simulated(|timers| timers.now).unwrap_or_else(|| Self(std::time::Instant::now()))
    }

    /// How long ago this was; zero when it was not.
    pub fn elapsed(self) -> Duration {
        Self::now().since(self)
    }

    /// This moment, earlier by so much; none where the clock cannot say it.
    pub fn checked_sub(self, by: Duration) -> Option<Self> {
        self.0.checked_sub(by).map(Self)
    }

    /// How long after `earlier` this is; zero when it is not after.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;
    fn add(self, by: Duration) -> Self {
        Self(self.0 + by)
    }
}

/// The time was up first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the time is up")]
pub struct Elapsed;

/// Waits for `time`.
pub async fn sleep(time: Duration) {
    sleep_until(Instant::now() + time).await;
}

/// Waits for a moment to come.
pub async fn sleep_until(deadline: Instant) {
    if simulated(|_| ()).is_some() {
        Simulated { deadline, ticket: None }.await;
    } else {
        tokio::time::sleep_until(deadline.0.into()).await;
    }
}

/// Waits for `work` for at most `time`.
pub async fn timeout<F: Future>(time: Duration, work: F) -> Result<F::Output, Elapsed> {
    timeout_at(Instant::now() + time, work).await
}

/// Waits for `work`, until a moment at the latest. What is done when the time is up counts as done.
pub async fn timeout_at<F: Future>(deadline: Instant, work: F) -> Result<F::Output, Elapsed> {
    let (work, over) = (pin!(work), pin!(sleep_until(deadline)));
    match first_of(work, over).await {
        Some(done) => Ok(done),
        None => Err(Elapsed),
    }
}

/// The output of `work`, unless `over` is there first.
async fn first_of<F: Future>(mut work: Pin<&mut F>, mut over: Pin<&mut impl Future<Output = ()>>) -> Option<F::Output> {
    std::future::poll_fn(|context| {
        if let Poll::Ready(done) = work.as_mut().poll(context) {
            return Poll::Ready(Some(done));
        }
        over.as_mut().poll(context).map(|()| None)
    })
    .await
}

thread_local! {
    static TIMERS: RefCell<Option<Timers>> = const { RefCell::new(None) };
}

/// Who waits for what, on a thread that simulates.
#[derive(Debug)]
struct Timers {
    begun: Instant,
    now: Instant,
    next: u64,
    // By moment, and of the same moment by the order in which they came.
    waiting: BTreeMap<(Instant, u64), Waker>,
}

fn simulated<T>(look: impl FnOnce(&mut Timers) -> T) -> Option<T> {
    // A thread that is ending simulates no more.
    TIMERS.try_with(|timers| timers.borrow_mut().as_mut().map(look)).ok().flatten()
}

/// Simulated time on this thread, for as long as it lives.
#[derive(Debug)]
pub struct SimulatedTime(());

impl SimulatedTime {
    /// Time stands still on this thread from now on. Entered once more, it begins anew.
    pub fn enter() -> Self {
        let now = Instant(std::time::Instant::now());
        let timers = Timers {
            begun: now,
            now,
            next: 0,
            waiting: BTreeMap::new(),
        };
        TIMERS.with(|slot| *slot.borrow_mut() = Some(timers));
        Self(())
    }

    /// How much simulated time has passed on this thread; nothing outside a simulation.
    pub fn passed() -> Duration {
        simulated(|timers| timers.now.since(timers.begun)).unwrap_or_default()
    }

    /// Goes on to the next moment that somebody waits for, and wakes the first who does. To be called when nobody has anything else to
    /// do. False when nobody waits.
    pub fn advance() -> bool {
        let woken = simulated(|timers| {
            let ((at, _), waker) = timers.waiting.pop_first()?;
            timers.now = timers.now.max(at);
            Some(waker)
        });
        match woken.flatten() {
            // Outside of the borrow: whoever is woken may look at the time at once.
            Some(waker) => {
                waker.wake();
                true
            }
            None => false,
        }
    }
}

impl Drop for SimulatedTime {
    fn drop(&mut self) {
        let timers = TIMERS.try_with(|slot| slot.borrow_mut().take());
        drop(timers);
    }
}

/// Somebody who waits in simulated time.
#[derive(Debug)]
struct Simulated {
    deadline: Instant,
    ticket: Option<u64>,
}

impl Future for Simulated {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline;
        let ticket = self.ticket;
        let registered = simulated(|timers| {
            if timers.now >= deadline {
                if let Some(ticket) = ticket {
                    timers.waiting.remove(&(deadline, ticket));
                }
                return None;
            }
            let ticket = ticket.unwrap_or_else(|| {
                timers.next += 1;
                timers.next
            });
            timers.waiting.insert((deadline, ticket), context.waker().clone());
            Some(ticket)
        });
        match registered {
            Some(Some(ticket)) => {
                self.ticket = Some(ticket);
                Poll::Pending
            }
            Some(None) => {
                self.ticket = None;
                Poll::Ready(())
            }
            // The simulation is over, and with it all that still waits.
            None => Poll::Pending,
        }
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            let deadline = self.deadline;
            drop(simulated(|timers| timers.waiting.remove(&(deadline, ticket))));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Runs futures on this thread alone, and lets time go on whenever none of them can.
    fn simulate<T: Send + 'static>(work: impl Future<Output = T>) -> T {
        let _time = SimulatedTime::enter();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .on_thread_park(|| {
                SimulatedTime::advance();
            })
            .build()
            .unwrap();
        runtime.block_on(work)
    }

    #[test]
    fn simulated_hours_pass_in_order_and_in_no_time() {
        let order = simulate(async {
            let order = Arc::new(Mutex::new(Vec::new()));
            let waiting = [7200, 3600, 5400].map(|seconds| {
                let order = Arc::clone(&order);
                tokio::spawn(async move {
                    sleep(Duration::from_secs(seconds)).await;
                    order.lock().unwrap().push((seconds, SimulatedTime::passed().as_secs()));
                })
            });
            for one in waiting {
                one.await.unwrap();
            }
            order.lock().unwrap().clone()
        });
        assert_eq!(order, [(3600, 3600), (5400, 5400), (7200, 7200)]);
    }

    #[test]
    fn what_is_done_in_time_counts_and_what_is_not_is_given_up() {
        simulate(async {
            let slow = timeout(Duration::from_secs(2), sleep(Duration::from_secs(3)));
            assert_eq!(slow.await, Err(Elapsed));
            assert_eq!(SimulatedTime::passed(), Duration::from_secs(2));
            let quick = timeout(Duration::from_secs(2), async { sleep(Duration::from_secs(2)).await });
            assert_eq!(quick.await, Ok(()));
            assert_eq!(
                SimulatedTime::passed(),
                Duration::from_secs(4),
                "nobody waits for the timer that was given up"
            );
        });
    }

    #[tokio::test]
    async fn outside_a_simulation_time_is_the_machines() {
        let begun = Instant::now();
        sleep(Duration::from_millis(20)).await;
        assert!(begun.elapsed() >= Duration::from_millis(20));
        assert_eq!(timeout(Duration::from_secs(60), async { 7 }).await, Ok(7));
        assert_eq!(timeout(Duration::from_millis(1), std::future::pending::<()>()).await, Err(Elapsed));
        assert_eq!(SimulatedTime::passed(), Duration::ZERO);
    }
}
