//! The access key and its secret, out of a file that only its owner may read.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use base::Secret;

/// What a file of credentials has at most.
const MOST: u64 = 16 << 10;

/// What requests are signed with.
#[derive(Debug, Clone)]
pub(super) struct Credentials {
    pub(super) access_key_id: Secret,
    pub(super) secret_access_key: Secret,
}

impl Credentials {
    /// Reads `access_key_id = …` and `secret_access_key = …`, a line each. Says what is wrong without repeating anything of it.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => "the file of its credentials is missing".to_owned(),
            std::io::ErrorKind::PermissionDenied => "the file of its credentials may not be read".to_owned(),
            _ => format!("the file of its credentials cannot be read: {error}"),
        };
        let file = File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.mode();
        if mode & 0o077 != 0 {
            return Err(format!(
                "others may read the file of its credentials (mode {:03o}); it needs mode 600",
                mode & 0o777
            ));
        }
        let mut text = String::new();
        file.take(MOST).read_to_string(&mut text).map_err(failed)?;
        let read = Self::parse(&text);
        drop(Secret::new(text));
        read.ok_or_else(|| {
            "the file of its credentials needs two lines, access_key_id = … and secret_access_key = …, and no others".to_owned()
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let (mut id, mut secret) = (None, None);
        let lines = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        for line in lines {
            let (name, value) = line.split_once('=')?;
            let place = match name.trim() {
                "access_key_id" => &mut id,
                "secret_access_key" => &mut secret,
                _ => return None,
            };
            let value = value.trim();
            let printable = value.bytes().all(|b| b.is_ascii_graphic());
            if value.is_empty() || !printable || place.replace(Secret::new(value.to_owned())).is_some() {
                return None;
            }
        }
        Some(Self {
            access_key_id: id?,
            secret_access_key: secret?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("credentials");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (place, path)
    }

    #[test]
    fn both_lines_are_read_and_nothing_of_them_prints() {
        let (_place, path) = file("# of zone a\naccess_key_id = AKIA-one\nsecret_access_key=two=/+\n", 0o600);
        let read = Credentials::read(&path).unwrap();
        assert_eq!(
            (read.access_key_id.reveal(), read.secret_access_key.reveal()),
            ("AKIA-one", "two=/+")
        );
        assert!(!format!("{read:?}").contains("AKIA") && !format!("{read:?}").contains("two"));
    }

    #[test]
    fn a_file_that_others_may_read_or_that_is_none_is_refused_without_being_repeated() {
        let good = "access_key_id = x\nsecret_access_key = hidden\n";
        let said = |text: &str, mode| {
            let (_place, path) = file(text, mode);
            Credentials::read(&path).unwrap_err()
        };
        assert!(said(good, 0o640).contains("mode 600"));
        for bad in [
            "hidden",
            "secret_access_key = hidden",
            "access_key_id = x\nsecret_access_key =\n",
            "access_key_id = x\naccess_key_id = y\nsecret_access_key = hidden\n",
            "access_key_id = x\nsecret_access_key = hidden hidden\n",
            "access_key_id = x\nsecret_access_key = hidden\nregion = here\n",
        ] {
            let said = said(bad, 0o600);
            assert!(said.contains("two lines") && !said.contains("hidden"), "{said}");
        }
        let missing = tempfile::tempdir().unwrap().path().join("none");
        assert!(Credentials::read(&missing).unwrap_err().contains("missing"));
    }
}
