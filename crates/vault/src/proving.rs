//! The vault's part of proofs over the files of other roles: a process that reads the root key and the view, hands each role's process the keys
//! that this role may ever have, sealed to that process, and ends.
//!
//! Promise: nothing is changed and nothing is served. What leaves opens with the key of the process that asked for it. The private key of a product in
//! its customer's custody is handed over only where a product key that reads was shown.

use std::path::{Path, PathBuf};

use base::{Entropy, ErrorKind, ProductId, Role, SecretBytes};
use seal::{PublicKey, SealError};
use wire::proving::{Handed, OfProduct, context};

use crate::credentials::ProductKey;
use crate::custody::MANAGED;
use crate::entries::bound;
use crate::open::VIEW;
use crate::root::{RootKey, RootKeyError};
use crate::sealed_root::{self, SealedRoot, SealedRootError};
use crate::unsealing;
use crate::view::{View, ViewError};
use crate::{Token, VaultSettings};

/// Why no keys were handed over.
#[derive(Debug, thiserror::Error)]
pub enum ProvingError {
    /// The root key file.
    #[error(transparent)]
    RootKey(#[from] RootKeyError),
    /// What is in its place.
    #[error(transparent)]
    SealedRoot(#[from] SealedRootError),
    /// There is neither.
    #[error("there is no root key at {0}")]
    NoRootKey(PathBuf),
    /// It is in a token, and none is configured.
    #[error("the root key is in a token: give the configuration that says in which (--config)")]
    NoToken,
    /// The root key is with people, and too few of them showed their shares, or wrong ones.
    #[error("the root key is in shares: {needed} of them are needed, one file for each (--share-file): {why}")]
    Shares {
        /// How many.
        needed: u8,
        /// What is wrong with those that were shown.
        why: String,
    },
    /// A product key that was shown opens nothing.
    #[error("the product key that was shown for product {0} is not live, or does not read")]
    Shown(ProductId),
    /// What was shown is not a product key.
    #[error("a file that was given does not hold a product key")]
    NotAKey,
    /// The database.
    #[error(transparent)]
    View(#[from] ViewError),
    /// A stored secret.
    #[error("what the vault stored does not open with this root key")]
    Seal(#[from] SealError),
}

impl ProvingError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::RootKey(error) => error.kind(),
            Self::SealedRoot(error) => error.kind(),
            Self::NoRootKey(_) | Self::NoToken => ErrorKind::NotFound,
            Self::Shares { .. } | Self::Shown(_) => ErrorKind::Forbidden,
            Self::NotAKey => ErrorKind::Invalid,
            Self::View(error) => error.kind(),
            Self::Seal(error) => error.kind(),
        }
    }
}

/// The root key, read.
pub struct Prover {
    root: RootKey,
    directory: PathBuf,
}

impl std::fmt::Debug for Prover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Prover")
    }
}

impl Prover {
    /// Reads the root key, has its token open it, or puts it together from shares, one line each. Blocks.
    pub fn new(
        settings: &VaultSettings,
        directory: &Path,
        shares: &[SecretBytes],
        token: Option<&dyn Token>,
    ) -> Result<Self, ProvingError> {
        let path = directory.join(&settings.root_key);
        let root = match SealedRoot::read(&directory.join(sealed_root::FILE))? {
            Some(sealed) if sealed.is_by_token() => sealed.open_by(token.ok_or(ProvingError::NoToken)?)?,
            Some(sealed) => {
                let failed = |why: String| ProvingError::Shares {
                    needed: sealed.threshold(),
                    why,
                };
                let text =
                    |share: &SecretBytes| std::str::from_utf8(share.reveal()).map(|text| zeroize::Zeroizing::new(text.trim().to_owned()));
                let texts: Vec<_> = shares.iter().filter_map(|share| text(share).ok()).collect();
                if texts.len() < usize::from(sealed.threshold()) {
                    return Err(failed(format!("{} were shown", texts.len())));
                }
                let texts: Vec<&str> = texts.iter().map(|text| text.as_str()).collect();
                let key = unsealing::key_of(&sealed, &texts).map_err(|error| failed(error.to_string()))?;
                sealed.open(&key)?
            }
            None => RootKey::read(&path)?.ok_or(ProvingError::NoRootKey(path))?,
        };
        Ok(Self {
            root,
            directory: directory.to_owned(),
        })
    }

    /// The keys for a process of `role`, sealed to its key. `shown` are product keys in text.
    pub async fn keys(&self, role: Role, to: &PublicKey, shown: &[SecretBytes], entropy: &dyn Entropy) -> Result<Vec<u8>, ProvingError> {
        let view = View::look(&self.directory.join(VIEW)).await?;
        let handed = self.handed(&view, role, shown).await;
        view.close().await;
        Ok(seal::seal_to(to, &context(role), &handed?.encode(), entropy))
    }

    async fn handed(&self, view: &View, role: Role, shown: &[SecretBytes]) -> Result<Handed, ProvingError> {
        let wrapping = self.root.wrapping();
        let unwrap = |bound: &[u8], wrapped: &[u8]| seal::unwrap(&wrapping, bound, wrapped);
        let opened = match role {
            Role::Warehouse => self.opened(view, shown).await?,
            _ => Vec::new(),
        };
        let mut products = Vec::new();
        for product in view.products().await? {
            let Some(row) = view.product(product).await? else { continue };
            let mut of = OfProduct {
                product: product.get(),
                public: row.public_key,
                private: None,
                lookup: None,
                people: Vec::new(),
            };
            match role {
                Role::Warehouse => {
                    let by_key = opened.iter().find(|(of, _)| *of == product).map(|(_, private)| private.clone());
                    of.private = match by_key {
                        None if row.custody == MANAGED => Some(unwrap(&bound::private_key(product), &row.wrapped_private)?),
                        by_key => by_key,
                    };
                }
                Role::Identity => {
                    of.lookup = Some(unwrap(&bound::lookup_key(product), &row.wrapped_lookup)?);
                    for kept in view.people_keys(product).await? {
                        of.people
                            .push((kept.epoch, unwrap(&bound::people_key(product, kept.epoch), &kept.wrapped)?));
                    }
                }
                Role::Vault | Role::Accounts | Role::Gateway => {}
            }
            products.push(of);
        }
        Ok(Handed {
            state: (role == Role::Identity).then(|| self.root.state_of(role).to_secret_bytes()),
            products,
        })
    }

    /// Private keys, opened with the product keys that were shown.
    async fn opened(&self, view: &View, shown: &[SecretBytes]) -> Result<Vec<(ProductId, SecretBytes)>, ProvingError> {
        let pepper = self.root.pepper();
        let mut opened = Vec::new();
        for text in shown {
            let text = std::str::from_utf8(text.reveal()).map_err(|_| ProvingError::NotAKey)?;
            let key = ProductKey::parse(text.trim()).ok_or(ProvingError::NotAKey)?;
            let refused = || ProvingError::Shown(key.product());
            let known = view.credential_by_verifier(&key.verifier(&pepper)).await?;
            let row = known
                .filter(|row| row.product == key.product() && row.revoked_at.is_none() && row.kind.is_readable())
                .ok_or_else(refused)?;
            let wrapped = view.wrapped_for(row.credential).await?.ok_or_else(refused)?;
            let context = bound::private_key_for(row.product, row.credential);
            opened.push((row.product, seal::unwrap(&key.wrapping(row.credential), &context, &wrapped)?));
        }
        Ok(opened)
    }
}
