//! Saying who a person is: not of td's API. With a key that may reveal, for a reason, and of one person at a time.
//!
//! Promise: which person and for which case is in the audit journal before anything is said, and never by an identity: who is asked for by one is
//! looked up first. Nothing of it stays here.
//!
//! Start at [`show`] and [`open`]. How often it may be asked is for the identity role to decide.

use axum::response::Response;
use base::{ErrorKind, folded};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use events::personal::SEALED_PREFIX;
use http::StatusCode;
use serde_json::{Value, json};
use wire::v1::{FindRequest, RevealRequest, RevealResponse, SealedValue};

use crate::calls::Call;
use crate::errors::{ApiError, ok};
use crate::params::Params;

/// Values in one request.
const MOST_VALUES: usize = 10_000;

/// `POST /v1/people/show`: the identities of whoever is known by `identity`, or has the `id`, with a `reason`.
pub(crate) async fn show(mut call: Call) -> Result<Response, ApiError> {
    let params = call.body_params().await?;
    let reason = reason(&params)?;
    let id = match (params.get("identity"), params.get("id")) {
        (Some(identity), None) => found(&call, identity).await?,
        (None, Some(_)) => id(&params)?,
        _ => return Err(ApiError::invalid("name whom to show by identity or by id, one of them")),
    };
    let shown = reveal(&call, id, reason, Vec::new()).await?;
    let identities = shown.identities.iter().map(|known| {
        let column = (!known.column.is_empty()).then_some(&known.column);
        json!({ "identity": known.identity, "column": column })
    });
    Ok(ok(&json!({
        "id": id.to_string(),
        "identities": identities.collect::<Vec<_>>(),
        // Where the person's rows are to be looked for.
        "identity_columns": call.caller.settings.identity_columns,
    })))
}

/// `POST /v1/people/open`: texts that stand in personal columns of the person with this `id`, opened. `values` is `[[column, text], …]`, and the answer
/// has as many, null for what is not this person's or of this column.
pub(crate) async fn open(mut call: Call) -> Result<Response, ApiError> {
    let params = call.body_params().await?;
    let (reason, id) = (reason(&params)?, id(&params)?);
    let wrong = |_| ApiError::invalid("values are pairs of a column and a sealed text, as JSON: [[\"phone\",\"sealed1:…\"]]");
    let values: Vec<(String, String)> = serde_json::from_str(params.get("values").unwrap_or("[]")).map_err(wrong)?;
    if values.len() > MOST_VALUES {
        return Err(ApiError::invalid(format!("more than {MOST_VALUES} values in one request")));
    }
    let opened = reveal(&call, id, reason, values.iter().map(sealed).collect()).await?;
    if opened.values.len() != values.len() {
        return Err(ApiError::of(ErrorKind::Internal));
    }
    let opened = opened
        .values
        .into_iter()
        .map(|value| if value.opened { Value::String(value.value) } else { Value::Null });
    Ok(ok(&json!({ "values": opened.collect::<Vec<_>>() })))
}

/// What is no sealed text is asked for as nothing, which opens nothing.
fn sealed((column, text): &(String, String)) -> SealedValue {
    let bytes = text.strip_prefix(SEALED_PREFIX).and_then(|text| STANDARD.decode(text).ok());
    SealedValue {
        column: folded(column).into_owned(),
        sealed: bytes.unwrap_or_default(),
    }
}

async fn found(call: &Call, identity: &str) -> Result<i64, ApiError> {
    let ask = FindRequest {
        identities: vec![identity.to_owned()],
    };
    let found = call.identity(ask, |mut to, ask| async move { to.find(ask).await }).await?;
    found
        .ids
        .first()
        .copied()
        .filter(|id| *id > 0)
        .ok_or_else(|| ApiError::not_found("nobody is known by that: they never were, or were erased"))
}

async fn reveal(call: &Call, id: i64, reason: String, values: Vec<SealedValue>) -> Result<RevealResponse, ApiError> {
    let ask = RevealRequest { id, reason, values };
    let told = call.identity(ask, |mut to, ask| async move { to.reveal(ask).await }).await;
    // It is an hour that is used up.
    told.map_err(|error| {
        if error.status() == StatusCode::TOO_MANY_REQUESTS {
            error.retry_after(60)
        } else {
            error
        }
    })
}

fn id(params: &Params) -> Result<i64, ApiError> {
    let id = params.get("id").and_then(|id| id.parse().ok()).filter(|id| *id > 0);
    id.ok_or_else(|| ApiError::invalid("an id is a positive number"))
}

fn reason(params: &Params) -> Result<String, ApiError> {
    let reason = params.get("reason").filter(|reason| wire::audited::is_reason(reason));
    reason.map(str::to_owned).ok_or_else(|| {
        ApiError::invalid(
            "a reason is needed, which is recorded: the name of a case such as ticket-4711, 3 to 64 of small letters, digits, '_', '-', '.' and ':'",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_asked_for_as_it_was_sealed_and_what_is_not_sealed_opens_nothing() {
        let asked = |column: &str, text: &str| sealed(&(column.into(), text.into()));
        let phone = asked("PHONE ", "sealed1:AQI=");
        assert_eq!((phone.column.as_str(), &phone.sealed[..]), ("phone", &[1, 2][..]));
        for text in ["", "AQI=", "sealed1:", "sealed1:!", "sealed2:AQI="] {
            assert!(asked("phone", text).sealed.is_empty(), "{text}");
        }
    }
}
