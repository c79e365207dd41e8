//! The columns of a table, as they grow from batch to batch.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    datatypes::{Schema, SchemaRef},
    record_batch::RecordBatch,
};

use crate::{ColumnType, Declared, Seen, TIME, field, seen_of, time_field};

/// The columns of a table: those declared, in their order, then the others in the order in which they appeared, each with what it has
/// held. `time` is implied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableSchema {
    columns: Vec<(String, Seen)>,
    by_name: HashMap<String, usize>,
    declared: Arc<Declared>,
}

impl TableSchema {
    /// A table without columns but `time`.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is declared.
    pub fn declared(&self) -> &Arc<Declared> {
        &self.declared
    }

    /// Declares types, in place of those declared before. What the columns have held stays known.
    pub fn declare(&mut self, declared: Arc<Declared>) {
        self.declared = declared;
    }

    /// Whether all rows that there are look the same under this declaration, so that none need be read again.
    pub fn looks_the_same_under(&self, other: &Declared) -> bool {
        let named = self.declared.columns().chain(other.columns());
        named.into_iter().all(|(name, _)| {
            let held = self.get(name).and_then(Seen::column_type);
            held.is_none_or(|held| self.declared.get(name).unwrap_or(held) == other.get(name).unwrap_or(held))
        })
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

    /// How many columns there are, without `time`.
    pub fn len(&self) -> usize {
        let undeclared = self.columns.iter().filter(|(name, _)| self.declared.get(name).is_none());
        self.declared.len() + undeclared.count()
    }

    /// Whether there are no columns but `time`.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty() && self.declared.is_empty()
    }

    /// Name and what was seen of each column that has held something, in the order in which they appeared, without `time`.
    pub fn discovered(&self) -> impl Iterator<Item = (&str, Seen)> {
        self.columns.iter().map(|(name, seen)| (name.as_str(), *seen))
    }

    /// Name and type of each column, in order, without `time`.
    pub fn columns(&self) -> impl Iterator<Item = (&str, ColumnType)> {
        self.columns_under(&self.declared)
    }

    /// The same under another declaration.
    pub fn columns_under<'a>(&'a self, declared: &'a Declared) -> impl Iterator<Item = (&'a str, ColumnType)> {
        let undeclared = self.columns.iter().filter(|(name, _)| declared.get(name).is_none());
        let typed = undeclared.map(|(name, seen)| (name.as_str(), seen.column_type().unwrap_or(ColumnType::String)));
        declared.columns().chain(typed)
    }

    /// `time` first, then the columns in order.
    pub fn arrow_schema(&self) -> SchemaRef {
        let declared = self.declared.columns().map(|(name, of)| field(name, of.widest()));
        let undeclared = self.columns.iter().filter(|(name, _)| self.declared.get(name).is_none());
        let undeclared = undeclared.map(|(name, seen)| field(name, *seen));
        let fields = std::iter::once(time_field()).chain(declared).chain(undeclared);
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }
}
