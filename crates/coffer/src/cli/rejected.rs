//! `coffer rejected`.

use clap::{Args, Subcommand};

use super::ClientArgs;
use crate::output::Format;

/// A table and how to reach it.
#[derive(Debug, Args)]
pub(crate) struct TableArgs {
    /// DATABASE.TABLE, or TABLE beside --database
    #[arg(value_name = "TABLE")]
    pub(crate) table: String,
    /// The table's database
    #[arg(short, long, value_name = "NAME", env = "COFFER_DATABASE")]
    pub(crate) database: Option<String>,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// What was sent and could not be rows: count it, show it, try it again
#[derive(Debug, Subcommand)]
#[command(
    after_help = "What cannot be a row (no map, a time that is none, over a limit, broken text) is set aside, sealed, and its \
    import goes on. Its columns but the content can be asked for: SELECT * FROM \"events$rejected\"."
)]
pub(crate) enum Rejected {
    /// Count it by table and reason
    List {
        /// Only DATABASE.TABLE
        #[arg(value_name = "TABLE")]
        table: Option<String>,
        /// Form of the answer [default: table on a terminal, otherwise tsv]
        #[arg(short, long, value_enum)]
        output: Option<Format>,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Show it as it was sent, oldest first; needs an admin key
    Show {
        #[command(flatten)]
        table: TableArgs,
        /// How much of it
        #[arg(short = 'n', long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// Form of the answer [default: table on a terminal, otherwise tsv]
        #[arg(short, long, value_enum)]
        output: Option<Format>,
    },
    /// Try all of it again, for example after a limit was raised; what is taken is stored once. Needs an admin key
    Replay {
        #[command(flatten)]
        table: TableArgs,
        /// Say what would be taken, and store nothing
        #[arg(long)]
        dry_run: bool,
        /// Do it without asking
        #[arg(long)]
        yes: bool,
        /// Print what became of it on standard output in this form
        #[arg(short, long, value_enum)]
        output: Option<Format>,
    },
}
