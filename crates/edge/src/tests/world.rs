//! A small installation: an authority, roles on free ports, passes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base::{Clock, CredentialId, ManualClock, Op, OsEntropy, ProductId, RequestId, Role, Scope, SeededEntropy, Timestamp, Verb, Verbs};
use rcgen::{BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use seal::{Assertion, Grant, HolderId, InstallationSigner, Pass, Signer};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use wire::v1::identity_client::IdentityClient;
use wire::v1::identity_server::{Identity, IdentityServer};
use wire::v1::{
    AsideKeyRequest, AsideKeyResponse, FindRequest, FindResponse, OpenAsideRequest, OpenAsideResponse, TranslateRequest, TranslateResponse,
};

use crate::revocations::Watch;
use crate::{CurrentSigner, Peers, RoleContext, RoleTls, TlsKey, op, raw_pass, serve_role, with_pass};

macro_rules! moment {
    // rcgen's type of time has no name that we could write without another dependency.
    ($at:expr) => {
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from($at.as_secs()).unwrap())
    };
}

pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);

pub(super) struct World {
    pub(super) clock: Arc<ManualClock>,
    pub(super) installation: InstallationSigner,
    pub(super) ca: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    pub(super) directory: tempfile::TempDir,
}

pub(super) struct Running {
    pub(super) address: SocketAddr,
    pub(super) tls: Arc<RoleTls>,
    pub(super) cancel: CancellationToken,
    pub(super) readiness: crate::Readiness,
    pub(super) done: JoinHandle<()>,
    pub(super) audit: crate::Auditing,
}

impl World {
    pub(super) fn new() -> Self {
        crate::install_crypto();
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = moment!(clock.now());
        params.not_after = moment!(clock.now().plus(DAY * 365));
        let ca = params.self_signed(&key).unwrap().der().clone();
        let installation = InstallationSigner::generate(&OsEntropy);
        Self {
            clock,
            installation,
            ca,
            issuer: Issuer::new(params, key),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    pub(super) fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }

    /// Signs what the request asks for, from now for `life`.
    pub(super) fn certify(&self, request: &[u8], life: Duration) -> Vec<CertificateDer<'static>> {
        let mut request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request)).unwrap();
        request.params.not_before = moment!(self.clock.now());
        request.params.not_after = moment!(self.clock.now().plus(life));
        request.params.use_authority_key_identifier_extension = true;
        vec![request.signed_by(&self.issuer).unwrap().der().clone()]
    }

    pub(super) fn tls(&self, role: Role) -> Arc<RoleTls> {
        self.tls_for(role, DAY)
    }

    pub(super) fn tls_for(&self, role: Role, life: Duration) -> Arc<RoleTls> {
        let key = TlsKey::generate().unwrap();
        let chain = self.certify(&key.certificate_request(&[role.server_name()]).unwrap(), life);
        Arc::new(RoleTls::new(role, chain, key, &self.ca, self.clock()).unwrap())
    }

    pub(super) fn signer(&self, role: Role) -> Signer {
        let signer = Signer::generate(&OsEntropy);
        let now = self.clock.now();
        let certificate = self.installation.certify(role, signer.public_key(), now, now.plus(DAY));
        signer.certified(certificate).unwrap()
    }

    pub(super) fn peers(&self, tls: &Arc<RoleTls>, roles: &[(Role, SocketAddr)]) -> Arc<Peers> {
        Arc::new(Peers::new(Arc::clone(tls), roles.iter().copied()))
    }

    pub(super) fn serve(&self, role: Role, services: Routes, revocations: Option<Arc<Watch>>) -> Running {
        let tls = self.tls(role);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let socket = self.directory.path().join(format!("{role}.sock"));
        let ctx = RoleContext {
            role,
            directory: self.directory.path().to_owned(),
            clock: self.clock(),
            entropy: Arc::new(OsEntropy),
            peers: self.peers(&tls, &[]),
            tls: Arc::clone(&tls),
            signer: CurrentSigner::new(self.signer(role)),
            installation: self.installation.key(),
            listener,
            operator: std::os::unix::net::UnixListener::bind(socket).unwrap(),
            metrics: Default::default(),
            readiness: Default::default(),
            zones: Default::default(),
            drills: Default::default(),
            audit: crate::Auditing::default(),
            table: crate::Table::default(),
            sandbox: crate::sandbox::off(),
            revocations,
            cancel: CancellationToken::new(),
        };
        let (cancel, readiness, audit) = (ctx.cancel.clone(), ctx.readiness.clone(), ctx.audit.clone());
        let done = tokio::spawn(async move { serve_role(&ctx, services, Routes::default()).await.unwrap() });
        Running {
            address,
            tls,
            cancel,
            readiness,
            audit,
            done,
        }
    }

    /// The identity role, with a watch that has heard from both tellers.
    pub(super) fn identity(&self) -> (Running, Arc<Watch>, Arc<AtomicUsize>) {
        let watch = Watch::new(self.clock());
        watch.hear(Role::Vault);
        watch.hear(Role::Accounts);
        let seen = Arc::new(AtomicUsize::new(0));
        let service = IdentityServer::new(Handler { seen: Arc::clone(&seen) });
        (
            self.serve(Role::Identity, Routes::new(service), Some(Arc::clone(&watch))),
            watch,
            seen,
        )
    }

    /// A caller with a certificate of `role`.
    pub(super) fn caller(&self, role: Role, identity: &Running) -> Caller {
        self.caller_with(self.tls(role), identity)
    }

    pub(super) fn caller_with(&self, tls: Arc<RoleTls>, identity: &Running) -> Caller {
        let peers = self.peers(&tls, &[(Role::Identity, identity.address)]);
        Caller {
            client: IdentityClient::new(peers.channel(Role::Identity)),
            tls,
        }
    }

    pub(super) fn pass(&self) -> PassMaker<'_> {
        let now = self.clock.now();
        PassMaker {
            world: self,
            credential: CredentialId::generate(now, &OsEntropy),
            audience: Role::Identity,
            holder: HolderId::from_bytes([7; 32]),
            verbs: Verbs::of(&Verb::ALL),
            asserted_by: Role::Vault,
            life: Duration::from_secs(300),
        }
    }
}

/// Makes passes, right ones unless told otherwise.
pub(super) struct PassMaker<'a> {
    world: &'a World,
    pub(super) credential: CredentialId,
    pub(super) audience: Role,
    pub(super) holder: HolderId,
    pub(super) verbs: Verbs,
    pub(super) asserted_by: Role,
    pub(super) life: Duration,
}

impl PassMaker<'_> {
    pub(super) fn make(&self) -> Vec<u8> {
        let now = self.world.clock.now();
        let assertion = Assertion {
            credential: self.credential,
            product: ProductId::new(7).unwrap(),
            audience: self.audience,
            holder: self.holder,
            issued_at: now,
            expires_at: now.plus(self.life),
            id: [1; 16],
        };
        let signed = assertion.sign(&self.world.signer(self.asserted_by));
        let grant = Grant::answering(&assertion, &signed, self.verbs, Scope::Product).sign(&self.world.signer(Role::Accounts));
        Pass { assertion: signed, grant }.encode()
    }
}

pub(super) struct Caller {
    pub(super) client: IdentityClient<tonic::transport::Channel>,
    pub(super) tls: Arc<RoleTls>,
}

impl Caller {
    /// Reads, under a pass with the verb query.
    pub(super) async fn find(&mut self, pass: &[u8]) -> Result<Vec<i64>, Status> {
        let request = FindRequest {
            identities: vec!["a".to_owned()],
        };
        self.client
            .find(with_pass(request, pass, request_id()))
            .await
            .map(|answer| answer.into_inner().ids)
    }

    /// Writes, under a pass with the verb append.
    pub(super) async fn translate(&mut self, pass: &[u8]) -> Result<Vec<i64>, Status> {
        let request = TranslateRequest {
            identities: vec!["a".to_owned()],
            ..TranslateRequest::default()
        };
        self.client
            .translate(with_pass(request, pass, request_id()))
            .await
            .map(|answer| answer.into_inner().ids)
    }
}

pub(super) fn request_id() -> RequestId {
    RequestId::generate(Timestamp::from_secs(1), &SeededEntropy::new(1))
}

/// Answers with the product of the pass; counts how often it ran.
#[derive(Default)]
pub(super) struct Handler {
    pub(super) seen: Arc<AtomicUsize>,
}

impl Handler {
    fn answer<T>(&self, request: &Request<T>, verb: Verb) -> Result<Vec<i64>, Status> {
        self.seen.fetch_add(1, Ordering::SeqCst);
        let op: Op = op(request)?;
        assert!(!raw_pass(request)?.is_empty());
        assert_eq!(op.request, request_id());
        op.authorize(verb)
            .map_err(|denied| crate::status(denied.kind(), denied.to_string()))?;
        Ok(vec![op.product.get() as i64])
    }
}

#[async_trait::async_trait]
impl Identity for Handler {
    async fn translate(&self, request: Request<TranslateRequest>) -> Result<Response<TranslateResponse>, Status> {
        Ok(Response::new(TranslateResponse {
            ids: self.answer(&request, Verb::Append)?,
            sealed: Vec::new(),
        }))
    }

    async fn find(&self, request: Request<FindRequest>) -> Result<Response<FindResponse>, Status> {
        Ok(Response::new(FindResponse {
            ids: self.answer(&request, Verb::Query)?,
        }))
    }

    async fn aside_key(&self, _: Request<AsideKeyRequest>) -> Result<Response<AsideKeyResponse>, Status> {
        Err(crate::status(base::ErrorKind::Internal, "not in this test"))
    }

    async fn erase(&self, _: Request<wire::v1::EraseRequest>) -> Result<Response<wire::v1::EraseResponse>, Status> {
        Err(crate::status(base::ErrorKind::Internal, "not in this test"))
    }

    async fn reveal(&self, _: Request<wire::v1::RevealRequest>) -> Result<Response<wire::v1::RevealResponse>, Status> {
        Err(crate::status(base::ErrorKind::Internal, "not in this test"))
    }

    async fn open_aside(&self, _: Request<OpenAsideRequest>) -> Result<Response<OpenAsideResponse>, Status> {
        Err(crate::status(base::ErrorKind::Internal, "not in this test"))
    }
}

/// Waits for a condition, and says which one never came.
pub(super) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    for _ in 0..500 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it never came about that {what}");
}
