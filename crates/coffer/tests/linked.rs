//! Identities that stand in one row: each translated, and linked where the product says so.

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use testkit::{Client, Installation, until};

const DATABASE: &str = "people";

async fn ids(client: &Client, table: &str, time: i64) -> anyhow::Result<(i64, i64)> {
    let query = format!("SELECT email, device FROM {table} WHERE time = {time} LIMIT 1");
    let rows = client.query(DATABASE, &query).await?;
    let id = |at: usize| rows.first().and_then(|row| row.get(at)).and_then(Value::as_i64).unwrap_or(0);
    Ok((id(0), id(1)))
}

#[tokio::test(flavor = "multi_thread")]
async fn identities_of_one_row_are_linked_only_where_the_product_says_so() -> anyhow::Result<()> {
    let installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let product = installation.product("people").await?;
    let client = installation.client(&product.admin_key)?;
    let set = ["products", "set", "people", "--identity-columns", "user_id,email,device"];
    installation.operator(&set).await?.ok()?;
    client.create_table(DATABASE, "events").await?;
    let send = async |row: Value| client.import(DATABASE, "events", None, &[row]).await?.ok();

    until("the columns are heard of", Duration::from_secs(20), || async {
        send(json!({"time": 1, "email": "ada@example.com", "device": "phone-1"})).await?;
        let (email, device) = ids(&client, "events", 1).await?;
        ensure!(email > 0 && device > 0);
        Ok(())
    })
    .await?;
    let (ada, phone) = ids(&client, "events", 1).await?;
    ensure!(ada != phone, "nothing is linked unless it is asked for");

    let said = installation
        .operator(&["products", "set", "people", "--link-identities", "on"])
        .await?;
    ensure!(said.stderr.contains("stays two"), "{}", said.stderr);
    let shown = installation.operator(&["products", "show", "people", "-o", "jsonl"]).await?.ok()?;
    ensure!(serde_json::from_str::<Value>(&shown)?["link_identities"] == json!(true), "{shown}");
    // The gateway hears of it; until then each pair is two people, so each try is another pair.
    let mut tries = 0;
    let mut linked = (0, 1);
    while linked.0 != linked.1 {
        tries += 1;
        ensure!(tries < 200, "the gateway does not hear of it");
        let time = 10 + tries;
        send(json!({"time": time, "email": format!("eve-{tries}@example.com"), "device": format!("tablet-{tries}")})).await?;
        linked = ids(&client, "events", time).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let eve = format!("eve-{tries}@example.com");
    let rows = client
        .query(
            DATABASE,
            &format!("SELECT count(*) FROM events WHERE email = person_id('tablet-{tries}') AND device = person_id('{eve}')"),
        )
        .await?;
    ensure!(rows == [[json!(1)]], "{rows:?}");

    // Another who signs in on that device is another person; who was known as two stays two.
    send(json!({"time": 5, "email": "bob@example.com", "device": format!("tablet-{tries}")})).await?;
    let (bob, tablet) = ids(&client, "events", 5).await?;
    ensure!(tablet == linked.1 && bob != tablet && bob > 0);
    send(json!({"time": 6, "email": "ada@example.com", "device": "phone-1"})).await?;
    ensure!(ids(&client, "events", 6).await? == (ada, phone));
    // A new device of somebody who is known.
    send(json!({"time": 7, "email": "bob@example.com", "device": "laptop"})).await?;
    ensure!(ids(&client, "events", 7).await? == (bob, bob));
    installation.finish().await
}
