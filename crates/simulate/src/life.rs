//! One life of a process, from its start to the step at which it is killed.
//!
//! A dead process does nothing more that anybody can see: what it asks reaches nobody, and it hears no answers. Its tasks stay where they
//! are and are dropped with the simulation, as memory is with a process.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;

#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) number: u64,
    alive: AtomicBool,
    steps: AtomicU64,
    // How many steps it has left.
    left: AtomicU64,
    changed: Notify,
    /// Whether anything it wrote was accepted: from then on its successors know that there was one.
    pub(crate) has_written: AtomicBool,
}

impl Life {
    /// It is killed at its step number `until`.
    pub(crate) fn new(number: u64, until: u64) -> Self {
        Self {
            number,
            alive: AtomicBool::new(true),
            steps: AtomicU64::new(0),
            left: AtomicU64::new(until),
            changed: Notify::new(),
            has_written: AtomicBool::new(false),
        }
    }

    /// One thing that a process does to the world outside: the moments at which it can be killed. False once it is dead.
    pub(crate) fn step(&self) -> bool {
        if !self.is_alive() {
            return false;
        }
        self.steps.fetch_add(1, Ordering::Relaxed);
        if self.left.fetch_sub(1, Ordering::Relaxed) <= 1 {
            self.kill();
        }
        self.is_alive()
    }

    pub(crate) fn kill(&self) {
        self.alive.store(false, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    pub(crate) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// Returns when it is dead.
    pub(crate) async fn ended(&self) {
        while self.is_alive() {
            let changed = self.changed.notified();
            if !self.is_alive() {
                return;
            }
            changed.await;
        }
    }
}
