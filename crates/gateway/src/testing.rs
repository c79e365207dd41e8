//! A gateway without the rest of the installation: fakes of vault and accounts that sign real passes, and no other role.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base::{Clock, CredentialId, ErrorKind, KeyKind, ManualClock, ProductId, Role, Scope, SeededEntropy, Timestamp};
use edge::revocations::Watch;
use futures::StreamExt;
use hyper_util::rt::TokioIo;
use seal::{Assertion, Grant, HolderId, InstallationSigner, Signer};
use tokio::io::DuplexStream;
use tokio::sync::Semaphore;
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};
use wire::v1::accounts_server::{Accounts, AccountsServer};
use wire::v1::vault_server::{Vault, VaultServer};
use wire::v1::*;

use crate::auth::{Callers, CallersParts};
use crate::bodies::Budget;
use crate::calls::App;
use crate::settings::GatewaySettings;
use crate::upstream::Upstream;

/// The secret of every key that the fake vault believes.
const SECRET: &str = "00112233445566778899aabbccddeeff";

/// The key of this kind.
pub(crate) fn key(kind: KeyKind) -> String {
    format!("{}/{SECRET}", KeyKind::ALL.iter().position(|known| *known == kind).unwrap() + 1)
}

/// What a test holds in hand.
pub(crate) struct World {
    pub(crate) app: Arc<App>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) watch: Arc<Watch>,
    /// How often the vault was asked.
    pub(crate) asked: Arc<AtomicUsize>,
    holder: HolderId,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut GatewaySettings)) -> Self {
        let mut settings = GatewaySettings {
            upstream: Duration::from_secs(2),
            ..GatewaySettings::default()
        };
        change(&mut settings);
        let entropy = Arc::new(SeededEntropy::new(1));
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_700_000_000)));
        let installation = InstallationSigner::generate(&*entropy);
        let signer = |role| {
            let now = clock.now();
            let fresh = Signer::generate(&*entropy);
            let yesterday = Timestamp::from_secs(now.as_secs() - 86_400);
            let certificate = installation.certify(role, fresh.public_key(), yesterday, now.plus(Duration::from_secs(86_400)));
            fresh.certified(certificate).unwrap()
        };
        let holder = HolderId::from_bytes([7; 32]);
        let asked = Arc::new(AtomicUsize::new(0));
        let judge = Judge {
            signer: signer(Role::Vault),
            clock: Arc::clone(&clock),
            holder,
            asked: Arc::clone(&asked),
        };
        let granter = Granter {
            signer: signer(Role::Accounts),
            key: installation.key(),
            clock: Arc::clone(&clock),
        };
        let vault = serving(Routes::new(VaultServer::new(judge)));
        let accounts = serving(Routes::new(AccountsServer::new(granter)));
        let upstream = Arc::new(Upstream::new(
            |role| match role {
                Role::Vault => vault.clone(),
                Role::Accounts => accounts.clone(),
                _ => away(),
            },
            settings.upstream,
        ));
        let watch = Watch::new(Arc::clone(&clock) as Arc<dyn Clock>);
        watch.hear(Role::Vault);
        watch.hear(Role::Accounts);
        let callers = Callers::new(CallersParts {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            entropy: Arc::clone(&entropy) as _,
            installation: installation.key(),
            holder,
            upstream: Arc::clone(&upstream),
            revocations: Arc::clone(&watch),
            failed_keys_per_minute: settings.failed_keys_per_minute,
            remembered: settings.remembered_callers,
        });
        let metrics = edge::Metrics::default();
        let app = Arc::new(App {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            entropy,
            callers,
            upstream,
            bodies: Budget::of(settings.max_import_bytes),
            inflated: crate::intake::budget(&settings),
            decoding: Arc::new(Semaphore::new(1)),
            pages: crate::pages::Pages::new(),
            answers: metrics.histograms("http_seconds", ""),
            rows: metrics.counter("imported_rows", ""),
            stages: edge::Stages::of(&metrics),
            audit: edge::Auditing::default(),
            set_aside: metrics.counter("rejected_rows", ""),
            settings,
        });
        Self {
            app,
            clock,
            watch,
            asked,
            holder,
        }
    }

    /// Turns the clock; vault and accounts are heard meanwhile.
    pub(crate) fn advance(&self, by: Duration) {
        self.clock.advance(by);
        self.watch.hear(Role::Vault);
        self.watch.hear(Role::Accounts);
    }

    pub(crate) fn turn_back(&self, by: Duration) {
        self.clock.turn_back(by);
        self.watch.hear(Role::Vault);
        self.watch.hear(Role::Accounts);
    }

    pub(crate) fn times_asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// To whom the passes were given.
    pub(crate) fn holder(&self) -> HolderId {
        self.holder
    }
}

/// The credential behind the key of a product.
fn credential(product: ProductId) -> CredentialId {
    CredentialId::from_bytes([product.get() as u8; 16])
}

struct Judge {
    signer: Signer,
    clock: Arc<ManualClock>,
    holder: HolderId,
    asked: Arc<AtomicUsize>,
}

fn not_here<T>() -> Result<Response<T>, Status> {
    Err(edge::status(ErrorKind::Internal, "not in this test"))
}

#[tonic::async_trait]
impl Vault for Judge {
    async fn authenticate(&self, request: Request<AuthenticateRequest>) -> Result<Response<AuthenticateResponse>, Status> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let asked = request.into_inner();
        let refused = || edge::status(ErrorKind::Unauthenticated, "no such credential");
        let (number, secret) = asked.key.split_once('/').ok_or_else(refused)?;
        let product: ProductId = number.parse().map_err(|_| refused())?;
        if secret != SECRET || product.get() > KeyKind::ALL.len() as u64 {
            return Err(refused());
        }
        let now = self.clock.now();
        let assertions = asked.audiences.iter().map(|audience| {
            let assertion = Assertion {
                credential: credential(product),
                product,
                audience: audience.parse().unwrap(),
                holder: self.holder,
                issued_at: now,
                expires_at: now.plus(Duration::from_secs(300)),
                id: [1; 16],
            };
            assertion.sign(&self.signer)
        });
        Ok(Response::new(AuthenticateResponse {
            assertions: assertions.collect(),
        }))
    }

    async fn enrol(&self, _: Request<EnrolRequest>) -> Result<Response<Certificates>, Status> {
        not_here()
    }
    async fn renew(&self, _: Request<RenewRequest>) -> Result<Response<Certificates>, Status> {
        not_here()
    }
    async fn lease_product_key(&self, _: Request<LeaseRequest>) -> Result<Response<ProductKeyLease>, Status> {
        not_here()
    }
    async fn lease_lookup_key(&self, _: Request<LeaseRequest>) -> Result<Response<LookupKeyLease>, Status> {
        not_here()
    }
    async fn lease_state_key(&self, _: Request<StateKeyRequest>) -> Result<Response<StateKeyLease>, Status> {
        not_here()
    }
    async fn public_key(&self, _: Request<PublicKeyRequest>) -> Result<Response<PublicKeyResponse>, Status> {
        not_here()
    }
    async fn lease_to_rebuild(&self, _: Request<RebuildLeaseRequest>) -> Result<Response<RebuildLease>, Status> {
        not_here()
    }
}

struct Granter {
    signer: Signer,
    key: seal::InstallationKey,
    clock: Arc<ManualClock>,
}

#[tonic::async_trait]
impl Accounts for Granter {
    async fn grant(&self, request: Request<GrantRequest>) -> Result<Response<GrantResponse>, Status> {
        let assertions = request.into_inner().assertions;
        let grants = assertions.iter().map(|signed| {
            let assertion = Assertion::verify(&self.key, signed, self.clock.now()).unwrap();
            let kind = KeyKind::ALL[assertion.product.get() as usize - 1];
            Grant::answering(&assertion, signed, kind.verbs(), Scope::Product).sign(&self.signer)
        });
        let settings = ProductSettings {
            name: "shop".into(),
            identity_columns: vec!["user_id".into()],
            personal_columns: Vec::new(),
            link_identities: false,
        };
        Ok(Response::new(GrantResponse {
            grants: grants.collect(),
            settings: Some(settings),
        }))
    }
}

/// A channel to these services, through memory.
fn serving(routes: Routes) -> Channel {
    Endpoint::from_static("http://memory").connect_with_connector_lazy(tower::service_fn(move |_| {
        let routes = routes.clone();
        async move {
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            let incoming = futures::stream::once(async { Ok::<_, io::Error>(theirs) }).chain(futures::stream::pending());
            tokio::spawn(Server::builder().add_routes(routes).serve_with_incoming(incoming));
            Ok::<_, io::Error>(TokioIo::new(ours))
        }
    }))
}

/// A channel to a role that is not there.
fn away() -> Channel {
    Endpoint::from_static("http://away").connect_with_connector_lazy(tower::service_fn(|_| async {
        Err::<TokioIo<DuplexStream>, _>(io::Error::from(io::ErrorKind::ConnectionRefused))
    }))
}
