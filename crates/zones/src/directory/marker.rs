//! The file that makes a directory a zone: which zone it is, and whose.

use std::io::{self, ErrorKind as Io};
use std::path::Path;
use std::sync::atomic::Ordering;

use super::{Empty, Inner, TEMPORARY};
use crate::ZoneError;
use crate::disk::Whole;
use crate::marker::{MARKER, MARKER_BYTES, Marker, unreadable, word};

impl Inner {
    /// Brings the directory into use: looks at the marker, adopts an empty directory if it may, and clears what the last run
    /// left.
    pub(super) fn prepare(&self, empty: Empty) -> Result<(), ZoneError> {
        let found = self.read_marker()?;
        if found.as_ref().is_some_and(|marker| marker.lacks_role(&self.owner)) {
            // Where it cannot be written now it is at another time; two who try it find out at their next look whose it is.
            let _ = self.write_marker(self.complete.load(Ordering::SeqCst));
            self.check_marker()?;
        }
        if found.is_none() {
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
        let word = word(&self.name);
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
        let marker = Marker::new(&self.name, &self.owner, complete);
        let path = self.write_temporary(&marker.to_bytes().map_err(io::Error::other)?)?;
        self.disk.rename(&path, Path::new(MARKER))?;
        self.disk.sync_dir(Path::new(""))
    }

    pub(super) fn check_marker(&self) -> Result<(), ZoneError> {
        match self.read_marker()? {
            Some(_) => Ok(()),
            None => Err(self.down(&io::Error::other(format!("the directory has no {MARKER}")))),
        }
    }

    /// `None` when the directory is there and has no marker.
    fn read_marker(&self) -> Result<Option<Marker>, ZoneError> {
        let refuse = |why: String| Err(self.down(&io::Error::other(why)));
        let bytes = match self.disk.read(Path::new(MARKER), MARKER_BYTES) {
            Ok(Whole::Bytes(bytes)) => bytes,
            Ok(Whole::Longer(_)) => return refuse(unreadable()),
            Err(error) if error.kind() == Io::InvalidData => return refuse(unreadable()),
            Err(error) if error.kind() == Io::NotFound => {
                return self.disk.list(Path::new("")).map(|_| None).map_err(|error| self.down(&error));
            }
            Err(error) => return Err(self.down(&error)),
        };
        match Marker::judge(&bytes, &self.name, &self.owner, "directory") {
            Ok(marker) => {
                self.complete.store(marker.is_complete(), Ordering::SeqCst);
                Ok(Some(marker))
            }
            Err(why) => refuse(why),
        }
    }
}
