//! A product in its customer's custody: it takes rows while nobody reads, is read by whoever shows a key, and its last key is not lost by
//! accident.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use testkit::{Installation, until};

const DATABASE: &str = "custody";
const SOON: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_product_in_customer_custody_takes_rows_without_its_key_and_is_read_with_it() -> anyhow::Result<()> {
    let mut installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let made = installation
        .operator(&["products", "create", "private", "--custody", "customer"])
        .await?;
    ensure!(made.stderr.contains("loses everything in it"), "{}", made.stderr);
    let key = made.ok()?.trim().to_owned();
    let file = installation.aside("key");
    fs::write(&file, &key)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    let file = file.display().to_string();

    let refused = installation
        .operator(&["keys", "create", "--product", "private", "--kind", "read"])
        .await?;
    ensure!(refused.code == Some(3) && refused.stderr.contains("--key-file"), "{refused:?}");
    let created = ["keys", "create", "--product", "private", "--kind", "read", "--key-file", &file];
    let read = installation.operator(&created).await?.ok()?.trim().to_owned();
    let write = installation.key("private", "write").await?;
    let (admin, reader, writer) = (
        installation.client(&key)?,
        installation.client(&read)?,
        installation.client(&write)?,
    );
    admin.create_table(DATABASE, "events").await?;
    let row = |n: i64| json!({"time": 1_700_000_000 + n, "n": n});
    writer.import(DATABASE, "events", None, &[row(1)]).await?.ok()?;
    let count = "SELECT count(*) FROM events";
    ensure!(reader.number(DATABASE, count).await? == 1);

    installation.stop().await?;
    installation.up().await?;
    writer.import(DATABASE, "events", None, &[row(2)]).await?.ok()?;
    until("both rows are read", SOON, || async {
        ensure!(reader.number(DATABASE, count).await? == 2);
        Ok(())
    })
    .await?;

    // The last key that reads does not go by accident.
    let listed = installation
        .operator(&["keys", "list", "--product", "private", "-o", "json"])
        .await?;
    ensure!(listed.stderr.contains("custody is customer"), "{}", listed.stderr);
    let listed: Value = serde_json::from_str(&listed.ok()?)?;
    let id = |kind: &str| -> anyhow::Result<String> {
        let keys = listed.as_array().context("no list")?;
        let found = keys.iter().find(|key| key["kind"] == kind).context("no such key")?;
        Ok(found["id"].as_str().context("no id")?.to_owned())
    };
    installation.operator(&["keys", "revoke", "--yes", &id("admin")?]).await?.ok()?;
    let last = id("read")?;
    let refused = installation.operator(&["keys", "revoke", "--yes", &last]).await?;
    ensure!(
        refused.code == Some(5) && refused.stderr.contains("--lose-everything"),
        "{refused:?}"
    );

    fs::write(&file, &read)?;
    let managed = ["products", "custody", "private", "--to", "managed", "--key-file", &file];
    installation.operator(&managed).await?.ok()?;
    installation.operator(&["keys", "revoke", "--yes", &last]).await?.ok()?;
    let another = installation.client(&installation.key("private", "read").await?)?;
    ensure!(another.number(DATABASE, count).await? == 2);
    installation.finish().await
}
