//! Where the results of one product are kept: a file per job, one that is being written beside them.

use std::collections::HashSet;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use base::{JobId, ProductId};
use seal::{DataKey, FRAME_LEN, frame_span, open_span, sealed_len};
use tokio::io::{AsyncReadExt, AsyncSeekExt, SeekFrom};

use super::ResultError;
use super::room::{Held, Room, WHOLE};
use super::writer::{RowWriter, Written};

/// How much of a result is read and sent at a time.
pub(crate) const PART: u64 = 16 * FRAME_LEN;

/// How the file of a result that is not finished ends.
const UNFINISHED: &str = "new";

/// Where results of one product are kept.
#[derive(Debug, Clone)]
pub(crate) struct ResultFiles {
    directory: PathBuf,
    product: ProductId,
    room: Arc<Room>,
}

impl ResultFiles {
    /// Opens the directory. What is in it and belongs to none of the jobs in `kept` was left by a crash, and is removed.
    /// Its results take at most `limit` bytes together, and no more than there is in the room for `all`.
    pub(crate) async fn open(
        directory: PathBuf,
        product: ProductId,
        kept: HashSet<JobId>,
        limit: u64,
        all: &Arc<Room>,
    ) -> Result<Self, ResultError> {
        let room = Room::of_one(limit, &directory, all);
        let files = Self { directory, product, room };
        let swept = files.clone();
        tokio::task::spawn_blocking(move || swept.sweep(&kept))
            .await
            .map_err(std::io::Error::other)??;
        Ok(files)
    }

    fn sweep(&self, kept: &HashSet<JobId>) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.directory)?;
        for entry in std::fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let leftover = match path.extension().and_then(|extension| extension.to_str()) {
                Some(UNFINISHED) => true,
                Some(WHOLE) => job_of(&path).is_some_and(|job| !kept.contains(&job)),
                _ => false,
            };
            if leftover {
                let taken = if path.extension().is_some_and(|end| end == WHOLE) {
                    path.metadata()?.len()
                } else {
                    0
                };
                std::fs::remove_file(path)?;
                self.room.give_back(taken);
            }
        }
        Ok(())
    }

    /// Begins a result of at most `limit` bytes after compression, sealed under a key that seals nothing else.
    pub(crate) async fn begin(&self, job: JobId, key: DataKey, limit: u64) -> Result<ResultWriter, ResultError> {
        let (files, context) = (self.clone(), self.context(job));
        let held = Held::of(&self.room);
        let begun = tokio::task::spawn_blocking(move || {
            let unfinished = Unfinished {
                path: files.path(job, UNFINISHED),
                whole: files.path(job, WHOLE),
            };
            let file = File::create(&unfinished.path)?;
            Ok(ResultWriter {
                rows: RowWriter::new(file, &key, &context, limit),
                unfinished,
                held,
            })
        });
        begun.await.map_err(std::io::Error::other)?
    }

    /// The bytes `plain` of a result of `total` bytes.
    pub(crate) async fn read(&self, job: JobId, key: &DataKey, plain: Range<u64>, total: u64) -> Result<Vec<u8>, ResultError> {
        let span = frame_span(plain.clone(), total);
        let mut file = tokio::fs::File::open(self.path(job, WHOLE))
            .await
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => ResultError::Gone,
                _ => error.into(),
            })?;
        file.seek(SeekFrom::Start(span.start)).await?;
        let length = usize::try_from(span.end - span.start).map_err(std::io::Error::other)?;
        let mut sealed = vec![0; length];
        file.read_exact(&mut sealed).await?;
        let first_frame = span.start / sealed_len(FRAME_LEN);
        let opened = open_span(key, &self.context(job), &sealed, first_frame, total)?;
        let skip = usize::try_from(plain.start - first_frame * FRAME_LEN).map_err(std::io::Error::other)?;
        let wanted = usize::try_from(plain.end.min(total) - plain.start).map_err(std::io::Error::other)?;
        opened
            .get(skip..skip + wanted)
            .map(<[u8]>::to_vec)
            .ok_or_else(|| std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into())
    }

    /// Takes a result away, if there is one.
    pub(crate) async fn remove(&self, job: JobId) {
        let path = self.path(job, WHOLE);
        let taken = tokio::fs::metadata(&path).await.map_or(0, |meta| meta.len());
        match tokio::fs::remove_file(path).await {
            Ok(()) => self.room.give_back(taken),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(job.id = %job, error = %error, "could not remove a result"),
        }
    }

    /// What a result's key is sealed for, and what every frame of it is bound to.
    pub(crate) fn context(&self, job: JobId) -> Vec<u8> {
        context(self.product, job)
    }

    pub(super) fn path(&self, job: JobId, state: &str) -> PathBuf {
        self.directory.join(format!("{job}.{state}"))
    }
}

/// The same without the directory.
pub(crate) fn context(product: ProductId, job: JobId) -> Vec<u8> {
    format!("coffer/result/1/{product}/{job}").into_bytes()
}

/// Which job's result a file is, by its name.
pub(crate) fn job_of(path: &Path) -> Option<JobId> {
    path.file_stem()?.to_str()?.parse().ok().map(JobId)
}

/// A result that is being written. To drop it is to remove what was written.
pub(crate) struct ResultWriter {
    // Dropped first: the file is closed before it is removed.
    rows: RowWriter<File>,
    unfinished: Unfinished,
    held: Held,
}

impl ResultWriter {
    /// Adds the rows of a batch. Takes its time: for a thread that may be kept.
    pub(crate) fn add(&mut self, batch: &RecordBatch) -> Result<(), ResultError> {
        self.rows.add(batch)
    }

    /// Takes the room that it has grown to. An error says that there is none; it may be made, and this called again.
    pub(crate) fn take_room(&mut self) -> Result<(), ResultError> {
        self.held.grow_to(self.rows.length())
    }

    /// Writes what is left, down to the disk. Takes its time.
    pub(crate) fn finish(self) -> Result<FinishedResult, ResultError> {
        let (file, written) = self.rows.finish()?;
        file.sync_all()?;
        Ok(FinishedResult {
            written,
            unfinished: self.unfinished,
            held: self.held,
        })
    }
}

/// A result that is on the disk and not yet in its place. To drop it is to remove it.
pub(crate) struct FinishedResult {
    written: Written,
    unfinished: Unfinished,
    held: Held,
}

impl FinishedResult {
    /// Puts it in its place; the number of rows, and the length in bytes. Whole or not at all: a job's row says that there is a result
    /// only after this returned, and so only when it is there after a power cut as well. Without a pause in between, so that a job that
    /// is stopped knows whether there is a file to remove.
    pub(crate) fn keep(self) -> Result<(u64, u64), ResultError> {
        let whole = &self.unfinished.whole;
        std::fs::rename(&self.unfinished.path, whole)?;
        self.held.keep(whole.metadata()?.len());
        if let Some(directory) = whole.parent() {
            File::open(directory)?.sync_all()?;
        }
        Ok((self.written.rows, self.written.bytes))
    }
}

/// The file of a result that is not in its place. Removed when this is dropped, unless it was moved away.
struct Unfinished {
    path: PathBuf,
    whole: PathBuf,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // After a move there is nothing to remove. What cannot be removed now is swept at the next opening.
        if let Err(error) = std::fs::remove_file(&self.path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(error = %error, "could not remove an unfinished result");
        }
    }
}
