//! The few things a directory zone asks of a file system: the seam at which a forgetful twin takes its place.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;

/// A file being written.
pub(crate) trait NewFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// After this the bytes survive a power cut (the entry in the directory does not yet).
    fn sync(&mut self) -> io::Result<()>;
}

/// An entry of a directory.
#[derive(Debug)]
pub(crate) struct DiskEntry {
    pub(crate) name: String,
    pub(crate) is_dir: bool,
}

/// A file system, as far as a zone needs one. All calls block.
pub(crate) trait Disk: Send + Sync + fmt::Debug {
    /// Whether calls may take long and belong on a thread for blocking work.
    fn is_slow(&self) -> bool;
    /// An empty file; one that is there is emptied.
    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>>;
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// These bytes, fewer where the file ends before.
    fn read_range(&self, path: &Path, range: Range<u64>) -> io::Result<Vec<u8>>;
    fn length(&self, path: &Path) -> io::Result<u64>;
    fn list(&self, directory: &Path) -> io::Result<Vec<DiskEntry>>;
    /// One new directory whose parent is there.
    fn make_dir(&self, path: &Path) -> io::Result<()>;
    /// After this the entries of the directory survive a power cut.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove_file(&self, path: &Path) -> io::Result<()>;
}

/// The machine's file system.
#[derive(Debug)]
pub(crate) struct RealDisk;

impl NewFile for File {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        Write::write_all(self, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

impl Disk for RealDisk {
    fn is_slow(&self) -> bool {
        true
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        Ok(Box::new(file))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn read_range(&self, path: &Path, range: Range<u64>) -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(range.start))?;
        let mut bytes = Vec::new();
        file.take(range.end.saturating_sub(range.start)).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<DiskEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            // A name that is not UTF-8 is not ours.
            let Ok(name) = entry.file_name().into_string() else { continue };
            entries.push(DiskEntry {
                name,
                is_dir: entry.file_type()?.is_dir(),
            });
        }
        Ok(entries)
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}
