//! Zones in stores that speak S3, with real ones: an installation whose warehouse keeps its zones there takes rows, misses no store
//! that dies or hangs, starts again on what they hold, and shows no access key anywhere.

mod senders;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use base::Role;
use senders::Senders;
use testkit::stores::Stores;
use testkit::{Client, Installation, until};

const DATABASE: &str = "stores";
const PATIENCE: Duration = Duration::from_secs(90);

/// The state and the words of a zone of the warehouse.
async fn zone(installation: &Installation, name: &str) -> anyhow::Result<(String, String)> {
    let doctor = installation.doctor().await?;
    let about = format!("warehouse zone {name}");
    let lines = doctor.as_array().map(Vec::as_slice).unwrap_or_default();
    let line = lines.iter().find(|line| line["about"] == about.as_str());
    let text = |key: &str| line.and_then(|line| line[key].as_str()).unwrap_or_default().to_owned();
    Ok((text("state"), text("says")))
}

async fn all_zones_are_well(installation: &Installation) -> anyhow::Result<()> {
    for name in ["a", "b", "c"] {
        let (state, says) = zone(installation, name).await?;
        ensure!(
            state == "ok" && !says.contains("still to be copied") && !says.contains("catching up"),
            "{name}: {says}"
        );
    }
    Ok(())
}

/// Where root starts them, roles are users of their own: whose the file of an access key has to be is said, and done here.
async fn give_as_told(installation: &mut Installation, files: usize) -> anyhow::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    for _ in 0..files {
        let said = installation.up_in_vain().await?;
        let mut words = said
            .split_once("chown ")
            .map(|(_, rest)| rest.split_whitespace())
            .into_iter()
            .flatten();
        let (owner, file) = (words.next(), words.next().map(|word| word.trim_end_matches(';')));
        let (owner, file) = owner.zip(file).with_context(|| format!("it does not say what to do:\n{said}"))?;
        std::os::unix::fs::chown(file, Some(owner.parse()?), None)?;
    }
    Ok(())
}

async fn goes_on(client: &Client, senders: &Senders) -> anyhow::Result<()> {
    for _ in 0..5 {
        senders.taken_since(senders.taken(), PATIENCE).await?;
        ensure!(
            client.number(DATABASE, "SELECT count(*) FROM events").await? > 0,
            "nothing is there"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warehouse_whose_zones_are_in_stores_misses_none_of_them_and_starts_again() -> anyhow::Result<()> {
    let mut stores = Stores::start(&["a", "b", "c"]).await?;
    let mut installation = Installation::prepare(env!("CARGO_BIN_EXE_coffer")).await?;
    installation.configure(&format!("[warehouse.zones]\nzones = {}\n", stores.zones("warehouse")?))?;
    give_as_told(&mut installation, 1).await?;
    installation.up().await?;
    let product = installation.product("stores").await?;
    let client = installation.client(&product.admin_key)?;
    client.create_table(DATABASE, "events").await?;
    until("all zones are well", PATIENCE, || all_zones_are_well(&installation)).await?;
    let (_, says) = zone(&installation, "b").await?;
    ensure!(says.contains(&stores.each[1].url("warehouse")), "it does not say where: {says}");
    ensure!(!installation.zone(Role::Warehouse, "a").exists(), "there is a directory, too");

    let senders = Senders::start(&client, DATABASE, "events");
    senders.taken_since(2, PATIENCE).await?;
    stores.each[1].kill()?;
    goes_on(&client, &senders).await?;
    let (state, says) = zone(&installation, "b").await?;
    ensure!(state == "wrong" && says.contains("down"), "{says}");
    stores.each[1].start().await?;
    until("b has caught up", PATIENCE, || all_zones_are_well(&installation)).await?;

    stores.each[2].pause().await?;
    goes_on(&client, &senders).await?;
    stores.each[2].resume()?;
    until("c has caught up", PATIENCE, || all_zones_are_well(&installation)).await?;
    let sent = senders.stop().await?;
    sent.check(&client, DATABASE, "events").await?;

    // With another store away than before: what is read now comes from those that had to catch up.
    installation.kill_all().await?;
    stores.each[0].kill()?;
    installation.up().await?;
    until("all rows are there", PATIENCE, || sent.check(&client, DATABASE, "events")).await?;
    stores.each[0].start().await?;
    until("a has caught up", PATIENCE, || all_zones_are_well(&installation)).await?;

    for start in 1..=installation.starts() {
        let log = std::fs::read_to_string(installation.logs().join(format!("serve-{start}.log")))?;
        ensure!(!log.contains(stores.secret()), "the log holds the secret of an access key");
    }
    installation.finish().await
}

/// Every role, the vault too, which finds its zones before it enters its sandbox.
#[tokio::test(flavor = "multi_thread")]
async fn all_roles_may_have_their_zones_in_stores() -> anyhow::Result<()> {
    let stores = Stores::start(&["a", "b", "c"]).await?;
    let mut installation = Installation::prepare(env!("CARGO_BIN_EXE_coffer")).await?;
    let mut settings = String::new();
    for role in ["vault", "accounts", "identity", "warehouse"] {
        settings.push_str(&format!("[{role}.zones]\nzones = {}\n", stores.zones(role)?));
    }
    installation.configure(&settings)?;
    give_as_told(&mut installation, 4).await?;
    installation.up().await?;
    let product = installation.product("stores").await?;
    let client = installation.client(&product.admin_key)?;
    client.create_table(DATABASE, "events").await?;
    let rows = [serde_json::json!({"time": 1_700_000_000, "email": "ada@example.com", "n": 1})];
    client.import(DATABASE, "events", None, &rows).await?.ok()?;

    installation.kill_all().await?;
    installation.up().await?;
    let count = until("a query is answered", PATIENCE, || {
        client.number(DATABASE, "SELECT count(*) FROM events")
    })
    .await?;
    ensure!(count == 1, "{count} rows");
    installation.finish().await
}
