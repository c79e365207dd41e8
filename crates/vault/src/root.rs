//! The root key: everything that the vault keeps is wrapped under keys derived from it.
//!
//! Promise: it is in memory and in one file that only its owner can read; a file that others can read is refused.
//!
//! The file is the development default. Once the root key is split among people there is no such file any more: what is derived from is
//! then kept sealed (`sealed_root`) under a key of which each person has a share.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base::{Entropy, ErrorKind, Role};
use seal::{DataKey, InstallationSigner, PrivateKey, Purpose, derive};
use zeroize::Zeroizing;

/// Why there is no root key.
#[derive(Debug, thiserror::Error)]
pub enum RootKeyError {
    /// Reading or writing failed.
    #[error("the root key file {path} cannot be {action}")]
    File {
        /// Where.
        path: PathBuf,
        /// "read" or "written".
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Somebody besides the owner may read or change it.
    #[error(
        "the root key file {path} has mode {mode:o}, it must be readable by its owner only: chmod 600 {path}, and if others had access, treat the key as known to them"
    )]
    TooOpen {
        /// Where.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not 32 bytes in hex.
    #[error("the root key file {path} does not hold 32 bytes in hex")]
    Malformed {
        /// Where.
        path: PathBuf,
    },
}

impl RootKeyError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::File { .. } => ErrorKind::Internal,
            Self::TooOpen { .. } => ErrorKind::Forbidden,
            Self::Malformed { .. } => ErrorKind::Corrupt,
        }
    }
}

/// The root key, unsealed.
pub(crate) struct RootKey(DataKey);

impl RootKey {
    /// A new one, in memory only.
    pub(crate) fn generate(entropy: &dyn Entropy) -> Self {
        Self(DataKey::generate(entropy))
    }

    /// The one in the file, or `None` when there is no such file.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, RootKeyError> {
        let failed = |source| RootKeyError::File {
            path: path.to_owned(),
            action: "read",
            source,
        };
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        // Of the opened file, so that nobody swaps it between the look and the read.
        let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(RootKeyError::TooOpen {
                path: path.to_owned(),
                mode,
            });
        }
        let mut text = Zeroizing::new([0; 65]);
        let mut length = 0;
        while length < text.len() {
            match file.read(&mut text[length..]).map_err(failed)? {
                0 => break,
                more => length += more,
            }
        }
        let mut key = Zeroizing::new([0; 32]);
        let malformed = RootKeyError::Malformed { path: path.to_owned() };
        match hex::decode_to_slice(text[..length].trim_ascii_end(), key.as_mut()) {
            Ok(()) => DataKey::try_from(&key[..]).map(|key| Some(Self(key))).map_err(|_| malformed),
            Err(_) => Err(malformed),
        }
    }

    /// Writes it to a file that is not there yet, durably: what is wrapped under it is worth nothing without it.
    pub(crate) fn write(&self, path: &Path) -> Result<(), RootKeyError> {
        let failed = |source| RootKeyError::File {
            path: path.to_owned(),
            action: "written",
            source,
        };
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut text = Zeroizing::new([b'\n'; 65]);
        hex::encode_to_slice(self.0.reveal(), &mut text[..64]).expect("64 characters hold 32 bytes");
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
        file.write_all(&*text).and_then(|()| file.sync_all()).map_err(failed)?;
        // A link fails where a rename would replace a root key that appeared meanwhile.
        let linked = fs::hard_link(&new, path);
        fs::remove_file(&new).and(linked).map_err(failed)?;
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)
    }

    /// The one that was kept sealed.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        DataKey::try_from(bytes).ok().map(Self)
    }

    /// To be sealed. Every call is a place to look at twice.
    pub(crate) fn reveal(&self) -> &[u8; 32] {
        self.0.reveal()
    }

    /// Marks the vault's sealed secrets where they lie in its zones.
    pub(crate) fn mark(&self) -> DataKey {
        self.derived(Purpose::RootMark, b"vault")
    }

    /// Wraps what the vault keeps.
    pub(crate) fn wrapping(&self) -> DataKey {
        self.derived(Purpose::RootWrapping, b"vault")
    }

    /// Marks what the vault deleted in its zones.
    pub(crate) fn graves(&self) -> DataKey {
        self.derived(Purpose::Graves, b"vault")
    }

    /// Hashes credentials to verifiers.
    pub(crate) fn pepper(&self) -> DataKey {
        self.derived(Purpose::Pepper, b"credentials")
    }

    /// Hashes what the audit journal must not say.
    pub(crate) fn audit_hashes(&self) -> audit::HashKey {
        audit::HashKey::new(self.derived(Purpose::AuditHashes, b"audit"))
    }

    /// The pair to which the vault's journal is sealed.
    pub(crate) fn journal(&self) -> PrivateKey {
        PrivateKey::from_derived(&self.derived(Purpose::VaultState, b"journal"))
    }

    /// The pair to which another role seals its own state.
    pub(crate) fn state_of(&self, role: Role) -> PrivateKey {
        PrivateKey::from_derived(&self.derived(Purpose::RoleState, role.as_str().as_bytes()))
    }

    /// What certifies signing keys.
    pub(crate) fn installation(&self) -> InstallationSigner {
        InstallationSigner::from_derived(&self.derived(Purpose::InstallationSigner, b"signing-keys"))
    }

    fn derived(&self, purpose: Purpose, context: &[u8]) -> DataKey {
        derive(self.0.reveal(), purpose, context)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use base::SeededEntropy;

    use super::*;

    #[test]
    fn a_root_key_is_the_same_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("root.key");
        assert!(RootKey::read(&path).unwrap().is_none());

        let made = RootKey::generate(&SeededEntropy::new(1));
        made.write(&path).unwrap();

        let read = RootKey::read(&path).unwrap().unwrap();
        assert_eq!(read.installation().key(), made.installation().key());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(made.write(&path).is_err(), "a root key is never replaced");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left over");
    }

    #[test]
    fn a_root_key_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("root.key");
        RootKey::generate(&SeededEntropy::new(1)).write(&path).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(RootKey::read(&path), Err(RootKeyError::TooOpen { .. })), "{mode:o}");
        }
    }

    #[test]
    fn what_is_not_a_root_key_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("root.key");
        for wrong in ["", "ab", &"0".repeat(63), &"0".repeat(66), &"g".repeat(64)] {
            fs::write(&path, wrong).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            assert!(matches!(RootKey::read(&path), Err(RootKeyError::Malformed { .. })), "{wrong:?}");
        }
    }

    #[test]
    fn roles_have_different_state_keys() {
        let root = RootKey::generate(&SeededEntropy::new(1));
        assert_ne!(root.state_of(Role::Accounts).public(), root.state_of(Role::Identity).public());
        assert_ne!(root.state_of(Role::Accounts).public(), root.journal().public());
    }
}
