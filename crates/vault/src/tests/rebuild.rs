//! A vault that was started to rebuild lends keys for that, to one caller; a vault that serves never does.

use base::{ErrorKind, Role};
use edge::kind_of;
use edge::rebuild::Order;
use seal::PrivateKey;
use tonic::Status;
use wire::v1::{AuthenticateRequest, Head, MintEnrolmentRequest, RebuildLeaseRequest, RecallRequest, RememberRequest};

use super::world::{Memory, Roles, Running, World};
use crate::OpenError;

const ORDER: Order = Order {
    verify: true,
    compare_only: false,
};

async fn lease(vault: &Running, tls: &std::sync::Arc<edge::RoleTls>, product: u64) -> Result<Vec<u8>, Status> {
    let leased = vault.vault(tls).lease_to_rebuild(RebuildLeaseRequest { product }).await?;
    Ok(leased.into_inner().private_key)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_serves_lends_no_key_to_rebuild_with() {
    let world = World::new();
    let vault = world.start().await;
    let roles = Roles::enrolled(&vault).await;
    vault.create_product(1).await;
    for tls in [&roles.warehouse, &roles.identity, &roles.gateway] {
        let refused = lease(&vault, tls, 1).await.unwrap_err();
        assert_eq!(kind_of(&refused), ErrorKind::Forbidden, "{}", tls.role());
    }
    vault.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_rebuilds_lends_keys_to_the_warehouse_of_its_own_start_and_does_nothing_else() {
    let world = World::new();
    let vault = world.start().await;
    let before = Roles::enrolled(&vault).await;
    let public = vault.create_product(1).await;
    let (_, key) = vault.create_key(1, "admin").await.unwrap();
    vault.stop().await;

    for compare_only in [true, false] {
        let vault = world.start_to_rebuild(Order { compare_only, ..ORDER }).await;
        // These certificates have not ended, and do not do.
        for tls in [&before.warehouse, &before.identity, &before.gateway] {
            let refused = lease(&vault, tls, 1).await.unwrap_err();
            assert_eq!(kind_of(&refused), ErrorKind::Forbidden, "{}", tls.role());
        }
        let (identity, _) = vault.enrol(Role::Identity).await;
        assert_eq!(kind_of(&lease(&vault, &identity, 1).await.unwrap_err()), ErrorKind::Forbidden);
        let (warehouse, _) = vault.enrol(Role::Warehouse).await;
        let leased = lease(&vault, &warehouse, 1).await.unwrap();
        assert_eq!(PrivateKey::try_from(&*leased).unwrap().public().as_bytes(), &*public);
        assert_eq!(kind_of(&lease(&vault, &warehouse, 2).await.unwrap_err()), ErrorKind::NotFound);

        let asked = AuthenticateRequest {
            key: key.clone(),
            audiences: vec!["warehouse".into()],
        };
        let refused = vault.vault(&before.gateway).authenticate(asked).await.unwrap_err();
        assert_eq!(kind_of(&refused), ErrorKind::Unavailable);
        let refused = vault.create_key(1, "read").await.unwrap_err();
        assert_eq!(kind_of(&refused), ErrorKind::Unavailable);
        let gateway = MintEnrolmentRequest { role: "gateway".into() };
        let refused = vault.operator().mint_enrolment(gateway).await.unwrap_err();
        assert_eq!(kind_of(&refused), ErrorKind::Unavailable);
        vault.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_view_is_made_anew_and_what_it_remembered_is_taken_over_where_it_can_be_read() {
    let world = World::new();
    let (listener, memory) = (std::net::TcpListener::bind("127.0.0.1:0").unwrap(), Memory::default());
    let vault = world.start_beside(Some(listener.local_addr().unwrap())).await;
    let accounts = world.serve_accounts(&vault, listener, memory.clone()).await;
    let roles = Roles::enrolled(&vault).await;
    let public = vault.create_product(1).await;
    let (revoked, old_key) = vault.create_key(1, "read").await.unwrap();
    let (_, key) = vault.create_key(1, "read").await.unwrap();
    vault.revoke(revoked).await;
    let heads = vec![Head {
        journal: "raw/1".into(),
        length: 3,
        hash: vec![7; 32],
    }];
    let remember = RememberRequest { heads: heads.clone() };
    vault.heads(&roles.warehouse).remember(remember).await.unwrap();
    // Before it has compared its own journal with what accounts remembers, it writes no heads into it.
    while memory.0.lock().unwrap().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    vault.stop().await;
    accounts.cancel();

    for kept in [true, false] {
        if !kept {
            std::fs::write(world.file("vault.sqlite"), "nothing that can be read").unwrap();
        }
        let vault = world.start_to_rebuild(ORDER).await;
        let (warehouse, _) = vault.enrol(Role::Warehouse).await;
        let recalled = vault.heads(&warehouse).recall(RecallRequest {}).await.unwrap().into_inner().heads;
        // The view is made from the journal, into which they were put when the vault stopped.
        assert_eq!(recalled, heads, "the old view could be read: {kept}");
        vault.stop().await;
        assert!(!world.file("vault.rebuilding").exists());
    }
    let vault = world.start().await;
    let roles = Roles::enrolled(&vault).await;
    assert_eq!(vault.create_product(1).await, public);
    assert!(roles.authenticate(&vault, &key, &[Role::Warehouse]).await.is_ok());
    let refused = roles.authenticate(&vault, &old_key, &[Role::Warehouse]).await.unwrap_err();
    assert_eq!(kind_of(&refused), ErrorKind::Unauthenticated);
    vault.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_rebuilt_where_there_is_no_root_key_or_no_journal() {
    let world = World::new();
    let refused = world.open_for(Some(ORDER)).await.unwrap_err();
    assert!(matches!(refused, OpenError::NoRootKey { .. }), "{refused}");
    assert!(
        !world.file("zones").exists() && !world.file("root.key").exists(),
        "nothing was made"
    );

    let vault = world.start().await;
    vault.stop().await;
    std::fs::remove_file(world.file("root.key")).unwrap();
    let refused = world.open_for(Some(ORDER)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFound);
}
