//! The columns of a table, as they grow from batch to batch.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    datatypes::{Schema, SchemaRef},
    record_batch::RecordBatch,
};

use crate::{ColumnType, Seen, TIME, field, seen_of, time_field};

/// The columns of a table in the order in which they appeared, each with what it has held. `time` is implied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableSchema {
    columns: Vec<(String, Seen)>,
    by_name: HashMap<String, usize>,
}

impl TableSchema {
    /// A table without columns but `time`.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the column has held; `None` for one that is not there.
    pub fn get(&self, name: &str) -> Option<Seen> {
        self.by_name.get(name).map(|index| self.columns[*index].1)
    }

    /// Adds the column, or adds to what it has held. Says whether that changed anything.
    pub fn insert(&mut self, name: &str, seen: Seen) -> bool {
        if name == TIME {
            return false;
        }
        if let Some(index) = self.by_name.get(name) {
            let held = &mut self.columns[*index].1;
            let before = std::mem::replace(held, *held | seen);
            return before != *held;
        }
        self.by_name.insert(name.to_owned(), self.columns.len());
        self.columns.push((name.to_owned(), seen));
        true
    }

    /// Takes in the columns of a batch. Says whether that changed anything.
    pub fn merge(&mut self, batch: &RecordBatch) -> bool {
        let mut changed = false;
        for field in batch.schema().fields() {
            changed |= self.insert(field.name(), seen_of(field));
        }
        changed
    }

    /// How many columns the table would have with this batch: to be compared with a cap before [`TableSchema::merge`].
    pub fn len_with(&self, batch: &RecordBatch) -> usize {
        let schema = batch.schema();
        let new = schema
            .fields()
            .iter()
            .filter(|field| field.name() != TIME && self.get(field.name()).is_none());
        self.len() + new.count()
    }

    /// How many columns there are, without `time`.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// Whether there are no columns but `time`.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// Name, what was seen, and type of each column, in order, without `time`.
    pub fn columns(&self) -> impl Iterator<Item = (&str, Seen, ColumnType)> {
        self.columns
            .iter()
            .map(|(name, seen)| (name.as_str(), *seen, seen.column_type().unwrap_or(ColumnType::String)))
    }

    /// `time` first, then the columns in order.
    pub fn arrow_schema(&self) -> SchemaRef {
        let columns = self.columns.iter().map(|(name, seen)| field(name, *seen));
        Arc::new(Schema::new(std::iter::once(time_field()).chain(columns).collect::<Vec<_>>()))
    }
}
