//! The root key with people, as they meet it: split while all goes on, sealed starts, shares one by one, sealing under load, new shares.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use anyhow::ensure;
use base::Role;
use serde_json::{Value, json};
use testkit::{Installation, Ran, until};

const DATABASE: &str = "vault";
const SEALED: &str = "THE VAULT IS SEALED";
const SOON: Duration = Duration::from_secs(60);
/// What is promised.
const TEN_SECONDS: Duration = Duration::from_secs(10);

async fn status(installation: &Installation) -> anyhow::Result<Value> {
    let shown = installation.operator(&["vault", "status", "-o", "json"]).await?.ok()?;
    let rows: Value = serde_json::from_str(&shown)?;
    Ok(rows[0].clone())
}

async fn unseal(installation: &Installation, share: &str) -> anyhow::Result<Ran> {
    installation.operator_reading(&["vault", "unseal"], share).await
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_split_root_key_opens_the_installation_by_enough_shares_only() -> anyhow::Result<()> {
    let mut installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let product = installation.product("shared").await?;
    let admin = installation.client(&product.admin_key)?;
    admin.create_table(DATABASE, "events").await?;
    admin
        .import(DATABASE, "events", None, &[json!({"time": 1_700_000_000, "n": 1})])
        .await?
        .ok()?;
    let count = "SELECT count(*) FROM events";
    ensure!(status(&installation).await?["root_key"] == "file");
    let refused = installation.operator(&["vault", "seal", "--yes"]).await?;
    ensure!(
        refused.code == Some(5) && refused.stderr.contains("coffer vault init"),
        "{refused:?}"
    );

    let made = installation
        .operator(&["vault", "init", "--shares", "3", "--threshold", "2"])
        .await?;
    let shares = lines(&made.clone().ok()?);
    ensure!(
        shares.len() == 3 && shares.iter().all(|share| share.starts_with("coffer-share-1-")),
        "{shares:?}"
    );
    ensure!(!made.stderr.contains("coffer-share-"), "shares are among the messages");
    let again = installation
        .operator(&["vault", "init", "--shares", "3", "--threshold", "2"])
        .await?;
    ensure!(again.code == Some(5) && again.stdout.is_empty(), "{again:?}");
    ensure!(admin.number(DATABASE, count).await? == 1, "it does not go on");
    ensure!(
        !installation.data().join("roles/vault/root.key").exists(),
        "the root key file is still there"
    );
    installation.stop().await?;

    installation.up_until_said(SEALED).await?;
    let now = status(&installation).await?;
    ensure!(now["state"] == "sealed" && now["threshold"] == 2 && now["shown"] == 0, "{now}");
    let doctor = installation.operator(&["doctor"]).await?;
    ensure!(
        doctor.code == Some(1) && doctor.stdout.contains("sealed: 0 of the 2 shares"),
        "{doctor:?}"
    );
    ensure!(installation.pids().keys().eq([&Role::Vault]), "a role runs beside a sealed vault");

    let mut mistyped = shares[1].clone();
    mistyped.truncate(mistyped.len() - 1);
    let wrong = unseal(&installation, &mistyped).await?;
    ensure!(wrong.code == Some(6) && wrong.stderr.contains("share 2 is damaged"), "{wrong:?}");
    let none = unseal(&installation, "").await?;
    ensure!(none.code == Some(2), "{none:?}");
    let first = unseal(&installation, &shares[2]).await?;
    ensure!(first.code == Some(0) && first.stderr.contains("1 of 2"), "{first:?}");
    let second = unseal(&installation, &shares[1]).await?;
    ensure!(second.code == Some(0) && second.stderr.contains("is unsealed"), "{second:?}");
    installation.ready().await?;
    ensure!(admin.number(DATABASE, count).await? == 1, "rows are lost");
    let more = unseal(&installation, &shares[0]).await?;
    ensure!(more.code == Some(0) && more.stderr.contains("already"), "{more:?}");

    let log = installation.log();
    for share in &shares {
        let value = share.split('-').nth(6).unwrap_or_default();
        ensure!(value.len() == 64 && !log.contains(value), "a share is in the log");
    }
    installation.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn sealing_ends_what_is_read_and_unsealing_brings_it_back() -> anyhow::Result<()> {
    let installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let product = installation.product("sealing").await?;
    let (admin, reader) = (installation.client(&product.admin_key)?, installation.client(&product.read_key)?);
    admin.create_table(DATABASE, "events").await?;
    let rows = [json!({"time": 1_700_000_000, "n": 1})];
    admin.import(DATABASE, "events", None, &rows).await?.ok()?;
    let aside = installation.aside("shares");
    let out = aside.display().to_string();
    installation
        .operator(&["vault", "init", "--shares", "2", "--threshold", "2", "--out", &out])
        .await?
        .ok()?;
    let mut shares = Vec::new();
    for entry in fs::read_dir(&aside)? {
        let path = entry?.path();
        ensure!(
            fs::metadata(&path)?.mode() & 0o777 == 0o600,
            "{} can be read by others",
            path.display()
        );
        shares.push(fs::read_to_string(path)?);
    }
    ensure!(shares.len() == 2, "{} shares", shares.len());
    ensure!(reader.number(DATABASE, "SELECT count(*) FROM events").await? == 1);
    let before = installation.pids();

    installation.operator(&["vault", "seal", "--yes"]).await?.ok()?;
    until("nobody reads", TEN_SECONDS, || async {
        // Without the vault a question may wait for a lease for long; no rows is what counts.
        let asked = tokio::time::timeout(Duration::from_secs(2), reader.query(DATABASE, "SELECT count(*) FROM events"));
        ensure!(!matches!(asked.await, Ok(Ok(_))), "somebody reads");
        Ok(())
    })
    .await?;
    until("the vault is back, sealed", SOON, || async {
        ensure!(status(&installation).await?["state"] == "sealed");
        Ok(())
    })
    .await?;
    for (role, pid) in installation.pids() {
        ensure!((before.get(&role) == Some(&pid)) == (role != Role::Vault), "the process of {role}");
    }
    for share in &shares {
        unseal(&installation, share).await?.ok()?;
    }
    installation.ready().await?;
    until("rows are read again", SOON, || async {
        ensure!(reader.number(DATABASE, "SELECT count(*) FROM events").await? == 1);
        Ok(())
    })
    .await?;
    until("rows are taken again", SOON, || async {
        admin.import(DATABASE, "events", None, &rows).await?.ok().map(drop)
    })
    .await?;
    installation.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn new_shares_take_the_place_of_old_ones_and_a_role_that_dies_while_sealed_waits() -> anyhow::Result<()> {
    let mut installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    installation.product("rekeyed").await?;
    let early = installation
        .operator_reading(&["vault", "rekey", "--shares", "2", "--threshold", "2"], "")
        .await?;
    ensure!(early.code == Some(5), "{early:?}");
    let old = lines(
        &installation
            .operator(&["vault", "init", "--shares", "2", "--threshold", "2"])
            .await?
            .ok()?,
    );
    let rekey = ["vault", "rekey", "--shares", "3", "--threshold", "2"];
    let few = installation.operator_reading(&rekey, &format!("{}\n", old[0])).await?;
    ensure!(few.code == Some(2) && few.stdout.is_empty(), "{few:?}");
    let twice = installation.operator_reading(&rekey, &format!("{}\n{}\n", old[0], old[0])).await?;
    ensure!(twice.code == Some(6) && twice.stdout.is_empty(), "{twice:?}");
    let new = lines(
        &installation
            .operator_reading(&rekey, &format!("{}\n{}\n", old[1], old[0]))
            .await?
            .ok()?,
    );
    ensure!(new.len() == 3, "{} shares", new.len());

    installation.operator(&["vault", "seal", "--yes"]).await?.ok()?;
    until("the vault is back, sealed", SOON, || async {
        ensure!(status(&installation).await?["state"] == "sealed");
        Ok(())
    })
    .await?;
    installation.kill(Role::Warehouse)?;
    until("the warehouse waits", SOON, || async {
        ensure!(installation.log().contains("the warehouse role waits until the vault is unsealed"));
        Ok(())
    })
    .await?;
    let refused = unseal(&installation, &old[0]).await?;
    ensure!(
        refused.code == Some(6) && refused.stderr.contains("belongs to the set"),
        "{refused:?}"
    );
    for share in &new[1..] {
        unseal(&installation, share).await?.ok()?;
    }
    installation.ready().await?;
    installation.stop().await?;
    installation.up_until_said(SEALED).await?;
    for share in &new[..2] {
        unseal(&installation, share).await?.ok()?;
    }
    installation.ready().await?;
    installation.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_installation_is_rebuilt_once_it_is_unsealed_its_sealed_root_from_the_zones() -> anyhow::Result<()> {
    let mut installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let product = installation.product("rebuilt").await?;
    let admin = installation.client(&product.admin_key)?;
    admin.create_table(DATABASE, "events").await?;
    let rows = [json!({"time": 1_700_000_000, "n": 1})];
    admin.import(DATABASE, "events", None, &rows).await?.ok()?;
    let shares = lines(
        &installation
            .operator(&["vault", "init", "--shares", "2", "--threshold", "2"])
            .await?
            .ok()?,
    );
    installation.stop().await?;
    let root = installation.data().join("roles/vault/root.sealed");
    fs::remove_file(&root)?;

    let config = installation.aside("coffer.toml").display().to_string();
    let words = ["rebuild", "--config", &config, "--verify"];
    let lost = installation.operator(&words).await?;
    ensure!(lost.code == Some(7) || lost.code == Some(1), "{lost:?}");
    ensure!(root.exists(), "the sealed root was not put back");

    let rebuilding = installation.spawn_operator(&words)?;
    until("the vault that rebuilds is sealed", SOON, || async {
        ensure!(status(&installation).await?["state"] == "sealed");
        Ok(())
    })
    .await?;
    for share in &shares {
        unseal(&installation, share).await?.ok()?;
    }
    let rebuilt: Ran = rebuilding.wait_with_output().await?.into();
    ensure!(rebuilt.stderr.contains("the vault is sealed"), "{}", rebuilt.stderr);
    rebuilt.ok()?;

    installation.up_until_said(SEALED).await?;
    for share in &shares {
        unseal(&installation, share).await?.ok()?;
    }
    installation.ready().await?;
    ensure!(admin.number(DATABASE, "SELECT count(*) FROM events").await? == 1, "rows are lost");
    installation.finish().await
}
