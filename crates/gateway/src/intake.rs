//! Intake: from a body that was read to rows that are durable; decoded once, freed of identities, handed to the warehouse.
//!
//! Promise: what leaves here for the warehouse holds ids in place of identities and sealed texts in place of personal values, and no import takes more memory than it was given.
//! What cannot be a row goes with the others of its body, sealed ([`aside`]).
//!
//! Start at [`receive`], then [`append`]. Does not know of routes and answers, nor how rows are stored or how identities are kept.

use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use base::{DatabaseName, ErrorKind, TableName, Timestamp};
use bytes::Bytes;
use edge::{Lap, Stages};
use events::{DecodeError, InflateError, Limits, RecordId, Rejected, Told};
use md5::{Digest, Md5};
use wire::v1::{AppendRequest, AsideName};

use crate::aside::{self, Origin, SetAside};
use crate::bodies::{self, Bounds, Budget, Share};
use crate::calls::{App, Call};
use crate::errors::ApiError;
use crate::forms::Form;
use crate::people::{self, Columns, People};
use crate::settings::GatewaySettings;

/// How long an import waits for memory or a core, before its sender is told to try again.
const TURN: Duration = Duration::from_secs(10);
/// What an append message holds besides the batch.
const ENVELOPE: usize = 64 << 10;
/// What a cell takes in memory, empty or not, besides its text.
const CELL: usize = 8;
/// How many times as much as the body its personal values will probably take while they are sealed.
const SEALED: usize = 6;
/// What even the smallest import is given.
const SMALL: usize = 64 << 10;
/// How many times as much it gets where that was not enough.
const MORE: usize = 4;

/// Rows in memory, people still in them.
pub(crate) struct Decoded {
    pub(crate) md5_hex: String,
    /// Of records, the id that each came with, those included that cannot be rows.
    pub(crate) ids: Vec<Option<RecordId>>,
    /// Of records, those that cannot be rows.
    pub(crate) rejected: Vec<Rejected>,
    batch: RecordBatch,
    people: People,
    /// What of it cannot be rows.
    aside: Vec<SetAside>,
    origin: Origin,
    /// For what of it is in memory, held until it is gone.
    memory: Share,
}

impl Decoded {
    /// How many rows can be taken.
    pub(crate) fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    /// What cannot be rows.
    pub(crate) fn aside(&self) -> &[SetAside] {
        &self.aside
    }

    /// What it takes until it is gone: its rows and, beside them, those in whose place ids and sealed texts stand; what takes their place;
    /// what is set aside.
    fn held(&self) -> usize {
        let rows = self.batch.get_array_memory_size().saturating_mul(2);
        rows.saturating_add(self.people.bytes())
            .saturating_add(aside::memory(&self.rejected))
    }
}

/// What comes of reading a body: its digest, its rows, the people in them, and what cannot be rows.
type Read = (String, events::Decoded, People, Vec<SetAside>);

/// Reads the body of a call within the bounds of its form, and decodes it. `advice` says what to do with one that is too large.
pub(crate) async fn receive(
    call: &mut Call,
    (database, table): (&DatabaseName, &TableName),
    form: Form,
    advice: &'static str,
) -> Result<Decoded, ApiError> {
    let settings = call.settings();
    let bounds = Bounds {
        max: form.limits(&settings.limits).max_body,
        advice,
        idle: settings.body_idle,
        total: settings.body_total,
    };
    let body = call.take_body();
    let (body, memory) = bodies::read(call.headers(), body, &bounds, Some(&call.app().bodies)).await?;
    let columns = Columns::of(&call.caller.settings, database, table)?;
    let decoded = decode(call.app(), body, form, columns, call.now()).await?;
    drop(memory);
    Ok(decoded)
}

pub(crate) async fn decode(app: &Arc<App>, body: Bytes, form: Form, columns: Columns, now: Timestamp) -> Result<Decoded, ApiError> {
    decode_under(&form.limits(&app.settings.limits), app, body, form, columns, now).await
}

/// The same under limits that are not those of the form.
pub(crate) async fn decode_under(
    limits: &Limits,
    app: &Arc<App>,
    body: Bytes,
    form: Form,
    columns: Columns,
    now: Timestamp,
) -> Result<Decoded, ApiError> {
    let most = most(limits);
    let mut memory = app.inflated.wait(expected(&body, form, &columns).min(most), TURN).await?;
    loop {
        let room = memory.bytes();
        let (body, limits, columns, stages) = (body.clone(), limits.clone(), columns.clone(), app.stages.clone());
        let outcome = with_a_core(app, move || decode_within(&body, form, &columns, &limits, room, now, &stages)).await?;
        match outcome {
            Ok((md5_hex, decoded, people, aside)) => {
                let mut decoded = Decoded {
                    md5_hex,
                    ids: decoded.ids,
                    rejected: decoded.rejected,
                    batch: decoded.batch,
                    people,
                    aside,
                    origin: Origin {
                        syntax: form.syntax,
                        received_at: now,
                    },
                    memory,
                };
                // The body is gone, and where it was guessed at it was given plenty.
                let held = decoded.held();
                decoded.memory.shrink(held);
                return Ok(decoded);
            }
            Err(Undecoded::MoreRoom) => {
                // The body said less than it holds, or leaves many cells empty. It is read from its beginning each time, but what all
                // times before the last take together is a third of that one.
                drop(memory);
                memory = app.inflated.wait(room.saturating_mul(MORE).min(most), TURN).await?;
            }
            Err(Undecoded::Refused(error)) => return Err(error),
        }
    }
}

/// The most that one import takes in memory: its body inflated, its texts, and its cells, those that sparse rows leave empty included.
pub(crate) fn most(limits: &Limits) -> usize {
    let columns = limits.max_cells.saturating_mul(CELL).saturating_add(limits.max_text);
    limits.max_inflated.saturating_add(columns)
}

/// The memory that all imports share: never less than one of them may take.
pub(crate) fn budget(settings: &GatewaySettings) -> Budget {
    Budget::of(shared(settings))
}

fn shared(settings: &GatewaySettings) -> usize {
    settings.max_inflated_bytes.max(most(&settings.limits)).saturating_add(1 << 20)
}

/// What a body will probably take: once inflated, and as much each for texts and cells; where values are sealed, those as well.
fn expected(body: &[u8], form: Form, columns: &Columns) -> usize {
    let times = if columns.has_personal() { 3 + SEALED } else { 3 };
    events::claimed_size(form.encoding, body)
        .saturating_mul(times)
        .saturating_add(SMALL)
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
    form: Form,
    columns: &Columns,
    limits: &Limits,
    room: usize,
    now: Timestamp,
    stages: &Stages,
) -> Result<Read, Undecoded> {
    let all = room >= most(limits);
    let mut lap = Lap::begin();
    let md5_hex = hex::encode(Md5::digest(body));
    let digesting = lap.end();
    let inflated = match events::inflate(form.encoding, body, room.min(limits.max_inflated)) {
        Err(InflateError::TooLarge { .. }) if !all => return Err(Undecoded::MoreRoom),
        other => other.map_err(|error| ApiError::new(error.kind(), error.to_string()))?,
    };
    let inflating = lap.end();
    let within = if all {
        limits.clone()
    } else {
        let half = room.saturating_sub(inflated.len()) / 2;
        Limits {
            max_cells: limits.max_cells.min(half / CELL),
            max_text: limits.max_text.min(half),
            ..limits.clone()
        }
    };
    let told = Told {
        limits: &within,
        received_at: now,
        identities: columns.identities(),
        personal: columns.personal(),
    };
    let decoded = match events::decode(form.syntax, &inflated, &told) {
        Err(DecodeError::TooManyCells { .. } | DecodeError::TooMuchText { .. }) if !all => return Err(Undecoded::MoreRoom),
        other => other.map_err(|error| ApiError::new(error.kind(), error.to_string()))?,
    };
    let decoding = lap.end();
    let people = People::gather(&decoded.batch, columns)?;
    let sealing = if people.personal().is_empty() {
        0
    } else {
        people.personal().bytes()
    };
    if sealing > 0 && sealing > room.saturating_sub(decoded.batch.get_array_memory_size()) {
        return Err(if all { people::too_large().into() } else { Undecoded::MoreRoom });
    }
    let beside = aside::memory(&decoded.rejected);
    let taken = decoded.batch.get_array_memory_size().saturating_add(sealing);
    if beside > 0 && beside > room.saturating_sub(taken) {
        return Err(if all { aside::too_large().into() } else { Undecoded::MoreRoom });
    }
    let finding = lap.end();
    let aside = aside::all(&decoded.rejected, &inflated);
    let rows = decoded.batch.num_rows() as u64;
    for (stage, time) in [
        ("md5", digesting),
        ("inflate", inflating),
        ("decode", decoding),
        ("find people", finding),
    ] {
        stages.took(stage, time, rows);
    }
    Ok((md5_hex, decoded, people, aside))
}

/// What became of rows.
pub(crate) struct Taken {
    /// How many were stored.
    pub(crate) rows: u64,
    /// Whether all of them had been stored before.
    pub(crate) duplicate: bool,
}

/// Translates, replaces, appends, and with the rows what cannot be rows.
pub(crate) async fn append(call: &Call, database: &DatabaseName, table: &TableName, id: &str, decoded: Decoded) -> Result<Taken, ApiError> {
    append_as(call, (database, table), id, None, decoded).await
}

/// The same for something that was set aside and is tried again under its own name: it is stored once.
pub(crate) async fn replay(call: &Call, to: (&DatabaseName, &TableName), name: AsideName, decoded: Decoded) -> Result<Taken, ApiError> {
    append_as(call, to, "", Some(name), decoded).await
}

async fn append_as(
    call: &Call,
    (database, table): (&DatabaseName, &TableName),
    id: &str,
    replays: Option<AsideName>,
    decoded: Decoded,
) -> Result<Taken, ApiError> {
    let record_ids = record_ids(&decoded);
    let Decoded {
        batch,
        people,
        aside,
        origin,
        mut memory,
        ..
    } = decoded;
    let (stages, rows) = (call.app().stages.clone(), batch.num_rows() as u64);
    let mut lap = Lap::begin();
    let made = people.translate(call).await?;
    let aside = aside::sealed(call, (database, table), origin, aside).await?;
    stages.took("wait for identity", lap.end(), rows);
    let counted = stages.clone();
    let batches = with_a_core(call.app(), move || {
        let mut lap = Lap::begin();
        let replaced = people.replace(&batch, &made)?;
        counted.took("replace people", lap.end(), rows);
        let batches = events::to_ipc(&replaced);
        counted.took("encode", lap.end(), rows);
        Ok::<_, ApiError>(batches)
    })
    .await??;
    // Rows are packed; what is set aside is not.
    let weight = aside.as_ref().map_or(0, aside::weight);
    memory.shrink(weight.saturating_mul(2));
    let _held = aside.is_some().then_some(memory);
    if batches.len() + weight > wire::MAX_MESSAGE - ENVELOPE {
        return Err(ApiError::new(
            ErrorKind::TooLarge,
            "the import is too large once decoded; send the events in smaller parts",
        ));
    }
    let set_aside = aside.as_ref().map_or(0, |aside| aside.rows.len()) as u64;
    let asked = AppendRequest {
        database: database.to_string(),
        table: table.to_string(),
        batch_id: id.to_owned(),
        batches,
        record_ids,
        aside,
        replays,
    };
    lap.end();
    let appended = call.warehouse(asked, |mut to, ask| async move { to.append(ask).await }).await?;
    stages.took("wait for warehouse", lap.end(), rows);
    call.app().set_aside.inc_by(set_aside);
    Ok(Taken {
        rows: if appended.duplicate { 0 } else { appended.rows },
        duplicate: appended.duplicate,
    })
}

/// The ids of those records that are rows, as the warehouse takes them.
fn record_ids(decoded: &Decoded) -> Vec<u8> {
    let mut ids = Vec::new();
    if decoded.ids.iter().all(Option::is_none) {
        return ids;
    }
    let mut rejected = decoded.rejected.iter().peekable();
    for (place, id) in decoded.ids.iter().enumerate() {
        if rejected.next_if(|rejected| rejected.row == place + 1).is_none() {
            ids.extend(id.map_or([0; 16], RecordId::to_bytes));
        }
    }
    ids
}

/// Runs `work` away from the threads that answer requests, when it is its turn.
pub(crate) async fn with_a_core<R: Send + 'static>(app: &Arc<App>, work: impl FnOnce() -> R + Send + 'static) -> Result<R, ApiError> {
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use events::{Encoding, Syntax};
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

    const GZIP: Form = Form {
        syntax: Syntax::Msgpack,
        encoding: Encoding::Gzip,
    };
    const PLAIN: Form = Form {
        syntax: Syntax::Msgpack,
        encoding: Encoding::Identity,
    };
    const JSON: Form = Form {
        syntax: Syntax::Json,
        encoding: Encoding::Identity,
    };

    type Taken = (String, RecordBatch, People, Vec<SetAside>);

    fn decoded_within(limits: &Limits, body: Vec<u8>, form: Form, room: usize) -> Result<Taken, Option<ApiError>> {
        let columns = Columns::new(vec!["user_id".to_owned()], vec!["secret".to_owned()]);
        decode_within(
            &body.into(),
            form,
            &columns,
            limits,
            room,
            Timestamp::from_secs(1),
            &Stages::default(),
        )
        .map_err(|refused| match refused {
            Undecoded::MoreRoom => None,
            Undecoded::Refused(error) => Some(error),
        })
        .map(|(md5_hex, decoded, people, aside)| (md5_hex, decoded.batch, people, aside))
    }

    fn decoded(body: Vec<u8>, form: Form, room: usize) -> Result<Taken, Option<u16>> {
        decoded_within(&Limits::default(), body, form, room).map_err(|refused| refused.map(|error| error.status().as_u16()))
    }

    #[test]
    fn all_forms_become_the_same_rows() {
        let plain = decoded(ROW.to_vec(), PLAIN, 1000).unwrap();
        let gz = decoded(gzip(ROW), GZIP, 1000).unwrap();
        let json = decoded(b"{\"time\":5,\"user_id\":\"ada\"}".to_vec(), JSON, 1000).unwrap();
        assert_eq!(plain.1, gz.1);
        assert_eq!(plain.1, json.1);
        assert_eq!(gz.2.identities(), [base::Secret::new("ada".into())]);
        assert_eq!(gz.0, hex::encode(Md5::digest(gzip(ROW))), "of the body as it was sent");
    }

    #[test]
    fn an_empty_import_is_an_import() {
        let (_, batch, people, _) = decoded(gzip(b""), GZIP, 0).unwrap();
        assert_eq!((batch.num_rows(), people.identities().is_empty()), (0, true));
    }

    #[test]
    fn a_body_that_holds_more_than_it_says_asks_for_room_once() {
        let twice = [gzip(ROW), gzip(ROW)].concat();
        assert_eq!(decoded(twice.clone(), GZIP, ROW.len()).err(), Some(None));
        assert_eq!(decoded(twice, GZIP, most(&Limits::default())).unwrap().1.num_rows(), 2);
    }

    #[test]
    fn cells_that_sparse_rows_leave_empty_take_room_as_well() {
        let limits = Limits {
            max_inflated: 100_000,
            max_cells: 50_000,
            ..Limits::default()
        };
        // 200 rows with a key of their own each: a few kilobytes, 40,000 cells.
        let sparse: String = (0..200).map(|row| format!("{{\"k{row}\":1}}\n")).collect();
        let outcome =
            |limits: &Limits, room| decoded_within(limits, sparse.clone().into_bytes(), JSON, room).map(|(_, batch, ..)| batch.num_rows());
        assert!(matches!(
            outcome(&limits, expected(sparse.as_bytes(), JSON, &Columns::default())),
            Err(None)
        ));
        assert_eq!(outcome(&limits, most(&limits)).ok(), Some(200));
        let fewer = Limits {
            max_cells: 30_000,
            ..limits
        };
        let refused = outcome(&fewer, most(&fewer)).unwrap_err().expect("no room helps");
        assert_eq!(refused.status().as_u16(), 413);
    }

    #[test]
    fn texts_that_grow_take_room_as_well() {
        // Each NUL becomes six bytes of JSON.
        let body = [&b"\x81\xa1a\x91\xdb\x00\x0f\x00\x00"[..], &vec![0; 0xf_0000]].concat();
        let limits = Limits::default();
        let outcome = |room| decoded_within(&limits, body.clone(), PLAIN, room).map(|(_, batch, ..)| batch.num_rows());
        assert!(matches!(outcome(expected(&body, PLAIN, &Columns::default())), Err(None)));
        assert_eq!(outcome(most(&limits)).ok(), Some(1));
    }

    #[test]
    fn personal_values_take_room_as_well() {
        let row = |row| format!("{{\"time\":1700000000,\"user_id\":\"person-{row}\",\"event\":\"look\",\"secret\":\"s{row}\"}}\n");
        let rows: String = (0..1_000).map(row).collect();
        let outcome =
            |room| decoded_within(&Limits::default(), rows.clone().into_bytes(), JSON, room).map(|(_, batch, ..)| batch.num_rows());
        assert!(matches!(outcome(expected(rows.as_bytes(), JSON, &Columns::default())), Err(None)));
        let sealing = Columns::new(Vec::new(), vec!["secret".to_owned()]);
        assert!(matches!(outcome(expected(rows.as_bytes(), JSON, &sealing)), Ok(1_000)));
        let small = Limits {
            max_inflated: 100_000,
            max_cells: 10_000,
            max_text: 100_000,
            ..Limits::default()
        };
        let refused = decoded_within(&small, rows.clone().into_bytes(), JSON, most(&small)).unwrap_err();
        assert_eq!(refused.expect("no room helps").status().as_u16(), 413);
    }

    #[tokio::test]
    async fn what_no_row_needs_any_more_is_given_to_others_at_once() {
        let world = crate::testing::World::new();
        let budget = shared(&world.app.settings);
        let rest = async || world.app.inflated.wait(budget - (16 << 20), Duration::ZERO).await;
        let sparse: String = (0..300).map(|row| format!("{{\"k{row}\":1}}\n")).collect();
        // What cannot be rows, and rows that leave cells empty: both take more than they seem to.
        for body in ["1\n".repeat(900), sparse] {
            let decoded = decode(&world.app, body.into(), JSON, Columns::default(), Timestamp::from_secs(1)).await;
            let decoded = decoded.map_err(|error| error.status()).unwrap();
            assert!(rest().await.is_ok(), "{} rows, {} set aside", decoded.rows(), decoded.aside().len());
        }
        let all = world.app.inflated.wait(budget, Duration::ZERO).await;
        assert!(all.is_ok(), "all of it is given back");
    }

    #[tokio::test]
    async fn a_body_gets_more_room_by_and_by() {
        let world = crate::testing::World::new();
        // Somebody else has all but a little of what is there.
        let others = world
            .app
            .inflated
            .wait(shared(&world.app.settings) - (8 << 20), Duration::ZERO)
            .await;
        assert!(others.is_ok());
        let body = "1\n".repeat(900);
        let decoded = decode(&world.app, body.into(), JSON, Columns::default(), Timestamp::from_secs(1)).await;
        assert_eq!(decoded.map_err(|error| error.status()).unwrap().aside().len(), 900);
        drop(others);
    }

    #[test]
    fn what_is_set_aside_takes_room_as_well() {
        let lines = format!("\"{}\"\n", "x".repeat(45)).repeat(3_000);
        let outcome = |limits: &Limits, room| decoded_within(limits, lines.clone().into_bytes(), JSON, room).map(|(.., aside)| aside.len());
        let limits = Limits::default();
        assert!(matches!(
            outcome(&limits, expected(lines.as_bytes(), JSON, &Columns::default())),
            Err(None)
        ));
        assert_eq!(outcome(&limits, most(&limits)).ok(), Some(3_000));
        let small = Limits {
            max_inflated: 200_000,
            max_cells: 20_000,
            max_text: 10_000,
            ..Limits::default()
        };
        let refused = outcome(&small, most(&small)).unwrap_err().expect("no room helps");
        assert_eq!(refused.status().as_u16(), 413);
    }

    #[test]
    fn what_is_not_events_is_refused() {
        assert_eq!(decoded(b"plain".to_vec(), GZIP, 1000).err(), Some(Some(400)));
        assert_eq!(decoded(b"plain".to_vec(), JSON, 1000).err(), Some(Some(400)));
        assert_eq!(decoded(b"plain".to_vec(), PLAIN, 1000).err(), Some(Some(400)));
    }

    #[test]
    fn what_cannot_be_rows_is_kept_as_it_was_sent_and_the_others_are_taken() {
        let body = [ROW, &[0x93, 1, 2, 3], ROW].concat();
        let (_, batch, _, aside) = decoded(gzip(&body), GZIP, 10_000).unwrap();
        assert_eq!((batch.num_rows(), aside.len()), (2, 1));
        assert_eq!((aside[0].row, aside[0].content.reveal()), (2, &[0x93, 1, 2, 3][..]));
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(40), "]".repeat(40));
        let (_, batch, _, aside) = decoded(deep.clone().into_bytes(), JSON, 10_000).unwrap();
        assert_eq!(
            (batch.num_rows(), aside[0].fault.code(), aside[0].content.reveal()),
            (0, "too_deep", deep.as_bytes())
        );
        assert!(!format!("{aside:?}").contains("[[["), "it may hold anything");
    }
}
