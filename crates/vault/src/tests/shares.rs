//! The root key with people: split, sealed, unsealed, split again, and what is left of it on a disk meanwhile.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use base::{ErrorKind, Role};
use edge::{SEALED, kind_of};
use tonic::Status;
use wire::v1::{
    KeepSplitRequest, MintEnrolmentRequest, RootLook, RootLookRequest, SealRequest, SplitRequest, StatusRequest, UnsealRequest,
};

use super::all;
use super::world::{Roles, Running, World};
use crate::sealed_root::FILE;
use crate::{OpenError, Prepared};

async fn split(vault: &Running, (shares, threshold): (u32, u32), old: &[String]) -> Result<Vec<String>, Status> {
    let asked = SplitRequest {
        shares,
        threshold,
        old: old.to_vec(),
    };
    Ok(vault.root().split(asked).await?.into_inner().shares)
}

async fn keep(vault: &Running, shares: &[String]) -> Result<RootLook, Status> {
    let asked = KeepSplitRequest { shares: shares.to_vec() };
    Ok(vault.root().keep(asked).await?.into_inner())
}

/// Splits and keeps.
async fn init(vault: &Running, numbers: (u32, u32), old: &[String]) -> Vec<String> {
    let shares = split(vault, numbers, old).await.unwrap();
    keep(vault, &shares[..numbers.1 as usize]).await.unwrap();
    shares
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_key_file_becomes_shares_and_any_enough_of_them_open_what_was_there() {
    let world = World::new();
    let vault = world.start().await;
    let public = vault.create_product(1).await;
    let (_, key) = vault.create_key(1, "read").await.unwrap();
    let (ca, installation) = (vault.ca.clone(), vault.installation);
    let root_key = fs::read(world.file("root.key")).unwrap();

    let shares = init(&vault, (5, 3), &[]).await;
    assert_eq!(shares.len(), 5);
    let look = vault.root().look(RootLookRequest {}).await.unwrap().into_inner();
    assert_eq!(
        (look.holder.as_str(), look.sealed, look.shares, look.threshold),
        ("shares", false, 5, 3)
    );
    assert!(!world.file("root.key").exists());
    // It goes on as it was.
    assert_eq!(vault.create_product(1).await, public);
    vault.stop().await;
    nowhere(world.directory.path(), &[&root_key[..64], &hex::decode(&root_key[..64]).unwrap()]);

    for three in [[0, 1, 2], [4, 2, 0]] {
        let waiting = world.start_sealed().await;
        for (shown, at) in three.into_iter().enumerate() {
            let look = waiting.root().look(RootLookRequest {}).await.unwrap().into_inner();
            assert_eq!((look.sealed, look.shown as usize), (true, shown));
            let said = waiting.readiness.ready().unwrap_err();
            assert!(said.starts_with(SEALED) && said.contains(&format!("{shown} of the 3")), "{said}");
            let look = waiting.show(&shares[at]).await.unwrap();
            assert_eq!(look.sealed, shown < 2);
        }
        let vault = world.start_unsealed(waiting).await;
        assert_eq!(vault.ca, ca);
        assert_eq!(vault.installation, installation);
        let roles = Roles::enrolled(&vault).await;
        let pass = roles.pass(&vault, &key, Role::Warehouse, all()).await;
        let leased = roles.lease_private(&vault, &roles.warehouse, &pass).await.unwrap();
        assert_eq!(seal::PrivateKey::try_from(&*leased).unwrap().public().as_bytes(), &*public);
        let look = vault.root().unseal(UnsealRequest { share: "x".into() }).await.unwrap().into_inner();
        assert!(!look.sealed, "a share more is not judged");
        vault.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_vault_does_nothing_but_take_shares_and_names_wrong_ones() {
    let world = World::new();
    let vault = world.start().await;
    let shares = init(&vault, (3, 2), &[]).await;
    vault.stop().await;

    let waiting = world.start_sealed().await;
    let status = waiting.role().status(StatusRequest {}).await.unwrap().into_inner();
    assert!(status.not_ready.starts_with(SEALED), "{}", status.not_ready);
    let asked = MintEnrolmentRequest { role: "gateway".into() };
    assert!(waiting.vault().mint_enrolment(asked).await.is_err(), "a sealed vault enrols");
    let asked = SplitRequest {
        shares: 3,
        threshold: 2,
        old: shares.clone(),
    };
    assert_eq!(kind_of(&waiting.root().split(asked).await.unwrap_err()), ErrorKind::Unavailable);

    waiting.show(&shares[0]).await.unwrap();
    let mut damaged = shares[1].clone();
    damaged.pop();
    let refused = waiting.show(&damaged).await.unwrap_err();
    assert_eq!(kind_of(&refused), ErrorKind::Invalid);
    assert!(refused.message().contains("share 2 is damaged"), "{}", refused.message());
    let look = waiting.show(&shares[0]).await.unwrap();
    assert_eq!((look.sealed, look.shown), (true, 1), "one share twice counts once");
    // Who is not sure of what was shown begins again.
    waiting.root().seal(SealRequest {}).await.unwrap();
    assert_eq!(waiting.root().look(RootLookRequest {}).await.unwrap().into_inner().shown, 0);

    for _ in 0..9 {
        waiting.show("no share").await.unwrap_err();
    }
    assert_eq!(kind_of(&waiting.show("no share").await.unwrap_err()), ErrorKind::Invalid);
    assert_eq!(kind_of(&waiting.show(&shares[0]).await.unwrap_err()), ErrorKind::TooMuch);
    world.clock.advance(Duration::from_secs(61));
    waiting.show(&shares[0]).await.unwrap();
    waiting.cancel.cancel();
    assert!(waiting.opened.await.unwrap().unwrap().is_none(), "it was stopped, not unsealed");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_changes_until_enough_new_shares_are_shown() {
    let world = World::new();
    let vault = world.start().await;
    let first = split(&vault, (3, 2), &[]).await.unwrap();
    let second = split(&vault, (3, 2), &[]).await.unwrap();
    for wrong in [&first[..2], &second[..1], &[][..]] {
        let refused = keep(&vault, wrong).await.unwrap_err();
        assert_eq!(kind_of(&refused), ErrorKind::Invalid, "{}", refused.message());
    }
    for numbers in [(1, 1), (2, 3), (300, 2)] {
        assert_eq!(kind_of(&split(&vault, numbers, &[]).await.unwrap_err()), ErrorKind::Invalid);
    }
    let refused = vault.root().seal(SealRequest {}).await.unwrap_err();
    assert_eq!(kind_of(&refused), ErrorKind::Conflict, "a root key in a file cannot be sealed");
    vault.stop().await;

    assert!(world.file("root.key").exists() && !world.file(FILE).exists());
    let vault = world.start().await;
    let refused = keep(&vault, &second[..2]).await.unwrap_err();
    assert_eq!(
        kind_of(&refused),
        ErrorKind::Conflict,
        "what was split before a restart is forgotten"
    );
    vault.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_rekey_the_old_shares_open_nothing_and_the_new_ones_all() {
    let world = World::new();
    let vault = world.start().await;
    let public = vault.create_product(1).await;
    let old = init(&vault, (3, 2), &[]).await;
    let refused = split(&vault, (4, 3), &[]).await.unwrap_err();
    assert_eq!(kind_of(&refused), ErrorKind::Forbidden, "without the present shares");
    let refused = split(&vault, (4, 3), &old[..1]).await.unwrap_err();
    assert_eq!(kind_of(&refused), ErrorKind::Invalid, "with too few of them");
    let new = init(&vault, (4, 3), &old[1..]).await;
    assert_eq!(new.len(), 4);
    vault.stop().await;

    let waiting = world.start_sealed().await;
    for share in &old {
        let refused = waiting.show(share).await.unwrap_err();
        assert!(refused.message().contains("belongs to the set"), "{}", refused.message());
    }
    for share in &new[1..] {
        waiting.show(share).await.unwrap();
    }
    let vault = world.start_unsealed(waiting).await;
    assert_eq!(vault.create_product(1).await, public);
    vault.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_the_root_key_file_was_destroyed_is_made_good_and_the_shares_hold() {
    let world = World::new();
    let vault = world.start().await;
    let root_key = fs::read(world.file("root.key")).unwrap();
    let shares = init(&vault, (2, 2), &[]).await;
    vault.stop().await;
    write_key(&world, &root_key);

    let waiting = world.start_sealed().await;
    for share in &shares {
        waiting.show(share).await.unwrap();
    }
    let vault = world.start_unsealed(waiting).await;
    assert!(!world.file("root.key").exists());
    vault.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_key_file_is_not_touched_for_a_sealed_root_of_another_installation() {
    let (world, other) = (World::new(), World::new());
    let vault = other.start().await;
    let foreign = init(&vault, (2, 2), &[]).await;
    vault.stop().await;
    world.start().await.stop().await;
    let root_key = fs::read(world.file("root.key")).unwrap();
    fs::copy(other.file(FILE), world.file(FILE)).unwrap();

    let waiting = world.start_sealed().await;
    assert_eq!(
        fs::read(world.file("root.key")).unwrap(),
        root_key,
        "nobody has opened what was put beside it"
    );
    for share in &foreign {
        waiting.show(share).await.unwrap();
    }
    assert!(matches!(waiting.opened.await.unwrap(), Err(OpenError::TwoRootKeys { .. })));
    assert_eq!(fs::read(world.file("root.key")).unwrap(), root_key);
    fs::remove_file(world.file(FILE)).unwrap();
    world.start().await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_root_that_one_zone_alone_holds_is_not_put_back() {
    let (world, other) = (World::new(), World::new());
    let vault = other.start().await;
    init(&vault, (2, 2), &[]).await;
    vault.stop().await;
    world.start().await.stop().await;
    let root_key = fs::read(world.file("root.key")).unwrap();
    let (from, to) = (other.file("zones/a/root"), world.file("zones/a/root"));
    fs::create_dir_all(&to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    ["root.key", "vault.sqlite"]
        .iter()
        .for_each(|file| fs::remove_file(world.file(file)).unwrap());

    let Ok(Prepared::Open(prepared)) = world.prepare().await else {
        panic!("it starts as a new one, until it looks into its zones");
    };
    assert!(matches!(prepared.open().await, Err(OpenError::AnotherRootKey { .. })));
    assert!(!world.file(FILE).exists());
    write_key(&world, &root_key);
    world.start().await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_key_file_that_could_not_be_removed_is_not_split() {
    let world = World::new();
    let vault = world.start().await;
    // Nobody removes a directory, not even root, by removing a file.
    let blocking = world.file("root.new");
    fs::create_dir(&blocking).unwrap();
    let refused = split(&vault, (3, 2), &[]).await.unwrap_err();
    assert_eq!(kind_of(&refused), ErrorKind::Conflict, "{}", refused.message());
    assert!(refused.message().contains("nothing was split"), "{}", refused.message());
    fs::remove_dir(&blocking).unwrap();
    init(&vault, (3, 2), &[]).await;
    vault.stop().await;
}

fn write_key(world: &World, key: &[u8]) {
    fs::write(world.file("root.key"), key).unwrap();
    fs::set_permissions(world.file("root.key"), fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_lost_its_directory_finds_its_sealed_root_in_the_zones_and_only_the_newest() {
    let world = World::new();
    let vault = world.start().await;
    let public = vault.create_product(1).await;
    let old = init(&vault, (2, 2), &[]).await;
    let new = init(&vault, (3, 2), &old).await;
    vault.stop().await;
    let lost = ["root.sealed", "vault.sqlite"];
    lost.iter().for_each(|file| fs::remove_file(world.file(file)).unwrap());

    let Ok(Prepared::Open(prepared)) = world.prepare().await else {
        panic!("it starts as a new one, until it looks into its zones");
    };
    assert!(matches!(prepared.open().await, Err(OpenError::PutBack { .. })));
    assert!(!world.file("root.key").exists(), "it made itself another root key");
    let waiting = world.start_sealed().await;
    waiting.show(&old[0]).await.unwrap_err();
    for share in &new[..2] {
        waiting.show(share).await.unwrap();
    }
    let vault = world.start_unsealed(waiting).await;
    assert_eq!(vault.create_product(1).await, public);
    vault.stop().await;
}

/// None of this stands in any file.
fn nowhere(directory: &std::path::Path, secrets: &[&[u8]]) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            nowhere(&path, secrets);
        } else if let Ok(bytes) = fs::read(&path) {
            for secret in secrets {
                assert!(!bytes.windows(secret.len()).any(|part| part == *secret), "{}", path.display());
            }
        }
    }
}
