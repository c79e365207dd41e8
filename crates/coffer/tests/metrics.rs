//! What the roles count, through the real binary: each row once at each stage of its way, and nothing of what is in it.

use anyhow::ensure;
use serde_json::{Value, json};
use testkit::Installation;

const DATABASE: &str = "metrics";

#[tokio::test(flavor = "multi_thread")]
async fn metrics_say_how_many_rows_went_through_each_stage() -> anyhow::Result<()> {
    let mut installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let product = installation.product("metrics").await?;
    let client = installation.client(&product.admin_key)?;
    client.create_table(DATABASE, "events").await?;
    let rows: Vec<Value> = (0..50)
        .map(|n| json!({"time": 1_700_000_000 + n, "user_id": format!("ada-{n}"), "event": "page_view"}))
        .collect();
    client.import(DATABASE, "events", None, &rows).await?.ok()?;
    ensure!(client.number(DATABASE, "SELECT count(*) FROM events").await? == 50, "other rows");

    let gateway = installation.operator(&["metrics", "gateway"]).await?.ok()?;
    for stage in [
        "md5",
        "inflate",
        "decode",
        "find people",
        "wait for identity",
        "replace people",
        "encode",
        "wait for warehouse",
    ] {
        let line = format!("coffer_stage_rows_total{{stage=\"{stage}\"}} 50\n");
        ensure!(gateway.contains(&line), "{line} is not in {gateway}");
    }
    let all = installation.operator(&["metrics"]).await?.ok()?;
    for stage in ["decode batch", "commit to zones", "show"] {
        let line = format!("coffer_stage_rows_total{{role=\"warehouse\",stage=\"{stage}\"}} 50\n");
        ensure!(all.contains(&line), "{line} is not in {all}");
    }
    let described = all.lines().filter(|line| line.starts_with("# TYPE coffer_stage_rows "));
    ensure!(described.count() == 1 && all.ends_with("# EOF\n"), "{all}");
    for role in base::Role::ALL {
        ensure!(
            all.contains(&format!("coffer_resident_bytes{{role=\"{role}\"}} ")),
            "{role} says nothing"
        );
    }
    ensure!(
        !all.contains("ada") && !all.contains("page_view"),
        "a value of an event is in {all}"
    );

    installation.stop().await?;
    let nobody = installation.operator(&["metrics", "gateway"]).await?;
    ensure!(nobody.code == Some(7) && nobody.stderr.contains("coffer serve"), "{nobody:?}");
    installation.finish().await
}
