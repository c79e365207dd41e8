//! A vault on loopback with directories for zones and a clock that is turned by hand.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use audit::{Statement, TreeHead};
use base::{CredentialId, ManualClock, OsEntropy, RequestId, Role, Scope, SeededEntropy, Timestamp, Verbs};
use edge::rebuild::Order;
use edge::{CurrentSigner, Keyless, Peers, Readiness, RoleContext, RoleTls};
use rustls_pki_types::CertificateDer;
use seal::{Assertion, Grant, InstallationKey, Pass, Signer};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use wire::v1::audit_client::AuditClient;
use wire::v1::audit_operator_client::AuditOperatorClient;
use wire::v1::audit_witness_server::{AuditWitness, AuditWitnessServer};
use wire::v1::heads_client::HeadsClient;
use wire::v1::heads_server::{Heads, HeadsServer};
use wire::v1::role_operator_client::RoleOperatorClient;
use wire::v1::vault_client::VaultClient;
use wire::v1::vault_operator_client::VaultOperatorClient;
use wire::v1::vault_root_client::VaultRootClient;
use wire::v1::{
    AuthenticateRequest, CounterSignRequest, CounterSignResponse, CreateCredentialRequest, CreateProductKeysRequest, Head, LastHeadRequest,
    LastHeadResponse, LeaseRequest, MintEnrolmentRequest, RecallRequest, RecallResponse, RememberRequest, RememberResponse,
    RevokeCredentialRequest, RootLook, UnsealRequest,
};
use zones::ZonesSettings;

use crate::services::Shared;
use crate::{OpenError, OpenedVault, Prepared, PreparedVault, RunError, Token, VaultParts, VaultSettings, prepare, prepare_to_rebuild};

pub(super) struct World {
    pub(super) directory: tempfile::TempDir,
    pub(super) clock: Arc<ManualClock>,
    /// What holds the root key from the next start on.
    pub(super) token: Option<Arc<dyn Token>>,
}

pub(super) struct Running {
    pub(super) address: SocketAddr,
    pub(super) installation: InstallationKey,
    pub(super) ca: CertificateDer<'static>,
    pub(super) shared: Arc<Shared>,
    clock: Arc<ManualClock>,
    socket: PathBuf,
    cancel: CancellationToken,
    done: JoinHandle<Result<(), RunError>>,
}

/// A sealed vault.
pub(super) struct Waiting {
    socket: PathBuf,
    pub(super) readiness: Readiness,
    pub(super) cancel: CancellationToken,
    pub(super) opened: JoinHandle<Result<Option<PreparedVault>, OpenError>>,
}

impl Waiting {
    pub(super) fn root(&self) -> VaultRootClient<Channel> {
        VaultRootClient::new(edge::operator_channel(&self.socket))
    }

    pub(super) fn role(&self) -> RoleOperatorClient<Channel> {
        RoleOperatorClient::new(edge::operator_channel(&self.socket))
    }

    pub(super) fn vault(&self) -> VaultOperatorClient<Channel> {
        VaultOperatorClient::new(edge::operator_channel(&self.socket))
    }

    pub(super) async fn show(&self, share: &str) -> Result<RootLook, Status> {
        let asked = UnsealRequest { share: share.to_owned() };
        Ok(self.root().unseal(asked).await?.into_inner())
    }
}

impl World {
    pub(super) fn new() -> Self {
        edge::install_crypto();
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
        Self {
            directory: tempfile::tempdir().unwrap(),
            token: None,
            clock,
        }
    }

    pub(super) fn settings(&self) -> VaultSettings {
        let zones = ZonesSettings::below(&self.directory.path().join("zones"), &["a", "b", "c"]);
        VaultSettings {
            zones,
            ..VaultSettings::default()
        }
    }

    pub(super) async fn open(&self) -> Result<OpenedVault, OpenError> {
        self.open_for(None).await
    }

    pub(super) async fn open_for(&self, rebuild: Option<Order>) -> Result<OpenedVault, OpenError> {
        let parts = VaultParts {
            directory: self.directory.path().to_owned(),
            token: self.token.clone(),
            clock: self.clock.clone(),
            entropy: Arc::new(OsEntropy),
        };
        let settings = self.settings();
        let prepare = move || match rebuild {
            None => prepare(settings, parts),
            Some(order) => prepare_to_rebuild(settings, parts, order),
        };
        match tokio::task::spawn_blocking(prepare).await.unwrap()? {
            Prepared::Open(prepared) => prepared.open().await,
            Prepared::Sealed(_) => panic!("the vault is sealed"),
        }
    }

    /// Starts a sealed vault, up to where it takes shares.
    pub(super) async fn start_sealed(&self) -> Waiting {
        let prepared = self.prepare().await.unwrap();
        let Prepared::Sealed(sealed) = prepared else {
            panic!("the vault is not sealed");
        };
        let (socket, cancel) = (self.file("vault.sock"), CancellationToken::new());
        let _ = std::fs::remove_file(&socket);
        let readiness = Readiness::default();
        let keyless = Keyless {
            role: Role::Vault,
            clock: self.clock.clone(),
            entropy: Arc::new(OsEntropy),
            operator: std::os::unix::net::UnixListener::bind(&socket).unwrap(),
            readiness: readiness.clone(),
            sandbox: edge::sandbox::off(),
            audit: edge::Auditing::default(),
        };
        let stopping = cancel.clone();
        let opened = tokio::spawn(async move { sealed.unsealed(keyless, &stopping).await });
        Waiting {
            socket,
            readiness,
            cancel,
            opened,
        }
    }

    pub(super) async fn prepare(&self) -> Result<Prepared, OpenError> {
        let parts = VaultParts {
            directory: self.directory.path().to_owned(),
            token: self.token.clone(),
            clock: self.clock.clone(),
            entropy: Arc::new(OsEntropy),
        };
        let settings = self.settings();
        tokio::task::spawn_blocking(move || prepare(settings, parts)).await.unwrap()
    }

    /// Goes on with a vault that was unsealed.
    pub(super) async fn start_unsealed(&self, waiting: Waiting) -> Running {
        let prepared = waiting.opened.await.unwrap().unwrap().unwrap();
        self.serve(prepared.open().await.unwrap(), None).await
    }

    pub(super) async fn start(&self) -> Running {
        self.start_beside(None).await
    }

    /// With an address for the accounts role.
    pub(super) async fn start_beside(&self, accounts: Option<SocketAddr>) -> Running {
        self.serve(self.open().await.unwrap(), accounts).await
    }

    /// To rebuild.
    pub(super) async fn start_to_rebuild(&self, order: Order) -> Running {
        self.serve(self.open_for(Some(order)).await.unwrap(), None).await
    }

    async fn serve(&self, opened: OpenedVault, accounts: Option<SocketAddr>) -> Running {
        let (installation, ca, shared) = (opened.installation(), opened.ca_certificate(), Arc::clone(&opened.shared));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let socket = self.file("vault.sock");
        let cancel = CancellationToken::new();
        let peers = Peers::new(opened.tls(), accounts.map(|address| (Role::Accounts, address)));
        let signing = opened.signer();
        let ctx = self.context(opened.tls(), signing, installation, peers, listener, cancel.clone());
        let readiness = ctx.readiness.clone();
        let done = tokio::spawn(opened.serve(ctx));
        readiness.wait().await;
        Running {
            address,
            installation,
            ca,
            shared,
            clock: self.clock.clone(),
            socket,
            cancel,
            done,
        }
    }

    fn context(
        &self,
        tls: Arc<RoleTls>,
        signer: CurrentSigner,
        installation: InstallationKey,
        peers: Peers,
        listener: std::net::TcpListener,
        cancel: CancellationToken,
    ) -> RoleContext {
        let socket = self.file(&format!("{}.sock", tls.role()));
        let _ = std::fs::remove_file(&socket);
        RoleContext {
            role: tls.role(),
            directory: self.directory.path().to_owned(),
            clock: self.clock.clone(),
            entropy: Arc::new(OsEntropy),
            tls,
            signer,
            installation,
            peers: Arc::new(peers),
            listener,
            operator: std::os::unix::net::UnixListener::bind(socket).unwrap(),
            metrics: Default::default(),
            readiness: Default::default(),
            zones: Default::default(),
            drills: Default::default(),
            audit: Default::default(),
            table: Default::default(),
            sandbox: edge::sandbox::off(),
            revocations: None,
            cancel,
        }
    }

    /// An accounts role that only remembers heads.
    pub(super) async fn serve_accounts(&self, vault: &Running, listener: std::net::TcpListener, heads: Memory) -> CancellationToken {
        let (tls, signer) = vault.enrol(Role::Accounts).await;
        let cancel = CancellationToken::new();
        let witness = Witness {
            heads: heads.clone(),
            signer: signer.clone(),
        };
        let peers = Peers::new(Arc::clone(&tls), []);
        let ctx = self.context(tls, CurrentSigner::new(signer), vault.installation, peers, listener, cancel.clone());
        let services = Routes::new(HeadsServer::new(heads)).add_service(AuditWitnessServer::new(witness));
        tokio::spawn(async move { edge::serve_role(&ctx, services, Routes::default()).await });
        cancel
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Running {
    pub(super) async fn stop(self) {
        self.cancel.cancel();
        self.ended().await.unwrap();
    }

    /// Waits until it ends by itself.
    pub(super) async fn ended(self) -> Result<(), RunError> {
        tokio::time::timeout(Duration::from_secs(30), self.done).await.unwrap().unwrap()
    }

    pub(super) fn root(&self) -> VaultRootClient<Channel> {
        VaultRootClient::new(edge::operator_channel(&self.socket))
    }

    pub(super) fn operator(&self) -> VaultOperatorClient<Channel> {
        VaultOperatorClient::new(edge::operator_channel(&self.socket))
    }

    pub(super) async fn token(&self, role: Role) -> Vec<u8> {
        let asked = MintEnrolmentRequest { role: role.to_string() };
        let minted = self.operator().mint_enrolment(asked).await.unwrap().into_inner();
        assert_eq!(minted.installation_key, self.installation.as_bytes());
        assert_eq!(minted.ca_certificate, self.ca.to_vec());
        minted.token
    }

    pub(super) async fn enrol_with(&self, token: &[u8], role: Role) -> Result<(Arc<RoleTls>, Signer), edge::EnrolError> {
        let (ca, clock) = (self.ca.clone(), self.clock.clone());
        edge::enrol(self.address, ca, self.installation, token, role, Arc::new(OsEntropy), clock)
            .await
            .map(|(tls, signer)| (Arc::new(tls), signer))
    }

    pub(super) async fn enrol(&self, role: Role) -> (Arc<RoleTls>, Signer) {
        self.enrol_with(&self.token(role).await, role).await.unwrap()
    }

    pub(super) fn channel(&self, tls: &Arc<RoleTls>) -> Channel {
        Peers::new(Arc::clone(tls), [(Role::Vault, self.address)]).channel(Role::Vault)
    }

    pub(super) fn vault(&self, tls: &Arc<RoleTls>) -> VaultClient<Channel> {
        VaultClient::new(self.channel(tls))
    }

    pub(super) fn heads(&self, tls: &Arc<RoleTls>) -> HeadsClient<Channel> {
        HeadsClient::new(self.channel(tls))
    }

    pub(super) fn revocations(&self, tls: &Arc<RoleTls>) -> wire::v1::revocations_client::RevocationsClient<Channel> {
        wire::v1::revocations_client::RevocationsClient::new(self.channel(tls))
    }

    pub(super) fn audit(&self, tls: &Arc<RoleTls>) -> AuditClient<Channel> {
        AuditClient::new(self.channel(tls))
    }

    pub(super) fn audit_operator(&self) -> AuditOperatorClient<Channel> {
        AuditOperatorClient::new(edge::operator_channel(&self.socket))
    }

    pub(super) async fn create_product(&self, product: u64) -> Vec<u8> {
        let asked = CreateProductKeysRequest {
            product,
            custody: "managed".into(),
        };
        self.operator().create_product_keys(asked).await.unwrap().into_inner().public_key
    }

    pub(super) async fn create_key(&self, product: u64, kind: &str) -> Result<(CredentialId, String), Status> {
        let asked = CreateCredentialRequest {
            product,
            kind: kind.into(),
            shown: String::new(),
        };
        let made = self.operator().create_credential(asked).await?.into_inner();
        Ok((CredentialId::try_from(&*made.credential).unwrap(), made.key))
    }

    pub(super) async fn revoke(&self, credential: CredentialId) {
        let asked = RevokeCredentialRequest {
            credential: credential.to_bytes().to_vec(),
            lose_everything: false,
        };
        self.operator().revoke_credential(asked).await.unwrap();
    }
}

/// The roles around a vault, as far as keys go.
pub(super) struct Roles {
    pub(super) gateway: Arc<RoleTls>,
    pub(super) warehouse: Arc<RoleTls>,
    pub(super) identity: Arc<RoleTls>,
    accounts: Signer,
}

impl Roles {
    pub(super) async fn enrolled(vault: &Running) -> Self {
        Self {
            gateway: vault.enrol(Role::Gateway).await.0,
            warehouse: vault.enrol(Role::Warehouse).await.0,
            identity: vault.enrol(Role::Identity).await.0,
            accounts: vault.enrol(Role::Accounts).await.1,
        }
    }

    pub(super) async fn authenticate(&self, vault: &Running, key: &str, audiences: &[Role]) -> Result<Vec<Vec<u8>>, Status> {
        let audiences = audiences.iter().map(Role::to_string).collect();
        let asked = AuthenticateRequest {
            key: key.to_owned(),
            audiences,
        };
        Ok(vault.vault(&self.gateway).authenticate(asked).await?.into_inner().assertions)
    }

    /// A pass of `key` with whatever verbs accounts is made to sign.
    pub(super) async fn pass(&self, vault: &Running, key: &str, audience: Role, verbs: Verbs) -> Vec<u8> {
        let asserted = self.authenticate(vault, key, &[audience]).await.unwrap().remove(0);
        let assertion = Assertion::verify(&vault.installation, &asserted, vault.clock_now()).unwrap();
        let grant = Grant::answering(&assertion, &asserted, verbs, Scope::Product).sign(&self.accounts);
        Pass {
            assertion: asserted,
            grant,
        }
        .encode()
    }

    pub(super) async fn lease_private(&self, vault: &Running, tls: &Arc<RoleTls>, pass: &[u8]) -> Result<Vec<u8>, Status> {
        let leased = vault.vault(tls).lease_product_key(shown(pass)).await?.into_inner();
        assert_eq!(leased.seconds, 300);
        Ok(leased.private_key)
    }

    pub(super) async fn lease_lookup(&self, vault: &Running, pass: &[u8]) -> Result<Vec<u8>, Status> {
        Ok(vault
            .vault(&self.identity)
            .lease_lookup_key(shown(pass))
            .await?
            .into_inner()
            .lookup_key)
    }
}

impl Running {
    pub(super) fn clock_now(&self) -> Timestamp {
        base::Clock::now(&*self.clock)
    }
}

pub(super) fn shown(pass: &[u8]) -> Request<LeaseRequest> {
    let mut call = edge::with_pass(
        LeaseRequest {},
        pass,
        RequestId::generate(Timestamp::from_secs(1), &SeededEntropy::new(1)),
    );
    call.set_timeout(Duration::from_secs(10));
    call
}

/// What the accounts role remembers for the vault.
#[derive(Clone, Default)]
pub(super) struct Memory(pub(super) Arc<Mutex<Vec<Head>>>, pub(super) Arc<Mutex<Option<CounterSignRequest>>>);

/// Signs heads of the audit journal that go on from the one before.
struct Witness {
    heads: Memory,
    signer: Signer,
}

fn hash(bytes: &[u8]) -> audit::Hash {
    bytes.try_into().unwrap()
}

#[tonic::async_trait]
impl AuditWitness for Witness {
    async fn last(&self, _: Request<LastHeadRequest>) -> Result<Response<LastHeadResponse>, Status> {
        let last = self.heads.1.lock().unwrap().clone().unwrap_or_default();
        Ok(Response::new(LastHeadResponse {
            size: last.size,
            root: last.root,
        }))
    }

    async fn counter_sign(&self, request: Request<CounterSignRequest>) -> Result<Response<CounterSignResponse>, Status> {
        let asked = request.into_inner();
        let mut last = self.heads.1.lock().unwrap();
        if let Some(last) = &*last {
            let proof: Vec<_> = asked.proof.iter().map(|step| hash(step)).collect();
            if !audit::consistent(last.size, &hash(&last.root), asked.size, &hash(&asked.root), &proof) {
                return Err(edge::status(base::ErrorKind::Conflict, "another history"));
            }
        }
        let head = TreeHead {
            journal: asked.journal.clone(),
            size: asked.size,
            root: hash(&asked.root),
            at: Timestamp::from_micros(asked.at),
        };
        *last = Some(asked);
        let signed = head.sign(&self.signer);
        Ok(Response::new(CounterSignResponse {
            certificate: signed.certificate,
            signature: signed.signature,
        }))
    }
}

#[tonic::async_trait]
impl Heads for Memory {
    async fn remember(&self, request: Request<RememberRequest>) -> Result<Response<RememberResponse>, Status> {
        *self.0.lock().unwrap() = request.into_inner().heads;
        Ok(Response::new(RememberResponse {}))
    }

    async fn recall(&self, _: Request<RecallRequest>) -> Result<Response<RecallResponse>, Status> {
        Ok(Response::new(RecallResponse {
            heads: self.0.lock().unwrap().clone(),
        }))
    }
}
