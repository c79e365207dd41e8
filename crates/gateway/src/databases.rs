//! Databases: list, create, delete.

use axum::response::Response;
use base::{DatabaseName, Verb, Verbs};
use serde_json::{Value, json};
use wire::v1::{Database, DatabaseRequest, ListDatabasesRequest};

use crate::calls::Call;
use crate::dates;
use crate::errors::{ApiError, ok};

/// `GET /v3/database/list`
pub(crate) async fn list(call: Call) -> Result<Response, ApiError> {
    let found = call
        .warehouse(ListDatabasesRequest {}, |mut to, ask| async move { to.list_databases(ask).await })
        .await?;
    let databases: Vec<Value> = found.databases.iter().map(|database| shown(database, call.caller.verbs)).collect();
    Ok(ok(&json!({ "databases": databases })))
}

/// `POST /v3/database/create/{database}`
pub(crate) async fn create(mut call: Call) -> Result<Response, ApiError> {
    let name: DatabaseName = call
        .segment("database")
        .parse()
        .map_err(|error: base::NameError| ApiError::invalid(error.to_string()))?;
    call.body_params().await?;
    let asked = DatabaseRequest {
        database: name.to_string(),
    };
    call.warehouse(asked, |mut to, ask| async move { to.create_database(ask).await })
        .await?;
    Ok(ok(&json!({ "database": name.as_str() })))
}

/// `POST /v3/database/delete/{database}`
pub(crate) async fn delete(mut call: Call) -> Result<Response, ApiError> {
    let name = call.database()?;
    call.body_params().await?;
    let asked = DatabaseRequest {
        database: name.to_string(),
    };
    call.warehouse(asked, |mut to, ask| async move { to.delete_database(ask).await })
        .await?;
    Ok(ok(&json!({ "database": name.as_str() })))
}

fn shown(database: &Database, verbs: Verbs) -> Value {
    json!({
        "name": database.name,
        "count": database.rows,
        "created_at": dates::td(database.created_at),
        "updated_at": dates::td(database.updated_at),
        "organization": null,
        "permission": permission(verbs),
        "delete_protected": false,
    })
}

/// The nearest of the four words that td clients know. Ruby does not survive a null.
fn permission(verbs: Verbs) -> &'static str {
    match (
        verbs.contains(Verb::Manage),
        verbs.contains(Verb::Append),
        verbs.contains(Verb::Query),
    ) {
        (true, _, _) => "administrator",
        (false, true, true) => "full_access",
        (false, true, false) => "import_only",
        (false, false, _) => "query_only",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_has_all_that_strict_clients_ask_for() {
        let database = Database {
            name: "web".into(),
            rows: 7,
            created_at: 1_700_000_000_000_000,
            updated_at: 0,
        };
        let shown = shown(&database, Verbs::of(&Verb::ALL));
        assert_eq!(shown["created_at"], "2023-11-14 22:13:20 UTC");
        assert_eq!(shown["updated_at"], Value::Null);
        assert_eq!((&shown["count"], &shown["permission"]), (&json!(7), &json!("administrator")));
        assert!(
            shown.get("client").is_none() && shown.get("db_name").is_none(),
            "these collide with Python's constructor"
        );
    }
}
