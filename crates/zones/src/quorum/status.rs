//! How a zone is doing, for an operator's eyes.

use std::time::Duration;

use base::Timestamp;

use super::Circuit;

/// What a zone can be trusted with now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It works.
    Up,
    /// It is new in a lost one's place and does not count yet.
    Filling,
    /// It fails.
    Down,
    /// It does not answer.
    Hanging,
}

/// How a zone is doing, as far as is known without asking it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneState {
    /// Its name.
    pub name: String,
    /// Whether it works, as far as is known.
    pub up: bool,
    /// The same in more shades.
    pub condition: Condition,
    /// What is the matter, in words for an operator; empty when nothing is.
    pub detail: String,
    /// When it went down or came back.
    pub since: Timestamp,
    /// Whether it is written to.
    pub circuit: Circuit,
    /// How long until it is tried again, where it is not.
    pub next_try: Option<Duration>,
    /// How many objects are known to wait to be copied to it.
    pub waiting: usize,
    /// How many bytes they have together, as far as their lengths are known.
    pub waiting_bytes: u64,
    /// Since when the oldest of them waits.
    pub waiting_since: Option<Timestamp>,
    /// Whether its listing has yet to be compared with the others', after a start or an absence.
    pub compare: bool,
    /// How many objects were found missing since the start, that were not known to wait.
    pub missing: u64,
    /// How many copies were found wrong since the start.
    pub corrupt: u64,
    /// How many copies were replaced since the start.
    pub repaired: u64,
    /// What 95 of its last 100 reads did not exceed, once there were some.
    pub read_p95: Option<Duration>,
}

impl Condition {
    /// One word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Filling => "filling",
            Self::Down => "down",
            Self::Hanging => "hanging",
        }
    }
}

impl Circuit {
    /// One word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}
