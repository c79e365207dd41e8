//! The first certificate and the next ones.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base::{Clock, ErrorKind, OsEntropy, Role};
use rustls::pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};
use wire::v1::vault_client::VaultClient;
use wire::v1::vault_server::{Vault, VaultServer};
use wire::v1::{
    AuthenticateRequest, AuthenticateResponse, Certificates, EnrolRequest, LeaseRequest, LookupKeyLease, ProductKeyLease, PublicKeyRequest,
    PublicKeyResponse, RebuildLease, RebuildLeaseRequest, RenewRequest, StateKeyLease, StateKeyRequest,
};

use super::world::{DAY, Running, World, eventually};
use crate::{CurrentSigner, EnrolError, Peer, Peers, Recorder, enrol, kind_of, peers, spawn_renewal, status, tls};

const TOKEN: &[u8] = b"a token that works once";

struct Authority {
    world: Arc<World>,
    life: Duration,
    token: Mutex<Option<Vec<u8>>>,
}

impl Authority {
    fn give(&self, role: Role, request: &[u8], signing_key: &[u8]) -> Certificates {
        let now = self.world.clock.now();
        let certificate = self
            .world
            .installation
            .certify(role, signing_key.try_into().unwrap(), now, now.plus(self.life));
        let chain = self.world.certify(request, self.life);
        Certificates {
            tls_chain: chain.iter().map(|leaf| leaf.to_vec()).collect(),
            signing_certificate: certificate.encode(),
            expires_at: now.plus(self.life).as_micros(),
        }
    }
}

#[async_trait::async_trait]
impl Vault for Authority {
    async fn enrol(&self, request: Request<EnrolRequest>) -> Result<Response<Certificates>, Status> {
        let request = request.into_inner();
        let token = self.token.lock().unwrap().take_if(|token| *token == request.token);
        token.ok_or_else(|| status(ErrorKind::Unauthenticated, "no such token"))?;
        Ok(Response::new(self.give(
            Role::Gateway,
            &request.certificate_request,
            &request.signing_key,
        )))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<Certificates>, Status> {
        let peer = *request.extensions().get::<Peer>().unwrap();
        let request = request.into_inner();
        Ok(Response::new(self.give(
            peer.role,
            &request.certificate_request,
            &request.signing_key,
        )))
    }

    async fn authenticate(&self, _: Request<AuthenticateRequest>) -> Result<Response<AuthenticateResponse>, Status> {
        unreachable!()
    }

    async fn lease_product_key(&self, _: Request<LeaseRequest>) -> Result<Response<ProductKeyLease>, Status> {
        unreachable!()
    }

    async fn lease_lookup_key(&self, _: Request<LeaseRequest>) -> Result<Response<LookupKeyLease>, Status> {
        unreachable!()
    }

    async fn lease_state_key(&self, _: Request<StateKeyRequest>) -> Result<Response<StateKeyLease>, Status> {
        unreachable!()
    }

    async fn public_key(&self, _: Request<PublicKeyRequest>) -> Result<Response<PublicKeyResponse>, Status> {
        Ok(Response::new(PublicKeyResponse::default()))
    }

    async fn lease_to_rebuild(&self, _: Request<RebuildLeaseRequest>) -> Result<Response<RebuildLease>, Status> {
        unreachable!()
    }
}

fn vault(life: Duration) -> (Arc<World>, SocketAddr) {
    let (world, running) = vault_running(life);
    (world, running.address)
}

fn vault_running(life: Duration) -> (Arc<World>, Running) {
    let world = Arc::new(World::new());
    let authority = Authority {
        world: Arc::clone(&world),
        life,
        token: Mutex::new(Some(TOKEN.to_vec())),
    };
    let running = world.serve(Role::Vault, Routes::new(VaultServer::new(authority)), None);
    (world, running)
}

/// Keeps which rules refused what was recorded.
#[derive(Default)]
struct Rules(Mutex<Vec<String>>);

#[async_trait::async_trait]
impl Recorder for Rules {
    async fn record(&self, drafts: Vec<audit::Draft>) -> Result<(), Status> {
        self.0.lock().unwrap().extend(drafts.into_iter().map(|draft| draft.rule));
        Ok(())
    }
}

#[tokio::test]
async fn a_message_that_is_too_large_leaves_a_record() {
    let (world, running) = vault_running(DAY);
    let rules = Arc::new(Rules::default());
    running.audit.by(Arc::clone(&rules) as Arc<dyn Recorder>);
    let large = EnrolRequest {
        token: vec![0; 65 << 10],
        ..EnrolRequest::default()
    };
    let client = tls::anonymous_client(&world.ca, world.clock()).unwrap();
    let mut nobody = VaultClient::new(peers::channel(Role::Vault, Some(running.address), client));
    assert_eq!(kind_of(&nobody.enrol(large).await.unwrap_err()), ErrorKind::TooLarge);
    eventually("it is recorded", async || *rules.0.lock().unwrap() == ["message"]).await;
}

async fn ask(
    world: &World,
    vault: SocketAddr,
    ca: CertificateDer<'static>,
    token: &[u8],
    role: Role,
) -> Result<(crate::RoleTls, seal::Signer), EnrolError> {
    enrol(vault, ca, world.installation.key(), token, role, Arc::new(OsEntropy), world.clock()).await
}

#[tokio::test]
async fn a_token_buys_one_certificate_once() {
    let (world, vault) = vault(DAY);

    let wrong = ask(&world, vault, world.ca.clone(), b"another", Role::Gateway).await.unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Unauthenticated);
    let (tls, signer) = ask(&world, vault, world.ca.clone(), TOKEN, Role::Gateway).await.unwrap();
    assert_eq!((tls.role(), signer.certificate().role()), (Role::Gateway, Role::Gateway));
    assert_eq!(tls.expires_at(), world.clock.now().plus(DAY));

    let again = ask(&world, vault, world.ca.clone(), TOKEN, Role::Gateway).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Unauthenticated);
}

#[tokio::test]
async fn a_role_takes_no_certificate_of_another_role_and_from_no_other_vault() {
    let (world, address) = vault(DAY);
    // This vault gives signing certificates of the gateway, whoever asks.
    assert!(ask(&world, address, world.ca.clone(), TOKEN, Role::Warehouse).await.is_err());

    let foreign = World::new();
    let (world, address) = vault(DAY);
    let refused = ask(&world, address, foreign.ca.clone(), TOKEN, Role::Gateway).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn without_a_certificate_the_vault_takes_an_enrolment_and_nothing_else() {
    let (world, vault) = vault(DAY);
    let anonymous = tls::anonymous_client(&world.ca, world.clock()).unwrap();
    let mut nobody = VaultClient::new(peers::channel(Role::Vault, Some(vault), anonymous));

    assert_eq!(
        nobody.public_key(PublicKeyRequest::default()).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    assert_eq!(
        nobody.renew(RenewRequest::default()).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    assert_eq!(
        nobody.enrol(EnrolRequest::default()).await.unwrap_err().code(),
        Code::Unauthenticated,
        "the handler's own answer"
    );
}

#[tokio::test]
async fn who_shows_no_certificate_gets_little_room_and_few_places_and_roles_keep_theirs() {
    let (world, vault) = vault(DAY);
    let large = EnrolRequest {
        token: vec![0; 65 << 10],
        ..EnrolRequest::default()
    };
    let anonymous = || tls::anonymous_client(&world.ca, world.clock()).unwrap();
    let mut nobody = VaultClient::new(peers::channel(Role::Vault, Some(vault), anonymous()));
    let refused = nobody.enrol(large).await.unwrap_err();
    assert_eq!(kind_of(&refused), ErrorKind::TooLarge, "{}", refused.message());

    // The one above is a connection too. Each is held by its client.
    let mut held = Vec::new();
    for _ in 1..32 {
        let mut another = VaultClient::new(peers::channel(Role::Vault, Some(vault), anonymous()));
        assert_eq!(
            another.enrol(EnrolRequest::default()).await.unwrap_err().code(),
            Code::Unauthenticated
        );
        held.push(another);
    }
    let mut more = VaultClient::new(peers::channel(Role::Vault, Some(vault), anonymous()));
    assert_eq!(
        kind_of(&more.enrol(EnrolRequest::default()).await.unwrap_err()),
        ErrorKind::Unavailable
    );
    // Whoever shows one gets in all the same.
    let peers = world.peers(&world.tls(Role::Gateway), &[(Role::Vault, vault)]);
    let refused = VaultClient::new(peers.channel(Role::Vault))
        .enrol(EnrolRequest::default())
        .await
        .unwrap_err();
    assert_ne!(kind_of(&refused), ErrorKind::Unavailable, "{}", refused.message());

    drop(held);
    eventually("places are free again", async || {
        more.enrol(EnrolRequest::default()).await.unwrap_err().code() == Code::Unauthenticated
    })
    .await;
}

#[tokio::test]
async fn a_running_role_renews_at_half_life_and_stays_the_same_holder() {
    let life = Duration::from_secs(3600);
    let (world, vault) = vault(life);
    let (tls, signer) = ask(&world, vault, world.ca.clone(), TOKEN, Role::Gateway).await.unwrap();
    let (tls, signer) = (Arc::new(tls), CurrentSigner::new(signer));
    let (holder, first_end) = (tls.holder_id(), tls.expires_at());
    let peers = Arc::new(Peers::new(Arc::clone(&tls), [(Role::Vault, vault)]));
    let cancel = CancellationToken::new();
    spawn_renewal(
        Arc::clone(&tls),
        signer.clone(),
        world.installation.key(),
        peers,
        world.clock(),
        cancel.clone(),
    );

    world.clock.advance(life / 2);

    let newer = first_end.plus(life / 2);
    eventually("the certificate is renewed", async || tls.expires_at() == newer).await;
    assert_eq!(signer.get().certificate().expires_at(), newer);
    assert_eq!(tls.holder_id(), holder);
    cancel.cancel();
}

#[tokio::test]
async fn a_role_whose_certificate_holds_no_more_or_not_yet_ends_to_be_started_anew() {
    type Turn = fn(&World);
    let turns: [Turn; 2] = [
        |world| world.clock.advance(DAY * 2),
        |world| world.clock.turn_back(Duration::from_secs(3600)),
    ];
    for turn in turns {
        let (world, vault) = vault(DAY);
        let (tls, signer) = ask(&world, vault, world.ca.clone(), TOKEN, Role::Gateway).await.unwrap();
        let tls = Arc::new(tls);
        let peers = Arc::new(Peers::new(Arc::clone(&tls), [(Role::Vault, vault)]));
        let cancel = CancellationToken::new();
        let (key, clock) = (world.installation.key(), world.clock());
        spawn_renewal(Arc::clone(&tls), CurrentSigner::new(signer), key, peers, clock, cancel.clone());
        assert!(tls.is_in_force() && !tls.is_due());

        turn(&world);

        assert!(!tls.is_in_force());
        eventually("the role ends", async || cancel.is_cancelled()).await;
    }
}

#[test]
fn a_certificate_is_due_when_the_clock_was_turned_back_since_it_came() {
    let world = World::new();
    let tls = world.tls(Role::Vault);
    assert!(!tls.is_due());
    world.clock.turn_back(Duration::from_secs(30));
    assert!(!tls.is_due(), "that much is how clocks are kept right");
    world.clock.turn_back(Duration::from_secs(60));
    assert!(tls.is_due());
}
