//! Who somebody is, and all that is known of them: said to whoever has a key for it and gives a reason, of so many people an hour, and recorded.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use testkit::{Client, Installation, Ran, until};

const DATABASE: &str = "web";
const ADA: &str = "ada@example.com";
const BOB: &str = "bob@example.com";
const SOON: Duration = Duration::from_secs(30);

/// A key in a file, as people have them.
fn key_file(installation: &Installation, name: &str, key: &str) -> anyhow::Result<PathBuf> {
    let path = installation.aside(name);
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    std::io::Write::write_all(&mut file, key.as_bytes())?;
    Ok(path)
}

async fn people(installation: &Installation, key: &Path, words: &[&str]) -> anyhow::Result<Ran> {
    let client = ["--key-file", key.to_str().context("a path")?];
    installation.user(&[&["people"], words, &client].concat(), &[]).await
}

fn lines(text: &str) -> anyhow::Result<Vec<Value>> {
    text.lines().map(|line| serde_json::from_str(line).context("not JSON")).collect()
}

async fn id_of(client: &Client, who: &str) -> anyhow::Result<i64> {
    client.number(DATABASE, &format!("SELECT person_id('{who}')")).await
}

/// Every record of the product.
async fn recorded(installation: &Installation, admin_key: &str) -> anyhow::Result<String> {
    let ran = installation
        .user(&["audit", "tail", "-n", "1000"], &[("COFFER_ADMIN_KEY", admin_key)])
        .await?;
    ran.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_somebody_is_is_said_for_a_reason_to_a_key_made_for_it_and_all_that_is_known_of_them_is_handed_out() -> anyhow::Result<()> {
    let mut installation = Installation::prepare(env!("CARGO_BIN_EXE_coffer")).await?;
    installation.configure("[identity]\nreveals_per_hour = 3\n")?;
    installation.up().await?;
    let product = installation.product("shop").await?;
    let set = [
        "products",
        "set",
        "shop",
        "--personal-columns",
        "name,phone",
        "--link-identities",
        "on",
    ];
    installation.operator(&set).await?.ok()?;
    let admin = installation.client(&product.admin_key)?;
    admin.create_table(DATABASE, "visits").await?;
    admin.create_table(DATABASE, "orders").await?;
    admin.create_table("office", "notes").await?;
    let visits = [
        json!({"time": 1, "user_id": 7, "email": ADA, "name": "Ada L.", "page": "/a"}),
        json!({"time": 2, "email": ADA, "name": "Ada L.", "phone": "030-1", "page": "/b"}),
        json!({"time": 3, "email": BOB, "name": "Bob M.", "page": "/c"}),
        json!({"time": 4, "name": "nobody's", "page": "/d"}),
    ];
    admin.import(DATABASE, "visits", None, &visits).await?.ok()?;
    // Hers as well by her other identity, and one in which she stands second: there the name is Bob's.
    admin
        .import(DATABASE, "orders", None, &[json!({"time": 5, "user_id": 7, "phone": "030-1"})])
        .await?
        .ok()?;
    installation
        .operator(&["products", "set", "shop", "--link-identities", "off"])
        .await?
        .ok()?;
    until("the product's identities are linked no more", SOON, || async {
        let row = json!({"time": 6, "user_id": BOB, "email": ADA, "name": "Bob M."});
        admin.import("office", "notes", None, &[row]).await?.ok()?;
        let told_apart = admin.number("office", "SELECT count(*) FROM notes WHERE user_id <> email").await?;
        ensure!(told_apart > 0, "as before");
        Ok(())
    })
    .await?;
    let notes = admin.number("office", "SELECT count(*) FROM notes").await?;
    let (ada, bob) = (id_of(&admin, ADA).await?, id_of(&admin, BOB).await?);
    let ada_as_text = ada.to_string();

    // Nobody without a key made for it: not with all other rights together.
    let (admins, readers) = (
        key_file(&installation, "admin.key", &product.admin_key)?,
        key_file(&installation, "read.key", &product.read_key)?,
    );
    for key in [&admins, &readers] {
        for command in ["show", "export"] {
            let refused = people(&installation, key, &[command, ADA, "--reason", "ticket-1"]).await?;
            ensure!(refused.code == Some(3) && refused.stderr.contains("--kind reveal"), "{refused:?}");
        }
    }
    let key = installation.key("shop", "reveal").await?;
    let revealing = key_file(&installation, "reveal.key", &key)?;
    for reason in ["", "me", "ada@example.com", "just because"] {
        let refused = people(&installation, &revealing, &["show", ADA, "--reason", reason]).await?;
        ensure!(refused.code == Some(6) && refused.stdout.is_empty(), "{reason}: {refused:?}");
    }
    let changes = installation.client(&key)?.post("/v3/database/create/more", &[]).await?;
    ensure!(changes.status == 403, "it changes something: {}", changes.status);

    // Found by one identity, all are told; and by the id.
    let by_identity = people(&installation, &revealing, &["show", ADA, "--reason", "ticket-1", "-o", "json"])
        .await?
        .ok()?;
    let shown: Vec<Value> = serde_json::from_str(&by_identity)?;
    let mut known: Vec<(&str, &str)> = shown
        .iter()
        .map(|row| {
            (
                row["identity"].as_str().unwrap_or_default(),
                row["column"].as_str().unwrap_or_default(),
            )
        })
        .collect();
    known.sort_unstable();
    ensure!(known == [("7", "user_id"), (ADA, "email")], "{by_identity}");
    ensure!(shown.iter().all(|row| row["id"] == json!(ada_as_text)));
    let by_id = people(
        &installation,
        &revealing,
        &["show", "--id", &ada_as_text, "--reason", "ticket-1", "-o", "json"],
    )
    .await?
    .ok()?;
    ensure!(by_id == by_identity, "{by_id}");
    let nobody = people(&installation, &revealing, &["show", "eve@example.com", "--reason", "ticket-1"]).await?;
    ensure!(nobody.code == Some(4), "{nobody:?}");

    // All that is known of her, from every table, with what is hers in clear and what is not as it is stored.
    let file = installation.aside("ada.jsonl");
    let to_file = ["export", ADA, "--reason", "ticket-2", "--out", file.to_str().context("a path")?];
    people(&installation, &revealing, &to_file).await?.ok()?;
    ensure!(fs::metadata(&file)?.permissions().mode() & 0o777 == 0o600, "others can read it");
    let again = people(&installation, &revealing, &to_file).await?;
    ensure!(again.code == Some(5), "something was written over: {again:?}");
    let exported = fs::read_to_string(&file)?;
    let printed = people(&installation, &revealing, &["export", "--id", &ada_as_text, "--reason", "ticket-2"])
        .await?
        .ok()?;
    ensure!(printed == exported, "{printed}");
    let exported = lines(&exported)?;
    ensure!(exported[0]["person"] == json!(ada_as_text) && exported[0]["identities"].as_array().is_some_and(|all| all.len() == 2));
    let of = |table: &str| {
        let rows = exported.iter().filter(|line| line["table"] == json!(table));
        rows.map(|line| &line["row"]).collect::<Vec<_>>()
    };
    let mut visits = of("web.visits");
    visits.sort_by_key(|row| row["time"].as_i64());
    ensure!(visits.len() == 2, "{exported:?}");
    ensure!(visits[0]["name"] == json!("Ada L.") && visits[0]["page"] == json!("/a") && visits[0]["email"] == json!(ada));
    ensure!(visits[1]["phone"] == json!("030-1") && visits[1]["user_id"] == Value::Null);
    ensure!(of("web.orders")[0]["phone"] == json!("030-1"));
    let notes_of = of("office.notes");
    ensure!(notes_of.len() as i64 == notes, "{exported:?}");
    let bobs = notes_of.iter().filter(|row| row["user_id"] == json!(bob));
    for row in bobs {
        let name = row["name"].as_str().unwrap_or_default();
        ensure!(name.starts_with("sealed1:"), "what is Bob's is told of Ada: {name}");
    }
    ensure!(exported.last() == Some(&json!({ "rows": 3 + notes })), "{exported:?}");
    let all = json!(exported).to_string();
    ensure!(!all.contains("Bob M.") && !all.contains("nobody's") && !all.contains(BOB), "{all}");

    // Of three people an hour, and of these as often as one likes.
    people(&installation, &revealing, &["show", BOB, "--reason", "ticket-3"])
        .await?
        .ok()?;
    let missing = people(&installation, &revealing, &["show", "--id", "7", "--reason", "ticket-3"]).await?;
    ensure!(missing.code == Some(4), "{missing:?}");
    let refused = people(&installation, &revealing, &["show", "--id", "8", "--reason", "ticket-3"]).await?;
    ensure!(
        refused.code == Some(7) && refused.stderr.contains("reveals_per_hour"),
        "{refused:?}"
    );
    people(&installation, &revealing, &["show", BOB, "--reason", "ticket-3"])
        .await?
        .ok()?;

    // Who was looked at, by whom and why is recorded, refusals included, and by no identity.
    let records = until("it is recorded", SOON, || async {
        let records = recorded(&installation, &product.admin_key).await?;
        ensure!(records.contains("person/8/ticket-3"), "not yet: {records}");
        Ok(records)
    })
    .await?;
    let revealed: Vec<Value> = lines(&records)?
        .into_iter()
        .filter(|record| record["method"].as_str().is_some_and(|method| method.ends_with("Identity/Reveal")))
        .collect();
    for object in [
        format!("person/{ada}/ticket-1"),
        format!("person/{ada}/ticket-2"),
        format!("person/{bob}/ticket-3"),
    ] {
        let of = |record: &&Value| record["object"] == json!(object) && record["decision"] == json!("allowed");
        ensure!(revealed.iter().any(|record| of(&record)), "{object}: {revealed:?}");
    }
    ensure!(
        revealed
            .iter()
            .all(|record| record["for"].as_str().is_some_and(|of| of.starts_with("key:")))
    );
    ensure!(!records.contains(ADA) && !records.contains(BOB), "{records}");

    // Who was erased is nobody, and their rows open no more.
    people(&installation, &admins, &["erase", ADA, "--yes"]).await?.ok()?;
    for words in [["show", ADA], ["export", ADA]] {
        let nobody = people(&installation, &revealing, &[&words[..], &["--reason", "ticket-4"]].concat()).await?;
        ensure!(nobody.code == Some(4) && nobody.stdout.is_empty(), "{nobody:?}");
    }
    let nobody = people(&installation, &revealing, &["show", "--id", &ada_as_text, "--reason", "ticket-4"]).await?;
    ensure!(nobody.code == Some(4), "{nobody:?}");
    installation.finish().await
}
