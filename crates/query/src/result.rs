//! A running query, as a stream of batches.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt};
use tokio_util::sync::DropGuard;
use zones::Zones;

use crate::error::{QueryError, is_damage};
use crate::reader::Touched;
use crate::settings::QuerySettings;
use crate::stop::Stop;

/// A running query. To drop it is to stop it.
pub struct QueryStream {
    schema: SchemaRef,
    most_held: u64,
    batches: BoxStream<'static, Result<RecordBatch, QueryError>>,
}

impl QueryStream {
    /// The columns of the result, under the names the caller gave them or `_col0`, `_col1`, …
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The whole result, within the limit for what is held in memory whole. For tests and answers that are known to be small; who streams
    /// needs no limit here and has one of their own.
    pub async fn collect(mut self) -> Result<Vec<RecordBatch>, QueryError> {
        let limit = self.most_held;
        let (mut all, mut left) = (Vec::new(), limit);
        while let Some(batch) = self.next().await {
            let batch = batch?;
            left = left
                .checked_sub(batch.get_array_memory_size() as u64)
                .ok_or(QueryError::ResultTooLarge { limit })?;
            all.push(batch);
        }
        Ok(all)
    }

    pub(crate) fn new(schema: SchemaRef, first: Option<RecordBatch>, rest: Running) -> Self {
        let most_held = rest.settings.max_result_bytes;
        let given = futures::stream::iter(first.map(Ok));
        let following = futures::stream::unfold(Some(rest), |running| async move {
            let mut running = running?;
            match running.next().await {
                Ok(Some(batch)) => Some((Ok(batch), Some(running))),
                Ok(None) => None,
                Err(failure) => Some((Err(running.settle(failure).await), None)),
            }
        });
        let names = Arc::clone(&schema);
        let batches = given.chain(following).map(move |batch| {
            let batch = batch?;
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            RecordBatch::try_new_with_options(Arc::clone(&names), batch.columns().to_vec(), &options)
                .map_err(|error| QueryError::from_engine(&error.into(), 0))
        });
        // After an error nothing more comes: half a result must not look like a whole one.
        let batches = batches.scan(false, |failed, batch| {
            let over = *failed;
            *failed |= batch.is_err();
            std::future::ready((!over).then_some(batch))
        });
        Self {
            schema,
            most_held,
            batches: batches.boxed(),
        }
    }
}

impl Stream for QueryStream {
    type Item = Result<RecordBatch, QueryError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.batches.poll_next_unpin(cx)
    }
}

impl std::fmt::Debug for QueryStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueryStream").field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// Why a running query ended early.
pub(crate) enum Failure {
    /// Something stored did not open or did not decode.
    Damage(QueryError),
    /// Anything else.
    Other(QueryError),
}

/// The engine's stream and what belongs to it.
pub(crate) struct Running {
    pub(crate) stream: SendableRecordBatchStream,
    pub(crate) stop: Arc<Stop>,
    pub(crate) touched: Arc<Touched>,
    pub(crate) zones: Arc<Zones>,
    pub(crate) settings: Arc<QuerySettings>,
    /// Ends every part of the query when this is dropped.
    pub(crate) _guard: DropGuard,
}

impl Running {
    /// The next batch that has rows.
    pub(crate) async fn next(&mut self) -> Result<Option<RecordBatch>, Failure> {
        loop {
            // The decoder trusts lengths that stand in the clear, and panics on some that a flipped bit makes of them.
            let step = AssertUnwindSafe(self.stream.next()).catch_unwind();
            let step = tokio::select! {
                biased;
                reason = self.stop.reached() => return Err(Failure::Other(reason.into())),
                step = step => step,
            };
            match step {
                Ok(None) => return Ok(None),
                Ok(Some(Ok(batch))) if batch.num_rows() == 0 => {}
                Ok(Some(Ok(batch))) => return Ok(Some(batch)),
                Ok(Some(Err(error))) => {
                    let said = QueryError::from_engine(&error, self.settings.memory_limit_bytes);
                    return Err(if is_damage(&error) {
                        Failure::Damage(said)
                    } else {
                        Failure::Other(said)
                    });
                }
                Err(_) => {
                    tracing::error!("a query panicked inside the engine");
                    return Err(Failure::Damage(QueryError::Internal));
                }
            }
        }
    }

    /// After rows were handed out the query cannot be begun again here: has the damage repaired, and says so.
    pub(crate) async fn settle(&mut self, failure: Failure) -> QueryError {
        match failure {
            Failure::Other(error) => error,
            Failure::Damage(error) if self.touched.report(&self.zones).await => {
                tracing::warn!(error = %error, "stored data was damaged, its copies are being verified");
                QueryError::Damaged
            }
            Failure::Damage(error) => error,
        }
    }
}
