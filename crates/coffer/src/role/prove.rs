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

/// Where lines go.
type Say<'a> = &'a mut dyn FnMut(&Line) -> io::Result<()>;

fn say_to(mut out: io::Stdout) -> impl FnMut(&Line) -> io::Result<()> {
    move |line| {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        out.write_all(&text).and_then(|()| out.flush())
    }
}

/// Whoever asked is told why nothing could be said; then the process ends.
fn told(done: Outcome) -> Outcome {
    let Err(failure) = done else { return Ok(()) };
    // Not logged as well: whoever asked says it.
    say_to(io::stdout())(&Line::Failed(failure.exit as u8, failure.in_one_line())).during("whoever asked is gone")
}

/// Reads the vault's root key, before its process can do nothing else any more.
pub(super) fn prover(handover: &Handover, to_prove: &ToProve) -> Outcome<vault::Prover> {
    let settings: vault::VaultSettings = read(Role::Vault, handover.settings.clone())?;
    let shares: Vec<SecretBytes> = to_prove.shares.iter().map(|share| share.0.clone()).collect();
    let token = super::token_of(&settings, handover);
    let prover = vault::Prover::new(&settings, &handover.directory, &shares, token.as_deref());
    prover.map_err(|error| {
        let failure = || Failure::new(Exit::from(error.kind()), "the vault hands no keys over").why(chain(&error));
        // What it says when it cannot even be told is the same.
        told(Err(failure())).err().unwrap_or_else(failure)
    })
}

/// Proves what is to be proven, or hands keys over for it, and ends.
pub(super) fn run(handover: &Handover, to_prove: &ToProve, prover: Option<vault::Prover>, parts: Parts, input: impl BufRead) -> Outcome {
    let runtime = Builder::new_current_thread().enable_all().build().during("could not start")?;
    let mut say = say_to(io::stdout());
    told(match (prover, &to_prove.proof) {
        (Some(prover), _) => runtime.block_on(hand_over(&prover, to_prove, &mut say)),
        (None, Proof::Erased(signed)) => runtime.block_on(erased(handover, to_prove, &signed.0, &mut say)),
        (None, Proof::Audit(kept)) => runtime.block_on(audit(handover, to_prove, kept, &mut say)),
        (None, _) => runtime.block_on(prove(handover, to_prove, parts, input, &mut say)),
    })
}

fn installation(to_prove: &ToProve) -> Outcome<InstallationKey> {
    InstallationKey::try_from(&to_prove.installation.0[..]).during("the installation's key is none")
}

/// What the role knows of somebody who is to be gone.
async fn erased(handover: &Handover, to_prove: &ToProve, signed: &[u8], say: Say<'_>) -> Outcome {
    let what = "the receipt is not proven";
    let key = installation(to_prove)?;
    let receipt = identity::Receipt::verify(&key, signed).map_err(|error| Failure::new(Exit::Unverified, what).why(error))?;
    let mut wrong: Vec<String> = Vec::new();
    match handover.role {
        Role::Identity => {
            let checked = identity::check(&handover.directory, &receipt).await;
            let checked = checked.map_err(|error| Failure::new(error.kind().into(), what).why(chain(&error)))?;
            let says = [
                (checked.gone, "the identity role has a row of the person"),
                (checked.noted, "the identity role knows nothing of this erasure"),
                (checked.renewed, "the identity role goes by a keyring of before the erasure"),
            ];
            wrong.extend(says.into_iter().filter(|(holds, _)| !holds).map(|(_, says)| says.to_owned()));
        }
        Role::Vault => {
            let (zones, stores) = zones(&handover.settings);
            let remains = vault::remains(&handover.directory, &zones, &key, receipt.product, receipt.epoch).await;
            let remains = remains.map_err(|error| Failure::new(error.kind().into(), what).why(chain(&error)))?;
            if remains.in_database {
                wrong.push("the vault's database has a key of older keyrings".to_owned());
            }
            let held = remains
                .objects
                .iter()
                .map(|at| format!("{} holds a key of older keyrings", at.display()));
            let blind = remains.blind.iter().map(|at| {
                format!(
                    "{} shows no key of the product's people at all, so nothing can be said of it",
                    at.display()
                )
            });
            wrong.extend(held.chain(blind));
            if zones.is_empty() {
                wrong.push("none of the vault's zones is a directory here".to_owned());
            }
            say(&Line::Looked(zones.len(), stores)).during(what)?;
        }
        _ => return Err(Failure::new(Exit::Usage, what).why("that is not its to prove")),
    }
    for wrong in wrong {
        say(&Line::Wrong(wrong)).during(what)?;
    }
    say(&Line::Done).during(what)
}

/// What the vault's own audit journal is.
async fn audit(handover: &Handover, to_prove: &ToProve, kept: &[String], say: Say<'_>) -> Outcome {
    let what = "could not check the audit journal";
    let heads = kept.iter().map(|line| audit::SignedHead::parse(line)).collect::<Option<Vec<_>>>();
    let heads = heads.ok_or_else(|| Failure::new(Exit::Refused, what).why("what was kept is no head"))?;
    let report = vault::verify_audit(&handover.directory, &installation(to_prove)?, heads).await;
    let report = report.map_err(|error| Failure::new(Exit::from(error.kind()), what).why(chain(&error)))?;
    let root = report.head.as_ref().map_or_else(String::new, |head| hex::encode(head.head.root));
    say(&Line::Records(report.records, report.size, root)).during(what)?;
    for fault in report.faults {
        say(&Line::Fault(fault.record, fault.what)).during(what)?;
    }
    say(&Line::Done).during(what)
}

async fn hand_over(prover: &vault::Prover, to_prove: &ToProve, say: Say<'_>) -> Outcome {
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

async fn prove(handover: &Handover, to_prove: &ToProve, parts: Parts, input: impl BufRead, say: Say<'_>) -> Outcome {
    let role = handover.role;
    let what = format!("the {role} role proves nothing");
    let own = PrivateKey::generate(&OsEntropy);
    say(&Line::Key(hex::encode(own.public().as_bytes()))).during(what.as_str())?;
    let handed = handed(role, &own, input).map_err(|why| Failure::new(Exit::Failed, what.as_str()).why(why))?;
    let installation = installation(to_prove)?;
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
    match (role, &to_prove.proof) {
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
            let number = |number: &u64| ProductId::new(*number).map_err(|error| failed(base::ErrorKind::Invalid, error.to_string()));
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
