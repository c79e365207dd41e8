//! A file on the role's own disk while it is written, encrypted as it will be in the zones.
//!
//! Promise: it goes with this value, or at the next start. What is read back is what was written, or it is refused.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

/// What the names of such files end in.
const ENDING: &str = ".part";

/// A file that is being written.
#[derive(Debug)]
pub(super) struct Spool {
    path: PathBuf,
    file: BufWriter<File>,
    digest: Box<blake3::Hasher>,
    length: u64,
}

impl Spool {
    /// Begins one in `directory`, which is made if it is not there. Blocks.
    pub(super) fn begin(directory: &Path, name: &str) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let path = directory.join(format!("{name}{ENDING}"));
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        Ok(Self {
            path,
            file: BufWriter::with_capacity(256 << 10, file),
            digest: Box::default(),
            length: 0,
        })
    }

    /// How many bytes were written.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// All that was written. Blocks.
    pub(super) fn into_bytes(mut self) -> io::Result<Bytes> {
        self.file.flush()?;
        let length = usize::try_from(self.length).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        let file = self.file.get_mut();
        file.rewind()?;
        file.read_exact(&mut bytes)?;
        if blake3::hash(&bytes) != self.digest.finalize() {
            return Err(io::Error::other("what was read back is not what was written"));
        }
        Ok(bytes.into())
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.digest.update(&bytes[..count]);
        self.length += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "could not remove a file that was being written, the next start will");
        }
    }
}

/// Removes what a process before this one left.
pub(in crate::product) async fn clear(directory: &Path) {
    let Ok(mut entries) = tokio::fs::read_dir(directory).await else {
        return;
    };
    while let Ok(Some(entry)) = entries.next_entry().await {
        if entry.file_name().to_string_lossy().ends_with(ENDING)
            && let Err(error) = tokio::fs::remove_file(entry.path()).await
        {
            tracing::warn!(path = %entry.path().display(), %error, "could not remove what an earlier start left");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read_back_and_nothing_stays() {
        let directory = tempfile::tempdir().unwrap();
        let count = || std::fs::read_dir(directory.path()).unwrap().count();
        let mut spool = Spool::begin(directory.path(), "one").unwrap();
        let long = vec![7; 600 << 10];
        spool.write_all(b"begin").unwrap();
        spool.write_all(&long).unwrap();
        assert_eq!((spool.length(), count()), (5 + long.len() as u64, 1));
        assert_eq!(spool.into_bytes().unwrap(), [b"begin".as_slice(), &long].concat());
        assert_eq!(count(), 0);

        let mut damaged = Spool::begin(directory.path(), "two").unwrap();
        damaged.write_all(b"right").unwrap();
        damaged.flush().unwrap();
        std::fs::write(directory.path().join("two.part"), b"wrong").unwrap();
        assert!(damaged.into_bytes().is_err());

        std::mem::forget(Spool::begin(directory.path(), "left").unwrap());
        std::fs::write(directory.path().join("other"), b"").unwrap();
        clear(directory.path()).await;
        assert_eq!(count(), 1);
    }
}
