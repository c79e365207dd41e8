//! The way to the catalog, as one process has it: a change is made or not, and the process is killed before it, or after.

use std::sync::Arc;

use async_trait::async_trait;
use base::time::sleep;
use base::{DatabaseName, TableId, Timestamp};
use columns::catalog::{BatchHash, CatalogError, CatalogStore, Contents, DatabaseRecord, MemoryCatalog, RecordHash, Swap, TableRecord};
use zones::ObjectName;

use crate::life::Life;
use crate::world::World;

#[derive(Debug)]
pub(crate) struct CatalogDoor {
    pub(crate) world: Arc<World>,
    pub(crate) life: Arc<Life>,
}

impl CatalogDoor {
    /// Has `work` done, unless the database cannot be reached now or the process is killed first.
    async fn through<T>(&self, what: &str, work: impl Future<Output = Result<T, CatalogError>>) -> Result<T, CatalogError> {
        let (world, number) = (&self.world, self.life.number);
        if !self.life.step() {
            return std::future::pending().await;
        }
        sleep(world.way.millis(0, 3)).await;
        if !self.life.is_alive() {
            return std::future::pending().await;
        }
        if world.shaky() && world.way.one_in(10) {
            world.note(format_args!("{number}: the catalog fails at: {what}"));
            return Err(MemoryCatalog::failure());
        }
        let done = work.await;
        world.note(format_args!("{number}: the catalog does: {what}"));
        // Killed before it hears of it.
        if !self.life.step() {
            return std::future::pending().await;
        }
        done
    }
}

#[async_trait]
impl CatalogStore for CatalogDoor {
    async fn load(&self) -> Result<Contents, CatalogError> {
        self.through("load", self.world.catalog.load()).await
    }
    async fn create_database(&self, database: &DatabaseRecord, sequence: u64) -> Result<(), CatalogError> {
        self.through("create a database", self.world.catalog.create_database(database, sequence))
            .await
    }
    async fn delete_database(&self, database: &DatabaseName, sequence: u64) -> Result<Vec<ObjectName>, CatalogError> {
        self.through("delete a database", self.world.catalog.delete_database(database, sequence))
            .await
    }
    async fn create_table(&self, table: &TableRecord, sequence: u64) -> Result<(), CatalogError> {
        self.through("create a table", self.world.catalog.create_table(table, sequence))
            .await
    }
    async fn delete_table(&self, table: TableId, sequence: u64) -> Result<Vec<ObjectName>, CatalogError> {
        self.through("delete a table", self.world.catalog.delete_table(table, sequence))
            .await
    }
    async fn swap(&self, swap: &Swap<'_>) -> Result<(), CatalogError> {
        self.through("swap", self.world.catalog.swap(swap)).await
    }
    async fn is_covered(&self, table: TableId, batch: &BatchHash) -> Result<bool, CatalogError> {
        self.through("look for a batch", self.world.catalog.is_covered(table, batch)).await
    }
    async fn cover_nothing_of(&self, table: TableId, batch: &BatchHash, at: Timestamp) -> Result<(), CatalogError> {
        self.through("cover a batch", self.world.catalog.cover_nothing_of(table, batch, at))
            .await
    }
    async fn stored_records(&self, table: TableId, records: &[RecordHash]) -> Result<Vec<RecordHash>, CatalogError> {
        self.through("look for records", self.world.catalog.stored_records(table, records))
            .await
    }
}
