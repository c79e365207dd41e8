//! `coffer zones drill`.

use std::time::Duration;

use base::Role;
use clap::{Args, ValueEnum};

use super::{DataArgs, role};
use crate::output::Format;

/// Take zones away or kill roles under a load of its own, and count every acknowledged row afterwards
#[derive(Debug, Args)]
#[command(
    after_help = "It ends with 0 when no acknowledged row is lost and none is stored twice, else with 8. At its end it kills the role once \
    more, so that rows are counted by a process that acknowledged none of them."
)]
pub(crate) struct Drill {
    /// A zone to take away, or a role to kill; can be given several times
    #[arg(long, value_name = "NAME", required = true)]
    pub(crate) kill: Vec<String>,
    /// How long zones are away: from 1s to 10m
    #[arg(long = "for", value_name = "TIME", default_value = "30s", value_parser = length)]
    pub(crate) length: Duration,
    /// What a zone does that is away
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Absence::Refuse)]
    pub(crate) how: Absence,
    /// Whose zones: vault, accounts, identity or warehouse
    #[arg(long, value_name = "ROLE", value_parser = role, default_value = "warehouse")]
    pub(crate) role: Role,
    /// Rows sent in a second, over all senders
    #[arg(long, value_name = "ROWS", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(10..=50_000))]
    pub(crate) rate: u32,
    /// How many send at the same time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=32))]
    pub(crate) senders: u16,
    /// Form of the answer [default: table on a terminal, otherwise tsv]
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Format>,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

/// What a zone does that is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Absence {
    /// It says no to everything
    Refuse,
    /// It answers nothing until it is back
    Hang,
}

impl Absence {
    /// The word for it on the wire.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Hang => "hang",
        }
    }
}

fn length(text: &str) -> Result<Duration, String> {
    let length = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if (Duration::from_secs(1)..=Duration::from_secs(600)).contains(&length) {
        Ok(length)
    } else {
        Err("give a time from 1s to 10m".to_owned())
    }
}
