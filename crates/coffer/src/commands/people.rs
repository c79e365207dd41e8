//! `coffer people`: forgetting somebody.

use std::io::Read as _;

use base::Secret;

use crate::cli::{Erase, People};
use crate::client::{Access, Client};
use crate::failure::{During, Exit, Failure, Outcome, output_broke};
use crate::{layout, terminal};

/// An identity has 1,024 bytes at most.
const LONGEST: u64 = 4_096;

/// Does it.
pub(crate) async fn run(args: People) -> Outcome {
    match args {
        People::Erase(args) => erase(args).await,
    }
}

async fn erase(args: Erase) -> Outcome {
    let access = Access::managing(&args.client)?;
    let (field, value, shown) = match (&args.identity, args.id) {
        (Some(identity), _) => ("identity", identity_of(identity)?, "whoever is known by that identity".to_owned()),
        (None, id) => {
            let id = id.unwrap_or_default();
            ("id", Secret::new(id.to_string()), format!("the person with the id {id}"))
        }
    };
    if !args.yes && !terminal::confirmed(format_args!("Erase {shown}, for good and in every copy?")) {
        return Err(Failure::new(Exit::Usage, "nobody was erased")
            .why("it was not confirmed")
            .next("add --yes"));
    }
    let erased = Client::new(access).erase(field, value.reveal()).await.map_err(advised)?;
    let text = serde_json::to_string_pretty(&erased).during("could not write the receipt down")?;
    // First to where it is certain to be seen: without it the erasure can be asked for again by its id only.
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{text}").map_err(|error| output_broke(&error))?;
    if let Some(path) = &args.receipt {
        layout::write_private(path, format!("{text}\n").as_bytes())?;
    }
    terminal::say(format!(
        "the person {} is erased; `coffer prove erased --receipt FILE` checks the receipt",
        erased.id
    ));
    Ok(())
}

fn identity_of(argument: &str) -> Outcome<Secret> {
    if argument != "-" {
        return Ok(Secret::new(argument.to_owned()));
    }
    let mut text = String::new();
    std::io::stdin()
        .take(LONGEST)
        .read_to_string(&mut text)
        .during("could not read the identity from standard input")?;
    Ok(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

fn advised(failure: Failure) -> Failure {
    match failure.exit {
        Exit::NotFound => failure.next("an erasure that was broken off is finished by now; by its id it gives a receipt once more"),
        Exit::NotAllowed => failure.next("erasing needs an admin key made by this version: `coffer keys create --kind admin`"),
        Exit::Temporary => {
            failure.next("ask again until it says who was erased, or that nobody is known by that: only then older copies are unreadable")
        }
        _ => failure,
    }
}
