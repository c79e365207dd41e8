//! Who keeps a product's private key: the vault too (`managed`), or nobody but those who hold its product keys (`customer`).
//!
//! Promise: in `customer` custody no key of the vault opens the private key. It is there while somebody who reads has shown their product
//! key, in memory, for as long as the passes last that they got for it, and for that product key alone; a restart ends it.
//!
//! The lookup key stays under the root key in both: what is sent goes on being translated while nobody reads.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use base::{CredentialId, KeyKind, ProductId, Secret, SecretBytes, Timestamp};
use seal::{DataKey, PrivateKey, PublicKey, wrap};

use crate::credentials::ProductKey;
use crate::entries::{self, CredentialCreated, CustodyChanged, CustomerProductCreated, Fact, ProductKeysCreated, bound};
use crate::keyring::{Keyring, KeyringError};
use crate::view::CredentialRow;

/// The vault keeps one more copy of the product's private key, under the root key.
pub(crate) const MANAGED: &str = "managed";
/// It keeps none.
pub(crate) const CUSTOMER: &str = "customer";

/// Under what products' identities are looked up. Not a setting: no file, environment or handover can say anything but the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Lookups {
    /// Each product's have a key of their own.
    #[default]
    OfTheirOwn,
    /// All of them under one key: a broken twin, for showing that a proof finds out. Made by no code of the product.
    OneForAll,
}

/// What was made for a product.
pub(crate) struct Made {
    pub(crate) public: PublicKey,
    pub(crate) now: bool,
    /// In customer custody, the key without which nothing could ever be read.
    pub(crate) key: Option<(CredentialId, Secret)>,
}

/// Private keys of products in customer custody, each for the product key that it was opened with.
#[derive(Default)]
pub(crate) struct Unlocked(Mutex<HashMap<CredentialId, (SecretBytes, Timestamp)>>);

impl Unlocked {
    pub(crate) fn keep(&self, credential: CredentialId, private: SecretBytes, now: Timestamp, until: Timestamp) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, (_, until)| now < *until);
        kept.insert(credential, (private, until));
    }

    fn get(&self, credential: CredentialId, now: Timestamp) -> Option<SecretBytes> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, (_, until)| now < *until);
        kept.get(&credential).map(|(private, _)| private.clone())
    }

    pub(crate) fn forget(&self, credential: CredentialId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&credential);
    }

    /// Ends what nobody asked for since it was over.
    pub(crate) fn tidy(&self, now: Timestamp) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, (_, until)| now < *until);
    }
}

impl Keyring {
    /// Makes a product's keys, once; afterwards says what the public one is.
    pub(crate) async fn create_product_keys(&self, product: ProductId, custody: &str) -> Result<Made, KeyringError> {
        let managed = match custody {
            MANAGED => true,
            CUSTOMER => false,
            _ => return Err(KeyringError::Invalid("the custody is \"managed\" or \"customer\"")),
        };
        let mut writer = self.writer().await?;
        if let Some(known) = self.view.product(product).await? {
            return Ok(Made {
                public: PublicKey::try_from(&*known.public_key)?,
                now: false,
                key: None,
            });
        }
        let private = PrivateKey::generate(&*self.entropy);
        let lookup = match self.lookups {
            Lookups::OfTheirOwn => DataKey::generate(&*self.entropy),
            Lookups::OneForAll => self.pepper.clone(),
        };
        let public = private.public();
        let private = private.to_secret_bytes();
        let mut made = ProductKeysCreated {
            product: product.get(),
            custody: custody.to_owned(),
            public_key: public.as_bytes().to_vec(),
            wrapped_private: Vec::new(),
            wrapped_lookup: self.wrap(&bound::lookup_key(product), lookup.reveal()),
            at: entries::now(self.clock.now()),
        };
        let (fact, key) = if managed {
            made.wrapped_private = self.wrap(&bound::private_key(product), private.reveal());
            (Fact::Product(made), None)
        } else {
            let (credential, id, text) = self.credential(product, KeyKind::Admin, Some(&private));
            let product = made;
            (
                Fact::CustomerProduct(CustomerProductCreated { product, credential }),
                Some((id, text)),
            )
        };
        self.commit(&mut writer, fact).await?;
        tracing::info!(product.id = %product, custody, "made the keys of product {product}");
        Ok(Made { public, now: true, key })
    }

    /// Makes a product key. Its text is in this answer and nowhere else. In customer custody one that reads takes one that reads.
    pub(crate) async fn create_credential(
        &self,
        product: ProductId,
        kind: KeyKind,
        shown: &str,
    ) -> Result<(CredentialId, Secret), KeyringError> {
        let mut writer = self.writer().await?;
        let keys = self.view.product(product).await?.ok_or(KeyringError::NotFound("product"))?;
        let private = match (kind.is_readable(), keys.custody.as_str()) {
            (false, _) => None,
            (true, MANAGED) => Some(self.unwrap(&bound::private_key(product), &keys.wrapped_private)?),
            (true, _) if shown.is_empty() => return Err(KeyringError::NeedsKey),
            (true, _) => Some(self.opened_by(product, shown).await?),
        };
        let (fact, id, text) = self.credential(product, kind, private.as_ref());
        self.commit(&mut writer, Fact::Credential(fact)).await?;
        tracing::info!(product.id = %product, credential.id = %id, %kind, "made a {kind} key of product {product}");
        Ok((id, text))
    }

    fn credential(&self, product: ProductId, kind: KeyKind, private: Option<&SecretBytes>) -> (CredentialCreated, CredentialId, Secret) {
        let now = self.clock.now();
        let id = CredentialId::generate(now, &*self.entropy);
        let key = ProductKey::generate(product, &*self.entropy);
        let wrapped_private = private.map_or_else(Vec::new, |private| {
            let context = bound::private_key_for(product, id);
            wrap(&key.wrapping(id), &context, private.reveal(), &*self.entropy)
        });
        let fact = CredentialCreated {
            credential: id.to_bytes().to_vec(),
            product: product.get(),
            kind: kind.as_str().to_owned(),
            verifier: key.verifier(&self.pepper).to_vec(),
            wrapped_private,
            at: entries::now(now),
        };
        (fact, id, key.to_text())
    }

    /// Gives the vault a copy of a private key that only the customer kept, for whoever shows a product key that reads.
    pub(crate) async fn set_custody(&self, product: ProductId, custody: &str, shown: &str) -> Result<(), KeyringError> {
        let mut writer = self.writer().await?;
        let keys = self.view.product(product).await?.ok_or(KeyringError::NotFound("product"))?;
        let private = self.opened_by(product, shown).await?;
        match (keys.custody.as_str(), custody) {
            (now, wanted) if now == wanted => return Ok(()),
            (_, MANAGED) => {}
            _ => {
                return Err(KeyringError::Invalid(
                    "a product does not come back into its customer's custody: copies of its private key under the root key are in the raw log \
                     of the vault; make a new product in customer custody",
                ));
            }
        }
        let fact = Fact::Custody(CustodyChanged {
            product: product.get(),
            custody: custody.to_owned(),
            wrapped_private: self.wrap(&bound::private_key(product), private.reveal()),
            at: entries::now(self.clock.now()),
        });
        self.commit(&mut writer, fact).await?;
        tracing::warn!(product.id = %product, custody, "the custody of product {product} is {custody} from now on");
        Ok(())
    }

    /// Refuses to end the last key that reads a product in customer custody, unless that is what is wanted.
    pub(crate) async fn may_end(&self, row: &CredentialRow, lose_everything: bool) -> Result<(), KeyringError> {
        let keys = self.view.product(row.product).await?;
        if lose_everything || !row.kind.is_readable() || keys.is_none_or(|keys| keys.custody == MANAGED) {
            return Ok(());
        }
        let all = self.view.credentials(row.product).await?;
        let reads = |other: &CredentialRow| other.kind.is_readable() && other.revoked_at.is_none() && other.credential != row.credential;
        if all.iter().any(reads) {
            Ok(())
        } else {
            Err(KeyringError::LastKey)
        }
    }

    /// The private key as this credential opens it, for the credential's passes; nothing where the vault keeps a copy itself.
    pub(crate) async fn unlock(&self, key: &ProductKey, row: &CredentialRow, now: Timestamp, until: Timestamp) -> Result<(), KeyringError> {
        if !row.kind.is_readable() {
            return Ok(());
        }
        let keys = self.view.product(row.product).await?;
        if keys.is_some_and(|keys| keys.custody != MANAGED) {
            let private = self.open_with(key, row).await?;
            self.unlocked.keep(row.credential, private, now, until);
        }
        Ok(())
    }

    /// What was opened for a credential, while it lasts.
    pub(crate) fn unlocked_for(&self, credential: CredentialId) -> Result<SecretBytes, KeyringError> {
        self.unlocked.get(credential, self.clock.now()).ok_or(KeyringError::Locked)
    }

    async fn opened_by(&self, product: ProductId, shown: &str) -> Result<SecretBytes, KeyringError> {
        let (key, row) = self.judge(shown).await?;
        if row.product != product || !row.kind.is_readable() {
            return Err(KeyringError::NoHolder);
        }
        self.open_with(&key, &row).await
    }

    async fn open_with(&self, key: &ProductKey, row: &CredentialRow) -> Result<SecretBytes, KeyringError> {
        let wrapped = self.view.wrapped_for(row.credential).await?.ok_or(KeyringError::NoHolder)?;
        let context = bound::private_key_for(row.product, row.credential);
        Ok(seal::unwrap(&key.wrapping(row.credential), &context, &wrapped)?)
    }
}
