//! What was dropped: shown, and brought back. Not of td's API, which has nothing like it.

use axum::response::Response;
use base::{DatabaseName, TableName};
use serde_json::{Value, json};
use wire::v1::{Dropped, ListDroppedRequest, UndropRequest};

use crate::calls::Call;
use crate::dates;
use crate::errors::{ApiError, ok};

/// `GET /v1/dropped`: what can be brought back, the last dropped first.
pub(crate) async fn list(call: Call) -> Result<Response, ApiError> {
    let found = call
        .warehouse(ListDroppedRequest {}, |mut to, ask| async move { to.list_dropped(ask).await })
        .await?;
    let dropped: Vec<Value> = found.dropped.iter().map(shown).collect();
    Ok(ok(&json!({ "dropped": dropped })))
}

/// `POST /v1/dropped/{database}/{table}/restore`: under its own name, or `as` another.
pub(crate) async fn restore_table(mut call: Call) -> Result<Response, ApiError> {
    let (database, table) = (call.database()?, call.table()?);
    let to: TableName = match call.body_params().await?.get("as") {
        Some(to) => to.parse().map_err(|error: base::NameError| ApiError::invalid(error.to_string()))?,
        None => table.clone(),
    };
    let asked = UndropRequest {
        database: database.to_string(),
        table: table.to_string(),
        r#as: to.to_string(),
    };
    call.warehouse(asked, |mut to, ask| async move { to.undrop(ask).await }).await?;
    Ok(ok(&json!({ "database": database.as_str(), "table": to.as_str() })))
}

/// `POST /v1/dropped/{database}/restore`: a database with the tables that were dropped with it.
pub(crate) async fn restore_database(mut call: Call) -> Result<Response, ApiError> {
    let database = call.database()?;
    let to: DatabaseName = match call.body_params().await?.get("as") {
        Some(to) => to.parse().map_err(|error: base::NameError| ApiError::invalid(error.to_string()))?,
        None => database.clone(),
    };
    let asked = UndropRequest {
        database: database.to_string(),
        table: String::new(),
        r#as: to.to_string(),
    };
    call.warehouse(asked, |mut to, ask| async move { to.undrop(ask).await }).await?;
    Ok(ok(&json!({ "database": to.as_str() })))
}

fn shown(dropped: &Dropped) -> Value {
    let table = Some(&dropped.table).filter(|table| !table.is_empty());
    json!({
        "database": dropped.database,
        "table": table,
        "count": dropped.rows,
        "dropped_at": dates::iso(dropped.dropped_at),
        "kept_until": dates::iso(dropped.kept_until),
        "with_database": dropped.with_database,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_shown_without_a_table() {
        let shown = shown(&Dropped {
            database: "web".into(),
            rows: 7,
            dropped_at: 1_700_000_000_000_000,
            ..Dropped::default()
        });
        assert_eq!((&shown["table"], &shown["count"]), (&Value::Null, &json!(7)));
        assert_eq!(
            (&shown["dropped_at"], &shown["kept_until"]),
            (&json!("2023-11-14T22:13:20Z"), &Value::Null)
        );
    }
}
