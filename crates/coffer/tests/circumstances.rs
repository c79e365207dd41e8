//! What happens to an installation from outside: started twice, its clock turned, its directory moved, copied, and put back in part from
//! an older copy. Each works or refuses clearly, and nothing that was acknowledged goes without a word.

mod senders;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base::Role;
use senders::Senders;
use serde_json::json;
use testkit::{Client, Installation, Product, until};

const DATABASE: &str = "circumstances";
const PATIENCE: Duration = Duration::from_secs(120);
/// Exit code for what is in use.
const CONFLICT: Option<i32> = Some(5);
/// 2038-02-18: later than what 32 bits of seconds hold.
const IN_2038: i64 = 2_150_000_000;
const HOUR: i64 = 3600;

async fn started(installation: &Installation) -> anyhow::Result<(Product, Client)> {
    let product = installation.product("circumstances").await?;
    let client = installation.client(&product.admin_key)?;
    client.create_table(DATABASE, "events").await?;
    Ok((product, client))
}

/// Sends one row under an id until it is taken.
async fn take(client: &Client, id: &str) -> anyhow::Result<()> {
    let row = json!({"time": 1_700_000_000, "id": id, "email": format!("{id}@example.com")});
    until(&format!("the row {id} is taken"), PATIENCE, || async {
        client.import(DATABASE, "events", Some(id), std::slice::from_ref(&row)).await?.ok()
    })
    .await?;
    Ok(())
}

/// The rows that there are, each with the person in it.
async fn rows(client: &Client) -> anyhow::Result<Vec<String>> {
    let sql = "SELECT id FROM events WHERE email > 0 ORDER BY id";
    let found = until("a query is answered", PATIENCE, || client.query(DATABASE, sql)).await?;
    found
        .iter()
        .map(|row| row[0].as_str().map(str::to_owned).context("no text"))
        .collect()
}

/// Whether it does what it is for: takes rows, answers, makes keys and lets them in.
async fn works(installation: &Installation, client: &Client, id: &str) -> anyhow::Result<()> {
    take(client, id).await?;
    ensure!(rows(client).await?.contains(&id.to_owned()), "the row {id} is not there");
    let key = until("a key is made", PATIENCE, || installation.key("circumstances", "read")).await?;
    rows(&client.with_key(&key)).await?;
    Ok(())
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let copied = Command::new("cp").arg("-a").args([from, to]).status()?;
    ensure!(copied.success(), "could not copy {}", from.display());
    Ok(())
}

/// Puts a copy in the place of what is there.
fn put_back(copied: &Path, place: &Path) -> anyhow::Result<()> {
    if place.exists() {
        fs::remove_dir_all(place)?;
    }
    copy(copied, place)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_runs_once_by_whatever_path_it_is_reached_and_whatever_is_copied() -> anyhow::Result<()> {
    let installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let (_, client) = started(&installation).await?;
    take(&client, "before").await?;

    // The same directory by another path.
    let link = installation.aside("link");
    symlink(installation.data(), &link)?;
    let second = installation.run(&["serve", "--data", path(&link)?]).await?;
    let first = installation.supervisor().context("it does not run")?.to_string();
    ensure!(second.code == CONFLICT, "{second:?}");
    ensure!(
        second.stderr.contains("in use") && second.stderr.contains(&first),
        "{}",
        second.stderr
    );

    // A copy of the directory, all keys included, with the zones of the first; and one that begins anew, with some of them.
    let (copied, fresh) = (installation.aside("copied"), installation.aside("fresh"));
    copy(&installation.data(), &copied)?;
    let config = installation.aside("second.toml");
    for (data, roles) in [
        (&copied, &[Role::Vault, Role::Accounts, Role::Identity, Role::Warehouse][..]),
        (&copied, &[Role::Warehouse]),
        (&fresh, &[Role::Identity]),
    ] {
        let mut text = "[listen]\npublic = \"127.0.0.1:0\"\n".to_owned();
        for role in roles {
            text.push_str(&format!("[{role}.zones]\nzones = ["));
            for zone in ["a", "b", "c"] {
                let place = installation.zone(*role, zone);
                text.push_str(&format!("{{ name = \"{zone}\", path = \"{}\" }}, ", place.display()));
            }
            text.push_str("]\n");
        }
        fs::write(&config, text)?;
        let second = installation
            .run(&["serve", "--data", path(data)?, "--config", path(&config)?])
            .await?;
        ensure!(second.code == CONFLICT, "{roles:?}: {second:?}");
        let zone = installation.zone(roles[0], "a");
        ensure!(second.stderr.contains(path(&zone)?), "{roles:?}: {}", second.stderr);
    }

    works(&installation, &client, "after").await?;
    ensure!(rows(&client).await? == ["after", "before"], "something else came in");
    installation.finish().await
}

fn path(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("not text")
}

#[tokio::test(flavor = "multi_thread")]
async fn zones_of_another_installation_are_not_taken_over_once_it_has_stopped() -> anyhow::Result<()> {
    let mut installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let (product, client) = started(&installation).await?;
    take(&client, "before").await?;
    installation.stop().await?;
    let first = installation.data();

    // Another one has its own keys, and is told of the first one's zones by mistake.
    let zones: Vec<String> = ["a", "b", "c"]
        .map(|zone| {
            format!(
                "{{ name = \"{zone}\", path = \"{}\" }}",
                installation.zone(Role::Warehouse, zone).display()
            )
        })
        .into();
    installation.use_data("second");
    let settings = format!("[warehouse.zones]\nzones = [{}]\n", zones.join(", "));
    installation.configure(&settings)?;
    if nix::unistd::geteuid().is_root() {
        // They are another user's, who is no user of this one.
        let said = installation.up_in_vain().await?;
        ensure!(said.contains("belongs to user") && said.contains(path(&first)?), "{said}");
    }
    installation.configure(&format!("{settings}[users]\nseparate = \"off\"\n"))?;
    installation.up_until_said("belongs to another installation").await?;
    installation.stop().await?;

    installation.configure("")?;
    installation.use_data("data");
    ensure!(installation.data() == first, "another directory");
    installation.up().await?;
    let client = installation.client(&product.admin_key)?;
    works(&installation, &client, "after").await?;
    ensure!(rows(&client).await? == ["after", "before"], "something is lost or came in");
    installation.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_an_hour_or_stands_in_2038_loses_nothing_and_all_works_when_it_is_right() -> anyhow::Result<()> {
    let mut installation = Installation::prepare(env!("CARGO_BIN_EXE_coffer")).await?;
    let clock = installation.give_clock()?;
    installation.up().await?;
    let (product, client) = started(&installation).await?;
    client.create_table(DATABASE, "sent").await?;
    let senders = Senders::start(&client.with_key(&product.write_key), DATABASE, "sent");
    senders.taken_since(3, PATIENCE).await?;

    for (n, ahead) in [HOUR, 0, -HOUR, 0].into_iter().enumerate() {
        clock.set_ahead(ahead)?;
        works(&installation, &client, &format!("jump-{n}")).await?;
        senders.taken_since(senders.taken(), PATIENCE).await?;
        // A role that was started under the wrong clock goes on under the right one.
        let victim = [Role::Warehouse, Role::Gateway, Role::Identity, Role::Vault][n];
        installation.kill(victim)?;
        works(&installation, &client, &format!("killed-{n}")).await?;
        eprintln!("{ahead} s ahead: {} batches taken", senders.taken());
    }
    clock.set_to(IN_2038)?;
    works(&installation, &client, "in-2038").await?;
    senders.taken_since(senders.taken(), PATIENCE).await?;
    eprintln!("in 2038: {} batches taken", senders.taken());
    clock.set_ahead(0)?;
    works(&installation, &client, "right-again").await?;
    senders.taken_since(senders.taken(), PATIENCE).await?;

    let sent = senders.stop().await?;
    sent.check(&client, DATABASE, "sent").await?;
    // And from what is at rest: nothing was acknowledged that nobody believes afterwards.
    installation.kill_all().await?;
    installation.up().await?;
    sent.check(&client, DATABASE, "sent").await?;
    ensure!(rows(&client).await?.len() == 10, "{:?}", rows(&client).await?);
    installation.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_that_was_first_started_in_2038_works_when_the_clock_is_right() -> anyhow::Result<()> {
    let mut installation = Installation::prepare(env!("CARGO_BIN_EXE_coffer")).await?;
    let clock = installation.give_clock()?;
    clock.set_to(IN_2038)?;
    installation.up().await?;
    let (_, client) = started(&installation).await?;
    works(&installation, &client, "in-2038").await?;
    installation.stop().await?;

    clock.set_ahead(0)?;
    installation.up().await?;
    works(&installation, &client, "now").await?;
    // While it runs, too.
    clock.set_to(IN_2038)?;
    works(&installation, &client, "in-2038-again").await?;
    clock.set_ahead(0)?;
    works(&installation, &client, "now-again").await?;
    installation.kill_all().await?;
    installation.up().await?;
    let found = rows(&client).await?;
    ensure!(found == ["in-2038", "in-2038-again", "now", "now-again"], "{found:?}");
    installation.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_can_be_moved_and_a_copy_taken_while_stopped_works() -> anyhow::Result<()> {
    let mut installation = Installation::start(env!("CARGO_BIN_EXE_coffer")).await?;
    let (product, client) = started(&installation).await?;
    take(&client, "before").await?;
    installation.stop().await?;

    let (old, long) = (installation.data(), format!("moved/{}", "far-away/".repeat(12)));
    let new = installation.aside(&long);
    fs::create_dir_all(new.parent().context("no parent")?)?;
    copy(&old, &installation.aside("copy"))?;
    fs::rename(&old, &new)?;
    let naming = naming(&new, path(&old)?.as_bytes())?;
    ensure!(naming.is_empty(), "files that name the old place: {naming:?}");
    installation.use_data(&long);
    installation.up().await?;
    let moved = installation.client(&product.admin_key)?;
    works(&installation, &moved, "moved").await?;
    ensure!(rows(&moved).await? == ["before", "moved"], "{:?}", rows(&moved).await?);
    installation.stop().await?;

    // The copy is the installation as it was then: what came after is not in it, and can be sent again.
    installation.use_data("copy");
    installation.up().await?;
    let copied = installation.client(&product.admin_key)?;
    ensure!(rows(&copied).await? == ["before"], "{:?}", rows(&copied).await?);
    works(&installation, &copied, "moved").await?;
    works(&installation, &copied, "copied").await?;
    ensure!(rows(&copied).await? == ["before", "copied", "moved"], "{:?}", rows(&copied).await?);
    installation.finish().await
}

/// The files below `directory` in which `text` stands.
fn naming(directory: &Path, text: &[u8]) -> anyhow::Result<Vec<PathBuf>> {
    let (mut found, mut waiting) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                waiting.push(entry.path());
            } else if kind.is_file() && testkit::markers::contains(&fs::read(entry.path())?, text) {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_back_in_part_from_an_older_copy_catches_up_or_is_refused() -> anyhow::Result<()> {
    let mut installation = Installation::prepare(env!("CARGO_BIN_EXE_coffer")).await?;
    // Some rows are in files and some are not.
    installation.configure("[warehouse.flush]\nafter = \"1s\"\n")?;
    installation.up().await?;
    let (product, client) = started(&installation).await?;
    let old_key = installation.key("circumstances", "write").await?;
    take(&client, "old-1").await?;
    installation.stop().await?;
    let (data, old, new) = (installation.data(), installation.aside("old"), installation.aside("new"));
    copy(&data, &old)?;

    installation.up().await?;
    let client = installation.client(&product.admin_key)?;
    take(&client, "new-1").await?;
    let new_key = installation.key("circumstances", "write").await?;
    installation.operator(&["products", "create", "another"]).await?.ok()?;
    take(&client.with_key(&new_key), "new-2").await?;
    installation.stop().await?;
    copy(&data, &new)?;

    let keepers = [Role::Vault, Role::Accounts, Role::Identity, Role::Warehouse];
    let all = ["new-1", "new-2", "old-1"];

    // Directories of roles: what they hold is a view of what the zones hold.
    let mut some: Vec<Vec<Role>> = keepers.iter().map(|role| vec![*role]).collect();
    some.push(keepers.to_vec());
    for roles in some {
        put_back(&new, &data)?;
        for role in &roles {
            put_back(&old.join("roles").join(role.as_str()), &data.join("roles").join(role.as_str()))?;
        }
        installation
            .up()
            .await
            .with_context(|| format!("with older directories of {roles:?}"))?;
        let found = rows(&client).await?;
        ensure!(found == all, "with older directories of {roles:?}: {found:?}");
        for key in [&old_key, &new_key] {
            take(&client.with_key(key), "more").await?;
        }
        let found = rows(&client).await?;
        ensure!(found.len() == 4, "with older directories of {roles:?}: {found:?}");
        installation.stop().await?;
        eprintln!("older directories of {roles:?}: caught up");
    }

    // A directory that is gone altogether.
    put_back(&new, &data)?;
    fs::remove_dir_all(data.join("roles/warehouse"))?;
    installation.up().await?;
    let found = rows(&client).await?;
    ensure!(found == all, "without the warehouse's directory: {found:?}");
    installation.stop().await?;

    // Zones: what somebody remembers to have been there is missed.
    for role in keepers {
        put_back(&new, &data)?;
        put_back(&old.join("zones").join(role.as_str()), &data.join("zones").join(role.as_str()))?;
        let said = refusal(&mut installation, &client, role).await?;
        let clear = ["older state", "damaged", "has lost", "went back", "remembered"];
        ensure!(
            clear.iter().any(|word| said.contains(word)),
            "with older zones of {role} nothing clear is said:\n{said}"
        );
        eprintln!("older zones of {role}: refused");
    }

    // And with everything where it belongs all is well.
    put_back(&new, &data)?;
    installation.up().await?;
    let found = rows(&client).await?;
    ensure!(found == all, "{found:?}");
    works(&installation, &client, "in-the-end").await?;
    installation.finish().await
}

/// What is said when it does not work with what was put back: at the start, or to whoever sends rows.
async fn refusal(installation: &mut Installation, client: &Client, role: Role) -> anyhow::Result<String> {
    if role != Role::Warehouse {
        return installation.up_in_vain().await;
    }
    installation.up().await?;
    let row = json!({"time": 1_700_000_000, "id": "lost", "email": "new-1@example.com"});
    let answer = client.import(DATABASE, "events", Some("lost"), &[row]).await?;
    ensure!(answer.status >= 500, "status {}: {}", answer.status, answer.text());
    let issued = client.issue(DATABASE, "SELECT count(*) FROM events").await;
    ensure!(issued.is_err(), "a query was taken");
    let said = installation.log();
    installation.stop().await?;
    Ok(said)
}
