//! What is refused before a handler runs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base::{CredentialId, ErrorKind, OsEntropy, Role, Verb, Verbs};
use tonic::Code;
use wire::v1::FindRequest;
use wire::v1::identity_client::IdentityClient;

use super::world::{DAY, World, eventually};
use crate::{RoleTls, TlsKey, kind_of, peers, tls};

#[tokio::test]
async fn a_pass_is_taken_from_its_holder_at_its_audience() {
    let world = World::new();
    let (identity, _, seen) = world.identity();
    let mut gateway = world.caller(Role::Gateway, &identity);
    let mut pass = world.pass();
    pass.holder = gateway.tls.holder_id();
    let pass = pass.make();

    assert_eq!(gateway.find(&pass).await.unwrap(), [7]);
    assert_eq!(gateway.find(&pass).await.unwrap(), [7], "again, from the cache");
    assert_eq!(seen.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_role_that_is_not_in_the_table_is_refused_before_the_handler() {
    let world = World::new();
    let (identity, _, seen) = world.identity();
    for role in [Role::Vault, Role::Accounts, Role::Identity, Role::Warehouse] {
        let mut caller = world.caller(role, &identity);
        let mut pass = world.pass();
        pass.holder = caller.tls.holder_id();

        let refused = caller.find(&pass.make()).await.unwrap_err();

        assert_eq!(refused.code(), Code::PermissionDenied, "{role}");
    }
    assert_eq!(seen.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_pass_with_anything_wrong_in_it_is_refused_before_the_handler() {
    let world = World::new();
    let (identity, _, seen) = world.identity();
    let mut gateway = world.caller(Role::Gateway, &identity);
    let mut right = world.pass();
    right.holder = gateway.tls.holder_id();
    let good = right.make();

    let mut wrong = vec![
        ("garbage", b"garbage".to_vec()),
        ("empty", Vec::new()),
        ("cut off", good[..good.len() - 1].to_vec()),
    ];
    let mut pass = world.pass();
    wrong.push(("another holder", pass.make()));
    pass.holder = gateway.tls.holder_id();
    pass.audience = Role::Warehouse;
    wrong.push(("another audience", pass.make()));
    let mut pass = world.pass();
    pass.holder = gateway.tls.holder_id();
    pass.asserted_by = Role::Accounts;
    wrong.push(("asserted by accounts", pass.make()));
    let (a, b) = (seal::Pass::decode(&good).unwrap(), seal::Pass::decode(&right.make()).unwrap());
    wrong.push((
        "halves of two passes",
        seal::Pass {
            assertion: a.assertion.clone(),
            grant: b.grant,
        }
        .encode(),
    ));
    wrong.push((
        "one half missing",
        seal::Pass {
            assertion: a.assertion,
            grant: Vec::new(),
        }
        .encode(),
    ));

    for (what, pass) in wrong {
        let refused = gateway.find(&pass).await.expect_err(what);
        assert_eq!(refused.code(), Code::Unauthenticated, "{what}: {refused}");
    }
    let mut twice = crate::with_pass(FindRequest::default(), &good, super::world::request_id());
    twice
        .metadata_mut()
        .append_bin(wire::PASS_HEADER, tonic::metadata::MetadataValue::from_bytes(&good));
    assert_eq!(
        gateway.client.find(twice).await.unwrap_err().code(),
        Code::Unauthenticated,
        "two passes"
    );
    assert_eq!(seen.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_handler_that_needs_a_pass_gets_none_where_none_was_shown() {
    let world = World::new();
    let (identity, ..) = world.identity();
    let mut gateway = world.caller(Role::Gateway, &identity);

    let refused = gateway.client.find(FindRequest::default()).await.unwrap_err();

    assert_eq!(kind_of(&refused), ErrorKind::Unauthenticated);
}

#[tokio::test]
async fn a_pass_in_the_cache_ends_like_any_other() {
    let world = World::new();
    let (identity, watch, _) = world.identity();
    let mut gateway = world.caller(Role::Gateway, &identity);
    let mut pass = world.pass();
    pass.holder = gateway.tls.holder_id();
    let pass = pass.make();
    assert!(gateway.find(&pass).await.is_ok());

    world.clock.advance(Duration::from_secs(299));
    watch.hear(Role::Vault);
    watch.hear(Role::Accounts);
    assert!(gateway.find(&pass).await.is_ok());
    world.clock.advance(Duration::from_secs(1));

    assert_eq!(gateway.find(&pass).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_pass_seen_from_its_holder_is_no_good_from_another() {
    let world = World::new();
    let (identity, ..) = world.identity();
    let (mut first, mut second) = (world.caller(Role::Gateway, &identity), world.caller(Role::Gateway, &identity));
    let mut pass = world.pass();
    pass.holder = first.tls.holder_id();
    let pass = pass.make();
    assert!(first.find(&pass).await.is_ok());

    assert_eq!(second.find(&pass).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_pass_gives_the_verbs_in_it_and_no_others() {
    let world = World::new();
    let (identity, ..) = world.identity();
    let mut gateway = world.caller(Role::Gateway, &identity);
    let mut pass = world.pass();
    pass.holder = gateway.tls.holder_id();
    pass.verbs = Verbs::of(&[Verb::Append]);
    let pass = pass.make();

    assert!(gateway.translate(&pass).await.is_ok());
    assert_eq!(kind_of(&gateway.find(&pass).await.unwrap_err()), ErrorKind::Forbidden);
}

#[tokio::test]
async fn without_a_certificate_or_with_a_foreign_one_there_is_no_connection() {
    let (world, foreign) = (World::new(), World::new());
    let (identity, _, seen) = world.identity();

    let anonymous = tls::anonymous_client(&world.ca, world.clock()).unwrap();
    let mut nobody = IdentityClient::new(peers::channel(Role::Identity, Some(identity.address), anonymous));
    assert_eq!(
        kind_of(&nobody.find(FindRequest::default()).await.unwrap_err()),
        ErrorKind::Unavailable
    );

    // Trusts the right authority, but is certified by another.
    let key = TlsKey::generate().unwrap();
    let chain = foreign.certify(&key.certificate_request(&[Role::Gateway.server_name()]).unwrap(), DAY);
    let stranger = Arc::new(RoleTls::new(Role::Gateway, chain, key, &world.ca, world.clock()).unwrap());
    let mut stranger = world.caller_with(stranger, &identity);
    assert_eq!(
        kind_of(&stranger.client.find(FindRequest::default()).await.unwrap_err()),
        ErrorKind::Unavailable
    );

    assert_eq!(seen.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_caller_does_not_talk_to_another_role_in_place_of_the_one_it_asked_for() {
    let world = World::new();
    let (identity, ..) = world.identity();
    let gateway = world.tls(Role::Gateway);
    // Where the warehouse should be, the identity role answers.
    let peers = world.peers(&gateway, &[(Role::Warehouse, identity.address)]);

    let refused = IdentityClient::new(peers.channel(Role::Warehouse))
        .find(FindRequest::default())
        .await
        .unwrap_err();

    assert_eq!(kind_of(&refused), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_connection_does_not_outlive_its_certificate_and_is_made_again_with_the_next() {
    let world = World::new();
    let (identity, watch, _) = world.identity();
    let tls = world.tls_for(Role::Gateway, Duration::from_secs(60));
    let mut gateway = world.caller_with(Arc::clone(&tls), &identity);
    let mut pass = world.pass();
    pass.holder = tls.holder_id();
    let pass = pass.make();
    assert!(gateway.find(&pass).await.is_ok());

    world.clock.advance(Duration::from_secs(61));
    watch.hear(Role::Vault);
    watch.hear(Role::Accounts);
    assert!(gateway.find(&pass).await.is_err(), "its certificate has ended");
    tls.renew(world.certify(&tls.certificate_request().unwrap(), DAY)).unwrap();

    eventually("the renewed certificate is shown", async || gateway.find(&pass).await.is_ok()).await;
}

#[tokio::test]
async fn a_revoked_credential_is_refused_at_once_and_all_reading_stops_in_silence() {
    let world = World::new();
    let (identity, watch, _) = world.identity();
    let mut gateway = world.caller(Role::Gateway, &identity);
    let mut pass = world.pass();
    pass.holder = gateway.tls.holder_id();
    let (revoked, credential) = (pass.make(), pass.credential);
    pass.credential = CredentialId::generate(base::Timestamp::from_secs(5), &OsEntropy);
    let live = pass.make();
    assert!(gateway.find(&revoked).await.is_ok());

    watch.note(credential);
    assert_eq!(gateway.find(&revoked).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(gateway.translate(&revoked).await.unwrap_err().code(), Code::Unauthenticated);

    world.clock.advance(Duration::from_millis(7_900));
    watch.hear(Role::Vault);
    assert!(gateway.find(&live).await.is_ok());
    world.clock.advance(Duration::from_millis(100));
    let unheard = gateway.find(&live).await.unwrap_err();
    assert_eq!(
        kind_of(&unheard),
        ErrorKind::Unavailable,
        "accounts has been silent for eight seconds"
    );
    assert!(gateway.translate(&live).await.is_ok(), "appends go on");
    assert_eq!(
        gateway.translate(&revoked).await.unwrap_err().code(),
        Code::Unauthenticated,
        "but not for what is revoked"
    );

    watch.hear(Role::Accounts);
    assert!(gateway.find(&live).await.is_ok());
}

#[tokio::test]
async fn a_role_that_does_not_follow_revocations_takes_no_pass() {
    let world = World::new();
    let service = wire::v1::identity_server::IdentityServer::new(super::world::Handler::default());
    let identity = world.serve(Role::Identity, tonic::service::Routes::new(service), None);
    let mut gateway = world.caller(Role::Gateway, &identity);
    let mut pass = world.pass();
    pass.holder = gateway.tls.holder_id();

    assert_eq!(kind_of(&gateway.translate(&pass.make()).await.unwrap_err()), ErrorKind::Unavailable);
}
