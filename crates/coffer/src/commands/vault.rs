//! `coffer vault`: who holds the root key, through the vault's local socket.
//!
//! Promise: shares are read from a prompt without echo or from standard input, and go to standard output or to 0600 files; never into an
//! argument, a log or an error. Nothing has changed in the vault until every share is where it belongs.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base::Secret;
use serde_json::{Value, json};
use wire::v1::{KeepSplitRequest, RootLook, RootLookRequest, SealRequest, SplitRequest, UnsealRequest};

use crate::cli::{Splitting, Vault};
use crate::failure::{During, Exit, Failure, Outcome};
use crate::layout::Layout;
use crate::output::{self, Format};
use crate::{operator, terminal};

/// Asks, shows or changes who holds the root key.
pub(crate) async fn run(args: Vault) -> Outcome {
    match args {
        Vault::Init(splitting) => init(splitting).await,
        Vault::Status { data, output } => status(look(&Layout::at(&data.data)?).await?, output),
        Vault::Unseal { data } => unseal(&Layout::at(&data.data)?).await,
        Vault::Seal { yes, data } => seal(yes, &Layout::at(&data.data)?).await,
        Vault::Rekey(splitting) => rekey(splitting).await,
    }
}

async fn look(layout: &Layout) -> Outcome<RootLook> {
    let what = "could not ask the vault how it is";
    operator::ask(what, operator::vault_root(layout).look(RootLookRequest {})).await
}

fn status(look: RootLook, output: Option<Format>) -> Outcome {
    let or_none = |there: bool, value: Value| if there { value } else { Value::Null };
    let shared = look.holder == "shares";
    let mut rows = output::to_stdout(
        Format::chosen(output),
        true,
        &["state", "root_key", "set", "shares", "threshold", "shown"],
    );
    rows.row(vec![
        json!(if look.sealed { "sealed" } else { "unsealed" }),
        json!(look.holder),
        or_none(shared, json!(hex::encode(&look.set))),
        or_none(shared, json!(look.shares)),
        or_none(shared, json!(look.threshold)),
        or_none(look.sealed, json!(look.shown)),
    ])?;
    rows.finish()?;
    if look.holder == "file" {
        terminal::say("the root key lies in a file, and whoever reads it can open everything: `coffer vault init` splits it among people");
    }
    Ok(())
}

async fn unseal(layout: &Layout) -> Outcome {
    let before = look(layout).await?;
    if !before.sealed {
        terminal::say("the vault is unsealed already");
        return Ok(());
    }
    let share = terminal::secret(format_args!(
        "Share of the root key, set {} ({} of {} were shown):",
        hex::encode(&before.set),
        before.shown,
        before.threshold
    ))?;
    let request = UnsealRequest {
        share: share.reveal().to_owned(),
    };
    let after = operator::ask("the share was not taken", operator::vault_root(layout).unseal(request)).await?;
    if after.sealed {
        terminal::say(format_args!(
            "took the share: {} of {} were shown, {} more open the vault",
            after.shown,
            after.threshold,
            after.threshold.saturating_sub(after.shown)
        ));
    } else {
        terminal::say("the vault is unsealed");
    }
    Ok(())
}

async fn seal(yes: bool, layout: &Layout) -> Outcome {
    if !yes && !terminal::confirmed("Seal the vault, until enough people show their shares?") {
        return Err(Failure::new(Exit::Usage, "the vault was not sealed")
            .why("it was not confirmed")
            .next("add --yes"));
    }
    operator::ask("could not seal the vault", operator::vault_root(layout).seal(SealRequest {})).await?;
    terminal::say(
        "the vault is being sealed: within 8 seconds nobody reads, within 5 minutes nobody sends; `coffer vault unseal` takes shares",
    );
    Ok(())
}

async fn init(args: Splitting) -> Outcome {
    let layout = Layout::at(&args.data.data)?;
    let now = look(&layout).await?;
    if now.holder == "shares" {
        return Err(Failure::new(Exit::Conflict, "the root key is split among people already")
            .why(format!("{} of {} shares open the vault", now.threshold, now.shares))
            .next("`coffer vault rekey` makes a new root key and new shares"));
    }
    split(&layout, &args, &now.set, Vec::new()).await?;
    let gone = if now.holder == "token" {
        "the token opens nothing any more but copies of root.sealed of before: take vault.pkcs11 out of the configuration and destroy the token's key"
    } else {
        "the root key file is gone"
    };
    terminal::say(format_args!(
        "{gone}. From its next start on the vault is sealed until enough shares were shown; it stays unsealed until then"
    ));
    Ok(())
}

async fn rekey(args: Splitting) -> Outcome {
    let layout = Layout::at(&args.data.data)?;
    let now = look(&layout).await?;
    if now.holder != "shares" {
        return Err(Failure::new(Exit::Conflict, "there are no shares yet")
            .why(format!("the root key is in a {}", now.holder))
            .next("`coffer vault init` splits it"));
    }
    if now.sealed {
        return Err(Failure::new(Exit::Temporary, "the vault is sealed").next("unseal it first: `coffer vault unseal`"));
    }
    // Not after the present shares were typed in.
    check(&args)?;
    let mut old: Vec<Secret> = Vec::new();
    for at in 1..=now.threshold {
        old.push(terminal::secret(format_args!(
            "Present share {at} of the {} that are needed, set {}:",
            now.threshold,
            hex::encode(&now.set)
        ))?);
    }
    split(&layout, &args, &now.set, old).await?;
    terminal::say("the shares of before open nothing any more but copies of root.sealed of before: destroy those together with the shares");
    Ok(())
}

fn check(args: &Splitting) -> Outcome {
    if args.threshold > args.shares {
        return Err(Failure::new(Exit::Usage, "the threshold is larger than the number of shares"));
    }
    match &args.out {
        Some(directory) => private(directory),
        None => Ok(()),
    }
}

/// Has the root key split, which was known by the set `before`, puts the shares where they belong, and only then has them take its place.
async fn split(layout: &Layout, args: &Splitting, before: &[u8], old: Vec<Secret>) -> Outcome {
    check(args)?;
    let what = "could not split the root key";
    let request = SplitRequest {
        shares: args.shares,
        threshold: args.threshold,
        old: old.iter().map(|share| share.reveal().to_owned()).collect(),
    };
    let made = operator::ask(what, operator::vault_root(layout).split(request)).await?;
    let set = hex::encode(&made.set);
    let mut shares: Vec<Secret> = made.shares.into_iter().map(Secret::new).collect();
    match &args.out {
        Some(directory) => {
            for (at, share) in shares.iter_mut().enumerate() {
                let path = write(directory, &set, at + 1, share)?;
                // What counts is what can be read there.
                *share = Secret::new(fs::read_to_string(&path).during(format!("could not read {} again", path.display()))?);
            }
            File::open(directory)
                .and_then(|directory| directory.sync_all())
                .during(format!("could not write {}", directory.display()))?;
            terminal::say(format_args!(
                "wrote {} shares of the set {set} to {}",
                shares.len(),
                directory.display()
            ));
        }
        None => {
            terminal::say(format_args!(
                "{} shares of the set {set}, of which any {} open the vault. They are shown this once; give each to another person:",
                shares.len(),
                args.threshold
            ));
            for share in &shares {
                terminal::print(share.reveal())?;
            }
        }
    }
    // As many as are needed, the last ones: each set of them is as good as the first.
    let enough = shares.len().saturating_sub(args.threshold as usize);
    let request = KeepSplitRequest {
        shares: shares[enough..].iter().map(|share| share.reveal().to_owned()).collect(),
    };
    let what = "the new shares did not take the place of the present root key";
    let Err(failure) = operator::ask(what, operator::vault_root(layout).keep(request)).await else {
        return Ok(());
    };
    // An error is no answer to what people need to know now: which shares to keep.
    let why = failure.to_string();
    match look(layout).await {
        Ok(now) if now.set == made.set => {
            Err(Failure::new(failure.exit, "the new shares hold the root key: KEEP THEM; something went wrong afterwards").why(why))
        }
        Ok(now) if now.set == before => Err(failure),
        _ => Err(Failure::new(failure.exit, "it is not known whether the new shares took the place of the present root key")
            .why(why)
            .next(format!(
                "keep the new shares and what was there before, until `coffer vault status` answers: if it shows the set {set}, the new ones hold"
            ))),
    }
}

fn private(directory: &Path) -> Outcome {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.during(format!("could not make {}", directory.display()))
}

fn write(directory: &Path, set: &str, number: usize, share: &Secret) -> Outcome<PathBuf> {
    let path = directory.join(format!("share-{set}-{number}"));
    let what = format!("could not write {}", path.display());
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .during(what.as_str())?;
    file.write_all(share.reveal().as_bytes())
        .and_then(|()| file.write_all(b"\n"))
        .and_then(|()| file.sync_all())
        .during(what)?;
    Ok(path)
}
