//! Keys of keyrings of people: dropped from everything that the vault has, and from nothing else.

use std::path::{Path, PathBuf};

use base::{ErrorKind, ProductId, RequestId, Role, SeededEntropy, Timestamp, Verb, Verbs};
use edge::kind_of;
use tonic::{Request, Status};
use wire::v1::people_keys_client::PeopleKeysClient;
use wire::v1::{DropPeopleKeysRequest, NextPeopleKeyRequest, PeopleKey};

use super::all;
use super::world::{Roles, Running, World, shown};
use crate::open::JOURNAL;

const PRODUCT: u64 = 1;

impl Roles {
    async fn people_keys(&self, vault: &Running, pass: &[u8]) -> Vec<PeopleKey> {
        let leased = vault.vault(&self.identity).lease_lookup_key(shown(pass)).await.unwrap();
        leased.into_inner().people_keys
    }

    async fn next(&self, vault: &Running, pass: &[u8]) -> Result<PeopleKey, Status> {
        let request = RequestId::generate(Timestamp::from_secs(1), &SeededEntropy::new(1));
        let call = edge::with_pass(NextPeopleKeyRequest {}, pass, request);
        let mut to = PeopleKeysClient::new(vault.channel(&self.identity));
        to.next(call).await.map(tonic::Response::into_inner)
    }

    async fn drop_below(&self, vault: &Running, below: u64) -> Result<u64, Status> {
        let asked = DropPeopleKeysRequest { product: PRODUCT, below };
        let mut to = PeopleKeysClient::new(vault.channel(&self.identity));
        to.drop(Request::new(asked)).await.map(|done| done.into_inner().dropped)
    }
}

fn epochs(keys: &[PeopleKey]) -> Vec<u64> {
    keys.iter().map(|key| key.epoch).collect()
}

/// Epochs of the keys that the objects of one zone hold, each object by itself, whatever the chain says.
fn held_in_zone(world: &World, vault: &Running, zone: &str) -> Vec<u64> {
    let mut held = Vec::new();
    for bytes in files(&world.file("zones").join(zone).join(JOURNAL)) {
        let Some((headers, true)) = journal::in_clear(&vault.installation, Role::Vault, &bytes.into()) else {
            continue;
        };
        let epoch = |header: &bytes::Bytes| std::str::from_utf8(header).ok()?.strip_prefix("people-key/1/")?.parse::<u64>().ok();
        held.extend(headers.iter().filter_map(epoch));
    }
    held.sort_unstable();
    held
}

fn paths(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(paths(&path)),
            false => found.push(path),
        }
    }
    found
}

fn files(directory: &Path) -> Vec<Vec<u8>> {
    paths(directory).into_iter().filter_map(|path| std::fs::read(path).ok()).collect()
}

fn is_on_disk(world: &World, bytes: &[u8]) -> bool {
    let found = files(world.directory.path());
    found.iter().any(|file| file.windows(bytes.len()).any(|window| window == bytes))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_key_is_in_no_zone_and_not_in_the_database_and_stays_dropped() {
    let world = World::new();
    let vault = world.start().await;
    let roles = Roles::enrolled(&vault).await;
    vault.create_product(PRODUCT).await;
    let (_, key) = vault.create_key(PRODUCT, "admin").await.unwrap();
    let pass = roles.pass(&vault, &key, Role::Identity, all()).await;
    let first = roles.people_keys(&vault, &pass).await;
    assert_eq!((epochs(&first), first[0].key.len()), (vec![1], 32), "made when it is first needed");
    assert_eq!(roles.people_keys(&vault, &pass).await, first, "once");

    let second = roles.next(&vault, &pass).await.unwrap();
    assert_eq!(second.epoch, 2);
    let product = ProductId::new(PRODUCT).unwrap();
    let kept = vault.shared.keyring.view.people_keys(product).await.unwrap();
    assert!(is_on_disk(&world, &kept[0].wrapped), "the search finds what is there");
    for zone in ["a", "b", "c"] {
        assert_eq!(held_in_zone(&world, &vault, zone), [1, 2], "each in every zone");
    }

    let before: Vec<_> = paths(&world.file("zones/a").join(JOURNAL))
        .into_iter()
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .filter(|(_, bytes)| bytes.windows(14).any(|window| window == b"people-key/1/1"))
        .collect();
    assert_eq!(before.len(), 1);

    assert_eq!(roles.drop_below(&vault, 2).await.unwrap(), 1);

    assert_eq!(roles.people_keys(&vault, &pass).await, std::slice::from_ref(&second));
    assert!(!is_on_disk(&world, &kept[0].wrapped) && is_on_disk(&world, &kept[1].wrapped));
    for zone in ["a", "b", "c"] {
        assert_eq!(held_in_zone(&world, &vault, zone), [2]);
    }
    let zones = ["a", "b", "c"].map(|zone| world.file("zones").join(zone));
    let key = vault.installation;
    let remains = crate::remains(world.directory.path(), &zones, &key, product, 2).await.unwrap();
    assert!(
        !remains.in_database && remains.objects.is_empty() && remains.blind.is_empty(),
        "{remains:?}"
    );
    let remains = crate::remains(world.directory.path(), &zones, &key, product, 3).await.unwrap();
    assert!(
        remains.in_database && remains.objects.len() == 3,
        "the second is there: {remains:?}"
    );
    assert_eq!(roles.drop_below(&vault, 2).await.unwrap(), 0, "once more is as good");
    // A copy from before that somebody puts back into a zone is found there.
    let (name, bytes) = &before[0];
    std::fs::write(name, bytes).unwrap();
    let remains = crate::remains(world.directory.path(), &zones, &key, product, 2).await.unwrap();
    assert_eq!(remains.objects, std::slice::from_ref(name));
    std::fs::remove_file(name).unwrap();
    vault.stop().await;

    // From the journal alone, too, nothing else comes back.
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(world.file(&format!("vault.sqlite{suffix}")));
    }
    let vault = world.start().await;
    let roles = Roles::enrolled(&vault).await;
    let (_, key) = vault.create_key(PRODUCT, "admin").await.unwrap();
    let pass = roles.pass(&vault, &key, Role::Identity, all()).await;
    assert_eq!(roles.people_keys(&vault, &pass).await, [second]);
    vault.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_key_needs_the_right_to_erase_and_the_newest_is_never_dropped() {
    let world = World::new();
    let vault = world.start().await;
    let roles = Roles::enrolled(&vault).await;
    vault.create_product(PRODUCT).await;
    let (_, admin) = vault.create_key(PRODUCT, "admin").await.unwrap();
    let without = Verbs::of(&[Verb::Append, Verb::Query, Verb::Manage]);
    let pass = roles.pass(&vault, &admin, Role::Identity, without).await;
    assert_eq!(kind_of(&roles.next(&vault, &pass).await.unwrap_err()), ErrorKind::Forbidden);
    for kind in ["write", "read"] {
        let (_, key) = vault.create_key(PRODUCT, kind).await.unwrap();
        // Accounts is taken over here: it signs every verb for every key.
        let pass = roles.pass(&vault, &key, Role::Identity, all()).await;
        assert_eq!(
            kind_of(&roles.next(&vault, &pass).await.unwrap_err()),
            ErrorKind::Forbidden,
            "{kind}"
        );
    }
    let pass = roles.pass(&vault, &admin, Role::Identity, all()).await;
    let first = roles.people_keys(&vault, &pass).await;

    let refused = roles.drop_below(&vault, 2).await.unwrap_err();

    assert_eq!(kind_of(&refused), ErrorKind::Invalid);
    assert_eq!(roles.people_keys(&vault, &pass).await, first);
    vault.stop().await;
}
