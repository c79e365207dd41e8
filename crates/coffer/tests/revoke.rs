//! Revoking a key ends everything under it within ten seconds: requests, and a query that runs.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use testkit::{Installation, until};

const DATABASE: &str = "revoke";
/// What is promised.
const TEN_SECONDS: Duration = Duration::from_secs(10);
/// Runs for minutes, unless somebody ends it.
const ENDLESS: &str =
    "SELECT count(*) FROM events a CROSS JOIN events b CROSS JOIN events c CROSS JOIN events d WHERE a.n + b.n + c.n + d.n = -1";

#[tokio::test(flavor = "multi_thread")]
async fn revoking_a_key_ends_its_requests_and_its_running_query() -> anyhow::Result<()> {
    let installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let product = installation.product("revoke").await?;
    let admin = installation.client(&product.admin_key)?;
    admin.create_table(DATABASE, "events").await?;
    let rows: Vec<Value> = (0..2000).map(|n| json!({"time": 1_700_000_000 + n, "n": n})).collect();
    admin.import(DATABASE, "events", None, &rows).await?.ok()?;

    let reader = installation.client(&product.read_key)?;
    let writer = installation.client(&product.write_key)?;
    let job = reader.issue(DATABASE, ENDLESS).await?;
    running(&reader, &job).await?;
    // Its twin under another key of the same product goes on: what ends is the key, not the product.
    let twin = admin.issue(DATABASE, ENDLESS).await?;
    running(&admin, &twin).await?;

    revoke(&installation, "revoke", "read").await?;
    let ended = async {
        tokio::try_join!(
            until("the revoked key is refused", TEN_SECONDS, || async {
                let answer = reader.get("/v3/database/list").await?;
                ensure!(answer.status == 401, "status {}", answer.status);
                Ok(())
            }),
            until("its query has ended", TEN_SECONDS, || async {
                let status = admin.job_status(&job).await?;
                ensure!(["killed", "error"].contains(&status.as_str()), "it is {status}");
                Ok(())
            }),
        )
    };
    ended.await?;
    ensure!(admin.job_status(&twin).await? == "running", "the query of another key ended too");
    ensure!(reader.issue(DATABASE, "SELECT 1").await.is_err(), "a revoked key asks");

    writer.import(DATABASE, "events", None, &rows[..1]).await?.ok()?;
    revoke(&installation, "revoke", "write").await?;
    until("the revoked key writes nothing", TEN_SECONDS, || async {
        let answer = writer.import(DATABASE, "events", None, &rows[..1]).await?;
        ensure!(answer.status == 401, "status {}", answer.status);
        Ok(())
    })
    .await?;

    let killed = admin.post(&format!("/v3/job/kill/{twin}"), &[]).await?.ok()?.json()?;
    ensure!(killed["former_status"] == "running", "{killed}");
    until("a killed query has ended", TEN_SECONDS, || async {
        let status = admin.job_status(&twin).await?;
        ensure!(status == "killed", "it is {status}");
        Ok(())
    })
    .await?;
    installation.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_stays_revoked_over_a_restart() -> anyhow::Result<()> {
    let mut installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let product = installation.product("revoke").await?;
    let admin = installation.client(&product.admin_key)?;
    ensure!(
        installation.client(&product.read_key)?.get("/v3/database/list").await?.status == 200,
        "the key does not work"
    );

    revoke(&installation, "revoke", "read").await?;
    installation.kill_all().await?;
    installation.up().await?;

    until("the admin key works again", Duration::from_secs(60), || async {
        admin.get("/v3/database/list").await?.ok()
    })
    .await?;
    let answer = installation.client(&product.read_key)?.get("/v3/database/list").await?;
    ensure!(answer.status == 401, "status {}", answer.status);
    installation.finish().await
}

async fn running(client: &testkit::Client, job: &str) -> anyhow::Result<()> {
    until("the query runs", Duration::from_secs(30), || async {
        let status = client.job_status(job).await?;
        ensure!(status == "running", "it is {status}");
        Ok(())
    })
    .await
}

/// Revokes the one key of this kind, as an operator does: by the id that the list shows.
async fn revoke(installation: &Installation, product: &str, kind: &str) -> anyhow::Result<()> {
    let listed = installation
        .operator(&["keys", "list", "--product", product, "-o", "json"])
        .await?
        .ok()?;
    let listed: Vec<Value> = serde_json::from_str(&listed)?;
    let key = listed
        .iter()
        .find(|key| key["kind"] == kind)
        .with_context(|| format!("no {kind} key in {listed:?}"))?;
    let id = key["id"].as_str().context("a key without an id")?;
    installation.operator(&["keys", "revoke", id, "--yes"]).await?.ok()?;
    Ok(())
}
