//! The role when it was started to prove that a product's files are that product's alone, as `coffer prove tenancy` does.
//!
//! Promise: nothing is changed and nothing is served; the role that serves goes on meanwhile. Every object of every product's raw log, every file of
//! its tables, every text and every result of its jobs is opened with the product's key, and tried with every other product's key, with none,
//! elsewhere, changed and forged. No more than one file, and a changed copy of it, is in memory.
//!
//! What judges files here is what judges them when they are read: `journal::proof`, `columns::read_back` and the bindings of `columns`, `seal`.
//! Start at [`prove`].

mod tables;

use std::io;
use std::path::{Path, PathBuf};

use base::{Entropy, ErrorKind, JobId, ProductId, Role, Timestamp};
use columns::Binding;
use columns::catalog::{Catalog, CatalogError};
use edge::proving::{Told, read, walk};
use journal::proof::{Journals, Trial, try_everything};
use seal::{DataKey, InstallationKey, InstallationSigner, PrivateKey, PublicKey, SealError, Signer};
use wire::proving::Handed;
use zones::ObjectName;

use crate::jobs::proof as job_proof;
use crate::jobs::{JobStore, WHOLE, job_of};
use crate::product::{JOURNALS, SPOOLS};

/// An object of a raw log is no larger than this, nor is a table's file.
const LARGEST: u64 = 2 << 30;
/// How many rows of a database are read at once.
const AT_ONCE: u32 = 200;
/// What somebody without a certificate says of when it was made: long ago, and for ever.
const EVER: (i64, i64) = (0, i64::MAX / 2);

/// How well what is tried is refused. Anything but the default makes a broken twin, which a test has to find out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Files {
    /// As the role refuses it.
    #[default]
    Sound,
    /// Files of tables are tied to nothing: not to their product, table or name.
    Untied,
    /// Whoever signed is believed.
    AnySigner,
}

impl Files {
    /// What files are tied to.
    pub fn binding(self) -> Binding {
        match self {
            Self::Untied => Binding::Nothing,
            Self::Sound | Self::AnySigner => Binding::Place,
        }
    }
}

/// Why nothing could be said.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// A directory could not be read, or whoever asked is gone.
    #[error("could not look at the files")]
    Io(#[from] io::Error),
    /// A catalog.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The jobs in it.
    #[error("could not read the jobs")]
    Jobs(#[from] sqlx::Error),
    /// What the vault handed over.
    #[error("the vault handed over what is no key")]
    Seal(#[from] SealError),
    /// The same.
    #[error("the vault handed over what is no product")]
    Product,
}

impl ProveError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io(_) | Self::Jobs(_) => ErrorKind::Unavailable,
            Self::Catalog(error) => error.kind(),
            Self::Seal(_) | Self::Product => ErrorKind::Internal,
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
    /// Whether there are zones that are none.
    pub stores: bool,
    /// Who certifies roles.
    pub installation: InstallationKey,
    /// From the vault.
    pub handed: &'a Handed,
    /// How well things are refused.
    pub files: Files,
    /// For what is tried.
    pub entropy: &'a dyn Entropy,
}

/// A product's keys.
struct Keys {
    product: ProductId,
    public: PublicKey,
    private: Option<PrivateKey>,
}

/// What is tried on one product.
struct Proof<'a> {
    parts: &'a ProveParts<'a>,
    keys: &'a Keys,
    wrong: &'a [(String, PrivateKey)],
    trusted: &'a [InstallationKey],
    forger: &'a Signer,
}

/// Tries everything, and tells what came of it.
pub async fn prove(parts: &ProveParts<'_>, told: &mut Told<'_>) -> Result<(), ProveError> {
    let products = keys(parts.handed)?;
    let forging = InstallationSigner::generate(parts.entropy);
    let forger = forger(&forging, parts.entropy)?;
    let trusted = match parts.files {
        Files::AnySigner => vec![parts.installation, forging.key()],
        Files::Sound | Files::Untied => vec![parts.installation],
    };
    for keys in &products {
        let other = |other: &&Keys| other.product != keys.product;
        let wrong = products.iter().filter(other).filter_map(|other| {
            let key = other.private.clone()?;
            Some((format!("the key of product {}", other.product), key))
        });
        let wrong: Vec<(String, PrivateKey)> = wrong.collect();
        if keys.private.is_none() {
            told.note(format!(
                "product {} is in its customer's custody and no key of it was shown (--key-file): that the right key opens its files is not \
                 tried, nor what only shows once they open",
                keys.product
            ))?;
        }
        let proof = Proof {
            parts,
            keys,
            wrong: &wrong,
            trusted: &trusted,
            forger: &forger,
        };
        proof.raw_log(told)?;
        let catalog = proof.directory().join("catalog.db");
        if catalog.exists() {
            let catalog = Catalog::look(&catalog).await?;
            let done = async {
                proof.tables(&catalog, told).await?;
                proof.jobs(&catalog, told).await
            };
            let done = done.await;
            catalog.close().await;
            done?;
        }
        proof.others(told)?;
    }
    strangers(parts, &products, told)
}

fn keys(handed: &Handed) -> Result<Vec<Keys>, ProveError> {
    let of = |of: &wire::proving::OfProduct| {
        let private = of.private.as_ref().map(|private| PrivateKey::try_from(private.reveal()));
        Ok(Keys {
            product: ProductId::new(of.product).map_err(|_| ProveError::Product)?,
            public: PublicKey::try_from(&of.public[..])?,
            private: private.transpose()?,
        })
    };
    handed.products.iter().map(of).collect()
}

/// Somebody who signs as a warehouse would and whom the installation did not certify.
fn forger(by: &InstallationSigner, entropy: &dyn Entropy) -> Result<Signer, SealError> {
    let signer = Signer::generate(entropy);
    let (from, to) = EVER;
    let certificate = by.certify(
        Role::Warehouse,
        signer.public_key(),
        Timestamp::from_micros(from),
        Timestamp::from_micros(to),
    );
    signer.certified(certificate)
}

impl Proof<'_> {
    fn directory(&self) -> PathBuf {
        let products = self.parts.directory.join("products");
        products.join(self.keys.product.to_string())
    }

    /// The objects of the raw log, in each zone.
    fn raw_log(&self, told: &mut Told<'_>) -> Result<(), ProveError> {
        let product = self.keys.product;
        told.begin(product, "raw log");
        let trial = Trial {
            trusted: self.trusted,
            of: Journals {
                role: Role::Warehouse,
                begin: JOURNALS,
                product,
            },
            right: self.keys.private.as_ref(),
            wrong: self.wrong,
            seal_to: &self.keys.public,
            forger: self.forger,
            entropy: self.parts.entropy,
        };
        let below = format!("{JOURNALS}/{product}");
        for (at, zone) in self.parts.zones.iter().enumerate() {
            walk::<ProveError>(&zone.join(&below), &mut |path| {
                let file = zone.join(&below).join(path);
                // The same object in another zone is the same bytes, or it is not that object.
                let seen = self.parts.zones[..at]
                    .iter()
                    .any(|zone| zone.join(&below).join(path).symlink_metadata().is_ok());
                self.object(&trial, &file, &format!("{below}/{}", path.display()), seen, told)
            })?;
        }
        Ok(told.end()?)
    }

    fn object(&self, trial: &Trial<'_>, file: &Path, name: &str, seen: bool, told: &mut Told<'_>) -> Result<(), ProveError> {
        let shown = file.display().to_string();
        let Ok(name) = ObjectName::parse(name) else {
            return Ok(told.wrong(format!("{shown}: its name is not that of an object"))?);
        };
        if !seen && !told.wants(&shown)? {
            return Ok(());
        }
        let bytes = match read(file, LARGEST) {
            Ok(Some(bytes)) => bytes,
            // Deleted since it was listed.
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
        let opened = try_everything(trial, &name, &bytes, &mut |what, refused| {
            if failed.is_ok() {
                failed = told.tried(&shown, what, refused);
            }
        });
        failed?;
        match opened {
            Ok(true) => told.opened(),
            Ok(false) => {}
            Err(why) => told.wrong(format!("{shown}: {why}"))?,
        }
        Ok(())
    }

    /// What is kept of jobs: texts and messages in the database, results in files.
    async fn jobs(&self, catalog: &Catalog, told: &mut Told<'_>) -> Result<(), ProveError> {
        let Some(store) = JobStore::look(catalog.pool().clone()).await? else {
            return Ok(());
        };
        let trial = job_proof::Trial {
            product: self.keys.product,
            right: self.keys.private.as_ref(),
            wrong: self.wrong,
            entropy: self.parts.entropy,
        };
        for kind in ["queries", "results"] {
            told.begin(self.keys.product, kind);
            let mut last = JobId(0);
            loop {
                let jobs = store.after(last, AT_ONCE).await?;
                let Some(end) = jobs.last() else { break };
                last = end.id;
                for job in jobs.iter().filter(|job| kind == "queries" || job.sealed_key.is_some()) {
                    let shown = format!("{kind} of job {} of product {}", job.id, self.keys.product);
                    if !told.wants(&shown)? {
                        continue;
                    }
                    let mut failed = Ok(());
                    let mut tried = |what: &str, refused: bool| {
                        if failed.is_ok() {
                            failed = told.tried(&shown, what, refused);
                        }
                    };
                    let opened = match kind {
                        "queries" => job_proof::texts(&trial, job, &mut tried).map(Some),
                        _ => job_proof::result(&trial, job, &self.directory().join("results"), &mut tried),
                    };
                    failed?;
                    match opened {
                        Ok(Some(true)) => told.opened(),
                        Ok(Some(false)) => {}
                        Ok(None) => told.gone(),
                        Err(why) => told.wrong(format!("{shown}: {why}"))?,
                    }
                }
            }
            told.end()?;
        }
        Ok(())
    }

    /// Files in the product's directory that are of no kind that is known.
    fn others(&self, told: &mut Told<'_>) -> Result<(), ProveError> {
        let (mut unfinished, directory) = (0_u64, self.directory());
        walk::<ProveError>(&directory, &mut |path| {
            let parts: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
            match parts.as_slice() {
                [name] if name.starts_with("catalog.") => {}
                ["results", file] if file.ends_with(&format!(".{WHOLE}")) && job_of(path).is_some() => {}
                ["results", _] => unfinished += 1,
                [spools, file] if *spools == SPOOLS && file.ends_with(".part") => unfinished += 1,
                _ => told.wrong(format!("{}: it is of no kind that is known", directory.join(path).display()))?,
            }
            Ok(())
        })?;
        if unfinished > 0 {
            told.note(format!(
                "product {}: {unfinished} files are being written: encrypted under keys that are in the role's memory only, so not tried",
                self.keys.product
            ))?;
        }
        Ok(())
    }
}

/// Files of products that the vault does not know.
fn strangers(parts: &ProveParts<'_>, products: &[Keys], told: &mut Told<'_>) -> Result<(), ProveError> {
    let places = parts
        .zones
        .iter()
        .flat_map(|zone| [zone.join(JOURNALS), zone.join(crate::known::TABLES)]);
    for place in places.chain([parts.directory.join("products")]) {
        let entries = match std::fs::read_dir(&place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let name = entry?.file_name();
            let known = |keys: &Keys| name.to_str() == Some(keys.product.to_string().as_str());
            if !products.iter().any(known) {
                told.wrong(format!("{}: the vault knows no such product", place.join(&name).display()))?;
            }
        }
    }
    Ok(())
}

/// A key that is no file's.
fn nobodys(entropy: &dyn Entropy) -> DataKey {
    DataKey::generate(entropy)
}
