use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, Int64Type};
use base::ErrorKind;
use proptest::prelude::*;

use super::*;
use crate::{
    ColumnType, Seen, TableSchema, adapt, encode_maps,
    model::{Row, Value, any_rows, types_of, write_rows},
    seen_of,
};

const NOW: i64 = 1_700_000_000;

fn decode(body: &[u8]) -> Result<RecordBatch, DecodeError> {
    decode_msgpack(body, &Limits::default(), Timestamp::from_secs(NOW))
}

fn decode_with(body: &[u8], change: impl FnOnce(&mut Limits)) -> Result<RecordBatch, DecodeError> {
    let mut limits = Limits::default();
    change(&mut limits);
    decode_msgpack(body, &limits, Timestamp::from_secs(NOW))
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

fn assert_same(found: &[Row], expected: &[Row]) {
    assert_eq!(found.len(), expected.len());
    for (number, (found, expected)) in found.iter().zip(expected).enumerate() {
        let keys = |row: &Row| row.keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(found), keys(expected), "row {number}");
        for (name, value) in expected {
            // JSON is compared as JSON: the order of an object's keys is not part of it.
            let json = |value: &Value| match value {
                Value::Str(text) => serde_json::from_str::<serde_json::Value>(text)
                    .ok()
                    .filter(|json| json.is_object() || json.is_array()),
                _ => None,
            };
            let same = found[name].same(value) || (json(value).is_some() && json(&found[name]) == json(value));
            assert!(same, "row {number}, {name}: {:?} instead of {value:?}", found[name]);
        }
    }
}

proptest! {
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
        for (name, seen, _) in table.columns() {
            prop_assert_eq!(Some(&seen), types.get(name));
        }
    }

    #[test]
    fn arbitrary_bytes_neither_panic_nor_fill_memory(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let limits = |l: &mut Limits| { l.max_cells = 1000; l.max_text = 4000; };
        if let Ok(batch) = decode_with(&body, limits) {
            prop_assert!(batch.get_array_memory_size() < 64 << 10);
        }
    }

    #[test]
    fn damaged_rows_neither_panic_nor_fill_memory(rows in any_rows(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut body = write_rows(&rows);
        prop_assume!(!body.is_empty());
        let at = at.index(body.len());
        body[at] = byte;
        body.truncate(if cut { at } else { body.len() });
        if let Ok(batch) = decode(&body) {
            prop_assert!(batch.num_rows() <= body.len());
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
fn times_are_taken_in_every_form_that_means_seconds() {
    let check = |time: Value, expected: Option<i64>| {
        let batch = decode(&write_rows(&[row(&[("a", Value::Long(1))]), row(&[("time", time.clone())])]));
        match expected {
            Some(secs) => assert_eq!(
                batch.unwrap().column(0).as_primitive::<Int64Type>().values(),
                &[NOW, secs],
                "{time:?}"
            ),
            None => assert_eq!(batch.unwrap_err(), DecodeError::Time { row: 2 }, "{time:?}"),
        }
    };
    let text = |text: &str| Value::Str(text.into());
    check(Value::Nil, Some(NOW));
    check(Value::Long(-5), Some(-5));
    check(Value::Double(12.9), Some(12));
    check(Value::Double(-0.5), Some(0));
    check(text("1700000001"), Some(1_700_000_001));
    check(text(" 1700000001.75 "), Some(1_700_000_001));
    check(Value::Ext(-1, vec![0, 0, 0, 9]), Some(9));
    check(Value::Ext(-1, vec![0xff, 0xff, 0xff, 0xfd, 0, 0, 0, 9]), Some((1 << 32) + 9));
    check(Value::Ext(-1, [[0; 4].as_slice(), &(-9i64).to_be_bytes()].concat()), Some(-9));
    check(Value::Ext(0, vec![0, 0, 0, 9, 0, 0, 0, 1]), Some(9));
    for wrong in ["", "soon", "inf", "NaN", "1e40", "2024-01-01"] {
        check(text(wrong), None);
    }
    for wrong in [f64::NAN, f64::INFINITY, 9.3e18, -9.3e18] {
        check(Value::Double(wrong), None);
    }
    check(Value::BigLong(u64::MAX), None);
    check(Value::Bool(true), None);
    check(Value::Array(vec![]), None);
    check(Value::Ext(-1, vec![1; 11]), None);
    check(Value::Ext(3, vec![1; 8]), None);
}

#[test]
fn every_cap_has_its_own_error_with_the_row() {
    let refused = |body: &[u8], change: fn(&mut Limits), expected: DecodeError| {
        let body = [&[0x81, 0xa1, b'a', 1], body].concat();
        assert_eq!(expected.kind(), ErrorKind::TooLarge);
        assert_eq!(decode_with(&body, change).unwrap_err(), expected);
    };
    let one = |value: Value| write_rows(&[row(&[("x", value)])]);
    let nested = (0..3).fold(Value::Nil, |value, _| Value::Array(vec![value]));
    let wide = |count: usize| write_rows(&[(0..count).map(|i| (format!("k{i}"), Value::Nil)).collect()]);

    refused(
        &one(Value::Str("x".repeat(100))),
        |l| l.max_row = 60,
        DecodeError::RowTooLarge { row: 2, max: 60 },
    );
    refused(&one(nested.clone()), |l| l.max_depth = 2, DecodeError::TooDeep { row: 2, max: 2 });
    refused(&wide(6), |l| l.max_keys = 5, DecodeError::TooManyKeys { row: 2, max: 5 });
    refused(
        &one(Value::Map(vec![("k".into(), Value::Nil); 6])),
        |l| l.max_keys = 5,
        DecodeError::TooManyKeys { row: 2, max: 5 },
    );
    refused(&wide(6), |l| l.max_columns = 6, DecodeError::TooManyColumns { row: 2, max: 6 });
    refused(&[0x80, 0x80], |l| l.max_rows = 2, DecodeError::TooManyRows { max: 2 });
    refused(&[0x80; 50], |l| l.max_cells = 99, DecodeError::TooManyCells { row: 50, max: 99 });
    refused(&wide(50), |l| l.max_cells = 99, DecodeError::TooManyCells { row: 2, max: 99 });
    refused(
        &one(Value::Str("x".repeat(100))),
        |l| l.max_text = 99,
        DecodeError::TooMuchText { row: 2, max: 99 },
    );
    refused(&[], |l| l.max_inflated = 3, DecodeError::BodyTooLarge { max: 3 });
    assert!(decode_with(&one(nested), |l| l.max_depth = 3).is_ok());
    assert!(decode_with(&wide(6), |l| l.max_columns = 6).is_ok());
}

#[test]
fn what_is_not_rows_is_refused_without_showing_it() {
    let check = |bad: &[u8], expected: DecodeError| {
        let error = decode(&[&[0x80], bad].concat()).unwrap_err();
        assert_eq!(error, expected);
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(!error.to_string().contains("secret"));
    };
    check(&[0x91, 1], DecodeError::NotAMap { row: 2 });
    check(b"\xa6secret", DecodeError::NotAMap { row: 2 });
    check(&[0x81, 1, 1], DecodeError::KeyNotText { row: 2 });
    check(&[0x81, 0xa1, 0xff, 1], DecodeError::KeyNotText { row: 2 });
    check(&[0x81, 0xa1, b'x', 0x81, 0x90, 1], DecodeError::KeyNotText { row: 2 });
    check(&[0x81, 0xa0, 1], DecodeError::Name { row: 2, max: 512 });
    check(&[0x81, 0xa1, b'x', 0xc1], DecodeError::Damaged { row: 2 });
    check(b"\x81\xa4time\xa6secret", DecodeError::Time { row: 2 });
    check(b"\x81\xa1x\xa9secret", DecodeError::Truncated { row: 2 });
    // Lengths that lie.
    check(&[0xdf, 0, 0, 3, 0xe8], DecodeError::Truncated { row: 2 });
    check(
        &[0x81, 0xa1, b'x', 0xdb, 0xff, 0xff, 0xff, 0xff, b'a'],
        DecodeError::Truncated { row: 2 },
    );
    check(
        &[0x81, 0xa1, b'x', 0xdd, 0xff, 0xff, 0xff, 0xff, 1],
        DecodeError::Truncated { row: 2 },
    );
    check(&[0x81, 0xa1, b'x', 0xc9, 0xff, 0xff, 0xff, 0xff], DecodeError::Truncated { row: 2 });
}
