//! The command line of `coffer tables dropped`, `coffer tables undrop` and `coffer tables set`.

use clap::Args;

use super::ClientArgs;
use crate::output::Format;

/// List dropped tables and databases that can be brought back
///
/// Each for seven days after it was dropped, unless the operator has set something else. Needs an admin key.
#[derive(Debug, Args)]
pub(crate) struct Dropped {
    /// Only of this database
    #[arg(value_name = "DATABASE")]
    pub(crate) database: Option<String>,
    /// Form of the answer [default: table on a terminal, otherwise tsv]
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Format>,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// Bring a dropped table back, or a dropped database with its tables
///
/// With all its rows, what was set aside of it, its types and the ids of its imports. Of several that had the name it is the last dropped.
/// Needs an admin key.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["table", "database"]))]
pub(crate) struct Undrop {
    /// DATABASE.TABLE, or TABLE beside --database
    #[arg(value_name = "TABLE")]
    pub(crate) table: Option<String>,
    /// The table's database; without a table, the whole database as it was dropped
    #[arg(short, long, value_name = "NAME")]
    pub(crate) database: Option<String>,
    /// Another name for it
    #[arg(long = "as", value_name = "NAME")]
    pub(crate) to: Option<String>,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// Say how long a table's rows are kept, or show it
///
/// Rows older than --keep, by their time, are in no answer from then on, and are deleted soon after. What of the raw log came longer ago than
/// --keep-raw is deleted once its rows are in files; types that need those rows read again cannot be declared from then on, and they cannot
/// be made again from the raw log should the catalog be lost. Needs an admin key.
#[derive(Debug, Args)]
pub(crate) struct Keep {
    /// DATABASE.TABLE, or TABLE beside --database
    #[arg(value_name = "TABLE")]
    pub(crate) table: String,
    /// The table's database
    #[arg(short, long, value_name = "NAME", env = "COFFER_DATABASE")]
    pub(crate) database: Option<String>,
    /// Rows, from their time on: days, such as 90d, or forever
    #[arg(long, value_name = "DAYS", value_parser = days)]
    pub(crate) keep: Option<u32>,
    /// The raw log, from when it came: days, such as 30d, or forever
    #[arg(long, value_name = "DAYS", value_parser = days)]
    pub(crate) keep_raw: Option<u32>,
    /// Form of the answer [default: table on a terminal, otherwise tsv]
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Format>,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// Zero stands for ever.
fn days(text: &str) -> Result<u32, String> {
    if text == "forever" {
        return Ok(0);
    }
    let days = text.strip_suffix('d').and_then(|days| days.parse().ok());
    days.filter(|days| (1..=36_500).contains(days))
        .ok_or_else(|| "write days, such as 90d, or forever".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_is_days_or_forever() {
        assert_eq!((days("90d"), days("forever")), (Ok(90), Ok(0)));
        for wrong in ["0d", "90", "-1d", "d", "99999d", "never"] {
            assert!(days(wrong).is_err(), "{wrong}");
        }
    }
}
