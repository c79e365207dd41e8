//! A person who was erased is gone from every older copy as well: whoever puts back the identity role's zones and database of before, under
//! everything that is left, finds out nothing; what proves it fails as soon as it does not hold.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use base::Role;
use serde_json::{Value, json};
use testkit::{Client, Installation, Ran};

const DATABASE: &str = "web";
const ADA: &str = "ada@example.com";
const BOB: &str = "bob@example.com";
const EIGHT: Option<i32> = Some(8);

async fn number(client: &Client, sql: &str) -> anyhow::Result<i64> {
    let rows = client.query(DATABASE, sql).await?;
    let value = rows.first().and_then(|row| row.first()).context("no row")?;
    Ok(value.as_i64().unwrap_or_default())
}

async fn of(client: &Client, who: &str) -> anyhow::Result<i64> {
    number(client, &format!("SELECT count(*) FROM events WHERE email = person_id('{who}')")).await
}

async fn visit(client: &Client, who: &str, time: i64) -> anyhow::Result<()> {
    let row = json!({"time": time, "email": who, "name": "Ada"});
    client.import(DATABASE, "events", None, &[row]).await?.ok().map(drop)
}

async fn erase(installation: &Installation, key: &Path, words: &[&str]) -> anyhow::Result<Ran> {
    let client = ["--key-file", key.to_str().context("a path")?, "--yes"];
    installation.user(&[&["people", "erase"], words, &client].concat(), &[]).await
}

async fn prove(installation: &Installation, receipt: &Path) -> anyhow::Result<Ran> {
    installation
        .operator(&["prove", "erased", "--receipt", receipt.to_str().context("a path")?])
        .await
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let ok = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status()?.success();
    ensure!(ok, "could not copy {}", from.display());
    Ok(())
}

/// A link that a role put in the place of its files leads root's command nowhere that the role itself could not go.
async fn looked_at_with_its_own_eyes(installation: &Installation, receipt: &Path) -> anyhow::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let closed = installation.aside("closed");
    fs::create_dir(&closed)?;
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700))?;
    for (place, name) in [("roles/identity/people", "people"), ("roles/vault/vault.sqlite", "vault.sqlite")] {
        let (own, elsewhere) = (installation.data().join(place), closed.join(name));
        fs::rename(&own, &elsewhere)?;
        std::os::unix::fs::symlink(&elsewhere, &own)?;
        let refused = prove(installation, receipt).await?;
        ensure!(
            refused.code != Some(0) && !refused.stderr.contains("proven: person"),
            "{place} was followed: {refused:?}"
        );
        fs::remove_file(&own)?;
        fs::rename(&elsewhere, &own)?;
    }
    prove(installation, receipt).await?.ok().map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_erased_is_gone_for_good_and_older_copies_bring_nobody_back() -> anyhow::Result<()> {
    let mut installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let product = installation.product("shop").await?;
    installation
        .operator(&["products", "set", "shop", "--personal-columns", "name"])
        .await?
        .ok()?;
    let client = installation.client(&product.admin_key)?;
    client.create_table(DATABASE, "events").await?;
    for (who, time) in [(ADA, 1), (ADA, 2), (BOB, 3)] {
        visit(&client, who, time).await?;
    }
    let (ada, bob) = (
        number(&client, &format!("SELECT person_id('{ADA}')")).await?,
        number(&client, &format!("SELECT person_id('{BOB}')")).await?,
    );
    // What an older backup of the identity role has.
    let aside = installation.aside("older");
    fs::create_dir_all(&aside)?;
    let data = installation.data();
    let parts = ["zones/identity", "roles/identity"];
    installation.stop().await?;
    for part in parts {
        copy(&data.join(part), &aside.join(part.replace('/', "-")))?;
    }
    let vaults = aside.join("vault-a");
    copy(&data.join("zones/vault/a"), &vaults)?;
    installation.up().await?;
    let client = installation.client(&product.admin_key)?;

    let key = installation.aside("admin.key");
    let write = |path: &Path, key: &str| -> anyhow::Result<()> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
        Ok(std::io::Write::write_all(&mut file, key.as_bytes())?)
    };
    write(&key, &product.admin_key)?;
    let reading = installation.aside("read.key");
    write(&reading, &product.read_key)?;
    let refused = erase(&installation, &reading, &[ADA]).await?;
    ensure!(refused.code == Some(3), "a read key erases: {refused:?}");
    ensure!(of(&client, ADA).await? == 2);

    let receipt = installation.aside("receipt.json");
    let said = erase(&installation, &key, &[ADA, "--receipt", receipt.to_str().context("a path")?])
        .await?
        .ok()?;
    let printed: Value = serde_json::from_str(&said)?;
    ensure!(
        printed["id"] == json!(ada.to_string()) && printed["identities"] == json!(1),
        "{said}"
    );
    ensure!(of(&client, ADA).await? == 0 && of(&client, BOB).await? == 1);
    ensure!(
        number(&client, &format!("SELECT count(*) FROM events WHERE email = {ada}")).await? == 2,
        "the rows stay, as nobody's"
    );
    prove(&installation, &receipt).await?.ok()?;
    let nobody = erase(&installation, &key, &[ADA]).await?;
    ensure!(nobody.code == Some(4), "{nobody:?}");
    let again = erase(&installation, &key, &["--id", &ada.to_string()]).await?.ok()?;
    ensure!(
        serde_json::from_str::<Value>(&again)?["erased_at"] == printed["erased_at"],
        "{again}"
    );

    // The same address is somebody else's from now on.
    visit(&client, ADA, 4).await?;
    let newcomer = number(&client, &format!("SELECT person_id('{ADA}')")).await?;
    ensure!(newcomer != ada && newcomer > 0 && of(&client, ADA).await? == 1);

    // Rebuilt from the journals alone, it stays so, and the proof holds of what stands still.
    installation.stop().await?;
    prove(&installation, &receipt).await?.ok()?;
    looked_at_with_its_own_eyes(&installation, &receipt).await?;
    installation.operator(&["rebuild"]).await?.ok()?;
    prove(&installation, &receipt).await?.ok()?;
    installation.up().await?;
    let client = installation.client(&product.admin_key)?;
    ensure!(of(&client, ADA).await? == 1 && of(&client, BOB).await? == 1);
    ensure!(number(&client, &format!("SELECT count(*) FROM events WHERE email = {ada}")).await? == 2);

    // A receipt that was changed, and one of somebody who is there, prove nothing.
    let mut forged = printed.clone();
    forged["receipt"] = json!(printed["receipt"].as_str().context("a receipt")?.replacen('A', "B", 1));
    let at = installation.aside("forged.json");
    fs::write(&at, forged.to_string())?;
    let refused = prove(&installation, &at).await?;
    ensure!(refused.code == EIGHT, "{refused:?}");
    installation.stop().await?;

    // One object of before, put back into one zone of the vault: found, named and not proven.
    let held = data.join("zones/vault/a");
    let kept = aside.join("vault-a-now");
    copy(&held, &kept)?;
    let put_back = std::process::Command::new("cp")
        .arg("-an")
        .arg(format!("{}/.", vaults.display()))
        .arg(&held)
        .status()?;
    ensure!(put_back.success());
    let refused = prove(&installation, &receipt).await?;
    ensure!(
        refused.code == EIGHT && refused.stderr.contains("holds a key of older keyrings"),
        "{refused:?}"
    );
    fs::remove_dir_all(&held)?;
    copy(&kept, &held)?;
    prove(&installation, &receipt).await?.ok()?;

    // The older copy of everything that the identity role has, under the vault as it is now: nobody goes on from it.
    for part in parts {
        fs::rename(data.join(part), aside.join(format!("{}-now", part.replace('/', "-"))))?;
        copy(&aside.join(part.replace('/', "-")), &data.join(part))?;
    }
    let refused = prove(&installation, &receipt).await?;
    ensure!(
        refused.code == EIGHT && refused.stderr.contains("has a row of the person"),
        "{refused:?}"
    );
    let said = installation.up_in_vain().await?;
    ensure!(said.contains("people") && said.contains("remember"), "{said}");
    for part in parts {
        fs::remove_dir_all(data.join(part))?;
        fs::rename(aside.join(format!("{}-now", part.replace('/', "-"))), data.join(part))?;
    }
    installation.up().await?;
    let client = installation.client(&product.admin_key)?;
    ensure!(number(&client, &format!("SELECT person_id('{BOB}')")).await? == bob);
    ensure!(installation.pids().contains_key(&Role::Identity));
    installation.finish().await
}
