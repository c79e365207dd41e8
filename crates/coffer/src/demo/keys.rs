//! The demo's product and its keys, in `demo.env`.

use base::{KeyKind, Secret};
use wire::v1::{CreateProductRequest, ListCredentialsRequest, ListProductsRequest, Product, RevokeCredentialRequest};

use super::PRODUCT;
use crate::client::access::{EnvFile, names};
use crate::commands::{keys, products};
use crate::failure::{During, Exit, Outcome};
use crate::layout::{Layout, read_private, write_private};
use crate::operator;

/// The keys, and what they belong to.
pub(super) struct DemoKeys {
    pub(super) product: Product,
    pub(super) write: Secret,
    pub(super) read: Secret,
    pub(super) admin: Secret,
}

/// Makes what is missing and writes the file anew when the endpoint moved.
pub(super) async fn ready(layout: &Layout, endpoint: &str) -> Outcome<DemoKeys> {
    let product = product(layout).await?;
    let keys = match written(layout, &product)? {
        Some(keys) => keys,
        None => make(layout, product).await?,
    };
    write(layout, endpoint, &keys)?;
    Ok(keys)
}

async fn product(layout: &Layout) -> Outcome<Product> {
    let listed = operator::ask(
        "could not list the products",
        operator::accounts(layout).list_products(ListProductsRequest {}),
    )
    .await?;
    match listed.products.into_iter().find(|product| product.name == PRODUCT) {
        Some(product) => Ok(product),
        None => {
            let request = CreateProductRequest {
                name: PRODUCT.to_owned(),
                ..CreateProductRequest::default()
            };
            products::create(layout, request).await
        }
    }
}

/// The keys of an earlier run.
fn written(layout: &Layout, product: &Product) -> Outcome<Option<DemoKeys>> {
    let text = match read_private(&layout.demo_env()) {
        Err(failure) if failure.exit == Exit::NotFound => return Ok(None),
        other => other?,
    };
    let lines = EnvFile::parse(&text);
    let prefix = format!("{}/", product.number);
    let key = |name: &str| {
        lines
            .get(name)
            .filter(|key| key.starts_with(&prefix))
            .map(|key| Secret::new(key.to_owned()))
    };
    let (Some(write), Some(read), Some(admin)) = (key(names::WRITE_KEY), key(names::READ_KEY), key(names::ADMIN_KEY)) else {
        return Ok(None);
    };
    Ok(Some(DemoKeys {
        product: product.clone(),
        write,
        read,
        admin,
    }))
}

async fn make(layout: &Layout, product: Product) -> Outcome<DemoKeys> {
    // Keys that were made just before an interruption are known to nobody.
    let what = "could not look for keys that nobody holds";
    let request = ListCredentialsRequest { product: product.number };
    for lost in operator::ask(what, operator::vault(layout).list_credentials(request))
        .await?
        .credentials
    {
        if lost.revoked_at == 0 {
            let request = RevokeCredentialRequest {
                credential: lost.credential,
                lose_everything: false,
            };
            operator::ask(what, operator::vault(layout).revoke_credential(request)).await?;
        }
    }
    let (_, write) = keys::create(layout, product.number, KeyKind::Write).await?;
    let (_, read) = keys::create(layout, product.number, KeyKind::Read).await?;
    let (_, admin) = keys::create(layout, product.number, KeyKind::Admin).await?;
    Ok(DemoKeys {
        product,
        write,
        read,
        admin,
    })
}

fn write(layout: &Layout, endpoint: &str, keys: &DemoKeys) -> Outcome {
    let ca = layout.ca();
    let ca = ca
        .to_str()
        .ok_or("the path of the data directory is not text")
        .during("could not write demo.env")?;
    let text = format!(
        "# Made by `coffer demo`. Keys of the product \"{PRODUCT}\": whoever reads this file can use them.\n\
         # In a shell: . this-file\n\
         {}={endpoint}\n{}={}\n{}={}\n{}={}\n{}={}\nexport {}\n",
        names::ENDPOINT,
        names::CA,
        EnvFile::quoted(ca),
        names::WRITE_KEY,
        keys.write.reveal(),
        names::READ_KEY,
        keys.read.reveal(),
        names::ADMIN_KEY,
        keys.admin.reveal(),
        [names::ENDPOINT, names::CA, names::WRITE_KEY, names::READ_KEY, names::ADMIN_KEY].join(" "),
    );
    write_private(&layout.demo_env(), text.as_bytes())
}
