//! Results, through the real binary: every format says the same rows, sizes and ranges are exact, millions of rows stream while the roles'
//! memory stays flat, and nothing of a job that did not succeed stays on the disk.

use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use base::Role;
use flate2::bufread::GzDecoder;
use serde_json::json;
use testkit::{Client, Installation, Product, until};

const DATABASE: &str = "results";
/// How long the largest job here may take on a busy machine.
const LONG: Duration = Duration::from_secs(280);

async fn finished(client: &Client, sql: &str) -> anyhow::Result<String> {
    let job = client.issue(DATABASE, sql).await?;
    let status = client.ended(&job, LONG).await?;
    if status != "success" {
        let shown = client.get(&format!("/v3/job/show/{job}")).await?.ok()?.text();
        bail!("job {job} ended with {status}: {shown}");
    }
    Ok(job)
}

async fn body(client: &Client, job: &str, format: &str) -> anyhow::Result<(String, String)> {
    let answer = client.get(&format!("/v3/job/result/{job}?format={format}")).await?.ok()?;
    let content_type = answer.headers.get("content-type").and_then(|value| value.to_str().ok());
    Ok((content_type.unwrap_or_default().to_owned(), answer.text()))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_says_the_same_rows_and_ranges_are_exact() -> anyhow::Result<()> {
    let installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let product = installation.product("results").await?;
    let admin = installation.client(&product.admin_key)?;
    admin.create_table(DATABASE, "events").await?;
    let rows = [
        json!({"time": 1, "text": "say \"hi\", you", "n": i64::MAX, "price": 0.1, "ok": true, "tags": {"a": [1, null]}}),
        json!({"time": 2, "text": "", "n": -1, "price": 5.0, "ok": false}),
        json!({"time": 3, "text": "tab\tand\nline", "price": 1e300}),
        json!({"time": 4, "n": 0, "text": "Größe ✓"}),
    ];
    admin.import(DATABASE, "events", None, &rows).await?.ok()?;
    let reader = installation.client(&product.read_key)?;
    let job = finished(&reader, "SELECT n, text, price, ok, tags FROM events ORDER BY time").await?;

    let csv = "9223372036854775807,\"say \"\"hi\"\", you\",0.1,true,\"{\"\"a\"\":[1,null]}\"\n\
               -1,\"\",5.0,false,\n\
               ,\"tab\tand\nline\",1e300,,\n\
               0,Größe ✓,,,\n";
    let tsv = "9223372036854775807\t\"say \"\"hi\"\", you\"\t0.1\ttrue\t\"{\"\"a\"\":[1,null]}\"\n\
               -1\t\"\"\t5.0\tfalse\t\n\
               \t\"tab\tand\nline\"\t1e300\t\t\n\
               0\tGröße ✓\t\t\t\n";
    // A column of the type JSON is a text, in every format.
    let jsonl = [
        r#"{"n":9223372036854775807,"text":"say \"hi\", you","price":0.1,"ok":true,"tags":"{\"a\":[1,null]}"}"#,
        r#"{"n":-1,"text":"","price":5.0,"ok":false,"tags":null}"#,
        r#"{"n":null,"text":"tab\tand\nline","price":1e300,"ok":null,"tags":null}"#,
        r#"{"n":0,"text":"Größe ✓","price":null,"ok":null,"tags":null}"#,
    ];
    let jsonl: String = jsonl.iter().map(|line| format!("{line}\n")).collect();
    let names = "n,text,price,ok,tags\n";
    for (format, content_type, expected) in [
        ("csv", "text/csv; charset=utf-8", csv.to_owned()),
        ("csv&header=True", "text/csv; charset=utf-8", format!("{names}{csv}")),
        ("tsv", "text/tab-separated-values; charset=utf-8", tsv.to_owned()),
        (
            "tsv&header=true",
            "text/tab-separated-values; charset=utf-8",
            format!("{}{tsv}", names.replace(',', "\t")),
        ),
        ("jsonl", "application/x-ndjson; charset=utf-8", jsonl.clone()),
        ("jsonl&header=true", "application/x-ndjson; charset=utf-8", jsonl),
    ] {
        let (kind, text) = body(&reader, &job, format).await?;
        ensure!(kind == content_type, "{format}: {kind}");
        ensure!(text == expected, "{format}:\n{text}\ninstead of\n{expected}");
    }
    let (_, json) = body(&reader, &job, "json&header=True").await?;
    ensure!(
        json.starts_with("[\"n\",\"text\",\"price\",\"ok\",\"tags\"]\n[9223372036854775807,"),
        "{json}"
    );

    // What is compressed inflates to the same.
    let packed = reader.get(&format!("/v3/job/result/{job}?format=csv.gz")).await?.ok()?;
    ensure!(
        packed.headers.get("content-encoding").is_none(),
        "a client would inflate it unasked"
    );
    let mut inflated = String::new();
    GzDecoder::new(packed.body.as_ref()).read_to_string(&mut inflated)?;
    ensure!(inflated == csv, "csv.gz holds {inflated}");
    ensure!(
        reader.get(&format!("/v3/job/result/{job}?format=xml")).await?.status == 400,
        "there is no xml"
    );

    ranges(&reader).await?;
    installation.finish().await
}

/// `result_size` is the length to the byte, and any range is that part, across what is stored and sent at a time.
async fn ranges(reader: &Client) -> anyhow::Result<()> {
    let job = finished(reader, "SELECT value, md5(CAST(value AS varchar)) FROM generate_series(1, 200000)").await?;
    let shown = reader.get(&format!("/v3/job/show/{job}")).await?.ok()?.json()?;
    let size = shown["result_size"].as_u64().context("no result_size")?;
    ensure!(size > 3 << 20, "{size} bytes cross no boundary");
    let path = format!("/v3/job/result/{job}?format=msgpack.gz");
    let whole = reader.get(&path).await?.ok()?.body;
    ensure!(whole.len() as u64 == size, "{} bytes instead of {size}", whole.len());
    let (frame, part) = (64 << 10, 1 << 20);
    for (first, last) in [
        (0, 0),
        (0, size - 1),
        (frame - 1, frame),
        (part - 1, part),
        (part, 2 * part - 1),
        (part - 5, 2 * part + 5),
        (size - 1, size + 100),
    ] {
        let answer = reader.get_range(&path, first, last).await?;
        ensure!(answer.status == 206, "{first}-{last}: status {}", answer.status);
        let last = last.min(size - 1);
        let said = answer.headers.get("content-range").and_then(|value| value.to_str().ok());
        ensure!(said == Some(format!("bytes {first}-{last}/{size}").as_str()), "{said:?}");
        let expected = &whole[usize::try_from(first)?..=usize::try_from(last)?];
        ensure!(answer.body.as_ref() == expected, "{first}-{last} are other bytes");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn millions_of_rows_stream_while_memory_stays_flat() -> anyhow::Result<()> {
    const ROWS: u64 = 2_000_000;
    /// What a role may take more for any of it than it took for a small result. The result is larger.
    const MORE: u64 = 48 << 20;
    let installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let product = installation.product("results").await?;
    let admin = installation.client(&product.admin_key)?;
    admin.create_table(DATABASE, "events").await?;
    let reader = installation.client(&product.read_key)?;
    let sql = |rows: u64| {
        format!("SELECT value, md5(CAST(value AS varchar)) AS a, md5(CAST(-value AS varchar)) AS b FROM generate_series(1, {rows})")
    };
    let formats = ["csv", "jsonl", "msgpack.gz"];
    let mut before = Vec::new();
    let mut size = 0;
    for rows in [50_000, ROWS] {
        let job = finished(&reader, &sql(rows)).await?;
        for format in formats {
            let (mut bytes, mut lines) = (0_u64, 0_u64);
            let path = format!("/v3/job/result/{job}?format={format}");
            let count = |piece: &[u8]| {
                bytes += piece.len() as u64;
                lines += piece.iter().filter(|byte| **byte == b'\n').count() as u64;
            };
            reader.get_in_pieces(&path, count).await?;
            ensure!(format == "msgpack.gz" || lines == rows, "{format}: {lines} lines");
            size = bytes;
        }
        if before.is_empty() {
            before = peaks(&installation)?;
        }
    }
    ensure!(size > 60 << 20, "a result of {size} bytes shows nothing");
    for ((role, before), (_, after)) in before.into_iter().zip(peaks(&installation)?) {
        eprintln!("{role}: at most {} MiB, then {} MiB", before >> 20, after >> 20);
        ensure!(after < before + MORE, "{role} took {} MiB more", (after - before) >> 20);
    }
    installation.finish().await
}

fn peaks(installation: &Installation) -> anyhow::Result<Vec<(Role, u64)>> {
    [Role::Warehouse, Role::Gateway]
        .into_iter()
        .map(|role| Ok((role, installation.peak_memory(role)?)))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_result_stays_unless_its_job_succeeded() -> anyhow::Result<()> {
    let mut installation = Installation::prepare(env!("CARGO_BIN_EXE_coffer")).await?;
    installation.configure("[warehouse.jobs]\nresult_bytes = 5_000_000")?;
    installation.up().await?;
    let product = installation.product("results").await?;
    let admin = installation.client(&product.admin_key)?;
    admin.create_table(DATABASE, "events").await?;
    let reader = installation.client(&product.read_key)?;
    let kept = finished(&reader, "SELECT 1").await?;
    let only = [format!("{kept}.sealed")];
    ensure!(results(&installation, &product)? == only, "the result that is there");

    // Larger than it may be.
    let noise = "SELECT md5(CAST(value AS varchar)) FROM generate_series(1, 100000000)";
    let job = reader.issue(DATABASE, noise).await?;
    ensure!(reader.ended(&job, LONG).await? == "error", "it is too large");
    let shown = reader.get(&format!("/v3/job/show/{job}")).await?.ok()?.json()?;
    let said = shown["debug"]["stderr"].as_str().unwrap_or_default();
    ensure!(said.contains("5000000 bytes") && said.contains("LIMIT"), "{said}");
    ensure!(results(&installation, &product)? == only, "after an error");

    // Killed while it is written: rows without end that compress to nothing.
    let endless = "SELECT 1 AS one FROM generate_series(1, 9000000000000000000)";
    let job = reader.issue(DATABASE, endless).await?;
    writing(&installation, &product, &job).await?;
    reader.post(&format!("/v3/job/kill/{job}"), &[]).await?.ok()?;
    ensure!(reader.ended(&job, LONG).await? == "killed", "it was killed");
    until("the killed job's file is gone", Duration::from_secs(10), || async {
        ensure!(results(&installation, &product)? == only, "it is there");
        Ok(())
    })
    .await?;

    // And when everything dies in the middle.
    let job = reader.issue(DATABASE, endless).await?;
    writing(&installation, &product, &job).await?;
    installation.kill_all().await?;
    ensure!(results(&installation, &product)?.len() == 2, "a kill tidies nothing up");
    installation.up().await?;
    ensure!(reader.ended(&job, LONG).await? == "error", "it did not survive");
    ensure!(results(&installation, &product)? == only, "after a crash");
    ensure!(body(&reader, &kept, "csv").await?.1 == "1\n", "the first result is still there");
    installation.finish().await
}

async fn writing(installation: &Installation, product: &Product, job: &str) -> anyhow::Result<()> {
    let unfinished = format!("{job}.new");
    until("the job writes", Duration::from_secs(60), || async {
        ensure!(results(installation, product)?.contains(&unfinished), "not yet");
        Ok(())
    })
    .await
}

fn results(installation: &Installation, product: &Product) -> anyhow::Result<Vec<String>> {
    let directory: PathBuf = installation
        .data()
        .join(format!("roles/warehouse/products/{}/results", product.number));
    let entries = fs::read_dir(&directory).with_context(|| format!("no {}", directory.display()))?;
    let mut names: Vec<String> = entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<anyhow::Result<_>>()?;
    names.sort();
    Ok(names)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_streams_rows_and_shows_the_first_in_a_table() -> anyhow::Result<()> {
    let installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let product = installation.product("results").await?;
    let admin = installation.client(&product.admin_key)?;
    admin.create_table(DATABASE, "events").await?;
    let key = [("COFFER_READ_KEY", product.read_key.as_str())];
    let sql =
        "SELECT value, CASE WHEN value > 1 THEN 'a,b' ELSE '' END AS text, NULL AS nothing FROM generate_series(1, 10001) ORDER BY value";
    let asked = async |form| installation.user(&["sql", "-d", DATABASE, "-o", form, sql], &key).await;

    let csv = asked("csv").await?.ok()?;
    let job = finished(&admin, sql).await?;
    ensure!(
        csv == body(&admin, &job, "csv&header=true").await?.1,
        "the csv of the API is another"
    );
    let jsonl = asked("jsonl").await?.ok()?;
    ensure!(jsonl == body(&admin, &job, "jsonl").await?.1, "the jsonl of the API is another");
    let table = asked("table").await?;
    ensure!(
        table.stderr.contains("the first 10000 of 10001 rows") && table.stderr.contains("-o csv"),
        "{}",
        table.stderr
    );
    ensure!(
        table.ok()?.lines().filter(|line| line.contains("NULL")).count() == 10_000,
        "other rows are shown"
    );
    installation.finish().await
}
