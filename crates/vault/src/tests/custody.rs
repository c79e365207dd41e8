//! Products in their customer's custody: what opens them, and that nothing that the vault has or keeps does.

use std::time::Duration;

use base::{CredentialId, ErrorKind, ProductId, Role};
use edge::kind_of;
use prost::Message;
use seal::{PrivateKey, unwrap};
use tonic::Status;
use wire::v1::{
    CreateCredentialRequest, CreateProductKeysRequest, CreateProductKeysResponse, ListCredentialsRequest, RevokeCredentialRequest,
    SetCustodyRequest,
};
use zones::Zones;

use super::all;
use super::world::{Roles, Running, World};
use crate::entries::{Entry, Fact, bound};
use crate::root::RootKey;

async fn create(vault: &Running, product: u64) -> CreateProductKeysResponse {
    let asked = CreateProductKeysRequest {
        product,
        custody: "customer".into(),
    };
    vault.operator().create_product_keys(asked).await.unwrap().into_inner()
}

async fn create_key(vault: &Running, kind: &str, shown: &str) -> Result<String, Status> {
    let asked = CreateCredentialRequest {
        product: 1,
        kind: kind.into(),
        shown: shown.into(),
    };
    Ok(vault.operator().create_credential(asked).await?.into_inner().key)
}

async fn revoke(vault: &Running, credential: CredentialId, lose_everything: bool) -> Result<(), Status> {
    let asked = RevokeCredentialRequest {
        credential: credential.to_bytes().to_vec(),
        lose_everything,
    };
    vault.operator().revoke_credential(asked).await.map(drop)
}

async fn set_custody(vault: &Running, custody: &str, shown: &str) -> Result<(), Status> {
    let asked = SetCustodyRequest {
        product: 1,
        custody: custody.into(),
        shown: shown.into(),
    };
    vault.operator().set_custody(asked).await.map(drop)
}

/// Whose private key a lease for `pass` holds.
async fn leased(vault: &Running, roles: &Roles, pass: &[u8]) -> Result<Vec<u8>, Status> {
    let private = roles.lease_private(vault, &roles.warehouse, pass).await?;
    Ok(PrivateKey::try_from(&*private).unwrap().public().as_bytes().to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_nothing_opens_the_product_until_its_key_is_shown() {
    let world = World::new();
    let vault = world.start().await;
    let made = create(&vault, 1).await;
    assert!(made.made && made.key.starts_with("1/"));
    let again = create(&vault, 1).await;
    assert!(
        !again.made && again.key.is_empty() && again.public_key == made.public_key,
        "made once"
    );
    let listed = vault
        .operator()
        .list_credentials(ListCredentialsRequest { product: 1 })
        .await
        .unwrap()
        .into_inner();
    assert_eq!((listed.custody.as_str(), listed.credentials.len()), ("customer", 1));
    let roles = Roles::enrolled(&vault).await;
    let pass = roles.pass(&vault, &made.key, Role::Warehouse, all()).await;
    assert_eq!(leased(&vault, &roles, &pass).await.unwrap(), made.public_key);
    vault.stop().await;

    let vault = world.start().await;
    let roles = Roles::enrolled(&vault).await;
    let writes = create_key(&vault, "write", "").await.unwrap();
    let reads_nothing = roles.pass(&vault, &writes, Role::Warehouse, all()).await;
    assert_eq!(
        kind_of(&leased(&vault, &roles, &reads_nothing).await.unwrap_err()),
        ErrorKind::Forbidden
    );
    // Accounts and gateway are taken over and have made up a pass of that credential: nobody has shown its key in this start.
    let product = ProductId::new(1).unwrap();
    let keyring = &vault.shared.keyring;
    let known = CredentialId::try_from(&*made.credential).unwrap();
    assert!(keyring.unlocked_for(known).is_err());
    let identity = roles.pass(&vault, &writes, Role::Identity, all()).await;
    assert_eq!(roles.lease_lookup(&vault, &identity).await.unwrap().len(), 32, "ingest waits");

    // All that there is, and the root key.
    let row = keyring.view.product(product).await.unwrap().unwrap();
    assert!(row.wrapped_private.is_empty());
    let wrapped = keyring.view.wrapped_for(known).await.unwrap().unwrap();
    for context in [
        bound::private_key(product),
        bound::private_key_for(product, known),
        bound::lookup_key(product),
    ] {
        assert!(unwrap(&keyring.wrapping, &context, &wrapped).is_err());
    }
    assert!(
        unwrap(&keyring.wrapping, &bound::lookup_key(product), &row.wrapped_lookup).is_ok(),
        "the positive control"
    );

    let pass = roles.pass(&vault, &made.key, Role::Warehouse, all()).await;
    assert_eq!(leased(&vault, &roles, &pass).await.unwrap(), made.public_key);
    world.clock.advance(Duration::from_secs(301));
    assert!(
        keyring.unlocked_for(known).is_err(),
        "it outlives the passes that it was opened for"
    );
    vault.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_vaults_journal_holds_no_copy_that_the_root_key_opens_and_does_of_a_managed_product() {
    let world = World::new();
    let vault = world.start().await;
    create(&vault, 1).await;
    vault.create_product(2).await;
    vault.stop().await;

    let root = RootKey::read(&world.file("root.key")).unwrap().unwrap();
    let (settings, clock) = (world.settings().zones, world.clock.clone());
    let zones = tokio::task::spawn_blocking(move || Zones::open(settings, false, clock).unwrap())
        .await
        .unwrap();
    let recovered = journal::recover(&zones, &root.installation().key(), Role::Vault, crate::open::JOURNAL, None)
        .await
        .unwrap();
    let mut opened = Vec::new();
    for segment in &recovered.segments {
        for entry in segment.open(&zones, &root.journal()).await.unwrap() {
            let fact = Entry::decode(&*entry.payload).unwrap().fact.unwrap();
            let (product, blobs) = match fact {
                Fact::Product(made) => (made.product, vec![made.wrapped_private]),
                Fact::CustomerProduct(made) => (
                    made.product.product,
                    vec![made.product.wrapped_private, made.credential.wrapped_private],
                ),
                _ => continue,
            };
            let context = bound::private_key(ProductId::new(product).unwrap());
            let opens = blobs.iter().any(|blob| unwrap(&root.wrapping(), &context, blob).is_ok());
            opened.push((product, opens));
        }
    }
    opened.sort_unstable();
    assert_eq!(opened, [(1, false), (2, true)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_that_reads_takes_one_that_reads_and_the_last_one_is_not_lost_by_accident() {
    let world = World::new();
    let vault = world.start().await;
    let roles = Roles::enrolled(&vault).await;
    let made = create(&vault, 1).await;
    let write = create_key(&vault, "write", "").await.unwrap();
    let digits = made.key.strip_prefix("1/").unwrap();
    for (wrong, kind) in [
        ("", ErrorKind::Forbidden),
        (write.as_str(), ErrorKind::Forbidden),
        (&format!("2/{digits}"), ErrorKind::Unauthenticated),
        ("1/00", ErrorKind::Unauthenticated),
    ] {
        assert_eq!(kind_of(&create_key(&vault, "read", wrong).await.unwrap_err()), kind, "{wrong:?}");
    }
    let read = create_key(&vault, "read", &made.key).await.unwrap();
    let pass = roles.pass(&vault, &read, Role::Warehouse, all()).await;
    assert_eq!(leased(&vault, &roles, &pass).await.unwrap(), made.public_key);

    let first = CredentialId::try_from(&*made.credential).unwrap();
    let listed = vault
        .operator()
        .list_credentials(ListCredentialsRequest { product: 1 })
        .await
        .unwrap()
        .into_inner();
    let of_kind = |kind: &str| {
        let found = listed.credentials.iter().find(|key| key.kind == kind).unwrap();
        CredentialId::try_from(&*found.credential).unwrap()
    };
    revoke(&vault, first, false).await.unwrap();
    let refused = revoke(&vault, of_kind("read"), false).await.unwrap_err();
    assert_eq!(kind_of(&refused), ErrorKind::Conflict);
    assert!(refused.message().contains("last key that reads"), "{}", refused.message());
    assert_eq!(
        leased(&vault, &roles, &pass).await.unwrap(),
        made.public_key,
        "nothing has happened"
    );
    revoke(&vault, of_kind("write"), false).await.unwrap();
    revoke(&vault, of_kind("read"), true).await.unwrap();
    assert_eq!(kind_of(&leased(&vault, &roles, &pass).await.unwrap_err()), ErrorKind::Forbidden);

    // Of a managed product any key may go: another one can be made.
    vault.create_product(2).await;
    let (only, _) = vault.create_key(2, "read").await.unwrap();
    revoke(&vault, only, false).await.unwrap();
    vault.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_holder_alone_can_give_the_vault_a_copy_and_it_does_not_come_back() {
    let world = World::new();
    let vault = world.start().await;
    let made = create(&vault, 1).await;
    let write = create_key(&vault, "write", "").await.unwrap();
    for wrong in ["", write.as_str()] {
        assert!(set_custody(&vault, "managed", wrong).await.is_err());
    }
    set_custody(&vault, "customer", &made.key).await.unwrap();
    set_custody(&vault, "managed", &made.key).await.unwrap();
    let refused = set_custody(&vault, "customer", &made.key).await.unwrap_err();
    assert_eq!(kind_of(&refused), ErrorKind::Invalid, "{}", refused.message());
    vault.stop().await;

    // Also from the journal alone.
    std::fs::remove_file(world.file("vault.sqlite")).unwrap();
    let vault = world.start().await;
    let roles = Roles::enrolled(&vault).await;
    let read = create_key(&vault, "read", "").await.unwrap();
    let pass = roles.pass(&vault, &read, Role::Warehouse, all()).await;
    assert_eq!(leased(&vault, &roles, &pass).await.unwrap(), made.public_key);
    vault.stop().await;
}
