//! How the vault starts: it is the authority that certifies everybody, so it has to begin with itself.
//!
//! [`prepare`] touches files and needs no runtime; [`PreparedVault::open`] reads the journal, brings the view up to it
//! and makes the vault's own certificates; [`OpenedVault::serve`] takes calls. Between the first two a role enters its
//! sandbox, between the last two the binary makes the context.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use base::{Clock, Entropy, ErrorKind, Role, WriterId};
use edge::rebuild::Order;
use edge::{CurrentSigner, RoleTls, TlsError, TlsKey};
use journal::{Journal, JournalParts, OpenError as SegmentError, RecoverError, Recovered, recover};
use prost::Message;
use rustls_pki_types::CertificateDer;
use seal::{InstallationKey, SealError, Signer, unwrap, wrap};
use tokio::sync::Mutex;
use zones::Zones;

use crate::audit::{self, AuditViewError};
use crate::authority::{Authority, AuthorityError, SKEW};
use crate::custody::Unlocked;
use crate::entries::{self, AuthorityCreated, Entry, Fact, bound};
use crate::holder::{Holder, without_file};
use crate::keyring::{Keyring, KeyringError, Writer};
use crate::people_keys;
use crate::rebuild::Rebuilding;
use crate::root::{RootKey, RootKeyError};
use crate::sealed::SealedVault;
use crate::sealed_root::{self, SealedRoot, SealedRootError, can_destroy, destroy};
use crate::services::Shared;
use crate::settings::SettingsError;
use crate::token::Token;
use crate::tokens::Tokens;
use crate::view::{View, ViewError};
use crate::{RunError, VaultSettings};

/// The name of the vault's journal.
pub(crate) const JOURNAL: &str = "vault";
pub(crate) const VIEW: &str = "vault.sqlite";

/// Why the vault did not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Settings that would break a promise.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Zones that would break a promise.
    #[error(transparent)]
    Zones(#[from] zones::SettingsError),
    /// The root key.
    #[error(transparent)]
    RootKey(#[from] RootKeyError),
    /// There is a journal, and its root key is missing or another: it must not be started over.
    #[error("the zones hold a vault's journal that {path} is not the root key of; put the right one back, nothing opens without it")]
    AnotherRootKey {
        /// Where it should be.
        path: PathBuf,
    },
    /// The journal could not be read, or is not believed.
    #[error("the vault's journal could not be recovered")]
    Recover(#[from] RecoverError),
    /// One of its segments does not open.
    #[error("a segment of the vault's journal does not open")]
    Segment(#[from] SegmentError),
    /// What is to be rebuilt was never there, or its root key is gone.
    #[error("{path} is not there: without its root key nothing of an installation can be rebuilt; put it back, no other one opens it")]
    NoRootKey {
        /// Where it should be.
        path: PathBuf,
    },
    /// What takes the place of a root key file once it is split.
    #[error(transparent)]
    SealedRoot(#[from] SealedRootError),
    /// There are two root keys, and they are of different installations.
    #[error(
        "{sealed} is sealed, and {file} is there as well and is another root key: neither was touched. Take away the one that is not this installation's, and start again"
    )]
    TwoRootKeys {
        /// The root key file.
        file: PathBuf,
        /// What the shares open.
        sealed: PathBuf,
    },
    /// It takes a token, and none is set up.
    #[error("{sealed} opens with a hardware token only: set vault.pkcs11 to the one that it was sealed with")]
    NoToken {
        /// What does not open.
        sealed: PathBuf,
    },
    /// The vault's directory was lost, its zones are there.
    #[error("{path} was gone and is put back from the zones: the root key is with people or in a token; start again, and unseal")]
    PutBack {
        /// Where it was put.
        path: PathBuf,
    },
    /// It could not take shares.
    #[error("the sealed vault could not take calls")]
    Waiting(#[source] RunError),
    /// What is to be rebuilt has no journal.
    #[error("the vault's zones hold no journal: there is nothing to rebuild from")]
    NothingToRebuild,
    /// A new view could not be made.
    #[error("the vault's view could not be made anew")]
    Replace(#[source] std::io::Error),
    /// The view has seen more than the journal holds.
    #[error("the vault's journal has lost {0} segments that were applied before; its zones hold an older state")]
    JournalWentBack(usize),
    /// An entry is not one.
    #[error("an entry of the vault's journal cannot be read by this version")]
    Entry(#[from] prost::DecodeError),
    /// The view of the audit journal failed, or that journal is not what it was.
    #[error(transparent)]
    Audit(#[from] AuditViewError),
    /// The audit journal is an older state than its view has seen.
    #[error("the audit journal is not the one that its view has seen")]
    AuditWentBack(#[source] journal::HeadError),
    /// The view failed.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The first entries could not be made durable.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The vault's own certificate.
    #[error("the vault's own certificate cannot be used")]
    Tls(#[from] TlsError),
    /// A stored secret does not open.
    #[error("what the vault stored does not open with this root key")]
    Seal(#[from] SealError),
}

impl OpenError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Settings(error) => error.kind(),
            Self::Zones(error) => error.kind(),
            Self::RootKey(error) => error.kind(),
            Self::Recover(error) => error.kind(),
            Self::Segment(error) => error.kind(),
            Self::View(error) => error.kind(),
            Self::Audit(error) => error.kind(),
            Self::AuditWentBack(error) => error.kind(),
            Self::Keyring(error) => error.kind(),
            Self::Authority(error) => error.kind(),
            Self::Tls(error) => error.kind(),
            Self::Seal(error) => error.kind(),
            Self::SealedRoot(error) => error.kind(),
            Self::PutBack { .. } => ErrorKind::Unavailable,
            Self::TwoRootKeys { .. } => ErrorKind::Conflict,
            Self::Waiting(error) => error.kind(),
            Self::NoRootKey { .. } | Self::NoToken { .. } | Self::NothingToRebuild => ErrorKind::NotFound,
            Self::Replace(_) => ErrorKind::Unavailable,
            Self::AnotherRootKey { .. } | Self::JournalWentBack(_) | Self::Entry(_) => ErrorKind::Corrupt,
        }
    }
}

/// What the vault works with before there is a context.
#[derive(Debug, Clone)]
pub struct VaultParts {
    /// The vault's own directory.
    pub directory: PathBuf,
    /// What [`VaultSettings::pkcs11`] names.
    pub token: Option<Arc<dyn Token>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub entropy: Arc<dyn Entropy>,
}

/// How a vault begins.
#[derive(Debug)]
pub enum Prepared {
    /// Its root key is in its file or in a token, or is made now.
    Open(Box<PreparedVault>),
    /// Its root key is with people.
    Sealed(Box<SealedVault>),
}

/// Root key read, zones opened; nothing served and nothing written yet.
pub struct PreparedVault {
    settings: VaultSettings,
    parts: VaultParts,
    root: RootKey,
    root_path: PathBuf,
    /// Where the root key is with people or in a token.
    sealed: Option<SealedRoot>,
    /// What takes the place of the root key file.
    moving: Option<SealedRoot>,
    first_start: bool,
    zones: Arc<Zones>,
    rebuilding: Option<Rebuilding>,
}

impl fmt::Debug for PreparedVault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PreparedVault")
    }
}

/// Reads the root key and opens the zones, or finds that the root key is with people. Blocks.
pub fn prepare(settings: VaultSettings, parts: VaultParts) -> Result<Prepared, OpenError> {
    prepare_for(settings, parts, None)
}

/// The same for a vault that is started to rebuild: it makes its view anew, and lends keys for that and for nothing else. Never a first
/// start. Blocks.
pub fn prepare_to_rebuild(settings: VaultSettings, parts: VaultParts, order: Order) -> Result<Prepared, OpenError> {
    prepare_for(settings, parts, Some(Rebuilding::of(order)))
}

fn prepare_for(settings: VaultSettings, parts: VaultParts, rebuilding: Option<Rebuilding>) -> Result<Prepared, OpenError> {
    settings.check()?;
    let root_path = parts.directory.join(&settings.root_key);
    let sealed_path = parts.directory.join(sealed_root::FILE);
    if let Some(sealed) = SealedRoot::read(&sealed_path)? {
        if sealed.is_by_token() {
            let token = parts.token.as_ref().ok_or(OpenError::NoToken { sealed: sealed_path })?;
            let root = sealed.open_by(&**token)?;
            without_file(&root, &parts.directory, &root_path)?;
            let prepared = with_root(settings, parts, root, root_path, Some(sealed), false, rebuilding)?;
            return Ok(Prepared::Open(Box::new(prepared)));
        }
        if settings.pkcs11.is_some() {
            tracing::warn!("vault.pkcs11 is not used: the root key is with people, and only they can give it to another holder");
        }
        return Ok(Prepared::Sealed(Box::new(SealedVault {
            settings,
            parts,
            root_path,
            sealed,
            rebuilding,
        })));
    }
    let kept = RootKey::read(&root_path)?;
    let first_start = kept.is_none();
    let root = kept.unwrap_or_else(|| RootKey::generate(&*parts.entropy));
    let moving = match &parts.token {
        Some(token) if rebuilding.is_none() => {
            if !first_start {
                can_destroy(&root_path)?;
            }
            let now = parts.clock.now();
            Some(SealedRoot::by_token(&root, &**token, 1, now, &*parts.entropy)?)
        }
        _ => None,
    };
    let mut prepared = with_root(settings, parts, root, root_path, None, first_start, rebuilding)?;
    prepared.moving = moving;
    Ok(Prepared::Open(Box::new(prepared)))
}

/// Opens the zones. Blocks.
pub(crate) fn with_root(
    settings: VaultSettings,
    parts: VaultParts,
    root: RootKey,
    root_path: PathBuf,
    sealed: Option<SealedRoot>,
    first_start: bool,
    rebuilding: Option<Rebuilding>,
) -> Result<PreparedVault, OpenError> {
    let mut zones_settings = settings.zones.clone();
    zones_settings.grave_key = zones::GraveKey::new(*root.graves().reveal());
    zones_settings.role = Role::Vault.to_string();
    let zones = Zones::open(zones_settings, first_start && rebuilding.is_none(), Arc::clone(&parts.clock))?;
    let (key, mark) = (root.installation().key(), root.mark());
    zones.vouch_with(Arc::new(move |name, object| {
        journal::is_segment(&key, Role::Vault, name, object) || SealedRoot::is_own(&mark, name, object)
    }));
    Ok(PreparedVault {
        settings,
        parts,
        root,
        root_path,
        sealed,
        moving: None,
        first_start,
        zones,
        rebuilding,
    })
}

impl PreparedVault {
    /// Reads the journal, brings the view up to it, and certifies the vault itself.
    pub async fn open(self) -> Result<OpenedVault, OpenError> {
        let Self {
            settings,
            parts,
            root,
            root_path,
            mut sealed,
            moving,
            first_start,
            zones,
            rebuilding,
        } = self;
        let sealed_path = parts.directory.join(sealed_root::FILE);
        if first_start {
            // An installation whose vault lost its directory is not a new one.
            let least = if rebuilding.is_some() { 1 } else { zones.needed() };
            if let Some(found) = SealedRoot::find(&zones, least).await {
                found.write(&sealed_path)?;
                return Err(OpenError::PutBack { path: sealed_path });
            }
            if rebuilding.is_some() {
                return Err(OpenError::NoRootKey { path: root_path });
            }
        }
        let installation = root.installation();
        let recovered = recover(&zones, &installation.key(), Role::Vault, JOURNAL, None).await?;
        // A journal of which nothing is believed was signed under another root key: going on would start it over.
        if recovered.segments.is_empty() && !recovered.refused.is_empty() {
            let path = if sealed.is_some() { sealed_path } else { root_path };
            return Err(OpenError::AnotherRootKey { path });
        }
        let root = match moving {
            Some(next) => {
                let root = to_token(root, next.clone(), sealed_path.clone(), root_path.clone()).await?;
                sealed = Some(next);
                root
            }
            None if first_start => keep(root, root_path.clone()).await?,
            None => root,
        };
        match &sealed {
            None => tracing::warn!(path = %root_path.display(),
                "DEVELOPMENT ROOT KEY: whoever reads this file can open everything in this installation; it is not split among people (`coffer vault init` does that)"),
            Some(sealed) => {
                if let Err(error) = sealed.put(&zones).await {
                    tracing::warn!(
                        error,
                        "the zones do not hold the present sealed root yet; the next start tries again"
                    );
                }
            }
        }

        if rebuilding.is_some() && recovered.segments.is_empty() {
            return Err(OpenError::NothingToRebuild);
        }
        let at = parts.directory.join(VIEW);
        if let Some(rebuilding) = &rebuilding {
            rebuilding.view(&at, &zones, &root, &recovered).await?;
        }
        let view = View::open(&at).await?;
        catch_up(&view, &zones, &root, &recovered).await?;
        if let Some(rebuilding) = &rebuilding {
            rebuilding.tell(&view, &recovered).await?;
        }

        let (signer, current) = {
            let uncertified = Signer::generate(&*parts.entropy);
            let now = parts.clock.now();
            let from = base::Timestamp::from_micros(now.as_micros() - i64::try_from(SKEW.as_micros()).unwrap_or_default());
            let until = now.plus(settings.certificate_lifetime);
            let certificate = installation.certify(Role::Vault, uncertified.public_key(), from, until);
            let signer = uncertified.certified(certificate)?;
            (signer.clone(), CurrentSigner::new(signer))
        };
        let newest = current.clone();
        let journal_parts = JournalParts {
            zones: Arc::clone(&zones),
            signer: Arc::new(move || newest.get()),
            clock: Arc::clone(&parts.clock),
            entropy: Arc::clone(&parts.entropy),
        };
        let journal = {
            let writer = WriterId::generate(parts.clock.now(), &*parts.entropy);
            Journal::start(
                journal_parts.clone(),
                settings.journal.clone(),
                JOURNAL,
                None,
                root.journal().public(),
                writer,
                recovered.tail(),
            )
        };
        let opening = audit::Opening {
            directory: &parts.directory,
            zones: &zones,
            key: installation.key(),
            private: root.journal(),
            hashes: root.audit_hashes(),
            signer: current.clone(),
            clock: &parts.clock,
            entropy: &parts.entropy,
            journal: settings.journal.clone(),
            keeping: settings.keeping,
            rebuilding: rebuilding.as_ref(),
        };
        let audit = Arc::new(Box::pin(audit::open(opening)).await?);
        let keyring = Keyring {
            wrapping: root.wrapping(),
            pepper: root.pepper(),
            root,
            view,
            unlocked: Unlocked::default(),
            lookups: settings.lookups,
            writer: Mutex::new(Writer {
                journal,
                unapplied: Vec::new(),
            }),
            clock: Arc::clone(&parts.clock),
            entropy: Arc::clone(&parts.entropy),
            trimming: journal_parts,
        };
        people_keys::sweep(&zones, &recovered.superseded).await;
        let authority = load_authority(&keyring).await?;
        let shared = Shared {
            settings,
            keyring,
            holder: Holder::new(root_path, sealed_path, Arc::clone(&zones), sealed),
            authority,
            installation,
            signer: current,
            tokens: Tokens::default(),
            audit,
            rebuilding,
            clock: Arc::clone(&parts.clock),
            entropy: Arc::clone(&parts.entropy),
        };
        let tls = own_tls(&shared, &signer)?;
        Ok(OpenedVault {
            shared: Arc::new(shared),
            tls: Arc::new(tls),
            zones,
            recovered,
        })
    }
}

/// The vault with everything that the rest of the installation needs to trust it. Takes no calls yet.
pub struct OpenedVault {
    pub(crate) shared: Arc<Shared>,
    pub(crate) tls: Arc<RoleTls>,
    pub(crate) zones: Arc<Zones>,
    pub(crate) recovered: Recovered,
}

impl fmt::Debug for OpenedVault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenedVault")
    }
}

impl OpenedVault {
    /// The vault's own certificate and key, for its context.
    pub fn tls(&self) -> Arc<RoleTls> {
        Arc::clone(&self.tls)
    }

    /// What the vault signs with, for its context.
    pub fn signer(&self) -> CurrentSigner {
        self.shared.signer.clone()
    }

    /// What signatures of this installation are checked against.
    pub fn installation(&self) -> InstallationKey {
        self.shared.installation.key()
    }

    /// The internal authority's certificate, for `ca.pem`.
    pub fn ca_certificate(&self) -> CertificateDer<'static> {
        self.shared.authority.certificate().clone()
    }
}

// The file goes only when the token's own wrapping lies durably on the disk; it was opened once before.
async fn to_token(root: RootKey, next: SealedRoot, sealed_path: PathBuf, root_path: PathBuf) -> Result<RootKey, OpenError> {
    let moved = tokio::task::spawn_blocking(move || {
        next.write(&sealed_path)?;
        tracing::warn!("the root key is in the token from now on: without it, and its key, nothing of this installation opens");
        if let Err(error) = destroy(&root_path) {
            tracing::warn!(path = %root_path.display(), %error,
                "the root key file could not be removed: remove it by hand, whoever reads it needs no token");
        }
        Ok(root)
    });
    moved.await.expect("writing a file does not panic")
}

// Written only when no journal waits for another key, and before anything is sealed to it.
async fn keep(root: RootKey, path: PathBuf) -> Result<RootKey, OpenError> {
    let written = tokio::task::spawn_blocking(move || root.write(&path).map(|()| root)).await;
    Ok(written.expect("writing a file does not panic")?)
}

/// Puts into the view what it lacks of the journal.
pub(crate) async fn catch_up(view: &View, zones: &Zones, root: &RootKey, recovered: &Recovered) -> Result<(), OpenError> {
    let private = root.journal();
    let applied = view.applied().await?;
    let mut missing: HashSet<_> = applied.clone();
    let mut fresh = 0;
    for segment in &recovered.segments {
        let position = (segment.id.writer.to_bytes(), segment.id.sequence);
        missing.remove(&position);
        if applied.contains(&position) {
            continue;
        }
        let stored = segment.open(zones, &private).await?;
        let facts = stored
            .iter()
            .map(|entry| Entry::decode(&*entry.payload))
            .collect::<Result<Vec<_>, _>>()?;
        view.apply(position, &facts).await?;
        fresh += 1;
    }
    // Fewer segments than were applied once: yesterday's zones must not pass for today's.
    if !missing.is_empty() {
        return Err(OpenError::JournalWentBack(missing.len()));
    }
    tracing::info!(segments = recovered.segments.len(), fresh, "the vault's view holds its journal");
    Ok(())
}

async fn load_authority(keyring: &Keyring) -> Result<Authority, OpenError> {
    if let Some((certificate, wrapped)) = keyring.view.authority().await? {
        let key = unwrap(&keyring.wrapping, bound::AUTHORITY, &wrapped)?;
        return Ok(Authority::load(&certificate, key.reveal())?);
    }
    let now = keyring.clock.now();
    let (authority, key) = Authority::create(now, &*keyring.entropy)?;
    let fact = Fact::Authority(AuthorityCreated {
        certificate: authority.certificate().to_vec(),
        wrapped_key: wrap(&keyring.wrapping, bound::AUTHORITY, key.reveal(), &*keyring.entropy),
        at: entries::now(now),
    });
    keyring.commit(&mut *keyring.writer.lock().await, fact).await?;
    tracing::info!("made the internal certificate authority");
    Ok(authority)
}

fn own_tls(shared: &Shared, signer: &Signer) -> Result<RoleTls, OpenError> {
    let key = TlsKey::generate()?;
    let request = key.certificate_request(&[Role::Vault.server_name()])?;
    let (issued, _) = shared.certify(Role::Vault, &request, *signer.certificate().public_key())?;
    Ok(RoleTls::new(
        Role::Vault,
        vec![issued.certificate],
        key,
        shared.authority.certificate(),
        Arc::clone(&shared.clock),
    )?)
}
