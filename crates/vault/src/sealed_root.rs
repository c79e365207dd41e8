//! The vault's secrets, wrapped under a root key that is in no file: what lies on the disk, and in the zones, of an installation whose
//! root key was split among people, or is wrapped by a hardware token.
//!
//! Promise: it says who holds the root key and by what a share and the key are known again, and nothing of the key. It opens with that
//! key only, whole. In the directory it is replaced at once or not at all; in zones it carries a mark that only an unsealed vault can make.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base::{Entropy, ErrorKind, SecretBytes, Timestamp};
use bytes::Bytes;
use prost::Message;
use seal::shares::{SetId, Share};
use seal::{DataKey, Purpose, SealError, derive, keyed_hash, unwrap, wrap};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;
use zones::{ObjectName, Zones};

use crate::root::RootKey;
use crate::token::{Token, TokenError};

/// Beside the root key file, whose place it takes.
pub(crate) const FILE: &str = "root.sealed";
/// Below which copies lie in the vault's zones.
const IN_ZONES: &str = "root";
const MAGIC: &[u8; 7] = b"cfroot\0";
/// Of one whose key is split among people.
const SHARED: u8 = 1;
/// Of one whose key a token wrapped.
const BY_TOKEN: u8 = 2;
const LONGEST: u64 = 64 << 10;
const HEAD: usize = MAGIC.len() + 1 + 32;

/// Why there is no sealed root.
#[derive(Debug, thiserror::Error)]
pub enum SealedRootError {
    /// Reading or writing failed.
    #[error("{path} cannot be {action}")]
    File {
        /// Where.
        path: PathBuf,
        /// "read", "written" or "removed".
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Not what was written.
    #[error("{path} is damaged: put a copy of it back; while a root key file is there, removing it instead goes back to that one")]
    Damaged {
        /// Where.
        path: PathBuf,
    },
    /// Of a later form.
    #[error(
        "{path} was written by a newer version of Coffer (format {found}, this one knows up to {BY_TOKEN}): use that version, or a newer one"
    )]
    Newer {
        /// Where.
        path: PathBuf,
        /// Its format.
        found: u8,
    },
    /// It does not open with the key.
    #[error("the sealed root does not open with this root key")]
    DoesNotOpen(#[source] SealError),
    /// The token did not do its part.
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl SealedRootError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::File { .. } => ErrorKind::Internal,
            Self::Newer { .. } => ErrorKind::Internal,
            Self::Damaged { .. } | Self::DoesNotOpen(_) => ErrorKind::Corrupt,
            Self::Token(error) => error.kind,
        }
    }
}

/// Stored record: a number once given is never given again.
#[derive(Clone, PartialEq, prost::Message)]
struct Stored {
    #[prost(bytes = "vec", tag = "1")]
    set: Vec<u8>,
    #[prost(uint32, tag = "2")]
    threshold: u32,
    /// Of each share, in the order of their numbers from 1.
    #[prost(bytes = "vec", repeated, tag = "3")]
    share_hashes: Vec<Vec<u8>>,
    /// Of the root key.
    #[prost(bytes = "vec", tag = "4")]
    check: Vec<u8>,
    /// The secrets, under the root key.
    #[prost(bytes = "vec", tag = "5")]
    wrapped: Vec<u8>,
    #[prost(int64, tag = "6")]
    at: i64,
    /// Of two sealed roots of one installation the one with the higher number is the present one.
    #[prost(uint64, tag = "7")]
    number: u64,
    /// Over all of the above, with a key of the vault.
    #[prost(bytes = "vec", tag = "8")]
    mark: Vec<u8>,
    /// The root key as a token wrapped it; then there are no shares.
    #[prost(bytes = "vec", optional, tag = "9")]
    by_token: Option<Vec<u8>>,
}

/// What is wrapped. Stored record as well.
#[derive(Clone, PartialEq, prost::Message)]
struct Secrets {
    /// From which everything of the vault is derived.
    #[prost(bytes = "vec", tag = "1")]
    seed: Vec<u8>,
}

/// A sealed root.
#[derive(Debug, Clone)]
pub(crate) struct SealedRoot {
    set: SetId,
    threshold: u8,
    hashes: Vec<[u8; 32]>,
    stored: Stored,
}

impl SealedRoot {
    /// Of `root` under `key`, which was split into `shares`.
    pub(crate) fn seal(root: &RootKey, key: &DataKey, shares: &[Share], number: u64, at: Timestamp, entropy: &dyn Entropy) -> Option<Self> {
        let first = shares.first()?;
        let stored = Stored {
            threshold: first.threshold().into(),
            share_hashes: shares.iter().map(|share| share.hash().to_vec()).collect(),
            ..Stored::default()
        };
        Self::under(root, key, first.set(), stored, number, at, entropy)
    }

    /// Of `root` under a new key, which `token` wraps. It was opened once that way. Blocks.
    pub(crate) fn by_token(
        root: &RootKey,
        token: &dyn Token,
        number: u64,
        at: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<Self, SealedRootError> {
        let wrong = || SealedRootError::DoesNotOpen(SealError::DoesNotOpen { what: "root" });
        let mut set = SetId::default();
        entropy.fill(&mut set);
        let key = DataKey::generate(entropy);
        let stored = Stored {
            by_token: Some(token.wrap(&key, &for_token(&set))?),
            ..Stored::default()
        };
        let made = Self::under(root, &key, set, stored, number, at, entropy).ok_or_else(wrong)?;
        drop(key);
        let opened = made.open_by(token)?;
        bool::from(opened.reveal().ct_eq(root.reveal())).then_some(made).ok_or_else(wrong)
    }

    fn under(root: &RootKey, key: &DataKey, set: SetId, stored: Stored, number: u64, at: Timestamp, entropy: &dyn Entropy) -> Option<Self> {
        let mut secrets = Secrets {
            seed: root.reveal().to_vec(),
        };
        let plain = Zeroizing::new(secrets.encode_to_vec());
        zeroize::Zeroize::zeroize(&mut secrets.seed);
        let wrapped = wrap(
            &derive(key.reveal(), Purpose::RootSealing, &set),
            &bound(&set, number),
            &plain,
            entropy,
        );
        let mut stored = Stored {
            set: set.to_vec(),
            check: check_value(key, &set).to_vec(),
            wrapped,
            at: at.as_micros(),
            number,
            ..stored
        };
        stored.mark = mark(root, &stored).to_vec();
        Self::of(stored)
    }

    /// Opens it. The key is compared with the check value first.
    pub(crate) fn open(&self, key: &DataKey) -> Result<RootKey, SealedRootError> {
        let wrong = || SealedRootError::DoesNotOpen(SealError::DoesNotOpen { what: "root" });
        if !self.is_key(key) {
            return Err(wrong());
        }
        let under = derive(key.reveal(), Purpose::RootSealing, &self.set);
        let plain: SecretBytes =
            unwrap(&under, &bound(&self.set, self.stored.number), &self.stored.wrapped).map_err(SealedRootError::DoesNotOpen)?;
        let mut secrets = Secrets::decode(plain.reveal()).map_err(|_| wrong())?;
        let root = RootKey::from_bytes(&secrets.seed);
        zeroize::Zeroize::zeroize(&mut secrets.seed);
        root.ok_or_else(wrong)
    }

    /// Opens it with the key that `token` unwraps. Blocks.
    pub(crate) fn open_by(&self, token: &dyn Token) -> Result<RootKey, SealedRootError> {
        let wrong = || SealedRootError::DoesNotOpen(SealError::DoesNotOpen { what: "root" });
        let wrapped = self.stored.by_token.as_ref().ok_or_else(wrong)?;
        self.open(&token.unwrap(wrapped, &for_token(&self.set))?)
    }

    /// Whether a token holds its key, and not people.
    pub(crate) fn is_by_token(&self) -> bool {
        self.stored.by_token.is_some()
    }

    /// Whether this is the root key, by its check value.
    pub(crate) fn is_key(&self, key: &DataKey) -> bool {
        check_value(key, &self.set).ct_eq(&self.stored.check[..]).into()
    }

    /// Whether this is a share that was given out.
    pub(crate) fn is_share(&self, share: &Share) -> bool {
        let known = usize::from(share.number()).checked_sub(1).and_then(|at| self.hashes.get(at));
        share.set() == self.set && known.is_some_and(|hash| bool::from(hash.ct_eq(&share.hash())))
    }

    /// Which split its key is known by.
    pub(crate) fn set(&self) -> SetId {
        self.set
    }

    /// How many shares are needed.
    pub(crate) fn threshold(&self) -> u8 {
        self.threshold
    }

    /// How many shares there are.
    pub(crate) fn shares(&self) -> u8 {
        // Not more than a share's number can say: see `of`.
        u8::try_from(self.hashes.len()).unwrap_or(u8::MAX)
    }

    pub(crate) fn number(&self) -> u64 {
        self.stored.number
    }

    /// Whether it is the same in everything.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.stored == other.stored
    }

    fn of(stored: Stored) -> Option<Self> {
        let set = stored.set.as_slice().try_into().ok()?;
        let threshold = u8::try_from(stored.threshold).ok()?;
        let hashes: Vec<[u8; 32]> = stored
            .share_hashes
            .iter()
            .map(|hash| hash.as_slice().try_into().ok())
            .collect::<Option<_>>()?;
        let count = u8::try_from(hashes.len()).ok()?;
        match &stored.by_token {
            Some(_) => (count == 0 && threshold == 0).then_some(())?,
            None => seal::shares::check_numbers(count, threshold).ok()?,
        }
        (stored.check.len() == 32).then_some(Self {
            set,
            threshold,
            hashes,
            stored,
        })
    }

    fn to_bytes(&self) -> Vec<u8> {
        let body = self.stored.encode_to_vec();
        let mut bytes = Vec::with_capacity(HEAD + body.len());
        bytes.extend_from_slice(MAGIC);
        bytes.push(if self.is_by_token() { BY_TOKEN } else { SHARED });
        bytes.extend_from_slice(blake3::hash(&body).as_bytes());
        bytes.extend_from_slice(&body);
        bytes
    }

    /// `Err` holds the format, where it is a later one.
    fn from_bytes(bytes: &[u8]) -> Result<Self, Option<u8>> {
        let (head, body) = bytes.split_at_checked(HEAD).ok_or(None)?;
        let (magic, head) = head.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(None);
        }
        match head[0] {
            SHARED | BY_TOKEN => {}
            found if found > BY_TOKEN => return Err(Some(found)),
            _ => return Err(None),
        }
        if blake3::hash(body).as_bytes() != &head[1..] {
            return Err(None);
        }
        let stored = Stored::decode(body).ok().and_then(Self::of);
        stored.filter(|one| one.is_by_token() == (head[0] == BY_TOKEN)).ok_or(None)
    }

    /// The one in the file, or `None` when there is no such file.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, SealedRootError> {
        let failed = |source| SealedRootError::File {
            path: path.to_owned(),
            action: "read",
            source,
        };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut bytes = Vec::new();
        file.take(LONGEST).read_to_end(&mut bytes).map_err(failed)?;
        Self::from_bytes(&bytes).map(Some).map_err(|newer| match newer {
            Some(found) => SealedRootError::Newer {
                path: path.to_owned(),
                found,
            },
            None => SealedRootError::Damaged { path: path.to_owned() },
        })
    }

    /// Puts it at `path`, durably, in place of what is there; reads it again before it takes the place.
    pub(crate) fn write(&self, path: &Path) -> Result<(), SealedRootError> {
        let failed = |source| SealedRootError::File {
            path: path.to_owned(),
            action: "written",
            source,
        };
        let new = path.with_extension("new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)
            .map_err(failed)?;
        file.write_all(&self.to_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        match Self::read(&new)? {
            Some(read) if read.is(self) => {}
            _ => return Err(SealedRootError::Damaged { path: new }),
        }
        fs::rename(&new, path).map_err(failed)?;
        sync_directory(path).map_err(failed)
    }

    /// Puts it into the zones, and takes out what is there of earlier ones.
    pub(crate) async fn put(&self, zones: &Zones) -> Result<(), String> {
        let bytes = Bytes::from(self.to_bytes());
        let name = ObjectName::new(IN_ZONES, &format!("{:08}", self.stored.number), &bytes).map_err(|error| error.to_string())?;
        let there = zones.list(IN_ZONES).await.map_err(|error| error.to_string())?;
        if !there.iter().any(|listed| listed.name == name) {
            zones.put(&name, bytes).await.map_err(|error| error.to_string())?;
        }
        for earlier in there.into_iter().filter(|listed| listed.name != name) {
            zones.delete(&earlier.name).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// The newest one that as many as `least` of the zones hold: with a majority, nobody who owns one of them says what it is. Nothing else
    /// vouches for it but the shares that open it.
    pub(crate) async fn find(zones: &Zones, least: usize) -> Option<Self> {
        let mut found: Option<Self> = None;
        for listed in zones.list(IN_ZONES).await.ok()? {
            if listed.zones < least {
                continue;
            }
            let Ok(bytes) = zones.get(&listed.name, LONGEST).await else {
                continue;
            };
            match Self::from_bytes(&bytes) {
                Ok(one) if found.as_ref().is_none_or(|best| best.number() < one.number()) => found = Some(one),
                _ => {}
            }
        }
        found
    }

    /// Whether an object in the zones is one that this vault made.
    pub(crate) fn is_own(mark_key: &DataKey, name: &ObjectName, bytes: &Bytes) -> bool {
        name.prefix() == IN_ZONES
            && Self::from_bytes(bytes).is_ok_and(|one| {
                let made = marked(mark_key, &one.stored);
                made.ct_eq(&one.stored.mark[..]).into()
            })
    }
}

/// Whether [`destroy`] could do its work: the file can be written to, and its directory changed.
pub(crate) fn can_destroy(path: &Path) -> Result<(), SealedRootError> {
    let failed = |source| SealedRootError::File {
        path: path.to_owned(),
        action: "removed",
        source,
    };
    OpenOptions::new().write(true).open(path).map_err(failed)?;
    let trial = path.with_extension("new");
    match fs::remove_file(&trial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&trial);
    made.and_then(|_| fs::remove_file(&trial)).map_err(failed)
}

/// Overwrites a root key file and removes it, durably. One that is gone already is fine.
pub(crate) fn destroy(path: &Path) -> Result<(), SealedRootError> {
    let failed = |source| SealedRootError::File {
        path: path.to_owned(),
        action: "removed",
        source,
    };
    let file = match OpenOptions::new().write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let length = file.metadata().map_err(failed)?.len().min(LONGEST);
    // Disks and file systems may keep the old blocks all the same: said in docs/vault.md.
    file.write_all_at(&vec![b'0'; usize::try_from(length).unwrap_or_default()], 0)
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    fs::remove_file(path).map_err(failed)?;
    sync_directory(path).map_err(failed)
}

fn sync_directory(of: &Path) -> io::Result<()> {
    let directory = match of.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()
}

fn bound(set: &SetId, number: u64) -> Vec<u8> {
    format!("vault/root/{}/{number}", hex::encode(set)).into_bytes()
}

/// What a token wraps the key of a set for.
fn for_token(set: &SetId) -> Vec<u8> {
    format!("coffer/root-key/{}", hex::encode(set)).into_bytes()
}

fn check_value(key: &DataKey, set: &SetId) -> [u8; 32] {
    *derive(key.reveal(), Purpose::RootCheck, set).reveal()
}

fn mark(root: &RootKey, stored: &Stored) -> [u8; 32] {
    marked(&root.mark(), stored)
}

fn marked(key: &DataKey, stored: &Stored) -> [u8; 32] {
    let unmarked = Stored {
        mark: Vec::new(),
        ..stored.clone()
    };
    keyed_hash(key, &unmarked.encode_to_vec())
}

#[cfg(test)]
mod tests;
