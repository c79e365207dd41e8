//! The command line of `coffer people` and of `coffer prove`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{ClientArgs, DataArgs, Settings};
use crate::output::Format;

/// The people whom a product's events are about
#[derive(Debug, Subcommand)]
pub(crate) enum People {
    Show(ShowPerson),
    Export(ExportPerson),
    Erase(Erase),
}

/// Who is meant.
#[derive(Debug, Args)]
#[group(id = "whom", required = true, multiple = false)]
pub(crate) struct Whom {
    /// What the person is known by, such as an e-mail address; `-` reads it from standard input
    #[arg(value_name = "IDENTITY")]
    pub(crate) identity: Option<String>,
    /// The id that stands in the product's tables instead
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<i64>,
}

/// Find a person, or say who the one with an id is
///
/// Prints all identities of the person. Needs a key of kind `reveal`, which no other key contains, and a reason: which key asked about whom, why and
/// when is in the audit journal before anything is said. One key is told of 100 people an hour at most.
#[derive(Debug, Args)]
pub(crate) struct ShowPerson {
    #[command(flatten)]
    pub(crate) whom: Whom,
    /// The case that it is for, such as ticket-4711; recorded as it is, so it names nobody
    #[arg(long, value_name = "CASE")]
    pub(crate) reason: String,
    /// Form of the answer [default: table on a terminal, otherwise tsv]
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Format>,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// Hand out all that is known of a person
///
/// One JSON object a line: who they are; then each row of each table in which they stand in a column of identities, as it is stored, with what is
/// theirs in personal columns opened; at the end how many rows there were. What is another's in such a row stays sealed. Needs what `show` needs,
/// and is recorded as that is.
#[derive(Debug, Args)]
pub(crate) struct ExportPerson {
    #[command(flatten)]
    pub(crate) whom: Whom,
    /// The case that it is for, such as ticket-4711; recorded as it is, so it names nobody
    #[arg(long, value_name = "CASE")]
    pub(crate) reason: String,
    /// Where to write it, readable by you alone [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// Forget a person for good, in every copy there is
///
/// With all their identities. From then on nobody can tell whose their events were, and what stands in personal columns of theirs opens with
/// nothing: in tables, raw logs, results and every older copy of the identity role's zones and database. Their rows stay, as nobody's. Should
/// the same identity come again it is of somebody new. The receipt on standard output is signed; `coffer prove erased` checks it. Needs an
/// admin key made by this version or a later one.
#[derive(Debug, Args)]
pub(crate) struct Erase {
    #[command(flatten)]
    pub(crate) whom: Whom,
    /// Where to write the receipt, beside standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) receipt: Option<PathBuf>,
    /// Do it without asking
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// Check that something holds, and end with 8 when it does not
#[derive(Debug, Subcommand)]
pub(crate) enum Prove {
    Erased(Erased),
    Isolation(Isolation),
    Tenancy(Tenancy),
    Unlinkable(Unlinkable),
}

/// Check that every file of every product is that product's alone
///
/// Each file is opened with the product's key, and has to be refused with every other product's key, with none, and when it was moved, renamed,
/// cut, changed by a bit, or forged: sealed as it should be and not signed by a role. The warehouse's and the identity role's own processes do that,
/// each in its sandbox, with keys that the vault seals to them. An installation that runs goes on meanwhile; one that does not is not started.
#[derive(Debug, Args)]
pub(crate) struct Tenancy {
    /// Try so many files of each kind of each product, not all; how many were left out is said
    #[arg(long, value_name = "FILES", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) sample: Option<u64>,
    /// A file with a product key that reads, of a product in its customer's custody; can be given several times
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Vec<PathBuf>,
    /// A file with a share of the root key, where that is with people; as many as are needed
    #[arg(long, value_name = "FILE")]
    pub(crate) share_file: Vec<PathBuf>,
    /// Form of the answer [default: table on a terminal, otherwise tsv]
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Format>,
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

/// Check that two products have nothing in common by which somebody in both could be told
///
/// Compared are ids, rows as they are stored, what identities are looked up by, people's keys and the products' own. The identity role's own process does
/// that, in its sandbox, with keys that the vault seals to it; no identity and no id leaves it.
#[derive(Debug, Args)]
pub(crate) struct Unlinkable {
    /// The two, by their numbers or, while the installation runs, by their names
    #[arg(long, value_name = "A,B", value_delimiter = ',', required = true, num_args = 1..=2)]
    pub(crate) products: Vec<String>,
    /// A file with a share of the root key, where that is with people; as many as are needed
    #[arg(long, value_name = "FILE")]
    pub(crate) share_file: Vec<PathBuf>,
    /// Form of the answer [default: table on a terminal, otherwise tsv]
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Format>,
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

/// Break out of every role, as far as that goes
///
/// For each role a further process with exactly what the role has (user, sandbox, certificate, files, descriptors) attacks the others, the
/// machine and the kernel. What it got is printed as a table, which has to be the one in docs/threat-model.md: more is a hole, less is an
/// error in that document. An installation that runs goes on meanwhile, one that does not is started for it, without its public address. Nothing is harmed.
#[derive(Debug, Args)]
pub(crate) struct Isolation {
    /// Print every attack and what became of it, instead of the table
    #[arg(long)]
    pub(crate) attacks: bool,
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

/// Check a receipt of an erasure against an installation, running or not
///
/// The signature is the identity role's; its database has no row of the person, and the keyring it has is of the receipt's time or later; the
/// vault's database and each of its zones by itself hold no key of the keyrings before. Nothing is opened and no key is needed.
#[derive(Debug, Args)]
pub(crate) struct Erased {
    /// The receipt
    #[arg(long, value_name = "FILE")]
    pub(crate) receipt: PathBuf,
    /// Configuration file (TOML), where the vault's zones are not below the data directory
    #[arg(long, value_name = "FILE", env = "COFFER_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}
