//! The command line of `coffer zones`.

use base::Role;
use clap::{Args, Subcommand};

use super::{DataArgs, Drill};
use crate::output::Format;

#[derive(Debug, Subcommand)]
pub(crate) enum Zones {
    Status(ZonesStatus),
    Scrub(Scrub),
    Drill(Box<Drill>),
}

/// Show how each zone of each role is: what waits for it, what was missing or corrupt, and what the last scrub found
///
/// It asks the roles, not the zones: nothing is read for it. What was found is counted from the start of a role on; what the last scrub
/// found is remembered over restarts.
#[derive(Debug, Args)]
pub(crate) struct ZonesStatus {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Form of the answer [default: table on a terminal, otherwise tsv]
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Format>,
}

/// Compare what the zones of a role hold, read copies, and put right what is missing or wrong
///
/// Every name is compared. Without --full one object of 28 is read in all its copies, each time others; the roles do the same by themselves
/// once a day. Exit code 8: no zone has a good copy of something; 7: a zone did not answer, or something could not be put right now.
#[derive(Debug, Args)]
pub(crate) struct Scrub {
    /// Read every copy of everything
    #[arg(long)]
    pub(crate) full: bool,
    /// Only the zones of this role: vault, accounts, identity or warehouse [default: all of them, one after another]
    #[arg(long, value_name = "ROLE", value_parser = role_with_zones)]
    pub(crate) role: Option<Role>,
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Form of the answer [default: table on a terminal, otherwise tsv]
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Format>,
}

impl Zones {
    /// The roles that keep something in zones.
    pub(crate) fn roles() -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(|role| *role != Role::Gateway)
    }
}

fn role_with_zones(text: &str) -> Result<Role, String> {
    let role = super::role(text)?;
    if Zones::roles().any(|with| with == role) {
        Ok(role)
    } else {
        Err(format!("the {role} role has no zones"))
    }
}
