//! `coffer products`: through the local sockets of accounts and vault.

use base::Timestamp;
use serde_json::json;
use wire::v1::{CreateProductKeysRequest, CreateProductRequest, ListProductsRequest, Product};

use crate::cli::Products;
use crate::failure::Outcome;
use crate::layout::Layout;
use crate::output::{self, Format};
use crate::{operator, terminal};

/// Makes or lists.
pub(crate) async fn run(args: Products) -> Outcome {
    match args {
        Products::Create {
            name,
            identity_columns,
            data,
        } => {
            let product = create(&Layout::at(&data.data)?, name, identity_columns).await?;
            terminal::say(format_args!(
                "made product {:?}; identities are translated in: {}",
                product.name,
                product.identity_columns.join(", ")
            ));
            terminal::say("custody is managed: the vault keeps a copy of the product's key under the root key");
            terminal::print(product.number)
        }
        Products::List { output, data } => {
            let layout = Layout::at(&data.data)?;
            let listed = operator::ask(
                "could not list the products",
                operator::accounts(&layout).list_products(ListProductsRequest {}),
            )
            .await?;
            let mut rows = output::to_stdout(Format::chosen(output), true, &["number", "name", "created_at", "identity_columns"]);
            for product in listed.products {
                let created = Timestamp::from_micros(product.created_at).to_string();
                rows.row(vec![
                    json!(product.number),
                    json!(product.name),
                    json!(created),
                    json!(product.identity_columns.join(",")),
                ])?;
            }
            rows.finish().map(drop)
        }
    }
}

/// Makes a product and its key pair.
pub(crate) async fn create(layout: &Layout, name: String, identity_columns: Vec<String>) -> Outcome<Product> {
    let what = format!("could not make the product {name:?}");
    let request = CreateProductRequest { name, identity_columns };
    let product = operator::ask(&what, operator::accounts(layout).create_product(request)).await?;
    make_keys(layout, product.number).await?;
    Ok(product)
}

/// Makes a product's key pair, unless it has one.
pub(crate) async fn make_keys(layout: &Layout, product: u64) -> Outcome {
    let request = CreateProductKeysRequest {
        product,
        custody: "managed".into(),
    };
    operator::ask(
        "could not make the product's key pair",
        operator::vault(layout).create_product_keys(request),
    )
    .await
    .map(drop)
}
