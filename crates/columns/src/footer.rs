//! Reading a file's footer: what is in the file and where, and the means to decrypt the rest of it.

use std::ops::Range;
use std::sync::Arc;

use base::ErrorKind;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parquet::arrow::async_reader::MetadataFetch;
use parquet::encryption::decrypt::FileDecryptionProperties;
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use seal::DataKey;
use zones::{GetError, ObjectName, Zones};

/// How much of the end of a file is asked for at once: footers and page indexes are nearly always smaller.
const FOOTER_GUESS: usize = 64 * 1024;

/// Why a footer was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum FooterError {
    /// No zone gave the bytes.
    #[error("could not read the end of {object}")]
    Read {
        /// Which object.
        object: ObjectName,
        /// What the zones said.
        source: GetError,
    },
    /// Another key, another place, or changed bytes: which of them cannot be told.
    #[error("the footer of {object} does not open")]
    DoesNotOpen {
        /// Which object.
        object: ObjectName,
        /// What the decoder said.
        source: ParquetError,
    },
}

impl FooterError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { source, .. } => source.kind(),
            Self::DoesNotOpen { .. } => ErrorKind::Corrupt,
        }
    }
}

/// Loads and decrypts the footer, with the page index, of an object of `size` bytes.
///
/// What comes back carries the decryptor of the file: to drop the last reference to it is to forget the key.
/// A footer that does not open is reported to the zones, which repair their copies, and read once more out of a copy
/// that was verified as a whole.
pub async fn load_footer(
    zones: &Zones,
    object: &ObjectName,
    size: u64,
    key: &DataKey,
    aad_prefix: &[u8],
) -> Result<Arc<ParquetMetaData>, FooterError> {
    let tail = Tail {
        zones,
        object,
        whole: None,
        failed: None,
    };
    match try_load(tail, size, key, aad_prefix).await {
        Err(FooterError::DoesNotOpen { source, .. }) => {
            tracing::warn!(object = %object, error = %source, "the footer of {object} does not open, verifying its copies");
            zones.report_corrupt(object).await;
            let whole = zones.get(object, size).await;
            let whole = Some(whole.map_err(|source| FooterError::Read {
                object: object.clone(),
                source,
            })?);
            try_load(
                Tail {
                    zones,
                    object,
                    whole,
                    failed: None,
                },
                size,
                key,
                aad_prefix,
            )
            .await
        }
        done => done,
    }
}

async fn try_load(mut tail: Tail<'_>, size: u64, key: &DataKey, aad_prefix: &[u8]) -> Result<Arc<ParquetMetaData>, FooterError> {
    let object = tail.object;
    let does_not_open = |source| FooterError::DoesNotOpen {
        object: object.clone(),
        source,
    };
    let decryption = FileDecryptionProperties::builder(key.reveal().to_vec())
        .with_aad_prefix(aad_prefix.to_vec())
        .build()
        .map_err(does_not_open)?;
    // The decoder trusts lengths that stand in the clear, and panics on some that a flipped bit makes of them.
    let loaded = std::panic::AssertUnwindSafe(
        ParquetMetaDataReader::new()
            .with_prefetch_hint(Some(FOOTER_GUESS))
            .with_page_index_policy(PageIndexPolicy::Optional)
            .with_decryption_properties(Some(decryption))
            .load_and_finish(&mut tail, size),
    )
    .catch_unwind()
    .await
    .unwrap_or_else(|_| Err(ParquetError::General("the decoder gave up".to_owned())));
    match (loaded, tail.failed) {
        (_, Some(source)) => Err(FooterError::Read {
            object: object.clone(),
            source,
        }),
        (Ok(footer), None) => Ok(Arc::new(footer)),
        (Err(source), None) => Err(does_not_open(source)),
    }
}

struct Tail<'a> {
    zones: &'a Zones,
    object: &'a ObjectName,
    /// The object, once it had to be read and verified as a whole.
    whole: Option<Bytes>,
    failed: Option<GetError>,
}

impl MetadataFetch for &mut Tail<'_> {
    fn fetch(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        async move {
            if let Some(whole) = &self.whole {
                return part(whole, &range).ok_or_else(|| ParquetError::EOF("the object is too short".to_owned()));
            }
            match self.zones.get_range(self.object, range).await {
                Ok(bytes) => Ok(bytes),
                Err(source) => {
                    let said = ParquetError::General(source.to_string());
                    self.failed = Some(source);
                    Err(said)
                }
            }
        }
        .boxed()
    }
}

fn part(whole: &Bytes, range: &Range<u64>) -> Option<Bytes> {
    let range = usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?;
    (range.start <= range.end && range.end <= whole.len()).then(|| whole.slice(range))
}
