//! `coffer keys`: through the local sockets of vault and accounts.

use std::path::Path;

use base::{CredentialId, KeyKind, Secret, Timestamp};
use serde_json::{Value, json};
use wire::v1::{CreateCredentialRequest, GrantCredentialRequest, ListCredentialsRequest, RevokeCredentialRequest};

use super::products::{self, MANAGED};
use crate::cli::Keys;
use crate::failure::{Exit, Failure, Outcome};
use crate::layout::{Layout, read_private};
use crate::output::{self, Format};
use crate::{operator, terminal};

/// Makes, lists or revokes.
pub(crate) async fn run(args: Keys) -> Outcome {
    match args {
        Keys::Create {
            product,
            kind,
            key_file,
            data,
        } => {
            let layout = Layout::at(&data.data)?;
            let product = operator::product(&layout, &product).await?;
            let (id, key) = create_shown(&layout, product.number, kind, shown(key_file.as_deref())?).await?;
            terminal::say(format_args!(
                "made the {kind} key {id} of product {:?}; it is shown this once:",
                product.name
            ));
            terminal::print(key.reveal())
        }
        Keys::List { product, output, data } => {
            let layout = Layout::at(&data.data)?;
            let product = operator::product(&layout, &product).await?;
            let request = ListCredentialsRequest { product: product.number };
            let listed = operator::ask("could not list the keys", operator::vault(&layout).list_credentials(request)).await?;
            if !listed.custody.is_empty() {
                terminal::say(format_args!("custody is {}", listed.custody));
            }
            let mut rows = output::to_stdout(Format::chosen(output), true, &["id", "kind", "created_at", "revoked_at"]);
            for key in listed.credentials {
                let id = CredentialId::try_from(&key.credential[..]).map_or_else(|_| hex::encode(&key.credential), |id| id.to_string());
                let revoked = if key.revoked_at == 0 {
                    Value::Null
                } else {
                    json!(Timestamp::from_micros(key.revoked_at).to_string())
                };
                rows.row(vec![
                    json!(id),
                    json!(key.kind),
                    json!(Timestamp::from_micros(key.created_at).to_string()),
                    revoked,
                ])?;
            }
            rows.finish().map(drop)
        }
        Keys::Revoke {
            id,
            yes,
            lose_everything,
            data,
        } => {
            confirm(yes, &id)?;
            let request = RevokeCredentialRequest {
                credential: id.to_bytes().to_vec(),
                lose_everything,
            };
            operator::ask(
                &format!("could not revoke the key {id}"),
                operator::vault(&Layout::at(&data.data)?).revoke_credential(request),
            )
            .await?;
            terminal::say(format_args!("revoked {id}; what goes on under it ends within 10 seconds"));
            Ok(())
        }
    }
}

/// The product key in a file; none without a file.
pub(crate) fn shown(file: Option<&Path>) -> Outcome<Option<Secret>> {
    file.map(|path| Ok(Secret::new(read_private(path)?.trim().to_owned()))).transpose()
}

/// Makes a key and says what it may do.
pub(crate) async fn create(layout: &Layout, product: u64, kind: KeyKind) -> Outcome<(CredentialId, Secret)> {
    create_shown(layout, product, kind, None).await
}

/// The same for whoever shows a product key.
async fn create_shown(layout: &Layout, product: u64, kind: KeyKind, shown: Option<Secret>) -> Outcome<(CredentialId, Secret)> {
    let what = format!("could not make a {kind} key");
    // A product whose making was interrupted has no key pair yet.
    if products::make_keys(layout, product, MANAGED).await?.made {
        terminal::say("the product had no key pair yet: made one, custody is managed");
    }
    let request = CreateCredentialRequest {
        product,
        kind: kind.as_str().into(),
        shown: shown.map_or_else(String::new, |key| key.reveal().to_owned()),
    };
    let made = operator::ask(&what, operator::vault(layout).create_credential(request)).await?;
    let id = CredentialId::try_from(&made.credential[..]).map_err(|error| Failure::new(Exit::Failed, what.as_str()).why(error))?;
    let key = Secret::new(made.key);
    grant(layout, &id, product, kind).await?;
    Ok((id, key))
}

/// Says what a key may do. Until this is done it opens nothing: should it fail, there is a listed key without any right.
pub(crate) async fn grant(layout: &Layout, id: &CredentialId, product: u64, kind: KeyKind) -> Outcome {
    let grant = GrantCredentialRequest {
        credential: id.to_bytes().to_vec(),
        product,
        verbs: kind.verbs().bits(),
    };
    let what = format!("could not say what a {kind} key may do");
    operator::ask(&what, operator::accounts(layout).grant_credential(grant))
        .await
        .map(drop)
}

fn confirm(yes: bool, id: &CredentialId) -> Outcome {
    if yes || terminal::confirmed(format_args!("Revoke {id}, and end everything under it?")) {
        return Ok(());
    }
    Err(Failure::new(Exit::Usage, format!("the key {id} was not revoked"))
        .why("it was not confirmed")
        .next("add --yes"))
}
