//! Revocation over the wire: told by two roles, heard by a third.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base::{Clock, CredentialId, OsEntropy, ProductId, Role};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::world::{DAY, World, eventually};
use crate::revocations::{Ended, Feed, REMEMBERED, Watch};

#[tokio::test]
async fn what_is_revoked_is_heard_within_the_second_and_silence_is_noticed() {
    let world = World::new();
    let feed = |cancel| Feed::new(world.clock(), [], cancel);
    let (stop_vault, stop_accounts) = (CancellationToken::new(), CancellationToken::new());
    let (vault_feed, accounts_feed) = (feed(stop_vault.clone()), feed(stop_accounts.clone()));
    let vault = world.serve(Role::Vault, Routes::new(vault_feed.service()), None);
    let accounts = world.serve(Role::Accounts, Routes::new(accounts_feed.service()), None);
    let tls = world.tls(Role::Gateway);
    let peers = world.peers(&tls, &[(Role::Vault, vault.address), (Role::Accounts, accounts.address)]);
    let early = CredentialId::generate(world.clock.now(), &OsEntropy);
    vault_feed.revoke(early);

    let cancel = CancellationToken::new();
    let watch = Watch::follow(&peers, world.clock(), &cancel);
    assert!(!watch.may_read(), "nothing is read before the first word");
    eventually("both are heard", async || watch.may_read()).await;
    assert!(watch.is_revoked(&early), "it is told what was revoked before it came");

    let (credential, other) = (
        CredentialId::generate(world.clock.now(), &OsEntropy),
        CredentialId::generate(world.clock.now(), &OsEntropy),
    );
    let open = tokio::spawn({
        let watch = Arc::clone(&watch);
        async move { watch.ended(&credential).await }
    });
    let started = Instant::now();
    accounts_feed.revoke(credential);
    assert_eq!(open.await.unwrap(), Ended::Revoked);
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    assert!(watch.is_revoked(&credential) && !watch.is_revoked(&other));

    let product = ProductId::new(7).unwrap();
    let mut changes = watch.changes();
    vault_feed.changed(ProductId::new(8).unwrap());
    accounts_feed.changed(product);
    assert_eq!(changes.recv().await, Ok(product), "settings are for accounts to tell of");

    stop_accounts.cancel();
    accounts.cancel.cancel();
    accounts.done.await.unwrap();
    world.clock.advance(Duration::from_secs(8));
    eventually("the silence of one is enough", async || !watch.may_read()).await;
    assert_eq!(watch.ended(&other).await, Ended::Unheard);
    cancel.cancel();
}

#[tokio::test]
async fn a_new_listener_is_told_of_the_last_ten_minutes_and_not_of_more() {
    let world = World::new();
    let cancel = CancellationToken::new();
    let now = world.clock.now();
    let old = CredentialId::generate(now, &OsEntropy);
    let recent = CredentialId::generate(now, &OsEntropy);
    let feed = Feed::new(world.clock(), [(now, old), (now.plus(Duration::from_secs(60)), recent)], cancel);
    feed.changed(ProductId::new(1).unwrap());
    world.clock.advance(REMEMBERED + Duration::from_secs(30));
    feed.changed(ProductId::new(2).unwrap());
    let accounts = world.serve(Role::Accounts, Routes::new(feed.service()), None);
    let tls = world.tls(Role::Gateway);
    let stop = CancellationToken::new();

    let watch = Watch::follow(&world.peers(&tls, &[(Role::Accounts, accounts.address)]), world.clock(), &stop);
    let mut changes = watch.changes();

    eventually("the recent one is told", async || watch.is_revoked(&recent)).await;
    assert!(!watch.is_revoked(&old));
    assert_eq!(changes.recv().await, Ok(ProductId::new(2).unwrap()), "of changes no less");
    assert!(!watch.may_read(), "the vault was never heard");
    stop.cancel();
}

#[test]
fn after_a_night_asleep_nothing_is_read_before_the_next_word() {
    let world = World::new();
    let watch = Watch::new(world.clock());
    watch.hear(Role::Vault);
    watch.hear(Role::Accounts);
    assert!(watch.may_read());

    world.clock.advance(DAY);

    assert!(!watch.may_read());
}
