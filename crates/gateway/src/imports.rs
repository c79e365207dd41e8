//! Imports: a body of events, bounded, read, and taken in.
//!
//! Promise: 200 is said only after the warehouse has said that the rows are durable.
//!
//! Start at [`import`]. What becomes of a body is [`intake`]'s.

use std::time::Instant;

use axum::response::Response;
use serde_json::{Value, json};

use crate::calls::Call;
use crate::errors::{ApiError, ok};
use crate::forms::Form;
use crate::intake::{self, Taken};

const MAX_ID: usize = 1_024;

/// `PUT /v3/table/import/{database}/{table}/{format}` and `PUT /v3/table/import_with_id/{database}/{table}/{unique_id}/{format}`
pub(crate) async fn import(mut call: Call) -> Result<Response, ApiError> {
    let started = Instant::now();
    let (database, table) = (call.database()?, call.table()?);
    let unique_id = call.segment("unique_id").to_owned();
    if unique_id.len() > MAX_ID {
        return Err(ApiError::invalid(format!("an import id has at most {MAX_ID} bytes")));
    }
    let form = Form::of_import(call.segment("format"), call.headers())?;
    let decoded = intake::receive(&mut call, (&database, &table), form, "send the events in smaller parts").await?;
    let (md5_hex, rejected) = (decoded.md5_hex.clone(), decoded.aside().len());
    let Taken { rows, duplicate } = intake::append(&call, &database, &table, &unique_id, decoded).await?;
    call.app().rows.inc_by(rows);
    tracing::debug!(request.id = %call.request(), product.id = %call.caller.product, rows, rejected,
        duration_ms = started.elapsed().as_millis() as u64, "took {rows} rows");
    let mut answer = json!({
        "unique_id": if unique_id.is_empty() { Value::Null } else { unique_id.into() },
        "database": database.as_str(),
        "table": table.as_str(),
        "md5_hex": md5_hex,
        "elapsed_time": started.elapsed().as_secs_f64(),
    });
    // Not words of td's: its clients pass over them.
    if duplicate {
        answer["duplicate"] = true.into();
    }
    if rejected > 0 {
        answer["rejected"] = rejected.into();
    }
    Ok(ok(&answer))
}
