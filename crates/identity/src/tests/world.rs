//! Everything around the role, of the tests' own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use base::{
    Clock, CredentialId, Entropy, ErrorKind, ManualClock, Op, PersonId, ProductId, RequestId, Role, Scope, Secret, SeededEntropy,
    Timestamp, Verb, Verbs,
};
use journal::{JournalParts, JournalSettings};
use seal::{DataKey, InstallationSigner, PrivateKey, Signer};
use tempfile::TempDir;
use tonic::Status;
use wire::v1::{Head, LookupKeyLease, PeopleKey};
use zones::{MemoryZone, Zone, Zones, ZonesSettings};

use crate::links::Links;
use crate::people::{AskError, Parts, People};
use crate::personal::Personal;
use crate::vault::Vault;

pub(super) const LEASE: u32 = 300;

#[derive(Debug, Default)]
pub(super) struct TestVault {
    pub(super) down: AtomicBool,
    pub(super) leases: AtomicUsize,
    pub(super) heads: Mutex<BTreeMap<String, Head>>,
    /// Keys of keyrings that were not dropped, by product and epoch.
    pub(super) people: Mutex<BTreeMap<(u64, u64), Vec<u8>>>,
    /// Drops nothing, and says so.
    pub(super) keeps: AtomicBool,
}

#[async_trait]
impl Vault for TestVault {
    async fn lookup_key(&self, pass: &[u8], _: RequestId) -> Result<LookupKeyLease, Status> {
        self.check()?;
        self.leases.fetch_add(1, Ordering::SeqCst);
        Ok(LookupKeyLease {
            lookup_key: lookup_key(pass[0]).to_vec(),
            seconds: LEASE,
            people_keys: self.people_keys(u64::from(pass[0])),
        })
    }

    async fn next_people_key(&self, pass: &[u8], _: RequestId) -> Result<PeopleKey, Status> {
        self.check()?;
        let product = u64::from(pass[0]);
        let newest = self.people_keys(product).last().map_or(0, |key| key.epoch);
        Ok(self.make(product, newest + 1))
    }

    async fn drop_people_keys(&self, product: ProductId, below: u64) -> Result<(), Status> {
        self.check()?;
        if self.keeps.load(Ordering::SeqCst) {
            return Err(edge::status(ErrorKind::Unavailable, "a zone is away"));
        }
        self.people
            .lock()
            .unwrap()
            .retain(|(of, epoch), _| *of != product.get() || *epoch >= below);
        Ok(())
    }

    async fn state_key(&self) -> Result<Vec<u8>, Status> {
        self.check()?;
        let key = PrivateKey::from_derived(&DataKey::try_from(&[9; 32][..]).unwrap());
        Ok(key.to_secret_bytes().reveal().to_vec())
    }

    async fn recall(&self) -> Result<Vec<Head>, Status> {
        self.check()?;
        Ok(self.heads.lock().unwrap().values().cloned().collect())
    }

    async fn remember(&self, heads: Vec<Head>) -> Result<(), Status> {
        self.check()?;
        self.heads
            .lock()
            .unwrap()
            .extend(heads.into_iter().map(|head| (head.journal.clone(), head)));
        Ok(())
    }
}

impl TestVault {
    /// What a product's lease holds: at least one.
    fn people_keys(&self, product: u64) -> Vec<PeopleKey> {
        if self.held(product).is_empty() {
            self.make(product, 1);
        }
        self.held(product)
    }

    /// What there is of a product.
    pub(super) fn held(&self, product: u64) -> Vec<PeopleKey> {
        let all = self.people.lock().unwrap();
        let of = all.iter().filter(|((of, _), _)| *of == product);
        of.map(|((_, epoch), key)| PeopleKey {
            epoch: *epoch,
            key: key.clone(),
        })
        .collect()
    }

    fn make(&self, product: u64, epoch: u64) -> PeopleKey {
        let key = blake3::hash(&[product.to_be_bytes(), epoch.to_be_bytes()].concat())
            .as_bytes()
            .to_vec();
        self.people.lock().unwrap().insert((product, epoch), key.clone());
        PeopleKey { epoch, key }
    }

    fn check(&self) -> Result<(), Status> {
        if self.down.load(Ordering::SeqCst) {
            Err(edge::status(ErrorKind::Unavailable, "down"))
        } else {
            Ok(())
        }
    }
}

/// In these tests the first byte of a pass is its product, and there is one lookup key per product.
pub(super) fn lookup_key(product: u8) -> [u8; 32] {
    [product; 32]
}

pub(super) struct World {
    pub(super) directory: TempDir,
    pub(super) clock: Arc<ManualClock>,
    pub(super) entropy: Arc<SeededEntropy>,
    pub(super) vault: Arc<TestVault>,
    pub(super) zones: Vec<Arc<MemoryZone>>,
    pub(super) installation: InstallationSigner,
    pub(super) signer: Arc<Signer>,
}

impl World {
    pub(super) fn new() -> Self {
        let entropy = Arc::new(SeededEntropy::new(1));
        let now = Timestamp::from_secs(1_700_000_000);
        let installation = InstallationSigner::generate(&*entropy);
        let uncertified = Signer::generate(&*entropy);
        let certificate = installation.certify(Role::Identity, uncertified.public_key(), now, now.plus(Duration::from_secs(86_400)));
        Self {
            directory: tempfile::tempdir().unwrap(),
            clock: Arc::new(ManualClock::at(now)),
            entropy,
            vault: Arc::default(),
            zones: ["a", "b", "c"].map(|name| Arc::new(MemoryZone::new(name))).to_vec(),
            installation,
            signer: Arc::new(uncertified.certified(certificate).unwrap()),
        }
    }

    pub(super) fn parts_on(&self, zones: Arc<Zones>) -> Parts {
        let signer = Arc::clone(&self.signer);
        Parts {
            journal: JournalParts {
                zones,
                signer: Arc::new(move || Arc::clone(&signer)),
                clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
                entropy: Arc::clone(&self.entropy) as Arc<dyn Entropy>,
            },
            settings: JournalSettings {
                commit_after: Duration::ZERO,
                ..JournalSettings::default()
            },
            hot_identities: 1_000,
            reveals_per_hour: 3,
            installation: self.installation.key(),
            directory: self.directory.path().to_owned(),
            vault: Arc::clone(&self.vault) as Arc<dyn Vault>,
        }
    }

    pub(super) fn parts(&self) -> Parts {
        let zones = self.zones.iter().map(|zone| Arc::clone(zone) as Arc<dyn Zone>).collect();
        self.parts_on(Zones::new(
            zones,
            ZonesSettings::default(),
            Arc::clone(&self.clock) as Arc<dyn Clock>,
        ))
    }

    pub(super) async fn start(&self) -> Arc<People> {
        People::start(&self.parts()).await.unwrap()
    }

    pub(super) fn op(&self, product: u8, verbs: &[Verb]) -> Op {
        let (now, entropy) = (self.clock.now(), &*self.entropy);
        let actor = CredentialId::from_bytes([product; 16]);
        let (product, request) = (ProductId::new(u64::from(product)).unwrap(), RequestId::generate(now, entropy));
        Op::from_verified(actor, product, Verbs::of(verbs), Scope::Product, request, now)
    }

    pub(super) async fn try_translate(&self, people: &People, product: u8, identities: &[&str]) -> Result<Vec<i64>, AskError> {
        self.try_link(people, product, identities, None).await
    }

    pub(super) async fn try_link(
        &self,
        people: &People,
        product: u8,
        identities: &[&str],
        links: Option<Links>,
    ) -> Result<Vec<i64>, AskError> {
        let (ids, _, _) = people
            .translate(
                &self.op(product, &[Verb::Append]),
                &[product],
                secrets(identities),
                links,
                Personal::default(),
            )
            .await?;
        Ok(ids.into_iter().map(PersonId::get).collect())
    }

    pub(super) async fn translate(&self, people: &People, product: u8, identities: &[&str]) -> Vec<i64> {
        self.try_translate(people, product, identities).await.unwrap()
    }

    pub(super) async fn find(&self, people: &People, product: u8, identities: &[&str]) -> Vec<i64> {
        let found = people
            .find(&self.op(product, &[Verb::Query]), &[product], secrets(identities))
            .await
            .unwrap();
        found.into_iter().map(|id| id.map_or(0, PersonId::get)).collect()
    }

    pub(super) fn view(&self) -> std::path::PathBuf {
        self.directory.path().join("people/1.sqlite")
    }
}

pub(super) fn secrets(identities: &[&str]) -> Vec<Secret> {
    identities.iter().map(|identity| Secret::new((*identity).to_owned())).collect()
}
