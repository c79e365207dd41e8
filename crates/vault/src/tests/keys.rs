//! Product keys: what they lead to, and what never leads anywhere.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base::{ErrorKind, ProductId, Role, Verb, Verbs};
use edge::kind_of;
use seal::{Assertion, PrivateKey, unwrap};
use wire::v1::{CreateProductKeysRequest, ListCredentialsRequest, WatchRequest};

use super::all;
use super::world::{Roles, World};
use crate::credentials::ProductKey;
use crate::entries::bound;

#[tokio::test(flavor = "multi_thread")]
async fn a_readable_key_leads_to_the_private_key_and_a_write_key_never_does() {
    let world = World::new();
    let vault = world.start().await;
    let roles = Roles::enrolled(&vault).await;
    let public = vault.create_product(1).await;
    assert_eq!(vault.create_product(1).await, public, "made once");

    for (kind, reads) in [("read", true), ("admin", true), ("write", false)] {
        let (_, key) = vault.create_key(1, kind).await.unwrap();
        // Accounts is taken over here: it signs every verb for every key.
        let pass = roles.pass(&vault, &key, Role::Warehouse, all()).await;
        let leased = roles.lease_private(&vault, &roles.warehouse, &pass).await;
        match reads {
            true => assert_eq!(
                PrivateKey::try_from(&*leased.unwrap()).unwrap().public().as_bytes(),
                &*public,
                "{kind}"
            ),
            false => assert_eq!(kind_of(&leased.unwrap_err()), ErrorKind::Forbidden, "{kind}"),
        }
    }
    vault.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_needs_a_reading_verb_and_comes_from_the_passes_own_audience() {
    let world = World::new();
    let vault = world.start().await;
    let roles = Roles::enrolled(&vault).await;
    vault.create_product(1).await;
    let (_, key) = vault.create_key(1, "admin").await.unwrap();

    let appending = roles
        .pass(&vault, &key, Role::Warehouse, Verbs::of(&[Verb::Append, Verb::Manage]))
        .await;
    let refused = roles.lease_private(&vault, &roles.warehouse, &appending).await.unwrap_err();
    assert_eq!(kind_of(&refused), ErrorKind::Forbidden);

    let for_identity = roles.pass(&vault, &key, Role::Identity, all()).await;
    let refused = roles.lease_private(&vault, &roles.warehouse, &for_identity).await.unwrap_err();
    assert_eq!(kind_of(&refused), ErrorKind::Unauthenticated, "another audience");
    let refused = roles.lease_private(&vault, &roles.identity, &for_identity).await.unwrap_err();
    assert_eq!(kind_of(&refused), ErrorKind::Forbidden, "a role that holds no private keys");
    assert!(roles.lease_private(&vault, &roles.warehouse, b"").await.is_err(), "no pass");

    assert_eq!(roles.lease_lookup(&vault, &for_identity).await.unwrap().len(), 32);
    let managing = roles.pass(&vault, &key, Role::Identity, Verbs::of(&[Verb::Manage])).await;
    assert_eq!(
        kind_of(&roles.lease_lookup(&vault, &managing).await.unwrap_err()),
        ErrorKind::Forbidden
    );

    world.clock.advance(Duration::from_secs(301));
    let refused = roles.lease_lookup(&vault, &for_identity).await.unwrap_err();
    assert_eq!(kind_of(&refused), ErrorKind::Unauthenticated, "the pass has ended");
    vault.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn products_have_keys_of_their_own_and_every_refusal_of_a_key_is_the_same() {
    let world = World::new();
    let vault = world.start().await;
    let roles = Roles::enrolled(&vault).await;
    assert_ne!(vault.create_product(1).await, vault.create_product(2).await);
    let (one, key) = vault.create_key(1, "read").await.unwrap();
    let (_, other) = vault.create_key(2, "read").await.unwrap();
    assert_eq!(kind_of(&vault.create_key(3, "read").await.unwrap_err()), ErrorKind::NotFound);

    let asserted = roles.authenticate(&vault, &key, &[Role::Warehouse, Role::Identity]).await.unwrap();
    let read = asserted
        .iter()
        .map(|bytes| Assertion::verify(&vault.installation, bytes, vault.clock_now()).unwrap());
    let (warehouse, identity) = (read.clone().next().unwrap(), read.clone().nth(1).unwrap());
    assert_eq!((warehouse.audience, identity.audience), (Role::Warehouse, Role::Identity));
    assert_eq!((warehouse.credential, warehouse.product.get()), (one, 1));
    assert_eq!(warehouse.holder, roles.gateway.holder_id());
    assert_ne!(warehouse.id, identity.id);
    let pass = roles.pass(&vault, &other, Role::Identity, all()).await;
    let first = roles.pass(&vault, &key, Role::Identity, all()).await;
    assert_ne!(
        roles.lease_lookup(&vault, &pass).await.unwrap(),
        roles.lease_lookup(&vault, &first).await.unwrap()
    );

    vault.revoke(one).await;
    let digits = other.strip_prefix("2/").unwrap();
    let wrong = [
        key.clone(),
        format!("1/{digits}"),
        format!("2/{}", "0".repeat(64)),
        format!("02/{digits}"),
        other.to_uppercase() + "F",
        String::new(),
        "x".repeat(100_000),
    ];
    let mut answers = Vec::new();
    for key in &wrong {
        let refused = roles.authenticate(&vault, key, &[Role::Warehouse]).await.unwrap_err();
        answers.push((refused.code(), refused.message().to_owned(), kind_of(&refused)));
    }
    assert!(
        answers
            .iter()
            .all(|answer| *answer == answers[0] && answer.2 == ErrorKind::Unauthenticated),
        "{answers:?}"
    );
    assert!(
        roles.authenticate(&vault, &other, &[Role::Vault]).await.is_err(),
        "nobody shows the vault a pass of its own"
    );
    vault.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_leads_nowhere_and_everyone_is_told() {
    let world = World::new();
    let vault = world.start().await;
    let roles = Roles::enrolled(&vault).await;
    vault.create_product(1).await;
    let (id, key) = vault.create_key(1, "read").await.unwrap();
    let pass = roles.pass(&vault, &key, Role::Warehouse, all()).await;
    roles.lease_private(&vault, &roles.warehouse, &pass).await.unwrap();
    let mut told = vault
        .revocations(&roles.warehouse)
        .watch(WatchRequest {})
        .await
        .unwrap()
        .into_inner();

    vault.revoke(id).await;
    vault.revoke(id).await;

    let refused = roles.lease_private(&vault, &roles.warehouse, &pass).await.unwrap_err();
    assert_eq!(kind_of(&refused), ErrorKind::Forbidden, "the pass itself has minutes left");
    let heard = async {
        while let Some(message) = told.message().await.unwrap() {
            if message.credential == id.to_bytes() {
                return;
            }
        }
        panic!("the stream ended");
    };
    tokio::time::timeout(Duration::from_secs(5), heard).await.unwrap();
    let listed = vault
        .operator()
        .list_credentials(ListCredentialsRequest { product: 1 })
        .await
        .unwrap()
        .into_inner()
        .credentials;
    assert_eq!((listed.len(), listed[0].revoked_at), (1, vault.clock_now().as_micros()));
    drop(told);
    vault.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_of_a_readable_key_unwraps_the_private_key_by_itself() {
    let world = World::new();
    let vault = world.start().await;
    let public = vault.create_product(1).await;
    let (id, key) = vault.create_key(1, "read").await.unwrap();
    let (other, _) = vault.create_key(1, "admin").await.unwrap();
    let (write, _) = vault.create_key(1, "write").await.unwrap();

    // The way of `customer` custody: no root key, only what is stored and what the customer shows.
    let product = ProductId::new(1).unwrap();
    let (key, view) = (ProductKey::parse(&key).unwrap(), &vault.shared.keyring.view);
    let wrapped = view.wrapped_for(id).await.unwrap().unwrap();
    let private = unwrap(&key.wrapping(id), &bound::private_key_for(product, id), &wrapped).unwrap();
    assert_eq!(PrivateKey::try_from(private.reveal()).unwrap().public().as_bytes(), &*public);

    let another = view.wrapped_for(other).await.unwrap().unwrap();
    assert!(
        unwrap(&key.wrapping(other), &bound::private_key_for(product, other), &another).is_err(),
        "another key's copy"
    );
    assert!(view.wrapped_for(write).await.unwrap().is_none());
    let asked = CreateProductKeysRequest {
        product: 2,
        custody: "shared".into(),
    };
    assert_eq!(
        kind_of(&vault.operator().create_product_keys(asked).await.unwrap_err()),
        ErrorKind::Invalid
    );
    vault.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_opens_anything_is_on_disk_but_the_root_key() {
    let world = World::new();
    let vault = world.start().await;
    let roles = Roles::enrolled(&vault).await;
    vault.create_product(1).await;
    let (_, key) = vault.create_key(1, "read").await.unwrap();
    let pass = roles.pass(&vault, &key, Role::Warehouse, all()).await;
    let private = roles.lease_private(&vault, &roles.warehouse, &pass).await.unwrap();
    let secret = hex::decode(key.strip_prefix("1/").unwrap()).unwrap();
    let root = std::fs::read_to_string(world.file("root.key")).unwrap();
    let needles = [
        key.clone().into_bytes(),
        secret,
        private.clone(),
        hex::encode(&private).into_bytes(),
        hex::decode(root.trim()).unwrap(),
    ];
    vault.stop().await;

    for (i, needle) in needles.iter().enumerate() {
        assert_eq!(holding(world.directory.path(), needle), Vec::<PathBuf>::new(), "needle {i}");
        // The same search finds it in a control, so it would have found it.
        std::fs::write(world.file("zones").join("control"), [b"before ", &needle[..], b" after"].concat()).unwrap();
        assert_eq!(
            holding(world.directory.path(), needle),
            [world.file("zones").join("control")],
            "needle {i}"
        );
        std::fs::remove_file(world.file("zones").join("control")).unwrap();
    }
}

/// The files below `directory` that hold these bytes, the root key's own aside.
fn holding(directory: &Path, needle: &[u8]) -> Vec<PathBuf> {
    let (mut found, mut waiting) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.is_file() && !path.ends_with("root.key") {
            let bytes = std::fs::read(&path).unwrap();
            if bytes.windows(needle.len()).any(|window| window == needle) {
                found.push(path);
            }
        }
    }
    found
}
