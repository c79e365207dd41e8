//! What the vault hands over for proofs: each role's keys to that role's process alone, and a customer's only where it was shown.

use std::path::Path;

use base::{ErrorKind, Role, SeededEntropy};
use seal::{PrivateKey, open_with};
use wire::proving::{Handed, context};
use wire::v1::{CreateProductKeysRequest, KeepSplitRequest, SplitRequest};

use super::world::World;
use crate::{Prover, ProvingError, VaultSettings};

fn secret(text: &str) -> base::SecretBytes {
    base::SecretBytes::new(text.as_bytes().to_vec())
}

fn prover(directory: &Path, shares: &[String]) -> Result<Prover, ProvingError> {
    let shares: Vec<_> = shares.iter().map(|share| secret(share)).collect();
    Prover::new(&VaultSettings::default(), directory, &shares, None)
}

/// What a process of `role` gets.
async fn handed(prover: &Prover, role: Role, shown: &[&str]) -> Result<Handed, ProvingError> {
    let entropy = SeededEntropy::new(3);
    let process = PrivateKey::generate(&entropy);
    let shown: Vec<_> = shown.iter().map(|shown| secret(shown)).collect();
    let sealed = prover.keys(role, &process.public(), &shown, &entropy).await?;
    let another = Role::ALL.into_iter().find(|another| *another != role).unwrap();
    assert!(open_with(&process, &context(another), &sealed).is_err(), "it is for one role");
    assert!(
        open_with(&PrivateKey::generate(&entropy), &context(role), &sealed).is_err(),
        "and for one process"
    );
    Ok(Handed::decode(&open_with(&process, &context(role), &sealed).unwrap()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_gets_what_it_may_have_and_a_customers_key_is_not_there_until_it_is_shown() {
    let world = World::new();
    let vault = world.start().await;
    let public = vault.create_product(1).await;
    let (id, revoked) = vault.create_key(1, "read").await.unwrap();
    let (_, writes) = vault.create_key(1, "write").await.unwrap();
    vault.revoke(id).await;
    let asked = CreateProductKeysRequest {
        product: 2,
        custody: "customer".into(),
    };
    let made = vault.operator().create_product_keys(asked).await.unwrap().into_inner();
    // While the vault serves, and changing nothing.
    let prover = prover(world.directory.path(), &[]).unwrap();

    let warehouse = handed(&prover, Role::Warehouse, &[]).await.unwrap();
    let [managed, customer] = &warehouse.products[..] else {
        panic!("{warehouse:?}")
    };
    let opens = PrivateKey::try_from(managed.private.as_ref().unwrap().reveal()).unwrap();
    assert_eq!(opens.public().as_bytes()[..], public);
    assert!(customer.private.is_none() && customer.public == made.public_key);
    assert!(warehouse.state.is_none() && warehouse.products.iter().all(|of| of.lookup.is_none() && of.people.is_empty()));

    let shown = handed(&prover, Role::Warehouse, &[&made.key]).await.unwrap();
    let opens = PrivateKey::try_from(shown.products[1].private.as_ref().unwrap().reveal()).unwrap();
    assert_eq!(opens.public().as_bytes()[..], made.public_key);
    for wrong in [revoked.as_str(), writes.as_str()] {
        assert_eq!(
            handed(&prover, Role::Warehouse, &[wrong]).await.unwrap_err().kind(),
            ErrorKind::Forbidden
        );
    }
    assert_eq!(
        handed(&prover, Role::Warehouse, &["no key"]).await.unwrap_err().kind(),
        ErrorKind::Invalid
    );

    let identity = handed(&prover, Role::Identity, &[]).await.unwrap();
    assert!(identity.state.is_some() && identity.products.iter().all(|of| of.private.is_none() && of.lookup.is_some()));
    for role in [Role::Vault, Role::Accounts, Role::Gateway] {
        let none = handed(&prover, role, &[&made.key]).await.unwrap();
        let nothing = none
            .products
            .iter()
            .all(|of| of.private.is_none() && of.lookup.is_none() && of.people.is_empty());
        assert!(nothing && none.state.is_none(), "{role}");
    }
    vault.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_key_in_shares_takes_enough_of_them() {
    let world = World::new();
    let vault = world.start().await;
    vault.create_product(1).await;
    let asked = SplitRequest {
        shares: 3,
        threshold: 2,
        old: Vec::new(),
    };
    let shares = vault.root().split(asked).await.unwrap().into_inner().shares;
    let keep = KeepSplitRequest {
        shares: shares[..2].to_vec(),
    };
    vault.root().keep(keep).await.unwrap();
    vault.stop().await;

    let at = world.directory.path();
    for too_few in [&shares[..0], &shares[..1]] {
        assert_eq!(prover(at, too_few).unwrap_err().kind(), ErrorKind::Forbidden);
    }
    let prover = prover(at, &shares[1..]).unwrap();
    assert!(handed(&prover, Role::Warehouse, &[]).await.unwrap().products[0].private.is_some());
}
