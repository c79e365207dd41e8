//! The command line of `coffer audit`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    Tail(TailAudit),
    Export(Export),
    Verify(Verify),
}

/// Where records are asked for: the owner of a data directory on its local socket, everybody else with an admin key at the gateway.
#[derive(Debug, Clone, Args)]
pub(crate) struct AuditArgs {
    /// Only what concerns this product, by name or number; with a key it is the key's
    #[arg(long, value_name = "PRODUCT")]
    pub(crate) product: Option<String>,
    /// Address of the gateway, such as https://localhost:8443: asks with an admin key and not as the owner of a data directory
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint: Option<String>,
    /// Certificate of the CA to trust (PEM)
    #[arg(long, value_name = "FILE", env = "COFFER_CA")]
    pub(crate) ca: Option<PathBuf>,
    /// File that holds the admin key; otherwise COFFER_ADMIN_KEY. With one of them and no --data, the gateway of COFFER_ENDPOINT is asked
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// The data directory: its owner sees everything
    #[arg(long, value_name = "DIR", env = "COFFER_DATA")]
    pub(crate) data: Option<PathBuf>,
}

/// Show the last records, one JSON object a line
#[derive(Debug, Args)]
pub(crate) struct TailAudit {
    /// How many
    #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) lines: u32,
    /// Go on with what comes
    #[arg(short, long)]
    pub(crate) follow: bool,
    #[command(flatten)]
    pub(crate) from: AuditArgs,
}

/// Write all records to a file that anybody can check, with the newest head that vault and accounts signed
///
/// Keep the file, or its last line: `coffer audit verify --head` finds out by it when what came before is not there any more as it was.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Where to; it must not be there yet
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// An export or head that was kept: the new one can be compared with it, also where it is of one product
    #[arg(long, value_name = "FILE")]
    pub(crate) head: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) from: AuditArgs,
}

/// Check an export, or the journal of an installation, running or not
///
/// Ends with 8 when something is missing, changed, moved, added, rolled back or forked, and says at which record as far as that can be told. Of an
/// installation it is also checked that each key that was made or revoked has its record. An export that nothing is known of but what it says
/// itself may be anybody's: that ends with 8 as well.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// An export
    #[arg(value_name = "FILE", conflicts_with = "data", required_unless_present = "data")]
    pub(crate) file: Option<PathBuf>,
    /// The data directory of an installation
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// An export or head that was kept: what is there now has to begin with it
    #[arg(long, value_name = "FILE")]
    pub(crate) head: Vec<PathBuf>,
    /// The installation's key, as its file `installation.pub` has it: else an export has to come with a head that was kept
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    pub(crate) installation_key: Option<PathBuf>,
}
