//! One table as the engine sees it: rows in memory, and the files that may hold what is asked for.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, UInt64Array};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::memory::DataSourceExec;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{Column, DFSchema, Result, ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::expressions::{Column as PhysicalColumn, binary, lit};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExecBuilder;
use datafusion::physical_plan::union::UnionExec;

use crate::adapt::{PresentTypes, bare};
use crate::memory::MemoryRows;
use crate::reader::{FileRef, ZoneReaders};
use crate::session::store_url;
use crate::view::{FileView, TableView};

/// A table of the snapshot, read through one lease.
#[derive(Debug)]
pub(crate) struct SnapshotTable {
    schema: SchemaRef,
    memory: Vec<RecordBatch>,
    files: Vec<Arc<FileView>>,
    readers: Arc<ZoneReaders>,
}

impl SnapshotTable {
    pub(crate) fn new(view: &TableView, readers: Arc<ZoneReaders>) -> Self {
        let memory = view.memory.iter().filter(|batch| batch.num_rows() > 0).cloned().collect();
        let files = view.files.iter().cloned().map(Arc::new).collect();
        Self {
            schema: bare(&view.schema),
            memory,
            files,
            readers,
        }
    }

    fn in_memory(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        if self.memory.is_empty() {
            return Ok(None);
        }
        let wanted = match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => Arc::clone(&self.schema),
        };
        let (at_once, partitions) = (state.config().batch_size(), state.config().target_partitions());
        let rows = MemoryRows::new(&self.memory, wanted, at_once, partitions, limit)?;
        Ok(Some(DataSourceExec::from_data_source(rows)))
    }

    /// The files that may hold what is asked for: as they are, or those rows of them that are shown.
    fn in_files(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Vec<Arc<dyn ExecutionPlan>>> {
        let (cut, whole): (Vec<_>, Vec<_>) = self.pruned(state, filters)?.into_iter().partition(|file| file.not_before.is_some());
        let mut parts = Vec::new();
        if !whole.is_empty() {
            parts.push(self.scan_of(&whole, state, projection.cloned(), filters, limit)?);
        }
        let Some(from) = cut.iter().filter_map(|file| file.not_before).max() else {
            return Ok(parts);
        };
        let wanted = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let time = self.schema.index_of(events::TIME)?;
        let mut with_time = wanted.clone();
        let at = wanted.iter().position(|column| *column == time).unwrap_or_else(|| {
            with_time.push(time);
            wanted.len()
        });
        // How many rows that are shown come first is not known, so the limit is not for the scan.
        let all = self.scan_of(&cut, state, Some(with_time), filters, None)?;
        let (time, least) = (Arc::new(PhysicalColumn::new(events::TIME, at)), lit(from));
        let shown = binary(time, Operator::GtEq, least, &all.schema())?;
        let shown = FilterExecBuilder::new(shown, all).apply_projection(Some((0..wanted.len()).collect()))?;
        parts.push(Arc::new(shown.build()?));
        Ok(parts)
    }

    fn scan_of(
        &self,
        files: &[Arc<FileView>],
        state: &dyn Session,
        projection: Option<Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let statistics = self.statistics_of(files);
        let groups = self.spread(files, state.config().target_partitions());
        let source = ParquetSource::new(Arc::clone(&self.schema))
            .with_parquet_file_reader_factory(Arc::clone(&self.readers) as _)
            .with_pushdown_filters(filters.iter().any(is_selective));
        let scan = FileScanConfigBuilder::new(store_url(), Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_projection_indices(projection)?
            .with_limit(limit)
            .with_expr_adapter(Some(Arc::new(PresentTypes)))
            .build();
        Ok(DataSourceExec::from_data_source(scan))
    }

    /// The files whose span of time may fit the filters.
    fn pruned(&self, state: &dyn Session, filters: &[Expr]) -> Result<Vec<Arc<FileView>>> {
        let Some(filter) = conjunction(filters.iter().cloned()) else {
            return Ok(self.files.clone());
        };
        let columns = DFSchema::try_from(Arc::clone(&self.schema))?;
        let filter = state.create_physical_expr(filter, &columns)?;
        let keep = PruningPredicateBuilder::new()
            .with_file_schema(Arc::clone(&self.schema))
            .try_build(filter)
            .and_then(|predicate| predicate.prune(&Spans(&self.files)))
            // What the engine cannot reason about prunes nothing; the filter itself still runs.
            .unwrap_or_else(|_| vec![true; self.files.len()]);
        Ok(self
            .files
            .iter()
            .zip(keep)
            .filter(|(_, keep)| *keep)
            .map(|(file, _)| Arc::clone(file))
            .collect())
    }

    /// Files dealt out largest first, each to the group with the least so far.
    fn spread(&self, files: &[Arc<FileView>], partitions: usize) -> Vec<FileGroup> {
        let mut groups = vec![(0, Vec::new()); partitions.clamp(1, files.len())];
        let mut order: Vec<usize> = (0..files.len()).collect();
        order.sort_by_key(|&nth| std::cmp::Reverse(files[nth].bytes));
        for nth in order {
            let file = &files[nth];
            let least = groups
                .iter_mut()
                .min_by_key(|(bytes, _)| *bytes)
                .expect("there is at least one group");
            least.0 += file.bytes;
            // The engine gets a number instead of the object's name, as its plans can be shown to whoever asks.
            let entry = PartitionedFile::new(format!("part-{nth}"), file.bytes)
                .with_statistics(Arc::new(self.statistics_of(std::slice::from_ref(file))))
                .with_extension(FileRef(Arc::clone(file)));
            least.1.push(entry);
        }
        groups.into_iter().map(|(_, files)| FileGroup::new(files)).collect()
    }

    fn statistics_of(&self, files: &[Arc<FileView>]) -> Statistics {
        let mut statistics = Statistics::new_unknown(&self.schema);
        let sum = |of: fn(&FileView) -> u64| files.iter().map(|file| of(file)).sum::<u64>();
        statistics.num_rows = Precision::Exact(usize::try_from(sum(|file| file.rows)).unwrap_or(usize::MAX));
        statistics.total_byte_size = Precision::Inexact(usize::try_from(sum(|file| file.bytes)).unwrap_or(usize::MAX));
        let span = files.iter().map(|f| f.time_min).min().zip(files.iter().map(|f| f.time_max).max());
        if let (Ok(time), Some((min, max))) = (self.schema.index_of(events::TIME), span) {
            let column = &mut statistics.column_statistics[time];
            column.min_value = Precision::Exact(ScalarValue::Int64(Some(min)));
            column.max_value = Precision::Exact(ScalarValue::Int64(Some(max)));
        }
        statistics
    }
}

#[async_trait]
impl TableProvider for SnapshotTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut parts = Vec::new();
        parts.extend(self.in_memory(state, projection, limit)?);
        parts.extend(self.in_files(state, projection, filters, limit)?);
        if parts.len() > 1 {
            return UnionExec::try_new(parts);
        }
        match parts.pop() {
            Some(one) => Ok(one),
            None => {
                let schema = match projection {
                    Some(columns) => Arc::new(self.schema.project(columns)?),
                    None => Arc::clone(&self.schema),
                };
                Ok(Arc::new(EmptyExec::new(schema)))
            }
        }
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }
}

/// Whether a filter leaves few rows, so that deciding it while decoding pays. For others it was measured to cost.
fn is_selective(filter: &Expr) -> bool {
    let on_column = |expr: &Expr| matches!(expr, Expr::Column(column) if column.name() != events::TIME);
    match filter {
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::And,
            right,
        }) => is_selective(left) || is_selective(right),
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::Eq,
            right,
        }) => (on_column(left) && matches!(**right, Expr::Literal(..))) || (on_column(right) && matches!(**left, Expr::Literal(..))),
        Expr::InList(list) => !list.negated && list.list.len() <= 16 && on_column(&list.expr),
        _ => false,
    }
}

/// What the catalog knows of each file: how many rows, and from when to when.
struct Spans<'a>(&'a [Arc<FileView>]);

impl Spans<'_> {
    fn times(&self, column: &Column, of: fn(&FileView) -> i64) -> Option<ArrayRef> {
        let times = || Arc::new(Int64Array::from_iter_values(self.0.iter().map(|file| of(file)))) as ArrayRef;
        (column.name == events::TIME).then(times)
    }
}

impl PruningStatistics for Spans<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.times(column, |file| file.time_min)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.times(column, |file| file.time_max)
    }

    fn num_containers(&self) -> usize {
        self.0.len()
    }

    fn null_counts(&self, _: &Column) -> Option<ArrayRef> {
        None
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(UInt64Array::from_iter_values(self.0.iter().map(|file| file.rows))))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
