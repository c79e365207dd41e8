//! Databases and tables: made and listed.

use base::{DatabaseName, TableId, TableName};

use super::state::TableSummary;
use super::{Product, ProductError};
use crate::entries::Header;

/// How many tables a database may have.
pub(super) const MAX_TABLES: usize = 10_000;
/// How many databases a product may have.
pub(super) const MAX_DATABASES: usize = 1_000;

impl Product {
    /// Makes a database.
    pub(crate) async fn create_database(&self, name: DatabaseName) -> Result<(), ProductError> {
        let mut waiting = self.control.lock().await;
        self.make_waiting(&mut waiting).await?;
        let count = {
            let state = self.read();
            if state.databases.contains_key(&name) {
                return Err(ProductError::Exists {
                    what: "database",
                    name: name.to_string(),
                });
            }
            state.databases.len()
        };
        if count >= MAX_DATABASES {
            return Err(ProductError::Invalid(format!(
                "a product has at most {MAX_DATABASES} databases, delete one first"
            )));
        }
        let at = self.shared.clock.now();
        self.change(&mut waiting, Header::CreateDatabase { name, at }).await
    }

    /// Makes a table. It takes rows from the moment this returns.
    pub(crate) async fn create_table(&self, database: DatabaseName, name: TableName) -> Result<(), ProductError> {
        let mut waiting = self.control.lock().await;
        self.make_waiting(&mut waiting).await?;
        self.database_exists(&database)?;
        let number = {
            let state = self.read();
            if state.table(&database, &name).is_some() {
                return Err(ProductError::Exists {
                    what: "table",
                    name: format!("{database}.{name}"),
                });
            }
            // Counted only where the product has so many at all: it takes a look at each.
            if state.tables.len() >= MAX_TABLES && state.listed(&database).count() >= MAX_TABLES {
                return Err(ProductError::Invalid(format!(
                    "a database has at most {MAX_TABLES} tables, delete one first"
                )));
            }
            state.last_number + 1
        };
        let at = self.shared.clock.now();
        let id = TableId::generate(at, &*self.shared.entropy);
        let table = Header::CreateTable {
            id,
            number,
            database,
            name,
            at,
        };
        self.change(&mut waiting, table).await
    }

    /// The tables of a database, by name.
    pub(crate) fn tables(&self, database: &DatabaseName) -> Result<Vec<TableSummary>, ProductError> {
        self.database_exists(database)?;
        let state = self.read();
        Ok(state.listed(database).map(|table| state.table_summary(table)).collect())
    }

    /// The id of the table of this name now.
    pub(crate) fn table_id(&self, database: &DatabaseName, name: &TableName) -> Result<TableId, ProductError> {
        self.database_exists(database)?;
        let state = self.read();
        let table = state.table(database, name);
        table.map(|table| table.id).ok_or_else(|| ProductError::NotFound {
            what: "table",
            name: format!("{database}.{name}"),
        })
    }

    /// Whether the database exists, as an error if not.
    pub(crate) fn database_exists(&self, name: &DatabaseName) -> Result<(), ProductError> {
        if self.read().databases.contains_key(name) {
            Ok(())
        } else {
            Err(ProductError::NotFound {
                what: "database",
                name: name.to_string(),
            })
        }
    }
}
