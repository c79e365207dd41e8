//! `coffer rebuild` on the command line.

use clap::Args;

use super::{DataArgs, Settings};
use crate::output::Format;

/// Make every view, catalog and table anew from the journals in the zones
///
/// The installation must be stopped; its root key must be there. Interrupted, the same command goes on. Jobs and their results are in no
/// zone and do not come back.
#[derive(Debug, Args)]
pub(crate) struct Rebuild {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// Read all tables back and compare them with what the raw logs say, and with what they held before where that can be read
    #[arg(long)]
    pub(crate) verify: bool,
    /// Change nothing: only compare the tables that are there with what the raw logs say
    #[arg(long)]
    pub(crate) compare_only: bool,
    /// Zones that are lost for good: where a role lacks them, they begin empty and are filled from those that are left (directories only)
    #[arg(long, value_name = "ZONE", value_delimiter = ',', value_parser = zone)]
    pub(crate) lost: Vec<String>,
    /// Show each day of a table as well
    #[arg(long)]
    pub(crate) days: bool,
    /// Form of the answer [default: table on a terminal, otherwise tsv]
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Format>,
}

fn zone(text: &str) -> Result<String, String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    match !text.is_empty() && text.bytes().all(allowed) {
        true => Ok(text.to_owned()),
        false => Err("a zone's name has letters, digits, - and _".into()),
    }
}
