//! Rows of a table that are in memory, laid out as the table's while they are read.
//!
//! Promise: of rows with few of a table's thousands of columns no more is laid out at a time than one piece for each partition, and
//! columns that they lack share what they take. What a piece takes is charged to the query for as long as it is read.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{Array as _, RecordBatch, UInt32Array};
use datafusion::arrow::compute::take_record_batch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics, internal_datafusion_err};
use datafusion::datasource::source::DataSource;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::DisplayFormatType;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;

use crate::adapt::present_batch;

/// What a cell of a column takes that a piece lacks; such columns of one type take it once.
const CELL: usize = 9;
/// How many types of columns there may be.
const TYPES: usize = 5;

/// The rows, of each batch the columns that are asked for.
#[derive(Debug, Clone)]
pub(crate) struct MemoryRows {
    schema: SchemaRef,
    partitions: Vec<Vec<Piece>>,
    fetch: Option<usize>,
}

/// Some rows of a batch.
#[derive(Debug, Clone)]
struct Piece {
    batch: RecordBatch,
    from: usize,
    rows: usize,
}

impl MemoryRows {
    /// The rows of `batches` with the columns of `schema`, in pieces of so many rows at most, dealt out to so many partitions at most.
    pub(crate) fn new(batches: &[RecordBatch], schema: SchemaRef, rows: usize, partitions: usize, fetch: Option<usize>) -> Result<Self> {
        let (mut pieces, rows) = (Vec::new(), rows.max(1));
        for batch in batches {
            let batch = only(batch, &schema)?;
            for from in (0..batch.num_rows()).step_by(rows) {
                pieces.push(Piece {
                    rows: rows.min(batch.num_rows() - from),
                    batch: batch.clone(),
                    from,
                });
            }
        }
        let mut spread = vec![Vec::new(); partitions.clamp(1, pieces.len().max(1))];
        let into = spread.len();
        for (nth, piece) in pieces.into_iter().enumerate() {
            spread[nth % into].push(piece);
        }
        Ok(Self {
            schema,
            partitions: spread,
            fetch,
        })
    }

    fn rows_of(pieces: &[Piece]) -> usize {
        pieces.iter().map(|piece| piece.rows).sum()
    }
}

impl Piece {
    /// What it takes, laid out.
    fn memory(&self) -> Result<usize> {
        let own: usize = (self.batch.slice(self.from, self.rows).columns().iter())
            .map(|column| column.to_data().get_slice_memory_size())
            .sum::<Result<usize, _>>()?;
        Ok(own + TYPES * CELL * self.rows)
    }

    /// Its rows, sharing no memory with other pieces: the engine would charge the query for the whole batch with every one of them.
    fn laid_out(&self, schema: &SchemaRef) -> Result<RecordBatch> {
        let whole = self.rows == self.batch.num_rows();
        let rows = if whole || self.batch.num_columns() == 0 {
            self.batch.slice(self.from, self.rows)
        } else {
            let number = |row: usize| u32::try_from(row).map_err(|_| internal_datafusion_err!("a batch is too long"));
            let picked = UInt32Array::from_iter_values(number(self.from)?..number(self.from + self.rows)?);
            take_record_batch(&self.batch, &picked)?
        };
        present_batch(&rows, schema)
    }
}

/// Those columns of a batch that the schema has.
fn only(batch: &RecordBatch, schema: &Schema) -> Result<RecordBatch> {
    let fields = batch.schema();
    let named = fields.fields().iter().enumerate();
    let wanted = named.filter(|(_, field)| schema.column_with_name(field.name()).is_some());
    Ok(batch.project(&wanted.map(|(at, _)| at).collect::<Vec<_>>())?)
}

/// Where reading a partition has come to.
struct Reading {
    pieces: std::vec::IntoIter<Piece>,
    schema: SchemaRef,
    charge: MemoryReservation,
    left: usize,
}

impl Reading {
    fn next(&mut self) -> Option<Result<RecordBatch>> {
        self.charge.free();
        let mut piece = self.pieces.next().filter(|_| self.left > 0)?;
        piece.rows = piece.rows.min(self.left);
        self.left -= piece.rows;
        let laid_out = piece.memory().and_then(|bytes| self.charge.try_grow(bytes));
        Some(laid_out.and_then(|()| piece.laid_out(&self.schema)))
    }
}

impl DataSource for MemoryRows {
    fn open(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let pieces = self.partitions.get(partition).cloned().unwrap_or_default();
        let reading = Reading {
            pieces: pieces.into_iter(),
            schema: Arc::clone(&self.schema),
            charge: MemoryConsumer::new("rows in memory").register(context.memory_pool()),
            left: self.fetch.unwrap_or(usize::MAX),
        };
        let rows = futures::stream::unfold(reading, |mut reading| async move { reading.next().map(|rows| (rows, reading)) });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows)))
    }

    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rows in memory, partitions={}", self.partitions.len())?;
        self.fetch.map_or(Ok(()), |fetch| write!(f, ", fetch={fetch}"))
    }

    fn output_partitioning(&self) -> Partitioning {
        Partitioning::UnknownPartitioning(self.partitions.len())
    }

    fn eq_properties(&self) -> EquivalenceProperties {
        EquivalenceProperties::new(Arc::clone(&self.schema))
    }

    fn partition_statistics(&self, partition: Option<usize>) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema);
        let rows = match partition {
            Some(partition) => self.partitions.get(partition).map_or(0, |pieces| Self::rows_of(pieces)),
            None => self.partitions.iter().map(|pieces| Self::rows_of(pieces)).sum(),
        };
        statistics.num_rows = if self.fetch.is_some() {
            Precision::Inexact(rows)
        } else {
            Precision::Exact(rows)
        };
        Ok(Arc::new(statistics))
    }

    fn with_fetch(&self, fetch: Option<usize>) -> Option<Arc<dyn DataSource>> {
        Some(Arc::new(Self { fetch, ..self.clone() }))
    }

    fn fetch(&self) -> Option<usize> {
        self.fetch
    }

    fn try_swapping_with_projection(&self, _: &ProjectionExprs) -> Result<Option<Arc<dyn DataSource>>> {
        Ok(None)
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }
}
