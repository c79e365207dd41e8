//! Everybody, product by product: from identities to ids, and from personal values to sealed ones.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base::{Clock, Denied, Entropy, ErrorKind, Op, PersonId, ProductId, Secret, SecretBytes, Verb, WriterId};
use journal::{Head, JournalParts, JournalSettings};
use seal::{DataKey, InstallationKey, PrivateKey};
use tokio::sync::{Notify, OnceCell, Semaphore};
use zones::SettleError;

use crate::keys::{Hash, LeaseError, Leases, ProductKeys, RingError};
use crate::ledger::{GiveError, JOURNALS, Ledger, LedgerOpenError, LedgerParts, Newcomer};
use crate::links::{Links, LinksError, Member, Rows};
use crate::personal::{Personal, PersonalError, Sealer};
use crate::reveal::{RevealError, Reveals};
use crate::ring::Ring;
use crate::vault::Vault;
use crate::view::ViewError;

/// Identities in one call to translate.
pub(crate) const MOST_TRANSLATED: usize = 100_000;
/// Identities in one call to find.
pub(crate) const MOST_FOUND: usize = 1_000;
/// Wrapped keys in one call to open.
pub(crate) const MOST_OPENED: usize = 1_000;
/// Bytes of one identity.
pub(crate) const LONGEST: usize = base::LONGEST_IDENTITY;
/// How often a call begins anew when somebody is erased meanwhile.
const TRIES: usize = 5;
/// Identities being worked on at once, over all calls: more wait.
const MOST_AT_WORK: usize = 400_000;

/// What the role's people are made from.
pub(crate) struct Parts {
    pub(crate) journal: JournalParts,
    pub(crate) settings: JournalSettings,
    pub(crate) hot_identities: usize,
    pub(crate) reveals_per_hour: u32,
    pub(crate) installation: InstallationKey,
    /// The role's own directory.
    pub(crate) directory: PathBuf,
    pub(crate) vault: Arc<dyn Vault>,
}

/// Why the role's people could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The vault could not be asked.
    #[error("the vault could not be asked for {what}: {}", source.message())]
    Vault {
        /// What for.
        what: &'static str,
        /// Its answer.
        source: Box<tonic::Status>,
    },
    /// What the vault said.
    #[error("the vault's answer about {0} is not in the form it should have")]
    VaultForm(&'static str),
    /// The zones.
    #[error("it is not certain which people there are")]
    Zones(#[from] SettleError),
    /// The directory.
    #[error("the role's directory cannot be used")]
    Directory(#[from] std::io::Error),
    /// A product's people.
    #[error(transparent)]
    Ledger(#[from] LedgerOpenError),
}

impl StartError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Vault { source, .. } => edge::kind_of(source),
            Self::VaultForm(_) | Self::Directory(_) => ErrorKind::Internal,
            Self::Zones(error) => error.kind(),
            Self::Ledger(error) => error.kind(),
        }
    }
}

/// Why identities got no answer. Never says which identities.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error("{asked} identities in one call, at most {most} are possible; ask for them in parts")]
    TooMany { asked: usize, most: usize },
    #[error("{asked} keys in one call, at most {MOST_OPENED} are possible; ask for them in parts")]
    TooManyKeys { asked: usize },
    #[error("identity number {position} has more than {LONGEST} bytes; that is no name of a person, check the identity columns")]
    TooLong { position: usize },
    #[error("identity number {position} is empty; leave empty ones out")]
    Empty { position: usize },
    #[error(transparent)]
    Personal(#[from] PersonalError),
    #[error(transparent)]
    Links(#[from] LinksError),
    #[error(transparent)]
    Reveal(#[from] RevealError),
    #[error(transparent)]
    Ring(#[from] RingError),
    #[error("the product's people were changed all the time; try again")]
    Changing,
    #[error("nobody is known by that: they never were, or were erased")]
    Nobody,
    #[error("an erasure names an identity or an id, one of them")]
    Whom,
    #[error("the vault gave no key for the next keyring: {}", .0.message())]
    Next(Box<tonic::Status>),
    #[error("the person is gone here, but the vault has not dropped the key of older copies yet ({}); ask again, by the id {id}", status.message())]
    NotDropped { id: PersonId, status: Box<tonic::Status> },
    #[error("nobody is known by that here, but the vault has not dropped the keys of older copies yet ({}); ask again", .0.message())]
    Older(Box<tonic::Status>),
    #[error(transparent)]
    Lease(#[from] LeaseError),
    #[error("the product's people could not be opened: {0}")]
    Open(#[from] LedgerOpenError),
    #[error(transparent)]
    Give(#[from] GiveError),
    #[error(transparent)]
    View(#[from] ViewError),
    #[error("the identity role is stopping")]
    Stopping,
}

impl AskError {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Denied(error) => error.kind(),
            Self::TooMany { .. } | Self::TooManyKeys { .. } | Self::TooLong { .. } | Self::Empty { .. } | Self::Personal(_) => {
                ErrorKind::Invalid
            }
            Self::Links(error) => error.kind(),
            Self::Reveal(error) => error.kind(),
            Self::Ring(error) => error.kind(),
            Self::Changing | Self::NotDropped { .. } | Self::Older(_) => ErrorKind::Unavailable,
            Self::Nobody => ErrorKind::NotFound,
            Self::Whom => ErrorKind::Invalid,
            Self::Next(status) => edge::kind_of(status),
            Self::Lease(error) => error.kind(),
            Self::Open(error) => error.kind(),
            Self::Give(error) => error.kind(),
            Self::View(error) => error.kind(),
            Self::Stopping => ErrorKind::Unavailable,
        }
    }
}

/// How an answer came about, for counting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Identities asked for.
    pub(crate) asked: usize,
    /// Of these, found without the writer: at hand or in the view.
    pub(crate) known: usize,
}

/// The people of all products.
pub(crate) struct People {
    pub(crate) vault: Arc<dyn Vault>,
    clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    ledgers: Mutex<HashMap<ProductId, Arc<OnceCell<Arc<Ledger>>>>>,
    pub(crate) parts: LedgerParts,
    leases: Leases,
    hot_identities: usize,
    at_work: Semaphore,
    pub(crate) reveals: Reveals,
    /// What the vault was told last.
    told: tokio::sync::Mutex<HashMap<ProductId, Head>>,
}

impl People {
    /// Opens what is there: every product's journal is read, compared with what the vault remembers, and its view brought up to it.
    ///
    /// The state key's private half is gone when this returns; from then on only its public half is here.
    pub(crate) async fn start(parts: &Parts) -> Result<Arc<Self>, StartError> {
        let asked = |what| {
            move |status| StartError::Vault {
                what,
                source: Box::new(status),
            }
        };
        let key = SecretBytes::new(parts.vault.state_key().await.map_err(asked("the state key"))?);
        let state_key = PrivateKey::try_from(key.reveal()).map_err(|_| StartError::VaultForm("the state key"))?;
        let remembered = remembered(parts.vault.recall().await.map_err(asked("the heads it remembers"))?)?;

        let directory = parts.directory.join(JOURNALS);
        let kept = kept(directory.clone()).await?;
        let ledger_parts = LedgerParts {
            journal: parts.journal.clone(),
            settings: parts.settings.clone(),
            installation: parts.installation,
            seal_to: state_key.public(),
            writer: WriterId::generate(parts.journal.clock.now(), &*parts.journal.entropy),
            directory,
            grown: Arc::new(Notify::new()),
        };
        let mut products: BTreeSet<ProductId> = remembered.keys().copied().chain(kept).collect();
        let settled = parts.journal.zones.settle(JOURNALS).await?;
        // Not those that were never accepted; what a silent zone may hold more of is a product's until its journal says otherwise.
        for name in settled.objects.iter().chain(&settled.doubtful) {
            match name.as_str().split('/').nth(1).and_then(|number| number.parse().ok()) {
                Some(product) => {
                    products.insert(product);
                }
                // Journals have products' numbers in their names: this is none, and whoever owns one zone can put it there.
                None => tracing::error!(object.name = %name, "{name} stands among the journals and belongs to no product, it is ignored"),
            }
        }
        let mut ledgers = HashMap::new();
        for product in products {
            let ledger = Ledger::recover(&ledger_parts, product, &state_key, remembered.get(&product)).await?;
            ledgers.insert(product, Arc::new(OnceCell::from(Arc::new(ledger))));
        }
        // Whatever was appended and not remembered before the last stop is remembered now.
        ledger_parts.grown.notify_one();
        Ok(Arc::new(Self {
            vault: Arc::clone(&parts.vault),
            clock: Arc::clone(&parts.journal.clock),
            entropy: Arc::clone(&parts.journal.entropy),
            ledgers: Mutex::new(ledgers),
            parts: ledger_parts,
            leases: Leases::default(),
            hot_identities: parts.hot_identities,
            at_work: Semaphore::new(MOST_AT_WORK),
            reveals: Reveals::allowing(parts.reveals_per_hour),
            told: tokio::sync::Mutex::new(remembered),
        }))
    }

    /// An id for each identity, in order; given now where there was none, and durable before this returns. And the personal values
    /// sealed, in order, under the keys of those whose they are.
    pub(crate) async fn translate(
        &self,
        op: &Op,
        pass: &[u8],
        identities: Vec<Secret>,
        links: Option<Links>,
        personal: Personal,
    ) -> Result<(Vec<PersonId>, Vec<Vec<u8>>, Tally), AskError> {
        op.authorize(Verb::Append)?;
        check(&identities, MOST_TRANSLATED)?;
        personal.check(identities.len())?;
        let links = links.unwrap_or_default();
        if !links.columns.is_empty() || !links.together.is_empty() {
            links.check(identities.len())?;
        }
        let _room = self.room(identities.len() + links.work() + personal.work()).await?;
        let (identities, personal) = (Arc::new(identities), Arc::new(personal));
        for _ in 0..TRIES {
            let ready = self.ready(op, pass).await?;
            let hashes = hashes(&ready.keys, Arc::clone(&identities)).await?;
            let translated = self.translate_once(&ready, hashes, &identities, &links, &personal).await;
            if ready.is_current() {
                return translated;
            }
        }
        Err(AskError::Changing)
    }

    async fn translate_once(
        &self,
        ready: &Ready,
        hashes: Vec<Hash>,
        identities: &[Secret],
        links: &Links,
        personal: &Arc<Personal>,
    ) -> Result<(Vec<PersonId>, Vec<Vec<u8>>, Tally), AskError> {
        let (ids, tally) = give(ready, &hashes, identities, links).await?;
        let sealed = if personal.values.is_empty() {
            Vec::new()
        } else {
            self.seal(ready, ids.clone(), Arc::clone(personal)).await?
        };
        Ok((ids, sealed, tally))
    }

    /// The values sealed, in order. Everybody who owns one is known by now.
    async fn seal(&self, ready: &Ready, ids: Vec<PersonId>, personal: Arc<Personal>) -> Result<Vec<Vec<u8>>, AskError> {
        let owners: BTreeSet<usize> = personal.values.iter().filter_map(|value| value.owner).collect();
        let owners: BTreeSet<PersonId> = owners.into_iter().filter_map(|owner| ids.get(owner).copied()).collect();
        let sealing_keys = sealing_keys(ready, owners.into_iter().collect()).await?;
        let (keys, entropy) = (Arc::clone(&ready.keys), Arc::clone(&self.entropy));
        let work = move || {
            let sealer = Sealer::new(&keys, &*entropy);
            let sealed = personal.values.iter().map(|value| {
                let owner = match value.owner {
                    None => None,
                    Some(owner) => {
                        let id = *ids.get(owner)?;
                        Some((id, sealing_keys.get(&id)?))
                    }
                };
                Some(sealer.seal(owner, personal.columns.get(value.column)?, &value.value))
            });
            sealed.collect::<Option<Vec<_>>>()
        };
        let sealed = tokio::task::spawn_blocking(work).await.map_err(|_| AskError::Stopping)?;
        sealed.ok_or(AskError::View(ViewError::Corrupt("no key of a person")))
    }

    /// The ids of those identities that have one, in order. Gives none.
    pub(crate) async fn find(&self, op: &Op, pass: &[u8], identities: Vec<Secret>) -> Result<Vec<Option<PersonId>>, AskError> {
        op.authorize(Verb::Query)?;
        check(&identities, MOST_FOUND)?;
        let _room = self.room(identities.len()).await?;
        if !self.has_ledger(op.product) {
            self.keys(op, pass).await?;
            return Ok(vec![None; identities.len()]);
        }
        let identities = Arc::new(identities);
        for _ in 0..TRIES {
            let ready = self.ready(op, pass).await?;
            let hashes = hashes(&ready.keys, Arc::clone(&identities)).await?;
            if let Some(found) = ready.ledger.find(&hashes) {
                return Ok(found);
            }
        }
        Err(AskError::Changing)
    }

    /// A fresh key under which the gateway seals what of one body cannot be rows, and the same wrapped. Nothing of it is kept here.
    pub(crate) async fn aside_key(&self, op: &Op, pass: &[u8]) -> Result<(DataKey, Vec<u8>), AskError> {
        op.authorize(Verb::Append)?;
        let keys = self.keys(op, pass).await?;
        Ok(keys.aside_key(&*self.parts.journal.entropy))
    }

    /// The keys that were wrapped so, in order; `None` for what is none of this product's. Whoever asks may read and manage.
    pub(crate) async fn open_aside(&self, op: &Op, pass: &[u8], wrapped: &[Vec<u8>]) -> Result<Vec<Option<SecretBytes>>, AskError> {
        op.authorize(Verb::Query)?;
        op.authorize(Verb::Manage)?;
        if wrapped.len() > MOST_OPENED {
            return Err(AskError::TooManyKeys { asked: wrapped.len() });
        }
        let keys = self.keys(op, pass).await?;
        Ok(wrapped.iter().map(|wrapped| keys.open_aside(wrapped).ok()).collect())
    }

    /// Drops keys whose lease has ended, and what was looked up with them.
    pub(crate) fn sweep(&self) {
        self.leases.sweep(self.clock.now());
        self.forget_unleased();
    }

    /// A credential was revoked: what it held ends.
    pub(crate) fn revoke(&self, credential: base::CredentialId) {
        self.leases.revoke(credential);
        self.forget_unleased();
    }

    /// Some revocations were missed: everything ends.
    pub(crate) fn revoke_all(&self) {
        self.leases.clear();
        self.forget_unleased();
    }

    fn forget_unleased(&self) {
        let unleased = |product: &ProductId| !self.leases.holds(*product);
        let ledgers = self.ledgers();
        let opened = ledgers
            .iter()
            .filter(|(product, _)| unleased(product))
            .filter_map(|(_, cell)| cell.get());
        opened.for_each(|ledger| ledger.forget_index());
    }

    /// Whose keys are here, for whoever ends them.
    pub(crate) fn leases(&self) -> &Leases {
        &self.leases
    }

    /// Waits until a journal has grown.
    pub(crate) async fn grown(&self) {
        self.parts.grown.notified().await;
    }

    /// Has the vault remember how long the journals are; says whether it did.
    pub(crate) async fn tell_heads(&self) -> bool {
        let mut told = self.told.lock().await;
        let open: Vec<_> = self
            .ledgers()
            .iter()
            .filter_map(|(product, cell)| Some((*product, cell.get()?.decided()?)))
            .collect();
        let news: Vec<_> = open
            .into_iter()
            .filter(|(product, head)| head.length > 0 && told.get(product) != Some(head))
            .collect();
        // Far below what one call may hold.
        for news in news.chunks(512) {
            let heads = news.iter().map(|(product, head)| wire::v1::Head {
                journal: crate::ledger::journal_name(*product),
                length: head.length,
                hash: head.hash.to_vec(),
            });
            if let Err(status) = self.vault.remember(heads.collect()).await {
                tracing::warn!(
                    error = status.message(),
                    "could not tell the vault how long the journals are, trying again"
                );
                return false;
            }
            told.extend(news.iter().copied());
        }
        true
    }

    /// Finishes what was begun, and takes nothing more.
    pub(crate) async fn close(&self) {
        let ledgers: Vec<_> = self.ledgers().values().filter_map(|cell| cell.get().cloned()).collect();
        for ledger in ledgers {
            ledger.close().await;
        }
        self.tell_heads().await;
        self.leases.clear();
    }

    pub(crate) fn now(&self) -> base::Timestamp {
        self.clock.now()
    }

    pub(crate) async fn room(&self, identities: usize) -> Result<tokio::sync::SemaphorePermit<'_>, AskError> {
        let permits = u32::try_from(identities).unwrap_or(u32::MAX);
        self.at_work.acquire_many(permits).await.map_err(|_| AskError::Stopping)
    }

    pub(crate) async fn keys(&self, op: &Op, pass: &[u8]) -> Result<Arc<ProductKeys>, LeaseError> {
        self.leases.get(op, pass, &*self.vault, self.hot_identities, self.clock.now()).await
    }

    /// The product's keys, its people, and the keyring of both. Whatever an erasure that broke off has left with the vault is dropped.
    pub(crate) async fn ready(&self, op: &Op, pass: &[u8]) -> Result<Ready, AskError> {
        let ledger = self.ledger(op.product).await?;
        let mut again = true;
        loop {
            let keys = self.keys(op, pass).await?;
            if !ledger.is_ready() {
                ledger.prepare(Arc::clone(&keys)).await?;
            }
            let ring = ledger.ring().ok_or(RingError::NoKey { epoch: 0 })?;
            match keys.ring(&ring) {
                Ok(ring) => {
                    self.drop_older(&keys, ring.epoch()).await;
                    return Ok(Ready { keys, ledger, ring });
                }
                // It was renewed since these keys were leased.
                Err(RingError::NoKey { .. }) if again => {
                    again = false;
                    self.leases.forget(op.product);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn drop_older(&self, keys: &ProductKeys, epoch: u64) {
        let older = keys.take_before(epoch);
        if older.is_empty() {
            return;
        }
        if let Err(status) = self.vault.drop_people_keys(keys.product(), epoch).await {
            tracing::warn!(product.id = %keys.product(), error = status.message(), "the vault has keys of older keyrings yet, asking again");
            older.into_iter().for_each(|(epoch, key)| keys.add_people_key(epoch, key));
        }
    }

    pub(crate) fn has_ledger(&self, product: ProductId) -> bool {
        self.ledgers().get(&product).is_some_and(|cell| cell.get().is_some())
    }

    pub(crate) async fn ledger(&self, product: ProductId) -> Result<Arc<Ledger>, LedgerOpenError> {
        let cell = Arc::clone(self.ledgers().entry(product).or_default());
        // Everything that was there before was opened at the start, so this product is new.
        let begin = || async { Ledger::begin(&self.parts, product).await.map(Arc::new) };
        cell.get_or_try_init(begin).await.map(Arc::clone)
    }

    fn ledgers(&self) -> MutexGuard<'_, HashMap<ProductId, Arc<OnceCell<Arc<Ledger>>>>> {
        self.ledgers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A product with everything that it takes to look into it.
pub(crate) struct Ready {
    pub(crate) keys: Arc<ProductKeys>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) ring: Arc<Ring>,
}

impl Ready {
    /// Whether nobody was erased since: what was found is of one state.
    pub(crate) fn is_current(&self) -> bool {
        self.ledger.ring().is_some_and(|ring| ring.epoch == self.ring.epoch()) && self.ledger.is_ready()
    }
}

impl fmt::Debug for People {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("People")
            .field("products", &self.ledgers().len())
            .finish_non_exhaustive()
    }
}

pub(crate) fn check(identities: &[Secret], most: usize) -> Result<(), AskError> {
    if identities.len() > most {
        return Err(AskError::TooMany {
            asked: identities.len(),
            most,
        });
    }
    for (index, identity) in identities.iter().enumerate() {
        match identity.reveal().len() {
            0 => return Err(AskError::Empty { position: index + 1 }),
            1..=LONGEST => {}
            _ => return Err(AskError::TooLong { position: index + 1 }),
        }
    }
    Ok(())
}

pub(crate) async fn hashes(keys: &Arc<ProductKeys>, identities: Arc<Vec<Secret>>) -> Result<Vec<Hash>, AskError> {
    let keys = Arc::clone(keys);
    let work = move || identities.iter().map(|identity| keys.hash(identity)).collect();
    tokio::task::spawn_blocking(work).await.map_err(|_| AskError::Stopping)
}

/// The ids of all, those who have none getting one.
async fn give(ready: &Ready, hashes: &[Hash], identities: &[Secret], links: &Links) -> Result<(Vec<PersonId>, Tally), AskError> {
    let mut ids = ready.ledger.find(hashes).ok_or(AskError::Changing)?;
    let missing: Vec<usize> = (0..ids.len()).filter(|index| ids[*index].is_none()).collect();
    let tally = Tally {
        asked: ids.len(),
        known: ids.len() - missing.len(),
    };
    if !missing.is_empty() {
        let column = |index: usize| links.column.get(index).copied();
        let new = missing.iter().map(|index| Newcomer {
            hash: hashes[*index],
            identity: identities[*index].clone(),
            column: column(*index)
                .and_then(|place| links.columns.get(place).cloned())
                .unwrap_or_default(),
        });
        // Where everybody is known, nothing is to be decided.
        let undecided = links.together.iter().filter(|row| row.iter().any(|place| ids[*place].is_none()));
        let member = |place: &usize| {
            Some(Member {
                hash: hashes[*place],
                column: column(*place)?,
            })
        };
        let rows = Rows {
            columns: links.columns.clone(),
            rows: undecided.map(|row| row.iter().filter_map(member).collect()).collect(),
        };
        let given = ready.ledger.give(Arc::clone(&ready.keys), new.collect(), rows).await?;
        for (index, id) in missing.into_iter().zip(given) {
            ids[index] = Some(id);
        }
    }
    ids.into_iter()
        .collect::<Option<Vec<_>>>()
        .map(|ids| (ids, tally))
        .ok_or(AskError::Stopping)
}

/// The keys of these people, all of whom are in the view: those at hand, and then the others.
async fn sealing_keys(ready: &Ready, people: Vec<PersonId>) -> Result<HashMap<PersonId, DataKey>, AskError> {
    let epoch = ready.ring.epoch();
    let at_hand = ready.keys.keys_at_hand(epoch, &people);
    let missing: Vec<PersonId> = people
        .iter()
        .zip(&at_hand)
        .filter(|(_, key)| key.is_none())
        .map(|(id, _)| *id)
        .collect();
    let mut found: HashMap<PersonId, DataKey> = people.into_iter().zip(at_hand).filter_map(|(id, key)| Some((id, key?))).collect();
    if !missing.is_empty() {
        let opened = ready.ledger.persons(&ready.ring, &missing).await?;
        let opened: Vec<(PersonId, DataKey)> = opened.into_iter().map(|(id, person)| (id, person.key)).collect();
        ready.keys.keep_keys(epoch, opened.iter().cloned());
        found.extend(opened);
    }
    Ok(found)
}

fn remembered(heads: Vec<wire::v1::Head>) -> Result<HashMap<ProductId, Head>, StartError> {
    let form = StartError::VaultForm;
    let head = |head: wire::v1::Head| {
        let product = head
            .journal
            .strip_prefix(JOURNALS)
            .and_then(|rest| rest.strip_prefix('/'))
            .and_then(|number| number.parse().ok());
        let hash = head.hash.try_into().map_err(|_| form("a head"))?;
        Ok((product.ok_or(form("a head"))?, Head { length: head.length, hash }))
    };
    heads.into_iter().map(head).collect()
}

/// The products that have a view in the role's directory, which is made when it is missing.
pub(crate) async fn kept(directory: PathBuf) -> Result<Vec<ProductId>, std::io::Error> {
    let look = move || {
        std::fs::create_dir_all(&directory)?;
        let mut products: Vec<ProductId> = Vec::new();
        for file in std::fs::read_dir(&directory)? {
            let name = file?.file_name();
            let name = Path::new(&name);
            if name.extension().is_some_and(|extension| extension == "sqlite") {
                products.extend(
                    name.file_stem()
                        .and_then(|stem| stem.to_str())
                        .and_then(|number| number.parse::<ProductId>().ok()),
                );
            }
        }
        Ok(products)
    };
    tokio::task::spawn_blocking(look)
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
}
