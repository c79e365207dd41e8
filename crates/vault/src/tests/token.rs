//! The root key in a token: first starts, what becomes of a root key file, of the token, and of what is left of either on a disk. The token
//! here is one of memory that can be told to fail; real modules are in `coffer`'s tests.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use base::{ErrorKind, OsEntropy, Role};
use edge::kind_of;
use seal::{DataKey, unwrap, wrap};
use wire::v1::{KeepSplitRequest, MintEnrolmentRequest, RootLookRequest, SealRequest, SplitRequest};

use super::all;
use super::world::{Roles, World};
use crate::sealed_root::FILE;
use crate::token::{Token, TokenError};
use crate::{OpenError, Prepared, SealedRootError};

#[derive(Debug)]
struct InMemory {
    key: DataKey,
    opens: AtomicBool,
    wraps: AtomicU32,
}

impl InMemory {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            key: DataKey::generate(&OsEntropy),
            opens: AtomicBool::new(true),
            wraps: AtomicU32::new(0),
        })
    }
}

impl Token for InMemory {
    fn wrap(&self, key: &DataKey, context: &[u8]) -> Result<Vec<u8>, TokenError> {
        self.wraps.fetch_add(1, Ordering::SeqCst);
        Ok(wrap(&self.key, context, key.reveal(), &OsEntropy))
    }

    fn unwrap(&self, wrapped: &[u8], context: &[u8]) -> Result<DataKey, TokenError> {
        let refused = |why: &str| TokenError::new(ErrorKind::Corrupt, why);
        if !self.opens.load(Ordering::SeqCst) {
            return Err(refused("it was told to"));
        }
        let opened = unwrap(&self.key, context, wrapped).map_err(|_| refused("another key"))?;
        DataKey::try_from(opened.reveal()).map_err(|_| refused("no key"))
    }
}

fn with(token: &Arc<InMemory>) -> World {
    let mut world = World::new();
    world.token = Some(token.clone());
    world
}

async fn refused(world: &World) -> OpenError {
    match world.prepare().await {
        Ok(_) => panic!("it starts"),
        Err(error) => error,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_with_a_token_never_has_a_root_key_file_and_opens_with_that_token_only() {
    let token = InMemory::new();
    let mut world = with(&token);
    let vault = world.start().await;
    assert!(!world.file("root.key").exists() && world.file(FILE).exists());
    let public = vault.create_product(1).await;
    let (_, key) = vault.create_key(1, "read").await.unwrap();
    let look = vault.root().look(RootLookRequest {}).await.unwrap().into_inner();
    assert_eq!((look.holder.as_str(), look.sealed, look.set.is_empty()), ("token", false, true));
    let sealing = vault.root().seal(SealRequest {}).await.unwrap_err();
    assert_eq!(kind_of(&sealing), ErrorKind::Conflict, "it would be open again at once");
    let (ca, installation) = (vault.ca.clone(), vault.installation);
    vault.stop().await;

    let vault = world.start().await;
    assert_eq!((&vault.ca, vault.installation), (&ca, installation));
    let roles = Roles::enrolled(&vault).await;
    let pass = roles.pass(&vault, &key, Role::Warehouse, all()).await;
    let leased = roles.lease_private(&vault, &roles.warehouse, &pass).await.unwrap();
    assert_eq!(seal::PrivateKey::try_from(&*leased).unwrap().public().as_bytes(), &*public);
    vault.stop().await;
    assert_eq!(token.wraps.load(Ordering::SeqCst), 1, "it is wrapped once and for all");

    world.token = None;
    let error = refused(&world).await;
    assert!(
        matches!(error, OpenError::NoToken { .. }) && error.to_string().contains("vault.pkcs11"),
        "{error}"
    );
    world.token = Some(InMemory::new());
    let error = refused(&world).await;
    assert!(matches!(&error, OpenError::SealedRoot(SealedRootError::Token(_))), "{error}");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(!world.file("root.key").exists(), "a new root key was made");
    world.token = Some(token);
    world.start().await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_key_file_moves_into_the_token_and_what_was_there_opens() {
    let mut world = World::new();
    let vault = world.start().await;
    let (ca, installation) = (vault.ca.clone(), vault.installation);
    vault.stop().await;
    let file = fs::read(world.file("root.key")).unwrap();

    // One that wraps and does not open what it wrapped.
    let token = InMemory::new();
    token.opens.store(false, Ordering::SeqCst);
    world.token = Some(token.clone());
    assert!(matches!(refused(&world).await, OpenError::SealedRoot(_)));
    assert!(!world.file(FILE).exists() && fs::read(world.file("root.key")).unwrap() == file);

    token.opens.store(true, Ordering::SeqCst);
    let vault = world.start().await;
    assert_eq!((&vault.ca, vault.installation), (&ca, installation));
    assert!(!world.file("root.key").exists() && world.file(FILE).exists());
    vault.stop().await;

    // As a crash between the two leaves it.
    crate::root::RootKey::generate(&OsEntropy).write(&world.file("root.key")).unwrap();
    assert!(matches!(refused(&world).await, OpenError::TwoRootKeys { .. }));
    assert!(world.file("root.key").exists(), "what nobody has opened was destroyed");
    fs::write(world.file("root.key"), &file).unwrap();
    let vault = world.start().await;
    assert!(!world.file("root.key").exists());
    vault.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_lost_its_directory_finds_what_its_token_opens_in_its_zones() {
    let token = InMemory::new();
    let world = with(&token);
    let vault = world.start().await;
    let installation = vault.installation;
    vault.stop().await;
    let vault = world.start().await;
    vault.stop().await;
    for file in [FILE, "vault.sqlite"] {
        fs::remove_file(world.file(file)).unwrap();
    }
    let Ok(Prepared::Open(prepared)) = world.prepare().await else {
        panic!("it starts as a new one, until it looks into its zones");
    };
    assert!(matches!(prepared.open().await, Err(OpenError::PutBack { .. })));
    let vault = world.start().await;
    assert_eq!(vault.installation, installation);
    vault.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_take_over_from_a_token() {
    let token = InMemory::new();
    let mut world = with(&token);
    let vault = world.start().await;
    let ca = vault.ca.clone();
    let split = |old: Vec<String>| SplitRequest {
        shares: 3,
        threshold: 2,
        old,
    };
    let early = vault.root().split(split(vec!["a share".into()])).await.unwrap_err();
    assert_eq!(kind_of(&early), ErrorKind::Conflict, "{early}");
    let shares = vault.root().split(split(Vec::new())).await.unwrap().into_inner().shares;
    let kept = KeepSplitRequest {
        shares: shares[..2].to_vec(),
    };
    let look = vault.root().keep(kept).await.unwrap().into_inner();
    assert_eq!((look.holder.as_str(), look.shares), ("shares", 3));
    vault.stop().await;

    // Whether the token is still set up or not.
    for token in [None, Some(token as Arc<dyn Token>)] {
        world.token = token;
        let waiting = world.start_sealed().await;
        let minted = waiting
            .vault()
            .mint_enrolment(MintEnrolmentRequest { role: "accounts".into() })
            .await;
        assert!(minted.is_err(), "a sealed vault enrols");
        waiting.show(&shares[2]).await.unwrap();
        waiting.show(&shares[0]).await.unwrap();
        let vault = world.start_unsealed(waiting).await;
        assert_eq!(vault.ca, ca);
        vault.stop().await;
    }
}
