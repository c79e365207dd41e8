//! Erasing a person: not of td's API, which has nothing like it.

use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use wire::v1::EraseRequest;

use crate::calls::Call;
use crate::dates;
use crate::errors::{ApiError, ok};

/// `POST /v1/people/erase`: whoever is known by `identity`, or has the `id`, is erased when this answers. The receipt is for the caller to keep.
pub(crate) async fn erase(mut call: Call) -> Result<Response, ApiError> {
    let params = call.body_params().await?;
    let asked = match (params.get("identity"), params.get("id")) {
        (Some(identity), None) if !identity.is_empty() => EraseRequest {
            identity: identity.to_owned(),
            id: 0,
        },
        (None, Some(id)) => EraseRequest {
            identity: String::new(),
            id: id
                .parse()
                .ok()
                .filter(|id| *id > 0)
                .ok_or_else(|| ApiError::invalid("an id is a positive number"))?,
        },
        _ => return Err(ApiError::invalid("name whom to erase by identity or by id, one of them")),
    };
    let erased = call.identity(asked, |mut to, ask| async move { to.erase(ask).await }).await?;
    Ok(ok(&json!({
        "id": erased.id.to_string(),
        "erased_at": dates::iso(erased.erased_at),
        "identities": erased.identities,
        "receipt": STANDARD.encode(&erased.receipt),
    })))
}
