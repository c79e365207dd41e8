//! Reading files from the zones: ranges of bytes, and footers out of the lease.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use base::ErrorKind;
use bytes::Bytes;
use columns::FooterError;
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::{OBJECT_STORE_COALESCE_DEFAULT, coalesce_ranges};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use seal::SealError;
use tokio::sync::OnceCell;
use zones::{GetError, ObjectName, Zones};

use crate::file::decoder_of;
use crate::lease::Lease;
use crate::view::FileView;

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadFailure {
    #[error("could not read {object}: {source}")]
    Range { object: ObjectName, source: GetError },
    #[error("the key of {object} does not open: {source}")]
    Key { object: ObjectName, source: SealError },
    #[error(transparent)]
    Footer(FooterError),
    #[error("what is read of {object} does not fit into the query's memory")]
    Memory { object: ObjectName },
}

impl ReadFailure {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Range { source, .. } => source.kind(),
            Self::Key { source, .. } => source.kind(),
            Self::Footer(source) => source.kind(),
            Self::Memory { .. } => ErrorKind::TooLarge,
        }
    }
}

impl From<ReadFailure> for ParquetError {
    fn from(failure: ReadFailure) -> Self {
        Self::External(Box::new(failure))
    }
}

/// Which objects a query has read from: the ones to verify when something in them does not decode.
#[derive(Debug, Default)]
pub(crate) struct Touched(Mutex<Vec<ObjectName>>);

impl Touched {
    fn add(&self, object: &ObjectName) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.iter().any(|seen| seen.as_str() == object.as_str()) {
            all.push(object.clone());
        }
    }

    /// Has the zones verify and repair all of them. Returns whether there was any.
    pub(crate) async fn report(&self, zones: &Zones) -> bool {
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for object in &all {
            zones.report_corrupt(object).await;
        }
        !all.is_empty()
    }
}

/// The file that a scan's entry stands for.
#[derive(Debug, Clone)]
pub(crate) struct FileRef(pub(crate) Arc<FileView>);

/// Opens readers over the zones, under a lease.
pub(crate) struct ZoneReaders {
    pub(crate) zones: Arc<Zones>,
    pub(crate) lease: Arc<Lease>,
    pub(crate) touched: Arc<Touched>,
    /// What bytes are charged to, as they are stored, while they are read.
    pub(crate) pool: Arc<dyn MemoryPool>,
    /// Whether to read objects as a whole, verified, instead of the parts that are needed: after damage was found.
    pub(crate) verified: bool,
}

impl fmt::Debug for ZoneReaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ZoneReaders")
    }
}

impl ParquetFileReaderFactory for ZoneReaders {
    fn create_reader(
        &self,
        _partition: usize,
        entry: PartitionedFile,
        _hint: Option<usize>,
        _metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let file = entry
            .extension::<FileRef>()
            .ok_or_else(|| internal_datafusion_err!("a scan's entry names no file"))?;
        self.touched.add(&file.0.object);
        Ok(Box::new(ZoneReader {
            zones: Arc::clone(&self.zones),
            lease: Arc::clone(&self.lease),
            file: Arc::clone(&file.0),
            whole: self.verified.then(OnceCell::new),
            charge: Some(MemoryConsumer::new("files that are read").register(&self.pool)),
            footer: None,
            decoder: 0,
        }))
    }
}

/// One file.
pub(crate) struct ZoneReader {
    zones: Arc<Zones>,
    lease: Arc<Lease>,
    file: Arc<FileView>,
    whole: Option<OnceCell<Bytes>>,
    /// Empty: where what is read is charged to, if it is.
    charge: Option<MemoryReservation>,
    /// For the footer, while the file is read.
    footer: Option<MemoryReservation>,
    /// What it takes to decode a column.
    decoder: u64,
}

/// Bytes that are charged for while anybody has them.
struct Charged {
    bytes: Bytes,
    _charge: Arc<MemoryReservation>,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl ZoneReader {
    /// Reads parts of a file, as some zone has them.
    pub(crate) fn new(zones: &Arc<Zones>, lease: &Arc<Lease>, file: &Arc<FileView>) -> Self {
        Self {
            zones: Arc::clone(zones),
            lease: Arc::clone(lease),
            file: Arc::clone(file),
            whole: None,
            charge: None,
            footer: None,
            decoder: 0,
        }
    }

    /// A charge of so many bytes, where bytes are charged for.
    fn charged(&self, bytes: u64) -> Result<Option<MemoryReservation>, ParquetError> {
        let Some(charge) = self.charge.as_ref().map(MemoryReservation::new_empty) else {
            return Ok(None);
        };
        let fits = usize::try_from(bytes).is_ok_and(|bytes| charge.try_grow(bytes).is_ok());
        let object = self.file.object.clone();
        fits.then_some(Some(charge)).ok_or_else(|| ReadFailure::Memory { object }.into())
    }

    async fn charged_range(&self, range: Range<u64>) -> Result<Bytes, ParquetError> {
        let charge = self.charged(range.end.saturating_sub(range.start))?;
        Ok(kept_with(self.range(range).await?, charge.map(Arc::new).as_ref()))
    }

    /// What decodes so many columns is charged for as long as their bytes are there.
    fn decoders(&self, columns: usize) -> Result<Option<Arc<MemoryReservation>>, ParquetError> {
        Ok(self.charged(self.decoder.saturating_mul(columns as u64))?.map(Arc::new))
    }

    async fn range(&self, range: Range<u64>) -> Result<Bytes, ParquetError> {
        let object = &self.file.object;
        let failed = |source| ReadFailure::Range {
            object: object.clone(),
            source,
        };
        let Some(whole) = &self.whole else {
            return Ok(self.zones.get_range(object, range).await.map_err(failed)?);
        };
        let whole = whole
            .get_or_try_init(|| self.zones.get(object, self.file.bytes))
            .await
            .map_err(failed)?;
        let range = usize::try_from(range.start)?..usize::try_from(range.end)?;
        if range.start > range.end || range.end > whole.len() {
            return Err(ParquetError::EOF("the object is too short".to_owned()));
        }
        Ok(whole.slice(range))
    }
}

impl AsyncFileReader for ZoneReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        self.charged_range(range).boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        let this = &*self;
        async move {
            let decoders = this.decoders(ranges.len())?;
            let read = coalesce_ranges(&ranges, |range| this.charged_range(range), OBJECT_STORE_COALESCE_DEFAULT).await?;
            Ok(read.into_iter().map(|bytes| kept_with(bytes, decoders.as_ref())).collect())
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        async move {
            let footer = self.lease.footer(&self.zones, &self.file).await?;
            self.decoder = decoder_of(&footer);
            self.footer = self.charged(footer.memory_size() as u64)?;
            Ok(footer)
        }
        .boxed()
    }
}

/// The bytes, with which the charge goes.
fn kept_with(bytes: Bytes, charge: Option<&Arc<MemoryReservation>>) -> Bytes {
    match charge {
        Some(charge) => Bytes::from_owner(Charged {
            bytes,
            _charge: Arc::clone(charge),
        }),
        None => bytes,
    }
}
