//! The command line of `coffer vault`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::DataArgs;
use crate::output::Format;

#[derive(Debug, Subcommand)]
pub(crate) enum Vault {
    /// Split the root key among people: any THRESHOLD of the SHARES open the vault from its next start on, and no file does any more
    ///
    /// The installation has to run. The shares are shown this once, or written to files for --out. The vault stays unsealed until it is
    /// sealed or started again.
    Init(Splitting),
    /// Say whether the vault is sealed, who holds its root key, and how many shares were shown
    Status {
        #[command(flatten)]
        data: DataArgs,
        /// Form of the answer [default: table on a terminal, otherwise tsv]
        #[arg(short, long, value_enum)]
        output: Option<Format>,
    },
    /// Show a sealed vault one share, from a prompt or from standard input
    ///
    /// It opens with the share that makes them enough. A share that is damaged, changed or of another set is named and not taken.
    Unseal {
        #[command(flatten)]
        data: DataArgs,
    },
    /// Close the vault now: it forgets the root key and all that it opened, and waits for shares
    ///
    /// Within 8 seconds nobody reads; who sends events goes on for 5 minutes at most.
    Seal {
        /// Do it without asking
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Make a new root key and new shares, for whoever shows enough of the present ones; the present ones are worth nothing then
    ///
    /// The present shares are read one by one from prompts, or a line each from standard input.
    Rekey(Splitting),
}

/// How a root key is split, and where the shares go.
#[derive(Debug, Args)]
pub(crate) struct Splitting {
    /// How many shares there are to be, 2 to 32
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=32))]
    pub(crate) shares: u32,
    /// How many of them open the vault, 2 or more
    #[arg(long, value_name = "M", value_parser = clap::value_parser!(u32).range(2..=32))]
    pub(crate) threshold: u32,
    /// Write each share to a file of its own in this directory, mode 0600, instead of showing them
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}
