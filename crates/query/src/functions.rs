//! The functions a query may call.

mod allowance;
mod bounded;
mod grows;
mod operators;
mod sizes;
#[cfg(test)]
mod tests;
mod work;

use std::sync::Arc;

use datafusion::execution::SessionStateDefaults;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::ScalarUDF;

pub(crate) use allowance::Allowance;

/// Functions of the engine that tell about its build, its files or its own annotations instead of about the data.
const LEFT_OUT: [&str; 5] = ["version", "input_file_name", "file_row_index", "arrow_metadata", "with_metadata"];

/// Functions that stand in `FROM`. None of them reads anything.
pub(crate) const IN_FROM: [&str; 3] = ["generate_series", "range", "unnest"];

/// Adds what may be called, and nothing that reads files, settings or the environment.
///
/// Functions of functions are left out: in this dialect of SQL they cannot be called.
pub(crate) fn register(state: SessionStateBuilder, allowance: &Arc<Allowance>) -> SessionStateBuilder {
    let in_from = SessionStateDefaults::default_table_functions()
        .into_iter()
        .filter(|function| IN_FROM.contains(&function.name()))
        .map(|function| (function.name().to_owned(), function))
        .collect();
    state
        .with_expr_planners(operators::planners(SessionStateDefaults::default_expr_planners(), allowance))
        .with_scalar_functions(scalar(allowance))
        .with_aggregate_functions(SessionStateDefaults::default_aggregate_functions())
        .with_window_functions(SessionStateDefaults::default_window_functions())
        .with_table_functions(in_from)
}

fn scalar(allowance: &Arc<Allowance>) -> Vec<Arc<ScalarUDF>> {
    let mut all: Vec<_> = SessionStateDefaults::default_scalar_functions();
    all.retain(|function| !LEFT_OUT.contains(&function.name()));
    all.into_iter().map(|function| bounded::bounded(function, allowance)).collect()
}
