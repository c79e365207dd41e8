//! What an operator sees of zones, and what a scrub makes of them, through the real binary; and that no role goes on from an old state of
//! its zones.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base::Role;
use serde_json::{Value, json};
use testkit::{Installation, until};

const DATABASE: &str = "zones";
const PATIENCE: Duration = Duration::from_secs(60);
const WITH_ZONES: [Role; 4] = [Role::Vault, Role::Accounts, Role::Identity, Role::Warehouse];

async fn status(installation: &Installation) -> anyhow::Result<Vec<Value>> {
    let said = installation.operator(&["zones", "status", "-o", "json"]).await?.ok()?;
    Ok(serde_json::from_str(&said)?)
}

fn of<'a>(lines: &'a [Value], role: Role, zone: &str) -> anyhow::Result<&'a Value> {
    lines
        .iter()
        .find(|line| line["role"] == role.as_str() && line["zone"] == zone)
        .with_context(|| format!("nothing about zone {zone} of {role} in {lines:?}"))
}

/// The objects in a zone, by their paths in it.
fn objects(zone: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let (mut found, mut waiting) = (Vec::new(), vec![zone.to_owned()]);
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|end| end.len() == 64) {
                found.push(path.strip_prefix(zone)?.to_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}

fn flip(file: &Path) -> anyhow::Result<()> {
    let mut bytes = fs::read(file)?;
    let middle = bytes.len() / 2;
    *bytes.get_mut(middle).context("it is empty")? ^= 4;
    Ok(fs::write(file, bytes)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_sees_how_zones_are_and_a_scrub_puts_them_right() -> anyhow::Result<()> {
    let mut installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let product = installation.product("zones").await?;
    let client = installation.client(&product.admin_key)?;
    client.create_table(DATABASE, "events").await?;
    let row = |n: i64| [json!({"time": 1_700_000_000 + n, "user_id": format!("ada-{n}"), "n": n})];
    for n in 0..4 {
        client.import(DATABASE, "events", None, &row(n)).await?.ok()?;
    }

    // All is well.
    let all = until("every zone is idle", PATIENCE, || async {
        let lines = status(&installation).await?;
        for role in WITH_ZONES {
            for zone in ["a", "b", "c"] {
                let line = of(&lines, role, zone)?;
                ensure!(
                    line["state"] == "up" && line["circuit"] == "closed" && line["compared"] == true,
                    "{line}"
                );
                ensure!(line["lag_objects"] == 0 && line["missing"] == 0 && line["corrupt"] == 0, "{line}");
                ensure!(line["scrubbed_at"].is_null(), "{line}");
            }
        }
        Ok(lines)
    })
    .await?;
    ensure!(all.len() == 12, "{} lines", all.len());

    // A zone is away.
    let zone = installation.zone(Role::Warehouse, "b");
    fs::rename(&zone, zone.with_extension("away"))?;
    for n in 4..8 {
        client.import(DATABASE, "events", None, &row(n)).await?.ok()?;
    }
    until("the zone is seen to be away", PATIENCE, || async {
        let lines = status(&installation).await?;
        let line = of(&lines, Role::Warehouse, "b")?;
        ensure!(line["state"] == "down" && line["circuit"] != "closed", "{line}");
        ensure!(line["detail"] == "the directory is missing", "{line}");
        ensure!(
            line["lag_objects"].as_u64() >= Some(4) && line["lag_bytes"].as_u64() > Some(100),
            "{line}"
        );
        ensure!(line["lag_since"].is_string(), "{line}");
        Ok(())
    })
    .await?;
    let table = installation.operator(&["zones", "status", "-o", "table"]).await?.ok()?;
    ensure!(
        table.contains("the directory is missing, circuit ") && table.contains(" known, for "),
        "{table}"
    );
    let metrics = installation.operator(&["metrics", "warehouse"]).await?.ok()?;
    ensure!(metrics.contains("coffer_zone_circuit_open{zone=\"b\"} 1"), "{metrics}");
    let incomplete = installation.operator(&["zones", "scrub", "--role", "warehouse"]).await?;
    ensure!(
        incomplete.code == Some(7) && incomplete.stderr.contains("zone b did not answer"),
        "{incomplete:?}"
    );
    fs::rename(zone.with_extension("away"), &zone)?;
    until("the zone is back", PATIENCE, || async {
        let lines = status(&installation).await?;
        let line = of(&lines, Role::Warehouse, "b")?;
        ensure!(
            line["state"] == "up" && line["lag_objects"] == 0 && line["compared"] == true,
            "{line}"
        );
        Ok(())
    })
    .await?;

    // What nobody has read is found and put right.
    let zone = |name| installation.zone(Role::Warehouse, name);
    let held = objects(&zone("a"))?;
    let (wrong, missing) = (held.first().context("nothing")?, held.last().context("nothing")?);
    ensure!(wrong != missing, "only one object");
    let good = fs::read(zone("a").join(wrong))?;
    flip(&zone("b").join(wrong))?;
    fs::remove_file(zone("c").join(missing))?;
    let scrubbed = installation
        .operator(&["zones", "scrub", "--role", "warehouse", "--full", "-o", "json"])
        .await?
        .ok()?;
    let lines: Vec<Value> = serde_json::from_str(&scrubbed)?;
    let found: Vec<_> = lines
        .iter()
        .map(|line| (&line["missing"], &line["corrupt"], &line["repaired"]))
        .collect();
    ensure!(
        found
            == [
                (&json!(0), &json!(0), &json!(0)),
                (&json!(0), &json!(1), &json!(1)),
                (&json!(1), &json!(0), &json!(1))
            ],
        "{scrubbed}"
    );
    ensure!(fs::read(zone("b").join(wrong))? == good, "it was not repaired");
    ensure!(zone("c").join(missing).exists(), "it was not copied");
    let all = installation.operator(&["zones", "scrub", "-o", "tsv"]).await?.ok()?;
    ensure!(all.lines().count() == 13, "{all}");

    // It is remembered.
    installation.stop().await?;
    let nobody = installation.operator(&["zones", "status"]).await?;
    ensure!(nobody.code == Some(7) && nobody.stderr.contains("coffer serve"), "{nobody:?}");
    installation.up().await?;
    let lines = status(&installation).await?;
    let line = of(&lines, Role::Warehouse, "b")?;
    ensure!(
        line["scrubbed_at"].is_string() && line["scrub_objects"].as_u64() >= Some(held.len() as u64),
        "{line}"
    );

    // What is beyond repair is said by name.
    for name in ["a", "b", "c"] {
        flip(&installation.zone(Role::Warehouse, name).join(wrong))?;
    }
    let lost = installation.operator(&["zones", "scrub", "--role", "warehouse", "--full"]).await?;
    ensure!(lost.code == Some(8) && lost.stderr.contains(&*wrong.to_string_lossy()), "{lost:?}");
    installation.finish().await
}

fn copy_tree(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

fn put_back(zone: &Path, from: &Path) -> anyhow::Result<()> {
    fs::remove_dir_all(zone)?;
    copy_tree(from, zone)
}

/// How often a role was told of another's head since its start.
async fn told(installation: &Installation, role: &str) -> anyhow::Result<u64> {
    let text = installation.operator(&["metrics", role]).await?.ok()?;
    let count = text
        .lines()
        .find_map(|line| line.strip_prefix("coffer_call_seconds_count{call=\"/coffer.v1.Heads/Remember\"} "));
    Ok(count.unwrap_or("0").parse()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_role_goes_on_from_an_old_state_of_its_zones() -> anyhow::Result<()> {
    let mut installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let product = installation.product("before").await?;
    let client = installation.client(&product.admin_key)?;
    client.create_table(DATABASE, "events").await?;
    let row = |n: i64| [json!({"time": 1_700_000_000 + n, "user_id": format!("ada-{n}"), "n": n})];
    client.import(DATABASE, "events", None, &row(0)).await?.ok()?;
    installation.stop().await?;
    fs::create_dir(installation.aside("old"))?;
    for part in ["zones", "roles"] {
        copy_tree(&installation.data().join(part), &installation.aside("old").join(part))?;
    }
    installation.up().await?;
    // The vault has told its head of before; what it tells next is newer.
    until("the vault's old head is remembered", PATIENCE, || async {
        ensure!(told(&installation, "accounts").await? > 0, "not yet");
        Ok(())
    })
    .await?;
    let (told_accounts, told_vault) = (told(&installation, "accounts").await?, told(&installation, "vault").await?);
    let after = installation.product("after").await?;
    let rows = std::sync::atomic::AtomicI64::new(1);
    until("every new head is remembered", PATIENCE, || async {
        // Each has somebody new in it: the identity role and the warehouse both have something to tell.
        let n = rows.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        client.import(DATABASE, "events", None, &row(n)).await?.ok()?;
        let (accounts, vault) = (told(&installation, "accounts").await?, told(&installation, "vault").await?);
        ensure!(accounts > told_accounts && vault > told_vault + 6, "not yet");
        Ok(())
    })
    .await?;
    let rows = rows.into_inner();
    installation.stop().await?;

    let (aside, logs, data) = (installation.aside("old"), installation.logs(), installation.data());
    let old = |part: &str, role: Role| aside.join(part).join(role.as_str());
    let away = |path: &Path| path.with_extension("away");
    for (starts, role) in WITH_ZONES.into_iter().enumerate() {
        // All that the role itself has is from before, and of its zones a majority; the newest one is not there.
        let (directory, newest) = (data.join("roles").join(role.as_str()), installation.zone(role, "c"));
        fs::rename(&directory, away(&directory))?;
        copy_tree(&old("roles", role), &directory)?;
        for name in ["a", "b"] {
            put_back(&installation.zone(role, name), &old("zones", role).join(name))?;
        }
        fs::rename(&newest, away(&newest))?;
        let log = logs.join(format!("serve-{}.log", starts + 3));
        let noticed = || {
            let log = fs::read_to_string(&log).unwrap_or_default();
            let says = ["are remembered", "remembers another state", "than is remembered"];
            says.iter().any(|words| log.contains(words))
        };
        let notices = || {
            until("the role notices", PATIENCE, || async {
                // The warehouse opens a product when somebody asks for it.
                if role == Role::Warehouse {
                    let asked = client.number(DATABASE, "SELECT count(*) FROM events").await;
                    ensure!(asked.is_err(), "the warehouse answers from an old state of its zones");
                }
                ensure!(noticed(), "{role} goes on from an old state of its zones");
                Ok(())
            })
        };
        tokio::select! {
            // It does not become ready, or, as the vault, is so until it has heard from the others.
            _ = installation.up() => {}
            noticed = notices() => noticed?,
        }
        notices().await?;
        // It may have ended by itself, which is as good.
        let _killed = installation.kill_all().await;
        fs::remove_dir_all(&directory)?;
        fs::rename(away(&directory), &directory)?;
        fs::rename(away(&newest), &newest)?;
    }

    // With one zone that is not from yesterday nothing is lost.
    installation.up().await?;
    let client = installation.client(&product.admin_key)?;
    ensure!(
        client.number(DATABASE, "SELECT count(*) FROM events").await? == rows,
        "rows are lost"
    );
    ensure!(
        client.number(DATABASE, "SELECT count(DISTINCT user_id) FROM events").await? == rows,
        "people are lost"
    );
    let listed = installation.operator(&["products", "list", "-o", "tsv"]).await?.ok()?;
    ensure!(listed.contains("before") && listed.contains("after"), "{listed}");
    installation.client(&after.admin_key)?.create_table(DATABASE, "events").await?;
    installation.finish().await
}
