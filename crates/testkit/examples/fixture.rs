//! Makes the small installation that later versions have to open: `fixture BINARY ARCHIVE`. Called by `cargo xtask fixture`.
//!
//! What it holds is what `crates/coffer/tests/formats.rs` asks for.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, ensure};
use http::Method;
use serde_json::{Value, json};
use testkit::{Client, Installation};

const DATABASE: &str = "web";
/// The id of the one record that has one.
const RECORD: &str = "3f0c2f5c-0000-4000-8000-000000000001";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1);
    let (Some(binary), Some(archive)) = (words.next(), words.next()) else {
        anyhow::bail!("usage: fixture BINARY ARCHIVE");
    };
    let binary = std::path::absolute(binary)?;
    let mut installation = Installation::prepare(binary.to_str().context("a path that is not text")?).await?;
    installation.configure("[warehouse.flush]\nafter = \"1h\"\n")?;
    installation.up().await?;
    let create = [
        "products",
        "create",
        "shop",
        "--identity-columns",
        "email",
        "--personal-columns",
        "name",
    ];
    installation.operator(&create).await?.ok()?;
    let mut keys = json!({});
    for kind in ["write", "read", "admin"] {
        keys[kind] = installation.key("shop", kind).await?.into();
    }
    let admin = installation.client(keys["admin"].as_str().context("no key")?)?;
    for table in ["visits", "dropped"] {
        admin.create_table(DATABASE, table).await?;
    }
    let declared = [("schema", r#"[["amount","double"],["later","long"]]"#)];
    admin
        .post(&format!("/v3/table/update-schema/{DATABASE}/visits"), &declared)
        .await?
        .ok()?;
    import(&admin, "visits", "first", 0..100).await?;
    import(&admin, "dropped", "dropped", 0..3).await?;
    // Encrypted files are written when it stops.
    installation.stop().await?;
    installation.up().await?;
    admin.post(&format!("/v3/table/delete/{DATABASE}/dropped"), &[]).await?.ok()?;
    import(&admin, "visits", "second", 100..200).await?;
    let bad = b"{\"time\":1700000000,\"n\":200,\"email\":\"last@example.com\"}\n[1,2,3]\nno json\n".to_vec();
    let path = format!("/v3/table/import_with_id/{DATABASE}/visits/third/jsonl");
    admin.send(Method::PUT, &path, None, bad).await?.ok()?;
    let record = json!({"time": 1_700_000_000, "n": 201, "uuid": RECORD, "email": "person0@example.com"}).to_string();
    let path = format!("/{DATABASE}/visits");
    let kind = Some("application/vnd.treasuredata.v1.single+json");
    admin.send(Method::POST, &path, kind, record.into_bytes()).await?.ok()?;
    keys["job"] = admin.issue(DATABASE, "SELECT count(*) AS visits FROM visits").await?.into();
    admin
        .ended(keys["job"].as_str().context("no job")?, std::time::Duration::from_secs(60))
        .await?;
    // And as a crash leaves it: the last rows are in the journal alone.
    installation.kill_all().await?;

    let place = tempfile::tempdir()?;
    let ran = Command::new("cp")
        .arg("-a")
        .arg(installation.data())
        .arg(place.path().join("data"))
        .status()?;
    ensure!(ran.success(), "could not copy the data directory");
    fs::remove_dir_all(place.path().join("data/run"))?;
    fs::write(place.path().join("keys.json"), format!("{keys:#}\n"))?;
    let packed = Command::new("tar")
        .args(["--create", "--gzip", "--owner=0", "--group=0", "--sort=name", "--file", &archive])
        .arg("--directory")
        .arg(place.path())
        .args(["data", "keys.json"])
        .status()?;
    ensure!(packed.success(), "could not pack the archive");
    Ok(())
}

/// Rows with these numbers; some amounts are no numbers and overflow.
async fn import(client: &Client, table: &str, id: &str, numbers: std::ops::Range<u32>) -> anyhow::Result<()> {
    let row = |n: u32| {
        let amount = if n % 10 == 7 { json!("gratis") } else { json!(f64::from(n) / 4.0) };
        json!({"time": 1_700_000_000 + n, "n": n, "email": format!("person{}@example.com", n % 5), "name": format!("Person {}", n % 5),
            "amount": amount, "path": format!("/page/{}", n % 3)})
    };
    let rows: Vec<Value> = numbers.map(row).collect();
    client.import(DATABASE, table, Some(id), &rows).await?.ok()?;
    Ok(())
}
