//! The records ingest as apps and pages use it: every media type, receipts in order, each record once however often it is sent.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base::Role;
use flate2::{Compression, write::GzEncoder};
use http::Method;
use serde_json::{Value, json};
use testkit::{Answer, Client, Installation, until};

const BATCH: &str = "application/vnd.treasuredata.v1+json";
const SINGLE: &str = "application/vnd.treasuredata.v1.single+json";
const BROWSER: &str = "application/vnd.treasuredata.v1.js+json";
const MOBILE: &str = "application/vnd.treasuredata.v1.mobile+json";

/// A record's own id: one for each number.
fn id(number: usize) -> String {
    format!("0e4f1c2a-9b7d-4c55-8f10-{number:012x}")
}

async fn send(client: &Client, table: &str, kind: &str, body: &Value) -> anyhow::Result<Answer> {
    client
        .send(Method::POST, &format!("/web/{table}"), Some(kind), body.to_string().into())
        .await
}

/// For each receipt of an answer whether it says success, and its id.
fn receipts(answer: Answer) -> anyhow::Result<Vec<(bool, String)>> {
    let body = answer.ok()?.json()?;
    let receipts = body["receipts"].as_array().with_context(|| format!("no receipts in {body}"))?;
    let read = |receipt: &Value| Some((receipt["success"].as_bool()?, receipt["uuid"].as_str()?.to_owned()));
    receipts.iter().map(|receipt| read(receipt).context("no receipt")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_media_type_is_taken_and_receipts_stand_in_the_order_of_the_records() -> anyhow::Result<()> {
    let installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let product = installation.product("records").await?;
    let admin = installation.client(&product.admin_key)?;
    let writer = installation.client(&product.write_key)?;

    // A key that only writes makes no table; one that may make tables does.
    let record = json!({"events": [{"n": 1, "td_ip": "td_ip"}]});
    let missing = send(&writer, "events", BATCH, &record).await?;
    ensure!(missing.status == 404, "{}: {}", missing.status, missing.text());
    ensure!(missing.text().contains("does not exist"), "{}", missing.text());
    ensure!(receipts(send(&admin, "events", BATCH, &record).await?)?.len() == 1);

    for (kind, body) in [
        (BATCH, json!({"records": [{"n": 2, "email": "ada@example.com"}]})),
        ("application/json", json!({"events": [{"n": 3}]})),
        (BROWSER, json!({"events": [{"n": 4, "td_ip": "td_ip"}, {"n": 5}]})),
        (MOBILE, json!({"events": [{"n": 6}, {"n": 7, "td_ip": "192.0.2.1"}]})),
    ] {
        let sent = send(&writer, "events", kind, &body).await?;
        let told = sent.headers.get("content-type").context("no content type")?.to_str()?.to_owned();
        ensure!(told == kind, "{kind} is answered as {told}");
        let receipts = receipts(sent)?;
        ensure!(receipts.iter().all(|(success, id)| *success && id.len() == 36), "{receipts:?}");
    }
    let single = send(&writer, "events", SINGLE, &json!({"n": 8, "uuid": id(8), "time": 1_700_000_000})).await?;
    let receipt = single.ok()?.json()?;
    ensure!(receipt == json!({"success": true, "uuid": id(8)}), "{receipt}");
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(json!({"events": [{"n": 9}]}).to_string().as_bytes())?;
    let sent = writer
        .send_encoded(Method::POST, "/web/events?modified=1", Some(BATCH), Some("gzip"), gzip.finish()?)
        .await?;
    ensure!(receipts(sent)?.len() == 1);

    let before = admin.query("web", "SELECT n, td_ip FROM events ORDER BY n").await?;
    let expected = json!([
        [1, "td_ip"],
        [2, null],
        [3, null],
        [4, "127.0.0.1"],
        [5, null],
        [6, "127.0.0.1"],
        [7, "192.0.2.1"],
        [8, null],
        [9, null]
    ]);
    ensure!(json!(before) == expected, "{before:?}");
    let asked = "SELECT count(*) FROM events WHERE (email = person_id('ada@example.com')) OR (n = 8 AND time = 1700000000)";
    ensure!(admin.number("web", asked).await? == 2);
    let columns = admin.query("web", "DESCRIBE events").await?;
    ensure!(!json!(columns).to_string().contains("uuid"), "{columns:?}");

    let mixed = json!({"events": [
        {"n": 20, "uuid": id(20)}, {"n": 21, "uuid": id(21), "time": "never"}, 22, {"n": 23, "uuid": "no id"}, {"": 24}, {"n": 25, "uuid": id(25)}
    ]});
    let sent = send(&writer, "events", BATCH, &mixed).await?;
    let names: Vec<Value> = sent.json()?["receipts"]
        .as_array()
        .context("no receipts")?
        .iter()
        .map(|receipt| receipt["error"]["name"].clone())
        .collect();
    let (name, value) = ("InvalidPropertyNameError", "InvalidPropertyValueError");
    ensure!(json!(names) == json!([null, value, value, null, name, null]), "{names:?}");
    let told = receipts(sent)?;
    ensure!(
        told.iter().map(|(success, _)| *success).collect::<Vec<_>>() == [true, false, false, true, false, true],
        "{told:?}"
    );
    ensure!((&told[0].1, &told[1].1, &told[5].1) == (&id(20), &id(21), &id(25)), "{told:?}");
    let stored = admin.query("web", "SELECT n, uuid FROM events WHERE n >= 20 ORDER BY n").await?;
    ensure!(json!(stored) == json!([[20, null], [23, "no id"], [25, null]]), "{stored:?}");
    // Its sender may drop what cannot be a row: it is kept here.
    let kept = admin.get("/v1/rejected/web/events").await?.ok()?.json()?;
    let mut contents: Vec<&str> = kept["rejected"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|row| row["content"].as_str())
        .collect();
    contents.sort_unstable();
    let never = json!({"n": 21, "uuid": id(21), "time": "never"}).to_string();
    ensure!(contents == ["22", "{\"\":24}", never.as_str()], "{contents:?}");
    installation.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_records_or_too_many_or_not_allowed_is_refused_whole() -> anyhow::Result<()> {
    let installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let product = installation.product("limits").await?;
    let admin = installation.client(&product.admin_key)?;
    admin.create_table("web", "events").await?;
    let writer = installation.client(&product.write_key)?;
    let many = |count: usize| json!({ "events": vec![json!({"n": 1}); count] });

    for (client, status) in [
        (installation.anonymous()?, 401),
        (installation.client(&format!("{}/{}", product.number, "0".repeat(64)))?, 401),
        (installation.client(&product.read_key)?, 403),
    ] {
        let refused = send(&client, "events", BATCH, &many(1)).await?;
        ensure!(
            refused.status == status,
            "{} instead of {status}: {}",
            refused.status,
            refused.text()
        );
    }
    let large = |parts: usize| json!({ "records": vec![json!({"a": "x".repeat(1_000_000)}); parts] });
    for (body, status) in [
        (many(501), 413),
        (large(6), 413),
        (many(0), 400),
        (json!([{"n": 1}]), 400),
        (json!({"n": 1}), 400),
    ] {
        let refused = send(&writer, "events", BATCH, &body).await?;
        ensure!(
            refused.status == status,
            "{} instead of {status}: {}",
            refused.status,
            refused.text()
        );
    }
    let typed = send(&writer, "events", "text/plain", &many(1)).await?;
    ensure!(typed.status == 415 && typed.text().contains(SINGLE), "{}", typed.text());
    let broken = writer
        .send(
            Method::POST,
            "/web/events",
            Some(BATCH),
            b"{\"events\":[{\"n\":1},{\"n\"]}".to_vec(),
        )
        .await?;
    ensure!(broken.status == 400, "{}", broken.status);
    let elsewhere = send(&writer, "nowhere", BATCH, &many(1)).await?;
    ensure!(elsewhere.status == 404, "{}", elsewhere.status);
    ensure!(admin.number("web", "SELECT count(*) FROM events").await? == 0);

    // One record too large does no harm to its neighbours.
    let one = json!({"events": [{"n": 1}, {"a": "x".repeat(1_100_000)}, {"n": 3}]});
    let told: Vec<bool> = receipts(send(&writer, "events", BATCH, &one).await?)?
        .into_iter()
        .map(|(success, _)| success)
        .collect();
    ensure!(told == [true, false, true], "{told:?}");
    ensure!(receipts(send(&writer, "events", BATCH, &many(500)).await?)?.len() == 500);
    ensure!(receipts(send(&writer, "events", BATCH, &large(4)).await?)?.len() == 4);
    ensure!(admin.number("web", "SELECT count(*) FROM events").await? == 506);
    installation.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_was_set_aside_is_stored_once_however_often_it_was_sent_before_and_after_a_replay() -> anyhow::Result<()> {
    let mut installation = Installation::prepare(env!("CARGO_BIN_EXE_coffer")).await?;
    installation.configure("[gateway.limits]\nmax_keys = 3\n")?;
    installation.up().await?;
    let product = installation.product("aside").await?;
    let admin = installation.client(&product.admin_key)?;
    admin.create_table("web", "events").await?;
    let writer = installation.client(&product.write_key)?;

    let record = |n: usize| json!({"n": n, "uuid": id(n), "a": 1, "b": 2, "c": 3});
    // The first is set aside twice, the second is sent again once it can be a row, the third has no id.
    let nameless = json!({"n": 3, "a": 1, "b": 2, "c": 3});
    for body in [json!({"events": [record(1), record(2), nameless]}), json!({"records": [record(1)]})] {
        let told = receipts(send(&writer, "events", BATCH, &body).await?)?;
        ensure!(told.iter().all(|(success, _)| !*success), "{told:?}");
    }
    installation.stop().await?;
    installation.configure("")?;
    installation.up().await?;
    ensure!(receipts(send(&writer, "events", BATCH, &json!({"events": [record(2)]})).await?)?[0].0);

    let replay = "/v1/rejected/web/events/replay";
    let tried = admin.post(replay, &[]).await?.ok()?.json()?;
    ensure!(tried["taken"] == json!(4) && tried["left"] == json!([]), "{tried}");
    let left = admin.get("/v1/rejected/web/events").await?.ok()?.json()?;
    ensure!(left["rejected"] == json!([]), "what was taken is still there: {left}");
    let tried = admin.post(replay, &[]).await?.ok()?.json()?;
    ensure!(tried["taken"] == json!(0), "{tried}");
    ensure!(receipts(send(&writer, "events", BATCH, &json!({"events": [record(1)]})).await?)?[0].0);

    let stored = admin.query("web", "SELECT n, c FROM events ORDER BY n").await?;
    ensure!(json!(stored) == json!([[1, 3], [2, 3], [3, 3]]), "{stored:?}");
    let columns = admin.query("web", "DESCRIBE events").await?;
    ensure!(!json!(columns).to_string().contains("uuid"), "{columns:?}");
    installation.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn records_sent_again_until_they_are_acknowledged_are_there_once_however_often_the_warehouse_is_killed() -> anyhow::Result<()> {
    const EACH: usize = 20;
    let back = Duration::from_secs(90);
    let mut installation = Installation::prepare(env!("CARGO_BIN_EXE_coffer")).await?;
    // Files are written and merged all the time, so that kills fall into that as well.
    installation.configure("[warehouse.flush]\nafter = \"1s\"\nmerge_files = 3\n")?;
    installation.up().await?;
    let product = installation.product("once").await?;
    let admin = installation.client(&product.admin_key)?;
    admin.create_table("web", "events").await?;
    let writer = installation.client(&product.write_key)?;

    let mut sent = 0;
    for round in 0..6 {
        // Half of what the last request had comes again, in other company, from two senders at once, while the warehouse is killed.
        let from = sent - (EACH / 2).min(sent);
        let records: Vec<Value> = (from..from + EACH)
            .map(|n| json!({"n": n, "uuid": id(n), "round": round}))
            .collect();
        let mut backwards = records.clone();
        backwards.reverse();
        let (one, other) = (json!({ "events": records }), json!({ "records": backwards }));
        let until_taken = |body: Value| {
            let writer = writer.clone();
            async move {
                until("the records are taken", back, || async {
                    let told = receipts(send(&writer, "events", BATCH, &body).await?)?;
                    ensure!(told.len() == EACH && told.iter().all(|(success, _)| *success), "{told:?}");
                    Ok(())
                })
                .await
            }
        };
        let senders = [tokio::spawn(until_taken(one)), tokio::spawn(until_taken(other))];
        installation.kill(Role::Warehouse)?;
        for sender in senders {
            sender.await??;
        }
        sent = from + EACH;
    }
    let counted = "SELECT count(*), count(DISTINCT n), min(n), max(n) FROM events";
    let expected = json!([[sent, sent, 0, sent - 1]]);
    for life in 0..2 {
        let rows = until("it answers", back, || admin.query("web", counted)).await?;
        ensure!(json!(rows) == expected, "life {life}: {rows:?} instead of {expected}");
        installation.kill_all().await?;
        installation.up().await?;
    }
    // Long after, all of it once more: nothing is new.
    let all: Vec<Value> = (0..sent).map(|n| json!({"n": n, "uuid": id(n)})).collect();
    let told = receipts(send(&writer, "events", BATCH, &json!({ "events": all })).await?)?;
    ensure!(told.iter().all(|(success, _)| *success));
    ensure!(json!(admin.query("web", counted).await?) == expected);
    installation.finish().await
}
