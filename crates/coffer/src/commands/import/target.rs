//! The table that rows go to: found, or made where the key may.

use std::sync::Arc;

use base::{DatabaseName, TableName};

use super::sending::{self, Patience};
use crate::client::{Access, Client};
use crate::failure::{Exit, Failure, Outcome};

/// Where rows go.
pub(super) struct Target {
    pub(super) database: DatabaseName,
    pub(super) table: TableName,
    /// With the key that sends.
    pub(super) client: Client,
    /// With the key that makes tables, where it is another.
    pub(super) admin: Option<Client>,
}

/// What is known of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    There(Option<u64>),
    NoTable,
    NoDatabase,
    /// The key may not look.
    Hidden,
}

impl Target {
    /// With the keys there are.
    pub(super) fn new(database: DatabaseName, table: TableName, (sending, admin): (Access, Option<Access>)) -> Self {
        Self {
            database,
            table,
            client: Client::new(sending),
            admin: admin.map(Client::new),
        }
    }

    /// Makes sure that the table is there; whether it had to be made.
    pub(super) async fn ready(&mut self, patience: &Arc<Patience>) -> Outcome<bool> {
        let nothing = sending::nothing()?;
        let asked = patience.with(|| {
            let (mut client, nothing) = (self.client.another(), nothing.clone());
            let (database, table) = (&self.database, &self.table);
            async move { client.import_nothing(database, table, nothing).await }
        });
        match asked.await {
            Ok(()) => return Ok(false),
            Err(failure) if failure.exit == Exit::NotFound => {}
            Err(failure) => return Err(failure),
        }
        let maker = self.admin.as_mut().unwrap_or(&mut self.client);
        let made = match maker.make_database(&self.database).await {
            Ok(()) => maker.make_table(&self.database, &self.table).await,
            failed => failed,
        };
        match made {
            Ok(()) => Ok(true),
            Err(failure) if failure.exit == Exit::NotAllowed => Err(Failure::new(
                Exit::NotFound,
                format!("there is no table {}.{}", self.database, self.table),
            )
            .why("and the key may send events, but not make tables")
            .next("check the name, or run this once with an admin key (--key-file, or COFFER_ADMIN_KEY), which makes it")),
            Err(failure) => Err(failure),
        }
    }

    /// Looks without touching anything.
    pub(super) async fn look(&mut self) -> Outcome<Known> {
        let (database, table) = (self.database.as_str(), self.table.as_str());
        let looker = self.admin.as_mut().unwrap_or(&mut self.client);
        match looker.tables(database).await {
            Ok(tables) => Ok(tables
                .into_iter()
                .find(|there| there.name == table)
                .map_or(Known::NoTable, |there| Known::There(there.id))),
            Err(failure) if failure.exit == Exit::NotFound => Ok(Known::NoDatabase),
            Err(failure) if failure.exit == Exit::NotAllowed => Ok(Known::Hidden),
            Err(failure) => Err(failure),
        }
    }
}
