//! Types that are declared and changed: what does not fit its column stays in its row as it was sent, and what was sent before is read
//! again, whatever is killed meanwhile.

use std::time::Duration;

use anyhow::ensure;
use base::Role;
use serde_json::{Value, json};
use testkit::{Client, Installation, until};

const SOON: Duration = Duration::from_secs(60);

/// Everything that somebody may send under one name.
fn values() -> Vec<Value> {
    vec![
        json!(42),
        json!("042"),
        json!("7"),
        json!(1.5),
        json!(true),
        json!([1, {"a": null}]),
        json!("2026-11-25"),
        json!(i64::MAX),
    ]
}

fn rows(from: usize) -> Vec<Value> {
    let row = |(number, x): (usize, Value)| json!({"time": 1_700_000_000 + number, "n": from + number, "x": x});
    values().into_iter().enumerate().map(row).collect()
}

/// What is in the column `x` of each row, and what overflowed.
async fn shown(client: &Client) -> anyhow::Result<Vec<(Value, Value)>> {
    let rows = client.query("web", "SELECT x, _overflow FROM events ORDER BY n").await?;
    let pair = |row: Vec<Value>| {
        let over = match row[1].as_str() {
            Some(text) => serde_json::from_str(text)?,
            None => Value::Null,
        };
        Ok((row[0].clone(), over))
    };
    rows.into_iter().map(pair).collect()
}

/// The same as it must be, when `held` says what a column of a type has for a value that fits.
fn expected(times: usize, held: impl Fn(&Value) -> Option<Value>) -> Vec<(Value, Value)> {
    let one = |x: Value| match held(&x) {
        Some(held) => (held, Value::Null),
        None => (Value::Null, json!({ "x": x })),
    };
    (0..times).flat_map(|_| values()).map(one).collect()
}

fn as_long(x: &Value) -> Option<Value> {
    let text = || {
        x.as_str()
            .and_then(|text| text.parse::<i64>().ok().filter(|long| long.to_string() == *text))
    };
    x.as_i64().or_else(text).map(Value::from)
}

fn as_json(x: &Value) -> Option<Value> {
    x.is_array().then(|| json!(x.to_string()))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_a_declared_type_is_kept_as_sent_and_a_change_reads_everything_again() -> anyhow::Result<()> {
    let mut installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let product = installation.product("web").await?;
    let key = [("COFFER_ADMIN_KEY", product.admin_key.as_str())];
    let admin = installation.client(&product.admin_key)?;
    admin.create_table("web", "events").await?;
    installation
        .client(&product.write_key)?
        .import("web", "events", Some("one"), &rows(0))
        .await?
        .ok()?;
    // From here on these rows are in a file.
    installation.stop().await?;
    installation.up().await?;

    let answer = installation
        .user(
            &["tables", "schema", "web.events", "--set", "x:long,later:boolean", "-o", "tsv"],
            &key,
        )
        .await?;
    let listed = answer.ok()?;
    for line in ["time\tlong\tfalse", "x\tlong\ttrue", "later\tboolean\ttrue", "n\tlong\tfalse"] {
        ensure!(listed.contains(line), "{listed}");
    }
    // A look at what would be changes nothing, and a change to what is no more is refused.
    let looked = installation
        .user(
            &[
                "tables",
                "schema",
                "web.events",
                "--remove",
                "x",
                "--set",
                "new:json",
                "--dry-run",
                "-o",
                "tsv",
            ],
            &key,
        )
        .await?;
    let shown_only = looked.ok()?;
    ensure!(shown_only.contains("x\t(from its values)\tfalse") && shown_only.contains("new\tjson\ttrue"));
    let late = admin
        .post("/v3/table/update-schema/web/events", &[("schema", "[]"), ("based_on", "[]")])
        .await?;
    ensure!(
        late.status == 409 && late.text().contains("meanwhile"),
        "{}: {}",
        late.status,
        late.text()
    );
    let answer = installation.user(&["tables", "schema", "web.events", "-o", "tsv"], &key).await?;
    ensure!(answer.ok()? == listed, "nothing has changed");
    installation
        .client(&product.write_key)?
        .import("web", "events", Some("two"), &rows(8))
        .await?
        .ok()?;
    ensure!(shown(&admin).await? == expected(2, as_long), "{:?}", shown(&admin).await?);

    // Whatever is killed while rows are read again: they are, and none is missing.
    let refused = installation
        .client(&product.read_key)?
        .post("/v3/table/update-schema/web/events", &[("schema", "[]")])
        .await?;
    ensure!(refused.status == 403, "{}", refused.text());
    admin
        .post("/v3/table/update-schema/web/events", &[("schema", r#"[["x","array<string>"]]"#)])
        .await?
        .ok()?;
    installation.kill(Role::Warehouse)?;
    installation.kill_all().await?;
    installation.up().await?;
    until("rows are read again", SOON, || async {
        ensure!(shown(&admin).await? == expected(2, as_json), "{:?}", shown(&admin).await?);
        Ok(())
    })
    .await?;

    let answer = installation
        .user(&["tables", "schema", "web.events", "--remove", "x", "-o", "tsv"], &key)
        .await?;
    ensure!(answer.ok()?.contains("x\tstring\tfalse"));
    let answer = installation
        .user(&["tables", "schema", "web.events", "--remove", "x"], &key)
        .await?;
    ensure!(answer.code == Some(4), "{answer:?}");
    until("nothing overflows", SOON, || async {
        let rows = shown(&admin).await?;
        ensure!(
            rows.len() == 16 && rows.iter().all(|(x, over)| x.is_string() && over.is_null()),
            "{rows:?}"
        );
        Ok(())
    })
    .await?;
    installation.finish().await
}
