//! Databases and tables that were dropped: set aside, listed, brought back.
//!
//! Promise: what was dropped keeps all that it had (rows in files, in memory and in the journal alone, what is set aside beside it, types,
//! the ids of its imports) until it goes for good, and comes back with it. Meanwhile no query and no list but that of dropped things shows
//! it, and its name is free.
//!
//! A dropped table stays among the state's tables and loses its name; whatever goes by names does not find it. When it goes for good is
//! in `purge`.

use base::{DatabaseName, Scope, TableId, TableName, Timestamp};

use super::state::State;
use super::tables::{MAX_DATABASES, MAX_TABLES};
use super::{Product, ProductError};
use crate::entries::Header;

/// How many dropped tables a product may have.
const MAX_DROPPED: usize = 100_000;

/// That a table was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dropped {
    pub(super) at: Timestamp,
    /// Whether it went with its database.
    pub(super) with_database: bool,
}

/// What a list of dropped things says of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DroppedSummary {
    pub(crate) database: DatabaseName,
    /// `None` for a whole database.
    pub(crate) table: Option<TableName>,
    pub(crate) rows: u64,
    pub(crate) at: Timestamp,
    pub(crate) with_database: bool,
}

impl State {
    /// Takes a table's name away.
    pub(super) fn drop_table(&mut self, id: TableId, at: Timestamp, with_database: bool) {
        let Some(table) = self.tables.get_mut(&id).filter(|table| table.dropped.is_none()) else {
            return;
        };
        table.dropped = Some(Dropped { at, with_database });
        self.names.remove(&(table.database.clone(), table.name.clone()));
        // Whoever waits for another to store the same looks again, and finds no table.
        table.under_way.values().for_each(|waiting| waiting.notify_waiters());
        table.records.wake();
    }

    /// Takes a database and its tables out of sight.
    pub(super) fn drop_database(&mut self, name: &DatabaseName, at: Timestamp) {
        let Some(created_at) = self.databases.remove(name) else { return };
        let ids: Vec<TableId> = self.tables_of(name).map(|table| table.id).collect();
        ids.into_iter().for_each(|id| self.drop_table(id, at, true));
        self.dropped_databases.insert((name.clone(), at), created_at);
    }

    /// Gives a dropped table a name.
    pub(super) fn undrop_table(&mut self, id: TableId, database: DatabaseName, name: TableName) {
        let Some(table) = self.tables.get_mut(&id) else { return };
        table.dropped = None;
        (table.database, table.name) = (database, name);
        self.names.insert((table.database.clone(), table.name.clone()), id);
    }

    /// Brings a dropped database back as `to`.
    pub(super) fn undrop_database(&mut self, name: &DatabaseName, at: Timestamp, to: &DatabaseName) {
        let Some(created_at) = self.dropped_databases.remove(&(name.clone(), at)) else {
            return;
        };
        self.databases.entry(to.clone()).or_insert(created_at);
        let went = Dropped { at, with_database: true };
        let tables = self
            .tables
            .values()
            .filter(|table| table.database == *name && table.dropped == Some(went));
        let back: Vec<(TableId, TableName)> = tables.map(|table| (table.id, table.name.clone())).collect();
        for (id, table) in back {
            self.undrop_table(id, to.clone(), table);
        }
    }

    /// When something was last dropped.
    fn last_dropped(&self) -> Option<Timestamp> {
        let tables = self.tables.values().filter_map(|table| Some(table.dropped?.at));
        tables.chain(self.dropped_databases.keys().map(|(_, at)| *at)).max()
    }
}

impl Product {
    /// Drops a table, and with it what could not be rows of it: a table that is made again under its name must not inherit that.
    pub(crate) async fn delete_table(&self, database: &DatabaseName, name: &TableName) -> Result<(), ProductError> {
        let mut waiting = self.control.lock().await;
        self.make_waiting(&mut waiting).await?;
        let id = self.table_id(database, name)?;
        let at = Some(self.dropped_now()?);
        let beside = self.table_id(database, &name.aside()).ok();
        let changes = beside.into_iter().chain([id]).map(|id| Header::DeleteTable { id, at });
        self.change_all(&mut waiting, changes.collect()).await
    }

    /// Drops a database with its tables.
    pub(crate) async fn delete_database(&self, name: &DatabaseName) -> Result<(), ProductError> {
        let mut waiting = self.control.lock().await;
        self.make_waiting(&mut waiting).await?;
        self.database_exists(name)?;
        let (name, at) = (name.clone(), Some(self.dropped_now()?));
        self.change(&mut waiting, Header::DeleteDatabase { name, at }).await
    }

    /// The moment for what is dropped now: not before it is so by any reckoning, and another one for each, since databases are told apart
    /// by it and what is set aside is known by it to belong to its table.
    fn dropped_now(&self) -> Result<Timestamp, ProductError> {
        let state = self.read();
        if state.tables.values().filter(|table| table.dropped.is_some()).count() >= MAX_DROPPED {
            return Err(ProductError::Invalid(format!(
                "{MAX_DROPPED} dropped tables can be brought back yet, and more are not kept: wait until the oldest of them go for good"
            )));
        }
        let now = self.pace.at_most();
        let later = |last: Timestamp| Timestamp::from_micros(last.as_micros().saturating_add(1));
        Ok(state.last_dropped().map_or(now, |last| now.max(later(last))))
    }

    /// Brings the last dropped table of this name back, with what was set aside beside it, under its own name or another.
    pub(crate) async fn undrop_table(&self, database: &DatabaseName, name: &TableName, to: Option<TableName>) -> Result<(), ProductError> {
        let mut waiting = self.control.lock().await;
        self.make_waiting(&mut waiting).await?;
        let to = to.unwrap_or_else(|| name.clone());
        let changes = {
            let state = self.read();
            let dropped = |name: &TableName| {
                let of_name = state
                    .tables
                    .values()
                    .filter(|table| table.database == *database && table.name == *name);
                of_name.filter_map(|table| Some((table.dropped?, table.id))).collect::<Vec<_>>()
            };
            let last = dropped(name).into_iter().max_by_key(|(dropped, _)| dropped.at);
            let (when, id) = last.ok_or_else(|| ProductError::NotFound {
                what: "dropped table",
                name: format!("{database}.{name}"),
            })?;
            self.database_exists(database)?;
            if state.table(database, &to).is_some() {
                return Err(ProductError::NameTaken {
                    what: "table",
                    name: format!("{database}.{to}"),
                });
            }
            if state.listed(database).count() >= MAX_TABLES {
                return Err(ProductError::Invalid(format!(
                    "a database has at most {MAX_TABLES} tables, drop one first"
                )));
            }
            let beside = dropped(&name.aside()).into_iter().find(|(dropped, _)| *dropped == when);
            let back = |id, name| Header::Undrop {
                id,
                database: database.clone(),
                name,
            };
            let mut changes = vec![back(id, to.clone())];
            changes.extend(beside.map(|(_, id)| back(id, to.aside())));
            changes
        };
        self.change_all(&mut waiting, changes).await
    }

    /// Brings the last dropped database of this name back, with the tables that were dropped with it, under its own name or another.
    pub(crate) async fn undrop_database(&self, name: &DatabaseName, to: Option<DatabaseName>) -> Result<(), ProductError> {
        let mut waiting = self.control.lock().await;
        self.make_waiting(&mut waiting).await?;
        let to = to.unwrap_or_else(|| name.clone());
        let at = {
            let state = self.read();
            let dropped = state.dropped_databases.keys().filter(|(known, _)| known == name);
            let last = dropped.map(|(_, at)| *at).max();
            let last = last.ok_or_else(|| ProductError::NotFound {
                what: "dropped database",
                name: name.to_string(),
            })?;
            if state.databases.contains_key(&to) {
                return Err(ProductError::NameTaken {
                    what: "database",
                    name: to.to_string(),
                });
            }
            if state.databases.len() >= MAX_DATABASES {
                return Err(ProductError::Invalid(format!(
                    "a product has at most {MAX_DATABASES} databases, drop one first"
                )));
            }
            last
        };
        let name = name.clone();
        self.change(&mut waiting, Header::UndropDatabase { name, at, to }).await
    }

    /// What can be brought back within `scope`, the last dropped first; a database before its tables.
    pub(crate) fn dropped(&self, scope: &Scope) -> Vec<DroppedSummary> {
        let state = self.read();
        let tables = state.tables.values().filter_map(|table| {
            let dropped = table.dropped?;
            Some(DroppedSummary {
                database: table.database.clone(),
                table: Some(table.name.clone()).filter(|name| name.of_aside().is_none()),
                rows: state.rows(table),
                at: dropped.at,
                with_database: dropped.with_database,
            })
        });
        let mut all: Vec<DroppedSummary> = tables.filter(|dropped| dropped.table.is_some()).collect();
        for (name, at) in state.dropped_databases.keys() {
            let of_it = |dropped: &&DroppedSummary| dropped.with_database && dropped.at == *at && dropped.database == *name;
            all.push(DroppedSummary {
                database: name.clone(),
                table: None,
                rows: all.iter().filter(of_it).map(|dropped| dropped.rows).sum(),
                at: *at,
                with_database: false,
            });
        }
        all.retain(|dropped| scope.allows(&dropped.database));
        all.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| (&a.database, &a.table).cmp(&(&b.database, &b.table))));
        all
    }

    /// How long what was dropped can be brought back at least.
    pub(crate) fn drops_kept(&self) -> std::time::Duration {
        self.shared.settings.drops.keep
    }
}
