//! What an operator may set about queries.

use std::num::NonZeroUsize;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Limits of one query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuerySettings {
    /// How much memory one query may hold. There is no spill to disk beyond it.
    pub memory_limit_bytes: usize,
    /// How much memory the footers of files may take that are kept for the next query, over all queries.
    pub footer_bytes: usize,
    /// How long one query may take.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// How many threads one query may use at once.
    pub target_partitions: NonZeroUsize,
    /// How many rows are worked on at a time.
    pub batch_size: NonZeroUsize,
    /// How much memory a result may take where it is held whole: the end of a table, files to be merged. A job's result is
    /// streamed to disk, and has its limit in `jobs.result_bytes`.
    pub max_result_bytes: u64,
    /// How long the text of a statement may be.
    pub max_statement_bytes: usize,
}

impl Default for QuerySettings {
    fn default() -> Self {
        const TWO: NonZeroUsize = NonZeroUsize::new(2).expect("two is not zero");
        const ROWS: NonZeroUsize = NonZeroUsize::new(8192).expect("8192 is not zero");
        Self {
            memory_limit_bytes: 256 << 20,
            footer_bytes: 128 << 20,
            timeout: Duration::from_secs(300),
            target_partitions: TWO,
            batch_size: ROWS,
            max_result_bytes: 4 << 30,
            max_statement_bytes: 1 << 20,
        }
    }
}
