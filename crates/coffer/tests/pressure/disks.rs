//! Full disks, of zones and of roles: writes are refused with what to do, reads go on, and all works again when there is room.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;
use base::Role;
use serde_json::json;
use testkit::{Answer, Client, Installation, Product, until};

use super::{DATABASE, PATIENCE, number};

/// A small file system; unmounted when the test ends, however it does.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path, size: &str) -> anyhow::Result<Self> {
        fs::create_dir_all(at)?;
        let options = format!("size={size},mode=0700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "coffer-test"])
            .arg(at)
            .status()?;
        ensure!(mounted.success(), "could not mount a tmpfs at {}", at.display());
        Ok(Self(at.to_owned()))
    }

    /// Leaves no room at all.
    fn fill(&self) -> anyhow::Result<()> {
        use std::io::Write as _;
        let mut file = fs::File::create(self.0.join("ballast"))?;
        for size in [1 << 16, 1 << 8, 1] {
            while file.write_all(&vec![7; size]).is_ok() {}
        }
        Ok(())
    }

    fn empty(&self) -> anyhow::Result<()> {
        Ok(fs::remove_file(self.0.join("ballast"))?)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn may_mount() -> bool {
    let may = nix::unistd::geteuid().is_root();
    if !may {
        eprintln!("NOT TESTED: full disks; only root may mount the small file systems that this needs");
    }
    may
}

/// An installation of which `place` lies on a small disk, with a table and one row.
async fn on_a_small_disk(place: &str, size: &str, more: &str) -> anyhow::Result<(Installation, Small, Product, Client)> {
    let mut installation = Installation::prepare(env!("CARGO_BIN_EXE_coffer")).await?;
    installation.configure(more)?;
    let small = Small::mount(&installation.data().join(place), size)?;
    // A role that has a directory of its own gets no zones made.
    for role in [Role::Vault, Role::Accounts, Role::Identity, Role::Warehouse] {
        for zone in ["a", "b", "c"] {
            fs::create_dir_all(installation.zone(role, zone))?;
        }
    }
    private(&installation.data())?;
    installation.up().await?;
    let product = installation.product("pressure").await?;
    let client = installation.client(&product.admin_key)?;
    client.create_table(DATABASE, "events").await?;
    import(&client, "first", "ada").await?.ok()?;
    Ok((installation, small, product, client))
}

fn private(directory: &Path) -> anyhow::Result<()> {
    fs::set_permissions(directory, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            private(&path)?;
        }
    }
    Ok(())
}

async fn import(client: &Client, id: &str, person: &str) -> anyhow::Result<Answer> {
    let row = json!({"time": 1_700_000_000, "id": id, "email": format!("{person}@example.com"), "text": noise(id)});
    client.import(DATABASE, "events", Some(id), &[row]).await
}

/// Some kilobytes that do not compress.
fn noise(seed: &str) -> String {
    let mut bytes = [0; 4096];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
    hex::encode(bytes)
}

/// A refusal that says what to do, and when.
fn is_clear(answer: &Answer) -> anyhow::Result<()> {
    ensure!(
        [429, 503, 507].contains(&answer.status),
        "status {}: {}",
        answer.status,
        answer.text()
    );
    ensure!(
        answer.headers.contains_key("retry-after"),
        "it does not say when: {}",
        answer.text()
    );
    let text = answer.text();
    ensure!(text.contains("again"), "it does not say what to do: {text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn full_zones_refuse_rows_answer_questions_and_go_on_when_there_is_room() -> anyhow::Result<()> {
    if !may_mount() {
        return Ok(());
    }
    let (mut installation, small, _, client) = on_a_small_disk("zones/warehouse", "24m", "[warehouse.flush]\nafter = \"1s\"\n").await?;
    let before = installation.pids();
    let mut taken = 1;
    for round in 0..3 {
        small.fill()?;
        for n in 0..10 {
            let refused = import(&client, &format!("refused-{round}-{n}"), "ada").await?;
            is_clear(&refused)?;
        }
        ensure!(
            number(&client, "SELECT count(*) FROM events").await? == taken,
            "round {round}: rows are lost, or refused ones there"
        );
        small.empty()?;
        until("rows are taken again", PATIENCE, || async {
            import(&client, &format!("taken-{round}"), "bob").await?.ok()
        })
        .await?;
        taken += 1;
        ensure!(
            number(&client, "SELECT count(*) FROM events").await? == taken,
            "round {round}: rows are lost, or refused ones there"
        );
    }
    ensure!(installation.pids() == before, "a role was started again");
    installation.kill_all().await?;
    installation.up().await?;
    ensure!(
        number(&client, "SELECT count(*) FROM events").await? == taken,
        "after a start rows are lost, or refused ones there"
    );
    installation.stop().await?;
    drop(small);
    installation.finish().await
}

/// What is refused while a role's own disk is full, and what goes on.
async fn while_full(installation: &Installation, client: &Client, role: Role) -> anyhow::Result<()> {
    let operator = |words: &'static [&'static str]| async move {
        let ran = installation.operator(words).await?;
        ensure!(
            ran.code == Some(7),
            "{words:?}: exit code {:?}: {}{}",
            ran.code,
            ran.stdout,
            ran.stderr
        );
        ensure!(ran.stderr.contains("again"), "{words:?} does not say what to do: {}", ran.stderr);
        anyhow::Ok(())
    };
    match role {
        Role::Warehouse => {
            is_clear(&client.post(&format!("/v3/table/create/{DATABASE}/more/log"), &[]).await?)?;
            let job = client
                .post(&format!("/v3/job/issue/trino/{DATABASE}"), &[("query", "SELECT 1")])
                .await?;
            is_clear(&job)?;
        }
        Role::Identity => {
            is_clear(&import(client, "stranger", "nobody-knows-me").await?)?;
            import(client, "known", "ada").await?.ok()?;
        }
        Role::Vault => {
            operator(&["keys", "create", "--product", "pressure", "--kind", "read"]).await?;
            import(client, "known", "ada").await?.ok()?;
        }
        Role::Accounts => {
            operator(&["products", "create", "another"]).await?;
            import(client, "known", "ada").await?.ok()?;
        }
        Role::Gateway => {}
    }
    Ok(())
}

/// A role whose own disk is full refuses what it cannot keep, and does it all when there is room.
async fn a_full_disk_of(role: Role) -> anyhow::Result<()> {
    if !may_mount() {
        return Ok(());
    }
    let (mut installation, small, _, client) =
        on_a_small_disk(&format!("roles/{role}"), "8m", "[warehouse.flush]\nafter = \"1s\"\n").await?;
    ensure!(number(&client, "SELECT count(*) FROM events").await? == 1, "the row is not there");
    small.fill()?;
    while_full(&installation, &client, role).await?;
    // What rows were taken is known from the answers alone.
    let mut taken = Vec::new();
    for n in 0..20 {
        let id = format!("row-{n}");
        let answer = import(&client, &id, "ada").await?;
        match answer.status {
            200 => taken.push(id),
            _ => is_clear(&answer)?,
        }
    }
    small.empty()?;
    until("everything works again", PATIENCE, || async {
        import(&client, "after", "somebody-new").await?.ok()?;
        client.create_table(DATABASE, "more").await?;
        installation.key("pressure", "read").await?;
        client.number(DATABASE, "SELECT count(*) FROM events").await
    })
    .await?;
    installation.operator(&["products", "create", "another"]).await?;
    for start in ["running", "killed and started again"] {
        let found = until("the ids are told", PATIENCE, || client.query(DATABASE, "SELECT id FROM events")).await?;
        let times = |id: &str| found.iter().filter(|row| row[0] == json!(id)).count();
        for id in taken.iter().map(String::as_str).chain(["first", "after"]) {
            ensure!(times(id) == 1, "{start}: the row {id} is there {} times", times(id));
        }
        if start == "running" {
            installation.kill_all().await?;
            installation.up().await?;
        }
    }
    installation.stop().await?;
    drop(small);
    installation.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_warehouse_loses_nothing_and_passes() -> anyhow::Result<()> {
    a_full_disk_of(Role::Warehouse).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_identity_role_loses_nothing_and_passes() -> anyhow::Result<()> {
    a_full_disk_of(Role::Identity).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_vault_loses_nothing_and_passes() -> anyhow::Result<()> {
    a_full_disk_of(Role::Vault).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_accounts_role_loses_nothing_and_passes() -> anyhow::Result<()> {
    a_full_disk_of(Role::Accounts).await
}
