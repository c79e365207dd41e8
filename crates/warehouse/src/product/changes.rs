//! Changes to databases and tables: in the journal, then in the catalog, then in what is shown.
//!
//! Promise: what the journal has is made, once and in the journal's order, even if the catalog fails in between. The catalog says
//! only up to which segment it knows all changes, so nothing later may enter it before what is earlier has.

use std::collections::VecDeque;

use columns::catalog::{Catalog, CatalogError, DatabaseRecord, TableRecord};
use journal::Entry;

use super::state::{State, Table};
use super::{Product, ProductError};
use crate::entries::Header;

/// Changes that the journal has and the catalog has not: those of one segment together, with its number. At most of one, but for a moment.
#[derive(Debug, Default)]
pub(super) struct Changes(VecDeque<(u64, Vec<Header>)>);

impl Changes {
    /// Whether the catalog has all.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Product {
    /// Makes what an earlier failure of the catalog left. To be called before anything is decided on the strength of what is shown.
    pub(super) async fn make_waiting(&self, waiting: &mut Changes) -> Result<(), ProductError> {
        while let Some((sequence, changes)) = waiting.0.front() {
            commit(&self.catalog, changes, *sequence).await.map_err(ProductError::Postponed)?;
            let for_good = changes.iter().any(Header::is_for_good);
            if let Some((_, changes)) = waiting.0.pop_front() {
                let mut state = self.write();
                changes.into_iter().for_each(|change| state.show(change));
            }
            if for_good {
                self.condemned_some();
                self.trimming.look_again();
            }
        }
        Ok(())
    }

    /// Writes a change into the journal and makes it. After [`ProductError::Postponed`] it will be made, at the latest after the
    /// next start. `waiting` is held, so that no segment holds two changes of which only one is in the catalog.
    pub(super) async fn change(&self, waiting: &mut Changes, change: Header) -> Result<(), ProductError> {
        self.change_all(waiting, vec![change]).await
    }

    /// The same of changes that belong together: one segment holds them, and one transaction makes them.
    pub(super) async fn change_all(&self, waiting: &mut Changes, changes: Vec<Header>) -> Result<(), ProductError> {
        let entry = |change: &Header| Entry {
            header: change.encode().into(),
            payload: bytes::Bytes::new(),
        };
        let segment = self.journal.append_all_at_once(changes.iter().map(entry).collect()).await?;
        waiting.0.push_back((segment.sequence, changes));
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

/// Makes the changes of a segment in the catalog, in one transaction; again does nothing.
pub(super) async fn commit(catalog: &Catalog, changes: &[Header], sequence: u64) -> Result<(), CatalogError> {
    let mut to = catalog.change(sequence).await?;
    for change in changes {
        match change {
            Header::Rows(_) => {}
            Header::CreateDatabase { name, at } => {
                let record = DatabaseRecord {
                    name: name.clone(),
                    created_at: *at,
                };
                to.create_database(&record).await?;
            }
            Header::DeleteDatabase { name, at: None } => drop(to.delete_database(name).await?),
            Header::DeleteDatabase { name, at: Some(at) } => to.drop_database(name, *at).await?,
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
                to.create_table(&record).await?;
            }
            Header::DeleteTable { id, at: None } => drop(to.delete_table(*id).await?),
            Header::DeleteTable { id, at: Some(at) } => to.drop_table(*id, *at).await?,
            Header::Declare { id, columns } => to.declare(*id, columns).await?,
            Header::Keep { id, retention } => to.keep(*id, *retention).await?,
            Header::Undrop { id, database, name } => to.undrop_table(*id, database, name).await?,
            Header::UndropDatabase { name, at, to: back } => to.undrop_database(name, *at, back).await?,
            Header::Purge { tables, databases } => {
                for id in tables {
                    to.delete_table(*id).await?;
                }
                for (name, at) in databases {
                    to.purge_database(name, *at).await?;
                }
            }
        }
    }
    to.commit().await
}

impl State {
    /// Shows a change that is in the catalog.
    pub(super) fn show(&mut self, change: Header) {
        match change {
            Header::Rows(_) => {}
            Header::CreateDatabase { name, at } => {
                self.databases.entry(name).or_insert(at);
            }
            Header::DeleteDatabase { name, at: None } => self.remove_database(&name),
            Header::DeleteDatabase { name, at: Some(at) } => self.drop_database(&name, at),
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
            Header::DeleteTable { id, at: None } => self.remove_table(id),
            Header::DeleteTable { id, at: Some(at) } => self.drop_table(id, at, false),
            Header::Declare { id, columns } => self.declare(id, columns),
            Header::Keep { id, retention } => {
                if let Some(table) = self.tables.get_mut(&id) {
                    table.retention = retention;
                }
            }
            Header::Undrop { id, database, name } => self.undrop_table(id, database, name),
            Header::UndropDatabase { name, at, to } => self.undrop_database(&name, at, &to),
            Header::Purge { tables, databases } => {
                tables.into_iter().for_each(|id| self.remove_table(id));
                for gone in databases {
                    self.dropped_databases.remove(&gone);
                }
            }
        }
    }
}
