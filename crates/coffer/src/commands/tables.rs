//! `coffer tables`: what there is to ask about.

use serde_json::{Value, json};

use super::{dropped, schema};
use crate::cli::{Tables, TablesCommand};
use crate::client::td::Table;
use crate::client::{Access, Client};
use crate::failure::{During, Outcome};
use crate::output::{self, Format};

/// Lists, or goes on to the types of one table.
pub(crate) async fn run(args: Tables) -> Outcome {
    match args.command {
        Some(TablesCommand::Schema(args)) => return schema::run(args).await,
        Some(TablesCommand::Dropped(args)) => return dropped::list(args).await,
        Some(TablesCommand::Undrop(args)) => return dropped::bring_back(args).await,
        Some(TablesCommand::Set(args)) => return dropped::keep(args).await,
        None => {}
    }
    let mut client = Client::new(Access::reading(&args.client)?);
    let databases = match args.database {
        Some(one) => vec![one],
        None => client.databases().await?.into_iter().map(|database| database.name).collect(),
    };
    let format = Format::chosen(args.output);
    let mut rows = output::to_stdout(format, true, &["table", "rows", "size", "last_event", "columns"]);
    for database in databases {
        for table in client.tables(&database).await? {
            let columns = columns(&table)?;
            // People read a list; programs get one they need not parse again.
            let (columns, size) = if matches!(format, Format::Json | Format::Jsonl) {
                (
                    columns.iter().map(|(name, kind)| json!({"name": name, "type": kind})).collect(),
                    json!(table.estimated_storage_size),
                )
            } else if format == Format::Table {
                (Value::from(some(&columns)), Value::from(in_words(table.estimated_storage_size)))
            } else {
                (Value::from(listed(&columns)), json!(table.estimated_storage_size))
            };
            rows.row(vec![
                json!(format!("{database}.{}", table.name)),
                json!(table.count),
                size,
                json!(table.last_log_timestamp),
                columns,
            ])?;
        }
    }
    rows.finish().map(drop)
}

pub(crate) fn columns(table: &Table) -> Outcome<Vec<(String, String)>> {
    let mut all = vec![("time".to_owned(), "long".to_owned())];
    if !table.schema.is_empty() {
        let listed: Vec<Vec<String>> =
            serde_json::from_str(&table.schema).during(format!("the columns of {:?} cannot be read", table.name))?;
        all.extend(listed.into_iter().filter_map(|mut column| {
            if column.len() >= 2 {
                Some((column.remove(0), column.remove(0)))
            } else {
                None
            }
        }));
    }
    Ok(all)
}

fn listed(columns: &[(String, String)]) -> String {
    columns
        .iter()
        .map(|(name, kind)| format!("{name} {kind}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// The first names, as many as fit beside the rest on a terminal of 80 columns.
fn some(columns: &[(String, String)]) -> String {
    const WIDTH: usize = 12;
    let mut text = String::new();
    for (number, (name, _)) in columns.iter().enumerate() {
        let more = if number == 0 { name.clone() } else { format!(", {name}") };
        if text.chars().count() + more.chars().count() > WIDTH && number > 0 {
            return format!("{text}, … ({})", columns.len());
        }
        text.push_str(&more);
    }
    text
}

/// A size for people.
pub(crate) fn in_words(bytes: u64) -> String {
    let mut size = bytes as f64;
    for unit in ["B", "KB", "MB", "GB"] {
        if size < 1000.0 {
            return if unit == "B" {
                format!("{bytes} B")
            } else {
                format!("{size:.1} {unit}")
            };
        }
        size /= 1000.0;
    }
    format!("{size:.1} TB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_columns_the_first_are_shown_and_how_many_there_are() {
        let columns = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), "long".to_owned())).collect::<Vec<_>>();
        assert_eq!(some(&columns(&["time", "event"])), "time, event");
        assert_eq!(some(&columns(&["time", "event", "email", "visitor", "url"])), "time, event, … (5)");
    }

    #[test]
    fn sizes_read_well() {
        assert_eq!(in_words(999), "999 B");
        assert_eq!(in_words(12_345_678), "12.3 MB");
    }
}
