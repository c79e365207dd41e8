//! Dropped tables and databases come back with everything, whatever is killed meanwhile; and once they went for good no zone holds
//! anything of them.

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use base::{Clock, Role};
use serde_json::{Value, json};
use testkit::{Client, Installation, until};

const SOON: Duration = Duration::from_secs(60);

fn rows(from: u32, count: u32) -> Vec<Value> {
    (from..from + count).map(|n| json!({"time": 1_700_000_000 + n, "n": n})).collect()
}

async fn drop_table(client: &Client, table: &str) -> anyhow::Result<()> {
    client.post(&format!("/v3/table/delete/web/{table}"), &[]).await?.ok().map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_table_and_a_dropped_database_come_back_with_everything() -> anyhow::Result<()> {
    let mut installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let product = installation.product("web").await?;
    let key = [("COFFER_ADMIN_KEY", product.admin_key.as_str())];
    let admin = installation.client(&product.admin_key)?;
    admin.create_table("web", "events").await?;
    admin.import("web", "events", Some("one"), &rows(0, 10)).await?.ok()?;
    // These are in a file from here on, and the next are not.
    installation.stop().await?;
    installation.up().await?;
    let wrong = json!({"time": "never", "n": 99});
    admin
        .import("web", "events", Some("two"), &[rows(10, 5), vec![wrong]].concat())
        .await?
        .ok()?;
    drop_table(&admin, "events").await?;
    installation.kill(Role::Warehouse)?;
    installation.kill_all().await?;
    installation.up().await?;

    ensure!(admin.query("web", "SELECT 1 FROM events").await.is_err());
    let listed = installation.user(&["tables", "-o", "tsv"], &key).await?.ok()?;
    ensure!(!listed.contains("events"), "{listed}");
    let listed = installation.user(&["tables", "dropped", "-o", "jsonl"], &key).await?.ok()?;
    let dropped: Value = serde_json::from_str(listed.trim())?;
    ensure!(
        dropped["name"] == "web.events" && dropped["rows"] == 15 && dropped["kept_until"].is_string(),
        "{listed}"
    );
    let refused = installation.client(&product.read_key)?.get("/v1/dropped").await?;
    ensure!(refused.status == 403, "{}", refused.text());

    // Its name is free; then it is taken.
    admin.create_table("web", "events").await?;
    admin.import("web", "events", Some("one"), &rows(50, 1)).await?.ok()?;
    let taken = installation.user(&["tables", "undrop", "web.events"], &key).await?;
    ensure!(taken.code == Some(5) && format!("{taken:?}").contains("--as"), "{taken:?}");
    installation
        .user(&["tables", "undrop", "web.events", "--as", "old"], &key)
        .await?
        .ok()?;
    let none = installation
        .user(&["tables", "undrop", "web.events", "--as", "older"], &key)
        .await?;
    ensure!(none.code == Some(4), "{none:?}");
    let both = async || -> anyhow::Result<(i64, i64)> {
        let old = admin.number("web", "SELECT count(DISTINCT n) FROM old WHERE n < 15").await?;
        Ok((old, admin.number("web", "SELECT count(*) FROM old").await?))
    };
    ensure!(both().await? == (15, 15));
    ensure!(admin.number("web", "SELECT count(*) FROM events").await? == 1);
    ensure!(admin.number("web", r#"SELECT count(*) FROM "old$rejected""#).await? == 1);
    // Imported before it was dropped: a duplicate, in whichever place it was then.
    for id in ["one", "two"] {
        admin.import("web", "old", Some(id), &rows(100, 3)).await?.ok()?;
    }
    ensure!(both().await? == (15, 15));

    admin.post("/v3/database/delete/web", &[]).await?.ok()?;
    installation.kill_all().await?;
    installation.up().await?;
    let listed = installation.user(&["tables", "-o", "tsv"], &key).await?.ok()?;
    ensure!(!listed.contains("web."), "{listed}");
    let homeless = installation.user(&["tables", "undrop", "web.old"], &key).await?;
    ensure!(homeless.code == Some(4), "{homeless:?}");
    installation.user(&["tables", "undrop", "--database", "web"], &key).await?.ok()?;
    ensure!(both().await? == (15, 15));
    ensure!(admin.number("web", "SELECT count(*) FROM events").await? == 1);
    installation.finish().await
}

/// The names of all files below a directory that hold what was not deleted.
fn objects(directory: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    if !directory.is_dir() {
        return Ok(names);
    }
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.extend(objects(&entry.path())?);
        } else {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_went_for_good_is_in_no_zone_any_more_and_what_shared_its_segments_is() -> anyhow::Result<()> {
    let mut installation = Installation::prepare(env!("CARGO_BIN_EXE_coffer")).await?;
    installation.configure("[warehouse.drops]\nkeep = \"1s\"\nsettle = \"0s\"\n[warehouse.journal]\ncommit_after = \"200ms\"\n")?;
    installation.up().await?;
    let product = installation.product("web").await?;
    let key = [("COFFER_ADMIN_KEY", product.admin_key.as_str())];
    let admin = installation.client(&product.admin_key)?;
    admin.create_table("web", "gone").await?;
    admin.create_table("web", "stays").await?;
    // Some of these are committed together.
    let imports = (0..12).map(|n| {
        let admin = &admin;
        let table = if n % 2 == 0 { "gone" } else { "stays" };
        async move { admin.import("web", table, Some(&n.to_string()), &rows(n, 1)).await?.ok() }
    });
    for outcome in futures::future::join_all(imports).await {
        outcome?;
    }
    // Into files.
    installation.stop().await?;
    installation.up().await?;
    let tables = |zone: &str| objects(&installation.zone(Role::Warehouse, zone).join("tables"));
    ensure!(tables("a")?.len() == 2, "{:?}", tables("a")?);
    drop_table(&admin, "gone").await?;
    until("the files are in no zone", SOON, || async {
        for zone in ["a", "b", "c"] {
            let files = tables(zone)?;
            ensure!(files.len() == 1, "zone {zone} holds {files:?}");
        }
        Ok(())
    })
    .await?;
    let back = installation.user(&["tables", "undrop", "web.gone"], &key).await?;
    ensure!(back.code == Some(4), "{back:?}");
    // The reader's lease lets segments be sealed anew that hold rows of both.
    until("the raw log is trimmed", SOON, || async {
        ensure!(admin.number("web", "SELECT count(*) FROM stays").await? == 6);
        for zone in ["a", "b", "c"] {
            let raw = objects(&installation.zone(Role::Warehouse, zone).join("raw"))?;
            ensure!(raw.iter().any(|name| name.contains("-t1.")), "zone {zone} holds {raw:?}");
        }
        Ok(())
    })
    .await?;
    installation.kill_all().await?;
    // The catalog made again from what is left of the raw log.
    std::fs::remove_dir_all(installation.data().join("roles/warehouse/products"))?;
    installation.up().await?;
    ensure!(admin.number("web", "SELECT count(*) FROM stays").await? == 6);
    ensure!(admin.number("web", "SELECT count(DISTINCT n) FROM stays").await? == 6);
    ensure!(admin.query("web", "SELECT 1 FROM gone").await.is_err());
    installation.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_older_than_a_table_keeps_them_are_in_no_answer_from_the_moment_that_it_is_set() -> anyhow::Result<()> {
    let mut installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let product = installation.product("web").await?;
    let key = [("COFFER_ADMIN_KEY", product.admin_key.as_str())];
    let admin = installation.client(&product.admin_key)?;
    admin.create_table("web", "events").await?;
    let now = base::SystemClock.now().as_secs();
    let row = |days: i64| json!({"time": now - days * 86_400, "days": days});
    admin.import("web", "events", None, &[row(0), row(29), row(31)]).await?.ok()?;
    // In a file, which goes on holding both.
    installation.stop().await?;
    installation.up().await?;
    admin.import("web", "events", None, &[row(40), row(2)]).await?.ok()?;
    let days = async || admin.query("web", "SELECT days FROM events ORDER BY 1").await;
    ensure!(days().await?.len() == 5);

    let reader = [("COFFER_READ_KEY", product.read_key.as_str())];
    let refused = installation.client(&product.read_key)?;
    let refused = refused.post("/v3/table/update/web/events", &[("expire_days", "1")]).await?;
    ensure!(refused.status == 403, "{}", refused.text());
    let set = ["tables", "set", "web.events", "--keep", "30d", "--keep-raw", "60d", "-o", "tsv"];
    let shown = installation.user(&set, &key).await?.ok()?;
    ensure!(shown.contains("web.events\t30d\t60d"), "{shown}");
    ensure!(days().await? == [[json!(0)], [json!(2)], [json!(29)]], "{:?}", days().await?);
    ensure!(admin.number("web", "SELECT count(*) FROM events").await? == 3);
    installation.kill_all().await?;
    installation.up().await?;
    ensure!(days().await?.len() == 3);
    let shown = installation
        .user(&["tables", "set", "web.events", "-o", "tsv"], &reader)
        .await?
        .ok()?;
    ensure!(shown.contains("web.events\t30d\t60d"), "{shown}");
    let set = ["tables", "set", "web.events", "--keep", "forever", "-o", "tsv"];
    let shown = installation.user(&set, &key).await?.ok()?;
    ensure!(shown.contains("web.events\tforever\t60d"), "{shown}");
    ensure!(days().await?.len() == 5);
    installation.finish().await
}
