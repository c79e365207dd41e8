//! What may be asked: one statement, and a question.
//!
//! The text is parsed, and everything is refused that is not on the short list, by kind and with advice. The engine
//! would not be able to do the rest either: its catalog is read-only, its functions read nothing, it has no disk.

use std::ops::ControlFlow;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, BinaryOperator, DataType, Expr, Function, ObjectName, Query, Select, Statement as Sql, TableFactor, Visit, Visitor,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;

use crate::error::QueryError;
use crate::expansion;
use crate::functions::IN_FROM;
use crate::steps;

/// How many values an array type of a given size may have a place for.
const MOST_PLACES: u64 = 1000;
/// Aggregates that hold every value they have seen.
const COLLECTING: [&str; 3] = ["array_agg", "string_agg", "listagg"];

/// A statement that may run.
#[derive(Debug)]
pub(crate) enum Question {
    /// A query, or the explanation of one.
    Query(Statement),
    /// SHOW and DESCRIBE, which are answered by a query of ours.
    Show(Box<Sql>),
}

/// Reads the text, and lets only questions through.
pub(crate) fn admit(text: &str, most: usize) -> Result<Question, QueryError> {
    if text.len() > most {
        return Err(QueryError::TooLong { bytes: text.len(), most });
    }
    steps::check(text)?;
    let dialect = GenericDialect {};
    let mut statements = DFParserBuilder::new(text)
        .with_dialect(&dialect)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|error| QueryError::from_engine(&error, 0))?;
    let statement = statements.pop_front().ok_or(QueryError::Empty)?;
    if !statements.is_empty() {
        return Err(QueryError::Several {
            found: statements.len() + 1,
        });
    }
    admit_statement(statement)
}

fn admit_statement(statement: Statement) -> Result<Question, QueryError> {
    match &statement {
        Statement::Statement(sql) => match sql.as_ref() {
            Sql::Query(query) => inspect(query).map(|()| Question::Query(statement)),
            Sql::ShowTables { .. }
            | Sql::ShowSchemas { .. }
            | Sql::ShowDatabases { .. }
            | Sql::ShowCatalogs { .. }
            | Sql::ShowColumns { .. }
            | Sql::ExplainTable { .. } => Ok(Question::Show(sql.clone())),
            Sql::Explain { statement: inner, .. } => match inner.as_ref() {
                Sql::Query(query) => inspect(query).map(|()| Question::Query(statement)),
                other => Err(refusal(&format!("EXPLAIN {}", first_word(other)))),
            },
            other => Err(refusal(&first_word(other))),
        },
        Statement::Explain(explain) => match admit_statement((*explain.statement).clone())? {
            Question::Query(Statement::Statement(_)) => Ok(Question::Query(statement)),
            _ => Err(refusal("EXPLAIN of anything but a query")),
        },
        Statement::CreateExternalTable(_) => Err(refusal("CREATE EXTERNAL TABLE")),
        Statement::CopyTo(_) => Err(refusal("COPY")),
        Statement::Reset(_) => Err(refusal("RESET")),
    }
}

/// Looks again at what the engine made of it, in case parser and engine see the text differently.
pub(crate) fn inspect_plan(plan: &LogicalPlan) -> Result<(), QueryError> {
    let mut found = None;
    plan.apply_with_subqueries(|node| {
        let what = match node {
            LogicalPlan::Ddl(ddl) => ddl.name().to_owned(),
            LogicalPlan::Dml(dml) => dml.op.to_string(),
            LogicalPlan::Copy(_) => "COPY".to_owned(),
            LogicalPlan::Statement(statement) => statement.name().to_owned(),
            LogicalPlan::Extension(_) => "an extension".to_owned(),
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        found = Some(what);
        Ok(TreeNodeRecursion::Stop)
    })
    .map_err(|error| QueryError::from_engine(&error, 0))?;
    found.map_or(Ok(()), |what| Err(refusal(&what)))
}

fn refusal(what: &str) -> QueryError {
    let advice = match what.split_whitespace().next().unwrap_or_default() {
        "INSERT" | "COPY" | "LOAD" | "IMPORT" => "send events with a td client or `coffer import`",
        "CREATE" | "DROP" | "ALTER" => "make and delete databases and tables with a td client or `coffer tables`",
        "UPDATE" | "DELETE" | "MERGE" | "TRUNCATE" => "stored events are not changed by SQL",
        "SET" | "RESET" | "USE" => "settings come with the request, name the database as in db.table",
        "PREPARE" | "EXECUTE" | "DEALLOCATE" => "send the query itself",
        "SHOW" => "SHOW TABLES, SHOW SCHEMAS, SHOW COLUMNS FROM and DESCRIBE are answered",
        _ => "only queries are answered: SELECT, WITH, VALUES, SHOW, DESCRIBE, EXPLAIN",
    };
    QueryError::NotAQuery {
        what: what.to_owned(),
        advice,
    }
}

fn first_word(statement: &Sql) -> String {
    let text = statement.to_string();
    text.split(|c: char| !c.is_ascii_alphabetic())
        .next()
        .unwrap_or_default()
        .to_ascii_uppercase()
}

fn inspect(query: &Query) -> Result<(), QueryError> {
    match query.visit(&mut Inspector) {
        ControlFlow::Continue(()) => expansion::check(query),
        ControlFlow::Break(refused) => Err(refused),
    }
}

struct Inspector;

impl Visitor for Inspector {
    type Break = QueryError;

    // Only writes stand inside a query as statements of their own.
    fn pre_visit_statement(&mut self, statement: &Sql) -> ControlFlow<QueryError> {
        ControlFlow::Break(refusal(&format!("{} inside a query", first_word(statement))))
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<QueryError> {
        let extra = [
            (!query.locks.is_empty(), "FOR UPDATE"),
            (query.for_clause.is_some(), "FOR XML or JSON"),
            (query.settings.is_some(), "SETTINGS"),
            (query.format_clause.is_some(), "FORMAT"),
        ];
        match extra.into_iter().find(|(there, _)| *there) {
            Some((_, what)) => ControlFlow::Break(refusal(what)),
            None => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<QueryError> {
        if select.into.is_some() {
            ControlFlow::Break(refusal("SELECT INTO"))
        } else {
            ControlFlow::Continue(())
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<QueryError> {
        match factor {
            TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => in_from(name),
            TableFactor::TableFunction {
                expr: Expr::Function(Function { name, .. }),
                ..
            } => in_from(name),
            TableFactor::Table { .. } | TableFactor::Derived { .. } | TableFactor::UNNEST { .. } | TableFactor::NestedJoin { .. } => {
                ControlFlow::Continue(())
            }
            _ => ControlFlow::Break(refusal("this kind of table")),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<QueryError> {
        let function = match expr {
            Expr::Function(function) => function,
            Expr::Cast { data_type, .. } if places(data_type) > MOST_PLACES => {
                return ControlFlow::Break(QueryError::NotAQuery {
                    what: "an array type of that size".to_owned(),
                    advice: "leave the size out, as in BIGINT[]",
                });
            }
            Expr::BinaryOp {
                op:
                    BinaryOperator::PGRegexMatch
                    | BinaryOperator::PGRegexIMatch
                    | BinaryOperator::PGRegexNotMatch
                    | BinaryOperator::PGRegexNotIMatch,
                right,
                ..
            }
            | Expr::SimilarTo { pattern: right, .. }
            | Expr::RLike { pattern: right, .. }
                if !matches!(right.as_ref(), Expr::Value(_)) =>
            {
                return ControlFlow::Break(QueryError::NotAQuery {
                    what: "matching with a pattern that is worked out".to_owned(),
                    advice: "write the pattern as a text in quotes, or call regexp_like(text, pattern)",
                });
            }
            _ => return ControlFlow::Continue(()),
        };
        let name = function.name.to_string().to_ascii_lowercase();
        if name == "person_id" || name == "reveal" {
            let said = format!("{name} takes one text in quotes, and is known to queries that come through the gateway");
            return ControlFlow::Break(QueryError::Invalid(said));
        }
        if function.over.is_some() && COLLECTING.contains(&name.as_str()) {
            return ControlFlow::Break(QueryError::NotAQuery {
                what: format!("{name}(...) OVER"),
                advice: "each row would hold what all rows of its window have: use GROUP BY",
            });
        }
        ControlFlow::Continue(())
    }
}

/// How many values a type has a place for, whether they are there or not.
fn places(data_type: &DataType) -> u64 {
    match data_type {
        DataType::Array(ArrayElemTypeDef::SquareBracket(item, size)) => places(item).saturating_mul(size.unwrap_or(1)),
        DataType::Array(ArrayElemTypeDef::AngleBracket(item) | ArrayElemTypeDef::Parenthesis(item)) => places(item),
        _ => 1,
    }
}

fn in_from(name: &ObjectName) -> ControlFlow<QueryError> {
    if IN_FROM.contains(&name.to_string().to_ascii_lowercase().as_str()) {
        return ControlFlow::Continue(());
    }
    ControlFlow::Break(QueryError::NotAQuery {
        what: format!("{name}(...) as a table"),
        advice: "queries read tables only; unnest, range and generate_series are the functions that stand in FROM",
    })
}
