//! Personal columns: what stands in them is sealed before it is stored, for the person whose row it is, and is found nowhere in clear.

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base::Role;
use http::Method;
use serde_json::{Value, json};
use testkit::markers::{Found, Markers};
use testkit::{Client, Installation, until};

const DATABASE: &str = "people";
const NAME: &str = "planted-name-ada-lovelace-5d1c";
const PHONE: &str = "planted-phone-0049-30-7781";
const STREET: &str = "planted-street-st-james-12";
const NOBODYS: &str = "planted-nobodys-name-90aa";
const BEYOND: &str = "planted-beyond-all-columns-77";
const NUMBER: i64 = 7_391_846_205_517_330_041;

fn markers() -> Markers {
    let mut markers = Markers::default();
    for value in [NAME, PHONE, STREET, NOBODYS, BEYOND, &NUMBER.to_string()] {
        markers.plant(value, value);
    }
    markers.plant_bytes("a number as it is in memory", &NUMBER.to_le_bytes());
    markers
}

fn told(found: &[Found]) -> String {
    found.iter().map(|found| format!("\n  {found}")).collect()
}

/// Nothing of what was planted lies under the data directory or in the logs.
fn is_nowhere(installation: &Installation, when: &str) -> anyhow::Result<()> {
    let mut found = markers().in_tree(&installation.data())?;
    found.extend(markers().in_tree(&installation.logs())?);
    ensure!(found.is_empty(), "{when}: {}", told(&found));
    Ok(())
}

async fn set(installation: &Installation, words: &[&str]) -> anyhow::Result<String> {
    let ran = installation.operator(&[&["products", "set", "people"], words].concat()).await?;
    let said = ran.stderr.clone();
    ran.ok()?;
    Ok(said)
}

/// The values of one column, in order of time.
async fn column(client: &Client, table: &str, column: &str) -> anyhow::Result<Vec<Value>> {
    let rows = client
        .query(DATABASE, &format!("SELECT {column} FROM {table} ORDER BY time"))
        .await?;
    rows.into_iter().map(|row| row.into_iter().next().context("an empty row")).collect()
}

fn is_sealed(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.starts_with("sealed1:"))
}

async fn imports(client: &Client, table: &str, rows: &[Value]) -> anyhow::Result<()> {
    client.create_table(DATABASE, table).await?;
    client.import(DATABASE, table, None, rows).await?.ok()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn personal_values_are_sealed_before_they_are_stored() -> anyhow::Result<()> {
    let mut installation = Installation::prepare(env!("CARGO_BIN_EXE_coffer")).await?;
    installation.configure("[gateway.limits]\nmax_columns = 12")?;
    installation.up().await?;
    let product = installation.product("people").await?;
    let client = installation.client(&product.admin_key)?;
    set(&installation, &["--personal-columns", "Name,phone,people.visits:street"]).await?;

    // The same rows as msgpack and as JSON; the same people in both.
    let rows = [
        json!({"time": 1, "email": "ada@example.com", "user_id": 7, "name": NAME, "phone": PHONE, "street": STREET}),
        json!({"time": 2, "email": "ada@example.com", "name": NAME, "PHONE": PHONE, "street": STREET}),
        json!({"time": 3, "user_id": "7", "name": NAME, "phone": ""}),
        json!({"time": 4, "name": NOBODYS, "phone": PHONE}),
        json!({"time": 5, "name": NOBODYS, "email": "", "phone": null}),
    ];
    imports(&client, "visits", &rows).await?;
    client.create_table(DATABASE, "visits_json").await?;
    let lines = rows.iter().map(|row| format!("{row}\n")).collect::<String>();
    let path = format!("/v3/table/import/{DATABASE}/visits_json/jsonl");
    client.send(Method::PUT, &path, None, lines.into_bytes()).await?.ok()?;

    let names = column(&client, "visits", "name").await?;
    ensure!(names.iter().all(is_sealed), "{names:?}");
    // user_id was declared before email: it owns the first row.
    ensure!(names[0] == names[2] && names[0] != names[1], "the owner decides: {names:?}");
    ensure!(names[3] == names[4] && !names[..3].contains(&names[3]), "nobody's: {names:?}");
    let again = column(&client, "visits_json", "name").await?;
    ensure!(
        again[..3] == names[..3],
        "one person's equal values are sealed alike, however they came: {again:?}"
    );
    ensure!(
        again[3] == again[4] && again[3] != names[3],
        "nobody's are alike in one import only"
    );
    let phones = column(&client, "visits", "phone").await?;
    ensure!(
        is_sealed(&phones[0]) && is_sealed(&phones[2]),
        "an empty text is sealed too: {phones:?}"
    );
    ensure!(phones[1] == Value::Null && phones[4] == Value::Null, "null stays: {phones:?}");
    ensure!(
        is_sealed(&column(&client, "visits", "\"PHONE\"").await?[1]),
        "whatever the capitals"
    );
    ensure!(column(&client, "visits", "street").await?[..2].iter().all(is_sealed));
    ensure!(
        column(&client, "visits_json", "street").await?[0] == json!(STREET),
        "that column is personal in another table"
    );
    // Both identities of the first row became ids.
    let both = client
        .query(
            DATABASE,
            "SELECT count(*) FROM visits WHERE user_id = person_id('7') AND email = person_id('ada@example.com')",
        )
        .await?;
    ensure!(both == [[json!(1)]], "{both:?}");
    let alike = client
        .query(DATABASE, "SELECT count(*) FROM visits a JOIN visits_json b ON a.name = b.name")
        .await?;
    ensure!(alike == [[json!(5)]], "sealed texts can be joined: {alike:?}");
    ensure!(
        client
            .number(DATABASE, &format!("SELECT count(*) FROM visits WHERE name = '{NAME}'"))
            .await?
            == 0,
        "a literal is not sealed"
    );
    installation.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_personal_value_is_found_at_rest_whatever_its_type_and_place() -> anyhow::Result<()> {
    let mut installation = Installation::prepare(env!("CARGO_BIN_EXE_coffer")).await?;
    installation.configure("[gateway.limits]\nmax_columns = 12")?;
    installation.up().await?;
    let product = installation.product("people").await?;
    let client = installation.client(&product.admin_key)?;
    set(&installation, &["--personal-columns", "secret,name"]).await?;

    let rows = [
        json!({"time": 1, "email": "ada@example.com", "secret": NUMBER, "name": NAME}),
        json!({"time": 2, "email": "ada@example.com", "secret": true}),
        json!({"time": 3, "email": "ada@example.com", "secret": 2.5}),
        json!({"time": 4, "email": "ada@example.com", "secret": {"deep": [STREET]}}),
        json!({"time": 5, "email": "ada@example.com", "secret": [PHONE, 1]}),
        json!({"time": 6, "email": "ada@example.com", "secret": NUMBER.to_string()}),
    ];
    imports(&client, "types", &rows).await?;
    let secrets = column(&client, "types", "secret").await?;
    ensure!(secrets.iter().all(is_sealed), "{secrets:?}");
    ensure!(secrets[0] == secrets[5], "a number and its text are one value");
    let distinct: HashSet<String> = secrets.iter().map(Value::to_string).collect();
    ensure!(distinct.len() == 5, "{secrets:?}");

    // A column alone, of one type, and one that comes when there are as many columns as there may be.
    imports(
        &client,
        "numbers",
        &[json!({"time": 1, "email": "ada@example.com", "secret": NUMBER})],
    )
    .await?;
    ensure!(
        column(&client, "numbers", "secret").await? == secrets[..1],
        "the same wherever it stands"
    );
    let mut wide: serde_json::Map<String, Value> = (0..20).map(|n| (format!("a{n:02}"), json!(n))).collect();
    wide.insert("time".into(), json!(1));
    wide.insert("secret".into(), json!(BEYOND));
    imports(&client, "wide", &[Value::Object(wide)]).await?;
    let beyond = client.query(DATABASE, "SELECT secret, _overflow FROM wide").await?;
    ensure!(is_sealed(&beyond[0][0]) && beyond[0][1].to_string().contains("a19"), "{beyond:?}");

    // What is asked and what is set aside leaves no trace either.
    let asked = format!("SELECT count(*) FROM types WHERE secret = '{NAME}' AND nothing = 1");
    ensure!(
        client.query(DATABASE, &asked).await.is_err(),
        "a column that is not there was found"
    );
    let aside = json!({"time": "not a time", "email": "ada@example.com", "name": NAME, "secret": PHONE, "street": STREET});
    let taken = client.import(DATABASE, "types", None, &[aside]).await?.ok()?.json()?;
    ensure!(taken["rejected"] == 1, "{taken}");

    is_nowhere(&installation, "while it runs")?;
    // Nor in the memory of the role that stores and queries. (The roles are not dumpable: only root may look.)
    if nix::unistd::geteuid().is_root() {
        for value in [PHONE, STREET, BEYOND] {
            ensure!(
                !installation.in_memory(Role::Warehouse, value.as_bytes())?,
                "the warehouse has seen {value}"
            );
        }
        let column = secrets[1].as_str().unwrap_or_default().as_bytes();
        ensure!(
            installation.in_memory(Role::Warehouse, column)?,
            "the search does not find what is there"
        );
    }
    let control = installation.data().join("control");
    fs::write(&control, NAME)?;
    ensure!(
        is_nowhere(&installation, "the control").is_err(),
        "what lies there in clear is not found"
    );
    fs::remove_file(&control)?;
    installation.stop().await?;
    is_nowhere(&installation, "after a stop")?;

    // Without its view the identity role reads its journal again: the same people, the same keys.
    for view in fs::read_dir(installation.data().join("roles/identity/people"))? {
        fs::remove_file(view?.path())?;
    }
    installation.up().await?;
    until("events are taken", Duration::from_secs(60), || async {
        client.import(DATABASE, "types", None, &rows[..1]).await?.ok()
    })
    .await?;
    let after = client
        .query(DATABASE, "SELECT count(DISTINCT secret), count(*) FROM types WHERE time = 1")
        .await?;
    ensure!(after == [[json!(1), json!(2)]], "{after:?}");
    installation.kill(Role::Identity)?;
    installation.ready().await?;
    until("events are taken", Duration::from_secs(60), || async {
        client.import(DATABASE, "types", None, &rows[..1]).await?.ok()
    })
    .await?;
    ensure!(client.number(DATABASE, "SELECT count(DISTINCT secret) FROM types").await? == 5);
    is_nowhere(&installation, "after all")?;
    installation.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_product_says_of_its_columns_changes_while_it_runs() -> anyhow::Result<()> {
    let installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let product = installation.product("people").await?;
    let client = installation.client(&product.admin_key)?;
    let row = json!({"time": 1, "email": "ada@example.com", "nick": "kitty", "name": "Ada"});
    imports(&client, "events", std::slice::from_ref(&row)).await?;
    ensure!(column(&client, "events", "name").await? == [json!("Ada")]);

    // The key was used a moment ago: the gateway remembers it, and what it says about columns.
    let said = set(&installation, &["--personal-columns", "name"]).await?;
    ensure!(said.contains("rows stored before keep what they were stored with"), "{said}");
    let next = json!({"time": 2, "email": "ada@example.com", "nick": "kitty", "name": "Ada"});
    until("names are sealed", Duration::from_secs(20), || async {
        client.import(DATABASE, "events", None, std::slice::from_ref(&next)).await?.ok()?;
        let names = column(&client, "events", "name").await?;
        ensure!(names.last().is_some_and(is_sealed) || names.iter().any(is_sealed), "{names:?}");
        Ok(())
    })
    .await?;

    let said = set(&installation, &["--identity-columns", "nick,email", "--personal-columns", ""]).await?;
    ensure!(said.contains("ids in a column that holds identities no more"), "{said}");
    let shown = installation.operator(&["products", "show", "people", "-o", "jsonl"]).await?.ok()?;
    let shown: Value = serde_json::from_str(&shown)?;
    ensure!(
        shown["identity_columns"] == json!("nick,email") && shown["personal_columns"] == json!(""),
        "{shown}"
    );
    let last = json!({"time": 3, "email": "ada@example.com", "nick": "kitty", "name": "Ada"});
    until("nicks are translated", Duration::from_secs(20), || async {
        client.import(DATABASE, "events", None, std::slice::from_ref(&last)).await?.ok()?;
        let found = client
            .query(
                DATABASE,
                "SELECT count(*) FROM events WHERE time = 3 AND nick <> 'kitty' AND name = 'Ada'",
            )
            .await?;
        ensure!(found[0][0].as_i64() > Some(0), "{found:?}");
        Ok(())
    })
    .await?;

    for (words, why) in [
        (["--personal-columns", "time"], "cannot be personal"),
        (["--personal-columns", "EMAIL"], "one of identities"),
        (["--personal-columns", "a:b"], "database.table"),
    ] {
        let ran = installation
            .operator(&[&["products", "set", "people"][..], &words].concat())
            .await?;
        ensure!(ran.code == Some(6) && ran.stderr.contains(why), "{words:?}: {ran:?}");
    }
    let ran = installation
        .operator(&["products", "create", "more", "--personal-columns", "name,shop.orders:phone"])
        .await?;
    ensure!(
        ran.stderr.contains("personal values are sealed in: name, shop.orders:phone"),
        "{}",
        ran.stderr
    );
    ensure!(
        installation
            .operator(&["products", "set", "nothing", "--personal-columns", "a"])
            .await?
            .code
            == Some(4)
    );
    installation.finish().await
}
