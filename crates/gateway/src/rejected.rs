//! What could not be rows and was set aside: shown, and tried again. Not of td's API.
//!
//! Promise: it is shown to whoever may read and manage, and to nobody else. What a replay takes is stored once, however often and by
//! however many it is tried; what it does not take stays where it is.
//!
//! Start at [`show`] and [`replay`]. What was sealed is opened in [`aside`].

use axum::response::Response;
use base::{SecretBytes, Timestamp};
use bytes::Bytes;
use events::{Encoding, Syntax};
use futures::{FutureExt, StreamExt, TryFutureExt, TryStreamExt};
use http::StatusCode;
use serde_json::{Value, json};
use wire::v1::{Aside, AsideName, ListAsideRequest, ListAsideResponse};

use crate::aside::{self, Place};
use crate::calls::Call;
use crate::errors::{ApiError, ok};
use crate::forms::Form;
use crate::intake;
use crate::pages::Turn;
use crate::params::Params;
use crate::people::Columns;

/// How many one answer is about at most.
const MOST: u32 = 1_000;
/// How many are tried at the same time.
const AT_ONCE: usize = 8;

/// Which part of the list is asked for: `count`, and `after=REQUEST/ROW` to go on.
struct Wanted {
    count: u32,
    after: Option<AsideName>,
}

impl Wanted {
    fn of(params: &Params) -> Result<Self, ApiError> {
        Ok(Self {
            count: params.number("count", 1..=MOST, 100)?,
            after: params.get("after").map(name_of).transpose()?,
        })
    }
}

fn name_of(text: &str) -> Result<AsideName, ApiError> {
    let wrong = || ApiError::invalid("after is what the answer before said in next");
    let (request, row) = text.split_once('/').ok_or_else(wrong)?;
    let request: base::RequestId = request.parse().map_err(|_| wrong())?;
    Ok(AsideName {
        request: request.to_string(),
        row: row.parse().map_err(|_| wrong())?,
    })
}

/// `GET /v1/rejected/{database}/{table}`
pub(crate) async fn show(call: Call) -> Result<Response, ApiError> {
    let wanted = Wanted::of(&call.query_params()?)?;
    let page = Page::read(&call, wanted).await?;
    let shown: Vec<Value> = page.rows.iter().map(|(aside, content)| shown(aside, content.as_ref())).collect();
    Ok(ok(&json!({ "rejected": shown, "next": page.next })))
}

/// `POST /v1/rejected/{database}/{table}/replay`: tries a page again; `dry_run=true` only says what would become of it.
pub(crate) async fn replay(mut call: Call) -> Result<Response, ApiError> {
    let params = call.body_params().await?;
    let wanted = Wanted::of(&params)?;
    let dry_run = match params.get("dry_run") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(ApiError::invalid("dry_run is true or false")),
    };
    let page = Page::read(&call, wanted).await?;
    let (call, place) = (&call, &page.place);
    let mut tries = Vec::with_capacity(page.rows.len());
    for (aside, content) in &page.rows {
        let outcome = tried(call, place, aside, content.as_ref(), dry_run);
        tries.push(outcome.map_ok(move |outcome| (aside, outcome)).boxed());
    }
    let outcomes: Vec<(&Aside, Tried)> = futures::stream::iter(tries).buffered(AT_ONCE).try_collect().await?;
    let left = outcomes.iter().filter_map(|(aside, outcome)| match outcome {
        Tried::Taken => None,
        Tried::Stays { reason, message } => {
            let (request, row) = name(aside);
            Some(json!({ "request": request, "row": row, "reason": reason, "message": message }))
        }
    });
    let left: Vec<Value> = left.collect();
    Ok(ok(&json!({
        "taken": outcomes.len() - left.len(),
        "left": left,
        "dry_run": dry_run,
        "next": page.next,
    })))
}

/// A part of the list, opened.
struct Page {
    place: Place,
    rows: Vec<(Aside, Option<SecretBytes>)>,
    /// Where the next one begins.
    next: Option<String>,
    _turn: Turn,
}

impl Page {
    async fn read(call: &Call, wanted: Wanted) -> Result<Self, ApiError> {
        let (database, table) = (call.database()?, call.table()?);
        let turn = call.app().pages.turn(call.caller.product).await?;
        let asked = ListAsideRequest {
            database: database.to_string(),
            table: table.to_string(),
            after: wanted.after,
            count: wanted.count,
        };
        let ListAsideResponse { aside, more } = call.warehouse(asked, |mut to, ask| async move { to.list_aside(ask).await }).await?;
        let next = aside.last().filter(|_| more).map(|last| {
            let (request, row) = name(last);
            format!("{request}/{row}")
        });
        let place = Place {
            product: call.caller.product,
            database,
            table,
        };
        let rows = aside::opened(call, &place, aside).await?;
        Ok(Self {
            place,
            rows,
            next,
            _turn: turn,
        })
    }
}

fn name(aside: &Aside) -> (&str, u64) {
    aside.name.as_ref().map_or(("", 0), |name| (&name.request, name.row))
}

fn shown(aside: &Aside, content: Option<&SecretBytes>) -> Value {
    let (request, row) = name(aside);
    let mut shown = json!({
        "time": aside.time,
        "reason": aside.reason,
        "message": aside.message,
        "request": request,
        "row": row,
        "syntax": aside.syntax,
        "bytes": aside.size,
        "key_id": aside.credential,
        "import_id": Some(&aside.import_id).filter(|id| !id.is_empty()),
    });
    match content.map(|content| (std::str::from_utf8(content.reveal()), content)) {
        None => shown["content_error"] = UNOPENED.into(),
        Some((Ok(text), _)) if aside.syntax != "msgpack" => shown["content"] = text.into(),
        Some((_, content)) => shown["content_hex"] = hex::encode(content.reveal()).into(),
    }
    shown
}

const UNOPENED: &str = "it does not open: it was moved here from elsewhere, or changed";

/// What came of a try.
enum Tried {
    Taken,
    Stays { reason: String, message: String },
}

/// Tries one again. Errors that will pass by themselves end the whole replay; others are what came of this one.
async fn tried(call: &Call, place: &Place, aside: &Aside, content: Option<&SecretBytes>, dry_run: bool) -> Result<Tried, ApiError> {
    let stays = |reason: &str, message: &str| {
        Ok(Tried::Stays {
            reason: reason.to_owned(),
            message: message.to_owned(),
        })
    };
    let (Some(content), Some(syntax), Some(name)) = (content, aside::syntax(&aside.syntax), aside.name.clone()) else {
        return stays("sealed", UNOPENED);
    };
    let form = Form {
        syntax,
        encoding: Encoding::Identity,
    };
    let columns = Columns::of(&call.caller.settings, &place.database, &place.table)?;
    let received_at = Timestamp::from_secs(aside.time);
    // It is one and it is here already: how much a body may be that is sent does not concern it.
    let limits = &call.settings().limits;
    let decoded = match intake::decode_under(limits, call.app(), alone(syntax, content), form, columns, received_at).await {
        Ok(decoded) => decoded,
        Err(error) if is_final(&error) => return stays("unreadable", error.message()),
        Err(error) => return Err(error),
    };
    if let [again, ..] = decoded.aside() {
        return stays(again.fault.code(), &again.fault.to_string());
    }
    if decoded.rows() != 1 {
        return stays("unreadable", "it is not one row");
    }
    if dry_run {
        return Ok(Tried::Taken);
    }
    match intake::replay(call, (&place.database, &place.table), name, decoded).await {
        Ok(taken) => {
            call.app().rows.inc_by(taken.rows);
            Ok(Tried::Taken)
        }
        Err(error) if is_final(&error) => stays("refused", error.message()),
        Err(error) => Err(error),
    }
}

/// As a body of its own. In JSON as the only element of an array: it must be one row as it stands, and not several because it is alone.
fn alone(syntax: Syntax, content: &SecretBytes) -> Bytes {
    match syntax {
        Syntax::Msgpack | Syntax::Records(_) => Bytes::copy_from_slice(content.reveal()),
        Syntax::Json => [b"[", content.reveal(), b"]"].concat().into(),
    }
}

fn is_final(error: &ApiError) -> bool {
    matches!(error.status(), StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aside(syntax: &str) -> Aside {
        Aside {
            name: Some(AsideName {
                request: "01ab".into(),
                row: 3,
            }),
            syntax: syntax.into(),
            ..Aside::default()
        }
    }

    #[test]
    fn text_is_shown_as_text_and_bytes_as_bytes() {
        let content = |bytes: &[u8]| Some(SecretBytes::new(bytes.to_vec()));
        let shown = |syntax, content: Option<SecretBytes>| shown(&aside(syntax), content.as_ref());
        assert_eq!(shown("json", content(b"{\"a\":"))["content"], "{\"a\":");
        assert_eq!(shown("record", content(b"{\"a\":1}"))["content"], "{\"a\":1}");
        assert_eq!(shown("json", content(b"\xff"))["content_hex"], "ff");
        assert_eq!(shown("msgpack", content(b"\x91\x01"))["content_hex"], "9101");
        assert_eq!(shown("json", None)["content_error"], UNOPENED);
        assert_eq!(shown("json", None)["import_id"], Value::Null);
    }

    #[test]
    fn the_place_to_go_on_at_is_what_was_said() {
        let id = base::RequestId::from_bytes([7; 16]).to_string();
        let name = name_of(&format!("{id}/12")).unwrap();
        assert_eq!((name.request, name.row), (id, 12));
        for wrong in ["", "x", "x/1", "01ab", "/", "'/1"] {
            assert!(name_of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_tried_again_alone_stays_what_it_was() {
        let json = |text: &str| alone(Syntax::Json, &SecretBytes::new(text.as_bytes().to_vec()));
        assert_eq!(json("{\"a\":1}"), "[{\"a\":1}]");
        assert_eq!(json("[{\"a\":1}]"), "[[{\"a\":1}]]");
        let record = aside::syntax("record").unwrap();
        assert_eq!(alone(record, &SecretBytes::new(b"{\"a\":1}".to_vec())), "{\"a\":1}");
    }
}
