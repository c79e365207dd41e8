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
}

impl ReadFailure {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Range { source, .. } => source.kind(),
            Self::Key { source, .. } => source.kind(),
            Self::Footer(source) => source.kind(),
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
        }))
    }
}

/// One file.
pub(crate) struct ZoneReader {
    zones: Arc<Zones>,
    lease: Arc<Lease>,
    file: Arc<FileView>,
    whole: Option<OnceCell<Bytes>>,
}

impl ZoneReader {
    /// Reads parts of a file, as some zone has them.
    pub(crate) fn new(zones: &Arc<Zones>, lease: &Arc<Lease>, file: &Arc<FileView>) -> Self {
        Self {
            zones: Arc::clone(zones),
            lease: Arc::clone(lease),
            file: Arc::clone(file),
            whole: None,
        }
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
        self.range(range).boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        let this = &*self;
        async move { coalesce_ranges(&ranges, |range| this.range(range), OBJECT_STORE_COALESCE_DEFAULT).await }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        async move { self.lease.footer(&self.zones, &self.file).await.map_err(ParquetError::from) }.boxed()
    }
}
