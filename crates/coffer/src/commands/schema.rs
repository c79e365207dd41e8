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

/// Declares what is to be, and shows what is.
pub(crate) async fn run(args: Schema) -> Outcome {
    let (database, table) = table_name(&args.table, args.database.as_deref())
        .map_err(|why| Failure::new(Exit::Usage, "there is no table to look at").why(why))?;
    let changes = !args.set.is_empty() || !args.remove.is_empty();
    let access = if changes {
        Access::managing(&args.client)?
    } else {
        Access::reading(&args.client)?
    };
    let mut client = Client::new(access);
    let mut found = one(&mut client, &database, &table).await?;
    if changes {
        let mut declared = declared(&found)?;
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
        client.declare(&database, &table, &declared).await?;
        found = one(&mut client, &database, &table).await?;
    }
    if found.schema_changing {
        terminal::say("rows that were sent before are being read again; until that is done queries see all of them under the old types");
    }
    let declared: BTreeMap<String, String> = declared(&found)?.into_iter().collect();
    let mut rows = output::to_stdout(Format::chosen(args.output), true, &["column", "type", "declared"]);
    for (name, kind) in columns(&found)? {
        let of = declared.get(&name);
        rows.row(vec![json!(name), json!(of.unwrap_or(&kind)), json!(of.is_some())])?;
    }
    rows.finish().map(drop)
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
