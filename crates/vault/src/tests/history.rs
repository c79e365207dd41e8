//! What the vault remembers: over restarts, lost files, lost zones and zones of yesterday.

use std::time::Duration;

use base::{ErrorKind, Role};
use edge::kind_of;
use seal::PrivateKey;
use wire::v1::{Head, ListCredentialsRequest, RecallRequest, RememberRequest, StateKeyRequest, WatchRequest};

use super::all;
use super::world::{Memory, Roles, World};
use crate::{OpenError, RunError};

#[tokio::test(flavor = "multi_thread")]
async fn the_view_is_made_again_from_the_journal() {
    let world = World::new();
    let vault = world.start().await;
    let roles = Roles::enrolled(&vault).await;
    let public = vault.create_product(1).await;
    let (_, live) = vault.create_key(1, "read").await.unwrap();
    let (gone, revoked) = vault.create_key(1, "read").await.unwrap();
    vault.revoke(gone).await;
    let lookup = {
        let pass = roles.pass(&vault, &live, Role::Identity, all()).await;
        roles.lease_lookup(&vault, &pass).await.unwrap()
    };
    let state = vault
        .vault(&roles.identity)
        .lease_state_key(StateKeyRequest {})
        .await
        .unwrap()
        .into_inner()
        .private_key;
    let (ca, installation) = (vault.ca.clone(), vault.installation);
    vault.stop().await;
    for file in ["vault.sqlite", "vault.sqlite-wal", "vault.sqlite-shm"] {
        let _ = std::fs::remove_file(world.file(file));
    }

    world.clock.advance(Duration::from_secs(60));
    let vault = world.start().await;

    assert_eq!((&vault.ca, vault.installation), (&ca, installation));
    // The certificates from before the restart still hold.
    let pass = roles.pass(&vault, &live, Role::Warehouse, all()).await;
    let leased = roles.lease_private(&vault, &roles.warehouse, &pass).await.unwrap();
    assert_eq!(PrivateKey::try_from(&*leased).unwrap().public().as_bytes(), &*public);
    let pass = roles.pass(&vault, &live, Role::Identity, all()).await;
    assert_eq!(roles.lease_lookup(&vault, &pass).await.unwrap(), lookup);
    let again = vault
        .vault(&roles.identity)
        .lease_state_key(StateKeyRequest {})
        .await
        .unwrap()
        .into_inner()
        .private_key;
    assert_eq!(again, state);
    assert!(roles.authenticate(&vault, &revoked, &[Role::Warehouse]).await.is_err());
    let mut told = vault
        .revocations(&roles.warehouse)
        .watch(WatchRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        told.message().await.unwrap().unwrap().credential,
        gone.to_bytes(),
        "revoked before the restart, told after it"
    );
    drop(told);
    vault.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_is_not_started_over_when_its_root_key_is_missing() {
    let world = World::new();
    world.start().await.stop().await;
    let kept = std::fs::read(world.file("root.key")).unwrap();
    std::fs::remove_file(world.file("root.key")).unwrap();

    let refused = world.open().await.unwrap_err();

    assert!(matches!(refused, OpenError::AnotherRootKey { .. }), "{refused}");
    assert!(!world.file("root.key").exists(), "no new key takes the place of the lost one");
    std::fs::write(world.file("root.key"), kept).unwrap();
    let refused = world.open().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Forbidden, "others can read it: {refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn yesterdays_zones_do_not_pass_for_todays() {
    let world = World::new();
    let vault = world.start().await;
    vault.create_product(1).await;
    let (id, _) = vault.create_key(1, "read").await.unwrap();
    let copy = |from: &str, to: &str| {
        let done = std::process::Command::new("cp")
            .arg("-a")
            .arg(world.file(from))
            .arg(world.file(to))
            .status()
            .unwrap();
        assert!(done.success());
    };
    copy("zones", "yesterday");
    vault.revoke(id).await;
    vault.stop().await;

    std::fs::remove_dir_all(world.file("zones")).unwrap();
    copy("yesterday", "zones");

    assert!(matches!(world.open().await.unwrap_err(), OpenError::JournalWentBack(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_stops_when_another_role_remembers_more_than_its_zones_hold() {
    let world = World::new();
    let (listener, memory) = (std::net::TcpListener::bind("127.0.0.1:0").unwrap(), Memory::default());
    let vault = world.start_beside(Some(listener.local_addr().unwrap())).await;
    let accounts = world.serve_accounts(&vault, listener, memory.clone()).await;
    vault.create_product(1).await;
    for _ in 0..500 {
        if memory.0.lock().unwrap().first().is_some_and(|head| head.length == 2) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let told = memory.0.lock().unwrap()[0].clone();
    assert_eq!((told.journal.as_str(), told.length), ("vault", 2), "the authority and the product");
    vault.stop().await;
    accounts.cancel();

    for (head, went_back) in [
        (told.clone(), false),
        (Head { length: 9, ..told.clone() }, true),
        (Head { hash: vec![0; 32], ..told }, true),
    ] {
        *memory.0.lock().unwrap() = vec![head];
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let vault = world.start_beside(Some(listener.local_addr().unwrap())).await;
        let accounts = world.serve_accounts(&vault, listener, memory.clone()).await;
        if went_back {
            assert!(matches!(vault.ended().await, Err(RunError::WentBack)));
        } else {
            vault.create_product(2).await;
            vault.stop().await;
        }
        accounts.cancel();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_of_zones_nothing_is_made_and_keys_are_judged_on() {
    let world = World::new();
    let vault = world.start().await;
    let roles = Roles::enrolled(&vault).await;
    vault.create_product(1).await;
    let (_, key) = vault.create_key(1, "read").await.unwrap();
    for zone in ["a", "b"] {
        std::fs::rename(world.file("zones").join(zone), world.file(zone)).unwrap();
    }

    let refused = vault.create_key(1, "read").await.unwrap_err();

    assert_eq!(kind_of(&refused), ErrorKind::Unavailable);
    roles.authenticate(&vault, &key, &[Role::Warehouse]).await.unwrap();
    for zone in ["a", "b"] {
        std::fs::rename(world.file(zone), world.file("zones").join(zone)).unwrap();
    }
    let mut made = vault.create_key(1, "read").await;
    for _ in 0..100 {
        if made.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        made = vault.create_key(1, "read").await;
    }
    made.unwrap();
    let listed = vault
        .operator()
        .list_credentials(ListCredentialsRequest { product: 1 })
        .await
        .unwrap()
        .into_inner()
        .credentials;
    assert_eq!(listed.len(), 2);
    vault.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_told_of_its_own_heads_only_and_none_goes_back() {
    let world = World::new();
    let vault = world.start().await;
    let roles = Roles::enrolled(&vault).await;
    let head = |length, byte| Head {
        journal: "raw/1".into(),
        length,
        hash: vec![byte; 32],
    };
    let remember = async |heads| vault.heads(&roles.warehouse).remember(RememberRequest { heads }).await;

    remember(vec![head(3, 1)]).await.unwrap();

    let recalled = vault
        .heads(&roles.warehouse)
        .recall(RecallRequest {})
        .await
        .unwrap()
        .into_inner()
        .heads;
    assert_eq!(recalled, [head(3, 1)]);
    assert_eq!(
        vault
            .heads(&roles.identity)
            .recall(RecallRequest {})
            .await
            .unwrap()
            .into_inner()
            .heads,
        []
    );
    for (wrong, kind) in [
        (head(2, 1), ErrorKind::Corrupt),
        (head(3, 2), ErrorKind::Corrupt),
        (
            Head {
                hash: vec![1],
                ..head(4, 1)
            },
            ErrorKind::Invalid,
        ),
        (
            Head {
                journal: String::new(),
                ..head(4, 1)
            },
            ErrorKind::Invalid,
        ),
    ] {
        assert_eq!(kind_of(&remember(vec![wrong]).await.unwrap_err()), kind);
    }
    vault.stop().await;
}
