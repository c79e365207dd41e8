//! Files and batches of older, narrower types, read as what their table holds by now.
//!
//! Both ways of reading go through [`present`], so a value reads the same from memory and from a file.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DataFusionError, Result, ScalarValue, internal_err, plan_datafusion_err};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr_adapter::{PhysicalExprAdapter, PhysicalExprAdapterFactory};

/// A schema without metadata: what the engine compares must not depend on what a column once held.
pub(crate) fn bare(schema: &Schema) -> SchemaRef {
    let field = |field: &FieldRef| Field::new(field.name(), field.data_type().clone(), field.is_nullable());
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}

/// A batch of the table with the columns of `schema`: widened where the table has widened, null where it has none.
pub(crate) fn present_batch(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let mut missing = events::Missing::of(batch.num_rows());
    let columns = schema.fields().iter().map(|field| match batch.column_by_name(field.name()) {
        Some(array) => present(array, field.data_type()),
        None => Ok(missing.column(field.data_type())),
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

/// A column as its present type.
pub(crate) fn present(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    // A column that held nothing but nulls was stored as text, and may have become anything since.
    if array.data_type() != to && array.null_count() == array.len() {
        return Ok(new_null_array(to, array.len()));
    }
    events::cast_field(array, to).map_err(|error| DataFusionError::External(Box::new(error)))
}

/// Rewrites what a query asks of a table into what can be asked of one of its files.
#[derive(Debug)]
pub(crate) struct PresentTypes;

impl PhysicalExprAdapterFactory for PresentTypes {
    fn create(&self, table: SchemaRef, file: SchemaRef) -> Result<Arc<dyn PhysicalExprAdapter>> {
        Ok(Arc::new(Adapter { table, file }))
    }
}

#[derive(Debug)]
struct Adapter {
    table: SchemaRef,
    file: SchemaRef,
}

impl PhysicalExprAdapter for Adapter {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        expr.transform(|expr| match expr.downcast_ref::<Column>() {
            Some(column) => self.column(column.name()).map(Transformed::yes),
            None => Ok(Transformed::no(expr)),
        })
        .data()
    }
}

impl Adapter {
    fn column(&self, name: &str) -> Result<Arc<dyn PhysicalExpr>> {
        let wanted = self
            .table
            .field_with_name(name)
            .map_err(|_| plan_datafusion_err!("there is no column {name}"))?;
        let Ok(index) = self.file.index_of(name) else {
            return Ok(Arc::new(Literal::new(ScalarValue::try_from(wanted.data_type())?)));
        };
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(name, index));
        if self.file.field(index).data_type() == wanted.data_type() {
            return Ok(column);
        }
        Ok(Arc::new(Present {
            column,
            to: Arc::new(bare_field(wanted)),
        }))
    }
}

fn bare_field(field: &Field) -> Field {
    Field::new(field.name(), field.data_type().clone(), field.is_nullable())
}

/// A column of a file, widened.
///
/// Deliberately opaque to the engine: statistics of the narrower type say nothing that it could use about the
/// wider one (`"9" > "10"`), so files are not pruned by a column that has widened since.
#[derive(Debug, Clone)]
struct Present {
    column: Arc<dyn PhysicalExpr>,
    to: FieldRef,
}

impl PartialEq for Present {
    fn eq(&self, other: &Self) -> bool {
        self.column.eq(&other.column) && self.to == other.to
    }
}

impl Eq for Present {}

impl Hash for Present {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.column.hash(state);
        self.to.hash(state);
    }
}

impl fmt::Display for Present {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "widened({} as {})", self.column, self.to.data_type())
    }
}

impl PhysicalExpr for Present {
    fn return_field(&self, _: &Schema) -> Result<FieldRef> {
        Ok(Arc::clone(&self.to))
    }

    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(self.to.data_type().clone())
    }

    fn nullable(&self, _: &Schema) -> Result<bool> {
        Ok(true)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let array = self.column.evaluate(batch)?.into_array(batch.num_rows())?;
        present(&array, self.to.data_type()).map(ColumnarValue::Array)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.column]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        match (children.pop(), children.is_empty()) {
            (Some(column), true) => Ok(Arc::new(Self {
                column,
                to: Arc::clone(&self.to),
            })),
            _ => internal_err!("a widened column has one input"),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
