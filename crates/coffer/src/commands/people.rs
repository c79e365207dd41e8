//! `coffer people`: who somebody is, all that is known of them, and forgetting them.

mod export;

use std::io::Read as _;

use base::Secret;
use serde_json::json;

use crate::cli::{Erase, People, ShowPerson, Whom};
use crate::client::{Access, Client};
use crate::failure::{During, Exit, Failure, Outcome, output_broke};
use crate::output::{self, Format};
use crate::{layout, terminal};

/// An identity has 1,024 bytes at most.
const LONGEST: u64 = 4_096;

/// Does it.
pub(crate) async fn run(args: People) -> Outcome {
    match args {
        People::Show(args) => show(args).await,
        People::Export(args) => export::run(args).await,
        People::Erase(args) => erase(args).await,
    }
}

/// By which field of a request somebody is named, and its value.
fn named(whom: &Whom) -> Outcome<(&'static str, Secret)> {
    Ok(match (&whom.identity, whom.id) {
        (Some(identity), _) => ("identity", identity_of(identity)?),
        (None, id) => ("id", Secret::new(id.unwrap_or_default().to_string())),
    })
}

async fn show(args: ShowPerson) -> Outcome {
    let access = Access::revealing(&args.client)?;
    let (field, value) = named(&args.whom)?;
    let person = Client::new(access)
        .show(field, value.reveal(), &args.reason)
        .await
        .map_err(told_why)?;
    let mut rows = output::to_stdout(Format::chosen(args.output), true, &["id", "identity", "column"]);
    for known in person.identities {
        rows.row(vec![json!(person.id), json!(known.identity), json!(known.column)])?;
    }
    rows.finish().map(drop)
}

fn told_why(failure: Failure) -> Failure {
    match failure.exit {
        Exit::NotAllowed => failure.next("being told who people are needs a live key made for it: `coffer keys create --kind reveal`"),
        _ => failure,
    }
}

async fn erase(args: Erase) -> Outcome {
    let access = Access::managing(&args.client)?;
    let (field, value) = named(&args.whom)?;
    let shown = match args.whom.id {
        Some(id) => format!("the person with the id {id}"),
        None => "whoever is known by that identity".to_owned(),
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
