//! Tokens, certificates and who may ask for what.

use std::time::Duration;

use base::{ErrorKind, Role};
use edge::kind_of;
use seal::HolderId;
use wire::v1::{IssuePublicCertificateRequest, RenewRequest};

use super::world::{Roles, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_enrols_its_own_role_once() {
    let world = World::new();
    let vault = world.start().await;

    let token = vault.token(Role::Gateway).await;
    let error = vault.enrol_with(&token, Role::Warehouse).await.unwrap_err();
    assert!(
        !matches!(error, edge::EnrolError::Vault(_)),
        "the vault gave the gateway's certificate, which is of no use: {error}"
    );
    let error = vault.enrol_with(&token, Role::Gateway).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "used up");
    let error = vault.enrol_with(&[7; 32], Role::Gateway).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    let token = vault.token(Role::Gateway).await;
    world.clock.advance(Duration::from_secs(121));
    assert_eq!(
        vault.enrol_with(&token, Role::Gateway).await.unwrap_err().kind(),
        ErrorKind::Unauthenticated,
        "too old"
    );
    assert!(
        vault
            .operator()
            .mint_enrolment(wire::v1::MintEnrolmentRequest { role: "vault".into() })
            .await
            .is_err()
    );

    let (tls, signer) = vault.enrol(Role::Gateway).await;
    assert_eq!((tls.role(), signer.certificate().role()), (Role::Gateway, Role::Gateway));
    vault.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_for_the_calling_key_only() {
    let world = World::new();
    let vault = world.start().await;
    let (tls, signer) = vault.enrol(Role::Gateway).await;
    let signing_key = signer.certificate().public_key().to_vec();
    world.clock.advance(Duration::from_secs(3600));

    let asked = RenewRequest {
        certificate_request: tls.certificate_request().unwrap(),
        signing_key: signing_key.clone(),
    };
    let given = vault.vault(&tls).renew(asked).await.unwrap().into_inner();
    let peer = edge::read_certificate(&given.tls_chain[0]).unwrap();
    assert_eq!((peer.role, peer.holder), (Role::Gateway, tls.holder_id()));
    assert!(peer.expires_at > tls.expires_at());

    let other = edge::TlsKey::generate().unwrap();
    let certificate_request = other.certificate_request(&[Role::Gateway.server_name()]).unwrap();
    let refused = vault
        .vault(&tls)
        .renew(RenewRequest {
            certificate_request,
            signing_key,
        })
        .await
        .unwrap_err();
    assert_eq!(kind_of(&refused), ErrorKind::Forbidden);
    vault.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_certificate_is_issued_for_the_names_given_and_no_roles() {
    let world = World::new();
    let vault = world.start().await;
    let key = edge::TlsKey::generate().unwrap();
    let request = key.certificate_request(&["localhost".to_owned()]).unwrap();
    let ask = |name: &str| IssuePublicCertificateRequest {
        certificate_request: request.clone(),
        names: vec![name.into()],
    };

    let given = vault
        .operator()
        .issue_public_certificate(ask("localhost"))
        .await
        .unwrap()
        .into_inner();
    assert!(edge::read_certificate(&given.tls_chain[0]).is_err(), "no role's");
    assert!(given.signing_certificate.is_empty());
    let refused = vault
        .operator()
        .issue_public_certificate(ask("gateway.coffer.internal"))
        .await
        .unwrap_err();
    assert_eq!(kind_of(&refused), ErrorKind::Invalid);
    vault.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn assertions_are_for_the_gateway_that_asked() {
    let world = World::new();
    let vault = world.start().await;
    let roles = Roles::enrolled(&vault).await;
    vault.create_product(1).await;
    let (_, key) = vault.create_key(1, "read").await.unwrap();
    let asked = wire::v1::AuthenticateRequest {
        key,
        audiences: vec!["warehouse".into()],
    };
    let refused = vault.vault(&roles.warehouse).authenticate(asked).await.unwrap_err();
    assert_eq!(kind_of(&refused), ErrorKind::Forbidden);
    assert_ne!(roles.gateway.holder_id(), HolderId::from_bytes([0; 32]));
    vault.stop().await;
}
