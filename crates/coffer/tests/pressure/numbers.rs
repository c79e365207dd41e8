//! Many columns, many tables, many products, many imports, long rows.

use std::ops::Range;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::Method;
use serde_json::{Map, Value, json};
use testkit::{Client, Installation, gzip};

use super::{DATABASE, number, took};

const COLUMNS: usize = 10_000;
/// As many keys as one row may have.
const KEYS: usize = 1_000;
const TABLES: usize = 5_000;
const PRODUCTS: usize = 1_000;
/// Small imports, unless `COFFER_TEST_IMPORTS` says otherwise: a million in the night.
const IMPORTS: usize = 100_000;
/// How many are on their way at once.
const AT_ONCE: usize = 32;

async fn started(more: &str) -> anyhow::Result<(Installation, Client)> {
    let mut installation = Installation::prepare(env!("CARGO_BIN_EXE_coffer")).await?;
    installation.configure(more)?;
    installation.up().await?;
    let product = installation.product("pressure").await?;
    let client = installation.client(&product.admin_key)?;
    client.create_table(DATABASE, "events").await?;
    Ok((installation, client))
}

/// A row with these columns, each holding its own number.
fn wide(columns: Range<usize>) -> Value {
    let time = ("time".to_owned(), json!(1_700_000_000));
    let cells = columns.map(|n| (format!("c{n}"), json!(n)));
    Value::Object(std::iter::once(time).chain(cells).collect::<Map<_, _>>())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_with_ten_thousand_columns_takes_rows_is_asked_and_becomes_files() -> anyhow::Result<()> {
    let (mut installation, client) = started("[warehouse.flush]\nafter = \"1h\"\n").await?;
    let begun = Instant::now();
    for first in (0..COLUMNS).step_by(KEYS) {
        // One row with as many keys as a row may have, and the time is one of them; beside it one with the key that is left.
        let rows = [wide(first..first + KEYS - 1), wide(first + KEYS - 1..first + KEYS)];
        client.import(DATABASE, "events", None, &rows).await?.ok()?;
    }
    // What is one column more goes to the one for what is too much.
    let one_more = json!({"time": 1_700_000_000, "one_more": "x"});
    client.import(DATABASE, "events", None, &[one_more]).await?.ok()?;
    took("ten imports of 1,000 columns each", begun);
    for rows in ["in memory", "in a file"] {
        let begun = Instant::now();
        let sum = "SELECT sum(c0) + sum(c4999) + sum(c9999) FROM events";
        ensure!(number(&client, sum).await? == 4_999 + 9_999, "a column is wrong with rows {rows}");
        ensure!(
            number(&client, "SELECT count(*) FROM events").await? == 21,
            "rows are missing with rows {rows}"
        );
        took(&format!("rows {rows}: two questions about some columns"), begun);
        let begun = Instant::now();
        let over = "SELECT count(*) FROM events WHERE _overflow = '{\"one_more\":\"x\"}'";
        ensure!(number(&client, over).await? == 1, "what is too much was dropped, with rows {rows}");
        let columns = "SELECT count(*) FROM information_schema.columns WHERE table_name = 'events'";
        ensure!(
            number(&client, columns).await? == COLUMNS as i64 + 2,
            "columns are missing with rows {rows}"
        );
        // Not by a star: the engine compares each column with each other before it begins, for a minute in this build.
        let many: Vec<String> = (9_000..9_500).map(|n| format!("c{n}")).collect();
        let sql = format!("SELECT {} FROM events WHERE c9400 IS NOT NULL", many.join(", "));
        let whole = client.query(DATABASE, &sql).await?;
        ensure!(whole.len() == 1 && whole[0].len() == 500, "columns are missing with rows {rows}");
        ensure!(
            whole[0].iter().enumerate().all(|(n, cell)| *cell == json!(9_000 + n)),
            "a cell is wrong with rows {rows}"
        );
        took(&format!("rows {rows}: three about all"), begun);
        if rows == "in memory" {
            let begun = Instant::now();
            installation.stop().await?;
            installation.up().await?;
            took("a stop, with the file written, and a start", begun);
        }
    }
    let begun = Instant::now();
    client.import(DATABASE, "events", None, &[wide(0..KEYS - 1)]).await?.ok()?;
    ensure!(
        number(&client, "SELECT sum(c1) FROM events").await? == 2,
        "what is new is not beside what is old"
    );
    took("one more import", begun);
    installation.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_tables_in_one_product_are_made_listed_filled_and_asked() -> anyhow::Result<()> {
    let (mut installation, client) = started("").await?;
    let begun = Instant::now();
    stream::iter(0..TABLES)
        .map(|n| Ok(make(&client, n)))
        .try_buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await?;
    took("tables made", begun);
    let (begun, every) = (Instant::now(), 50);
    stream::iter((0..TABLES).step_by(every))
        .map(|n| Ok(fill(&client, n)))
        .try_buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await?;
    took("one table of fifty filled", begun);
    for start in ["running", "started again"] {
        let begun = Instant::now();
        let listed = client.get(&format!("/v3/table/list/{DATABASE}")).await?;
        let count = listed.ok()?.json()?["tables"].as_array().map_or(0, Vec::len);
        ensure!(count == TABLES + 1, "{start}: {count} tables are listed");
        took(&format!("{start}: tables listed"), begun);
        let begun = Instant::now();
        for n in [0, 2_500, 4_950] {
            ensure!(
                number(&client, &format!("SELECT sum(n) FROM table{n}")).await? == n,
                "{start}: table {n}"
            );
        }
        let tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'pressure'";
        ensure!(number(&client, tables).await? >= TABLES as i64, "{start}: tables are missing");
        took(&format!("{start}: four questions"), begun);
        if start == "running" {
            let begun = Instant::now();
            installation.stop().await?;
            installation.up().await?;
            number(&client, "SELECT count(*) FROM events").await?;
            took("a stop, with a hundred files written, and a start", begun);
        }
    }
    installation.finish().await
}

async fn make(client: &Client, n: usize) -> anyhow::Result<()> {
    let path = format!("/v3/table/create/{DATABASE}/table{n}/log");
    client.post(&path, &[]).await?.ok()?;
    Ok(())
}

async fn fill(client: &Client, n: usize) -> anyhow::Result<()> {
    let row = json!({"time": 1_700_000_000, "n": n, "a": "b", "c": 1.5});
    client.import(DATABASE, &format!("table{n}"), None, &[row]).await?.ok()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_products_are_made_listed_filled_and_asked() -> anyhow::Result<()> {
    let mut installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let begun = Instant::now();
    let names: Vec<String> = (0..PRODUCTS).map(|n| format!("p{n}")).collect();
    let keys: Vec<(usize, String)> = stream::iter(names.iter().enumerate())
        .map(|(n, name)| {
            let installation = &installation;
            async move {
                installation.operator(&["products", "create", name]).await?.ok()?;
                anyhow::Ok((n, installation.key(name, "admin").await?))
            }
        })
        .buffer_unordered(4)
        .try_collect()
        .await?;
    took("products made, with a key each", begun);
    let begun = Instant::now();
    let listed = installation.operator(&["products", "list", "-o", "jsonl"]).await?.ok()?;
    ensure!(listed.lines().count() == PRODUCTS, "{} products are listed", listed.lines().count());
    took("products listed", begun);

    for round in 1..=2_i64 {
        let begun = Instant::now();
        stream::iter(&keys)
            .map(|(n, key)| {
                let client = installation.client(key);
                async move {
                    let client = client?;
                    client.create_table(DATABASE, "events").await?;
                    let row = json!({"time": 1_700_000_000, "n": n, "email": "ada@example.com"});
                    client.import(DATABASE, "events", None, &[row]).await?.ok()?;
                    anyhow::Ok(())
                }
            })
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<()>>()
            .await?;
        took("a row in each", begun);
        let begun = Instant::now();
        for (n, key) in keys.iter().step_by(100) {
            let client = installation.client(key)?;
            let sum = number(&client, "SELECT sum(n) FROM events").await?;
            ensure!(sum == i64::try_from(*n)? * round, "product {n} says {sum}");
        }
        took("ten of them asked", begun);
        if round == 1 {
            let begun = Instant::now();
            installation.kill_all().await?;
            installation.up().await?;
            took("a start after a kill", begun);
        }
    }
    for role in base::Role::ALL {
        eprintln!("{:7} MiB at most: {role}", installation.peak_memory(role)? >> 20);
    }
    installation.finish().await
}

#[expect(clippy::disallowed_methods, reason = "how many is for whoever runs the tests to say")]
fn wanted() -> usize {
    let said = std::env::var("COFFER_TEST_IMPORTS").ok();
    said.and_then(|text| text.parse().ok()).unwrap_or(IMPORTS)
}

#[tokio::test(flavor = "multi_thread")]
async fn many_small_imports_are_all_there_once() -> anyhow::Result<()> {
    let wanted = wanted();
    let (mut installation, client) = started("").await?;
    let begun = Instant::now();
    let each = wanted.div_ceil(AT_ONCE);
    let senders = (0..AT_ONCE).map(|sender| {
        let client = client.clone();
        tokio::spawn(async move {
            let mut connection = client.connection().await?;
            for n in sender * each..((sender + 1) * each).min(wanted) {
                let row = json!({"time": 1_700_000_000 + n, "n": n});
                let id = format!("small-{n}");
                loop {
                    let answer = connection.import(DATABASE, "events", Some(&id), std::slice::from_ref(&row)).await?;
                    match answer.status {
                        200 => break,
                        429 | 503 => tokio::time::sleep(std::time::Duration::from_millis(200)).await,
                        _ => anyhow::bail!("status {}: {}", answer.status, answer.text()),
                    }
                }
            }
            anyhow::Ok(())
        })
    });
    for sender in futures::future::join_all(senders).await {
        sender??;
    }
    took(&format!("{wanted} imports"), begun);
    let count = i64::try_from(wanted)?;
    let all = "SELECT count(*) FROM (SELECT DISTINCT n FROM events)";
    for start in ["running", "killed and started again"] {
        let begun = Instant::now();
        ensure!(
            number(&client, "SELECT count(*) FROM events").await? == count,
            "{start}: rows are lost or there twice"
        );
        ensure!(number(&client, all).await? == count, "{start}: rows are lost");
        took(&format!("{start}: counted"), begun);
        if start == "running" {
            let begun = Instant::now();
            installation.kill_all().await?;
            installation.up().await?;
            number(&client, "SELECT count(*) FROM events").await?;
            took("a start after a kill, to the first answer", begun);
        }
    }
    // Known again: nothing is stored a second time.
    client
        .import(DATABASE, "events", Some("small-0"), &[json!({"time": 1, "n": 0})])
        .await?
        .ok()?;
    ensure!(
        number(&client, "SELECT count(*) FROM events").await? == count,
        "an id was forgotten"
    );
    for role in [base::Role::Gateway, base::Role::Warehouse] {
        eprintln!("{:7} MiB at most: {role}", installation.peak_memory(role)? >> 20);
    }
    installation.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_row_is_taken_and_one_byte_more_is_set_aside_with_its_reason() -> anyhow::Result<()> {
    const LONGEST: usize = 1 << 20;
    let (mut installation, client) = started("").await?;
    let line = |length: usize| {
        let (head, tail) = ("{\"time\":1700000000,\"text\":\"", "\"}");
        format!(
            "{head}{}{tail}",
            "ä\u{1F600}x ".repeat(LONGEST)[..]
                .chars()
                .scan(length - head.len() - tail.len(), |left, char| {
                    *left = left.checked_sub(char.len_utf8())?;
                    Some(char)
                })
                .collect::<String>()
        )
    };
    let path = format!("/v3/table/import/{DATABASE}/events/jsonl.gz");
    let fits = line(LONGEST);
    ensure!((LONGEST - 3..=LONGEST).contains(&fits.len()), "{} bytes", fits.len());
    let sent = client.send(Method::PUT, &path, None, gzip(fits.as_bytes())).await?.ok()?.json()?;
    ensure!(sent.get("rejected").is_none(), "{sent}");
    let sent = client
        .send(Method::PUT, &path, None, gzip(line(LONGEST + 8).as_bytes()))
        .await?
        .ok()?
        .json()?;
    ensure!(sent["rejected"] == json!(1), "{sent}");
    let reasons = client.query(DATABASE, "SELECT reason FROM \"events$rejected\"").await?;
    ensure!(reasons == [vec![json!("too_large")]], "{reasons:?}");
    let text: Value = serde_json::from_str(&fits)?;
    let length = text["text"].as_str().context("no text")?.chars().count() as i64;
    for start in ["running", "started again"] {
        let found = number(&client, "SELECT max(character_length(text)) FROM events").await?;
        ensure!(found == length, "{start}: {found} characters instead of {length}");
        let shown = client.query(DATABASE, "SELECT text FROM events").await?;
        ensure!(shown[0][0] == text["text"], "{start}: another text");
        if start == "running" {
            installation.stop().await?;
            installation.up().await?;
        }
    }
    installation.finish().await
}
