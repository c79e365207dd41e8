//! Changes to databases and tables: in the journal, then in the catalog, then in what is shown.
//!
//! Promise: what the journal has is made, once and in the journal's order, even if the catalog fails in between. The catalog says
//! only up to which segment it knows all changes, so nothing later may enter it before what is earlier has.

use std::collections::VecDeque;

use columns::catalog::{Catalog, CatalogError, DatabaseRecord, TableRecord};
use journal::Entry;
use zones::ObjectName;

use super::state::{State, Table};
use super::{Product, ProductError};
use crate::entries::Header;

/// Changes that the journal has and the catalog has not, each with the number of its segment. At most one, but for a moment.
#[derive(Debug, Default)]
pub(super) struct Changes(VecDeque<(u64, Header)>);

impl Changes {
    /// Whether the catalog has all.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Product {
    /// Makes what an earlier failure of the catalog left. To be called before anything is decided on the strength of what is shown.
    pub(super) async fn make_waiting(&self, waiting: &mut Changes) -> Result<(), ProductError> {
        while let Some((sequence, change)) = waiting.0.front() {
            let objects = commit(&self.catalog, change, *sequence).await.map_err(ProductError::Postponed)?;
            if let Some((_, change)) = waiting.0.pop_front() {
                self.write().show(change);
            }
            if !objects.is_empty() {
                self.condemned_some();
            }
        }
        Ok(())
    }

    /// Writes a change into the journal and makes it. After [`ProductError::Postponed`] it will be made, at the latest after the
    /// next start. `waiting` is held, so that no segment holds two changes of which only one is in the catalog.
    pub(super) async fn change(&self, waiting: &mut Changes, change: Header) -> Result<(), ProductError> {
        let entry = Entry {
            header: change.encode().into(),
            payload: bytes::Bytes::new(),
        };
        let segment = self.journal.append_at_once(entry).await?;
        waiting.0.push_back((segment.sequence, change));
        self.make_waiting(waiting).await
    }

    /// The regular look at what waits. Goes on trying at the next.
    pub(super) async fn make_waiting_or_log(&self) {
        let mut waiting = self.control.lock().await;
        if let Err(error) = self.make_waiting(&mut waiting).await {
            tracing::warn!(product.id = %self.id, error = %super::flush::chain(&error), "could not make a change that the journal has");
        }
    }
}

/// Makes a change in the catalog, in one transaction; again does nothing. Returns the objects that nothing needs any more: they are condemned.
pub(super) async fn commit(catalog: &Catalog, change: &Header, sequence: u64) -> Result<Vec<ObjectName>, CatalogError> {
    match change {
        Header::Rows(_) => Ok(Vec::new()),
        Header::CreateDatabase { name, at } => {
            let record = DatabaseRecord {
                name: name.clone(),
                created_at: *at,
            };
            catalog.create_database(&record, sequence).await.map(|()| Vec::new())
        }
        Header::DeleteDatabase { name } => catalog.delete_database(name, sequence).await,
        Header::CreateTable {
            id,
            number,
            database,
            name,
            at,
        } => {
            let record = TableRecord {
                id: *id,
                number: *number,
                database: database.clone(),
                name: name.clone(),
                created_at: *at,
                columns: Vec::new(),
            };
            catalog.create_table(&record, sequence).await.map(|()| Vec::new())
        }
        Header::DeleteTable { id } => catalog.delete_table(*id, sequence).await,
        Header::Declare { id, columns } => catalog.declare(*id, columns, sequence).await.map(|()| Vec::new()),
    }
}

impl State {
    /// Shows a change that is in the catalog.
    pub(super) fn show(&mut self, change: Header) {
        match change {
            Header::Rows(_) => {}
            Header::CreateDatabase { name, at } => {
                self.databases.entry(name).or_insert(at);
            }
            Header::DeleteDatabase { name } => self.remove_database(&name),
            Header::CreateTable {
                id,
                number,
                database,
                name,
                at,
            } => self.insert_table(Table::new(TableRecord {
                id,
                number,
                database,
                name,
                created_at: at,
                columns: Vec::new(),
            })),
            Header::DeleteTable { id } => self.remove_table(id),
            Header::Declare { id, columns } => self.declare(id, columns),
        }
    }
}
