//! Proof 8: from the raw logs alone everything comes back, and the same: tables, types, what was set aside, keys, people. From one zone,
//! if it had caught up; else what is missing is named. What was deleted or revoked stays so, and whoever is interrupted goes on.

mod from_stores;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base::Role;
use http::Method;
use serde_json::{Value, json};
use testkit::{Client, Installation, Product, Ran, until};

const DATABASE: &str = "web";
const OWNERS: [Role; 4] = [Role::Vault, Role::Accounts, Role::Identity, Role::Warehouse];
const EIGHT: Option<i32> = Some(8);

/// What is compared before and after: everything that a client can see of the tables.
const QUESTIONS: [&str; 8] = [
    "SELECT time, n, word, email, name FROM events ORDER BY time, n, word",
    "SELECT email, count(*) FROM events WHERE email = person_id('ada@example.com') GROUP BY 1",
    "SELECT count(*) FROM events WHERE email = person_id('nobody@example.com')",
    "SELECT value, _overflow FROM typed ORDER BY value, _overflow",
    "SELECT time, n FROM records ORDER BY n",
    "SELECT reason, row_no, bytes, syntax FROM \"events$rejected\" ORDER BY reason, row_no",
    "SELECT count(*) FROM again",
    "SELECT table_name, column_name, data_type FROM information_schema.columns ORDER BY table_name, ordinal_position",
];

struct World {
    product: Product,
    other: Product,
    revoked: String,
}

async fn filled(installation: &Installation) -> anyhow::Result<World> {
    let product = installation.product("shop").await?;
    let set = ["products", "set", "shop", "--personal-columns", "name"];
    installation.operator(&set).await?.ok()?;
    let client = installation.client(&product.admin_key)?;
    for table in ["events", "typed", "records", "dropped", "again"] {
        client.create_table(DATABASE, table).await?;
    }
    for chunk in 0..6 {
        let rows: Vec<Value> = (0..50)
            .map(|n| {
                let person = ["ada@example.com", "grace@example.com", "alan@example.com"][n % 3];
                json!({"time": 1_700_000_000 + chunk * 100_000 + n as i64, "n": n, "word": format!("w{n}"), "email": person, "name": "Ada"})
            })
            .collect();
        client.import(DATABASE, "events", Some(&format!("id-{chunk}")), &rows).await?.ok()?;
        client.import(DATABASE, "events", Some(&format!("id-{chunk}")), &rows).await?.ok()?;
    }
    for value in [json!(1), json!(2.5), json!("three"), json!({"four": 4}), json!(null)] {
        client
            .import(DATABASE, "typed", None, &[json!({"time": 1_700_000_000, "value": value})])
            .await?
            .ok()?;
    }
    let key = [("COFFER_ADMIN_KEY", product.admin_key.as_str())];
    installation
        .user(&["tables", "schema", "web.typed", "--set", "value:long"], &key)
        .await?
        .ok()?;
    until("the types are changed", Duration::from_secs(60), || async {
        let listed = client.query(DATABASE, "SELECT count(*) FROM typed WHERE value = 1").await?;
        ensure!(listed == [[json!(1)]], "{listed:?}");
        Ok(())
    })
    .await?;
    for numbers in [[1, 2], [2, 3]] {
        let records = numbers.map(|n| json!({"time": 1_700_000_000, "n": n, "uuid": format!("0e4f1c2a-9b7d-4c55-8f10-{n:012x}")}));
        let body = json!({"events": records}).to_string();
        let kind = Some("application/vnd.treasuredata.v1+json");
        client.send(Method::POST, "/web/records", kind, body.into()).await?.ok()?;
    }
    let bad = b"{\"time\":1700000000,\"n\":7}\n{\"n\":\n[1]\n".to_vec();
    let path = format!("/v3/table/import/{DATABASE}/events/jsonl");
    client.send(Method::PUT, &path, None, bad).await?.ok()?;
    for table in ["dropped", "again"] {
        client
            .import(DATABASE, table, None, &[json!({"time": 1_700_000_000, "word": "gone"})])
            .await?
            .ok()?;
        client.post(&format!("/v3/table/delete/{DATABASE}/{table}"), &[]).await?.ok()?;
    }
    client.create_table(DATABASE, "again").await?;

    let other = installation.product("other").await?;
    let elsewhere = installation.client(&other.admin_key)?;
    elsewhere.create_table(DATABASE, "events").await?;
    elsewhere
        .import(DATABASE, "events", None, &[json!({"time": 1, "email": "ada@example.com"})])
        .await?
        .ok()?;

    let revoked = installation.key("shop", "read").await?;
    let listed = installation
        .operator(&["keys", "list", "--product", "shop", "-o", "json"])
        .await?
        .ok()?;
    let listed: Vec<Value> = serde_json::from_str(&listed)?;
    let last = listed
        .iter()
        .max_by_key(|key| key["id"].as_str().unwrap_or_default().to_owned())
        .context("no keys")?;
    let id = last["id"].as_str().context("no id")?;
    installation.operator(&["keys", "revoke", "--yes", id]).await?.ok()?;
    Ok(World { product, other, revoked })
}

async fn answers(installation: &Installation, world: &World) -> anyhow::Result<Vec<Vec<Vec<Value>>>> {
    let client = installation.client(&world.product.admin_key)?;
    let mut all = Vec::new();
    for question in QUESTIONS {
        all.push(client.query(DATABASE, question).await.with_context(|| question.to_owned())?);
    }
    let other = installation.client(&world.other.read_key)?;
    all.push(other.query(DATABASE, "SELECT time, email FROM events").await?);
    for product in ["shop", "other"] {
        let keys = installation
            .operator(&["keys", "list", "--product", product, "-o", "tsv"])
            .await?
            .ok()?;
        let shown = installation.operator(&["products", "show", product, "-o", "tsv"]).await?.ok()?;
        all.push(vec![vec![json!(keys), json!(shown)]]);
    }
    Ok(all)
}

/// Names the first answer that is another one than before.
fn same(after: &[Vec<Vec<Value>>], before: &[Vec<Vec<Value>>]) -> anyhow::Result<()> {
    for (at, (after, before)) in after.iter().zip(before).enumerate() {
        let asked = QUESTIONS
            .get(at)
            .copied()
            .unwrap_or("another product, or what is known of products and keys");
        let row = after.iter().zip(before).find(|(after, before)| after != before);
        ensure!(
            after == before,
            "{asked}: {} rows, {} before, such as {row:?}",
            after.len(),
            before.len()
        );
    }
    Ok(())
}

async fn rebuild(installation: &Installation, words: &[&str]) -> anyhow::Result<Ran> {
    let config = installation.aside("coffer.toml");
    let config = config.to_str().context("a path that is text")?;
    let ran = installation
        .operator(&[&["rebuild", "-o", "json", "--config", config], words].concat())
        .await?;
    eprintln!("rebuild {words:?}: {:?}\n{}{}", ran.code, ran.stdout, ran.stderr);
    Ok(ran)
}

/// Rows and hash of each table, as the command said; each has to be in the state `ok`.
fn tables(ran: Ran) -> anyhow::Result<BTreeMap<String, (u64, String)>> {
    let found: Vec<Value> = serde_json::from_str(&ran.ok()?)?;
    let mut tables = BTreeMap::new();
    for finding in found {
        if let Some(hash) = finding["hash"].as_str() {
            ensure!(finding["state"] == "ok", "{finding}");
            let about = finding["about"].as_str().context("about nothing")?.to_owned();
            tables.insert(about, (finding["rows"].as_u64().context("no rows")?, hash.to_owned()));
        }
    }
    // Those that were dropped are made anew as well: they can be brought back.
    let dropped = tables.keys().filter(|about| about.ends_with(" (dropped)")).count();
    ensure!((tables.len(), dropped) == (8, 2), "{tables:?}");
    Ok(tables)
}

/// Takes everything away but the root key and the journals in these zones of each role. What was taken is destroyed.
fn lose(installation: &Installation, zones: impl Fn(Role) -> &'static [&'static str]) -> anyhow::Result<()> {
    let (data, lost) = (installation.data(), installation.aside("lost"));
    fs::rename(&data, &lost)?;
    for directory in [PathBuf::new(), "roles".into(), "roles/vault".into()] {
        fs::DirBuilder::new().mode(0o700).recursive(true).create(data.join(directory))?;
    }
    fs::copy(lost.join("roles/vault/root.key"), data.join("roles/vault/root.key"))?;
    for role in OWNERS {
        for zone in zones(role) {
            let place = Path::new("zones").join(role.as_str()).join(zone);
            copy(&lost.join(&place), &data.join(&place))?;
            // Tables are views as well.
            let views = data.join(&place).join("tables");
            if views.exists() {
                fs::remove_dir_all(views)?;
            }
        }
    }
    for directory in ["", "zones"] {
        fs::set_permissions(data.join(directory), fs::Permissions::from_mode(0o700))?;
    }
    Ok(fs::remove_dir_all(lost)?)
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new().mode(0o700).recursive(true).create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_comes_back_from_the_raw_logs_and_from_those_of_one_zone() -> anyhow::Result<()> {
    let mut installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let world = filled(&installation).await?;
    let before = answers(&installation, &world).await?;
    ensure!(before[0].len() == 301 && before[5].len() == 2 && before[1].len() == 1, "{before:?}");
    let refused = rebuild(&installation, &["--verify"]).await?;
    ensure!(refused.code == Some(5), "it runs: {refused:?}");
    installation.stop().await?;
    let hashes = tables(rebuild(&installation, &["--compare-only"]).await?)?;

    lose(&installation, |_| &["a", "b", "c"])?;
    let rebuilt = rebuild(&installation, &["--verify"]).await?;
    ensure!(
        rebuilt.stderr.contains("jobs and their results are in no zone"),
        "{}",
        rebuilt.stderr
    );
    ensure!(tables(rebuilt)? == hashes, "other hashes than before");
    installation.up().await?;
    same(&answers(&installation, &world).await?, &before)?;
    alive(&installation, &world, &before).await?;
    let before = answers(&installation, &world).await?;
    installation.stop().await?;
    let hashes = tables(rebuild(&installation, &["--compare-only"]).await?)?;

    // One zone is left. That the others are gone for good, somebody has to say.
    lose(&installation, |_| &["b"])?;
    let refused = rebuild(&installation, &["--verify"]).await?;
    ensure!(refused.code.is_some_and(|code| code != 0), "{refused:?}");
    ensure!(!installation.zone(Role::Warehouse, "a").exists(), "a zone was made anew by itself");
    let rebuilt = rebuild(&installation, &["--verify", "--lost", "a,c"]).await?;
    ensure!(tables(rebuilt)? == hashes, "other hashes than before");
    installation.up().await?;
    same(&answers(&installation, &world).await?, &before)?;
    installation.finish().await
}

/// What worked works, and what did not does not.
async fn alive(installation: &Installation, world: &World, before: &[Vec<Vec<Value>>]) -> anyhow::Result<()> {
    let revoked = installation.client(&world.revoked)?;
    ensure!(revoked.get("/v3/database/list").await?.status == 401, "a revoked key works");
    ensure!(installation.client(&world.product.read_key)?.get("/v3/database/list").await?.status == 200);
    let client: Client = installation.client(&world.product.admin_key)?;
    ensure!(
        client.query(DATABASE, "SELECT * FROM dropped").await.is_err(),
        "a deleted table is there"
    );

    // Known people keep their ids, and the key under which their values are sealed; a batch that was stored is not stored again.
    let writer = installation.client(&world.product.write_key)?;
    let row = json!({"time": 1_800_000_000, "n": -1, "word": "new", "email": "ada@example.com", "name": "Ada"});
    writer.import(DATABASE, "events", None, std::slice::from_ref(&row)).await?.ok()?;
    writer
        .import(DATABASE, "events", Some("id-0"), std::slice::from_ref(&row))
        .await?
        .ok()?;
    let new = client.query(DATABASE, "SELECT email, name FROM events WHERE n = -1").await?;
    let old = before[0].iter().find(|row| row[1] == 0 && row[2] == "w0").context("no such row")?;
    ensure!(new == [[old[3].clone(), old[4].clone()]], "{new:?} is not {old:?}");
    let body = json!({"events": [{"time": 1_700_000_000, "n": 1, "uuid": "0e4f1c2a-9b7d-4c55-8f10-000000000001"}]}).to_string();
    let kind = Some("application/vnd.treasuredata.v1+json");
    client.send(Method::POST, "/web/records", kind, body.into()).await?.ok()?;
    ensure!(
        client.number(DATABASE, "SELECT count(*) FROM records").await? == 3,
        "a record is there twice"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_zone_that_had_not_caught_up_lacks_is_named() -> anyhow::Result<()> {
    let mut installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let product = installation.product("shop").await?;
    let client = installation.client(&product.admin_key)?;
    client.create_table(DATABASE, "events").await?;
    for n in 0..6 {
        client.import(DATABASE, "events", None, &[json!({"time": n, "n": n})]).await?.ok()?;
    }
    installation.stop().await?;
    let whole = installation.aside("whole");
    copy(&installation.data(), &whole)?;
    let segments = segments_of(&installation.zone(Role::Warehouse, "b"), &format!("raw/{}", product.number))?;
    ensure!(segments.len() == 8, "{segments:?}");

    // A role whose journal has a hole in every zone says so, and nobody waits for it.
    for zone in ["a", "b", "c"] {
        let journal = segments_of(&installation.zone(Role::Accounts, zone), "accounts")?;
        fs::remove_file(&journal[1])?;
    }
    let refused = tokio::time::timeout(Duration::from_secs(120), rebuild(&installation, &["--verify"])).await??;
    ensure!(
        refused.code == EIGHT && refused.stdout.contains("segment 1 is missing"),
        "{refused:?}"
    );
    fs::remove_dir_all(installation.data())?;
    copy(&whole, &installation.data())?;

    // What it lacks in the middle.
    fs::remove_file(&segments[3])?;
    let one: fn(Role) -> &'static [&'static str] = |role| if role == Role::Warehouse { &["b"] } else { &["a", "b", "c"] };
    lose(&installation, one)?;
    let refused = rebuild(&installation, &["--verify", "--lost", "a,c"]).await?;
    ensure!(refused.code == EIGHT, "{refused:?}");
    ensure!(refused.stdout.contains("segment 3 is missing"), "the gap is not named: {refused:?}");

    // What it lacks at the end, with everything gone that remembered it but the vault's journal.
    fs::remove_dir_all(installation.data())?;
    copy(&whole, &installation.data())?;
    for segment in &segments[6..] {
        fs::remove_file(segment)?;
    }
    lose(&installation, one)?;
    let refused = rebuild(&installation, &["--verify", "--lost", "a,c"]).await?;
    ensure!(refused.code == EIGHT, "{refused:?}");
    ensure!(
        refused.stdout.contains("has 6 segments, 8 are remembered"),
        "the gap is not named: {refused:?}"
    );
    ensure!(
        !installation.data().join("roles/warehouse/products/1/catalog.db").exists(),
        "something was made all the same"
    );

    // Once it is back, all is.
    for segment in &segments[6..] {
        let from = whole.join(segment.strip_prefix(installation.data())?);
        fs::copy(from, segment)?;
    }
    rebuild(&installation, &["--verify"]).await?.ok()?;
    installation.up().await?;
    ensure!(client.number(DATABASE, "SELECT count(*) FROM events").await? == 6);
    installation.finish().await
}

/// How many files lie anywhere below.
fn count(place: &Path) -> usize {
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    let below = |entry: fs::DirEntry| if entry.path().is_dir() { count(&entry.path()) } else { 1 };
    entries.map(below).sum()
}

/// A zone's objects below a prefix, in the order of their sequence.
fn segments_of(zone: &Path, prefix: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for day in fs::read_dir(zone.join(prefix))? {
        for entry in fs::read_dir(day?.path())? {
            found.push(entry?.path());
        }
    }
    found.sort_by_key(|path| {
        path.file_name()
            .map(|name| name.to_string_lossy().split('-').nth(1).unwrap_or_default().to_owned())
    });
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_it_goes_on_and_nothing_is_there_twice() -> anyhow::Result<()> {
    let mut installation = Installation::prepare(env!("CARGO_BIN_EXE_coffer")).await?;
    // Many small files, so that there is something to go on with.
    installation.configure("[warehouse.flush]\ntable_bytes = 1000")?;
    installation.up().await?;
    let world = filled(&installation).await?;
    let client = installation.client(&world.product.admin_key)?;
    for chunk in 0..40 {
        let rows: Vec<Value> = (0..50).map(|n| json!({"time": 1_700_000_000 + n, "n": chunk * 100 + n})).collect();
        client.import(DATABASE, "events", None, &rows).await?.ok()?;
    }
    let before = answers(&installation, &world).await?;
    installation.stop().await?;
    let hashes = tables(rebuild(&installation, &["--compare-only"]).await?)?;
    lose(&installation, |_| &["a", "b", "c"])?;

    let begun = installation
        .data()
        .join(format!("roles/warehouse/products/{}/catalog.rebuilding", world.product.number));
    let mut kills = 0;
    for files in [2, 8, 15, 25] {
        let mut running = tokio::process::Command::new(env!("CARGO_BIN_EXE_coffer"))
            .args(["rebuild", "--verify", "--data"])
            .arg(installation.data())
            .arg("--config")
            .arg(installation.aside("coffer.toml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let views = installation.zone(Role::Warehouse, "a").join("tables");
        let made = until("some files are made", Duration::from_secs(120), || async {
            let made = count(&views);
            ensure!(made >= files, "{made} of {files}");
            Ok(())
        });
        tokio::select! {
            made = made => made?,
            _ = running.wait() => break,
        }
        running.kill().await?;
        kills += usize::from(begun.exists());
    }
    ensure!(kills > 1, "it was killed {kills} times");
    ensure!(
        tables(rebuild(&installation, &["--verify"]).await?)? == hashes,
        "other hashes than before"
    );
    ensure!(!begun.exists());
    installation.up().await?;
    same(&answers(&installation, &world).await?, &before)?;
    installation.finish().await
}
