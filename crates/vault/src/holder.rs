//! Who holds the root key of an unsealed vault, and how that changes: from a file or a token to shares, from shares to other shares.
//!
//! Promise: at every moment the present holder or the next one can open the installation. A new root key takes the place of the present
//! one only for whoever shows enough shares of it; until then nothing has changed. A root key file is destroyed only when what replaces it
//! lies durably on the disk and was opened once, and never for what nobody has opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::{Entropy, ErrorKind, Secret, Timestamp};
use seal::DataKey;
use seal::shares::{SetId, Share, ShareError, check_numbers, split};
use subtle::ConstantTimeEq;
use tokio::sync::Mutex;
use wire::v1::RootLook;
use zones::Zones;

use crate::open::OpenError;
use crate::root::RootKey;
use crate::sealed_root::{self, SealedRoot, SealedRootError, can_destroy, destroy};
use crate::services::Chain;
use crate::unsealing::{UnsealError, key_of};

pub(crate) const FILE: &str = "file";
pub(crate) const SHARES: &str = "shares";
pub(crate) const TOKEN: &str = "token";

/// Why the holder did not change.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HolderError {
    /// Numbers of shares that make no sense.
    #[error(transparent)]
    Numbers(#[from] ShareError),
    /// Shares that are not those of the key.
    #[error(transparent)]
    Shares(#[from] UnsealError),
    /// Shares are needed.
    #[error("the root key is with people: {0} of its present shares are needed to split it anew")]
    NeedsShares(u8),
    /// There are no shares.
    #[error("there are no shares of the root key yet: none can be shown")]
    NoShares,
    /// Nothing was split, or something else since.
    #[error("what was to be kept is not what was split last: split again")]
    NothingSplit,
    /// It could not be written, or does not open.
    #[error(transparent)]
    Sealed(#[from] SealedRootError),
    /// Its file would outlive the split.
    #[error(
        "the root key file could not be removed afterwards, so nothing was split: `vault.root_key` has to lie in the vault's own directory"
    )]
    FileWouldRemain(#[source] SealedRootError),
    /// The shares hold, and the file is still there.
    #[error(
        "the shares hold the root key from now on, but its file could not be removed: remove it by hand, whoever reads it needs no share"
    )]
    FileRemains(#[source] SealedRootError),
}

impl HolderError {
    /// What the caller can do about it.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Numbers(error) => error.kind(),
            Self::Shares(error) => error.kind(),
            Self::NeedsShares(_) => ErrorKind::Forbidden,
            Self::NoShares | Self::NothingSplit | Self::FileWouldRemain(_) => ErrorKind::Conflict,
            Self::Sealed(error) | Self::FileRemains(error) => error.kind(),
        }
    }
}

pub(crate) struct Holder {
    root_path: PathBuf,
    sealed_path: PathBuf,
    zones: Arc<Zones>,
    state: Mutex<State>,
}

struct State {
    /// `None`: the root key is in its file. Else it is with people, or wrapped by a token.
    sealed: Option<SealedRoot>,
    split: Option<SealedRoot>,
}

impl Holder {
    pub(crate) fn new(root_path: PathBuf, sealed_path: PathBuf, zones: Arc<Zones>, sealed: Option<SealedRoot>) -> Self {
        Self {
            root_path,
            sealed_path,
            zones,
            state: Mutex::new(State { sealed, split: None }),
        }
    }

    pub(crate) async fn look(&self) -> RootLook {
        look_of(self.state.lock().await.sealed.as_ref())
    }

    /// Whether a seal would hold.
    pub(crate) async fn is_shared(&self) -> bool {
        self.state.lock().await.sealed.as_ref().is_some_and(|sealed| !sealed.is_by_token())
    }

    /// Makes another root key and its shares. Where there are shares already, enough of them have to be shown.
    pub(crate) async fn split(
        &self,
        root: &RootKey,
        (shares, threshold): (u8, u8),
        old: &[impl AsRef<str>],
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<(SetId, Vec<Secret>), HolderError> {
        check_numbers(shares, threshold)?;
        let mut state = self.state.lock().await;
        let number = match &state.sealed {
            Some(sealed) if sealed.is_by_token() && old.is_empty() => sealed.number() + 1,
            Some(sealed) if sealed.is_by_token() => return Err(HolderError::NoShares),
            Some(sealed) if old.is_empty() => return Err(HolderError::NeedsShares(sealed.threshold())),
            Some(sealed) => {
                key_of(sealed, old)?;
                sealed.number() + 1
            }
            None if !old.is_empty() => return Err(HolderError::NoShares),
            None => {
                let root_path = self.root_path.clone();
                blocking(move || can_destroy(&root_path))
                    .await
                    .map_err(HolderError::FileWouldRemain)?;
                1
            }
        };
        let key = DataKey::generate(entropy);
        let mut set = SetId::default();
        entropy.fill(&mut set);
        let made = split(&key, set, shares, threshold, entropy)?;
        state.split = SealedRoot::seal(root, &key, &made, number, now, entropy);
        Ok((set, made.iter().map(Share::to_text).collect()))
    }

    /// Puts what was split last in the place of the present holder.
    pub(crate) async fn keep(&self, root: &RootKey, shares: &[impl AsRef<str>]) -> Result<(), HolderError> {
        let mut state = self.state.lock().await;
        let next = state.split.as_ref().ok_or(HolderError::NothingSplit)?.clone();
        let opened = next.open(&key_of(&next, shares)?)?;
        if !bool::from(opened.reveal().ct_eq(root.reveal())) {
            return Err(HolderError::NothingSplit);
        }
        // From here on a start is a sealed one, and opens with the new shares.
        let (sealed_path, writing) = (self.sealed_path.clone(), next.clone());
        if let Err(error) = blocking(move || writing.write(&sealed_path)).await {
            let sealed_path = self.sealed_path.clone();
            // It may have taken the place all the same, and only not be known to be durable.
            if let Ok(Some(there)) = blocking(move || SealedRoot::read(&sealed_path)).await
                && there.is(&next)
            {
                state.split = None;
                state.sealed = Some(next);
            }
            return Err(error.into());
        }
        state.split = None;
        state.sealed = Some(next.clone());
        if let Err(error) = next.put(&self.zones).await {
            tracing::warn!(
                error,
                "the zones do not hold the present sealed root yet; the next start tries again"
            );
        }
        tracing::warn!(
            set = hex::encode(next.set()),
            "the root key is split into {} shares, {} of which open it",
            next.shares(),
            next.threshold()
        );
        let root_path = self.root_path.clone();
        blocking(move || destroy(&root_path)).await.map_err(HolderError::FileRemains)
    }
}

/// Destroys a root key file that a crash in `Holder::keep` left beside the sealed root, now that shares opened the same key. Blocks.
pub(crate) fn without_file(root: &RootKey, directory: &Path, root_path: &Path) -> Result<(), OpenError> {
    let remains = |error: &dyn std::error::Error| {
        tracing::warn!(path = %root_path.display(), error = %Chain(error),
            "a root key file is there although the root key is with people: whoever reads it needs no share; remove it by hand");
    };
    match RootKey::read(root_path) {
        Ok(None) => {}
        Ok(Some(kept)) if bool::from(kept.reveal().ct_eq(root.reveal())) => {
            if let Err(error) = destroy(root_path) {
                remains(&error);
            }
        }
        Ok(Some(_)) => {
            return Err(OpenError::TwoRootKeys {
                file: root_path.to_owned(),
                sealed: directory.join(sealed_root::FILE),
            });
        }
        // One that was wiped and could not be removed cannot be read any more either.
        Err(error) => remains(&error),
    }
    Ok(())
}

/// What there is to say of the holder.
pub(crate) fn look_of(sealed: Option<&SealedRoot>) -> RootLook {
    match sealed {
        None => RootLook {
            holder: FILE.to_owned(),
            ..RootLook::default()
        },
        Some(sealed) if sealed.is_by_token() => RootLook {
            holder: TOKEN.to_owned(),
            ..RootLook::default()
        },
        Some(sealed) => RootLook {
            holder: SHARES.to_owned(),
            set: sealed.set().to_vec(),
            threshold: sealed.threshold().into(),
            shares: sealed.shares().into(),
            ..RootLook::default()
        },
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("writing a file does not panic")
}
