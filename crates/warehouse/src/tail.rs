//! The newest rows of a table, for whoever wants to see what arrives.

use std::sync::Arc;

use base::{DatabaseName, Scope, TableName};
use edge::revocations::Ended;
use events::encode_maps;
use query::{Engine, QueryError};
use tokio::runtime::Handle;

use crate::leases::Reading;
use crate::product::{Product, ProductError};

/// The most rows that one tail returns.
const MAX_TAIL: u32 = 10_000;

/// Why there is no tail.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TailError {
    #[error(transparent)]
    Product(#[from] ProductError),
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(transparent)]
    Ended(#[from] Ended),
    #[error("the rows could not be written as msgpack")]
    Encode(#[from] events::EncodeError),
    #[error("the query was broken off")]
    Broken,
}

/// Up to `count` of the newest rows as msgpack maps. Ends with the right to read.
pub(crate) async fn tail(
    engine: &Engine,
    queries: &Handle,
    product: &Arc<Product>,
    reading: &Reading,
    scope: &Scope,
    (database, table): (&DatabaseName, &TableName),
    count: u32,
) -> Result<Vec<u8>, TailError> {
    product.table_id(database, table)?;
    // Both names hold letters, digits and underscores only, and the count is a number: nothing of it can be more SQL.
    let count = count.clamp(1, MAX_TAIL);
    let sql = format!("SELECT * FROM \"{database}\".\"{table}\" ORDER BY time DESC LIMIT {count}");
    let cancel = reading.token();
    // Should the caller go away, the query goes too.
    let _stop = cancel.clone().drop_guard();
    let read = async {
        let view = product.view(scope, reading.key()).await?;
        let (engine, lease, database) = (engine.clone(), reading.lease().clone(), database.clone());
        let work = async move { engine.run(&view, lease, database.as_str(), &sql, cancel).await?.collect().await };
        let batches = queries.spawn(work).await.map_err(|_| TailError::Broken)??;
        let mut rows = Vec::new();
        for batch in &batches {
            encode_maps(batch, 0..batch.num_rows(), &mut rows)?;
        }
        Ok(rows)
    };
    reading.while_it_lasts(read).await?
}
