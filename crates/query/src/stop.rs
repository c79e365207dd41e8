//! Stopping: every operator of a running plan asks, before each batch, whether it should go on.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{Stream, StreamExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Why a query was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StopReason {
    #[error("stopped by the caller")]
    Cancelled,
    #[error("stopped after {after:?}")]
    TimedOut { after: Duration },
}

/// When to stop: on a word from outside, or when the time is up.
#[derive(Debug)]
pub(crate) struct Stop {
    cancel: CancellationToken,
    deadline: Instant,
    after: Duration,
}

impl Stop {
    /// Stops with `cancel`, or `after` that long, or when the guard is dropped.
    pub(crate) fn new(cancel: &CancellationToken, after: Duration) -> (Arc<Self>, tokio_util::sync::DropGuard) {
        let own = cancel.child_token();
        let guard = own.clone().drop_guard();
        (
            Arc::new(Self {
                cancel: own,
                deadline: Instant::now() + after,
                after,
            }),
            guard,
        )
    }

    /// The reason to stop, once there is one.
    pub(crate) fn reason(&self) -> Option<StopReason> {
        if self.cancel.is_cancelled() {
            Some(StopReason::Cancelled)
        } else if Instant::now() >= self.deadline {
            Some(StopReason::TimedOut { after: self.after })
        } else {
            None
        }
    }

    /// Waits for a reason to stop.
    pub(crate) async fn reached(&self) -> StopReason {
        tokio::select! {
            () = self.cancel.cancelled() => StopReason::Cancelled,
            () = tokio::time::sleep_until(self.deadline) => StopReason::TimedOut { after: self.after },
        }
    }
}

/// Puts a check on top of every operator, so that none can go on for more than a batch.
///
/// The engine's own cooperation is at the leaves only: a cross join that once has its input never asks them again.
pub(crate) fn watch(plan: Arc<dyn ExecutionPlan>, stop: &Arc<Stop>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|input| {
        Ok(Transformed::yes(Arc::new(Watched {
            input,
            stop: Arc::clone(stop),
        }) as _))
    })
    .data()
}

#[derive(Debug)]
struct Watched {
    input: Arc<dyn ExecutionPlan>,
    stop: Arc<Stop>,
}

impl DisplayAs for Watched {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watched")
    }
}

impl ExecutionPlan for Watched {
    fn name(&self) -> &'static str {
        "Watched"
    }

    fn downcast_delegate(&self) -> Option<&dyn ExecutionPlan> {
        Some(self.input.as_ref())
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self {
                input,
                stop: Arc::clone(&self.stop),
            })),
            _ => internal_err!("a check has one input"),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let inner = self.input.execute(partition, context)?;
        Ok(make_cooperative(Box::pin(Checked {
            inner,
            stop: Arc::clone(&self.stop),
        })))
    }
}

struct Checked {
    inner: SendableRecordBatchStream,
    stop: Arc<Stop>,
}

impl Stream for Checked {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.stop.reason() {
            Some(reason) => Poll::Ready(Some(Err(DataFusionError::External(Box::new(reason))))),
            None => self.inner.poll_next_unpin(cx),
        }
    }
}

impl RecordBatchStream for Checked {
    fn schema(&self) -> SchemaRef {
        self.inner.schema()
    }
}
