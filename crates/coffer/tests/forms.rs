//! Imports in every form that is taken make the same table; what does not fit a column is not lost, nor is a row that is broken.

use std::io::Write as _;

use anyhow::ensure;
use flate2::{Compression, write::GzEncoder, write::ZlibEncoder};
use http::Method;
use serde_json::json;
use testkit::{Installation, packed_rows};

const LINES: &str = r#"{"time":1700000000,"event":"buy","price":9.5,"tags":["a",{"b":null}],"email":"ada@example.com"}
{"time":"2023-11-14T22:13:21Z","event":"buy","count":12345678901234567890,"gift":true}
{"time":1700000002500,"event":"look \u2014 \"twice\"","price":3}"#;

fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_makes_the_same_table_and_nothing_is_lost() -> anyhow::Result<()> {
    let installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let product = installation.product("forms").await?;
    let client = installation.client(&product.admin_key)?;
    ensure!(client.post("/v3/database/create/forms", &[]).await?.status == 200);

    let rows: Vec<serde_json::Value> = LINES.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let array = format!(" [{}]\n", LINES.lines().collect::<Vec<_>>().join(" ,\n"));
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
    zlib.write_all(LINES.as_bytes())?;
    let bodies = [
        ("msgpack.gz", "application/octet-stream", "", packed_rows(&rows)),
        ("jsonl", "application/x-ndjson", "", LINES.into()),
        ("json", "application/json", "", array.clone().into()),
        ("json.gz", "application/octet-stream", "", gzip(array.as_bytes())?),
        ("jsonl", "application/x-ndjson", "gzip", gzip(LINES.as_bytes())?),
        ("jsonl", "", "deflate", zlib.finish()?),
    ];
    let mut first = None;
    for (number, (format, kind, encoding, body)) in bodies.into_iter().enumerate() {
        let table = format!("table_{number}");
        client.create_table("forms", &table).await?;
        let path = format!("/v3/table/import/forms/{table}/{format}");
        let sent = client.send_encoded(Method::PUT, &path, Some(kind), Some(encoding), body).await?;
        ensure!(sent.status == 200, "{format} {encoding}: {}", sent.text());
        let sql = format!(
            "SELECT time, event, price, tags, count, gift, email = person_id('ada@example.com'), _overflow FROM {table} ORDER BY time"
        );
        let stored = client.query("forms", &sql).await?;
        let expected = first.get_or_insert_with(|| stored.clone());
        ensure!(stored == *expected, "{format} {encoding}: {stored:?} instead of {expected:?}");
    }
    let expected = json!([
        [1_700_000_000, "buy", 9.5, "[\"a\",{\"b\":null}]", null, null, true, null],
        [1_700_000_001, "buy", null, null, "12345678901234567890", true, null, null],
        [
            1_700_000_002,
            "look — \"twice\"",
            3.0,
            null,
            null,
            null,
            null,
            "{\"time\":1700000002500}"
        ],
    ]);
    ensure!(json!(first) == expected, "{first:?}");

    let broken = format!("{LINES}\n{{\"event\":\n");
    let taken = client
        .send(Method::PUT, "/v3/table/import/forms/table_1/jsonl", None, broken.into_bytes())
        .await?;
    ensure!(taken.status == 200 && taken.json()?["rejected"] == json!(1), "{}", taken.text());
    ensure!(client.number("forms", "SELECT count(*) FROM table_1").await? == 6);
    installation.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_that_is_too_long_costs_its_own_row_and_no_other() -> anyhow::Result<()> {
    let installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let product = installation.product("long").await?;
    let client = installation.client(&product.admin_key)?;
    client.create_table("forms", "people").await?;
    let long = "x".repeat(1_025);
    let rows = [
        json!({"n": 1, "email": "ada"}),
        json!({"n": 2, "email": long}),
        json!({"n": 3, "email": "bob"}),
    ];

    let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
    let taken = client
        .send(Method::PUT, "/v3/table/import/forms/people/jsonl", None, lines.into_bytes())
        .await?;
    ensure!(taken.status == 200 && taken.json()?["rejected"] == json!(1), "{}", taken.text());
    let records = json!({ "events": rows }).to_string();
    let kind = Some("application/vnd.treasuredata.v1+json");
    let taken = client.send(Method::POST, "/forms/people", kind, records.into()).await?;
    let receipts = taken.ok()?.json()?;
    let told: Vec<_> = (0..3).map(|place| receipts["receipts"][place]["success"].clone()).collect();
    ensure!(told == [json!(true), json!(false), json!(true)], "{receipts}");

    let stored = client
        .query(
            "forms",
            "SELECT n, count(*), count(DISTINCT email) FROM people GROUP BY n ORDER BY n",
        )
        .await?;
    ensure!(json!(stored) == json!([[1, 2, 1], [3, 2, 1]]), "{stored:?}");
    let aside = client
        .query("forms", "SELECT reason, count(*) FROM \"people$rejected\" GROUP BY reason")
        .await?;
    ensure!(json!(aside) == json!([["identity", 2]]), "{aside:?}");
    installation.finish().await
}
