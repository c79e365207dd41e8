//! How large a statement becomes once every named part of it stands where it is used.
//!
//! The engine puts each `WITH` query into every place that names it, so a few lines of text may become more plan than anybody can
//! wait for, and planning cannot be broken off. This is worked out on the parsed text, before the engine sees it. Does not know tables.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Ident, ObjectName, Query, Select, TableFactor, TableWithJoins, Visit, Visitor};

use crate::error::QueryError;

/// How many tables a statement may read, each as often as it is read.
pub(crate) const MOST_TABLES: u64 = 2_000;
/// How many tables stand side by side in one FROM. The engine joins them one after the other, and each step lists the columns of all
/// before it again.
pub(crate) const MOST_JOINED: usize = 32;

/// Refuses a query that becomes too large.
pub(crate) fn check(query: &Query) -> Result<(), QueryError> {
    let mut counting = Counting {
        frames: vec![Frame::default()],
    };
    match query.visit(&mut counting) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(refused) => Err(refused),
    }
}

/// A query that is being looked at.
#[derive(Default)]
struct Frame {
    /// Tables that it reads so far.
    tables: u64,
    /// The queries that it names, and how many tables each of them reads.
    named: HashMap<String, u64>,
    /// Which of the queries inside it are those, told apart by where they stand in memory.
    names: HashMap<*const Query, String>,
}

struct Counting {
    frames: Vec<Frame>,
}

impl Counting {
    fn reads(&mut self, tables: u64) -> ControlFlow<QueryError> {
        let Some(frame) = self.frames.last_mut() else {
            return ControlFlow::Continue(());
        };
        frame.tables = frame.tables.saturating_add(tables);
        if frame.tables > MOST_TABLES {
            ControlFlow::Break(QueryError::TooManyTables)
        } else {
            ControlFlow::Continue(())
        }
    }
}

impl Visitor for Counting {
    type Break = QueryError;

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<QueryError> {
        if select.from.iter().map(side_by_side).sum::<usize>() > MOST_JOINED {
            return ControlFlow::Break(QueryError::TooManyJoined);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<QueryError> {
        match factor {
            // These have a name, or are queries: they are counted as such.
            TableFactor::Table { .. } | TableFactor::Derived { .. } => ControlFlow::Continue(()),
            _ => self.reads(1),
        }
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<QueryError> {
        let parts = query.with.iter().flat_map(|with| &with.cte_tables);
        let names = parts.map(|part| (std::ptr::from_ref(&*part.query), folded(&part.alias.name)));
        self.frames.push(Frame {
            names: names.collect(),
            ..Frame::default()
        });
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<QueryError> {
        let Some(done) = self.frames.pop() else {
            return ControlFlow::Continue(());
        };
        let name = self
            .frames
            .last()
            .and_then(|outer| outer.names.get(&std::ptr::from_ref(query)).cloned());
        match (name, self.frames.last_mut()) {
            (Some(name), Some(outer)) => {
                outer.named.insert(name, done.tables.max(1));
                ControlFlow::Continue(())
            }
            _ => self.reads(done.tables),
        }
    }

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<QueryError> {
        // As the engine looks for it: a name in quotes may hold the dots of one that has several parts.
        let parts: Option<Vec<_>> = name.0.iter().map(|part| part.as_ident().map(folded)).collect();
        let named = parts.and_then(|parts| {
            let name = parts.join(".");
            self.frames.iter().rev().find_map(|frame| frame.named.get(&name).copied())
        });
        self.reads(named.unwrap_or(1))
    }
}

/// How many tables stand side by side, those in brackets included.
fn side_by_side(from: &TableWithJoins) -> usize {
    let tables = |factor: &TableFactor| match factor {
        TableFactor::NestedJoin { table_with_joins, .. } => side_by_side(table_with_joins),
        _ => 1,
    };
    tables(&from.relation) + from.joins.iter().map(|join| tables(&join.relation)).sum::<usize>()
}

/// As the engine compares names: its ASCII letters in lower case unless they are quoted.
fn folded(name: &Ident) -> String {
    match name.quote_style {
        Some(_) => name.value.clone(),
        None => name.value.to_ascii_lowercase(),
    }
}
