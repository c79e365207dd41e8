//! Proof 7, the part that needs whole processes: a product's private key is not in the warehouse's memory before somebody with a reading
//! right has asked for it, nor after a session that only wrote. What makes a pass wrong is tested in the crates `seal` and `edge`.

mod keys;

use std::time::Duration;

use anyhow::ensure;
use base::Role;
use serde_json::{Value, json};
use testkit::{Client, Installation, until};

const DATABASE: &str = "memory";

#[tokio::test(flavor = "multi_thread")]
async fn the_warehouse_holds_no_private_key_of_a_product_that_is_only_written_to() -> anyhow::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        // The roles are not dumpable: their memory is closed to everybody else, this test included.
        eprintln!("not tested: only root reads the memory of another process");
        return Ok(());
    }
    let mut installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let product = installation.product("memory").await?;
    installation.client(&product.admin_key)?.create_table(DATABASE, "events").await?;
    let key = keys::private_key(&installation, &product).await?;
    ensure!(!installation.in_memory(Role::Warehouse, &key)?, "before anybody read");

    let writer = installation.client(&product.write_key)?;
    write(&writer).await?;
    ensure!(!installation.in_memory(Role::Warehouse, &key)?, "after a session that only wrote");

    // The control: the same search finds the key while somebody reads.
    let reader = installation.client(&product.read_key)?;
    ensure!(
        reader.number(DATABASE, "SELECT count(*) FROM events").await? == 500,
        "the rows are not there"
    );
    ensure!(
        installation.in_memory(Role::Warehouse, &key)?,
        "the search does not find a key that is there"
    );
    for role in [Role::Gateway, Role::Identity, Role::Accounts] {
        ensure!(!installation.in_memory(role, &key)?, "the {role} role has it");
    }

    // A new process knows nothing of it, though it reads the journal and takes rows.
    installation.stop().await?;
    installation.up().await?;
    until("rows are taken again", Duration::from_secs(60), || write(&writer)).await?;
    ensure!(
        !installation.in_memory(Role::Warehouse, &key)?,
        "after a restart and a session that only wrote"
    );
    installation.finish().await
}

async fn write(writer: &Client) -> anyhow::Result<()> {
    let rows: Vec<Value> = (0..50)
        .map(|n| json!({"time": 1_700_000_000 + n, "n": n, "email": "ada@example.com"}))
        .collect();
    for _ in 0..10 {
        writer.import(DATABASE, "events", None, &rows).await?.ok()?;
    }
    Ok(())
}
