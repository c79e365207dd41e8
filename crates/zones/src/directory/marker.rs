//! The file that makes a directory a zone: which zone it is, and whose.

use std::io::{self, ErrorKind as Io};
use std::path::Path;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::{Empty, Inner, TEMPORARY};
use crate::ZoneError;
use crate::disk::Whole;

const MARKER: &str = "zone.json";
/// What a marker may have at most.
const MARKER_BYTES: u64 = 4096;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Marker {
    format: u32,
    zone: String,
    #[serde(default)]
    installation: String,
    /// Whether it has been compared with all others since it was empty. Where nothing is said it was so from the beginning.
    #[serde(default = "complete")]
    complete: bool,
}

fn complete() -> bool {
    true
}

impl Inner {
    /// Brings the directory into use: looks at the marker, adopts an empty directory if it may, and clears what the last run
    /// left.
    pub(super) fn prepare(&self, empty: Empty) -> Result<(), ZoneError> {
        if self.read_marker()?.is_none() {
            self.forget_directories();
            self.adopt(empty).map_err(|error| self.down(&error))?;
            self.check_marker()?;
            tracing::info!(zone = %self.name, "adopted an empty directory as zone {}", self.name);
        }
        if !self.tidy.swap(true, Ordering::SeqCst)
            && let Ok(left) = self.disk.list(Path::new(TEMPORARY))
        {
            for entry in left {
                let _ = self.disk.remove_file(&Path::new(TEMPORARY).join(entry.name));
            }
        }
        Ok(())
    }

    fn adopt(&self, empty: Empty) -> io::Result<()> {
        let word = format!("adopt-as-{}", self.name);
        let entries = self.disk.list(Path::new(""))?;
        let is_foreign = |name: &str| !name.starts_with('.') && name != "lost+found" && name != word;
        if entries.iter().any(|entry| is_foreign(&entry.name)) {
            return Err(io::Error::other(format!("the directory is not empty and has no {MARKER}")));
        }
        let asked = entries.iter().any(|entry| entry.name == word);
        if empty == Empty::Unknown && !asked {
            return Err(io::Error::other(format!(
                "the directory is empty: if its disk is not mounted, mount it; if it is to take the place of zone {}, put a file \
                 named {word} into it",
                self.name
            )));
        }
        self.write_marker(empty == Empty::New && !asked)?;
        if asked {
            // Left behind it does nothing: it is looked at only where there is no marker.
            let _ = self.disk.remove_file(Path::new(&word));
        }
        Ok(())
    }

    pub(super) fn write_marker(&self, complete: bool) -> io::Result<()> {
        let marker = Marker {
            format: 1,
            zone: self.name.clone(),
            installation: self.installation.clone(),
            complete,
        };
        let path = self.write_temporary(&serde_json::to_vec(&marker).map_err(io::Error::other)?)?;
        self.disk.rename(&path, Path::new(MARKER))?;
        self.disk.sync_dir(Path::new(""))
    }

    pub(super) fn check_marker(&self) -> Result<(), ZoneError> {
        match self.read_marker()? {
            Some(()) => Ok(()),
            None => Err(self.down(&io::Error::other(format!("the directory has no {MARKER}")))),
        }
    }

    /// `None` when the directory is there and has no marker.
    fn read_marker(&self) -> Result<Option<()>, ZoneError> {
        let refuse = |why: String| Err(self.down(&io::Error::other(why)));
        let bytes = match self.disk.read(Path::new(MARKER), MARKER_BYTES) {
            Ok(Whole::Bytes(bytes)) => bytes,
            Ok(Whole::Longer(_)) => return refuse(format!("{MARKER} cannot be read")),
            Err(error) if error.kind() == Io::InvalidData => return refuse(format!("{MARKER} cannot be read")),
            Err(error) if error.kind() == Io::NotFound => {
                return self.disk.list(Path::new("")).map(|_| None).map_err(|error| self.down(&error));
            }
            Err(error) => return Err(self.down(&error)),
        };
        let Ok(marker) = serde_json::from_slice::<Marker>(&bytes) else {
            return refuse(format!("{MARKER} cannot be read"));
        };
        let named = |a: &str, b: &str| a.is_empty() || b.is_empty() || a == b;
        if marker.format != 1 {
            return refuse(format!("the zone has format {}, this program knows format 1", marker.format));
        }
        if marker.zone != self.name {
            return refuse(format!("the directory belongs to zone {}", marker.zone));
        }
        if !named(&marker.installation, &self.installation) {
            return refuse("the directory belongs to another installation".into());
        }
        self.complete.store(marker.complete, Ordering::SeqCst);
        Ok(Some(()))
    }
}
