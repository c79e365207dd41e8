//! Looking without any key whether keys of products' people are gone, as `coffer prove erased` does.
//!
//! Knows the vault's database and the clear parts of the segments of its journal. Opens nothing, changes nothing; the vault may run meanwhile.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base::{ErrorKind, ProductId, Role};
use bytes::Bytes;
use nix::fcntl::OFlag;
use seal::InstallationKey;

use crate::open::VIEW;
use crate::view::{View, ViewError};

/// An object of the vault's journal is far smaller, and lies less deep.
const LARGEST: u64 = 64 << 20;
const DEEPEST: usize = 8;

/// Why nothing could be said.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// The database.
    #[error("the vault's database cannot be read")]
    View(#[from] ViewError),
    /// A zone.
    #[error("the zone in {path} cannot be read")]
    Zone {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl ProofError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::View(error) => error.kind(),
            Self::Zone { .. } => ErrorKind::Unavailable,
        }
    }
}

/// What there is yet of keys that were to be dropped.
#[derive(Debug, Default)]
pub struct Remains {
    /// Whether the database has one.
    pub in_database: bool,
    /// Objects that hold one.
    pub objects: Vec<PathBuf>,
    /// Zones in which not even a key that was kept was found: whoever looked there saw nothing.
    pub blind: Vec<PathBuf>,
}

/// Looks for the keys of `product`'s people of all epochs before `below` in the vault's own directory and in its zones, each by itself.
pub async fn remains(
    directory: &Path,
    zones: &[PathBuf],
    key: &InstallationKey,
    product: ProductId,
    below: u64,
) -> Result<Remains, ProofError> {
    let view = View::look(&directory.join(VIEW)).await?;
    let rows = view.people_keys(product).await?;
    view.close().await;
    let mut remains = Remains {
        in_database: rows.iter().any(|row| row.epoch < below),
        ..Remains::default()
    };
    for zone in zones {
        let mut kept = false;
        let journal = zone.join(crate::open::JOURNAL);
        for file in files(&journal, DEEPEST).map_err(|source| ProofError::Zone {
            path: zone.clone(),
            source,
        })? {
            let bytes = match read(&file) {
                Ok(bytes) => bytes,
                // Deleted since it was listed.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(source) => return Err(ProofError::Zone { path: file, source }),
            };
            let Some((headers, holds)) = journal::in_clear(key, Role::Vault, &bytes) else {
                continue;
            };
            for epoch in headers.iter().filter_map(|header| epoch_of(header, product)) {
                kept |= holds && epoch >= below;
                if holds && epoch < below {
                    remains.objects.push(file.clone());
                }
            }
        }
        if !kept {
            remains.blind.push(zone.clone());
        }
    }
    Ok(remains)
}

fn epoch_of(header: &[u8], product: ProductId) -> Option<u64> {
    let text = std::str::from_utf8(header).ok()?;
    text.strip_prefix(&format!("people-key/{product}/"))?.parse().ok()
}

/// What lies below a directory. Whose it is may put there what it likes: links and devices are no objects, nor is anything far below.
fn files(directory: &Path, deepest: usize) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() && deepest > 0 {
            found.extend(files(&entry.path(), deepest - 1)?);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Reads an object; not what took the place of one since it was listed.
fn read(path: &Path) -> io::Result<Bytes> {
    // Without waiting for whoever writes, should it be a pipe by now.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file any more"));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::other("it is larger than any object of the vault's journal"));
    }
    Ok(bytes.into())
}
