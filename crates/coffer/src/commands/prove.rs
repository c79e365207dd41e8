//! `coffer prove`: what can be checked from outside, by whoever owns the data directory.

use std::fs;

use base::Role;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use identity::Receipt;

use crate::cli::{Erased, Prove, SandboxMode, Settings};
use crate::client::people;
use crate::failure::{During, Exit, Failure, Outcome};
use crate::handover::{Open, Proof};
use crate::layout::{self, Layout};
use crate::supervise::Shown;
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
    let settings = Settings {
        config: args.config.clone(),
        sandbox: None::<SandboxMode>,
    };
    // What lies in a role's directory is looked at by a process of that role: who may write there could lead anybody else elsewhere.
    let proving = super::proving::open(&args.data.data, &settings)?;
    let roles = [Role::Identity, Role::Vault];
    let heard = super::proving::heard(&proving, &roles, (Proof::Erased(Open(signed)), None), Shown::default()).await?;
    if !heard.wrong.is_empty() {
        return Err(refused(heard.wrong.join("\n"))
            .next("a zone that was away drops what it has to when it is back; anything else should be looked into"));
    }
    let Some((zones, stores)) = heard.looked else {
        return Err(refused("the vault did not say what it looked at".into()));
    };
    terminal::say(format!(
        "proven: person {} of product {} was erased at {}; {zones} zones of the vault were looked at",
        receipt.id, receipt.product, receipt.erased_at
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
