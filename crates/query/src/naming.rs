//! Names of result columns: what has no name of its own is `_col0`, `_col1`, … by its place, as in Trino.

use std::sync::Arc;

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Expr, Query, SelectItem, SetExpr, Statement as Sql};

/// The result's schema with such names.
pub(crate) fn named(statement: &Statement, schema: &SchemaRef) -> SchemaRef {
    let Statement::Statement(sql) = statement else {
        return Arc::clone(schema);
    };
    let Sql::Query(query) = sql.as_ref() else {
        return Arc::clone(schema);
    };
    let unnamed = unnamed(query, schema.fields().len());
    let rename = |(nth, field): (usize, &Arc<datafusion::arrow::datatypes::Field>)| {
        if unnamed.contains(&nth) {
            Arc::new(field.as_ref().clone().with_name(format!("_col{nth}")))
        } else {
            Arc::clone(field)
        }
    };
    Arc::new(Schema::new(schema.fields().iter().enumerate().map(rename).collect::<Vec<_>>()))
}

/// The places, among `width` columns, of those without a name.
fn unnamed(query: &Query, width: usize) -> Vec<usize> {
    if !query.pipe_operators.is_empty() {
        return Vec::new();
    }
    let mut body = query.body.as_ref();
    let items = loop {
        match body {
            SetExpr::Select(select) => break &select.projection,
            SetExpr::Query(inner) => body = inner.body.as_ref(),
            SetExpr::SetOperation { left, .. } => body = left.as_ref(),
            SetExpr::Values(_) => return (0..width).collect(),
            _ => return Vec::new(),
        }
    };
    // A star stands for a number of columns that only the schema knows: count from the nearer end.
    let is_star = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
    let first = items.iter().position(is_star).unwrap_or(items.len());
    let last = items.iter().rposition(is_star).unwrap_or(0);
    let place = |nth: usize| match nth {
        _ if nth < first => Some(nth),
        _ if nth > last => (width + nth).checked_sub(items.len()),
        _ => None,
    };
    let has_no_name = |item: &SelectItem| matches!(item, SelectItem::UnnamedExpr(expr) if !is_name(expr));
    items
        .iter()
        .enumerate()
        .filter(|(_, item)| has_no_name(item))
        .filter_map(|(nth, _)| place(nth))
        .collect()
}

fn is_name(expr: &Expr) -> bool {
    match expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => true,
        Expr::Nested(inner) => is_name(inner),
        _ => false,
    }
}
