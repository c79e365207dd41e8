//! The engine, made for one query and thrown away with it: nothing of it is shared between products.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryPool};
use datafusion::execution::object_store::{DefaultObjectStoreRegistry, ObjectStoreRegistry, ObjectStoreUrl};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::prelude::SessionConfig;
use object_store::memory::InMemory;

use crate::catalog::SnapshotCatalog;
use crate::functions::{self, Allowance};
use crate::settings::QuerySettings;

/// The catalog's name.
pub(crate) const CATALOG: &str = "coffer";

/// Where files seem to be. Nothing is there: the readers go to the zones.
pub(crate) fn store_url() -> ObjectStoreUrl {
    ObjectStoreUrl::parse("coffer://zones").expect("the address is well formed")
}

/// The engine for a statement that names something, a constant among them, so often at most.
pub(crate) fn state(
    settings: &QuerySettings,
    pool: &Arc<dyn MemoryPool>,
    catalog: &SnapshotCatalog,
    database: &str,
    names: usize,
) -> Result<SessionState> {
    let mut config = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, database)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(false)
        .with_target_partitions(settings.target_partitions.get())
        .with_batch_size(settings.batch_size.get());
    let options = config.options_mut();
    // As Trino does: nulls last whichever way the order goes.
    options.sql_parser.default_null_ordering = "nulls_last".to_owned();
    options.sql_parser.map_string_types_to_utf8view = false;
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(Arc::new(runtime(pool)?))
        .with_catalog_list(Arc::new(catalog.clone()));
    let allowance = Allowance::new(settings.memory_limit_bytes, names);
    Ok(functions::register(state, &allowance).build())
}

/// The memory of one query.
pub(crate) fn pool(settings: &QuerySettings) -> Arc<dyn MemoryPool> {
    Arc::new(GreedyMemoryPool::new(settings.memory_limit_bytes))
}

/// Memory up to the limit, no disk, no file system.
fn runtime(pool: &Arc<dyn MemoryPool>) -> Result<RuntimeEnv> {
    let stores = DefaultObjectStoreRegistry::new();
    // The default one knows the machine's own files.
    stores.deregister_store(ObjectStoreUrl::local_filesystem().as_ref())?;
    stores.register_store(store_url().as_ref(), Arc::new(InMemory::new()));
    RuntimeEnvBuilder::new()
        .with_object_store_registry(Arc::new(stores))
        .with_memory_pool(Arc::clone(pool))
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
        .build()
}
