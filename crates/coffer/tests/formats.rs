//! Stored formats (docs/formats.md): an installation that version 0.1 left opens, answers and takes rows; and what a newer version wrote
//! is refused with words that say so, wherever it stands.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base::Role;
use http::Method;
use serde_json::{Value, json};
use testkit::{Client, Installation, until};

const DATABASE: &str = "web";
const SOON: Duration = Duration::from_secs(60);
/// What each refusal says.
const CLEAR: &str = "newer version";

/// The old installation, unpacked; its keys.
async fn unpacked() -> anyhow::Result<(Installation, Value)> {
    let installation = Installation::prepare(env!("CARGO_BIN_EXE_coffer")).await?;
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/installation-1.tar.gz");
    fs::remove_dir(installation.data())?;
    let place = installation.data();
    let unpacked = Command::new("tar")
        .args(["--extract", "--gzip", "--no-same-owner", "--preserve-permissions", "--file"])
        .arg(&archive)
        .arg("--directory")
        .arg(place.parent().context("no parent")?)
        .status()?;
    ensure!(unpacked.success(), "could not unpack {}", archive.display());
    let keys = serde_json::from_str(&fs::read_to_string(installation.aside("keys.json"))?)?;
    Ok((installation, keys))
}

fn key<'a>(keys: &'a Value, kind: &str) -> anyhow::Result<&'a str> {
    keys[kind].as_str().with_context(|| format!("no {kind} key"))
}

/// Everything of it is there.
async fn is_whole(client: &Client, job: &str) -> anyhow::Result<()> {
    let asked = [
        (
            "SELECT count(*), count(DISTINCT n), min(n), max(n) FROM visits WHERE n <= 201",
            json!([202, 202, 0, 201]),
        ),
        ("SELECT count(DISTINCT email) FROM visits WHERE n < 200", json!([5])),
        (
            "SELECT count(*) FROM visits WHERE n < 200 AND email = person_id('person3@example.com')",
            json!([40]),
        ),
        (
            "SELECT count(DISTINCT name) FROM visits WHERE name LIKE 'sealed1:%' AND n < 200",
            json!([5]),
        ),
        ("SELECT sum(amount), count(later) FROM visits WHERE n <= 201", json!([4465.0, 0])),
        (
            "SELECT count(*) FROM visits WHERE _overflow = '{\"amount\":\"gratis\"}'",
            json!([20]),
        ),
        ("SELECT count(*) FROM \"visits$rejected\"", json!([2])),
    ];
    for (sql, expected) in asked {
        let found = until(sql, SOON, || client.query(DATABASE, sql)).await?;
        ensure!(json!(found) == json!([expected]), "{sql}: {found:?}");
    }
    ensure!(
        client.query(DATABASE, "SELECT * FROM dropped").await.is_err(),
        "a table is back that was deleted"
    );
    let result = client.get(&format!("/v3/job/result/{job}?format=json")).await?.ok()?.text();
    ensure!(result.trim() == "[202]", "the old job's result is {result}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_that_the_first_version_left_opens_answers_and_takes_rows() -> anyhow::Result<()> {
    let (mut installation, keys) = unpacked().await?;
    installation.up().await?;
    let admin = installation.client(key(&keys, "admin")?)?;
    let (reader, writer) = (admin.with_key(key(&keys, "read")?), admin.with_key(key(&keys, "write")?));
    let job = keys["job"].as_str().context("no job")?;
    is_whole(&reader, job).await?;

    // Ids that were taken then are still known.
    let row = json!({"time": 1_700_000_000, "n": 1000, "email": "person3@example.com", "name": "Person 3", "amount": 1});
    for id in ["first", "second"] {
        writer
            .import(DATABASE, "visits", Some(id), std::slice::from_ref(&row))
            .await?
            .ok()?;
    }
    let record = json!({"time": 1, "n": 1001, "uuid": "3f0c2f5c-0000-4000-8000-000000000001"}).to_string();
    let kind = Some("application/vnd.treasuredata.v1.single+json");
    writer.send(Method::POST, "/web/visits", kind, record.into_bytes()).await?.ok()?;
    ensure!(
        reader.number(DATABASE, "SELECT count(*) FROM visits").await? == 202,
        "something was stored twice"
    );
    // What is new joins what is old.
    writer.import(DATABASE, "visits", Some("new"), &[row]).await?.ok()?;
    let person = "SELECT count(*), count(DISTINCT name) FROM visits WHERE email = person_id('person3@example.com')";
    ensure!(
        json!(reader.query(DATABASE, person).await?) == json!([[41, 1]]),
        "the new row is another person's: {:?}",
        reader.query(DATABASE, person).await?
    );
    let another = admin.with_key(&installation.key("shop", "read").await?);
    is_whole(&another, job).await?;
    let page = admin.get("/v1/rejected/web/visits").await?.ok()?.json()?;
    ensure!(page["rejected"].as_array().is_some_and(|list| list.len() == 2), "{page}");
    admin.create_table(DATABASE, "dropped").await?;
    ensure!(
        admin.number(DATABASE, "SELECT count(*) FROM dropped").await? == 0,
        "rows are back that were deleted"
    );
    admin.post("/v3/table/delete/web/dropped", &[]).await?.ok()?;

    installation.stop().await?;
    installation.up().await?;
    is_whole(&reader, job).await?;
    ensure!(
        reader.number(DATABASE, "SELECT count(*) FROM visits").await? == 203,
        "rows are lost or come twice"
    );
    installation.finish().await
}

/// Makes a SQLite database say that it has format 99.
fn newer_database(path: &Path) -> anyhow::Result<()> {
    ensure!(
        !path.with_extension("db-wal").exists() && !path.with_extension("sqlite-wal").exists(),
        "it was not closed"
    );
    let file = OpenOptions::new().write(true).open(path)?;
    // `user_version` in the header of the file.
    Ok(file.write_all_at(&99_u32.to_be_bytes(), 60)?)
}

/// Says in every zone's marker that it has format 99.
fn newer_zones(installation: &Installation, role: Role) -> anyhow::Result<()> {
    for zone in ["a", "b", "c"] {
        let path = installation.zone(role, zone).join("zone.json");
        let mut marker: Value = serde_json::from_slice(&fs::read(&path)?)?;
        marker["format"] = 99.into();
        fs::write(path, marker.to_string())?;
    }
    Ok(())
}

/// Puts a segment of format 99 into every zone, after those that are there.
fn newer_segment(installation: &Installation, role: Role) -> anyhow::Result<()> {
    for zone in ["a", "b", "c"] {
        let mut segments = files(&installation.zone(role, zone))?;
        segments.retain(|path| fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"cfsegm\0")));
        let (last, id) = segments
            .iter()
            .filter_map(|path| Some((path, path.file_stem()?.to_str()?.to_owned())))
            .max_by_key(|(_, id)| id.clone())
            .context("no segment")?;
        let mut bytes = fs::read(last)?;
        bytes[7] = 99;
        let (id, _attempt) = id.rsplit_once('-').context("no attempt")?;
        let name = format!("{id}-99.{}", blake3::hash(&bytes).to_hex());
        fs::write(last.with_file_name(name), bytes)?;
    }
    Ok(())
}

fn files(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

/// Something that a newer version wrote, and how that shows.
struct Newer {
    what: &'static str,
    plant: fn(&Installation) -> anyhow::Result<()>,
    shows: Shows,
}

enum Shows {
    /// The installation does not start.
    AtTheStart,
    /// It starts, a role is not ready.
    InTheLog,
    /// It runs, and the product cannot be used.
    InUse,
}

const NEWER: [Newer; 8] = [
    Newer {
        what: "the vault's database",
        plant: |installation| newer_database(&installation.data().join("roles/vault/vault.sqlite")),
        shows: Shows::AtTheStart,
    },
    Newer {
        what: "the accounts role's database",
        plant: |installation| newer_database(&installation.data().join("roles/accounts/accounts.sqlite")),
        shows: Shows::AtTheStart,
    },
    Newer {
        what: "the identity role's database of a product",
        plant: |installation| {
            let files = files(&installation.data().join("roles/identity"))?;
            let database = files
                .iter()
                .find(|path| fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"SQLite format 3")));
            newer_database(database.context("no database of people")?)
        },
        shows: Shows::AtTheStart,
    },
    Newer {
        what: "a catalog",
        plant: |installation| newer_database(&installation.data().join("roles/warehouse/products/1/catalog.db")),
        shows: Shows::InUse,
    },
    Newer {
        what: "the zones of the warehouse",
        plant: |installation| newer_zones(installation, Role::Warehouse),
        shows: Shows::InTheLog,
    },
    Newer {
        what: "a segment of the vault's journal",
        plant: |installation| newer_segment(installation, Role::Vault),
        shows: Shows::AtTheStart,
    },
    Newer {
        what: "a segment of the accounts role's journal",
        plant: |installation| newer_segment(installation, Role::Accounts),
        shows: Shows::AtTheStart,
    },
    Newer {
        what: "a segment of a product's journal",
        plant: |installation| newer_segment(installation, Role::Warehouse),
        shows: Shows::InUse,
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn what_a_newer_version_wrote_is_refused_with_words_that_say_so() -> anyhow::Result<()> {
    let (mut installation, keys) = unpacked().await?;
    installation.up().await?;
    let admin = installation.client(key(&keys, "admin")?)?;
    is_whole(&admin, keys["job"].as_str().context("no job")?).await?;
    installation.stop().await?;
    let whole = installation.aside("whole");
    copy(&installation.data(), &whole)?;

    for Newer { what, plant, shows } in NEWER {
        fs::remove_dir_all(installation.data())?;
        copy(&whole, &installation.data())?;
        plant(&installation).with_context(|| what.to_owned())?;
        let said = match shows {
            Shows::AtTheStart => installation.up_in_vain().await?,
            Shows::InTheLog => {
                installation.up_until_said(CLEAR).await?;
                installation.log()
            }
            Shows::InUse => {
                installation.up().await?;
                let row = json!({"time": 1_700_000_000, "n": 1, "email": "somebody@example.com"});
                let answer = admin.import(DATABASE, "visits", None, &[row]).await?;
                ensure!(answer.status >= 500, "{what}: status {}: {}", answer.status, answer.text());
                installation.log()
            }
        };
        ensure!(said.contains(CLEAR), "{what}: nobody says that a newer version wrote it:\n{said}");
        installation.stop().await?;
        eprintln!("{what}: refused");
    }

    fs::remove_dir_all(installation.data())?;
    copy(&whole, &installation.data())?;
    installation.up().await?;
    is_whole(&admin, keys["job"].as_str().context("no job")?).await?;
    installation.finish().await
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let copied = Command::new("cp").arg("-a").args([from, to]).status()?;
    ensure!(copied.success(), "could not copy {}", from.display());
    Ok(())
}
