//! The command line: every command, option and environment variable.

mod audit;
mod drill;
mod dropped;
mod import;
mod people;
mod rebuild;
mod rejected;
mod schema;
mod vault;
mod zones;

use std::path::PathBuf;

use base::{KeyKind, Role};
use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use self::audit::{Audit, AuditArgs, Export, TailAudit, Verify};
use crate::output::Format;
pub(crate) use drill::Drill;
pub(crate) use dropped::{Dropped, Keep, Undrop};
pub(crate) use import::{Import, Tail, table_name};
pub(crate) use people::{Erase, Erased, ExportPerson, Isolation, People, Prove, ShowPerson, Tenancy, Unlinkable, Whom};
pub(crate) use rebuild::Rebuild;
pub(crate) use rejected::{Rejected, TableArgs};
pub(crate) use schema::{Schema, TablesCommand};
pub(crate) use vault::{Splitting, Vault};
pub(crate) use zones::{Scrub, Zones, ZonesStatus};

/// A self-hosted, encrypted warehouse for event data.
#[derive(Debug, Parser)]
#[command(name = "coffer", version, max_term_width = 110, propagate_version = true)]
#[command(
    after_help = "Exit codes: 0 ok, 1 failed, 2 usage, 3 not allowed, 4 not found, 5 conflict, 6 input refused, \
    7 temporary (retry is safe), 8 a verification failed"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a whole installation on this machine
    Serve(Serve),
    /// Run one role; its settings come as one line of JSON on standard input, its listeners by LISTEN_FDS
    Role(RoleArgs),
    /// Use a hardware token once: JSON on standard input, JSON on standard output; the vault runs it
    #[command(hide = true)]
    UseToken,
    /// Run an installation with a product, keys and 100,000 sample events
    Demo(Demo),
    /// Ask a question in SQL
    Sql(Sql),
    Import(Box<Import>),
    Tail(Tail),
    #[command(subcommand)]
    Rejected(Rejected),
    /// List tables with their rows, size and columns
    Tables(Box<Tables>),
    /// Products of this installation
    #[command(subcommand)]
    Products(Products),
    /// Keys of products
    #[command(subcommand)]
    Keys(Keys),
    /// The root key: who holds it, and whether the vault is open
    #[command(subcommand)]
    Vault(Vault),
    #[command(subcommand)]
    People(People),
    /// The zones in which everything is kept
    #[command(subcommand)]
    Zones(Zones),
    /// The journal of everything that was done
    #[command(subcommand)]
    Audit(Audit),
    Rebuild(Rebuild),
    #[command(subcommand)]
    Prove(Prove),
    /// Say what runs, what is enforced and what is wrong
    Doctor(Doctor),
    /// Print what the roles count, as text that Prometheus reads
    Metrics(Metrics),
    /// The configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Where an installation keeps everything.
#[derive(Debug, Clone, Args)]
pub(crate) struct DataArgs {
    /// The data directory
    #[arg(long, value_name = "DIR", env = "COFFER_DATA", default_value = "coffer-data")]
    pub(crate) data: PathBuf,
}

/// What is enforced around each role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SandboxMode {
    /// Whatever this kernel can enforce; the rest is said at every start
    On,
    /// Nothing
    Off,
    /// All of it, or the role does not start
    Required,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    /// From now on
    On,
    /// From now on not
    Off,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Settings {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE", env = "COFFER_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// The kernel sandbox around each role
    #[arg(long, value_name = "MODE")]
    pub(crate) sandbox: Option<SandboxMode>,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

#[derive(Debug, Args)]
pub(crate) struct RoleArgs {
    /// vault, accounts, identity, warehouse or gateway
    #[arg(value_name = "NAME", value_parser = role)]
    pub(crate) role: Role,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// Port of the gateway on localhost; 0 takes any free one
    #[arg(long, value_name = "N")]
    pub(crate) port: Option<u16>,
    /// Stop after printing
    #[arg(long)]
    pub(crate) exit: bool,
}

/// How to reach an installation as a client. Secrets never stand on the command line.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClientArgs {
    /// Address of the gateway, such as https://localhost:8443
    #[arg(long, value_name = "URL", env = "COFFER_ENDPOINT")]
    pub(crate) endpoint: Option<String>,
    /// Certificate of the CA to trust (PEM)
    #[arg(long, value_name = "FILE", env = "COFFER_CA")]
    pub(crate) ca: Option<PathBuf>,
    /// File that holds the product key; otherwise COFFER_READ_KEY (to ask), COFFER_WRITE_KEY (to send), COFFER_REVEAL_KEY (of people) or
    /// COFFER_ADMIN_KEY
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Take all of it from this data directory: demo.env, or with --key-file everything but the key
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Sql {
    /// The query; `-` reads it from standard input, as does leaving it out
    #[arg(value_name = "QUERY", conflicts_with = "file", allow_hyphen_values = true)]
    pub(crate) query: Option<String>,
    /// Read the query from a file
    #[arg(short = 'f', long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Database in which names without one are looked up
    #[arg(short, long, value_name = "NAME", env = "COFFER_DATABASE")]
    pub(crate) database: Option<String>,
    /// Form of the answer [default: table on a terminal, otherwise tsv]
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Format>,
    /// Leave out the line of column names (csv, tsv)
    #[arg(long)]
    pub(crate) no_header: bool,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Tables {
    #[command(subcommand)]
    pub(crate) command: Option<TablesCommand>,
    /// Only this database
    #[arg(value_name = "DATABASE")]
    pub(crate) database: Option<String>,
    /// Form of the answer [default: table on a terminal, otherwise tsv]
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Format>,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Products {
    /// Make a product
    Create {
        /// 2 to 64 characters of a-z, 0-9, _ and -
        name: String,
        /// Columns that hold an identity and are translated before anything is stored [default: identity, user_id, email]
        #[arg(long, value_name = "NAME", value_delimiter = ',')]
        identity_columns: Vec<String>,
        /// Columns that are sealed for the person whose row it is before anything is stored: NAME in every table, or DATABASE.TABLE:NAME
        #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
        personal_columns: Vec<String>,
        /// The identities of one row are of one person: see `products set`
        #[arg(long)]
        link_identities: bool,
        /// Who keeps the key that opens the product: managed (the vault too) or customer (nobody but the holders of its product keys; the
        /// first one, an admin key, is shown this once). In customer custody merging of files waits until somebody asks something, and tables
        /// cannot be rebuilt by the operator
        #[arg(long, value_name = "CUSTODY", default_value = "managed", value_parser = ["managed", "customer"])]
        custody: String,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Let the vault keep a copy of the key of a product in customer custody, for whoever shows a product key that reads
    Custody {
        /// Name or number of the product
        #[arg(value_name = "PRODUCT")]
        product: String,
        /// managed
        #[arg(long, value_name = "CUSTODY", value_parser = ["managed", "customer"])]
        to: String,
        /// File that holds a product key of the product that reads
        #[arg(long, value_name = "FILE")]
        key_file: PathBuf,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Change what a product says about its columns; what is left out stays as it is
    #[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["identity_columns", "personal_columns", "link_identities"]))]
    Set {
        /// Name or number of the product
        #[arg(value_name = "PRODUCT")]
        product: String,
        /// All columns that hold an identity from now on; "" for the usual ones: identity, user_id, email
        #[arg(long, value_name = "NAME", value_delimiter = ',')]
        identity_columns: Option<Vec<String>>,
        /// All columns that are sealed from now on: NAME in every table, or DATABASE.TABLE:NAME; "" for none
        #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
        personal_columns: Option<Vec<String>>,
        /// Whether the identities of one row are of one person: a new one then gets the id of whoever of the row is known. Columns named
        /// first in --identity-columns say most: one person has one new identity of such a column at most, and never two that were known
        #[arg(long, value_name = "on|off")]
        link_identities: Option<Switch>,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Show one product
    Show {
        /// Name or number of the product
        #[arg(value_name = "PRODUCT")]
        product: String,
        /// Form of the answer [default: table on a terminal, otherwise tsv]
        #[arg(short, long, value_enum)]
        output: Option<Format>,
        #[command(flatten)]
        data: DataArgs,
    },
    /// List products
    List {
        /// Form of the answer [default: table on a terminal, otherwise tsv]
        #[arg(short, long, value_enum)]
        output: Option<Format>,
        #[command(flatten)]
        data: DataArgs,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Make a key; it is shown this once
    Create {
        /// Name or number of the product
        #[arg(long, value_name = "PRODUCT")]
        product: String,
        /// write, read, admin, or reveal: reads, and is told who people are
        #[arg(long, value_name = "KIND", value_parser = kind)]
        kind: KeyKind,
        /// File that holds a product key that reads: needed in customer custody for another one that reads
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
        #[command(flatten)]
        data: DataArgs,
    },
    /// List a product's keys (never the keys themselves)
    List {
        /// Name or number of the product
        #[arg(long, value_name = "PRODUCT")]
        product: String,
        /// Form of the answer [default: table on a terminal, otherwise tsv]
        #[arg(short, long, value_enum)]
        output: Option<Format>,
        #[command(flatten)]
        data: DataArgs,
    },
    /// End a key now, with everything that goes on under it
    Revoke {
        /// The key's id, as `coffer keys list` shows it
        #[arg(value_name = "ID")]
        id: base::CredentialId,
        /// Do it without asking
        #[arg(long)]
        yes: bool,
        /// Also if it is the last key that reads a product in customer custody, of which nothing can ever be read again then
        #[arg(long)]
        lose_everything: bool,
        #[command(flatten)]
        data: DataArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Form of the answer [default: table on a terminal, otherwise tsv]
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Format>,
}

#[derive(Debug, Args)]
pub(crate) struct Metrics {
    /// vault, accounts, identity, warehouse or gateway [default: all, each sample with a label `role`]
    #[arg(value_name = "ROLE", value_parser = role)]
    pub(crate) role: Option<Role>,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say everything that is wrong with the configuration, at once
    Check(Settings),
    /// Print the configuration in force: file, environment and flags together
    Show(Settings),
}

fn role(text: &str) -> Result<Role, String> {
    text.parse()
        .map_err(|_| format!("no such role; there are {}", Role::ALL.map(Role::as_str).join(", ")))
}

fn kind(text: &str) -> Result<KeyKind, String> {
    text.parse()
        .map_err(|_| format!("no such kind; there are {}", KeyKind::ALL.map(KeyKind::as_str).join(", ")))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_option_takes_a_secret_as_its_value() {
        fn walk(command: &clap::Command) {
            for arg in command.get_arguments() {
                let name = arg.get_long().unwrap_or_default();
                let secret = ["key", "secret", "password", "token"].contains(&name);
                assert!(!secret, "{} --{name}", command.get_name());
            }
            command.get_subcommands().for_each(walk);
        }
        walk(&Cli::command());
    }

    #[test]
    fn wrong_usage_ends_with_two() {
        for line in [
            "coffer",
            "coffer sell",
            "coffer sql -o xml q",
            "coffer role cook",
            "coffer sql -f a b",
            "coffer keys create --kind write",
            "coffer products set shop",
            "coffer import --table web.events",
            "coffer import x.csv",
            "coffer import x.csv --table web.events --types a=number",
            "coffer import x.csv --table web.events --chunk-rows 0",
            "coffer metrics cook",
            "coffer zones",
            "coffer zones scrub --role cook",
            "coffer zones scrub --role gateway",
            "coffer audit",
            "coffer audit tail -n 0",
            "coffer audit export",
            "coffer audit verify FILE --data DIR",
            "coffer people show ada",
            "coffer people show --reason ticket-1",
            "coffer people show ada --id 7 --reason ticket-1",
            "coffer people export --id 7",
            "coffer people erase",
            "coffer people erase ada --id 7",
            "coffer people erase --id x",
            "coffer prove",
            "coffer prove erased",
            "coffer rebuild --lost",
            "coffer rebuild --lost a/b",
            "coffer zones drill",
            "coffer zones drill --kill b --for 0s",
            "coffer zones drill --kill b --for 11m",
            "coffer zones drill --kill b --rate 0",
            "coffer zones drill --kill b --how vanish",
            "coffer zones drill --kill b --role cook",
            "coffer vault",
            "coffer vault init",
            "coffer vault init --shares 3",
            "coffer vault init --shares 1 --threshold 1",
            "coffer vault init --shares 33 --threshold 2",
            "coffer vault unseal coffer-share-1-00",
            "coffer tail",
            "coffer tail web.events -n 1001",
            "coffer rejected",
            "coffer rejected show",
            "coffer rejected show web.events -n 0",
            "coffer rejected replay",
            "coffer rejected list a b",
            "coffer tables undrop",
            "coffer tables set web.events --keep 30",
            "coffer tables set web.events --keep 0d",
            "coffer tables undrop --as x",
            "coffer tables schema",
            "coffer tables schema web.events --set a",
            "coffer tables schema web.events --set a:number",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).map(|_| ()).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
