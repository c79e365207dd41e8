//! The audit journal of a whole installation: who sees what, what is done without a record (nothing), and what is found by a check.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base::Role;
use serde_json::{Value, json};
use testkit::{Installation, Product, until};

const DATABASE: &str = "audited";
const SOON: Duration = Duration::from_secs(30);
const SECRET: &str = "nobody-else-may-know";

/// The records that a command printed.
fn records(text: &str) -> anyhow::Result<Vec<Value>> {
    text.lines().map(|line| serde_json::from_str(line).context("not JSON")).collect()
}

fn said(records: &[Value], method: &str) -> usize {
    records
        .iter()
        .filter(|record| record["method"].as_str().is_some_and(|known| known.ends_with(method)))
        .count()
}

async fn tail(installation: &Installation, product: &Product) -> anyhow::Result<Vec<Value>> {
    let ran = installation
        .user(&["audit", "tail", "-n", "1000"], &[("COFFER_ADMIN_KEY", &product.admin_key)])
        .await?;
    records(&ran.ok()?)
}

async fn verify(installation: &Installation) -> anyhow::Result<testkit::Ran> {
    installation.operator(&["audit", "verify"]).await
}

/// What the second program says of a file.
fn by_python(export: &Path, kept: Option<&Path>, key: Option<&Path>) -> anyhow::Result<i32> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/audit/verify.py");
    let mut command = Command::new("python3");
    command.arg("-I").arg(program).arg(export);
    if let Some(kept) = kept {
        command.arg("--head").arg(kept);
    }
    if let Some(key) = key {
        command.arg("--key").arg(fs::read_to_string(key)?.trim());
    }
    command.output()?.status.code().context("it was killed")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_sees_all_that_concerns_its_product_and_keeps_heads_that_find_out() -> anyhow::Result<()> {
    let mut installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let (ours, other) = (installation.product("ours").await?, installation.product("other").await?);
    let admin = installation.client(&ours.admin_key)?;
    let stranger = installation.client(&other.admin_key)?;
    admin.create_table(DATABASE, "events").await?;
    stranger.create_table("elsewhere", "things").await?;
    admin
        .import(DATABASE, "events", None, &[json!({"time": 1, "email": SECRET})])
        .await?
        .ok()?;
    let query = format!("SELECT count(*) FROM events WHERE email = person_id('{SECRET}')");
    admin.query(DATABASE, &query).await?;
    ensure!(
        installation.client(&ours.write_key)?.get("/v3/database/list").await?.status == 403,
        "a write key lists"
    );

    let seen = until("all of it is recorded", SOON, || async {
        let seen = tail(&installation, &ours).await?;
        for method in [
            "CreateCredential",
            "CreateTable",
            "IssueJob",
            "Find",
            "LeaseProductKey",
            "Authenticate",
            "/gateway",
        ] {
            ensure!(said(&seen, method) > 0, "no {method} yet");
        }
        Ok(seen)
    })
    .await?;
    ensure!(said(&seen, "CreateCredential") == 3, "the operator made three keys");
    ensure!(
        seen.iter().all(|record| record["product"] == ours.number),
        "another product's record"
    );
    let made = seen
        .iter()
        .find(|r| r["method"] == "/coffer.v1.Warehouse/CreateTable")
        .context("no record")?;
    ensure!(
        made["object"] == format!("{DATABASE}/events") && made["decision"] == "allowed",
        "{made}"
    );
    ensure!(made["for"].as_str().is_some_and(|key| key.starts_with("key:")), "{made}");
    let refused = seen.iter().find(|r| r["method"] == "/gateway").context("no refusal")?;
    ensure!(refused["decision"] == "refused" && refused["rule"] == "verb", "{refused}");
    let text = serde_json::to_string(&seen)?;
    for secret in [SECRET, "elsewhere", "SELECT", ours.admin_key.split('/').nth(1).context("a key")?] {
        ensure!(!text.contains(secret), "{secret} stands in a record");
    }

    // What is exported is checked by both programs, now and against what was kept before.
    let (first, second) = (installation.aside("first"), installation.aside("second"));
    let export = async |to: &Path, more: &[&str]| {
        let to = to.to_str().context("a path")?;
        let words = [&["audit", "export", "--out", to], more].concat();
        installation.user(&words, &[("COFFER_ADMIN_KEY", &ours.admin_key)]).await?.ok()
    };
    export(&first, &[]).await?;
    admin.create_table(DATABASE, "more").await?;
    stranger.create_table("elsewhere", "more").await?;
    let kept = first.to_str().context("a path")?;
    export(&second, &["--head", kept]).await?;
    let key = installation.data().join("installation.pub");
    for words in [
        vec!["audit", "verify", kept, "--installation-key", key.to_str().context("a path")?],
        vec!["audit", "verify", second.to_str().context("a path")?, "--head", kept],
    ] {
        installation.run(&words).await?.ok()?;
    }
    // Whoever can change an export can sign it as well, with keys made on the spot.
    let anybodys = installation.run(&["audit", "verify", kept]).await?;
    ensure!(
        anybodys.code == Some(8) && anybodys.stderr.contains("--installation-key"),
        "{anybodys:?}"
    );
    ensure!(by_python(&first, None, None)? == 8, "the second program takes anybody's");
    ensure!(
        by_python(&first, None, Some(&key))? == 0 && by_python(&second, Some(&first), None)? == 0,
        "the second program disagrees"
    );
    ensure!(
        !fs::read_to_string(&second)?.contains("elsewhere"),
        "another product's names are in the export"
    );

    // One line less, and both say so.
    let lines = fs::read_to_string(&second)?;
    let without: Vec<&str> = lines.lines().filter(|line| !line.contains("audited/events")).collect();
    let forged = installation.aside("forged");
    fs::write(&forged, without.join("\n") + "\n")?;
    let found = installation.run(&["audit", "verify", forged.to_str().context("a path")?]).await?;
    ensure!(found.code == Some(8) && found.stdout.contains("record "), "{found:?}");
    ensure!(by_python(&forged, None, Some(&key))? == 8, "the second program takes it");

    // The owner's own check: while it runs, and stopped, and against the customer's head.
    verify(&installation).await?.ok()?;
    installation.stop().await?;
    installation.operator(&["audit", "verify", "--head", kept]).await?.ok()?;
    installation.up().await?;
    verify(&installation).await?.ok()?;
    installation.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_record_nothing_is_done_that_needs_one_and_everything_else_goes_on() -> anyhow::Result<()> {
    let installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let product = installation.product("ours").await?;
    let admin = installation.client(&product.admin_key)?;
    admin.create_table(DATABASE, "events").await?;
    let row = || [json!({"time": 1, "n": 1})];
    admin.import(DATABASE, "events", None, &row()).await?.ok()?;
    ensure!(
        admin.number(DATABASE, "SELECT count(*) FROM events").await? == 1,
        "it does not answer"
    );

    // The file is gone: what is appended to it would be seen by nobody.
    let view = installation.data().join("roles/vault/audit.sqlite");
    let kept = installation.aside("kept.sqlite");
    fs::rename(&view, &kept)?;
    guarded_is_refused(&installation, &admin).await?;
    admin.import(DATABASE, "events", None, &row()).await?.ok()?;
    ensure!(
        admin.number(DATABASE, "SELECT count(*) FROM events").await? == 2,
        "a read waits for a record"
    );
    fs::rename(&kept, &view)?;
    allowed_again(&installation).await?;

    // Two of three zones of the vault are gone.
    for zone in ["b", "c"] {
        fs::rename(installation.zone(Role::Vault, zone), installation.aside(zone))?;
    }
    guarded_is_refused(&installation, &admin).await?;
    admin.import(DATABASE, "events", None, &row()).await?.ok()?;
    ensure!(
        admin.number(DATABASE, "SELECT count(*) FROM events").await? == 3,
        "a read waits for a record"
    );
    for zone in ["b", "c"] {
        fs::rename(installation.aside(zone), installation.zone(Role::Vault, zone))?;
    }
    allowed_again(&installation).await?;
    installation.finish().await
}

async fn guarded_is_refused(installation: &Installation, admin: &testkit::Client) -> anyhow::Result<()> {
    let refused = admin.post(&format!("/v3/table/delete/{DATABASE}/events"), &[]).await?;
    ensure!(refused.status == 503, "a table is deleted without a record: {}", refused.status);
    let made = installation
        .operator(&["keys", "create", "--product", "ours", "--kind", "read"])
        .await?;
    ensure!(
        made.code == Some(7) && made.stderr.contains("record"),
        "a key is made without a record: {made:?}"
    );
    let tables = admin.get(&format!("/v3/table/list/{DATABASE}")).await?.ok()?.json()?;
    ensure!(
        tables["tables"].as_array().is_some_and(|tables| tables.len() == 1),
        "the table is gone: {tables}"
    );
    let keys = installation
        .operator(&["keys", "list", "--product", "ours", "-o", "json"])
        .await?
        .ok()?;
    ensure!(
        serde_json::from_str::<Vec<Value>>(&keys)?.len() == 3,
        "there is another key: {keys}"
    );
    Ok(())
}

async fn allowed_again(installation: &Installation) -> anyhow::Result<()> {
    until("it takes records again", SOON, || async {
        installation
            .operator(&["products", "set", "ours", "--link-identities", "off"])
            .await?
            .ok()
            .map(drop)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_twin_that_acts_first_or_forgets_is_found_out_by_the_same_check() -> anyhow::Result<()> {
    let twin: PathBuf = PathBuf::from(env!("CARGO_BIN_EXE_coffer")).with_file_name("coffer-twin-audit");
    ensure!(
        twin.is_file(),
        "{} is missing: build the whole workspace, `cargo build --workspace`",
        twin.display()
    );
    for (binary, honest) in [(env!("CARGO_BIN_EXE_coffer"), true), (twin.to_str().context("a path")?, false)] {
        let mut installation = Installation::start(binary).await?;
        installation.product("ours").await?;
        let (forgotten, unrecorded) = (key_to_revoke(&installation).await?, "keys of product");
        installation.operator(&["keys", "revoke", &forgotten, "--yes"]).await?.ok()?;
        let ran = until("there is a signed head", SOON, || async {
            let ran = verify(&installation).await?;
            ensure!(ran.code != Some(7), "{ran:?}");
            Ok(ran)
        })
        .await?;
        if honest {
            ensure!(ran.code == Some(0), "the program itself is taken for its twin: {ran:?}");
        } else {
            ensure!(
                ran.code == Some(8) && ran.stdout.contains(&forgotten),
                "a revocation without a record passes: {ran:?}"
            );
        }

        let view = installation.data().join("roles/vault/audit.sqlite");
        let kept = installation.aside("kept.sqlite");
        fs::rename(&view, &kept)?;
        let made = installation
            .operator(&["keys", "create", "--product", "ours", "--kind", "read"])
            .await?;
        installation.kill(Role::Vault)?;
        installation.kill_all().await?;
        fs::rename(&kept, &view)?;
        let ran = verify(&installation).await?;
        if honest {
            ensure!(made.code == Some(7), "a key is made without a record: {made:?}");
            ensure!(ran.code == Some(0), "{ran:?}");
        } else {
            ensure!(made.code == Some(0), "the twin does not act: {made:?}");
            ensure!(
                ran.code == Some(8) && ran.stdout.contains(unrecorded),
                "a key without a record passes: {ran:?}"
            );
        }
        installation.finish().await?;
    }
    Ok(())
}

async fn key_to_revoke(installation: &Installation) -> anyhow::Result<String> {
    let keys = installation
        .operator(&["keys", "list", "--product", "ours", "-o", "json"])
        .await?
        .ok()?;
    let keys: Vec<Value> = serde_json::from_str(&keys)?;
    let read = keys.iter().find(|key| key["kind"] == "read").context("no read key")?;
    Ok(read["id"].as_str().context("no id")?.to_owned())
}
