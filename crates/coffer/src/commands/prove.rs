//! `coffer prove`: what can be checked from outside, by whoever owns the data directory.

use std::fs;
use std::path::PathBuf;

use base::Role;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use identity::Receipt;

use crate::cli::{Erased, Prove, SandboxMode, Settings};
use crate::client::people;
use crate::config::Config;
use crate::failure::{During, Exit, Failure, Outcome};
use crate::layout::{self, Layout, ZONES};
use crate::terminal;

/// A receipt is small; so is the installation's key.
const LARGEST: u64 = 64 << 20;

/// Checks it.
pub(crate) fn run(args: Prove) -> Outcome {
    match args {
        Prove::Erased(args) => super::run(erased(args)),
        Prove::Isolation(args) => super::isolation::run(&args),
        Prove::Tenancy(args) => super::proving::tenancy(&args),
        Prove::Unlinkable(args) => super::proving::unlinkable(&args),
    }
}

async fn erased(args: Erased) -> Outcome {
    let what = "the receipt is not proven";
    let layout = Layout::at(&args.data.data)?;
    let refused = |why: String| Failure::new(Exit::Unverified, what).why(why);
    let signed = signed(&args.receipt)?;
    let key = layout::installation_key_in(&layout.installation_key())?;
    let receipt = Receipt::verify(&key, &signed)
        .map_err(|error| refused(format!("its signature is not that of this installation's identity role: {error}")))?;
    let mut wrong: Vec<String> = Vec::new();

    let checked = identity::check(&layout.role(Role::Identity), &receipt)
        .await
        .map_err(|error| Failure::new(error.kind().into(), what).why(error))?;
    for (holds, says) in [
        (checked.gone, "the identity role has a row of the person"),
        (checked.noted, "the identity role knows nothing of this erasure"),
        (checked.renewed, "the identity role goes by a keyring of before the erasure"),
    ] {
        if !holds {
            wrong.push(says.to_owned());
        }
    }

    let (zones, stores) = zones(&layout, &args)?;
    let remains = vault::remains(&layout.role(Role::Vault), &zones, &key, receipt.product, receipt.epoch).await;
    let remains = remains.map_err(|error| Failure::new(error.kind().into(), what).why(chain(&error)))?;
    if remains.in_database {
        wrong.push("the vault's database has a key of older keyrings".to_owned());
    }
    wrong.extend(
        remains
            .objects
            .iter()
            .map(|at| format!("{} holds a key of older keyrings", at.display())),
    );
    wrong.extend(remains.blind.iter().map(|at| {
        format!(
            "{} shows no key of the product's people at all, so nothing can be said of it",
            at.display()
        )
    }));
    if zones.is_empty() {
        wrong.push("none of the vault's zones is a directory here".to_owned());
    }
    if !wrong.is_empty() {
        return Err(refused(wrong.join("\n"))
            .next("a zone that was away drops what it has to when it is back; anything else should be looked into"));
    }
    terminal::say(format!(
        "proven: person {} of product {} was erased at {}; {} zones of the vault were looked at",
        receipt.id,
        receipt.product,
        receipt.erased_at,
        zones.len()
    ));
    if stores > 0 {
        terminal::say(format!("not looked at: {stores} zones of the vault that are in stores"));
    }
    Ok(())
}

fn signed(path: &std::path::Path) -> Outcome<Vec<u8>> {
    let what = format!("could not read the receipt {}", path.display());
    let malformed = || Failure::new(Exit::Unverified, what.clone()).why("it is not in the form that `coffer people erase` prints");
    let length = fs::metadata(path)
        .map_err(|error| Failure::new(Exit::NotFound, what.clone()).why(error))?
        .len();
    if length > LARGEST {
        return Err(malformed());
    }
    let text = fs::read(path).during(what.clone())?;
    let receipt: people::Receipt = serde_json::from_slice(&text).map_err(|_| malformed())?;
    STANDARD.decode(receipt.receipt).map_err(|_| malformed())
}

/// The directories of the vault's zones, and how many are in stores.
fn zones(layout: &Layout, args: &Erased) -> Outcome<(Vec<PathBuf>, usize)> {
    let settings = Settings {
        config: args.config.clone(),
        sandbox: None::<SandboxMode>,
    };
    let part = Config::load(&settings)?.part(Role::Vault);
    let listed = part
        .get("zones")
        .and_then(|zones| zones.get("zones"))
        .and_then(toml::Value::as_array);
    let Some(listed) = listed else {
        return Ok((ZONES.map(|name| layout.zones(Role::Vault).join(name)).to_vec(), 0));
    };
    let path = |zone: &toml::Value| zone.get("path").and_then(toml::Value::as_str).map(PathBuf::from);
    let paths: Vec<PathBuf> = listed.iter().filter_map(path).collect();
    let stores = listed.len() - paths.len();
    Ok((paths, stores))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
