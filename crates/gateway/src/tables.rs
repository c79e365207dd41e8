//! Tables: list, create, delete, and a look at the end of one.

use axum::response::{IntoResponse, Response};
use base::TableName;
use events::ColumnType;
use http::header;
use serde_json::{Value, json};
use wire::v1::{Column, DatabaseRequest, KeepRequest, Table, TableRequest, TailRequest};

use crate::calls::Call;
use crate::dates;
use crate::errors::{ApiError, ok};
use crate::params::Params;
use crate::schemas;

/// `GET /v3/table/list/{database}`
pub(crate) async fn list(call: Call) -> Result<Response, ApiError> {
    let database = call.database()?;
    let asked = DatabaseRequest {
        database: database.to_string(),
    };
    let found = call
        .warehouse(asked, |mut to, ask| async move { to.list_tables(ask).await })
        .await?;
    let tables: Vec<Value> = found.tables.iter().map(shown).collect();
    Ok(ok(&json!({ "database": database.as_str(), "tables": tables })))
}

/// `POST /v3/table/create/{database}/{table}/log`
pub(crate) async fn create(mut call: Call) -> Result<Response, ApiError> {
    let database = call.database()?;
    let table: TableName = call
        .segment("table")
        .parse()
        .map_err(|error: base::NameError| ApiError::invalid(error.to_string()))?;
    refuse_unkept(&call.body_params().await?)?;
    let asked = TableRequest {
        database: database.to_string(),
        table: table.to_string(),
    };
    call.warehouse(asked, |mut to, ask| async move { to.create_table(ask).await })
        .await?;
    Ok(ok(
        &json!({ "database": database.as_str(), "table": table.as_str(), "type": "log" }),
    ))
}

/// `POST /v3/table/delete/{database}/{table}`
pub(crate) async fn delete(mut call: Call) -> Result<Response, ApiError> {
    let (database, table) = (call.database()?, call.table()?);
    call.body_params().await?;
    let asked = TableRequest {
        database: database.to_string(),
        table: table.to_string(),
    };
    call.warehouse(asked, |mut to, ask| async move { to.delete_table(ask).await })
        .await?;
    Ok(ok(
        &json!({ "database": database.as_str(), "table": table.as_str(), "type": "log" }),
    ))
}

/// `POST /v3/table/update/{database}/{table}`: how long rows are kept, `expire_days`, and, not of td's API, `raw_expire_days`; 0 for ever.
pub(crate) async fn update(mut call: Call) -> Result<Response, ApiError> {
    let (database, table) = (call.database()?, call.table()?);
    let params = call.body_params().await?;
    let seconds = |name| match params.get(name) {
        Some(_) => Ok(Some(u64::from(params.number(name, 0..=MOST_DAYS, 0)?) * DAY)),
        None => Ok::<_, ApiError>(None),
    };
    let asked = KeepRequest {
        database: database.to_string(),
        table: table.to_string(),
        keep: seconds("expire_days")?,
        keep_raw: seconds("raw_expire_days")?,
    };
    call.warehouse(asked, |mut to, ask| async move { to.keep(ask).await }).await?;
    Ok(ok(
        &json!({ "database": database.as_str(), "table": table.as_str(), "type": "log" }),
    ))
}

/// Nobody keeps events for longer, other than for ever.
const MOST_DAYS: u32 = 36_600;
const DAY: u64 = 86_400;

/// Days, or null for ever.
fn days(seconds: u64) -> Value {
    if seconds == 0 { Value::Null } else { json!(seconds / DAY) }
}

/// `GET /v3/table/tail/{database}/{table}`: msgpack maps, newest first.
pub(crate) async fn tail(call: Call) -> Result<Response, ApiError> {
    let (database, table) = (call.database()?, call.table()?);
    let params = call.query_params()?;
    if params.get("format").is_some_and(|format| format != "msgpack") {
        return Err(ApiError::invalid("the end of a table is sent as format=msgpack only"));
    }
    // More than the most is answered with the most, as a list that ends early.
    let count = params.number("count", 1..=u32::MAX, 30)?.min(call.settings().max_tail);
    let asked = TailRequest {
        database: database.to_string(),
        table: table.to_string(),
        count,
    };
    let found = call.warehouse(asked, |mut to, ask| async move { to.tail(ask).await }).await?;
    Ok(([(header::CONTENT_TYPE, "application/msgpack")], found.rows).into_response())
}

/// What a client asks of a new table and would not get is refused rather than forgotten.
fn refuse_unkept(params: &Params) -> Result<(), ApiError> {
    match params.get("expire_days") {
        None | Some("0") => Ok(()),
        Some(_) => Err(ApiError::invalid(
            "leave expire_days out, and set it by /v3/table/update once the table is there",
        )),
    }
}

fn shown(table: &Table) -> Value {
    json!({
        "id": table.number,
        "name": table.name,
        "type": "log",
        "count": table.rows,
        "created_at": dates::td(table.created_at),
        "updated_at": dates::td(table.updated_at),
        "counter_updated_at": dates::iso(table.updated_at),
        "last_log_timestamp": dates::iso_secs(table.last_event_at),
        "delete_protected": false,
        "estimated_storage_size": table.bytes,
        "schema": schema(&table.columns),
        "declared_schema": schemas::shown(&table.declared),
        "schema_changing": table.changing,
        "expire_days": days(table.keep),
        "raw_expire_days": days(table.keep_raw),
        "include_v": false,
    })
}

/// `[[name, type], …]` as JSON in a string, without the two names that make the Ruby client fail.
fn schema(columns: &[Column]) -> String {
    let pairs: Vec<[&str; 2]> = columns
        .iter()
        .filter(|column| !matches!(column.name.as_str(), "time" | "v"))
        .map(|column| {
            [
                column.name.as_str(),
                ColumnType::from_name(&column.r#type).map_or("string", ColumnType::td_name),
            ]
        })
        .collect();
    json!(pairs).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, kind: &str) -> Column {
        Column {
            name: name.into(),
            r#type: kind.into(),
        }
    }

    #[test]
    fn a_schema_is_json_in_a_string_without_time_and_v() {
        let columns = [
            column("time", "long"),
            column("v", "json"),
            column("a\"b", "long"),
            column("ok", "boolean"),
            column("x", "?"),
        ];
        assert_eq!(schema(&columns), r#"[["a\"b","long"],["ok","string"],["x","string"]]"#);
        assert_eq!(schema(&[]), "[]");
    }

    #[test]
    fn no_date_of_a_table_is_a_number() {
        let shown = shown(&Table {
            number: 1,
            name: "pv".into(),
            last_event_at: 951_868_800,
            updated_at: 1_000_000,
            ..Table::default()
        });
        for field in ["created_at", "updated_at", "counter_updated_at", "last_log_timestamp"] {
            assert!(shown[field].is_string() || shown[field].is_null(), "{field}");
        }
        assert_eq!(shown["last_log_timestamp"], "2000-03-01T00:00:00Z");
        assert!(shown["schema"].is_string());
    }
}
