//! Proof 3: one zone away, in every way that a zone goes away, stops neither imports nor queries and loses nothing; two away refuse
//! writes, answer queries, and nothing that was refused appears later.

mod senders;

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base::Role;
use senders::Senders;
use serde_json::json;
use testkit::{Client, Installation, Product, until};

const DATABASE: &str = "zones";
const PATIENCE: Duration = Duration::from_secs(60);

async fn started(installation: &Installation) -> anyhow::Result<(Product, Client)> {
    let product = installation.product("zones").await?;
    let client = installation.client(&product.admin_key)?;
    client.create_table(DATABASE, "events").await?;
    Ok((product, client))
}

/// Imports and queries go on, whatever `break_it` does to the zone; when `mend` has been called, the zone catches up.
async fn goes_on_without_a_zone(
    installation: &Installation,
    role: Role,
    break_it: impl FnOnce(&Path) -> anyhow::Result<()>,
    mend: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (_, client) = started(installation).await?;
    let senders = Senders::start(&client, DATABASE, "events");
    senders.taken_since(2, PATIENCE).await?;
    let zone = installation.zone(role, "b");

    break_it(&zone)?;
    for _ in 0..5 {
        senders.taken_since(senders.taken(), PATIENCE).await?;
        ensure!(
            client.number(DATABASE, "SELECT count(*) FROM events").await? > 0,
            "nothing is there"
        );
    }
    mend(&zone)?;

    let sent = senders.stop().await?;
    sent.check(&client, DATABASE, "events").await?;
    let (whole, returned) = (installation.zone(role, "a"), zone);
    until("the zone has caught up", PATIENCE, || async {
        let missing: Vec<PathBuf> = objects(&whole)?.difference(&objects(&returned)?).cloned().collect();
        ensure!(
            missing.is_empty(),
            "{} objects are missing there, such as {:?}",
            missing.len(),
            missing.first()
        );
        Ok(())
    })
    .await?;
    sent.check(&client, DATABASE, "events").await
}

/// The names of everything in a zone that a reader may be sent to.
fn objects(zone: &Path) -> anyhow::Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![zone.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).with_context(|| format!("no directory {}", directory.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                // An object has its digest in its name; what has none is the zone's own business.
                let is_object = path.extension().is_some_and(|end| end.len() == 64);
                if is_object {
                    found.insert(path.strip_prefix(zone)?.to_owned());
                }
            }
        }
    }
    Ok(found)
}

fn aside(zone: &Path) -> PathBuf {
    zone.with_extension("away")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_zone_of_the_warehouse_is_not_missed() -> anyhow::Result<()> {
    let installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let (break_it, mend) = (
        |zone: &Path| Ok(fs::rename(zone, aside(zone))?),
        |zone: &Path| Ok(fs::rename(aside(zone), zone)?),
    );
    goes_on_without_a_zone(&installation, Role::Warehouse, break_it, mend).await?;
    installation.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_zone_of_the_identity_role_is_not_missed() -> anyhow::Result<()> {
    let installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let (break_it, mend) = (
        |zone: &Path| Ok(fs::rename(zone, aside(zone))?),
        |zone: &Path| Ok(fs::rename(aside(zone), zone)?),
    );
    goes_on_without_a_zone(&installation, Role::Identity, break_it, mend).await?;
    installation.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_replaced_by_a_file_is_not_missed() -> anyhow::Result<()> {
    let installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let break_it = |zone: &Path| {
        fs::rename(zone, aside(zone))?;
        Ok(fs::write(zone, "not a directory")?)
    };
    let mend = |zone: &Path| {
        fs::remove_file(zone)?;
        Ok(fs::rename(aside(zone), zone)?)
    };
    goes_on_without_a_zone(&installation, Role::Warehouse, break_it, mend).await?;
    installation.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_zone_is_filled_anew_at_the_operators_word_only() -> anyhow::Result<()> {
    let installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let break_it = |zone: &Path| {
        fs::rename(zone, aside(zone))?;
        fs::create_dir(zone)?;
        installation.give(Role::Warehouse, zone)
    };
    let mend = |zone: &Path| {
        ensure!(fs::read_dir(zone)?.next().is_none(), "an empty directory was taken for a zone");
        Ok(fs::write(zone.join("adopt-as-b"), "")?)
    };
    goes_on_without_a_zone(&installation, Role::Warehouse, break_it, mend).await?;
    installation.finish().await
}

/// A small file system in the zone's place; unmounted when the test ends, however it does.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(at: &Path) -> anyhow::Result<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=24m,mode=0700", "coffer-test"])
            .arg(at)
            .status()?;
        ensure!(mounted.success(), "could not mount a tmpfs at {}", at.display());
        Ok(Self(at.to_owned()))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_zone_is_not_missed() -> anyhow::Result<()> {
    let mut installation = Installation::prepare(env!("CARGO_BIN_EXE_coffer")).await?;
    // Only root may mount. Others take the right to write away instead: refused all the same, though not for lack of room.
    let as_root = nix::unistd::geteuid().is_root();
    let mut tmpfs = None;
    if as_root {
        for zone in ["a", "b", "c"] {
            let path = installation.zone(Role::Warehouse, zone);
            fs::create_dir_all(&path)?;
            for part in path.ancestors().take_while(|part| part.starts_with(installation.data())) {
                fs::set_permissions(part, Permissions::from_mode(0o700))?;
            }
        }
        tmpfs = Some(Tmpfs::mount(&installation.zone(Role::Warehouse, "b"))?);
    }
    installation.up().await?;

    let break_it = |zone: &Path| {
        if as_root {
            fill(&zone.join("ballast"))
        } else {
            set_writable(zone, false)
        }
    };
    let mend = |zone: &Path| {
        if as_root {
            Ok(fs::remove_file(zone.join("ballast"))?)
        } else {
            set_writable(zone, true)
        }
    };
    goes_on_without_a_zone(&installation, Role::Warehouse, break_it, mend).await?;
    installation.stop().await?;
    drop(tmpfs);
    installation.finish().await
}

/// Writes until nothing more fits.
fn fill(ballast: &Path) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut file = fs::File::create(ballast)?;
    for size in [1 << 16, 1 << 8, 1] {
        while file.write_all(&vec![7; size]).is_ok() {}
    }
    Ok(())
}

fn set_writable(directory: &Path, writable: bool) -> anyhow::Result<()> {
    fs::set_permissions(directory, Permissions::from_mode(if writable { 0o700 } else { 0o500 }))?;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            set_writable(&path, writable)?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_two_zones_away_writes_are_refused_queries_go_on_and_nothing_refused_appears() -> anyhow::Result<()> {
    let mut installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let (_, client) = started(&installation).await?;
    let row = |kind: &str, n: i64| json!({"time": 1_700_000_000, "kind": kind, "n": n});
    client.import(DATABASE, "events", None, &[row("before", 0)]).await?.ok()?;

    let away: Vec<PathBuf> = ["b", "c"].map(|zone| installation.zone(Role::Warehouse, zone)).into();
    for zone in &away {
        fs::rename(zone, aside(zone))?;
    }
    for n in 0..20 {
        let refused = client
            .import(DATABASE, "events", Some(&format!("refused-{n}")), &[row("refused", n)])
            .await?;
        ensure!(refused.status == 503, "status {}: {}", refused.status, refused.text());
        ensure!(
            refused.text().contains("try again"),
            "it does not say what to do: {}",
            refused.text()
        );
        ensure!(refused.headers.contains_key("retry-after"), "it does not say when");
        let count = client.number(DATABASE, "SELECT count(*) FROM events").await?;
        ensure!(count == 1, "{count} rows while nothing could be written");
    }

    for zone in &away {
        fs::rename(aside(zone), zone)?;
    }
    let taken = until("writes are taken again", PATIENCE, || async {
        client.import(DATABASE, "events", Some("after"), &[row("after", 0)]).await?.ok()
    });
    taken.await?;
    let expected = [vec![json!("after"), json!(1)], vec![json!("before"), json!(1)]];
    let by_kind = "SELECT kind, count(*) FROM events GROUP BY kind ORDER BY kind";
    ensure!(client.query(DATABASE, by_kind).await? == expected, "something refused is visible");

    // Nor after a restart, which reads all that the zones hold.
    installation.kill_all().await?;
    installation.up().await?;
    let found = until("a query is answered", PATIENCE, || client.query(DATABASE, by_kind)).await?;
    ensure!(found == expected, "after a restart something refused is visible: {found:?}");
    // What was refused can be sent again, under the same id, and is new.
    client
        .import(DATABASE, "events", Some("refused-0"), &[row("refused", 0)])
        .await?
        .ok()?;
    ensure!(
        client
            .number(DATABASE, "SELECT count(*) FROM events WHERE kind = 'refused'")
            .await?
            == 1,
        "a batch that was refused counts as seen"
    );
    installation.finish().await
}
