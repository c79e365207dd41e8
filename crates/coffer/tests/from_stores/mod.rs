//! The same with zones in stores that speak S3: all that was local is gone, and everything comes back from the stores.

use testkit::stores::Stores;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn everything_comes_back_from_zones_in_stores_with_nothing_left_here_but_the_root_key() -> anyhow::Result<()> {
    let mut stores = Stores::start(&["a", "b", "c"]).await?;
    let mut installation = Installation::prepare(env!("CARGO_BIN_EXE_coffer")).await?;
    let settings = OWNERS.map(|role| anyhow::Ok(format!("[{role}.zones]\nzones = {}\n", stores.zones(role.as_str())?)));
    let settings: Vec<_> = settings.into_iter().collect::<Result<_, _>>()?;
    // A directory made anew has other users, and the files with access keys belong to those of before.
    installation.configure(&format!("[users]\nseparate = \"off\"\n{}", settings.concat()))?;
    installation.up().await?;
    let world = filled(&installation).await?;
    let before = answers(&installation, &world).await?;
    installation.stop().await?;
    let hashes = tables(rebuild(&installation, &["--compare-only"]).await?)?;

    keep_the_root_key(&installation)?;
    ensure!(
        tables(rebuild(&installation, &["--verify"]).await?)? == hashes,
        "other hashes than before"
    );
    installation.up().await?;
    same(&answers(&installation, &world).await?, &before)?;
    alive(&installation, &world, &before).await?;
    let before = answers(&installation, &world).await?;
    installation.stop().await?;
    let hashes = tables(rebuild(&installation, &["--compare-only"]).await?)?;

    // A store that lost all it had: its place is taken again by whoever puts a word into it, not by the command.
    stores.each[1].wipe().await?;
    keep_the_root_key(&installation)?;
    let refused = rebuild(&installation, &["--verify", "--lost", "b"]).await?;
    ensure!(
        refused.code == Some(2) && refused.stderr.contains("put an object `adopt-as-b` there"),
        "{refused:?}"
    );
    for role in OWNERS {
        let key = format!("{}/adopt-as-b", role.as_str());
        stores.each[1].plant(&key, b"").await?;
    }
    ensure!(
        tables(rebuild(&installation, &["--verify"]).await?)? == hashes,
        "other hashes than before"
    );
    for zone in ["a", "b", "c"] {
        ensure!(!installation.zone(Role::Warehouse, zone).exists(), "there is a directory, too");
    }
    installation.up().await?;
    same(&answers(&installation, &world).await?, &before)?;
    installation.finish().await
}

/// Takes everything away that is here, but the root key. What was taken is destroyed.
fn keep_the_root_key(installation: &Installation) -> anyhow::Result<()> {
    let (data, lost) = (installation.data(), installation.aside("lost"));
    fs::rename(&data, &lost)?;
    fs::DirBuilder::new().mode(0o700).recursive(true).create(data.join("roles/vault"))?;
    fs::copy(lost.join("roles/vault/root.key"), data.join("roles/vault/root.key"))?;
    Ok(fs::remove_dir_all(lost)?)
}
