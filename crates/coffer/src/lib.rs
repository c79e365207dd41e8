//! The `coffer` program: command line, settings, supervisor and the wiring of every role.
//!
//! Promise: no secret is ever an argument or in a child's environment; data goes to standard output and everything else to standard error.
//!
//! Start at [`cli`] for what there is, [`supervise`] for `coffer serve` and [`role`] for what one role process does.
//! Only this crate reads files of settings and the environment. It knows every role and nothing of how they work.

mod breach;
mod cli;
mod client;
mod commands;
mod config;
mod demo;
mod environment;
mod failure;
mod handover;
mod layout;
mod logging;
mod memory;
mod msgpack;
mod operator;
mod output;
mod role;
mod supervise;
mod terminal;
mod users;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use failure::Outcome;

/// What the program is made of that no argument, file or variable says. The program itself is the default.
#[derive(Debug, Clone, Copy, Default)]
pub struct Parts {
    /// When the warehouse's journals answer. Anything but the default makes a broken twin, which a test has to find out.
    pub acknowledge: journal::Acknowledge,
    /// Whether roles record before they act, likewise.
    pub order: edge::Order,
    /// What the vault keeps of records, likewise.
    pub keeping: vault::Keeping,
    /// Which table of calls roles go by, likewise.
    pub table: edge::Table,
    /// What the warehouse's files are tied to, and whose signatures hold, likewise.
    pub files: warehouse::Files,
    /// Under what products' identities are looked up, likewise.
    pub lookups: vault::Lookups,
}

/// Runs the command line of this process to its end.
pub fn program(parts: Parts) -> ExitCode {
    // What this program and its roles make is nobody else's business.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    edge::install_crypto();
    let cli = Cli::parse();
    let is_role = matches!(cli.command, Command::Role(_));
    match run(cli.command, parts) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // A role's words belong into its log, once it has one.
            if is_role && tracing::dispatcher::has_been_set() {
                tracing::error!("{}", failure.in_one_line());
            } else if !failure.silent {
                terminal::say(&failure);
            }
            ExitCode::from(failure.exit as u8)
        }
    }
}

fn run(command: Command, parts: Parts) -> Outcome {
    match command {
        Command::Serve(args) => commands::serve::run(&args),
        Command::Role(args) => role::run(args.role, parts),
        Command::UseToken => role::token::run(),
        Command::Demo(args) => demo::run(&args),
        Command::Sql(args) => commands::run(commands::sql::run(args)),
        Command::Import(args) => commands::run(commands::import::run(*args)),
        Command::Tail(args) => commands::run(commands::tail::run(args)),
        Command::Rejected(args) => commands::run(commands::rejected::run(args)),
        Command::Tables(args) => commands::run(commands::tables::run(*args)),
        Command::Products(args) => commands::run(commands::products::run(args)),
        Command::Keys(args) => commands::run(commands::keys::run(args)),
        Command::Doctor(args) => commands::run(commands::doctor::run(args)),
        Command::Metrics(args) => commands::run(commands::metrics::run(args)),
        Command::Rebuild(args) => commands::rebuild::run(&args),
        Command::Audit(args) => commands::run(commands::audit::run(args)),
        Command::Vault(args) => commands::run(commands::vault::run(args)),
        Command::People(args) => commands::run(commands::people::run(args)),
        Command::Prove(args) => commands::prove::run(args),
        Command::Zones(args) => commands::run(commands::zones::run(args)),
        Command::Config(args) => commands::config::run(&args),
        Command::Completions { shell } => commands::completions(shell),
    }
}
