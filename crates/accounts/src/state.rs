//! What the role knows, and the rules for changing it: judged against the view under one lock, appended to the journal, then applied to the view.
//!
//! Start at [`State::open`] and [`State::create_product`]. Does not know gRPC or who calls.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use base::{Clock, CredentialId, Entropy, ErrorKind, ProductId, Role, Timestamp, Verbs, WriterId};
use journal::{CurrentSigner, Entry, Journal, JournalParts, JournalSettings, SegmentId};
use prost::Message;
use seal::{Assertion, Grant, HolderId, InstallationKey, PassError, PrivateKey};
use tokio::sync::Mutex;
use zones::Zones;

use crate::columns::{Change, Columns, Declared, MOST_IDENTITY_COLUMNS, MOST_PERSONAL_COLUMNS};
use crate::facts::{ColumnsSet, CredentialGranted, Fact, ProductMade, What};
use crate::view::{RememberedHead, View, ViewError};

/// The journal's name in the zones.
pub(crate) const JOURNAL: &str = "accounts";

/// What the state works with.
pub struct Parts {
    /// The role's own zones.
    pub zones: Arc<Zones>,
    /// The role's current signer.
    pub signer: CurrentSigner,
    /// What signatures are checked against.
    pub installation: InstallationKey,
    /// Opens the journal.
    pub state_key: PrivateKey,
    /// Where the view lies.
    pub directory: PathBuf,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub entropy: Arc<dyn Entropy>,
    /// How the journal is written.
    pub journal: JournalSettings,
    /// What the vault remembers of this journal.
    pub remembered: Vec<journal::Head>,
}

/// A product's name: 2 to 64 characters of a-z, 0-9, _ and -.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductName(String);

impl ProductName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ProductName {
    type Err = ProductError;
    fn from_str(text: &str) -> Result<Self, ProductError> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
        if (2..=64).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ProductError::Name)
        }
    }
}

impl fmt::Display for ProductName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// Its number.
    pub id: ProductId,
    /// Its name.
    pub name: ProductName,
    /// When it was made.
    pub created_at: Timestamp,
    /// Columns whose values are identities.
    pub identity_columns: Vec<String>,
    /// Columns whose values are sealed: encoded [`base::PersonalColumn`].
    pub personal_columns: Vec<String>,
    /// Whether the identities of one row are of one person.
    pub link_identities: bool,
}

/// Why a fact was not added.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The journal did not take it; nothing of it will appear.
    #[error("the journal did not take it")]
    Append(#[from] journal::AppendError),
    /// The view failed. What the journal took is applied before the next change.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The task that did it died.
    #[error("the change was not finished")]
    Unfinished,
}

impl StateError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Append(error) => error.kind(),
            Self::View(error) => error.kind(),
            Self::Unfinished => ErrorKind::Internal,
        }
    }
}

/// Why a product was not made.
#[derive(Debug, thiserror::Error)]
pub enum ProductError {
    /// The name is not one.
    #[error("a product name has 2 to 64 characters of a-z, 0-9, _ and -")]
    Name,
    /// A column's name cannot be one.
    #[error("identity columns are at most {MOST_IDENTITY_COLUMNS} names of 1 to 128 bytes without comma")]
    IdentityColumns,
    /// It is a column of ours, or none.
    #[error(
        "`{0}` is never a column of people: `time` and `_overflow` are columns of our own, and `uuid` is the id that a record brings; give what is in it another name"
    )]
    Reserved(&'static str),
    /// A column's name cannot be that of a personal one.
    #[error(transparent)]
    PersonalColumn(base::PersonalColumnError),
    /// Too many of them.
    #[error("a product has at most {MOST_PERSONAL_COLUMNS} personal columns")]
    TooManyPersonal,
    /// What is an identity becomes an id and cannot be sealed as well.
    #[error("the column `{0}` is one of identities and cannot be personal as well")]
    Both(String),
    /// There is no such product.
    #[error("there is no such product")]
    Unknown,
    /// The name is taken.
    #[error("there is a product \"{name}\" already: number {number}")]
    Exists {
        /// Its name.
        name: ProductName,
        /// Its number.
        number: ProductId,
    },
    /// The fact could not be added.
    #[error(transparent)]
    State(#[from] StateError),
}

impl ProductError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Name | Self::IdentityColumns | Self::Reserved(_) | Self::PersonalColumn(_) | Self::TooManyPersonal | Self::Both(_) => {
                ErrorKind::Invalid
            }
            Self::Unknown => ErrorKind::NotFound,
            Self::Exists { .. } => ErrorKind::Conflict,
            Self::State(error) => error.kind(),
        }
    }
}

/// Why nothing was granted.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// The assertion is not the vault's, has ended, or was made for somebody else.
    #[error("the assertion does not hold")]
    Assertion(#[from] PassError),
    /// It was made for another caller.
    #[error("the assertion was made for another holder")]
    Holder,
    /// This role has no word on that credential.
    #[error("nothing is granted to this credential")]
    Unknown,
    /// There is no such product.
    #[error("there is no such product")]
    Product,
    /// Something else was granted to it before.
    #[error("this credential was granted something else")]
    Otherwise,
    /// The state could not be read or changed.
    #[error(transparent)]
    State(#[from] StateError),
}

impl GrantError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Assertion(error) => error.kind(),
            // To the world all of these are: that key does not work.
            Self::Holder | Self::Unknown => ErrorKind::Unauthenticated,
            Self::Product => ErrorKind::NotFound,
            Self::Otherwise => ErrorKind::Conflict,
            Self::State(error) => error.kind(),
        }
    }
}

impl From<ViewError> for GrantError {
    fn from(error: ViewError) -> Self {
        Self::State(error.into())
    }
}

/// Why the state could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The journal could not be read back.
    #[error("the journal could not be read back")]
    Recover(#[from] journal::RecoverError),
    /// The journal is older than what another role remembers of it.
    #[error("the journal is not the one that the vault remembers")]
    Head(#[from] journal::HeadError),
    /// The view has seen more than the journal holds.
    #[error("the journal has lost {0} segments that were applied before; its zones hold an older state")]
    WentBack(usize),
    /// A segment's content could not be opened.
    #[error("a segment could not be opened")]
    Segment(#[from] journal::OpenError),
    /// An entry is not one of ours.
    #[error("an entry of the journal cannot be read")]
    Entry(#[from] prost::DecodeError),
    /// The view failed.
    #[error(transparent)]
    View(#[from] ViewError),
}

impl OpenError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Recover(error) => error.kind(),
            Self::Head(error) => error.kind(),
            Self::Segment(error) => error.kind(),
            Self::WentBack(_) | Self::Entry(_) => ErrorKind::Corrupt,
            Self::View(error) => error.kind(),
        }
    }
}

/// The state.
pub struct State {
    installation: InstallationKey,
    signer: CurrentSigner,
    clock: Arc<dyn Clock>,
    view: View,
    // Everything that changes anything holds this from its look at the view until the view shows the change.
    changing: Mutex<Changing>,
}

struct Changing {
    journal: Journal,
    /// In the journal, not yet in the view, because the view failed.
    behind: Vec<(Fact, SegmentId)>,
}

impl State {
    /// Reads the journal back, applies what the view lacks, and starts a new writer.
    pub async fn open(parts: Parts) -> Result<Arc<Self>, OpenError> {
        let recovered = journal::recover(&parts.zones, &parts.installation, Role::Accounts, JOURNAL, None).await?;
        for head in &parts.remembered {
            recovered.check_head(head)?;
        }
        let view = View::open(&parts.directory).await?;
        let known = view.applied().await?;
        let found: HashSet<_> = recovered.segments.iter().map(|segment| segment.id).collect();
        // Fewer segments than were applied once: yesterday's zones must not pass for today's.
        let lost = known.iter().filter(|id| !found.contains(id)).count();
        if lost > 0 {
            return Err(OpenError::WentBack(lost));
        }
        let mut applied = 0_u64;
        for segment in &recovered.segments {
            if known.contains(&segment.id) {
                continue;
            }
            let entries = segment.open(&parts.zones, &parts.state_key).await?;
            let facts = entries
                .iter()
                .map(|entry| Fact::decode(entry.payload.clone()))
                .collect::<Result<Vec<_>, _>>()?;
            view.apply(&facts, &segment.id).await?;
            applied += 1;
        }
        tracing::info!(segments = recovered.segments.len(), applied, "read the journal back");
        let journal_parts = JournalParts {
            zones: Arc::clone(&parts.zones),
            signer: Arc::clone(&parts.signer),
            clock: Arc::clone(&parts.clock),
            entropy: Arc::clone(&parts.entropy),
        };
        let writer = WriterId::generate(parts.clock.now(), &*parts.entropy);
        let journal = Journal::start(
            journal_parts,
            parts.journal,
            JOURNAL,
            None,
            parts.state_key.public(),
            writer,
            recovered.tail(),
        );
        Ok(Arc::new(Self {
            installation: parts.installation,
            signer: parts.signer,
            clock: parts.clock,
            view,
            changing: Mutex::new(Changing {
                journal,
                behind: Vec::new(),
            }),
        }))
    }

    /// Makes a product with the next number.
    pub async fn create_product(self: &Arc<Self>, name: ProductName, declared: Declared) -> Result<Product, ProductError> {
        let columns = Columns::of(&declared.identity_columns, &declared.personal_columns)?;
        let link_identities = declared.link_identities;
        let state = Arc::clone(self);
        // In a task of its own: a caller who goes away must not leave the journal ahead of the view.
        let made = tokio::spawn(async move {
            let mut changing = state.changing.lock().await;
            state.catch_up(&mut changing).await?;
            let products = state.view.products().await.map_err(StateError::from)?;
            if let Some(taken) = products.iter().find(|product| product.name == name) {
                return Err(ProductError::Exists { name, number: taken.id });
            }
            let number = products.last().map_or(1, |last| last.id.get() + 1);
            let created_at = state.clock.now();
            let fact = ProductMade {
                number,
                name: name.as_str().to_owned(),
                created_at: created_at.as_micros(),
                identity_columns: columns.identity.clone(),
                personal_columns: columns.personal.clone(),
                link_identities,
            };
            state.add(&mut changing, What::Product(fact)).await?;
            let id = ProductId::new(number).map_err(|_| StateError::Unfinished)?;
            Ok(Product {
                id,
                name,
                created_at,
                identity_columns: columns.identity,
                personal_columns: columns.personal,
                link_identities,
            })
        });
        made.await.unwrap_or(Err(ProductError::State(StateError::Unfinished)))
    }

    /// Changes what a product says about its columns. Says whether anything is different now.
    pub async fn set_product(self: &Arc<Self>, id: ProductId, change: Change) -> Result<(Product, bool), ProductError> {
        let state = Arc::clone(self);
        let set = tokio::spawn(async move {
            let mut changing = state.changing.lock().await;
            state.catch_up(&mut changing).await?;
            let found = state.view.product(id).await.map_err(StateError::from)?;
            let product = found.ok_or(ProductError::Unknown)?;
            let identity = change.identity_columns.as_ref().unwrap_or(&product.identity_columns);
            let personal = change.personal_columns.as_ref().unwrap_or(&product.personal_columns);
            let columns = Columns::of(identity, personal)?;
            let set = Product {
                identity_columns: columns.identity,
                personal_columns: columns.personal,
                link_identities: change.link_identities.unwrap_or(product.link_identities),
                ..product.clone()
            };
            if set == product {
                return Ok((product, false));
            }
            let fact = ColumnsSet {
                product: id.get(),
                identity_columns: set.identity_columns.clone(),
                personal_columns: set.personal_columns.clone(),
                set_at: state.clock.now().as_micros(),
                link_identities: set.link_identities,
            };
            state.add(&mut changing, What::Columns(fact)).await?;
            Ok((set, true))
        });
        set.await.unwrap_or(Err(ProductError::State(StateError::Unfinished)))
    }

    /// All products.
    pub async fn products(&self) -> Result<Vec<Product>, ViewError> {
        self.view.products().await
    }

    /// Says what a credential may do. Saying the same again is fine; saying something else is not.
    pub async fn grant_credential(self: &Arc<Self>, credential: CredentialId, product: ProductId, verbs: Verbs) -> Result<(), GrantError> {
        let state = Arc::clone(self);
        let done = tokio::spawn(async move {
            let mut changing = state.changing.lock().await;
            state.catch_up(&mut changing).await?;
            if state.view.product(product).await?.is_none() {
                return Err(GrantError::Product);
            }
            match state.view.product_of(&credential).await? {
                Some(other) if other != product => return Err(GrantError::Otherwise),
                Some(_) => {
                    let same = state.view.verbs(product, &credential).await? == Some(verbs);
                    return if same { Ok(()) } else { Err(GrantError::Otherwise) };
                }
                None => {}
            }
            let fact = CredentialGranted {
                credential: credential.to_bytes().to_vec(),
                product: product.get(),
                verbs: verbs.bits(),
                granted_at: state.clock.now().as_micros(),
            };
            Ok(state.add(&mut changing, What::Grant(fact)).await?)
        });
        done.await.unwrap_or(Err(GrantError::State(StateError::Unfinished)))
    }

    /// Turns an assertion that `holder` shows into a grant, and says which product it is about.
    pub async fn grant(&self, signed_assertion: &[u8], holder: &HolderId) -> Result<(Vec<u8>, Product), GrantError> {
        let assertion = Assertion::verify(&self.installation, signed_assertion, self.clock.now())?;
        if assertion.holder != *holder {
            return Err(GrantError::Holder);
        }
        let verbs = self
            .view
            .verbs(assertion.product, &assertion.credential)
            .await?
            .ok_or(GrantError::Unknown)?;
        let product = self.view.product(assertion.product).await?.ok_or(GrantError::Unknown)?;
        let grant = Grant::answering(&assertion, signed_assertion, verbs, base::Scope::Product);
        Ok((grant.sign(&(self.signer)()), product))
    }

    /// How long the journal is.
    pub async fn head(&self) -> journal::Head {
        self.changing.lock().await.journal.head()
    }

    /// The same for others to remember; none while the end that was found at the start may give way to another.
    pub(crate) async fn decided(&self) -> Option<journal::Head> {
        self.changing.lock().await.journal.decided()
    }

    pub(crate) async fn heads_of(&self, role: Role) -> Result<Vec<RememberedHead>, ViewError> {
        self.view.heads(role).await
    }

    pub(crate) async fn remember(&self, role: Role, heads: &[RememberedHead]) -> Result<bool, ViewError> {
        self.view.remember(role, heads).await
    }

    /// The head of the audit journal that was signed last: how many records, and the root over them.
    pub(crate) async fn audit_head(&self) -> Result<Option<(u64, audit::Hash)>, ViewError> {
        self.view.audit_head().await
    }

    pub(crate) async fn keep_audit_head(&self, size: u64, root: &audit::Hash) -> Result<(), ViewError> {
        self.view.keep_audit_head(size, root).await
    }

    /// Ends the journal's writer and closes the view. Every change was durable before it was answered.
    pub async fn close(&self) {
        let changing = self.changing.lock().await;
        changing.journal.close().await;
        self.view.close().await;
    }

    async fn add(&self, changing: &mut Changing, what: What) -> Result<(), StateError> {
        let fact = Fact::from(what);
        let entry = Entry::sealed(fact.encode_to_vec());
        // After `Undecided` the next change takes this one's place in the journal, and a restart may find it there: never both.
        // The lock makes this segment hold this fact alone, so that it can be marked as applied as a whole.
        let segment = changing.journal.append(entry).await?;
        changing.behind.push((fact, segment));
        self.catch_up(changing).await
    }

    async fn catch_up(&self, changing: &mut Changing) -> Result<(), StateError> {
        while let Some((fact, segment)) = changing.behind.first() {
            self.view.apply(std::slice::from_ref(fact), segment).await?;
            changing.behind.remove(0);
        }
        Ok(())
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("State")
    }
}
