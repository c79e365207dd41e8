//! A role's process that proves something of its own files instead of serving: at the point where the role would begin to, in its sandbox.
//!
//! Promise: keys come from the vault's process, sealed to this one; nothing that is said to whoever started it holds a key, an identity or an id.
//!
//! Start at [`run`]. What is proven is in the roles' own crates.

use std::io::{self, BufRead, Read, Write};
use std::path::PathBuf;

use base::{Entropy, OsEntropy, ProductId, Role, SecretBytes};
use edge::proving::{Line, Told};
use seal::{InstallationKey, PrivateKey, PublicKey};
use tokio::runtime::Builder;
use wire::proving::{Handed, context};
use zeroize::Zeroizing;

use super::{chain, read};
use crate::Parts;
use crate::failure::{During, Exit, Failure, Outcome};
use crate::handover::{Handover, Proof, ToProve};

/// The line with the keys is no longer.
const LONGEST: u64 = 256 << 20;

/// Reads the vault's root key, before its process can do nothing else any more.
pub(super) fn prover(handover: &Handover, to_prove: &ToProve) -> Outcome<vault::Prover> {
    let settings: vault::VaultSettings = read(Role::Vault, handover.settings.clone())?;
    let shares: Vec<SecretBytes> = to_prove.shares.iter().map(|share| share.0.clone()).collect();
    let token = super::token_of(&settings, handover);
    vault::Prover::new(&settings, &handover.directory, &shares, token.as_deref())
        .map_err(|error| Failure::new(Exit::from(error.kind()), "the vault hands no keys over").why(chain(&error)))
}

/// Proves what is to be proven, or hands keys over for it, and ends.
pub(super) fn run(handover: &Handover, to_prove: &ToProve, prover: Option<vault::Prover>, parts: Parts, input: impl BufRead) -> Outcome {
    let runtime = Builder::new_current_thread().enable_all().build().during("could not start")?;
    let mut out = io::stdout();
    let mut say = |line: &Line| -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        out.write_all(&text).and_then(|()| out.flush())
    };
    match prover {
        Some(prover) => runtime.block_on(hand_over(&prover, to_prove, &mut say)),
        None => runtime.block_on(prove(handover, to_prove, parts, input, &mut say)),
    }
}

async fn hand_over(prover: &vault::Prover, to_prove: &ToProve, say: &mut dyn FnMut(&Line) -> io::Result<()>) -> Outcome {
    let what = "the vault hands no keys over";
    let shown: Vec<SecretBytes> = to_prove.shown.iter().map(|shown| shown.0.clone()).collect();
    for (role, key) in &to_prove.sealed_to {
        let key = PublicKey::try_from(&key.0[..]).during(what)?;
        let sealed = prover.keys(*role, &key, &shown, &OsEntropy).await;
        let sealed = sealed.map_err(|error| Failure::new(Exit::from(error.kind()), what).why(chain(&error)))?;
        say(&Line::Sealed(*role, hex::encode(sealed))).during(what)?;
    }
    say(&Line::Done).during(what)
}

async fn prove(
    handover: &Handover,
    to_prove: &ToProve,
    parts: Parts,
    input: impl BufRead,
    say: &mut dyn FnMut(&Line) -> io::Result<()>,
) -> Outcome {
    let role = handover.role;
    let what = format!("the {role} role proves nothing");
    let own = PrivateKey::generate(&OsEntropy);
    say(&Line::Key(hex::encode(own.public().as_bytes()))).during(what.as_str())?;
    let handed = handed(role, &own, input).map_err(|why| Failure::new(Exit::Failed, what.as_str()).why(why))?;
    let installation = InstallationKey::try_from(&to_prove.installation.0[..]).during(what.as_str())?;
    let (zones, stores) = zones(&handover.settings);
    let entropy: &dyn Entropy = &OsEntropy;
    let failed = |kind: base::ErrorKind, why: String| Failure::new(Exit::from(kind), what.as_str()).why(why);
    let identities = || identity::ProveParts {
        directory: handover.directory.clone(),
        zones: zones.clone(),
        installation,
        handed: &handed,
        entropy,
    };
    let mut told = Told::new(say, to_prove.sample);
    if stores > 0 {
        let says = format!("{stores} zones of the {role} role are in stores, which are not looked at");
        told.note(says).during(what.as_str())?;
    }
    match (role, to_prove.proof) {
        (Role::Warehouse, Proof::Tenancy) => {
            let parts = warehouse::ProveParts {
                directory: handover.directory.clone(),
                zones: zones.clone(),
                stores: stores > 0,
                installation,
                handed: &handed,
                files: parts.files,
                entropy,
            };
            let proven = warehouse::prove(&parts, &mut told).await;
            proven.map_err(|error| failed(error.kind(), chain(&error)))?;
        }
        (Role::Identity, Proof::Tenancy) => {
            let proven = identity::prove(&identities(), &mut told).await;
            proven.map_err(|error| failed(error.kind(), chain(&error)))?;
        }
        (Role::Identity, Proof::Unlinkable(first, second)) => {
            let number = |number| ProductId::new(number).map_err(|error| failed(base::ErrorKind::Invalid, error.to_string()));
            let alike = identity::unlinkable(&identities(), [number(first)?, number(second)?]).await;
            let alike = alike.map_err(|error| failed(error.kind(), chain(&error)))?;
            let common = alike.common.into_iter().map(|(kind, count)| (kind.to_owned(), count));
            let line = Line::Compared {
                people: alike.people,
                values: alike.compared,
                identities: alike.identities,
                common: common.collect(),
            };
            drop(told);
            say(&line).during(what.as_str())?;
            return say(&Line::Done).during(what.as_str());
        }
        _ => return Err(failed(base::ErrorKind::Invalid, "that is not its to prove".into())),
    }
    drop(told);
    say(&Line::Done).during(what.as_str())
}

/// The keys, from one line.
fn handed(role: Role, own: &PrivateKey, input: impl BufRead) -> Result<Handed, String> {
    let mut line = Zeroizing::new(Vec::new());
    Read::take(input, LONGEST)
        .read_until(b'\n', &mut line)
        .map_err(|error| error.to_string())?;
    let sealed = hex::decode(line.trim_ascii()).map_err(|_| "no keys were handed over")?;
    let opened = seal::open_with(own, &context(role), &sealed).map(Zeroizing::new);
    let opened = opened.map_err(|error| error.to_string())?;
    Handed::decode(&opened).ok_or_else(|| "what was handed over is no keys".into())
}

/// Directories of the role's zones, and how many are none.
fn zones(settings: &serde_json::Value) -> (Vec<PathBuf>, usize) {
    let listed = settings["zones"]["zones"].as_array().map(Vec::as_slice).unwrap_or_default();
    let paths: Vec<PathBuf> = listed
        .iter()
        .filter_map(|zone| Some(PathBuf::from(zone["path"].as_str()?)))
        .collect();
    let stores = listed.len() - paths.len();
    (paths, stores)
}
