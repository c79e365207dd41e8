//! Health, readiness, metrics and the operator's socket.

use base::Role;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tonic::Code;
use wire::v1::identity_client::IdentityClient;
use wire::v1::role_operator_client::RoleOperatorClient;
use wire::v1::{FindRequest, MetricsRequest, StatusRequest};

use super::world::{Running, World};
use crate::{operator_channel, tls};

async fn get(world: &World, running: &Running, caller: Option<Role>, path: &str) -> Option<(u16, String)> {
    let config = match caller {
        Some(role) => world.tls(role).client_config(),
        None => tls::anonymous_client(&world.ca, world.clock()).unwrap(),
    };
    let stream = tokio::net::TcpStream::connect(running.address).await.unwrap();
    let name = ServerName::try_from(running.tls.role().server_name()).unwrap();
    let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await.ok()?;
    let (mut send, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .ok()?;
    tokio::spawn(connection);
    let request = http::Request::get(format!("https://x{path}"))
        .body(Empty::<bytes::Bytes>::new())
        .unwrap();
    let response = send.send_request(request).await.ok()?;
    let status = response.status().as_u16();
    let denied = response.headers().contains_key("grpc-status");
    let text = String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    Some(if denied { (403, text) } else { (status, text) })
}

#[tokio::test]
async fn probes_answer_callers_of_the_installation_only() {
    let world = World::new();
    let (identity, ..) = world.identity();
    let vault = world.serve(Role::Vault, tonic::service::Routes::default(), None);

    assert_eq!(get(&world, &identity, Some(Role::Gateway), "/health").await.unwrap().0, 200);
    assert_eq!(
        get(&world, &identity, Some(Role::Gateway), "/ready").await.unwrap(),
        (503, "starting\n".to_owned())
    );
    identity.readiness.set_ready();
    assert_eq!(get(&world, &identity, Some(Role::Gateway), "/ready").await.unwrap().0, 200);
    identity.readiness.set_not_ready("two of three zones are down");
    assert_eq!(
        get(&world, &identity, Some(Role::Gateway), "/ready").await.unwrap(),
        (503, "two of three zones are down\n".to_owned())
    );
    assert!(
        get(&world, &identity, Some(Role::Gateway), "/metrics")
            .await
            .unwrap()
            .1
            .ends_with("# EOF\n")
    );
    assert_eq!(get(&world, &identity, Some(Role::Gateway), "/elsewhere").await.unwrap().0, 403);

    assert_eq!(
        get(&world, &identity, None, "/health").await,
        None,
        "no connection without a certificate"
    );
    for path in ["/health", "/ready", "/metrics"] {
        assert_eq!(get(&world, &vault, None, path).await.unwrap().0, 403, "{path}");
    }
}

#[tokio::test]
async fn the_local_socket_takes_the_operator_s_calls_and_no_others() {
    let world = World::new();
    let (_identity, ..) = world.identity();
    let channel = operator_channel(world.directory.path().join("identity.sock"));

    let mut operator = RoleOperatorClient::new(channel.clone());
    let told = operator.status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!((told.role.as_str(), told.not_ready.as_str()), ("identity", "starting"));
    assert!(told.resident_bytes > 1 << 20, "{}", told.resident_bytes);
    assert!(
        operator
            .metrics(MetricsRequest {})
            .await
            .unwrap()
            .into_inner()
            .text
            .contains("coffer_resident_bytes")
    );

    let refused = IdentityClient::new(channel).find(FindRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "no role's call comes through it");
}

#[tokio::test]
async fn no_role_makes_the_operator_s_calls() {
    let world = World::new();
    let (identity, ..) = world.identity();
    let tls = world.tls(Role::Gateway);
    let peers = world.peers(&tls, &[(Role::Identity, identity.address)]);

    let refused = RoleOperatorClient::new(peers.channel(Role::Identity))
        .status(StatusRequest {})
        .await
        .unwrap_err();

    assert_eq!(refused.code(), Code::PermissionDenied);
}
