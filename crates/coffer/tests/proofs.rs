//! `coffer prove tenancy` and `coffer prove unlinkable`: the program stands them, running or not, and a broken twin does not; and ten thousand
//! people's identities that went through an installation are in nothing that its warehouse can read.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base::Role;
use serde_json::{Value, json};
use testkit::markers::Markers;
use testkit::{Client, Installation, Ran, until};

const DATABASE: &str = "web";
const SOON: Duration = Duration::from_secs(60);
const EIGHT: Option<i32> = Some(8);
const FLUSHES: &str = "[warehouse.flush]\nafter = \"1s\"\n";

async fn tenancy(installation: &Installation, more: &[&str]) -> anyhow::Result<Ran> {
    installation.operator(&[&["prove", "tenancy", "-o", "json"], more].concat()).await
}

async fn unlinkable(installation: &Installation, products: &str) -> anyhow::Result<Ran> {
    let words = ["prove", "unlinkable", "-o", "json", "--products", products];
    installation.operator(&words).await
}

fn rows(ran: &Ran) -> anyhow::Result<Vec<Value>> {
    Ok(serde_json::from_str(&ran.stdout)?)
}

/// How many files of a kind a product had, and how many attempts of one sort were refused.
fn counted(ran: &Ran, product: u64, kind: &str) -> anyhow::Result<(u64, u64, String)> {
    let rows = rows(ran)?;
    let row = rows.iter().find(|row| row["product"] == product && row["files"] == kind);
    let row = row.with_context(|| format!("no {kind} of product {product}: {ran:?}"))?;
    let number = |name: &str| row[name].as_u64().unwrap_or_default();
    let attempts = row["attempts"].as_str().unwrap_or_default().to_owned();
    Ok((number("tried"), number("opened"), attempts))
}

fn found_out(ran: &Ran, reason: &str) -> anyhow::Result<()> {
    ensure!(ran.code == EIGHT, "{ran:?}");
    ensure!(ran.stderr.contains(reason), "not for the reason {reason:?}:\n{}", ran.stderr);
    Ok(())
}

async fn send(client: &Client, people: &[String]) -> anyhow::Result<()> {
    let row = |(at, who): (usize, &String)| json!({"time": 1_700_000_000 + at as i64, "email": who, "n": at});
    let rows: Vec<Value> = people.iter().enumerate().map(row).collect();
    client.import(DATABASE, "events", None, &rows).await?.ok().map(drop)
}

fn people(count: usize) -> Vec<String> {
    (0..count).map(|at| format!("person-{at}@both.example")).collect()
}

/// Two products with files of every kind, of people who are in both.
async fn filled(installation: &Installation) -> anyhow::Result<[u64; 2]> {
    let mut numbers = Vec::new();
    for name in ["first", "second"] {
        let product = installation.product(name).await?;
        let client = installation.client(&product.admin_key)?;
        client.create_table(DATABASE, "events").await?;
        send(&client, &people(300)).await?;
        client.query(DATABASE, "SELECT * FROM events").await?;
        numbers.push(product.number);
    }
    let tables = installation.zone(Role::Warehouse, "a").join("tables");
    until("every product has a file", SOON, || async {
        let all = numbers.iter().all(|number| tables.join(number.to_string()).is_dir());
        ensure!(all, "not yet");
        Ok(())
    })
    .await?;
    numbers.try_into().ok().context("two products")
}

/// One file below a directory.
fn some_file(directory: &Path) -> anyhow::Result<PathBuf> {
    let mut waiting = vec![directory.to_owned()];
    while let Some(path) = waiting.pop() {
        if path.is_file() {
            return Ok(path);
        }
        for entry in fs::read_dir(&path)? {
            waiting.push(entry?.path());
        }
    }
    anyhow::bail!("no file below {}", directory.display())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_file_of_a_product_is_its_own() -> anyhow::Result<()> {
    let mut installation = Installation::prepare(env!("CARGO_BIN_EXE_coffer")).await?;
    installation.configure(FLUSHES)?;
    installation.up().await?;
    let [first, second] = filled(&installation).await?;
    let made = ["products", "create", "private", "--custody", "customer"];
    let key = installation.operator(&made).await?.ok()?;
    let client = installation.client(key.trim())?;
    client.create_table(DATABASE, "events").await?;
    send(&client, &people(3)).await?;
    let before = installation.pids();

    let ran = tenancy(&installation, &[]).await?;
    ensure!(ran.code == Some(0), "{ran:?}");
    ensure!(ran.stderr.contains("no key of it was shown"), "{ran:?}");
    for product in [first, second] {
        for (kind, tried) in [
            (
                "raw log",
                [
                    "the key",
                    "no key",
                    "moved to another product",
                    "renamed to another number",
                    "truncated",
                    "bit-flipped",
                    "forged",
                ],
            ),
            (
                "tables",
                [
                    "the key",
                    "no key",
                    "moved to another table",
                    "renamed",
                    "truncated",
                    "bit-flipped",
                    "forged",
                ],
            ),
            (
                "queries",
                [
                    "the key",
                    "no key",
                    "moved to another product",
                    "moved to another job",
                    "truncated",
                    "bit-flipped",
                    "",
                ],
            ),
            (
                "results",
                [
                    "the key",
                    "no key",
                    "moved to another product",
                    "moved to another job",
                    "truncated",
                    "bit-flipped",
                    "forged",
                ],
            ),
            (
                "identities",
                [
                    "no key",
                    "moved to another product",
                    "renamed to another writer",
                    "truncated",
                    "bit-flipped",
                    "forged",
                    "",
                ],
            ),
            (
                "keyrings",
                [
                    "the key",
                    "no key",
                    "moved to another product",
                    "moved to another epoch",
                    "bit-flipped",
                    "",
                    "",
                ],
            ),
            (
                "people",
                [
                    "the keyring",
                    "no key",
                    "moved to another person",
                    "truncated",
                    "bit-flipped",
                    "",
                    "",
                ],
            ),
        ] {
            let (files, opened, attempts) = counted(&ran, product, kind)?;
            ensure!(
                files > 0 && opened == files,
                "{product} {kind}: {opened} of {files} opened\n{ran:?}"
            );
            for attempt in tried.into_iter().filter(|attempt| !attempt.is_empty()) {
                ensure!(
                    attempts.contains(&format!("{attempt} ")),
                    "{kind} were not tried {attempt}: {attempts}"
                );
            }
        }
    }
    ensure!(installation.pids() == before, "roles ended");

    // The same with the customer's key, of an installation that does not run.
    installation.stop().await?;
    let file = installation.aside("key");
    fs::write(&file, &key)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    let shown = ["--key-file", file.to_str().context("a path")?, "--sample", "2"];
    let ran = tenancy(&installation, &shown).await?;
    ensure!(ran.code == Some(0), "{ran:?}");
    ensure!(
        ran.stderr.contains("left out by --sample") && !ran.stderr.contains("no key of it"),
        "{ran:?}"
    );
    let private = rows(&ran)?
        .iter()
        .filter_map(|row| row["product"].as_u64())
        .max()
        .unwrap_or_default();
    let (files, opened, _) = counted(&ran, private, "raw log")?;
    ensure!(files > 0 && files == opened, "{ran:?}");

    // A file of one product in another's place, one that was changed, and one of no product.
    let zone = installation.zone(Role::Warehouse, "a");
    let of = |product: u64| zone.join("raw").join(product.to_string());
    let theirs = some_file(&of(first))?;
    let day = theirs.parent().and_then(Path::file_name).context("a day")?;
    let moved = of(second).join(day).join(theirs.file_name().context("a name")?);
    fs::copy(&theirs, &moved)?;
    installation.give(Role::Warehouse, &moved)?;
    found_out(&tenancy(&installation, &[]).await?, "it belongs to journal")?;
    fs::remove_file(&moved)?;
    let mut bytes = fs::read(&theirs)?;
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&theirs, bytes)?;
    found_out(&tenancy(&installation, &[]).await?, "its bytes are not those of its name")?;
    installation.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_products_have_nothing_in_common_but_who_is_in_both() -> anyhow::Result<()> {
    let mut installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let mut numbers = Vec::new();
    for name in ["first", "second"] {
        let product = installation.product(name).await?;
        let client = installation.client(&product.admin_key)?;
        client.create_table(DATABASE, "events").await?;
        send(&client, &people(1_000)).await?;
        numbers.push(product.number);
    }
    let ran = unlinkable(&installation, "first,second").await?;
    ensure!(ran.code == Some(0), "{ran:?}");
    ensure!(ran.stderr.contains("1000 identities are known in both"), "{ran:?}");
    ensure!(
        rows(&ran)?.len() >= 6 && rows(&ran)?.iter().all(|row| row["in_both"] == 0),
        "{ran:?}"
    );
    installation.stop().await?;
    let ran = unlinkable(&installation, &format!("{},{}", numbers[0], numbers[1])).await?;
    ensure!(ran.code == Some(0) && ran.stderr.contains("1000 identities"), "{ran:?}");
    ensure!(unlinkable(&installation, "first,second").await?.code == Some(2));
    ensure!(unlinkable(&installation, &format!("{},4711", numbers[0])).await?.code == Some(4));
    installation.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_twin_whose_files_are_tied_to_nothing_and_whose_products_share_a_lookup_key_is_found_out() -> anyhow::Result<()> {
    let twin = PathBuf::from(env!("CARGO_BIN_EXE_coffer")).with_file_name("coffer-twin-files");
    ensure!(twin.is_file(), "{} is not there: build the workspace", twin.display());
    let mut installation = Installation::prepare(twin.to_str().context("a path")?).await?;
    installation.configure(FLUSHES)?;
    installation.up().await?;
    let [first, second] = filled(&installation).await?;
    let ran = tenancy(&installation, &[]).await?;
    for reason in [
        "moved to another product: it was not refused",
        "moved to another table",
        "renamed: it was not refused",
    ] {
        found_out(&ran, reason)?;
    }
    found_out(
        &unlinkable(&installation, &format!("{first},{second}")).await?,
        "300 lookup hashes are the same in both",
    )?;
    installation.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_the_warehouse_can_read_holds_one_of_ten_thousand_identities() -> anyhow::Result<()> {
    const FRONT: &str = "q7wz5kplanted";
    const BACK: &str = "planted3xv8mj.example";
    const MANY: usize = 10_000;
    let mut installation = Installation::prepare(env!("CARGO_BIN_EXE_coffer")).await?;
    installation.configure(FLUSHES)?;
    installation.up().await?;
    let product = installation.product("planted").await?;
    let client = installation.client(&product.admin_key)?;
    client.create_table(DATABASE, "events").await?;
    let all: Vec<String> = (0..MANY).map(|at| format!("{FRONT}-{at:05}@{BACK}")).collect();
    for some in all.chunks(2_500) {
        send(&client, some).await?;
    }
    // Looked for and read, so that it is in whatever keeps questions and answers.
    for who in [&all[0], &all[MANY - 1]] {
        let sql = format!("SELECT count(*) FROM events WHERE email = person_id('{who}')");
        ensure!(client.number(DATABASE, &sql).await? == 1, "{who} was not stored");
    }
    ensure!(client.number(DATABASE, "SELECT count(DISTINCT email) FROM events").await? == MANY as i64);
    client.query(DATABASE, "SELECT * FROM events LIMIT 5000").await?;
    let tables = installation.zone(Role::Warehouse, "a").join("tables");
    until("there is a file", SOON, || async {
        ensure!(tables.is_dir(), "not yet");
        Ok(())
    })
    .await?;

    let mut markers = Markers::default();
    markers.plant("how they begin", FRONT);
    markers.plant("how they end", BACK);
    let told = |found: Vec<testkit::markers::Found>| found.iter().map(|found| format!("\n  {found}")).collect::<String>();
    let found = markers.in_tree(&installation.data())?;
    ensure!(found.is_empty(), "on the disk: {}", told(found));
    let found = markers.in_tree(&installation.logs())?;
    ensure!(found.is_empty(), "in the logs: {}", told(found));
    if !nix::unistd::geteuid().is_root() {
        // Nobody else may look into a role's memory.
        return installation.finish().await;
    }
    let in_memory = |role: Role| -> anyhow::Result<bool> {
        Ok(installation.in_memory(role, FRONT.as_bytes())? || installation.in_memory(role, BACK.as_bytes())?)
    };
    for role in [Role::Warehouse, Role::Vault, Role::Accounts] {
        ensure!(!in_memory(role)?, "in the memory of the {role} role");
    }
    // That it would have been found: in a column that is no identity column it does reach the warehouse, and stays in its memory for a while.
    client.create_table(DATABASE, "notes").await?;
    let note = json!({"time": 1_700_000_000, "note": all[0]});
    client.import(DATABASE, "notes", None, &[note]).await?.ok()?;
    until("what is in another column is found in the warehouse's memory", SOON, || async {
        ensure!(in_memory(Role::Warehouse)?, "not found");
        Ok(())
    })
    .await?;
    installation.finish().await
}
