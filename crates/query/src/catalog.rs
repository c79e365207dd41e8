//! The engine's catalog: the databases handed in, an `information_schema` about them, and no way to add to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::MemTable;

use crate::error::{Near, QueryError};
use crate::reader::ZoneReaders;
use crate::session::CATALOG;
use crate::table::SnapshotTable;
use crate::types::engine_type;
use crate::view::{ProductView, TableView};

/// The database that tells about the others.
pub(crate) const INFORMATION_SCHEMA: &str = "information_schema";

/// Other names of the catalog, which Trino clients of td are used to.
const ALIASES: [&str; 2] = ["td-presto", "td"];

/// The one catalog of a query.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotCatalog {
    databases: Arc<BTreeMap<String, Arc<SnapshotSchema>>>,
}

impl SnapshotCatalog {
    pub(crate) fn new(product: &ProductView, readers: &Arc<ZoneReaders>) -> Result<Self> {
        let mut databases = BTreeMap::new();
        for database in &product.databases {
            let table = |view: &TableView| {
                let table = SnapshotTable::new(view, Arc::clone(readers));
                (view.name.clone(), Arc::new(table) as Arc<dyn TableProvider>)
            };
            let tables = database.tables.iter().map(table).collect();
            databases.insert(database.name.clone(), Arc::new(SnapshotSchema { tables }));
        }
        databases.insert(INFORMATION_SCHEMA.to_owned(), Arc::new(information_schema(&databases)?));
        Ok(Self {
            databases: Arc::new(databases),
        })
    }

    /// Says so, in good words, when there is no such database.
    pub(crate) fn expect_database(&self, name: &str) -> Result<(), QueryError> {
        if self.databases.contains_key(name) {
            return Ok(());
        }
        let near = Near::to(name, self.databases.keys().map(String::as_str));
        Err(QueryError::UnknownDatabase {
            name: name.to_owned(),
            near,
        })
    }

    /// Says so, in good words, when there is no such table.
    pub(crate) fn expect_table(&self, database: &str, name: &str) -> Result<(), QueryError> {
        self.expect_database(database)?;
        let Some(schema) = self.databases.get(database) else {
            return Ok(());
        };
        if schema.tables.contains_key(name) {
            return Ok(());
        }
        let near = Near::to(name, schema.tables.keys().map(String::as_str));
        Err(QueryError::UnknownTable {
            database: database.to_owned(),
            name: name.to_owned(),
            near,
        })
    }

    /// Whether `name` is what the catalog is called.
    pub(crate) fn is_called(name: &str) -> bool {
        name == CATALOG || ALIASES.contains(&name)
    }
}

impl CatalogProviderList for SnapshotCatalog {
    fn register_catalog(&self, _: String, _: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![CATALOG.to_owned()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        Self::is_called(name).then(|| Arc::new(self.clone()) as Arc<dyn CatalogProvider>)
    }
}

impl CatalogProvider for SnapshotCatalog {
    fn schema_names(&self) -> Vec<String> {
        self.databases.keys().cloned().collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        self.databases.get(name).map(|schema| Arc::clone(schema) as Arc<dyn SchemaProvider>)
    }
}

#[derive(Debug)]
struct SnapshotSchema {
    tables: BTreeMap<String, Arc<dyn TableProvider>>,
}

#[async_trait]
impl SchemaProvider for SnapshotSchema {
    fn table_names(&self) -> Vec<String> {
        self.tables.keys().cloned().collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        Ok(self.tables.get(name).cloned())
    }

    fn table_exist(&self, name: &str) -> bool {
        self.tables.contains_key(name)
    }
}

/// Our own, as the engine's tells of its settings as well.
fn information_schema(databases: &BTreeMap<String, Arc<SnapshotSchema>>) -> Result<SnapshotSchema> {
    let names = || databases.keys().map(String::as_str).chain([INFORMATION_SCHEMA]);
    let schemata = [
        ("catalog_name", constant(CATALOG, names().count())),
        ("schema_name", texts(names())),
    ];

    let tables: Vec<_> = databases
        .iter()
        .flat_map(|(name, db)| db.tables.keys().map(move |table| (name, table)))
        .collect();
    let tables = [
        ("table_catalog", constant(CATALOG, tables.len())),
        ("table_schema", texts(tables.iter().map(|(database, _)| database.as_str()))),
        ("table_name", texts(tables.iter().map(|(_, table)| table.as_str()))),
        ("table_type", constant("BASE TABLE", tables.len())),
    ];

    let mut columns = Vec::new();
    for (database, schema) in databases {
        for (table, provider) in &schema.tables {
            for (nth, field) in provider.schema().fields().iter().enumerate() {
                columns.push((database.clone(), table.clone(), nth as i64 + 1, Arc::clone(field)));
            }
        }
    }
    let types: Vec<_> = columns.iter().map(|(.., field)| engine_type(field.data_type())).collect();
    let columns = [
        ("table_catalog", constant(CATALOG, columns.len())),
        ("table_schema", texts(columns.iter().map(|(database, ..)| database.as_str()))),
        ("table_name", texts(columns.iter().map(|(_, table, ..)| table.as_str()))),
        ("column_name", texts(columns.iter().map(|(.., field)| field.name().as_str()))),
        (
            "ordinal_position",
            Arc::new(Int64Array::from_iter_values(columns.iter().map(|(_, _, nth, _)| *nth))) as _,
        ),
        (
            "column_default",
            Arc::new(StringArray::from(vec![None::<&str>; columns.len()])) as _,
        ),
        (
            "is_nullable",
            texts(columns.iter().map(|(.., field)| if field.is_nullable() { "YES" } else { "NO" })),
        ),
        ("data_type", texts(types.iter().map(String::as_str))),
    ];

    let tables = BTreeMap::from([
        ("schemata".to_owned(), memory_table(schemata)?),
        ("tables".to_owned(), memory_table(tables)?),
        ("columns".to_owned(), memory_table(columns)?),
    ]);
    Ok(SnapshotSchema { tables })
}

fn memory_table<const N: usize>(columns: [(&str, ArrayRef); N]) -> Result<Arc<dyn TableProvider>> {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true)))?;
    Ok(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))
}

fn texts<'a>(values: impl Iterator<Item = &'a str>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn constant(value: &str, rows: usize) -> ArrayRef {
    texts(std::iter::repeat_n(value, rows))
}
