//! SHOW and DESCRIBE: answered by queries of ours on the information schema, under the names that Trino gives.

use datafusion::sql::sqlparser::ast::{
    Ident, ObjectName, ShowStatementFilter, ShowStatementFilterPosition, ShowStatementIn, ShowStatementOptions, Statement as Sql,
};

use crate::catalog::SnapshotCatalog;
use crate::error::QueryError;

/// The query that answers the statement.
pub(crate) fn answer(asked: &Sql, catalog: &SnapshotCatalog, default_database: &str) -> Result<String, QueryError> {
    match asked {
        Sql::ShowTables { show_options, .. } => {
            let (database, like) = (one_name(show_options)?, like(show_options, "table_name")?);
            let database = database.unwrap_or_else(|| default_database.to_owned());
            catalog.expect_database(&database)?;
            let within = format!("table_schema = {}", quoted(&database));
            Ok(format!(
                "SELECT table_name AS \"Table\" FROM information_schema.tables WHERE {within}{like} ORDER BY 1"
            ))
        }
        Sql::ShowSchemas { show_options, .. } | Sql::ShowDatabases { show_options, .. } => {
            if let Some(name) = one_name(show_options)?.filter(|name| !SnapshotCatalog::is_called(name)) {
                return Err(QueryError::Invalid(format!("there is no catalog {name:?}")));
            }
            let like = like(show_options, "schema_name")?;
            Ok(format!(
                "SELECT schema_name AS \"Schema\" FROM information_schema.schemata WHERE true{like} ORDER BY 1"
            ))
        }
        Sql::ShowCatalogs { .. } => Ok("SELECT DISTINCT catalog_name AS \"Catalog\" FROM information_schema.schemata".to_owned()),
        Sql::ShowColumns { show_options, .. } => {
            let name = show_options.show_in.as_ref().and_then(|within| within.parent_name.as_ref());
            let name = name.ok_or_else(|| QueryError::Invalid("SHOW COLUMNS FROM needs a table".to_owned()))?;
            columns(name, &like(show_options, "column_name")?, catalog, default_database)
        }
        Sql::ExplainTable { table_name, .. } => columns(table_name, "", catalog, default_database),
        // The gate lets no other through.
        _ => Err(QueryError::Internal),
    }
}

fn columns(table: &ObjectName, like: &str, catalog: &SnapshotCatalog, default_database: &str) -> Result<String, QueryError> {
    let mut parts = parts(table)?;
    let name = parts.pop().unwrap_or_default();
    let database = parts.pop().unwrap_or_else(|| default_database.to_owned());
    catalog.expect_table(&database, &name)?;
    Ok(format!(
        "SELECT column_name AS \"Column\", data_type AS \"Type\", '' AS \"Extra\", '' AS \"Comment\" \
         FROM information_schema.columns WHERE table_schema = {} AND table_name = {}{like} ORDER BY ordinal_position",
        quoted(&database),
        quoted(&name),
    ))
}

/// The name after FROM or IN, without a catalog before it.
fn one_name(options: &ShowStatementOptions) -> Result<Option<String>, QueryError> {
    let Some(ShowStatementIn {
        parent_name: Some(name), ..
    }) = &options.show_in
    else {
        return Ok(None);
    };
    Ok(parts(name)?.pop())
}

/// The parts of a name as the engine reads them: lower case unless quoted.
fn parts(name: &ObjectName) -> Result<Vec<String>, QueryError> {
    let read = |ident: &Ident| {
        if ident.quote_style.is_some() {
            ident.value.clone()
        } else {
            ident.value.to_ascii_lowercase()
        }
    };
    let parts: Option<Vec<_>> = name.0.iter().map(|part| part.as_ident().map(read)).collect();
    let mut parts = parts.ok_or_else(|| QueryError::Invalid(format!("{name} is not a name")))?;
    if parts.len() == 3 && SnapshotCatalog::is_called(&parts[0]) {
        parts.remove(0);
    }
    if parts.len() > 2 {
        return Err(QueryError::Invalid(format!("{name} has too many parts: write database.table")));
    }
    Ok(parts)
}

fn like(options: &ShowStatementOptions, column: &str) -> Result<String, QueryError> {
    let unsupported = [options.starts_with.is_some(), options.limit.is_some(), options.limit_from.is_some()];
    if unsupported.contains(&true) {
        return Err(QueryError::Invalid("SHOW takes FROM and LIKE only".to_owned()));
    }
    let (ShowStatementFilterPosition::Infix(filter) | ShowStatementFilterPosition::Suffix(filter)) = match &options.filter_position {
        Some(position) => position,
        None => return Ok(String::new()),
    };
    match filter {
        ShowStatementFilter::Like(pattern) | ShowStatementFilter::NoKeyword(pattern) => {
            Ok(format!(" AND {column} LIKE {}", quoted(pattern)))
        }
        ShowStatementFilter::ILike(pattern) => Ok(format!(" AND {column} ILIKE {}", quoted(pattern))),
        ShowStatementFilter::Where(_) => Err(QueryError::Invalid("SHOW takes FROM and LIKE only".to_owned())),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
