//! Results of jobs: who may only ask cannot fill the disk.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use testkit::{Client, Installation};

use super::{DATABASE, PATIENCE};

/// Rows of one import, and how long the text of each is, in digits that do not compress to less than half.
const ROWS: usize = 400;
const DIGITS: usize = 1024;
/// What the results of one product may take: some three of them.
const PER_PRODUCT: usize = 750_000;

async fn filled(installation: &Installation, name: &str) -> anyhow::Result<Client> {
    let product = installation.product(name).await?;
    let client = installation.client(&product.admin_key)?;
    client.create_table(DATABASE, "events").await?;
    let mut bytes = vec![0; ROWS * DIGITS / 2];
    blake3::Hasher::new().update(name.as_bytes()).finalize_xof().fill(&mut bytes);
    let row = |text: &[u8]| json!({"time": 1_700_000_000, "text": hex::encode(text)});
    let rows: Vec<Value> = bytes.chunks(DIGITS / 2).map(row).collect();
    client.import(DATABASE, "events", None, &rows).await?.ok()?;
    Ok(client)
}

/// Asks for everything; the job, and how it ended.
async fn ask(client: &Client, sql: &str) -> anyhow::Result<(String, String)> {
    let job = client.issue(DATABASE, sql).await?;
    let ended = client.ended(&job, PATIENCE).await?;
    Ok((job, ended))
}

async fn has_result(client: &Client, job: &str) -> anyhow::Result<bool> {
    let answer = client.get(&format!("/v3/job/result/{job}?format=jsonl")).await?;
    match answer.status {
        200 => Ok(answer.text().lines().count() == ROWS),
        404 => {
            ensure!(answer.text().contains("result"), "it does not say what is gone: {}", answer.text());
            Ok(false)
        }
        other => anyhow::bail!("status {other}: {}", answer.text()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_results_of_a_product_make_way_and_no_other_products() -> anyhow::Result<()> {
    let mut installation = Installation::prepare(env!("CARGO_BIN_EXE_coffer")).await?;
    let limits = |per_product: usize| {
        format!(
            "[warehouse.jobs]\nresults_per_product = {per_product}\nresults_in_all = {}\n",
            PER_PRODUCT * 2
        )
    };
    installation.configure(&limits(PER_PRODUCT))?;
    installation.up().await?;
    let (one, other) = (filled(&installation, "one").await?, filled(&installation, "other").await?);
    let all = "SELECT text FROM events";
    let (others, ended) = ask(&other, all).await?;
    ensure!(ended == "success", "{ended}");
    let mut jobs = Vec::new();
    for _ in 0..6 {
        let (job, ended) = ask(&one, all).await?;
        ensure!(ended == "success", "a new result found no room: {ended}");
        jobs.push(job);
    }
    let mut kept = Vec::new();
    for job in &jobs {
        kept.push(has_result(&one, job).await?);
    }
    let newest = kept.iter().rev().take_while(|kept| **kept).count();
    ensure!((2..=4).contains(&newest), "{kept:?}");
    ensure!(kept.iter().filter(|kept| **kept).count() == newest, "not the oldest went: {kept:?}");
    ensure!(has_result(&other, &others).await?, "another product's result went");

    // A result that alone is too much says what to do, and leaves nothing behind.
    let (job, ended) = ask(&one, "SELECT a.text || b.text FROM events a, events b LIMIT 4000").await?;
    ensure!(ended == "error", "{ended}");
    let shown = one.get(&format!("/v3/job/show/{job}")).await?.ok()?.text();
    ensure!(
        shown.contains("fewer rows") && shown.contains("jobs.results_per_product"),
        "{shown}"
    );
    let (job, ended) = ask(&one, all).await?;
    ensure!(
        ended == "success" && has_result(&one, &job).await?,
        "nothing can be asked any more: {ended}"
    );

    // What is there counts after a start as well.
    installation.stop().await?;
    installation.configure(&limits(PER_PRODUCT))?;
    installation.up().await?;
    let (newer, ended) = ask(&one, all).await?;
    ensure!(ended == "success", "{ended}");
    for _ in 0..3 {
        ask(&one, all).await?;
    }
    ensure!(!has_result(&one, &job).await?, "what was there before the start was not counted");
    ensure!(has_result(&other, &others).await?, "another product's result went");
    let results = installation.data().join("roles/warehouse/products/1/results");
    let taken: u64 = std::fs::read_dir(results)?
        .map(|entry| Ok(entry?.metadata()?.len()))
        .sum::<std::io::Result<u64>>()
        .context("no results")?;
    ensure!(taken <= PER_PRODUCT as u64 + 200_000, "{taken} bytes after {newer}");
    installation.finish().await
}
