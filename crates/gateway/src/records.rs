//! The records ingest: records in JSON, a receipt for each.
//!
//! Promise: receipts stand in the order of the records; `"success":true` is said only after the warehouse has said that the record is
//! durable, and a record with a `uuid` of its own is stored once, however often it is sent. One that cannot be a row harms no other and
//! is set aside, as in any import.
//!
//! Start at [`take`]. What becomes of a body is [`intake`]'s.

use std::net::IpAddr;
use std::time::Instant;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use base::{DatabaseName, TableName, Verb};
use events::{Address, Limits, RecordId, Records, Rejected, RowFault, Syntax};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};
use wire::v1::{DatabaseRequest, TableRequest};

use crate::calls::Call;
use crate::errors::ApiError;
use crate::forms::{self, Form};
use crate::intake;

/// Records in one body.
const MAX_RECORDS: usize = 500;
/// Bytes of one record.
const MAX_RECORD: usize = 1 << 20;
/// Bytes of a body, once inflated.
const MAX_BODY: usize = 5 << 20;
/// Cells of a body: every record with as many columns as a table has.
const MAX_CELLS: usize = 5_100_000;
/// Bytes of its texts. JSON hardly grows as it is read.
const MAX_TEXT: usize = 64 << 20;
const ADVICE: &str = "send at most 500 records, 1 MB each and 5 MB together";

/// What a body of records says that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Json,
    Batch,
    Single,
    /// A browser's: records may ask for the address they come from.
    Browser,
    /// An app's that wants the address in every record.
    Mobile,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Json, Self::Batch, Self::Single, Self::Browser, Self::Mobile];

    fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let stated = forms::media_type(headers)?;
        Self::ALL.into_iter().find(|kind| kind.media_type() == stated).ok_or_else(|| {
            forms::unsupported(
                "records are sent as application/vnd.treasuredata.v1+json, with {\"events\":[…]} or {\"records\":[…]} as body, \
                 or one by itself as application/vnd.treasuredata.v1.single+json",
            )
        })
    }

    const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Batch => "application/vnd.treasuredata.v1+json",
            Self::Single => "application/vnd.treasuredata.v1.single+json",
            Self::Browser => "application/vnd.treasuredata.v1.js+json",
            Self::Mobile => "application/vnd.treasuredata.v1.mobile+json",
        }
    }

    fn syntax(self, from: IpAddr) -> Syntax {
        Syntax::Records(Records {
            single: self == Self::Single,
            address: match self {
                Self::Json | Self::Batch | Self::Single => Address::Untold,
                Self::Browser => Address::WhereAsked(from),
                Self::Mobile => Address::Everywhere(from),
            },
        })
    }
}

/// `POST /{database}/{table}`
pub(crate) async fn take(mut call: Call) -> Result<Response, ApiError> {
    let started = Instant::now();
    let (database, table) = (call.database()?, call.table()?);
    let kind = Kind::of(call.headers())?;
    let form = Form {
        // The address goes into the records that ask for it, and nowhere else.
        syntax: kind.syntax(call.address()),
        encoding: forms::encoding(call.headers())?,
    };
    let decoded = intake::receive(&mut call, (&database, &table), form, ADVICE).await?;
    if decoded.ids.is_empty() {
        return Err(ApiError::invalid(format!("the body holds no record; {ADVICE}")));
    }
    let receipts = receipts(&decoded.ids, &decoded.rejected, || RecordId::random(&*call.app().entropy));
    if call.caller.verbs.contains(Verb::Manage) {
        make(&call, &database, &table).await?;
    }
    let rows = intake::append(&call, &database, &table, "", decoded).await?.rows;
    call.app().rows.inc_by(rows);
    tracing::debug!(request.id = %call.request(), product.id = %call.caller.product, rows,
        duration_ms = started.elapsed().as_millis() as u64, "took {rows} records");
    Ok(answer(kind, receipts))
}

/// How much a body of records may be, of what any body may.
pub(crate) fn limits(most: &Limits) -> Limits {
    Limits {
        max_body: most.max_body.min(MAX_BODY),
        max_inflated: most.max_inflated.min(MAX_BODY),
        max_row: most.max_row.min(MAX_RECORD),
        max_rows: most.max_rows.min(MAX_RECORDS),
        max_cells: most.max_cells.min(MAX_CELLS),
        max_text: most.max_text.min(MAX_TEXT),
        ..most.clone()
    }
}

/// One for each record, in order.
fn receipts(ids: &[Option<RecordId>], rejected: &[Rejected], new: impl Fn() -> RecordId) -> Vec<Value> {
    let mut rejected = rejected.iter().peekable();
    let of = |(place, id): (usize, &Option<RecordId>)| {
        let id = id.unwrap_or_else(&new);
        match rejected.next_if(|rejected| rejected.row == place + 1) {
            None => json!({ "success": true, "uuid": id.as_str() }),
            Some(Rejected { fault, .. }) => json!({
                "success": false,
                "uuid": id.as_str(),
                "error": { "name": error_name(fault), "description": fault.to_string() },
            }),
        }
    };
    ids.iter().enumerate().map(of).collect()
}

/// The name under which mobile clients give a record up: the same record would fail again.
const fn error_name(fault: &RowFault) -> &'static str {
    match fault {
        RowFault::KeyNotText | RowFault::Name { .. } | RowFault::TooManyKeys { .. } => "InvalidPropertyNameError",
        RowFault::NotAMap
        | RowFault::Time
        | RowFault::TooLarge { .. }
        | RowFault::TooDeep { .. }
        | RowFault::NotUtf8
        | RowFault::NotJson
        | RowFault::Identity { .. } => "InvalidPropertyValueError",
    }
}

/// The receipts; of a record by itself its receipt by itself. In the media type of the question.
fn answer(kind: Kind, mut receipts: Vec<Value>) -> Response {
    let body = match (kind, receipts.len()) {
        (Kind::Single, 1) => receipts.remove(0),
        _ => json!({ "receipts": receipts }),
    };
    ([(header::CONTENT_TYPE, kind.media_type())], Body::from(body.to_string())).into_response()
}

/// Makes the table, and its database, unless they are there: whoever holds this key could as well have asked for it.
async fn make(call: &Call, database: &DatabaseName, table: &TableName) -> Result<(), ApiError> {
    let asked = || DatabaseRequest {
        database: database.to_string(),
    };
    let listed = call
        .warehouse(asked(), |mut to, ask| async move { to.list_tables(ask).await })
        .await;
    match listed {
        Ok(listed) if listed.tables.iter().any(|known| known.name == table.as_str()) => return Ok(()),
        Ok(_) => {}
        Err(error) if error.status() == StatusCode::NOT_FOUND => {
            made(
                call.warehouse(asked(), |mut to, ask| async move { to.create_database(ask).await })
                    .await,
            )?;
        }
        Err(error) => return Err(error),
    }
    let asked = TableRequest {
        database: database.to_string(),
        table: table.to_string(),
    };
    made(call.warehouse(asked, |mut to, ask| async move { to.create_table(ask).await }).await)
}

/// Another request at the same moment may have been first.
fn made<T>(answer: Result<T, ApiError>) -> Result<(), ApiError> {
    match answer {
        Err(error) if error.status() != StatusCode::CONFLICT => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http_body_util::BodyExt;

    use super::*;

    fn kind(content_type: &'static str) -> Result<Kind, u16> {
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        Kind::of(&headers).map_err(|error| error.status().as_u16())
    }

    #[test]
    fn the_content_type_says_what_a_body_is() {
        for known in Kind::ALL {
            assert_eq!(kind(known.media_type()), Ok(known));
        }
        assert_eq!(kind("Application/vnd.treasuredata.v1+JSON; charset=utf-8"), Ok(Kind::Batch));
        for other in [
            "",
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/vnd.treasuredata.v2+json",
        ] {
            assert_eq!(kind(other), Err(415), "{other}");
        }
        assert_eq!(Kind::of(&HeaderMap::new()).unwrap_err().status().as_u16(), 415);
    }

    #[test]
    fn records_take_a_small_part_of_the_memory_that_imports_share() {
        let limits = limits(&Limits::default());
        assert!(intake::most(&limits) < 128 << 20, "{}", intake::most(&limits));
        // As many records as may come, each with as many columns as there may be, still fit: `time` and `_overflow` beside them.
        assert!((limits.max_rows + 1) * (limits.max_columns + 2) <= limits.max_cells);
    }

    #[test]
    fn only_browsers_and_apps_are_told_their_address() {
        let from: IpAddr = "192.0.2.7".parse().unwrap();
        let told = |kind: Kind| match kind.syntax(from) {
            Syntax::Records(records) => (records.single, records.address),
            _ => panic!("{kind:?} is not records"),
        };
        assert_eq!(told(Kind::Json), (false, Address::Untold));
        assert_eq!(told(Kind::Batch), (false, Address::Untold));
        assert_eq!(told(Kind::Single), (true, Address::Untold));
        assert_eq!(told(Kind::Browser), (false, Address::WhereAsked(from)));
        assert_eq!(told(Kind::Mobile), (false, Address::Everywhere(from)));
    }

    #[test]
    fn receipts_stand_in_the_order_of_the_records() {
        let id = |last: char| RecordId::parse(format!("0e4f1c2a-9b7d-4c55-8f10-aabbccddeef{last}").as_bytes());
        let aside = |row, fault| Rejected { row, fault, sent: 0..0 };
        let rejected = [aside(2, RowFault::Time), aside(4, RowFault::Name { max: 512 })];
        let receipts = receipts(&[id('1'), id('2'), None, None, id('5')], &rejected, || id('f').unwrap());
        let shown = |number: usize| {
            (
                receipts[number]["success"].clone(),
                receipts[number]["uuid"].as_str().unwrap().chars().last(),
            )
        };
        assert_eq!(shown(0), (json!(true), Some('1')));
        assert_eq!(shown(1), (json!(false), Some('2')));
        assert_eq!(shown(2), (json!(true), Some('f')));
        assert_eq!(shown(3), (json!(false), Some('f')));
        assert_eq!(shown(4), (json!(true), Some('5')));
        assert_eq!(receipts[1]["error"]["name"], "InvalidPropertyValueError");
        assert!(receipts[1]["error"]["description"].as_str().unwrap().contains("time"));
        assert_eq!(receipts[3]["error"]["name"], "InvalidPropertyNameError");
        assert!(receipts[0].get("error").is_none());
    }

    #[tokio::test]
    async fn an_answer_has_the_type_of_its_question_and_a_record_by_itself_one_receipt() {
        for known in Kind::ALL {
            let response = answer(known, vec![json!({ "success": true })]);
            assert_eq!(response.headers()[header::CONTENT_TYPE], known.media_type());
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let body: Value = serde_json::from_slice(&body).unwrap();
            let receipt = if known == Kind::Single { &body } else { &body["receipts"][0] };
            assert_eq!(receipt["success"], true, "{known:?}");
        }
    }
}
