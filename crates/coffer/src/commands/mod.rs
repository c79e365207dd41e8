//! One file per command.

pub(crate) mod audit;
pub(crate) mod config;
pub(crate) mod doctor;
mod drill;
pub(crate) mod dropped;
pub(crate) mod import;
mod isolation;
pub(crate) mod keys;
pub(crate) mod metrics;
pub(crate) mod people;
pub(crate) mod products;
pub(crate) mod prove;
mod proving;
pub(crate) mod rebuild;
pub(crate) mod rejected;
pub(crate) mod schema;
pub(crate) mod serve;
pub(crate) mod sql;
pub(crate) mod tables;
pub(crate) mod tail;
pub(crate) mod vault;
pub(crate) mod zones;

use std::io;

use clap::CommandFactory;
use tokio::runtime::Builder;

use crate::cli::Cli;
use crate::failure::{During, Outcome};

/// Runs a command that speaks to others.
pub(crate) fn run<T>(command: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    // Keys pass through this process.
    edge::harden_process();
    Builder::new_current_thread()
        .enable_all()
        .build()
        .during("could not start")?
        .block_on(command)
}

/// A completion script on standard output.
pub(crate) fn completions(shell: clap_complete::Shell) -> Outcome {
    clap_complete::generate(shell, &mut Cli::command(), "coffer", &mut io::stdout());
    Ok(())
}
