//! Types that a customer declares for the columns of a table.
//!
//! Promise: a list that cannot be kept as it is, all of it, is refused and says why; nothing of it is forgotten in silence.
//!
//! Start at [`update`]. Does not know how values are made to fit, nor where.

use axum::response::Response;
use events::{ColumnType, DeclareError, Declared};
use serde_json::{Value, json};
use wire::v1::{Column, DeclareRequest};

use crate::calls::Call;
use crate::errors::{ApiError, ok};
use crate::params::Params;
use crate::people::Columns;

/// `POST /v3/table/update-schema/{database}/{table}`: the list takes the place of the one before. Where `based_on` says which that has to
/// be, another one is left as it is (409).
pub(crate) async fn update(mut call: Call) -> Result<Response, ApiError> {
    let (database, table) = (call.database()?, call.table()?);
    let people = Columns::of(&call.caller.settings, &database, &table)?;
    let params = call.body_params().await?;
    let declared = declared(&params, &people)?;
    let based_on = match params.get("based_on") {
        Some(text) => Some(list("based_on", text, &Columns::default())?),
        None => None,
    };
    let asked = DeclareRequest {
        database: database.to_string(),
        table: table.to_string(),
        columns: columns(&declared),
        based_on: based_on.map(|before| wire::v1::Columns { columns: columns(&before) }),
    };
    call.warehouse(asked, |mut to, ask| async move { to.declare(ask).await }).await?;
    Ok(ok(
        &json!({ "database": database.as_str(), "table": table.as_str(), "type": "log" }),
    ))
}

/// Columns as a JSON text for a parameter: `[[name, type], …]`, with the types as this server names them.
pub(crate) fn shown(columns: &[Column]) -> String {
    let pairs: Vec<[&str; 2]> = columns
        .iter()
        .map(|column| [column.name.as_str(), column.r#type.as_str()])
        .collect();
    json!(pairs).to_string()
}

fn declared(params: &Params, people: &Columns) -> Result<Declared, ApiError> {
    let text = params.get("schema").ok_or_else(|| {
        ApiError::invalid("the parameter schema is missing: a JSON list such as [[\"price\",\"double\"]], or [] for none")
    })?;
    list("schema", text, people)
}

fn columns(declared: &Declared) -> Vec<Column> {
    let column = |(name, of): (&str, ColumnType)| Column {
        name: name.to_owned(),
        r#type: of.as_str().to_owned(),
    };
    declared.columns().map(column).collect()
}

fn list(parameter: &str, text: &str, people: &Columns) -> Result<Declared, ApiError> {
    let list: Vec<Value> =
        serde_json::from_str(text).map_err(|_| ApiError::invalid(format!("{parameter} is not a JSON list of [name, type]")))?;
    let columns = list.iter().map(|entry| column(entry, people)).collect::<Result<Vec<_>, _>>()?;
    Declared::new(columns).map_err(|error| refusal(&error))
}

fn column(entry: &Value, people: &Columns) -> Result<(String, ColumnType), ApiError> {
    let wrong = || ApiError::invalid("an entry of schema is not [name, type]");
    let parts = entry.as_array().filter(|parts| (2..=3).contains(&parts.len())).ok_or_else(wrong)?;
    let text = |part: &Value| part.as_str().map(str::to_owned).ok_or_else(wrong);
    let (name, found) = (text(&parts[0])?, text(&parts[1])?);
    // An alias is the name in SQL. Here that is the column's own.
    match parts.get(2) {
        None | Some(Value::Null) => {}
        Some(alias) if alias.as_str().is_some_and(|alias| alias.is_empty() || alias == name) => {}
        Some(_) => {
            return Err(ApiError::invalid(format!(
                "the column {name:?} has an alias; columns have one name here, leave the alias out"
            )));
        }
    }
    let Some(of) = ColumnType::from_td_name(&found) else {
        return Err(refusal(&DeclareError::Type { name, found }));
    };
    if let Some((always, holds)) = people.type_of(&name).filter(|(always, _)| *always != of) {
        return Err(ApiError::invalid(format!(
            "the column {name:?} holds {holds}, always {always}: declare it as {always}, or leave it out"
        )));
    }
    Ok((name, of))
}

fn refusal(error: &DeclareError) -> ApiError {
    ApiError::new(error.kind(), error.to_string())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, header};

    use super::*;

    async fn read(content_type: &str, body: &str) -> Result<Vec<(String, ColumnType)>, String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, content_type.parse().unwrap());
        let params = Params::from_body(&headers, Bytes::from(body.to_owned())).await.unwrap();
        let people = Columns::new(vec!["user_id".to_owned()], vec!["phone".to_owned()]);
        let declared = declared(&params, &people);
        declared
            .map(|declared| declared.columns().map(|(name, of)| (name.to_owned(), of)).collect())
            .map_err(|error| format!("{error:?}"))
    }

    async fn form(schema: &str) -> Result<Vec<(String, ColumnType)>, String> {
        let encoded = percent_encoding::utf8_percent_encode(schema, percent_encoding::NON_ALPHANUMERIC);
        read("application/x-www-form-urlencoded", &format!("schema={encoded}")).await
    }

    #[tokio::test]
    async fn clients_send_a_list_in_a_parameter_or_as_json() {
        let expected = vec![
            ("a".to_owned(), ColumnType::Long),
            ("b".to_owned(), ColumnType::Json),
            ("user_id".to_owned(), ColumnType::Long),
        ];
        let list = r#"[["time","long"],["a","int"],["b","array<string>","b"],["user_id","long",null]]"#;
        assert_eq!(form(list).await.unwrap(), expected);
        assert_eq!(
            read("application/json", &format!(r#"{{"schema":{list}}}"#)).await.unwrap(),
            expected
        );
        assert_eq!(form("[]").await.unwrap(), []);
    }

    #[tokio::test]
    async fn what_cannot_be_kept_is_refused_with_the_reason() {
        let check = async |schema: &str, word: &str| {
            let refused = form(schema).await.unwrap_err();
            assert!(refused.contains(word), "{schema}: {refused}");
        };
        check("", "schema is missing").await;
        check("{}", "not a JSON list").await;
        check(r#"["a"]"#, "not [name, type]").await;
        check(r#"[["a"]]"#, "not [name, type]").await;
        check(r#"[["a",1]]"#, "not [name, type]").await;
        check(
            r#"[["a","decimal"]]"#,
            "the types are int, long, float, double, string, boolean, json, array<…> and map<…>",
        )
        .await;
        check(r#"[["a","long"],["a","long"]]"#, "declared twice").await;
        check(r#"[["a","long","b"]]"#, "alias").await;
        check(r#"[["time","string"]]"#, "always a long").await;
        check(r#"[["_overflow","string"]]"#, "leave it out").await;
        check(r#"[["User_ID","string"]]"#, "ids in place of identities, always long").await;
        check(r#"[["Phone","long"]]"#, "sealed texts in place of personal values, always string").await;
    }

    #[test]
    fn declared_columns_are_listed_as_they_can_be_sent_again() {
        let columns = [("v", "json"), ("ok", "boolean")].map(|(name, of)| Column {
            name: name.into(),
            r#type: of.into(),
        });
        assert_eq!(shown(&columns), r#"[["v","json"],["ok","boolean"]]"#);
    }
}
