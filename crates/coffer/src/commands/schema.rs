//! `coffer tables schema`: the types of a table's columns, shown and declared.

use std::collections::BTreeMap;

use base::{DatabaseName, TableName};
use serde_json::json;

use super::tables::columns;
use crate::cli::{Schema, table_name};
use crate::client::td::Table;
use crate::client::{Access, Client};
use crate::failure::{During, Exit, Failure, Outcome};
use crate::output::{self, Format};
use crate::terminal;

/// In place of the type of a column whose type would follow from its values again.
const FROM_VALUES: &str = "(from its values)";

/// Declares what is to be, and shows what is.
pub(crate) async fn run(args: Schema) -> Outcome {
    let (database, table) = table_name(&args.table, args.database.as_deref())
        .map_err(|why| Failure::new(Exit::Usage, "there is no table to look at").why(why))?;
    let changes = !args.set.is_empty() || !args.remove.is_empty();
    let access = if changes && !args.dry_run {
        Access::managing(&args.client)?
    } else {
        Access::reading(&args.client)?
    };
    let mut client = Client::new(access);
    let mut found = one(&mut client, &database, &table).await?;
    let before = declared(&found)?;
    let after = changed(before.clone(), &args, &database, &table)?;
    if changes && !args.dry_run {
        client.declare(&database, &table, &before, &after).await?;
        found = one(&mut client, &database, &table).await?;
    }
    if found.schema_changing {
        terminal::say("rows that were sent before are being read again; until that is done queries see all of them under the old types");
    }
    let is = if args.dry_run { after } else { declared(&found)? };
    let mut is: BTreeMap<String, String> = is.into_iter().collect();
    let mut rows = output::to_stdout(Format::chosen(args.output), true, &["column", "type", "declared"]);
    for (name, kind) in columns(&found)? {
        let of = is.remove(&name);
        let undeclared = args.dry_run && of.is_none() && before.iter().any(|(known, _)| *known == name);
        // Nobody knows it before the rows are read again.
        let kind = if undeclared { FROM_VALUES.to_owned() } else { kind };
        rows.row(vec![json!(name), json!(of.as_ref().unwrap_or(&kind)), json!(of.is_some())])?;
    }
    if args.dry_run {
        for (name, of) in is {
            rows.row(vec![json!(name), json!(of), json!(true)])?;
        }
        terminal::say("nothing was changed");
    }
    rows.finish().map(drop)
}

/// What is to be declared in place of `declared`.
fn changed(
    mut declared: Vec<(String, String)>,
    args: &Schema,
    database: &DatabaseName,
    table: &TableName,
) -> Outcome<Vec<(String, String)>> {
    for name in &args.remove {
        if args.set.iter().any(|(set, _)| set == name) {
            return Err(Failure::new(
                Exit::Usage,
                format!("the column {name:?} is in both --set and --remove"),
            ));
        }
        let before = declared.len();
        declared.retain(|(known, _)| known != name);
        if declared.len() == before {
            return Err(Failure::new(Exit::NotFound, format!("no type is declared for the column {name:?}"))
                .why("its type follows from what it has held")
                .next(format!("`coffer tables schema {database}.{table}` shows which are declared")));
        }
    }
    for (name, of) in &args.set {
        match declared.iter_mut().find(|(known, _)| known == name) {
            Some((_, kind)) => of.as_str().clone_into(kind),
            None => declared.push((name.clone(), of.as_str().to_owned())),
        }
    }
    Ok(declared)
}

async fn one(client: &mut Client, database: &DatabaseName, table: &TableName) -> Outcome<Table> {
    let tables = client.tables(database.as_str()).await?;
    tables.into_iter().find(|found| found.name == table.as_str()).ok_or_else(|| {
        Failure::new(Exit::NotFound, format!("there is no table {database}.{table}"))
            .next(format!("`coffer tables {database}` shows those there are"))
    })
}

fn declared(table: &Table) -> Outcome<Vec<(String, String)>> {
    if table.declared_schema.is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(&table.declared_schema).during(format!("the declared columns of {:?} cannot be read", table.name))
}
