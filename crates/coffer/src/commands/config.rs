//! `coffer config`: is it right, and what is in force.

use crate::cli::ConfigCommand;
use crate::config::Config;
use crate::failure::{During, Exit, Failure, Outcome};
use crate::terminal;

/// Checks or shows.
pub(crate) fn run(args: &ConfigCommand) -> Outcome {
    match args {
        ConfigCommand::Check(settings) => {
            let config = Config::load(settings)?;
            files(&config)?;
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

/// What a start would only warn of: one zone of several may be missing, and here somebody asks.
fn files(config: &Config) -> Outcome {
    let mut problems = Vec::new();
    for (role, settings) in config.shape.zones() {
        let wrong = settings.zones.iter().filter_map(|zone| zone.check_files().err());
        problems.extend(wrong.map(|error| format!("{role}.zones: {error}")));
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Exit::Refused, "files that the configuration names cannot be used")
        .why(problems.join("\n"))
        .next("a role that starts without them has a zone less"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn files_of_zones_in_stores_are_looked_at() {
        let text = "[warehouse.zones]\nzones = [{name='a', url='https://a.example/events', credentials='/nowhere/a'}]\n";
        let config = Config::from_parts(Some((Path::new("c"), text)), &[], None).unwrap();
        let said = files(&config).unwrap_err().to_string();
        assert!(
            said.contains("warehouse.zones: zone a: the file of its credentials is missing"),
            "{said}"
        );
        assert!(files(&Config::from_parts(None, &[], None).unwrap()).is_ok());
    }
}
