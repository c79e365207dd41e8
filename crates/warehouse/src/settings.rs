//! What an operator may write about the warehouse.

use std::time::Duration;

use journal::JournalSettings;
use query::QuerySettings;
use serde::{Deserialize, Serialize};
use zones::ZonesSettings;

/// Settings of the warehouse.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WarehouseSettings {
    /// Where raw logs and tables are kept.
    pub zones: ZonesSettings,
    /// How raw logs are committed.
    pub journal: JournalSettings,
    /// Limits of queries.
    pub query: QuerySettings,
    /// When rows in memory become files.
    pub flush: FlushSettings,
    /// Limits of jobs.
    pub jobs: JobSettings,
    /// How long dropped tables and databases can be brought back.
    pub drops: DropSettings,
    /// What files are tied to.
    #[serde(skip)]
    pub binding: columns::Binding,
}

/// How long dropped tables and databases can be brought back.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DropSettings {
    /// For so long at least; then they go for good, within some hours. Whoever makes it shorter makes it so for what is dropped already.
    #[serde(with = "humantime_serde")]
    pub keep: Duration,
    /// For so long after each start nothing goes for good, so that a clock that is wrong can be set right.
    #[serde(with = "humantime_serde")]
    pub settle: Duration,
}

impl Default for DropSettings {
    fn default() -> Self {
        Self {
            keep: Duration::from_secs(7 * 24 * 3600),
            settle: Duration::from_secs(6 * 3600),
        }
    }
}

/// When rows in memory become files.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FlushSettings {
    /// A table's rows are written to a file once they take this much memory, in bytes.
    pub table_bytes: usize,
    /// ... or once the oldest of them is this old.
    #[serde(with = "humantime_serde")]
    pub after: Duration,
    /// Rows that are in no file yet take no more memory than this, in bytes, over all tables: what would pass it is refused with
    /// "slow down", and a batch that alone would pass it as too large.
    pub memory_limit: usize,
    /// Once a table has this many files of about one size, they are merged into one.
    pub merge_files: usize,
    /// From how many bytes on a file is large enough; merged files have up to twice as many. Days of a table that have so many have
    /// files of their own.
    pub file_bytes: u64,
    /// How much memory merging may take, in bytes, beside `memory_limit`. A third of it has to hold `file_bytes`, else files are smaller.
    pub rewrite_memory: usize,
}

impl Default for FlushSettings {
    fn default() -> Self {
        Self {
            table_bytes: 64 << 20,
            after: Duration::from_secs(60),
            memory_limit: 512 << 20,
            merge_files: 8,
            file_bytes: 128 << 20,
            rewrite_memory: 448 << 20,
        }
    }
}

/// Limits of jobs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JobSettings {
    /// Jobs of one product that run at once; more wait in the queue.
    pub running_per_product: usize,
    /// Jobs of all products that run at once. Each may take `query.memory_limit_bytes`.
    pub running_in_all: usize,
    /// Jobs of one product that wait; more are refused with "slow down".
    pub queued_per_product: usize,
    /// The largest result kept, in bytes after compression. Results are written as they come and take disk, not memory; what one
    /// takes is some 10 to 100 bytes a row. By default as much as one machine writes within the time that a query has
    /// (`query.timeout`): hundreds of millions of rows. Lower it where the disk is small.
    pub result_bytes: u64,
    /// All results of one product together, in bytes: when a new one would pass it, the product's oldest go first.
    pub results_per_product: u64,
    /// All results of all products together, in bytes. A product's new result makes only its own older ones go.
    pub results_in_all: u64,
    /// How long a result is kept.
    #[serde(with = "humantime_serde")]
    pub keep_results: Duration,
}

impl Default for JobSettings {
    fn default() -> Self {
        Self {
            running_per_product: 4,
            running_in_all: 8,
            queued_per_product: 100,
            result_bytes: 16 << 30,
            results_per_product: 32 << 30,
            results_in_all: 128 << 30,
            keep_results: Duration::from_secs(7 * 24 * 3600),
        }
    }
}
