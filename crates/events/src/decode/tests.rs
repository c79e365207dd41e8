use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, Int64Type};
use arrow::record_batch::RecordBatch;
use base::{ErrorKind, LONGEST_IDENTITY, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::{
    ColumnType, OVERFLOW, Seen, TIME, TableSchema, adapt, encode_maps,
    identities::distinct,
    model::{Row, Value, any_rows, any_rows_at_any_time, any_value, types_of, write_rows},
    seen_of,
};

const NOW: i64 = 1_700_000_000;

/// The rows of a body none of whose rows is set aside.
fn decode(body: &[u8]) -> Result<RecordBatch, DecodeError> {
    let decoded = read_with(Syntax::Msgpack, body, |_| ())?;
    assert_eq!(decoded.rejected, []);
    Ok(decoded.batch)
}

fn decode_with(body: &[u8], change: impl FnOnce(&mut Limits)) -> Result<RecordBatch, DecodeError> {
    read_with(Syntax::Msgpack, body, change).map(|decoded| decoded.batch)
}

fn read_with(syntax: Syntax, body: &[u8], change: impl FnOnce(&mut Limits)) -> Result<Decoded, DecodeError> {
    let mut limits = Limits::default();
    change(&mut limits);
    read_of_people(syntax, body, &limits, (&["email"], &[]))
}

/// The same where these are the columns of identities, and the personal ones.
fn read_of_people(
    syntax: Syntax,
    body: &[u8],
    limits: &Limits,
    (identities, personal): (&[&str], &[&str]),
) -> Result<Decoded, DecodeError> {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let told = Told {
        limits,
        received_at: Timestamp::from_secs(NOW),
        identities: &names(identities),
        personal: &names(personal),
    };
    super::decode(syntax, body, &told)
}

fn row(entries: &[(&str, Value)]) -> Row {
    entries.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
}

/// The rows of a batch, as `encode_maps` shows them.
fn rows_of(batch: &RecordBatch) -> Vec<Row> {
    let mut out = Vec::new();
    encode_maps(batch, 0..batch.num_rows(), &mut out).unwrap();
    let map = |value| match value {
        Value::Map(entries) => entries.into_iter().collect(),
        other => panic!("{other:?} is not a row"),
    };
    Value::read_all(&out).into_iter().map(map).collect()
}

/// What a table with columns of these types must show for the rows.
fn held(rows: &[Row]) -> Vec<Row> {
    let types = types_of(rows);
    let cell = |(name, value): (&String, &Value)| {
        let to = types.get(name)?.column_type()?;
        (*value != Value::Nil).then(|| (name.clone(), value.held_as(to)))
    };
    let time = |row: &Row| ("time".to_owned(), row.get("time").cloned().unwrap_or(Value::Long(NOW)));
    rows.iter()
        .map(|row| row.iter().filter_map(cell).chain([time(row)]).collect())
        .collect()
}

/// JSON is compared as JSON: the order of an object's keys is not part of it.
fn is_same(found: &Value, expected: &Value) -> bool {
    let json = |value: &Value| match value {
        Value::Str(text) => serde_json::from_str::<serde_json::Value>(text)
            .ok()
            .filter(|json| json.is_object() || json.is_array()),
        _ => None,
    };
    found.same(expected) || (json(expected).is_some() && json(found) == json(expected))
}

fn assert_same(found: &[Row], expected: &[Row]) {
    assert_eq!(found.len(), expected.len());
    for (number, (found, expected)) in found.iter().zip(expected).enumerate() {
        let keys = |row: &Row| row.keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(found), keys(expected), "row {number}");
        for (name, value) in expected {
            assert!(
                is_same(&found[name], value),
                "row {number}, {name}: {:?} instead of {value:?}",
                found[name]
            );
        }
    }
}

proptest! {
    #[test]
    fn whatever_stands_where_identities_do_every_row_is_taken_or_set_aside_and_none_is_too_long(
        lens in prop::collection::vec((0usize..2_000, any::<bool>(), any::<bool>()), 0..20),
    ) {
        let value = |(len, nested, personal): &(usize, bool, bool)| {
            let text = Value::Str("x".repeat(*len));
            let value = if *nested { Value::Array(vec![text]) } else { text };
            row(&[("a", Value::Long(1)), (if *personal { "phone" } else { "email" }, value)])
        };
        let rows: Vec<Row> = lens.iter().map(value).collect();
        let decoded = read_of_people(Syntax::Msgpack, &write_rows(&rows), &Limits::default(), (&["email"], &["phone"])).unwrap();
        prop_assert_eq!(decoded.batch.num_rows() + decoded.rejected.len(), lens.len());
        let long = |(len, nested, personal): &(usize, bool, bool)| !personal && len + if *nested { 4 } else { 0 } > LONGEST_IDENTITY;
        let expected: Vec<usize> = (1..).zip(&lens).filter(|(_, of)| long(of)).map(|(row, _)| row).collect();
        prop_assert_eq!(decoded.rejected.iter().map(|rejected| rejected.row).collect::<Vec<_>>(), expected);
        let people = distinct(&decoded.batch, &["email".to_owned()]).unwrap();
        prop_assert!(people.values().iter().all(|identity| identity.reveal().len() <= LONGEST_IDENTITY));
    }

    #[test]
    fn rows_to_arrow_and_back_are_the_same_rows(rows in any_rows()) {
        let batch = decode(&write_rows(&rows)).unwrap();

        assert_same(&rows_of(&batch), &held(&rows));
        for (name, seen) in types_of(&rows).iter().filter(|(name, _)| *name != "time") {
            prop_assert_eq!(seen_of(batch.schema().field_with_name(name).unwrap()), *seen);
        }
    }

    #[test]
    fn however_rows_are_cut_into_batches_and_ordered_a_table_holds_the_same(
        rows in any_rows(),
        cuts in prop::collection::vec(0usize..30, 0..5),
        order in any::<u64>(),
    ) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(rows.len())).chain([0, rows.len()]).collect();
        cuts.sort_unstable();
        let mut parts: Vec<&[Row]> = cuts.windows(2).map(|cut| &rows[cut[0]..cut[1]]).collect();
        let turn = (order % parts.len() as u64) as usize;
        parts.rotate_left(turn);
        let rows: Vec<Row> = parts.concat();

        // Each batch is adapted again whenever the table grows, as files and memory are.
        let mut table = TableSchema::new();
        let mut stored: Vec<RecordBatch> = Vec::new();
        for part in parts {
            let batch = decode(&write_rows(part)).unwrap();
            table.merge(&batch);
            prop_assert!(!table.merge(&batch), "the second time nothing is new");
            stored.push(batch);
            stored = stored.iter().map(|batch| adapt(batch, &table.arrow_schema()).unwrap()).collect();
        }

        assert_same(&stored.iter().flat_map(rows_of).collect::<Vec<_>>(), &held(&rows));
        let types = types_of(&rows);
        for (name, seen) in table.discovered() {
            prop_assert_eq!(Some(&seen), types.get(name));
        }
    }

    #[test]
    fn arbitrary_bytes_neither_panic_nor_fill_memory(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let limits = |l: &mut Limits| { l.max_cells = 1000; l.max_text = 4000; };
        for syntax in [Syntax::Msgpack, Syntax::Json] {
            if let Ok(decoded) = read_with(syntax, &body, limits) {
                prop_assert!(decoded.batch.get_array_memory_size() < 64 << 10);
                prop_assert!(decoded.rejected.iter().all(|rejected| rejected.sent.end <= body.len() && !rejected.sent.is_empty()));
            }
        }
    }

    /// Sent = stored + overflow + set aside, value by value.
    #[test]
    fn of_all_that_was_sent_nothing_is_missing(rows in any_rows_at_any_time(), max_columns in 1usize..7) {
        let mut body = Vec::new();
        let mut ends = Vec::new();
        for row in &rows {
            Value::Map(row.clone().into_iter().collect()).write(&mut body);
            ends.push(body.len());
        }

        let decoded = read_with(Syntax::Msgpack, &body, |l| l.max_columns = max_columns).unwrap();

        let aside: Vec<usize> = decoded.rejected.iter().map(|rejected| rejected.row - 1).collect();
        for rejected in &decoded.rejected {
            let sent = Value::read_all(&body[rejected.sent.clone()]);
            prop_assert_eq!(rejected.sent.end, ends[rejected.row - 1]);
            prop_assert_eq!(rejected.fault, RowFault::Time, "{:?}", sent);
        }
        let taken: Vec<&Row> = rows.iter().enumerate().filter(|(n, _)| !aside.contains(n)).map(|(_, row)| row).collect();
        let found = rows_of(&decoded.batch);
        prop_assert_eq!(found.len(), taken.len());
        let types = types_of(&taken.iter().copied().cloned().collect::<Vec<_>>());
        for (sent, found) in taken.iter().zip(&found) {
            let overflow: serde_json::Value = match found.get(OVERFLOW) {
                Some(Value::Str(json)) => serde_json::from_str(json).unwrap(),
                _ => serde_json::Value::Null,
            };
            for (name, value) in sent.iter().filter(|(_, value)| **value != Value::Nil) {
                let stored = found.get(name).is_some_and(|stored| name != TIME && is_same(stored, &value.held_as(types[name].column_type().unwrap())));
                // Read back like the other side: not every reader of JSON gets the last bit of a double right.
                let json: serde_json::Value = serde_json::from_str(&value.json().to_string()).unwrap();
                let whole = name == TIME && overflow[name].is_null();
                prop_assert!(stored || whole || overflow[name] == json, "{name}: {value:?} of {found:?}");
            }
            for name in found.keys().filter(|name| *name != TIME && *name != OVERFLOW) {
                prop_assert!(sent.contains_key(name), "{name} of {found:?} was never sent");
            }
        }
    }

    /// Whatever stands among rows: what is set aside and what is taken make the body, and alone each stays what it was.
    #[test]
    fn what_is_set_aside_and_what_is_taken_are_all_of_the_body(values in prop::collection::vec(any_value(), 0..20)) {
        let mut body = vec![0x80];
        values.iter().for_each(|value| value.write(&mut body));

        let decoded = read_with(Syntax::Msgpack, &body, |l| l.max_keys = 3).unwrap();

        prop_assert_eq!(decoded.batch.num_rows() + decoded.rejected.len(), values.len() + 1);
        let (mut taken, mut at) = (Vec::new(), 0);
        for rejected in &decoded.rejected {
            prop_assert!(rejected.sent.start >= at && !rejected.sent.is_empty());
            taken.extend_from_slice(&body[at..rejected.sent.start]);
            at = rejected.sent.end;
            let again = [&[0x80], &body[rejected.sent.clone()]].concat();
            let again = read_with(Syntax::Msgpack, &again, |l| l.max_keys = 3).unwrap();
            prop_assert_eq!((again.rejected.len(), again.rejected[0].fault), (1, rejected.fault));
        }
        taken.extend_from_slice(&body[at..]);
        prop_assert_eq!(decode_with(&taken, |l| l.max_keys = 3).unwrap(), decoded.batch);
    }

    #[test]
    fn damaged_rows_neither_panic_nor_fill_memory(rows in any_rows(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut body = write_rows(&rows);
        prop_assume!(!body.is_empty());
        let at = at.index(body.len());
        body[at] = byte;
        body.truncate(if cut { at } else { body.len() });
        if let Ok(decoded) = read_with(Syntax::Msgpack, &body, |_| ()) {
            prop_assert!(decoded.batch.num_rows() + decoded.rejected.len() <= body.len());
        }
    }
}

#[test]
fn every_short_form_is_read() {
    // {"a": 1, "b": -1, "c": "x", "d": [nil, true], "e": {}, "f": 1.5f32, "g": bin "y", "h": u8 200, "i": i16 -300}
    let body = [
        &[0x89, 0xa1, b'a', 1, 0xa1, b'b', 0xff, 0xa1, b'c', 0xa1, b'x'][..],
        &[0xa1, b'd', 0x92, 0xc0, 0xc3, 0xa1, b'e', 0x80, 0xa1, b'f', 0xca, 0x3f, 0xc0, 0, 0],
        &[0xc4, 1, b'g', 0xc4, 1, b'y', 0xd9, 1, b'h', 0xcc, 200, 0xa1, b'i', 0xd1, 0xfe, 0xd4],
    ]
    .concat();

    let found = rows_of(&decode(&body).unwrap());

    let text = |text: &str| Value::Str(text.to_owned());
    let long = Value::Long;
    let expected = row(&[
        ("time", long(NOW)),
        ("a", long(1)),
        ("b", long(-1)),
        ("c", text("x")),
        ("d", text("[null,true]")),
        ("e", text("{}")),
        ("f", Value::Double(1.5)),
        ("g", text("y")),
        ("h", long(200)),
        ("i", long(-300)),
    ]);
    assert_eq!(found, [expected]);
}

#[test]
fn an_empty_body_is_an_empty_batch() {
    let batch = decode(&[]).unwrap();
    assert_eq!((batch.num_rows(), batch.num_columns()), (0, 1));
}

#[test]
fn nested_values_are_json_text() {
    let value = Value::Array(vec![
        Value::Double(f64::NAN),
        Value::Double(5.0),
        Value::BigLong(u64::MAX),
        Value::Bin(vec![0xff]),
        Value::Ext(7, vec![1]),
        Value::Str("\"\n".into()),
    ]);
    let batch = decode(&write_rows(&[row(&[("x", value)])])).unwrap();
    assert_eq!(seen_of(batch.schema().field(1)).column_type(), Some(ColumnType::Json));
    let text = r#"["NaN",5.0,18446744073709551615,"base64:/w==",{"ext":7,"data":"AQ=="},"\"\n"]"#;
    assert_eq!(batch.column(1).as_string::<i32>().value(0), text);
}

#[test]
fn a_column_widens_inside_a_batch_without_changing_values() {
    let check = |values: &[Value], expected: &[Option<&str>]| {
        let rows: Vec<Row> = values.iter().map(|value| row(&[("x", value.clone())])).collect();
        let batch = decode(&write_rows(&rows)).unwrap();
        assert_eq!(batch.column(1).as_string::<i32>().iter().collect::<Vec<_>>(), expected);
    };
    let (long, double, text) = (Value::Long, Value::Double, |text: &str| Value::Str(text.into()));
    check(
        &[Value::Nil, long(5), double(5.0), double(0.5), text("x")],
        &[None, Some("5"), Some("5"), Some("0.5"), Some("x")],
    );
    check(&[long((1 << 53) + 1), double(0.5)], &[Some("9007199254740993"), Some("0.5")]);
    check(&[double(0.5), long(i64::MIN)], &[Some("0.5"), Some("-9223372036854775808")]);
    check(&[Value::Bool(true), long(1), Value::Nil], &[Some("true"), Some("1"), None]);
    check(&[Value::Array(vec![]), text("x")], &[Some("[]"), Some("x")]);
    check(&[Value::BigLong(u64::MAX)], &[Some("18446744073709551615")]);
    check(&[Value::Bin(vec![0xfe])], &[Some("base64:/g==")]);
}

#[test]
fn longs_among_doubles_become_doubles() {
    let rows = [row(&[("x", Value::Long(-(1 << 53)))]), row(&[]), row(&[("x", Value::Double(0.5))])];
    let batch = decode(&write_rows(&rows)).unwrap();
    let column = batch.column(1).as_primitive::<Float64Type>();
    assert_eq!(column.iter().collect::<Vec<_>>(), [Some(-9_007_199_254_740_992.0), None, Some(0.5)]);
    assert_eq!(seen_of(batch.schema().field(1)), Seen::LONG | Seen::DOUBLE);
}

#[test]
fn of_equal_keys_in_a_row_the_last_wins() {
    // {"x": 1, "y": 1, "x": "two"} {"x": 3, "x": nil} {"time": 5, "time": 6}
    let body = [
        &[
            0x83, 0xa1, b'x', 1, 0xa1, b'y', 1, 0xa1, b'x', 0xa3, b't', b'w', b'o', 0x82, 0xa1, b'x', 3, 0xa1, b'x', 0xc0,
        ][..],
        &[0x82, 0xa4, b't', b'i', b'm', b'e', 5, 0xa4, b't', b'i', b'm', b'e', 6],
    ]
    .concat();
    let batch = decode(&body).unwrap();
    assert_eq!(
        batch.column_by_name("x").unwrap().as_string::<i32>().iter().collect::<Vec<_>>(),
        [Some("two"), None, None]
    );
    assert_eq!(
        batch
            .column_by_name("y")
            .unwrap()
            .as_primitive::<Int64Type>()
            .iter()
            .collect::<Vec<_>>(),
        [Some(1), None, None]
    );
    assert_eq!(batch.column(0).as_primitive::<Int64Type>().values(), &[NOW, NOW, 6]);
}

#[test]
fn keys_in_any_order_and_with_gaps_find_their_columns() {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let rows: Vec<Row> = (0..200usize)
        .map(|i| {
            names
                .iter()
                .enumerate()
                .filter(|(n, _)| (i * 7 + n * n) % 3 > 0)
                .map(|(n, name)| ((*name).to_owned(), Value::Long((i * 8 + n) as i64)))
                .collect()
        })
        .collect();
    let mut body = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        let mut entries: Vec<_> = row.clone().into_iter().collect();
        let len = entries.len().max(1);
        entries.rotate_left(i % len);
        Value::Map(entries).write(&mut body);
    }
    assert_same(&rows_of(&decode(&body).unwrap()), &held(&rows));
}

#[test]
fn a_time_that_is_more_than_seconds_stands_in_the_overflow_as_it_was_sent() {
    let rows = [
        row(&[("time", Value::Long(1_700_000_000_123)), ("a", Value::Long(1))]),
        row(&[("time", Value::Str("2023-11-14T22:13:20Z".into()))]),
        row(&[("time", Value::Double(12.5))]),
        row(&[("time", Value::Ext(0, vec![0, 0, 0, 9, 0, 0, 0, 1]))]),
    ];
    let found = rows_of(&decode(&write_rows(&rows)).unwrap());
    let time = |row: &Row| row["time"].clone();
    let overflow = |row: &Row| row.get(OVERFLOW).cloned();
    let json = |text: &str| Some(Value::Str(text.into()));
    assert_eq!(
        found.iter().map(time).collect::<Vec<_>>(),
        [1_700_000_000, 1_700_000_000, 12, 9].map(Value::Long)
    );
    assert_eq!(
        found.iter().map(overflow).collect::<Vec<_>>(),
        [
            json(r#"{"time":1700000000123}"#),
            None,
            json(r#"{"time":12.5}"#),
            json(r#"{"time":{"ext":0,"data":"AAAACQAAAAE="}}"#)
        ]
    );
    assert_eq!(found[0]["a"], Value::Long(1));
}

#[test]
fn keys_beyond_the_number_of_columns_stand_in_the_overflow_and_identities_never_do() {
    let wide = |from: usize| -> Row { (from..from + 4).map(|i| (format!("k{i}"), Value::Long(i as i64))).collect() };
    let mut second = wide(4);
    second.insert("Email".into(), Value::Str("ada".into()));
    second.insert("z".into(), Value::Nil);
    second.insert(OVERFLOW.into(), Value::Array(vec![Value::Bool(true)]));
    let batch = decode_with(&write_rows(&[wide(0), second, wide(2)]), |l| l.max_columns = 4).unwrap();

    let found = rows_of(&batch);
    assert_eq!(found[0], {
        let mut row = wide(0);
        row.insert("time".into(), Value::Long(NOW));
        row
    });
    assert_eq!(
        found[1][OVERFLOW],
        Value::Str(r#"{"_overflow":[true],"k4":4,"k5":5,"k6":6,"k7":7,"z":null}"#.into())
    );
    assert_eq!(found[1]["Email"], Value::Str("ada".into()));
    assert_eq!(found[2][OVERFLOW], Value::Str(r#"{"k4":4,"k5":5}"#.into()));
    let names: Vec<_> = batch.schema().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, ["time", "k0", "k1", "k2", "k3", "Email", OVERFLOW].map(str::to_owned));
}

#[test]
fn a_row_over_a_cap_is_set_aside_with_the_reason_and_the_others_are_taken() {
    let good = [0x81, 0xa1, b'a', 1];
    let check = |bad: &[u8], change: fn(&mut Limits), fault: RowFault| {
        let body = [&good, bad, &good].concat();
        let decoded = read_with(Syntax::Msgpack, &body, change).unwrap();
        let sent = good.len()..good.len() + bad.len();
        assert_eq!(decoded.rejected, [Rejected { row: 2, fault, sent }]);
        // Nothing of it is left, neither a column nor a type.
        assert_eq!(decoded.batch, decode(&[good, good].concat()).unwrap(), "{fault:?}");
    };
    let one = |value: Value| write_rows(&[row(&[("x", value)])]);
    let nested = (0..3).fold(Value::Nil, |value, _| Value::Array(vec![value]));
    let wide = |count: usize| write_rows(&[(0..count).map(|i| (format!("k{i}"), Value::Nil)).collect()]);
    let keep = |_: &mut Limits| ();

    check(
        &one(Value::Str("x".repeat(100))),
        |l| l.max_row = 60,
        RowFault::TooLarge { max: 60 },
    );
    check(&one(nested.clone()), |l| l.max_depth = 2, RowFault::TooDeep { max: 2 });
    check(&wide(6), |l| l.max_keys = 5, RowFault::TooManyKeys { max: 5 });
    check(
        &one(Value::Map(vec![("k".into(), Value::Nil); 6])),
        |l| l.max_keys = 5,
        RowFault::TooManyKeys { max: 5 },
    );
    check(&[0x91, 1], keep, RowFault::NotAMap);
    check(b"\xa6secret", keep, RowFault::NotAMap);
    check(&[0x81, 1, 1], keep, RowFault::KeyNotText);
    check(&[0x81, 0xa1, 0xff, 1], keep, RowFault::KeyNotText);
    check(&[0x81, 0xa1, b'x', 0x81, 0x90, 1], keep, RowFault::KeyNotText);
    check(&[0x81, 0xa0, 1], keep, RowFault::Name { max: 512 });
    check(b"\x81\xa4time\xa6secret", keep, RowFault::Time);
    // A column that was a long, then text in the row that is none; and a new one before the fault.
    check(b"\x83\xa1a\xa1x\xa1b\xc3\xa4time\xa1x", keep, RowFault::Time);
    check(&[&[0xdd, 0, 1, 0x86, 0xa0][..], &[0x90; 100_000]].concat(), keep, RowFault::NotAMap);
    check(&[&[0x91; 100_000][..], &[0xc0]].concat(), keep, RowFault::NotAMap);
    assert!(decode_with(&one(nested), |l| l.max_depth = 3).is_ok());
}

#[test]
fn a_row_whose_identity_is_too_long_is_set_aside_and_one_of_the_longest_is_taken() {
    let longest = "x".repeat(LONGEST_IDENTITY);
    let with = |value: Value| write_rows(&[row(&[("a", Value::Long(1)), ("Email", value)])]);
    let taken = |body: &[u8]| {
        let decoded = read_with(Syntax::Msgpack, body, |_| ()).unwrap();
        assert_eq!(decoded.batch.num_rows() + decoded.rejected.len(), 1);
        if let Some(rejected) = decoded.rejected.first() {
            assert_eq!(rejected.fault, RowFault::Identity { max: LONGEST_IDENTITY });
            assert_eq!(decoded.batch.num_columns(), 1, "nothing of it is left");
        }
        let known = distinct(&decoded.batch, &["email".to_owned()]).unwrap();
        known.values().first().map(|identity| identity.reveal().len())
    };
    // What an array of one text takes as JSON besides the text.
    let nested = |len: usize| with(Value::Array(vec![Value::Str("x".repeat(len))]));
    // `base64:` and four letters for three bytes.
    let binary = |len: usize| {
        let bytes = [&b"\x82\xa1a\x01\xa5Email\xc5"[..], &(len as u16).to_be_bytes(), &vec![0xff; len]].concat();
        taken(&bytes)
    };
    assert_eq!(taken(&with(Value::Str(longest.clone()))), Some(LONGEST_IDENTITY));
    assert_eq!(taken(&with(Value::Str(longest.clone() + "x"))), None);
    assert_eq!(taken(&with(Value::Str("é".repeat(LONGEST_IDENTITY / 2)))), Some(LONGEST_IDENTITY));
    assert_eq!(taken(&with(Value::Str("é".repeat(LONGEST_IDENTITY / 2 + 1)))), None);
    assert_eq!(taken(&nested(LONGEST_IDENTITY - 4)), Some(LONGEST_IDENTITY));
    assert_eq!(taken(&nested(LONGEST_IDENTITY - 3)), None);
    assert_eq!((binary(762), binary(763)), (Some(7 + 1016), None));
    // Digits that no number holds are an identity of so many bytes.
    let digits = |len: usize| {
        let body = format!(r#"{{"email":{}}}"#, "7".repeat(len));
        let decoded = read_with(Syntax::Json, body.as_bytes(), |_| ()).unwrap();
        (decoded.batch.num_rows(), decoded.rejected.len())
    };
    assert_eq!((digits(LONGEST_IDENTITY), digits(LONGEST_IDENTITY + 1)), ((1, 0), (0, 1)));
    // Elsewhere a text may be as long as it likes, a personal one too.
    let body = write_rows(&[row(&[("email", Value::Str("ada".into())), ("phone", Value::Str(longest + "x"))])]);
    let decoded = read_of_people(Syntax::Msgpack, &body, &Limits::default(), (&["email"], &["phone"])).unwrap();
    assert_eq!((decoded.batch.num_rows(), decoded.rejected.len()), (1, 0));
}

#[test]
fn what_is_too_much_for_one_batch_is_refused_whole() {
    let refused = |body: &[u8], change: fn(&mut Limits), expected: DecodeError| {
        let body = [&[0x81, 0xa1, b'a', 1], body].concat();
        assert_eq!(expected.kind(), ErrorKind::TooLarge);
        assert_eq!(decode_with(&body, change).unwrap_err(), expected);
    };
    let wide = |count: usize| write_rows(&[(0..count).map(|i| (format!("k{i}"), Value::Nil)).collect()]);
    refused(&[0x80, 0x80], |l| l.max_rows = 2, DecodeError::TooManyRows { max: 2 });
    refused(&[0x90, 0x80], |l| l.max_rows = 2, DecodeError::TooManyRows { max: 2 });
    refused(&[0x80; 50], |l| l.max_cells = 99, DecodeError::TooManyCells { row: 50, max: 99 });
    refused(&[0x90; 50], |l| l.max_cells = 99, DecodeError::TooManyCells { row: 22, max: 99 });
    refused(&wide(50), |l| l.max_cells = 99, DecodeError::TooManyCells { row: 2, max: 99 });
    refused(
        &write_rows(&[row(&[("x", Value::Str("x".repeat(100)))])]),
        |l| l.max_text = 99,
        DecodeError::TooMuchText { row: 2, max: 99 },
    );
    refused(&[], |l| l.max_inflated = 3, DecodeError::BodyTooLarge { max: 3 });
}

#[test]
fn what_is_set_aside_of_one_body_has_a_bound() {
    let good = [0x81, 0xa1, b'a', 1];
    let decoded =
        |bad: &[u8], change: fn(&mut Limits)| read_with(Syntax::Msgpack, &[&good, bad].concat(), change).map(|d| d.rejected.len());
    assert_eq!(decoded(&[0x90; 3], |l| l.max_rejected = 3), Ok(3));
    let (row, fault) = (2, RowFault::NotAMap);
    assert_eq!(
        decoded(&[0x90; 4], |l| l.max_rejected = 3),
        Err(DecodeError::TooManyRejected { row, fault, max: 3 })
    );
    assert_eq!(decoded(b"\xa6secret\xa0", |l| l.max_rejected_bytes = 8), Ok(2));
    let much = decoded(b"\xa6secret\xa1x", |l| l.max_rejected_bytes = 8).unwrap_err();
    assert_eq!(
        (much.kind(), &much),
        (ErrorKind::TooLarge, &DecodeError::TooMuchRejected { max: 8 })
    );
    // In JSON it is the same bound.
    let lines = "{\"a\":1}\n[]\n[]\n";
    assert!(read_with(Syntax::Json, lines.as_bytes(), |l| l.max_rejected = 1).is_err());
}

#[test]
fn a_text_sent_as_msgpack_is_no_heap_of_rows_set_aside() {
    let nothing = Err(DecodeError::NothingReadable { form: "msgpack" });
    let outcome = |body: &[u8], change: fn(&mut Limits)| read_with(Syntax::Msgpack, body, change).map(|d| d.rejected.len());
    for text in [&b"time,event\n1,buy\n"[..], b"{\"a\":1}\n", b"\xef\xbf"] {
        assert_eq!(outcome(text, |_| ()), nothing);
    }
    assert_eq!(outcome(&[b'x'; 50], |l| l.max_rejected = 9), nothing);
    assert_eq!(outcome(&[b'x'; 50], |l| l.max_rejected_bytes = 9), nothing);
    // One row makes it msgpack, as does what can only be meant to be.
    assert_eq!(outcome(&[b'x', 0x80], |_| ()), Ok(1));
    assert_eq!(outcome(b"\xa4text", |_| ()), Ok(1));
    assert_eq!(outcome(&[0x93, 1, 2, 3], |_| ()), Ok(1));
    assert_eq!(outcome(&[1, 0x81, 1, 1], |_| ()), Ok(2));
}

#[test]
fn what_is_not_msgpack_is_refused_whole_without_showing_it() {
    let check = |bad: &[u8], expected: DecodeError| {
        let error = decode(&[&[0x80], bad].concat()).unwrap_err();
        assert_eq!(error, expected);
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(!error.to_string().contains("secret"));
    };
    let damaged = || DecodeError::Damaged { row: 2, form: "msgpack" };
    check(&[0x81, 0xa1, b'x', 0xc1], damaged());
    check(&[0x91, 0xc1], damaged());
    check(b"\x81\xa1x\xa9secret", DecodeError::Truncated { row: 2 });
    // Lengths that lie.
    check(
        &[0x81, 0xa1, b'x', 0xdb, 0xff, 0xff, 0xff, 0xff, b'a'],
        DecodeError::Truncated { row: 2 },
    );
    check(
        &[0x81, 0xa1, b'x', 0xdd, 0xff, 0xff, 0xff, 0xff, 1],
        DecodeError::Truncated { row: 2 },
    );
    check(&[0x81, 0xa1, b'x', 0xc9, 0xff, 0xff, 0xff, 0xff], DecodeError::Truncated { row: 2 });
    check(&[0xdf, 0, 0, 3, 0xe8], DecodeError::Truncated { row: 2 });
    check(&[0xdf, 0xff, 0xff, 0xff, 0xff], DecodeError::Truncated { row: 2 });
}

mod json;
mod records;
