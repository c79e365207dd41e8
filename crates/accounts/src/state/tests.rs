//! The state over real journals in memory zones.

use std::path::Path;
use std::time::Duration;

use base::{KeyKind, ManualClock, OsEntropy, Verb};
use seal::Signer;
use seal::{InstallationSigner, VerifiedPass, verify_pass};
use zones::{MemoryZone, Zone, ZonesSettings};

use super::*;
use crate::columns::IDENTITY_COLUMNS;

mod witness;

struct World {
    clock: Arc<ManualClock>,
    zones: [Arc<MemoryZone>; 3],
    installation: InstallationSigner,
    state_key: PrivateKey,
    directory: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self {
            clock: Arc::new(ManualClock::at(Timestamp::from_secs(1_790_000_000))),
            zones: ["a", "b", "c"].map(|name| Arc::new(MemoryZone::new(name))),
            installation: InstallationSigner::generate(&OsEntropy),
            state_key: PrivateKey::generate(&OsEntropy),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn signer(&self, role: Role) -> Arc<Signer> {
        let now = self.clock.now();
        let key = Signer::generate(&OsEntropy);
        let certificate = self
            .installation
            .certify(role, key.public_key(), now, now.plus(Duration::from_secs(86_400)));
        Arc::new(key.certified(certificate).unwrap())
    }

    async fn open_remembering(&self, remembered: Vec<journal::Head>) -> Result<Arc<State>, OpenError> {
        let zones: Vec<Arc<dyn Zone>> = self.zones.iter().map(|zone| Arc::clone(zone) as Arc<dyn Zone>).collect();
        let signer = self.signer(Role::Accounts);
        State::open(Parts {
            zones: Zones::new(zones, ZonesSettings::default(), Arc::clone(&self.clock) as Arc<dyn Clock>),
            signer: Arc::new(move || Arc::clone(&signer)),
            installation: self.installation.key(),
            state_key: PrivateKey::try_from(self.state_key.to_secret_bytes().reveal()).unwrap(),
            directory: self.directory.path().to_owned(),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            entropy: Arc::new(OsEntropy),
            journal: JournalSettings::default(),
            remembered,
        })
        .await
    }

    async fn open(&self) -> Arc<State> {
        self.open_remembering(Vec::new()).await.unwrap()
    }

    fn credential(&self) -> CredentialId {
        CredentialId::generate(self.clock.now(), &OsEntropy)
    }

    fn assertion(&self, credential: CredentialId, product: ProductId, holder: HolderId, signer: &Signer) -> Vec<u8> {
        let now = self.clock.now();
        let assertion = Assertion {
            credential,
            product,
            audience: Role::Warehouse,
            holder,
            issued_at: now,
            expires_at: now.plus(Duration::from_secs(300)),
            id: [7; 16],
        };
        assertion.sign(signer)
    }
}

fn name(text: &str) -> ProductName {
    text.parse().unwrap()
}

fn declared(identity_columns: Vec<String>, personal_columns: Vec<String>) -> Declared {
    Declared {
        identity_columns,
        personal_columns,
        link_identities: false,
    }
}

fn change(identity_columns: Option<Vec<String>>, personal_columns: Option<Vec<String>>) -> Change {
    Change {
        identity_columns,
        personal_columns,
        link_identities: None,
    }
}

fn forget_view(directory: &Path) {
    for file in std::fs::read_dir(directory).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
}

#[tokio::test]
async fn products_are_numbered_from_one_and_survive_a_restart() {
    let world = World::new();
    let state = world.open().await;
    let first = state.create_product(name("shop"), Declared::default()).await.unwrap();
    let second = state
        .create_product(name("game-2"), declared(vec!["player".into(), "player".into()], Vec::new()))
        .await
        .unwrap();
    state.close().await;

    let again = world.open().await;
    let third = again.create_product(name("third"), Declared::default()).await.unwrap();

    assert_eq!((first.id.get(), second.id.get(), third.id.get()), (1, 2, 3));
    assert_eq!(first.identity_columns, IDENTITY_COLUMNS);
    assert!(first.personal_columns.is_empty());
    assert_eq!(second.identity_columns, ["player"]);
    assert_eq!(again.products().await.unwrap(), [first, second, third]);
}

#[tokio::test]
async fn a_deleted_view_is_rebuilt_from_the_journal_equal_to_what_was_lost() {
    let world = World::new();
    let state = world.open().await;
    let product = state.create_product(name("shop"), Declared::default()).await.unwrap();
    let credential = world.credential();
    state.grant_credential(credential, product.id, KeyKind::Read.verbs()).await.unwrap();
    let before = state.products().await.unwrap();
    state.close().await;
    forget_view(world.directory.path());

    let rebuilt = world.open().await;

    assert_eq!(rebuilt.products().await.unwrap(), before);
    assert_eq!(
        rebuilt.view.verbs(product.id, &credential).await.unwrap(),
        Some(KeyKind::Read.verbs())
    );
}

#[tokio::test]
async fn what_a_product_says_of_its_columns_changes_and_is_found_again() {
    let world = World::new();
    let state = world.open().await;
    let product = state
        .create_product(name("shop"), declared(vec!["email".into()], vec!["Phone".into()]))
        .await
        .unwrap();
    assert_eq!(product.personal_columns, ["phone"]);
    let columns = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());

    let (set, changed) = state
        .set_product(product.id, change(None, columns(&["name", "shop.orders:address", "Name"])))
        .await
        .unwrap();
    assert_eq!((set.identity_columns.as_slice(), changed), (&["email".to_owned()][..], true));
    assert_eq!(set.personal_columns, ["name", "shop.orders:address"]);
    let (same, changed) = state.set_product(product.id, change(columns(&["email"]), None)).await.unwrap();
    assert_eq!((same, changed), (set, false));
    let (last, _) = state.set_product(product.id, change(columns(&[]), None)).await.unwrap();
    assert_eq!(last.identity_columns, IDENTITY_COLUMNS);
    assert_eq!(state.head().await.length, 3, "what changes nothing is not written down");

    state.close().await;
    forget_view(world.directory.path());
    assert_eq!(world.open().await.products().await.unwrap(), [last]);
}

#[tokio::test]
async fn identities_are_linked_where_the_product_says_so_and_nowhere_else() {
    let world = World::new();
    let state = world.open().await;
    let product = state.create_product(name("shop"), Declared::default()).await.unwrap();
    assert!(!product.link_identities, "off unless said otherwise");
    let link = |on| Change {
        link_identities: Some(on),
        ..Change::default()
    };

    let (linking, changed) = state.set_product(product.id, link(true)).await.unwrap();
    assert!(linking.link_identities && changed);
    let (still, _) = state
        .set_product(product.id, change(Some(vec!["email".into()]), None))
        .await
        .unwrap();
    assert!(still.link_identities, "what is left out stays");
    let (_, changed) = state.set_product(product.id, link(true)).await.unwrap();
    assert!(!changed);
    let always = Declared {
        link_identities: true,
        ..Declared::default()
    };
    let always = state.create_product(name("game"), always).await.unwrap();

    state.close().await;
    forget_view(world.directory.path());
    let state = world.open().await;
    assert_eq!(state.products().await.unwrap(), [still, always]);
    let (off, _) = state.set_product(product.id, link(false)).await.unwrap();
    assert!(!off.link_identities);
}

#[tokio::test]
async fn columns_that_cannot_be_personal_are_refused_and_nothing_changes() {
    let world = World::new();
    let state = world.open().await;
    let product = state
        .create_product(name("shop"), declared(vec!["Email".into()], vec!["phone".into()]))
        .await
        .unwrap();
    let set = async |identity: Option<Vec<String>>, personal: Option<Vec<String>>| {
        state.set_product(product.id, change(identity, personal)).await.unwrap_err().kind()
    };
    for wrong in ["", "time", "_overflow", "a,b", "orders:phone", "email", "shop.orders:eMail"] {
        assert_eq!(set(None, Some(vec![wrong.into()])).await, ErrorKind::Invalid, "{wrong:?}");
    }
    assert_eq!(set(Some(vec!["PHONE".into()]), None).await, ErrorKind::Invalid, "it is personal");
    assert_eq!(
        set(None, Some((0..=256).map(|n| format!("c{n}")).collect())).await,
        ErrorKind::Invalid
    );
    let nobody = state.set_product(ProductId::new(9).unwrap(), change(None, None)).await.unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::NotFound);
    assert_eq!(state.products().await.unwrap(), [product]);
}

#[tokio::test]
async fn a_view_of_the_first_version_is_brought_up() {
    let directory = tempfile::tempdir().unwrap();
    let view = View::open(directory.path()).await.unwrap();
    view.degrade().await;
    view.close().await;

    let view = View::open(directory.path()).await.unwrap();

    assert!(view.products().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_name_is_given_once_even_when_asked_for_at_the_same_moment() {
    let world = World::new();
    let state = world.open().await;
    let (one, two) = tokio::join!(
        state.create_product(name("shop"), Declared::default()),
        state.create_product(name("shop"), Declared::default())
    );
    let refused = one.and(two).unwrap_err();

    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.to_string().contains("number 1"), "{refused}");
    assert_eq!(state.products().await.unwrap().len(), 1);
}

#[tokio::test]
async fn names_and_columns_that_cannot_be_are_refused() {
    for wrong in ["", "a", "Shop", "a b", "käse", "a.b", &"x".repeat(65)] {
        assert!(wrong.parse::<ProductName>().is_err(), "{wrong:?}");
    }
    let world = World::new();
    let state = world.open().await;
    for wrong in ["", "time", "a,b", "a\nb"] {
        let refused = state
            .create_product(name("shop"), declared(vec![wrong.into()], Vec::new()))
            .await
            .unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{wrong:?}");
    }
}

#[tokio::test]
async fn granting_the_same_again_is_fine_and_anything_else_is_not() {
    let world = World::new();
    let state = world.open().await;
    let one = state.create_product(name("one"), Declared::default()).await.unwrap().id;
    let two = state.create_product(name("two"), Declared::default()).await.unwrap().id;
    let credential = world.credential();
    let verbs = KeyKind::Write.verbs();
    state.grant_credential(credential, one, verbs).await.unwrap();

    state.grant_credential(credential, one, verbs).await.unwrap();
    let more = state.grant_credential(credential, one, KeyKind::Admin.verbs()).await.unwrap_err();
    let elsewhere = state.grant_credential(credential, two, verbs).await.unwrap_err();
    let nowhere = state
        .grant_credential(world.credential(), ProductId::new(9).unwrap(), verbs)
        .await
        .unwrap_err();

    assert_eq!(
        (more.kind(), elsewhere.kind(), nowhere.kind()),
        (ErrorKind::Conflict, ErrorKind::Conflict, ErrorKind::NotFound)
    );
    assert_eq!(state.view.verbs(one, &credential).await.unwrap(), Some(verbs));
    assert_eq!(state.head().await.length, 3);
}

#[tokio::test]
async fn a_grant_answers_the_vaults_assertion_for_its_holder_only() {
    let world = World::new();
    let state = world.open().await;
    let product = state.create_product(name("shop"), Declared::default()).await.unwrap().id;
    let (known, unknown) = (world.credential(), world.credential());
    state.grant_credential(known, product, KeyKind::Read.verbs()).await.unwrap();
    let (holder, thief) = (HolderId::from_bytes([1; 32]), HolderId::from_bytes([2; 32]));
    let vault = world.signer(Role::Vault);
    let good = world.assertion(known, product, holder, &vault);

    let (grant, about) = state.grant(&good, &holder).await.unwrap();
    let pass = seal::Pass {
        assertion: good.clone(),
        grant,
    }
    .encode();
    let key = world.installation.key();
    let verified: VerifiedPass = verify_pass(&key, &pass, Role::Warehouse, &holder, world.clock.now()).unwrap();
    assert_eq!(about.id, product);
    assert!(verified.verbs.contains(Verb::Query) && !verified.verbs.contains(Verb::Append));

    let refused = |error: GrantError| assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
    refused(state.grant(&good, &thief).await.unwrap_err());
    refused(
        state
            .grant(&world.assertion(unknown, product, holder, &vault), &holder)
            .await
            .unwrap_err(),
    );
    let own = world.assertion(known, product, holder, &world.signer(Role::Accounts));
    assert!(state.grant(&own, &holder).await.is_err(), "accounts cannot say who somebody is");
    world.clock.advance(Duration::from_secs(301));
    refused(state.grant(&good, &holder).await.unwrap_err());
}

#[tokio::test]
async fn without_a_majority_nothing_changes_and_nothing_appears_later() {
    let world = World::new();
    let state = world.open().await;
    world.zones[0].go_down();
    world.zones[1].go_down();

    let refused = state.create_product(name("shop"), Declared::default()).await.unwrap_err();

    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    world.zones[0].come_back();
    world.zones[1].come_back();
    assert_eq!(state.create_product(name("shop"), Declared::default()).await.unwrap().id.get(), 1);
    state.close().await;
    forget_view(world.directory.path());
    assert_eq!(world.open().await.products().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_journal_shorter_than_the_one_remembered_is_no_answer() {
    let world = World::new();
    let state = world.open().await;
    state.create_product(name("shop"), Declared::default()).await.unwrap();
    let head = state.head().await;
    state.close().await;
    assert!(world.open_remembering(vec![head]).await.is_ok());

    let rolled_back = World {
        installation: world.installation,
        ..World::new()
    };
    assert_eq!(
        rolled_back.open_remembering(vec![head]).await.unwrap_err().kind(),
        ErrorKind::Corrupt
    );
}

#[tokio::test]
async fn a_remembered_head_never_gets_shorter() {
    let world = World::new();
    let state = world.open().await;
    let head = |length, byte| {
        vec![RememberedHead {
            journal: "vault".into(),
            length,
            hash: vec![byte; 32],
        }]
    };
    assert!(state.remember(Role::Vault, &head(2, 1)).await.unwrap());
    assert!(state.remember(Role::Vault, &head(2, 1)).await.unwrap());
    assert!(!state.remember(Role::Vault, &head(2, 9)).await.unwrap());
    assert!(!state.remember(Role::Vault, &head(1, 1)).await.unwrap());
    assert!(state.remember(Role::Identity, &head(1, 5)).await.unwrap());
    assert_eq!(state.heads_of(Role::Vault).await.unwrap(), head(2, 1));
}
