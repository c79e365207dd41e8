//! A whole file that is in memory, decrypted and decoded to its end, and what its rows add up to: for who looks whether a file still is what it was,
//! without zones.

use std::panic::{AssertUnwindSafe, catch_unwind};

use base::ErrorKind;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::encryption::decrypt::FileDecryptionProperties;
use parquet::errors::ParquetError;
use seal::DataKey;

use crate::{Digest, DigestError, DigestKey, Part};

/// Rows that are decoded at once.
const ROWS: usize = 4_096;

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadBackError {
    /// Another key, another place, or changed bytes: which of them cannot be told.
    #[error("the file does not open")]
    DoesNotOpen(#[from] ParquetError),
    /// What opens is not rows of a table.
    #[error(transparent)]
    Rows(#[from] DigestError),
}

impl ReadBackError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::DoesNotOpen(_) => ErrorKind::Corrupt,
            Self::Rows(error) => error.kind(),
        }
    }
}

/// Opens a file under its key and in its place. Takes CPU for a while, and beside the bytes no more memory than one batch of rows.
pub fn read_back(bytes: &Bytes, key: &DataKey, aad_prefix: &[u8], sums: &DigestKey) -> Result<Part, ReadBackError> {
    let read = || -> Result<Part, ReadBackError> {
        let decryption = FileDecryptionProperties::builder(key.reveal().to_vec())
            .with_aad_prefix(aad_prefix.to_vec())
            .build()?;
        let options = ArrowReaderOptions::new().with_file_decryption_properties(decryption);
        let rows = ParquetRecordBatchReaderBuilder::try_new_with_options(bytes.clone(), options)?
            .with_batch_size(ROWS)
            .build()?;
        let mut digest = Digest::default();
        for batch in rows {
            digest.add(sums, &batch.map_err(ParquetError::from)?)?;
        }
        Ok(digest.whole())
    };
    // The decoder trusts lengths that stand in the clear, and panics on some that a flipped bit makes of them.
    let gave_up = || ParquetError::General("the decoder gave up".to_owned()).into();
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err(gave_up()))
}
