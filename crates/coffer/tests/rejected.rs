//! What cannot be a row is set aside and its batch goes on: nothing that was sent is dropped, each thing is there once whatever is
//! killed, only who may read and manage sees it, and it can be tried again.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base::Role;
use http::Method;
use serde_json::{Value, json};
use testkit::{Answer, Client, Installation, Product, gzip, until};

const DATABASE: &str = "web";
const SOON: Duration = Duration::from_secs(90);

/// A msgpack map of a time and `n`.
fn good(n: u8) -> Vec<u8> {
    [&b"\x82\xa4time\xce\x65\x53\xf1\x00\xa1n\xcc"[..], &[n]].concat()
}

/// One of each kind that msgpack can hold, with the name of its fault.
fn bad_in_msgpack() -> Vec<(&'static str, Vec<u8>)> {
    let keys: Vec<u8> = (0..1_001_u16)
        .flat_map(|n| [&[0xa5][..], format!("k{n:04}").as_bytes(), &[1]].concat())
        .collect();
    vec![
        ("not_a_map", b"\x93\x01\xa5texts\xc0".to_vec()),
        ("not_a_map", b"\xb6a line of another form".to_vec()),
        ("key_not_text", b"\x81\x07\x01".to_vec()),
        ("key_not_text", b"\x81\xa2\xff\xfe\x01".to_vec()),
        ("key_name", b"\x81\xa0\x01".to_vec()),
        ("time", b"\x82\xa4time\xa4soon\xa5email\xafada@example.com".to_vec()),
        ("too_deep", [&b"\x81\xa1x"[..], &[0x91; 40], &[0xc0]].concat()),
        ("too_many_keys", [&[0xde, 0x03, 0xe9][..], &keys].concat()),
        ("too_large", [&b"\x81\xa1x\xdb\x00\x20\x00\x00"[..], &vec![b'x'; 2 << 20]].concat()),
    ]
}

const BAD_IN_JSON: [(&str, &[u8]); 4] = [
    ("not_json", b"{\"n\":1,"),
    ("not_utf8", b"{\"word\":\"\xff\"}"),
    ("not_a_map", b"[{\"n\":1}]"),
    ("time", b"{\"time\":\"soon\",\"n\":3}"),
];

async fn send(client: &Client, table: &str, id: &str, format: &str, body: Vec<u8>) -> anyhow::Result<Answer> {
    let path = format!("/v3/table/import_with_id/{DATABASE}/{table}/{id}/{format}");
    client.send(Method::PUT, &path, None, body).await
}

async fn reasons(client: &Client, table: &str) -> anyhow::Result<BTreeMap<String, i64>> {
    let sql = format!("SELECT reason, count(*) FROM \"{table}$rejected\" GROUP BY 1");
    let rows = client.query(DATABASE, &sql).await?;
    let pair = |row: &Vec<Value>| Some((row.first()?.as_str()?.to_owned(), row.get(1)?.as_i64()?));
    rows.iter().map(pair).collect::<Option<_>>().context("no counts")
}

/// Everything that is shown, over as many pages as it takes.
async fn shown(client: &Client, table: &str, page: usize) -> anyhow::Result<Vec<Value>> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/rejected/{DATABASE}/{table}?count={page}{after}");
        let answer = client.get(&path).await?.ok()?.json()?;
        all.extend(answer["rejected"].as_array().context("no list")?.iter().cloned());
        match answer["next"].as_str() {
            Some(next) => after = format!("&after={}", next.replace('/', "%2F")),
            None => return Ok(all),
        }
    }
}

fn content(shown: &Value) -> Option<Vec<u8>> {
    match (&shown["content"], &shown["content_hex"]) {
        (Value::String(text), Value::Null) => Some(text.clone().into_bytes()),
        (Value::Null, Value::String(bytes)) => hex::decode(bytes).ok(),
        _ => None,
    }
}

async fn with_table(installation: &Installation, name: &str) -> anyhow::Result<(Product, Client)> {
    let product = installation.product(name).await?;
    let client = installation.client(&product.admin_key)?;
    client.create_table(DATABASE, "events").await?;
    Ok((product, client))
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_cannot_be_a_row_is_set_aside_as_it_was_sent_and_the_others_are_taken() -> anyhow::Result<()> {
    let installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let (product, client) = with_table(&installation, "aside").await?;
    let sender = client.with_key(&product.write_key);

    // Each between two that are good.
    let bad = bad_in_msgpack();
    let mut body = good(0);
    for (n, (_, bytes)) in (1..).zip(&bad) {
        body.extend_from_slice(bytes);
        body.extend(good(n));
    }
    let lines: Vec<u8> = BAD_IN_JSON
        .iter()
        .flat_map(|(_, line)| [line, &b"\n{\"n\":100}\n"[..]].concat())
        .collect();
    for again in [false, true] {
        let taken = send(&sender, "events", "one", "msgpack.gz", gzip(&body)).await?.ok()?.json()?;
        ensure!(taken["rejected"] == json!(bad.len()), "again {again}: {taken}");
        let taken = send(&sender, "events", "two", "jsonl", lines.clone()).await?.ok()?.json()?;
        ensure!(taken["rejected"] == json!(BAD_IN_JSON.len()), "again {again}: {taken}");
    }
    let taken = send(&sender, "events", "three", "json", b"{\"n\":5}".to_vec())
        .await?
        .ok()?
        .json()?;
    ensure!(taken.get("rejected").is_none(), "{taken}");

    // Of what was sent nothing is missing and nothing is there twice.
    let good_rows = bad.len() + 1 + BAD_IN_JSON.len() + 1;
    ensure!(client.number(DATABASE, "SELECT count(*) FROM events").await? == good_rows as i64);
    let mut expected = BTreeMap::new();
    for reason in bad.iter().map(|(reason, _)| *reason).chain(BAD_IN_JSON.map(|(reason, _)| reason)) {
        *expected.entry(reason.to_owned()).or_insert(0) += 1;
    }
    ensure!(
        reasons(&client, "events").await? == expected,
        "{:?}",
        reasons(&client, "events").await?
    );
    let all = shown(&client, "events", 4).await?;
    let mut sent: Vec<(&str, Vec<u8>)> = bad.clone();
    sent.extend(BAD_IN_JSON.map(|(reason, line)| (reason, line.to_vec())));
    ensure!(all.len() == sent.len(), "{} are shown", all.len());
    for (shown, (reason, bytes)) in all.iter().zip(&sent) {
        ensure!(
            shown["reason"] == json!(reason) && content(shown).as_ref() == Some(bytes),
            "{shown} instead of {reason}"
        );
        ensure!(
            shown["bytes"] == json!(bytes.len()) && shown["time"].as_i64() > Some(1_700_000_000),
            "{shown}"
        );
    }
    ensure!(
        all[0]["row"] == json!(2) && all[0]["import_id"] == json!("one") && all[0]["key_id"].is_string(),
        "{}",
        all[0]
    );

    what_stays_refused(&sender).await?;
    who_sees_it(&installation, &product, &client).await?;

    // It goes with its table.
    client.post(&format!("/v3/table/delete/{DATABASE}/events"), &[]).await?.ok()?;
    client.create_table(DATABASE, "events").await?;
    ensure!(shown(&client, "events", 100).await?.is_empty());
    installation.finish().await
}

/// A body of which nothing can be told is refused whole.
async fn what_stays_refused(sender: &Client) -> anyhow::Result<()> {
    for (format, body, words) in [
        ("msgpack", b"time,n\n1,2\n".to_vec(), "the body is not msgpack"),
        ("msgpack", [&good(1)[..], b"\xc1"].concat(), "row 2 is not valid msgpack"),
        ("msgpack", [&good(1)[..], b"\x82\xa1"].concat(), "the body ends inside row 2"),
        ("jsonl", b"<html>\n<p>\n".to_vec(), "the body is not JSON"),
        ("msgpack.gz", b"no gzip".to_vec(), ""),
    ] {
        let refused = send(sender, "events", "refused", format, body).await?;
        ensure!(
            refused.status == 400 && refused.text().contains(words),
            "{}: {}",
            refused.status,
            refused.text()
        );
    }
    let nobody = send(sender, "events$rejected", "x", "jsonl", b"{\"reason\":\"replayed\"}".to_vec()).await?;
    ensure!(nobody.status == 404, "the table beside can be written to: {}", nobody.status);
    Ok(())
}

async fn who_sees_it(installation: &Installation, product: &Product, client: &Client) -> anyhow::Result<()> {
    // SQL sees that it is there, sealed; lists of tables do not.
    let reader = client.with_key(&product.read_key);
    for name in ["\"events$rejected\"", "events$rejected"] {
        let described = reader.query(DATABASE, &format!("DESCRIBE {name}")).await?;
        ensure!(described.iter().any(|row| row[0] == json!("sealed")), "{described:?}");
    }
    let stored = reader.query(DATABASE, "SELECT * FROM \"events$rejected\"").await?;
    ensure!(
        !stored.is_empty() && !json!(stored).to_string().contains("ada@example.com"),
        "it is there in clear"
    );
    let listed = client.get(&format!("/v3/table/list/{DATABASE}")).await?.ok()?.json()?;
    ensure!(listed["tables"].as_array().is_some_and(|tables| tables.len() == 1), "{listed}");
    let databases = client.get("/v3/database/list").await?.ok()?.json()?;
    ensure!(databases["databases"][0]["count"] == listed["tables"][0]["count"], "{databases}");

    let path = format!("/v1/rejected/{DATABASE}/events");
    for key in [&product.write_key, &product.read_key] {
        let small = client.with_key(key);
        ensure!(small.get(&path).await?.status == 403, "a smaller key sees it");
        ensure!(small.post(&format!("{path}/replay"), &[]).await?.status == 403);
    }
    // Another product has a table of the same name, and nothing set aside there.
    let (_, stranger) = with_table(installation, "stranger").await?;
    ensure!(shown(&stranger, "events", 100).await?.is_empty());
    ensure!(stranger.get("/v1/rejected/web/none").await?.status == 404);
    for wrong in ["?after=x", "?after=1%2F1", "?count=0", "?count=1001"] {
        ensure!(client.get(&format!("{path}{wrong}")).await?.status == 400, "{wrong}");
    }
    ensure!(client.post(&format!("{path}/replay"), &[("dry_run", "perhaps")]).await?.status == 400);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_killed_rows_and_what_cannot_be_one_are_there_exactly_once() -> anyhow::Result<()> {
    let mut installation = Installation::prepare(env!("CARGO_BIN_EXE_coffer")).await?;
    installation.configure("[warehouse.flush]\nafter = \"1s\"\nmerge_files = 3\n")?;
    installation.up().await?;
    let (product, client) = with_table(&installation, "killed").await?;
    let sender = client.with_key(&product.write_key);
    let victims = [Role::Warehouse, Role::Gateway, Role::Identity, Role::Warehouse];

    let mut sent = 0;
    for round in 0..16_usize {
        let id = format!("body-{round}");
        let body = format!("{{\"body\":{round}}}\n{{\"body\":{round},\"time\":\"soon\"}}\n");
        let attempt = send(&sender, "events", &id, "jsonl", body.clone().into_bytes());
        // In the middle of it, or as good as.
        let kill = async {
            tokio::time::sleep(Duration::from_millis(3 * (round as u64 % 6))).await;
            if round % 8 == 7 {
                Ok(())
            } else {
                installation.kill(victims[round % 4])
            }
        };
        let (_, killed) = tokio::join!(attempt, kill);
        killed?;
        if round % 8 == 7 {
            installation.kill_all().await?;
            installation.up().await?;
        }
        until("the body is taken", SOON, || async {
            let taken = send(&sender, "events", &id, "jsonl", body.clone().into_bytes())
                .await?
                .ok()?
                .json()?;
            ensure!(taken["rejected"] == json!(1), "{taken}");
            Ok(())
        })
        .await?;
        sent += 1;
    }
    for again in [false, true] {
        if again {
            installation.kill_all().await?;
            installation.up().await?;
        }
        let count = until("a query is answered", SOON, || {
            client.number(DATABASE, "SELECT count(DISTINCT body) FROM events")
        })
        .await?;
        ensure!(
            count == sent && client.number(DATABASE, "SELECT count(*) FROM events").await? == sent,
            "{count} bodies"
        );
        let aside = shown(&client, "events", 5).await?;
        let mut ids: Vec<_> = aside.iter().filter_map(|one| one["import_id"].as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        ensure!(
            aside.len() == sent as usize && ids.len() == aside.len(),
            "{} set aside, {} bodies",
            aside.len(),
            ids.len()
        );
        for one in &aside {
            let round = one["import_id"].as_str().and_then(|id| id.strip_prefix("body-")).context("no id")?;
            ensure!(one["content"] == json!(format!("{{\"body\":{round},\"time\":\"soon\"}}")), "{one}");
        }
    }
    installation.finish().await
}

/// The command as somebody with one key of the product runs it.
async fn coffer(installation: &Installation, key: (&str, &str), words: &[&str]) -> anyhow::Result<(i32, String, String)> {
    let (endpoint, ca, home) = (installation.endpoint(), installation.ca(), installation.aside("home"));
    let command = tokio::process::Command::new(env!("CARGO_BIN_EXE_coffer"))
        .args(words)
        .env_clear()
        .env("HOME", home)
        .env("COFFER_ENDPOINT", endpoint)
        .env("COFFER_CA", ca)
        .env(key.0, key.1)
        .stdin(std::process::Stdio::null())
        .output();
    let ran = tokio::time::timeout(SOON, command).await.context("it does not end")??;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((ran.status.code().context("it was killed")?, text(&ran.stdout), text(&ran.stderr)))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_set_aside_is_taken_once_a_limit_is_raised_and_only_once() -> anyhow::Result<()> {
    let mut installation = Installation::prepare(env!("CARGO_BIN_EXE_coffer")).await?;
    installation.configure("[gateway.limits]\nmax_keys = 3\n")?;
    installation.up().await?;
    let (product, client) = with_table(&installation, "replay").await?;
    let (admin, read) = (
        ("COFFER_ADMIN_KEY", product.admin_key.as_str()),
        ("COFFER_READ_KEY", product.read_key.as_str()),
    );

    // Some have too many keys for now, one will never be a row.
    let path = installation.aside("events.jsonl");
    let many = |n: usize| format!("{{\"n\":{n},\"email\":\"ada@example.com\",\"a\":1,\"b\":2}}\n");
    let text: String = (0..10)
        .map(|n| if n % 3 == 0 { many(n) } else { format!("{{\"n\":{n}}}\n") })
        .collect();
    std::fs::write(&path, format!("{text}no json at all \u{1b}[31m\n"))?;
    let file = path.to_str().context("a path is no text")?;
    let (code, out, said) = coffer(&installation, admin, &["import", file, "--table", "web.events", "-o", "json"]).await?;
    ensure!(
        code == 0 && said.contains("5 rows could not be taken and are set aside: coffer rejected show web.events"),
        "{code} {said}"
    );
    let summary: Value = serde_json::from_str(&out)?;
    ensure!(
        summary[0]["rows_sent"] == json!(11) && summary[0]["rows_rejected"] == json!(5),
        "{summary}"
    );
    ensure!(client.number(DATABASE, "SELECT count(*) FROM events").await? == 6);
    let listed = coffer(&installation, read, &["rejected", "list", "-o", "jsonl"]).await?;
    let counted: Vec<Value> = listed.1.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(
        counted
            .iter()
            .map(|row| (&row["table"], &row["reason"], &row["count"]))
            .collect::<Vec<_>>()
            == [
                (&json!("web.events"), &json!("too_many_keys"), &json!(4)),
                (&json!("web.events"), &json!("not_a_map"), &json!(1))
            ],
        "{listed:?}"
    );

    // Only an admin key shows it; a terminal is not obeyed by what was sent.
    let words = ["rejected", "show", "web.events"];
    ensure!(coffer(&installation, read, &words).await?.0 == 3);
    let (code, out, _) = coffer(&installation, admin, &[&words[..], &["-o", "table"]].concat()).await?;
    ensure!(
        code == 0 && out.contains("no json at all \\u{1b}[31m") && out.contains("ada@example.com"),
        "{out}"
    );
    let (code, out, said) = coffer(&installation, admin, &[&words[..], &["-o", "jsonl", "-n", "2"]].concat()).await?;
    ensure!(
        code == 0 && out.lines().count() == 2 && said.contains("there is more"),
        "{out} {said}"
    );
    let first: Value = serde_json::from_str(out.lines().next().unwrap_or_default())?;
    ensure!(
        first["content"]["n"] == json!(0) && first["content"]["email"] == json!("ada@example.com"),
        "{first}"
    );

    // As long as the limit is there, nothing of it can be taken.
    let replay = ["rejected", "replay", "web.events"];
    let (code, _, said) = coffer(&installation, admin, &replay).await?;
    ensure!(code == 2 && said.contains("--yes"), "{code} {said}");
    let (code, _, said) = coffer(&installation, admin, &[&replay[..], &["--yes"]].concat()).await?;
    ensure!(
        code == 6 && said.contains("0 rows taken; 5 rows set aside still (not_a_map 1, too_many_keys 4)"),
        "{code} {said}"
    );

    installation.stop().await?;
    installation.configure("")?;
    installation.up().await?;
    let (code, _, said) = coffer(&installation, admin, &[&replay[..], &["--dry-run"]].concat()).await?;
    ensure!(
        code == 0 && said.contains("4 rows would be taken; 1 row set aside still (not_a_map 1)"),
        "{code} {said}"
    );
    ensure!(
        client.number(DATABASE, "SELECT count(*) FROM events").await? == 6,
        "a dry run stored something"
    );

    // Several at once take each row once.
    let at_once = [&replay[..], &["--yes", "-o", "json"]].concat();
    let (one, two) = tokio::join!(coffer(&installation, admin, &at_once), coffer(&installation, admin, &at_once));
    ensure!(
        one.as_ref().is_ok_and(|ran| [0, 6].contains(&ran.0)) && two.as_ref().is_ok_and(|ran| [0, 6].contains(&ran.0)),
        "{one:?} {two:?}"
    );
    let mine = "SELECT count(*), count(DISTINCT n) FROM events WHERE email = person_id('ada@example.com')";
    for again in [false, true] {
        ensure!(client.query(DATABASE, mine).await? == [[json!(4), json!(4)]], "again {again}");
        ensure!(client.number(DATABASE, "SELECT count(*) FROM events").await? == 10, "again {again}");
        let (code, out, _) = coffer(&installation, admin, &["rejected", "list", "web.events", "-o", "tsv"]).await?;
        ensure!(
            code == 0 && out.lines().count() == 2 && out.contains("web.events\tnot_a_map\t1\t"),
            "{out}"
        );
        ensure!(shown(&client, "events", 100).await?.len() == 1);
        installation.kill_all().await?;
        installation.up().await?;
        let (code, ..) = coffer(&installation, admin, &at_once).await?;
        ensure!(code == 6, "nothing is left to take");
    }
    // A row without a time of its own has the time at which it was sent, not that of the replay.
    let times = "SELECT count(*) FROM events e, \"events$rejected\" r WHERE r.reason = 'too_many_keys' AND r.time = e.time AND e.a = 1";
    ensure!(client.number(DATABASE, times).await? > 0, "rows of a replay have other times");
    installation.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_something_else_stops_the_import_at_its_beginning() -> anyhow::Result<()> {
    let installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let (product, client) = with_table(&installation, "wrong").await?;
    let admin = ("COFFER_ADMIN_KEY", product.admin_key.as_str());
    let import = async |name: &str, content: &str| {
        let path = installation.aside(name);
        std::fs::write(&path, content)?;
        let file = path.to_str().context("a path is no text")?.to_owned();
        coffer(
            &installation,
            admin,
            &["import", &file, "--table", "web.events", "--format", "jsonl", "--chunk-rows", "2"],
        )
        .await
    };
    // Nothing can be read: nothing is sent.
    let (code, _, said) = import("a.csv", "n,m\n1,2\n3,4\n{\"n\":1}\n").await?;
    ensure!(code == 6 && said.contains("none of the first rows can be read"), "{code} {said}");
    // All of it can be read and none can be a row: the first rows are set aside, the others are not sent.
    let (code, _, said) = import("b.jsonl", "{\"\":1}\n{\"\":2}\n{\"\":3}\n{\"n\":1}\n").await?;
    ensure!(code == 6 && said.contains("coffer rejected show web.events"), "{code} {said}");
    ensure!(client.number(DATABASE, "SELECT count(*) FROM events").await? == 0);
    ensure!(shown(&client, "events", 100).await?.len() == 2);
    installation.finish().await
}
