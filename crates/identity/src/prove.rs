//! The role when it was started to prove something of what it keeps: that a product's people are that product's alone (`coffer prove tenancy`), and
//! that nothing it keeps of somebody in one product is there in another (`coffer prove unlinkable`).
//!
//! Promise: nothing is changed and nothing is served; the role that serves goes on meanwhile. What is told holds no identity and no id.
//!
//! Start at [`prove`]; whether products have something in common is in [`unlinkable`].

mod alike;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use base::{Entropy, ErrorKind, PersonId, ProductId, Role, Timestamp};
use edge::proving::{Told, read, walk};
use journal::proof::{Journals, Trial, cuts, places, try_everything};
use seal::{DataKey, InstallationKey, InstallationSigner, PrivateKey, SealError, Signer};
use wire::proving::Handed;
use zones::ObjectName;

pub use alike::{Alike, unlinkable};

use crate::ledger::JOURNALS;
use crate::ring::Ring;
use crate::view::{View, ViewError};

/// An object of a journal is no larger than this.
const LARGEST: u64 = 2 << 30;
/// How many people are read at once.
const AT_ONCE: usize = 4_096;

/// Why nothing could be said.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// A directory could not be read, or whoever asked is gone.
    #[error("could not look at the files")]
    Io(#[from] io::Error),
    /// The database of a product's people.
    #[error("the database of product {product}'s people cannot be used: {why}")]
    View {
        /// The product.
        product: ProductId,
        /// What the caller can do about it.
        kind: ErrorKind,
        /// Why.
        why: String,
    },
    /// What the vault handed over.
    #[error("the vault handed over what is no key")]
    Seal(#[from] SealError),
    /// A product of which it handed over nothing.
    #[error("the vault knows no product {0}")]
    NoProduct(u64),
    /// A keyring or somebody in it does not open.
    #[error("what is kept of product {product}'s people does not open: {source}")]
    DoesNotOpen {
        /// The product.
        product: ProductId,
        /// Why.
        source: SealError,
    },
}

impl ProveError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io(_) => ErrorKind::Unavailable,
            Self::View { kind, .. } => *kind,
            Self::Seal(_) => ErrorKind::Internal,
            Self::NoProduct(_) => ErrorKind::NotFound,
            Self::DoesNotOpen { .. } => ErrorKind::Corrupt,
        }
    }

    fn view(product: ProductId) -> impl Fn(ViewError) -> Self {
        move |error| Self::View {
            product,
            kind: error.kind(),
            why: crate::ledger::chain(&error),
        }
    }
}

/// What the proof is about, and what is needed for it.
#[derive(Debug)]
pub struct ProveParts<'a> {
    /// The role's own directory.
    pub directory: PathBuf,
    /// Those of its zones that are directories.
    pub zones: Vec<PathBuf>,
    /// Who certifies roles.
    pub installation: InstallationKey,
    /// From the vault.
    pub handed: &'a Handed,
    /// For what is tried.
    pub entropy: &'a dyn Entropy,
}

/// A product's keys.
struct Keys {
    product: ProductId,
    lookup: DataKey,
    people: BTreeMap<u64, DataKey>,
}

fn keys(of: &wire::proving::OfProduct) -> Result<Keys, ProveError> {
    let lookup = of.lookup.as_ref().ok_or(ProveError::NoProduct(of.product))?;
    let people = of.people.iter().map(|(epoch, key)| Ok((*epoch, DataKey::try_from(key.reveal())?)));
    Ok(Keys {
        product: ProductId::new(of.product).map_err(|_| ProveError::NoProduct(of.product))?,
        lookup: DataKey::try_from(lookup.reveal())?,
        people: people.collect::<Result<_, SealError>>()?,
    })
}

fn view_of(directory: &Path, product: ProductId) -> PathBuf {
    directory.join(JOURNALS).join(format!("{product}.sqlite"))
}

/// Tries everything on every product's people, and tells what came of it.
pub async fn prove(parts: &ProveParts<'_>, told: &mut Told<'_>) -> Result<(), ProveError> {
    let products = parts.handed.products.iter().map(keys).collect::<Result<Vec<_>, _>>()?;
    let state = parts
        .handed
        .state
        .as_ref()
        .map(|state| PrivateKey::try_from(state.reveal()))
        .transpose()?;
    let forging = InstallationSigner::generate(parts.entropy);
    let signer = Signer::generate(parts.entropy);
    let certificate = forging.certify(
        Role::Identity,
        signer.public_key(),
        Timestamp::from_micros(0),
        Timestamp::from_micros(i64::MAX / 2),
    );
    let forger = signer.certified(certificate)?;
    let rings = rings(&parts.directory, &products).await?;
    for keys in &products {
        if let Some(state) = &state {
            journal(parts, keys.product, (state, &forger), told)?;
        }
        let file = view_of(&parts.directory, keys.product);
        if file.exists() {
            let view = View::look(&file).await.map_err(ProveError::view(keys.product))?;
            let done = people(parts, &view, (keys, &products, &rings), told).await;
            view.close().await;
            done?;
        }
    }
    for zone in &parts.zones {
        walk::<ProveError>(&zone.join(JOURNALS), &mut |path| {
            let of = path.iter().next().and_then(|name| name.to_str()).unwrap_or_default();
            if !products.iter().any(|keys| keys.product.to_string() == of) {
                told.wrong(format!(
                    "{}: the vault knows no such product",
                    zone.join(JOURNALS).join(path).display()
                ))?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Each product's keyring, of those that have one that opens.
async fn rings(directory: &Path, products: &[Keys]) -> Result<Vec<(ProductId, Ring)>, ProveError> {
    let mut rings = Vec::new();
    for keys in products {
        let file = view_of(directory, keys.product);
        if !file.exists() {
            continue;
        }
        let view = View::look(&file).await.map_err(ProveError::view(keys.product))?;
        let sealed = view.ring().await;
        view.close().await;
        let Some(sealed) = sealed.map_err(ProveError::view(keys.product))? else {
            continue;
        };
        let key = keys.people.get(&sealed.epoch);
        if let Some(Ok(ring)) = key.map(|key| Ring::open(keys.product, &sealed, key)) {
            rings.push((keys.product, ring));
        }
    }
    Ok(rings)
}

/// The objects of a product's journal: sealed to the role, tied to the product; what they say of people is sealed once more, under the keyring.
fn journal(
    parts: &ProveParts<'_>,
    product: ProductId,
    (state, forger): (&PrivateKey, &Signer),
    told: &mut Told<'_>,
) -> Result<(), ProveError> {
    told.begin(product, "identities");
    let public = state.public();
    let trusted = [parts.installation];
    let trial = Trial {
        trusted: &trusted,
        of: Journals {
            role: Role::Identity,
            begin: JOURNALS,
            product,
        },
        right: Some(state),
        wrong: &[],
        seal_to: &public,
        forger,
        entropy: parts.entropy,
    };
    let below = format!("{JOURNALS}/{product}");
    for (at, zone) in parts.zones.iter().enumerate() {
        walk::<ProveError>(&zone.join(&below), &mut |path| {
            let file = zone.join(&below).join(path);
            let shown = file.display().to_string();
            let Ok(name) = ObjectName::parse(&format!("{below}/{}", path.display())) else {
                return Ok(told.wrong(format!("{shown}: its name is not that of an object"))?);
            };
            let mut before = parts.zones[..at].iter();
            let seen = before.any(|zone| zone.join(&below).join(path).symlink_metadata().is_ok());
            if !seen && !told.wants(&shown)? {
                return Ok(());
            }
            let bytes = match read(&file, LARGEST) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => {
                    if !seen {
                        told.gone();
                    }
                    return Ok(());
                }
                Err(error) => return Ok(told.wrong(format!("{shown}: {error}"))?),
            };
            if seen {
                if !name.is_name_of(&bytes) {
                    told.wrong(format!("{shown}: its bytes are not those of its name"))?;
                }
                return Ok(());
            }
            let mut failed = Ok(());
            let opened = try_everything(&trial, &name, &bytes, &mut |what, refused| {
                if failed.is_ok() {
                    failed = told.tried(&shown, what, refused);
                }
            });
            failed?;
            match opened {
                Ok(_) => told.opened(),
                Err(why) => told.wrong(format!("{shown}: {why}"))?,
            }
            Ok(())
        })?;
    }
    Ok(told.end()?)
}

/// The keyring and everybody's row in the database.
async fn people(
    parts: &ProveParts<'_>,
    view: &View,
    (keys, all, rings): (&Keys, &[Keys], &[(ProductId, Ring)]),
    told: &mut Told<'_>,
) -> Result<(), ProveError> {
    let (product, failed) = (keys.product, ProveError::view(keys.product));
    let Some(sealed) = view.ring().await.map_err(&failed)? else {
        return Ok(());
    };
    let shown = format!("the keyring of product {product}");
    told.begin(product, "keyrings");
    told.wants(&shown)?;
    let key = keys.people.get(&sealed.epoch);
    let opened = key.ok_or_else(|| "the vault has no key of its epoch".to_owned());
    let opened = opened.and_then(|key| Ring::open(product, &sealed, key).map_err(|error| error.to_string()));
    let ring = match opened {
        Ok(ring) => ring,
        Err(why) => {
            told.wrong(format!("{shown} does not open with its key: {why}"))?;
            return Ok(told.end()?);
        }
    };
    told.opened();
    let next = ProductId::new(product.get() + 1).unwrap_or(product);
    for other in all.iter().filter(|other| other.product != product) {
        for key in other.people.values() {
            let refused = Ring::open(product, &sealed, key).is_err();
            told.tried(&shown, &format!("the key of product {}", other.product), refused)?;
        }
    }
    let nobodys = DataKey::generate(parts.entropy);
    told.tried(&shown, "no key", Ring::open(product, &sealed, &nobodys).is_err())?;
    if let Some(key) = key {
        told.tried(&shown, "moved to another product", Ring::open(next, &sealed, key).is_err())?;
        let mut other = sealed.clone();
        other.epoch += 1;
        told.tried(&shown, "moved to another epoch", Ring::open(product, &other, key).is_err())?;
        for place in places(sealed.sealed.len(), parts.entropy) {
            let mut changed = sealed.clone();
            changed.sealed[place] ^= 1;
            told.tried(&shown, "bit-flipped", Ring::open(product, &changed, key).is_err())?;
        }
    }
    told.end()?;

    told.begin(product, "people");
    // As whoever held another product's keyring would try it: on this product's rows.
    let others = rings.iter().filter(|(other, _)| *other != product);
    let foreign = others.map(|(other, ring)| (format!("the keyring of product {other}"), ring.tried_on(product)));
    let foreign: Vec<(String, Ring)> = foreign.collect();
    let nobodys = Ring::generate(product, sealed.epoch, parts.entropy);
    let mut last = 0;
    loop {
        let rows = view.persons_after(last, AT_ONCE).await.map_err(&failed)?;
        let Some((end, _)) = rows.last() else { break };
        last = end.get();
        for (id, row) in &rows {
            let shown = format!("a person of product {product}");
            if !told.wants(&shown)? {
                continue;
            }
            if let Err(error) = ring.open_person(*id, row) {
                told.wrong(format!("{shown} does not open with the keyring: {error}"))?;
                continue;
            }
            told.opened();
            told.tried(&shown, "no key", nobodys.open_person(*id, row).is_err())?;
            for (whose, ring) in &foreign {
                told.tried(&shown, whose, ring.open_person(*id, row).is_err())?;
            }
            let other = PersonId::new(id.get() ^ 1).or_else(|_| PersonId::new(id.get() + 2)).unwrap_or(*id);
            told.tried(&shown, "moved to another person", ring.open_person(other, row).is_err())?;
            for length in cuts(row.len()) {
                told.tried(&shown, "truncated", ring.open_person(*id, &row[..length]).is_err())?;
            }
            let place = places(row.len(), parts.entropy)
                .into_iter()
                .nth(id.get().unsigned_abs() as usize % 8);
            let mut changed = row.clone();
            changed[place.unwrap_or(0)] ^= 1;
            told.tried(&shown, "bit-flipped", ring.open_person(*id, &changed).is_err())?;
        }
    }
    Ok(told.end()?)
}
