//! `coffer config`: is it right, and what is in force.

use crate::cli::ConfigCommand;
use crate::config::Config;
use crate::failure::{During, Outcome};
use crate::terminal;

/// Checks or shows.
pub(crate) fn run(args: &ConfigCommand) -> Outcome {
    match args {
        ConfigCommand::Check(settings) => {
            Config::load(settings)?;
            terminal::say("the configuration is good");
            Ok(())
        }
        ConfigCommand::Show(settings) => {
            let config = Config::load(settings)?;
            terminal::print(
                toml::to_string(&config.shape)
                    .during("could not write the configuration")?
                    .trim_end(),
            )
        }
    }
}
