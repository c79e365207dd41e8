//! What an operator may say about journals.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// When entries are written together, and how many may wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JournalSettings {
    /// The least time from one commit to the next; after a longer pause an entry is committed at once.
    #[serde(with = "humantime_serde")]
    pub commit_after: Duration,
    /// So many waiting bytes are committed without waiting longer.
    pub commit_at: usize,
    /// More waiting bytes than this are refused.
    pub max_waiting: usize,
    /// When an append is answered. Not a setting: no file, environment or handover can say anything but the default.
    #[serde(skip)]
    pub acknowledge: Acknowledge,
}

/// When an append is answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Acknowledge {
    /// Once a majority of zones has it.
    #[default]
    WhenDurable,
    /// Before anything is written: a broken twin, for showing that a test finds out. Made by no code of the product.
    TooEarly,
}

impl Default for JournalSettings {
    fn default() -> Self {
        Self {
            commit_after: Duration::from_millis(50),
            commit_at: 4 << 20,
            max_waiting: 64 << 20,
            acknowledge: Acknowledge::WhenDurable,
        }
    }
}
