//! What a drill needs of its own: a product, a key, a database and a table. The product stays; the rest is gone afterwards.

use std::time::Duration;

use base::{Clock, CredentialId, DatabaseName, KeyKind, SystemClock, TableName};
use tokio::time::{Instant, sleep};
use wire::v1::{CreateProductRequest, ListCredentialsRequest, RevokeCredentialRequest};

use crate::client::{Access, Client};
use crate::commands::{keys, products};
use crate::failure::{During, Exit, Failure, Outcome};
use crate::layout::Layout;
use crate::operator;

/// The drills' own product. Nobody else sends to it or holds a key of it.
pub(super) const PRODUCT: &str = "coffer-drill";
/// What the names of databases begin with.
const DATABASES: &str = "drill_";
const TABLE: &str = "events";
/// How long tidying up is tried: a role that was killed may just be starting.
const TIDY: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_millis(500);

/// What there is so far.
pub(super) struct Stage {
    layout: Layout,
    endpoint: String,
    product: Option<u64>,
    client: Option<Client>,
    table: (DatabaseName, TableName),
}

impl Stage {
    /// Nothing is made yet.
    pub(super) fn new(layout: &Layout, endpoint: &str) -> Outcome<Self> {
        let what = "the names of the drill's tables are wrong";
        let database = format!("{DATABASES}{}", SystemClock.now().as_secs());
        Ok(Self {
            layout: layout.clone(),
            endpoint: endpoint.to_owned(),
            product: None,
            client: None,
            table: (database.parse().during(what)?, TABLE.parse().during(what)?),
        })
    }

    /// Makes everything, without what an earlier drill may have left.
    pub(super) async fn set(&mut self) -> Outcome {
        let product = self.product().await?;
        self.product = Some(product);
        self.revoke_all().await?;
        let (_, key) = keys::create(&self.layout, product, KeyKind::Admin).await?;
        let mut client = Client::new(Access::new(&self.endpoint, Some(&self.layout.ca()), key)?);
        self.client = Some(client.another());
        delete_all(&mut client).await?;
        client.make_database(&self.table.0).await?;
        client.make_table(&self.table.0, &self.table.1).await
    }

    /// A caller with the drill's key.
    pub(super) fn client(&self) -> Outcome<Client> {
        let made = self.client.as_ref().map(Client::another);
        made.ok_or_else(|| Failure::new(Exit::Failed, "the drill has no key yet"))
    }

    /// The table that is sent to.
    pub(super) fn table(&self) -> (&DatabaseName, &TableName) {
        (&self.table.0, &self.table.1)
    }

    /// Removes what was made.
    pub(super) async fn clear(&mut self) -> Outcome {
        let Some(product) = self.product else { return Ok(()) };
        let deleted = match self.client.take() {
            Some(mut client) => patiently(async || delete_all(&mut client).await).await,
            None => Ok(()),
        };
        let revoked = patiently(async || self.revoke_all().await).await;
        deleted.and(revoked).map_err(|failure| {
            failure.next(format!(
                "the next drill removes what is left of this one; `coffer keys list --product {product}` shows its keys"
            ))
        })
    }

    async fn product(&self) -> Outcome<u64> {
        match operator::product(&self.layout, PRODUCT).await {
            Ok(product) => Ok(product.number),
            Err(failure) if failure.exit == Exit::NotFound => {
                let request = CreateProductRequest {
                    name: PRODUCT.to_owned(),
                    ..CreateProductRequest::default()
                };
                Ok(products::create(&self.layout, request).await?.number)
            }
            Err(failure) => Err(failure),
        }
    }

    /// Ends every key of the product: ours, and any that a drill held that died.
    async fn revoke_all(&self) -> Outcome {
        let Some(product) = self.product else { return Ok(()) };
        let what = "could not revoke the drill's key";
        let listed = operator::ask(
            what,
            operator::vault(&self.layout).list_credentials(ListCredentialsRequest { product }),
        )
        .await?;
        for key in listed.credentials.into_iter().filter(|key| key.revoked_at == 0) {
            let id = CredentialId::try_from(&key.credential[..]).during(what)?;
            let request = RevokeCredentialRequest {
                credential: id.to_bytes().to_vec(),
                lose_everything: false,
            };
            operator::ask(what, operator::vault(&self.layout).revoke_credential(request)).await?;
        }
        Ok(())
    }
}

/// Deletes every database of the product that a drill made.
async fn delete_all(client: &mut Client) -> Outcome {
    for database in client
        .databases()
        .await?
        .into_iter()
        .filter(|database| database.name.starts_with(DATABASES))
    {
        client.delete_database(&database.name).await?;
    }
    Ok(())
}

/// Tries until it works or nobody waits any longer.
async fn patiently(mut attempt: impl AsyncFnMut() -> Outcome) -> Outcome {
    let deadline = Instant::now() + TIDY;
    loop {
        match attempt().await {
            Err(failure) if failure.exit == Exit::Temporary && Instant::now() < deadline => sleep(AGAIN).await,
            other => return other,
        }
    }
}
