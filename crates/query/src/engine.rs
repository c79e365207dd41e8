//! Running a query, from its text to its rows.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigNonZeroUsize;
use datafusion::execution::TaskContext;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::sql::parser::Statement;
use tokio_util::sync::CancellationToken;
use zones::Zones;

use crate::catalog::SnapshotCatalog;
use crate::error::QueryError;
use crate::functions::IN_FROM;
use crate::gate::{self, Question};
use crate::lease::Lease;
use crate::naming::named;
use crate::reader::{Touched, ZoneReaders};
use crate::result::{Failure, QueryStream, Running};
use crate::settings::QuerySettings;
use crate::stop::{Stop, watch};
use crate::view::ProductView;
use crate::{constants, session, show};

/// How many bytes the copies of all constants may have in one batch of rows.
const MOST_CONSTANTS: usize = 64 << 20;

/// How many cells one batch of rows may have, for so much memory: with what queries have by default, none has fewer rows for it than usual
/// unless it has hundreds of columns.
fn most_cells(memory: usize) -> usize {
    (memory / 64).clamp(64 << 10, 4 << 20)
}

/// Answers queries. Holds nothing of any product.
#[derive(Debug, Clone)]
pub struct Engine {
    zones: Arc<Zones>,
    settings: Arc<QuerySettings>,
}

impl Engine {
    /// An engine that reads files from `zones`.
    pub fn new(zones: Arc<Zones>, settings: QuerySettings) -> Self {
        Self {
            zones,
            settings: Arc::new(settings),
        }
    }

    /// Runs `sql` over the tables of `product`, reading files under `lease`, until it is done or `cancel` says stop.
    ///
    /// Returns with the first rows. What is stored damaged is repaired and read again once, unless rows were given out.
    pub async fn run(
        &self,
        product: &ProductView,
        lease: Arc<Lease>,
        default_database: &str,
        sql: &str,
        cancel: CancellationToken,
    ) -> Result<QueryStream, QueryError> {
        let question = gate::admit(sql, self.settings.max_statement_bytes)?;
        let (stop, _guard) = Stop::new(&cancel, self.settings.timeout);
        let attempt = |verified| self.attempt(product, &lease, default_database, &question, &cancel, verified);
        let work = async {
            match attempt(false).await {
                Err((Failure::Damage(error), touched)) if touched.report(&self.zones).await => {
                    tracing::warn!(error = %error, "stored data was damaged, reading verified copies");
                    attempt(true).await.map_err(error_of)
                }
                done => done.map_err(error_of),
            }
        };
        tokio::select! {
            biased;
            reason = stop.reached() => Err(reason.into()),
            done = Box::pin(work) => done,
        }
    }

    async fn attempt(
        &self,
        product: &ProductView,
        lease: &Arc<Lease>,
        database: &str,
        question: &Question,
        cancel: &CancellationToken,
        verified: bool,
    ) -> Result<QueryStream, (Failure, Arc<Touched>)> {
        let touched = Arc::new(Touched::default());
        let other = |error: QueryError| (Failure::Other(error), Arc::clone(&touched));
        let engine = |error| other(self.said(&error));

        let pool = session::pool(&self.settings);
        let readers = Arc::new(ZoneReaders {
            zones: Arc::clone(&self.zones),
            lease: Arc::clone(lease),
            touched: Arc::clone(&touched),
            pool: Arc::clone(&pool),
            verified,
        });
        let catalog = SnapshotCatalog::new(product, &readers).map_err(engine)?;
        let statement = match question {
            Question::Query(statement) => statement.clone(),
            Question::Show(asked) => {
                let text = show::answer(asked, &catalog, database).map_err(other)?;
                match gate::admit(&text, usize::MAX).map_err(other)? {
                    Question::Query(statement) => statement,
                    Question::Show(_) => return Err(other(QueryError::Internal)),
                }
            }
        };

        let state = session::state(&self.settings, &pool, &catalog, database, 1).map_err(engine)?;
        let plan = self.plan(&state, &catalog, &statement, database).await.map_err(other)?;
        let (stop, guard) = Stop::new(cancel, self.settings.timeout);
        let (physical, context) = physical(state, &plan, most_cells(self.settings.memory_limit_bytes))
            .await
            .map_err(engine)?;
        let physical = watch(physical, &stop).map_err(engine)?;
        let schema = named(&statement, &physical.schema());
        let stream = execute_stream(physical, context).map_err(engine)?;

        let (zones, settings) = (Arc::clone(&self.zones), Arc::clone(&self.settings));
        let mut running = Running {
            stream,
            stop,
            touched: Arc::clone(&touched),
            zones,
            settings,
            _guard: guard,
        };
        match running.next().await {
            Ok(first) => Ok(QueryStream::new(schema, first, running)),
            Err(failure) => Err((failure, touched)),
        }
    }

    async fn plan(
        &self,
        state: &SessionState,
        catalog: &SnapshotCatalog,
        statement: &Statement,
        database: &str,
    ) -> Result<LogicalPlan, QueryError> {
        match state.statement_to_plan(statement.clone()).await {
            Ok(plan) => gate::inspect_plan(&plan).map(|()| plan),
            Err(error) => {
                // The engine's words about a missing table are poor: look for one first.
                for table in state.resolve_table_references(statement).unwrap_or_default() {
                    let table = table.resolve(session::CATALOG, database);
                    if SnapshotCatalog::is_called(&table.catalog) && !IN_FROM.contains(&table.table.as_ref()) {
                        catalog.expect_table(&table.schema, &table.table)?;
                    }
                }
                Err(self.said(&error))
            }
        }
    }

    fn said(&self, error: &datafusion::common::DataFusionError) -> QueryError {
        QueryError::from_engine(error, self.settings.memory_limit_bytes)
    }
}

/// The plan as it runs. Where long constants stand in it, fewer rows are worked on at a time, as each row may get a copy; and where
/// there are very many columns.
async fn physical(mut state: SessionState, plan: &LogicalPlan, cells: usize) -> Result<(Arc<dyn ExecutionPlan>, Arc<TaskContext>)> {
    let plan = state.optimize(plan)?;
    let rows = (MOST_CONSTANTS / constants::copied(&plan)?.max(1)).min(cells / constants::widest(&plan)?);
    let execution = &mut state.config_mut().options_mut().execution;
    execution.batch_size = execution.batch_size.min(ConfigNonZeroUsize::try_new(rows.max(1))?);
    let physical = state.query_planner().create_physical_plan(&plan, &state).await?;
    Ok((physical, state.task_ctx()))
}

fn error_of((failure, _): (Failure, Arc<Touched>)) -> QueryError {
    match failure {
        Failure::Damage(error) | Failure::Other(error) => error,
    }
}
