//! A job's result: made once as msgpack.gz, kept sealed, read in parts.

use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};

use arrow::record_batch::RecordBatch;
use base::{ErrorKind, JobId, ProductId};
use events::encode_arrays;
use flate2::{Compression, write::GzEncoder};
use seal::{DataKey, FRAME_LEN, frame_span, open_span, seal_frames, sealed_len};
use tokio::io::{AsyncReadExt, AsyncSeekExt, SeekFrom};

/// How much of a result is read and sent at a time.
pub(crate) const PART: u64 = 16 * FRAME_LEN;

/// Why a result could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResultError {
    #[error("the result takes more than {limit} bytes compressed: add a LIMIT, aggregate, or choose fewer columns")]
    TooLarge { limit: usize },
    #[error("the result could not be written as msgpack")]
    Encode(#[from] events::EncodeError),
    #[error("the result could not be kept")]
    Io(#[from] std::io::Error),
    #[error("the kept result does not open")]
    Open(#[from] seal::SealError),
}

impl ResultError {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::Encode(source) => source.kind(),
            Self::Io(_) => ErrorKind::Unavailable,
            Self::Open(source) => source.kind(),
        }
    }
}

/// Rows on their way into a gzip of msgpack arrays. In memory, at most `limit` bytes.
pub(crate) struct ResultWriter {
    gzip: GzEncoder<Vec<u8>>,
    rows: u64,
    limit: usize,
}

impl ResultWriter {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            gzip: GzEncoder::new(Vec::new(), Compression::fast()),
            rows: 0,
            limit,
        }
    }

    /// Adds the rows of a batch.
    pub(crate) fn add(&mut self, batch: &RecordBatch) -> Result<(), ResultError> {
        let mut plain = Vec::new();
        encode_arrays(batch, &mut plain)?;
        self.gzip.write_all(&plain)?;
        self.rows += batch.num_rows() as u64;
        if self.gzip.get_ref().len() > self.limit {
            Err(ResultError::TooLarge { limit: self.limit })
        } else {
            Ok(())
        }
    }

    /// The finished bytes and the number of rows.
    pub(crate) fn finish(self) -> Result<(Vec<u8>, u64), ResultError> {
        Ok((self.gzip.finish()?, self.rows))
    }
}

/// Where results of one product are kept.
#[derive(Debug, Clone)]
pub(crate) struct ResultFiles {
    directory: PathBuf,
    product: ProductId,
}

impl ResultFiles {
    pub(crate) async fn open(directory: PathBuf, product: ProductId) -> std::io::Result<Self> {
        tokio::fs::create_dir_all(&directory).await?;
        Ok(Self { directory, product })
    }

    /// Seals a result under `key` and keeps it.
    pub(crate) async fn keep(&self, job: JobId, key: DataKey, plain: Vec<u8>) -> Result<(), ResultError> {
        let (path, context) = (self.path(job), self.context(job));
        tokio::task::spawn_blocking(move || write_whole(&path, &seal_frames(&key, &context, &plain)))
            .await
            .map_err(std::io::Error::other)??;
        Ok(())
    }

    /// The bytes `plain` of a result of `total` bytes.
    pub(crate) async fn read(&self, job: JobId, key: &DataKey, plain: Range<u64>, total: u64) -> Result<Vec<u8>, ResultError> {
        let span = frame_span(plain.clone(), total);
        let mut file = tokio::fs::File::open(self.path(job)).await?;
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

    /// Takes a result away.
    pub(crate) async fn remove(&self, job: JobId) {
        if let Err(error) = tokio::fs::remove_file(self.path(job)).await
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(job.id = %job, error = %error, "could not remove an old result");
        }
    }

    /// What a result's key is sealed for, and what every frame of it is bound to.
    pub(crate) fn context(&self, job: JobId) -> Vec<u8> {
        format!("coffer/result/1/{}/{job}", self.product).into_bytes()
    }

    fn path(&self, job: JobId) -> PathBuf {
        self.directory.join(format!("{job}.sealed"))
    }
}

// Whole or not at all: a job's row says that there is a result only after this returned.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let unfinished = path.with_extension("new");
    let mut file = std::fs::File::create(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(unfinished, path)
}

#[cfg(test)]
mod tests {
    use base::SeededEntropy;

    use super::*;

    #[tokio::test]
    async fn every_range_of_a_kept_result_reads_back() {
        let directory = tempfile::tempdir().unwrap();
        let files = ResultFiles::open(directory.path().join("results"), ProductId::new(1).unwrap())
            .await
            .unwrap();
        let entropy = SeededEntropy::new(4);
        let key = DataKey::generate(&entropy);
        let mut plain = vec![0; 3 * FRAME_LEN as usize + 17];
        base::Entropy::fill(&entropy, &mut plain);
        let total = plain.len() as u64;
        files.keep(JobId(7), key.clone(), plain.clone()).await.unwrap();

        for range in [
            0..1,
            0..total,
            5..FRAME_LEN,
            FRAME_LEN..FRAME_LEN + 1,
            FRAME_LEN - 1..2 * FRAME_LEN + 1,
            total - 1..total,
        ] {
            let read = files.read(JobId(7), &key, range.clone(), total).await.unwrap();
            assert_eq!(read, plain[range.start as usize..range.end as usize], "{range:?}");
        }
        // Another job's file in its place does not open.
        std::fs::copy(files.path(JobId(7)), files.path(JobId(8))).unwrap();
        assert!(files.read(JobId(8), &key, 0..1, total).await.is_err());
    }
}
