//! Imports: a body of events, bounded, inflated, decoded once, freed of identities, and handed to the warehouse.
//!
//! Promise: 200 is said only after the warehouse has said that the rows are durable; what leaves here for the warehouse holds
//! ids in place of identities.
//!
//! Start at [`import`]. Does not know how rows are stored or how identities are kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::record_batch::RecordBatch;
use axum::response::Response;
use base::{DatabaseName, ErrorKind, Secret, TableName, Timestamp};
use bytes::Bytes;
use events::identities::{self, Distinct};
use events::{InflateError, Limits};
use http::{HeaderMap, StatusCode, header};
use md5::{Digest, Md5};
use serde_json::{Value, json};
use wire::v1::{AppendRequest, TranslateRequest};

use crate::bodies::{self, Bounds, Share};
use crate::calls::{App, Call};
use crate::errors::{ApiError, ok};

/// How many identities one call translates.
const MAX_IDENTITIES: usize = 100_000;
/// How long an import waits for memory or a core, before its sender is told to try again.
const TURN: Duration = Duration::from_secs(10);
/// What an append message holds besides the batch.
const ENVELOPE: usize = 64 << 10;
const MAX_ID: usize = 1_024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Msgpack,
    MsgpackGz,
}

impl Format {
    fn of(text: &str) -> Result<Self, ApiError> {
        match text {
            "msgpack" => Ok(Self::Msgpack),
            "msgpack.gz" => Ok(Self::MsgpackGz),
            _ => Err(unsupported("imports are sent as msgpack.gz or msgpack")),
        }
    }
}

/// `PUT /v3/table/import/{database}/{table}/{format}` and `PUT /v3/table/import_with_id/{database}/{table}/{unique_id}/{format}`
pub(crate) async fn import(mut call: Call) -> Result<Response, ApiError> {
    let started = Instant::now();
    let (database, table) = (call.database()?, call.table()?);
    let unique_id = call.segment("unique_id").to_owned();
    if unique_id.len() > MAX_ID {
        return Err(ApiError::invalid(format!("an import id has at most {MAX_ID} bytes")));
    }
    let format = Format::of(call.segment("format"))?;
    check_content(call.headers())?;
    let settings = call.settings();
    let bounds = Bounds {
        max: settings.limits.max_body,
        advice: "send the events in smaller parts",
        idle: settings.body_idle,
        total: settings.body_total,
    };
    let body = call.take_body();
    let (body, memory) = bodies::read(call.headers(), body, &bounds, Some(&call.app().bodies)).await?;
    let decoded = decode(call.app(), body, format, call.caller.settings.identity_columns.clone(), call.now()).await?;
    drop(memory);
    let md5_hex = decoded.md5_hex.clone();
    let rows = append(&call, &database, &table, &unique_id, decoded).await?;
    call.app().rows.inc_by(rows);
    tracing::debug!(request.id = %call.request(), product.id = %call.caller.product, rows,
        duration_ms = started.elapsed().as_millis() as u64, "took {rows} rows");
    Ok(ok(&json!({
        "unique_id": if unique_id.is_empty() { Value::Null } else { unique_id.into() },
        "database": database.as_str(),
        "table": table.as_str(),
        "md5_hex": md5_hex,
        "elapsed_time": started.elapsed().as_secs_f64(),
    })))
}

/// Rows in memory, identities still in them.
struct Decoded {
    md5_hex: String,
    batch: RecordBatch,
    identities: Distinct,
    /// Held until the rows are gone.
    memory: Share,
}

async fn decode(app: &Arc<App>, body: Bytes, format: Format, columns: Vec<String>, now: Timestamp) -> Result<Decoded, ApiError> {
    let limits = app.settings.limits.clone();
    let mut memory = app.inflated.wait(expected(&body, format, &limits), TURN).await?;
    let mut room = memory.bytes();
    loop {
        let (body, limits, columns) = (body.clone(), limits.clone(), columns.clone());
        let outcome = with_a_core(app, move || decode_within(&body, format, &columns, &limits, room, now)).await?;
        match outcome {
            Ok((md5_hex, batch, identities)) => {
                return Ok(Decoded {
                    md5_hex,
                    batch,
                    identities,
                    memory,
                });
            }
            Err(Undecoded::MoreRoom) => {
                // The body said less than it holds (several members in a row do). Now it gets all that is allowed.
                drop(memory);
                memory = app.inflated.wait(limits_max(app), TURN).await?;
                room = limits_max(app);
            }
            Err(Undecoded::Refused(error)) => return Err(error),
        }
    }
}

fn limits_max(app: &App) -> usize {
    app.settings.limits.max_inflated
}

/// What a body will probably take once inflated.
fn expected(body: &[u8], format: Format, limits: &Limits) -> usize {
    let claimed = match format {
        Format::Msgpack => body.len(),
        Format::MsgpackGz => body
            .last_chunk::<4>()
            .map_or(0, |size| u32::from_le_bytes(*size) as usize)
            .max(body.len()),
    };
    claimed.min(limits.max_inflated)
}

enum Undecoded {
    MoreRoom,
    Refused(ApiError),
}

impl From<ApiError> for Undecoded {
    fn from(error: ApiError) -> Self {
        Self::Refused(error)
    }
}

fn decode_within(
    body: &Bytes,
    format: Format,
    columns: &[String],
    limits: &Limits,
    room: usize,
    now: Timestamp,
) -> Result<(String, RecordBatch, Distinct), Undecoded> {
    let md5_hex = hex::encode(Md5::digest(body));
    let inflated;
    let events = match format {
        Format::Msgpack if body.len() > limits.max_inflated => {
            let max = limits.max_inflated;
            return Err(ApiError::new(ErrorKind::TooLarge, InflateError::TooLarge { max }.to_string()).into());
        }
        Format::Msgpack => &body[..],
        Format::MsgpackGz => {
            inflated = match events::inflate_gzip(body, room.min(limits.max_inflated)) {
                Err(InflateError::TooLarge { .. }) if room < limits.max_inflated => return Err(Undecoded::MoreRoom),
                other => other.map_err(|error| ApiError::new(error.kind(), error.to_string()))?,
            };
            &inflated[..]
        }
    };
    let told = events::Told {
        limits,
        received_at: now,
        identities: columns,
    };
    let batch = events::decode(events::Syntax::Msgpack, events, &told)
        .map_err(|error| ApiError::new(error.kind(), error.to_string()))?
        .batch;
    let identities = identities::distinct(&batch, columns).map_err(|_| ApiError::of(ErrorKind::Internal))?;
    Ok((md5_hex, batch, identities))
}

/// Translates, replaces, appends.
async fn append(call: &Call, database: &DatabaseName, table: &TableName, id: &str, decoded: Decoded) -> Result<u64, ApiError> {
    let Decoded {
        batch, identities, memory, ..
    } = decoded;
    let ids = translate(call, identities.values()).await?;
    let batches = with_a_core(call.app(), move || {
        identities::replace(&batch, &identities, &ids)
            .map(|batch| events::to_ipc(&batch))
            .map_err(|error| ApiError::of(error.kind()))
    })
    .await??;
    drop(memory);
    if batches.len() > wire::MAX_MESSAGE - ENVELOPE {
        return Err(ApiError::new(
            ErrorKind::TooLarge,
            "the import is too large once decoded; send the events in smaller parts",
        ));
    }
    let asked = AppendRequest {
        database: database.to_string(),
        table: table.to_string(),
        batch_id: id.to_owned(),
        batches,
    };
    let appended = call.warehouse(asked, |mut to, ask| async move { to.append(ask).await }).await?;
    Ok(if appended.duplicate { 0 } else { appended.rows })
}

async fn translate(call: &Call, identities: &[Secret]) -> Result<Vec<i64>, ApiError> {
    let mut ids = Vec::with_capacity(identities.len());
    for part in identities.chunks(MAX_IDENTITIES) {
        let asked = TranslateRequest {
            identities: part.iter().map(|identity| identity.reveal().to_owned()).collect(),
        };
        let found = call
            .identity(asked, |mut to, ask| async move { to.translate(ask).await })
            .await?
            .ids;
        if found.len() != part.len() || found.iter().any(|id| *id <= 0) {
            return Err(ApiError::of(ErrorKind::Internal));
        }
        ids.extend(found);
    }
    Ok(ids)
}

/// Runs `work` away from the threads that answer requests, when it is its turn.
async fn with_a_core<R: Send + 'static>(app: &Arc<App>, work: impl FnOnce() -> R + Send + 'static) -> Result<R, ApiError> {
    let turn = tokio::time::timeout(TURN, Arc::clone(&app.decoding).acquire_owned()).await;
    let Ok(Ok(turn)) = turn else { return Err(bodies::busy()) };
    tokio::task::spawn_blocking(move || {
        let done = work();
        drop(turn);
        done
    })
    .await
    .map_err(|_| ApiError::of(ErrorKind::Internal))
}

/// The format stands in the path; a content type that contradicts it is refused, and so is an encoding on top of it.
fn check_content(headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name| headers.get(name).map_or(Ok(""), |value: &header::HeaderValue| value.to_str());
    let content_type = text(header::CONTENT_TYPE).map_err(|_| unsupported("the content type cannot be read"))?;
    match content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
        .as_str()
    {
        // The last one is what curl says of whatever it sends.
        ""
        | "application/octet-stream"
        | "application/gzip"
        | "application/x-gzip"
        | "application/msgpack"
        | "application/x-msgpack"
        | "application/vnd.msgpack"
        | "application/x-www-form-urlencoded" => {}
        _ => return Err(unsupported("send the import as application/octet-stream")),
    }
    match text(header::CONTENT_ENCODING).map(|encoding| encoding.trim().to_ascii_lowercase()) {
        Ok(encoding) if encoding.is_empty() || encoding == "identity" => Ok(()),
        _ => Err(unsupported(
            "leave the content encoding out; msgpack.gz in the path says that the body is gzip",
        )),
    }
}

fn unsupported(message: &str) -> ApiError {
    ApiError::with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    const ROW: &[u8] = &[
        0x82, 0xa4, b't', b'i', b'm', b'e', 5, 0xa7, b'u', b's', b'e', b'r', b'_', b'i', b'd', 0xa3, b'a', b'd', b'a',
    ];

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn decoded(body: Vec<u8>, format: Format, room: usize) -> Result<(String, RecordBatch, Distinct), Option<u16>> {
        let columns = ["user_id".to_owned()];
        decode_within(&body.into(), format, &columns, &Limits::default(), room, Timestamp::from_secs(1)).map_err(|refused| match refused {
            Undecoded::MoreRoom => None,
            Undecoded::Refused(error) => Some(error.status().as_u16()),
        })
    }

    #[test]
    fn both_formats_become_the_same_rows() {
        let plain = decoded(ROW.to_vec(), Format::Msgpack, 1000).unwrap();
        let gz = decoded(gzip(ROW), Format::MsgpackGz, 1000).unwrap();
        assert_eq!(plain.1, gz.1);
        assert_eq!(gz.2.values(), [Secret::new("ada".into())]);
        assert_eq!(gz.0, hex::encode(Md5::digest(gzip(ROW))), "of the body as it was sent");
    }

    #[test]
    fn an_empty_import_is_an_import() {
        let (_, batch, identities) = decoded(gzip(b""), Format::MsgpackGz, 0).unwrap();
        assert_eq!((batch.num_rows(), identities.is_empty()), (0, true));
    }

    #[test]
    fn a_body_that_holds_more_than_it_says_asks_for_room_once() {
        let twice = [gzip(ROW), gzip(ROW)].concat();
        let limits = Limits::default();
        let said = expected(&twice, Format::MsgpackGz, &limits);
        assert!(said >= ROW.len());
        assert_eq!(decoded(twice.clone(), Format::MsgpackGz, ROW.len()).err(), Some(None));
        assert_eq!(decoded(twice, Format::MsgpackGz, limits.max_inflated).unwrap().1.num_rows(), 2);
    }

    #[test]
    fn what_is_not_events_is_refused() {
        assert_eq!(decoded(b"plain".to_vec(), Format::MsgpackGz, 1000).err(), Some(Some(400)));
        assert_eq!(decoded(gzip(&[0x93, 1, 2, 3]), Format::MsgpackGz, 1000).err(), Some(Some(400)));
        assert_eq!(Format::of("csv.gz").map_err(|error| error.status().as_u16()), Err(415));
    }

    #[test]
    fn content_types_that_contradict_the_path_are_refused() {
        let check = |name: http::HeaderName, value: &str| {
            check_content(&HeaderMap::from_iter([(name, value.parse().unwrap())])).map_err(|error| error.status().as_u16())
        };
        assert!(check_content(&HeaderMap::new()).is_ok());
        for good in [
            "application/octet-stream",
            "Application/X-Msgpack; a=b",
            "application/x-www-form-urlencoded",
        ] {
            assert_eq!(check(header::CONTENT_TYPE, good), Ok(()), "{good}");
        }
        for bad in ["application/json", "multipart/form-data; boundary=b", "text/html"] {
            assert_eq!(check(header::CONTENT_TYPE, bad), Err(415), "{bad}");
        }
        assert_eq!(check(header::CONTENT_ENCODING, "gzip"), Err(415));
        assert_eq!(check(header::CONTENT_ENCODING, "identity"), Ok(()));
    }
}
