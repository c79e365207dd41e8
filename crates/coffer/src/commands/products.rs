//! `coffer products`: through the local sockets of accounts and vault.

use base::{CredentialId, KeyKind, Secret, Timestamp};
use serde_json::json;
use wire::v1::{
    ColumnNames, CreateProductKeysRequest, CreateProductKeysResponse, CreateProductRequest, ListProductsRequest, Product,
    SetCustodyRequest, SetProductRequest,
};

use super::keys;
use crate::cli::{Products, Switch};
use crate::failure::{Exit, Failure, Outcome};
use crate::layout::Layout;
use crate::output::{self, Format};
use crate::{operator, terminal};

/// The custody in which the vault keeps a copy of a product's private key.
pub(crate) const MANAGED: &str = "managed";

/// Makes, changes, shows or lists.
pub(crate) async fn run(args: Products) -> Outcome {
    match args {
        Products::Create {
            name,
            identity_columns,
            personal_columns,
            link_identities,
            custody,
            data,
        } => {
            let layout = Layout::at(&data.data)?;
            let request = CreateProductRequest {
                name,
                identity_columns,
                personal_columns,
                link_identities,
            };
            let (product, made) = create_in(&layout, request, &custody).await?;
            terminal::say(format_args!(
                "made product {:?}; identities are translated in: {}",
                product.name,
                product.identity_columns.join(", ")
            ));
            terminal::say(format_args!("personal values are sealed in: {}", personal(&product)));
            terminal::say(format_args!("identities of one row are {}", linked(&product)));
            if custody == MANAGED {
                terminal::say("custody is managed: the vault keeps a copy of the product's key under the root key");
                return terminal::print(product.number);
            }
            first_key(&layout, &product, made).await
        }
        Products::Custody {
            product,
            to,
            key_file,
            data,
        } => {
            let layout = Layout::at(&data.data)?;
            let product = operator::product(&layout, &product).await?;
            let shown = keys::shown(Some(&key_file))?;
            let request = SetCustodyRequest {
                product: product.number,
                custody: to.clone(),
                shown: shown.map_or_else(String::new, |key| key.reveal().to_owned()),
            };
            let what = format!("could not change the custody of {:?}", product.name);
            operator::ask(&what, operator::vault(&layout).set_custody(request)).await?;
            terminal::say(format_args!("custody of {:?} is {to}", product.name));
            Ok(())
        }
        Products::Set {
            product,
            identity_columns,
            personal_columns,
            link_identities,
            data,
        } => {
            let layout = Layout::at(&data.data)?;
            let before = operator::product(&layout, &product).await?;
            let request = SetProductRequest {
                product: before.number,
                identity_columns: names(identity_columns),
                personal_columns: names(personal_columns),
                link_identities: link_identities.map(|switch| switch == Switch::On),
            };
            set(&layout, &product, &before, request).await
        }
        Products::Show { product, output, data } => {
            let product = operator::product(&Layout::at(&data.data)?, &product).await?;
            show(output, vec![product])
        }
        Products::List { output, data } => {
            let layout = Layout::at(&data.data)?;
            let listed = operator::ask(
                "could not list the products",
                operator::accounts(&layout).list_products(ListProductsRequest {}),
            )
            .await?;
            show(output, listed.products)
        }
    }
}

fn names(given: Option<Vec<String>>) -> Option<ColumnNames> {
    given.map(|names| ColumnNames {
        // What `""` becomes.
        names: if names == [""] { Vec::new() } else { names },
    })
}

async fn set(layout: &Layout, wanted: &str, before: &Product, request: SetProductRequest) -> Outcome {
    let what = format!("could not change the product {wanted:?}");
    let after = operator::ask(&what, operator::accounts(layout).set_product(request)).await?;
    terminal::say(format_args!(
        "product {:?}: identities are translated in: {}",
        after.name,
        after.identity_columns.join(", ")
    ));
    terminal::say(format_args!("personal values are sealed in: {}", personal(&after)));
    if after.identity_columns != before.identity_columns {
        terminal::say(
            "warning: rows stored before keep what they were stored with: ids in a column that holds identities no more, and what was \
             sent in one that holds them from now on; a row's personal values may belong to another of its identities from now on",
        );
    }
    if after.personal_columns != before.personal_columns {
        terminal::say(
            "warning: rows stored before keep what they were stored with: what was sent in a column that is personal from now on, \
             and sealed values in one that is not any more",
        );
    }
    terminal::say(format_args!("identities of one row are {}", linked(&after)));
    if after.link_identities != before.link_identities {
        terminal::say(
            "warning: whoever has an id keeps it: what is linked stays linked, and who was known before as two people stays two; whoever \
             may write events may link an identity that is new",
        );
    }
    if after != *before {
        terminal::say(
            "imports that begin from now on follow it: gateways hear of it within a second or two, and after 5 minutes at the latest",
        );
    }
    Ok(())
}

fn personal(product: &Product) -> String {
    if product.personal_columns.is_empty() {
        "none".to_owned()
    } else {
        product.personal_columns.join(", ")
    }
}

fn linked(product: &Product) -> &'static str {
    if product.link_identities {
        "of one person: a new one gets the id of whoever of the row is known"
    } else {
        "people of their own, each with an id"
    }
}

fn show(output: Option<Format>, products: Vec<Product>) -> Outcome {
    let columns = [
        "number",
        "name",
        "created_at",
        "identity_columns",
        "personal_columns",
        "link_identities",
    ];
    let mut rows = output::to_stdout(Format::chosen(output), true, &columns);
    for product in products {
        let created = Timestamp::from_micros(product.created_at).to_string();
        rows.row(vec![
            json!(product.number),
            json!(product.name),
            json!(created),
            json!(product.identity_columns.join(",")),
            json!(product.personal_columns.join(",")),
            json!(product.link_identities),
        ])?;
    }
    rows.finish().map(drop)
}

/// Shows the only key that there is of a product in customer custody.
async fn first_key(layout: &Layout, product: &Product, made: CreateProductKeysResponse) -> Outcome {
    let key = Secret::new(made.key);
    let what = "the product's first key was not made";
    let id = CredentialId::try_from(&made.credential[..]).map_err(|error| Failure::new(Exit::Failed, what).why(error))?;
    keys::grant(layout, &id, product.number, KeyKind::Admin).await?;
    terminal::say("custody is customer: nobody but who holds a product key that reads can open anything; the vault keeps no copy");
    terminal::say(
        "what does not run without such a key: queries, merging of files, changes of types; and the operator cannot rebuild its tables",
    );
    terminal::say("identities go on being translated and found under a key of the vault");
    terminal::say(format_args!(
        "product {} · its first key, {id}, an admin key, is shown this once. Whoever loses the last key that reads loses everything in it:",
        product.number
    ));
    terminal::print(key.reveal())
}

/// Makes a product and its key pair, which the vault keeps too.
pub(crate) async fn create(layout: &Layout, request: CreateProductRequest) -> Outcome<Product> {
    Ok(create_in(layout, request, MANAGED).await?.0)
}

async fn create_in(layout: &Layout, request: CreateProductRequest, custody: &str) -> Outcome<(Product, CreateProductKeysResponse)> {
    let what = format!("could not make the product {:?}", request.name);
    let product = operator::ask(&what, operator::accounts(layout).create_product(request)).await?;
    let made = make_keys(layout, product.number, custody).await?;
    Ok((product, made))
}

/// Makes a product's key pair, unless it has one.
pub(crate) async fn make_keys(layout: &Layout, product: u64, custody: &str) -> Outcome<CreateProductKeysResponse> {
    let request = CreateProductKeysRequest {
        product,
        custody: custody.into(),
    };
    operator::ask(
        "could not make the product's key pair",
        operator::vault(layout).create_product_keys(request),
    )
    .await
}
