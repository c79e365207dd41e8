//! What is sent for each row.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::guess::{ColumnType, Kind};
use super::super::time::TimeFormat;
use super::*;
use crate::msgpack::read::value;

fn rule(column: &str, format: TimeFormat) -> TimeRule {
    TimeRule {
        column: column.into(),
        format,
        given: false,
    }
}

/// What the server gets: a map, or the row as a text when `read` is false.
fn sent(rows: &Rows, row: &[u8]) -> (Value, bool) {
    let mut out = vec![0x2a];
    let read = rows.encode(row, true, &mut out);
    let (value, length) = value(&out[1..]).unwrap();
    assert_eq!(length, out.len() - 1);
    (value, read)
}

fn delimited(dialect: Dialect, columns: &[(&str, ColumnType)], time: Option<TimeRule>) -> Rows {
    let columns = columns.iter().map(|(name, kind)| Column {
        name: (*name).into(),
        kind: Kind::Guessed(*kind),
    });
    Rows::Delimited(Delimited {
        dialect,
        columns: columns.collect(),
        time,
    })
}

const CSV: [(&str, ColumnType); 3] = [("time", ColumnType::String), ("n", ColumnType::Long), ("word", ColumnType::String)];

#[test]
fn a_row_of_csv_is_a_map_without_its_empty_fields() {
    let rows = delimited(Dialect::Csv, &CSV, Some(rule("time", TimeFormat::Seconds)));
    let check = |row: &str, expected: Value| assert_eq!(sent(&rows, row.as_bytes()), (expected, true), "{row}");
    check(
        "1700000000,5,\"a \"\"b\"\"\"",
        json!({"time": 1_700_000_000, "n": 5, "word": "a \"b\""}),
    );
    check(",,\"\"", json!({}));
    check("1700000000.5,05,5", json!({"time": 1_700_000_000, "n": "05", "word": "5"}));
}

#[test]
fn a_row_that_cannot_be_read_is_sent_as_a_text_that_holds_it() {
    let rows = delimited(Dialect::Csv, &CSV, Some(rule("time", TimeFormat::Seconds)));
    for row in ["1700000000,5", "1,2,3,4", "yesterday,5,x", "5,5,x", "1700000000000,5,x"] {
        assert_eq!(sent(&rows, row.as_bytes()), (json!(row), false), "{row}");
    }
    // Bytes that are no UTF-8 arrive as they are.
    let mut out = Vec::new();
    assert!(!rows.encode(b"1700000000,5,\xff", true, &mut out));
    assert_eq!(out, [&[0xae][..], b"1700000000,5,\xff"].concat());
    // Nor is what the rules for quotes do not cover taken for fields.
    out.clear();
    assert!(!rows.encode(b"1700000000,5,\"x", false, &mut out));
    assert_eq!(value(&out).unwrap().0, json!("1700000000,5,\"x"));

    let lines = Rows::Json(None);
    for row in [
        "[1]",
        "7",
        "\"x\"",
        "{\"a\":1",
        "{\"a\":1} x",
        "{\"a\":01}",
        "{'a':1}",
        "{\"a\":NaN}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":\"\t\"}",
        "{\"a\":1,}",
        "hello",
    ] {
        assert_eq!(sent(&lines, row.as_bytes()), (json!(row), false), "{row}");
    }
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(200), "]".repeat(200));
    assert_eq!(sent(&lines, deep.as_bytes()), (json!(deep), false));
}

#[test]
fn escapes_of_tsv_are_those_that_the_output_writes() {
    let columns = [("a", ColumnType::String), ("b", ColumnType::String)];
    let escaped = delimited(Dialect::Tsv { escapes: true }, &columns, None);
    assert_eq!(sent(&escaped, b"x\\ty\\\\\\n\t\\N"), (json!({"a": "x\ty\\\n"}), true));
    assert_eq!(sent(&escaped, b"\\x\\\t\"q\""), (json!({"a": "\\x\\", "b": "\"q\""}), true));
    let plain = delimited(Dialect::Tsv { escapes: false }, &columns, None);
    assert_eq!(sent(&plain, b"C:\\temp\t\\N"), (json!({"a": "C:\\temp", "b": "\\N"}), true));
}

#[test]
fn a_time_column_of_another_name_stays_beside_the_time() {
    let at = Some(rule("at", TimeFormat::Iso8601));
    let columns = [("at", ColumnType::String), ("n", ColumnType::Long)];
    let expected = json!({"time": 1_700_000_000, "at": "2023-11-14T22:13:20.5Z", "n": 1});
    let csv = delimited(Dialect::Csv, &columns, at.clone());
    assert_eq!(sent(&csv, b"2023-11-14T22:13:20.5Z,1"), (expected.clone(), true));
    let lines = Rows::Json(at.clone());
    assert_eq!(sent(&lines, br#"{"at":"2023-11-14T22:13:20.5Z","n":1}"#), (expected.clone(), true));
    assert_eq!(sent(&lines, br#"{"at":null,"n":1}"#), (json!({"at": null, "n": 1}), true));
    // With two times, nobody can say which one counts.
    let both = r#"{"at":"2023-11-14","time":1}"#;
    assert_eq!(sent(&lines, both.as_bytes()), (json!(both), false));

    let mut row = Vec::new();
    Rows::Json(None).encode(br#"{"at":"2023-11-14T22:13:20.5Z","n":1}"#, true, &mut row);
    assert_eq!(sent(&Rows::Packed(at.clone()), &row), (expected, true));
    row.clear();
    Rows::Json(None).encode(both.as_bytes(), true, &mut row);
    assert!(!sent(&Rows::Packed(at), &row).1);
}

#[test]
fn times_of_json_and_msgpack_are_read_in_each_of_their_forms() {
    let check = |format, json: &str, expected: Value| {
        let expected = (expected, true);
        assert_eq!(sent(&Rows::Json(Some(rule("time", format))), json.as_bytes()), expected, "{json}");
        let mut packed = Vec::new();
        assert!(Rows::Json(None).encode(json.as_bytes(), true, &mut packed));
        assert_eq!(sent(&Rows::Packed(Some(rule("time", format))), &packed), expected, "{json}");
    };
    check(
        TimeFormat::Milliseconds,
        r#"{"time":1700000000999,"a":1}"#,
        json!({"time": 1_700_000_000, "a": 1}),
    );
    check(
        TimeFormat::Milliseconds,
        r#"{"time":"1700000000999"}"#,
        json!({"time": 1_700_000_000}),
    );
    check(
        TimeFormat::Iso8601,
        r#"{"a":[],"time":"2023-11-14 22:13:20"}"#,
        json!({"a": [], "time": 1_700_000_000}),
    );
    check(TimeFormat::Microseconds, r#"{"time":null,"a":2}"#, json!({"a": 2}));
    check(TimeFormat::Microseconds, r#"{"time":"","a":2}"#, json!({"a": 2}));
    let wrong = r#"{"time":[1700000000000]}"#;
    assert_eq!(
        sent(&Rows::Json(Some(rule("time", TimeFormat::Milliseconds))), wrong.as_bytes()),
        (json!(wrong), false)
    );
    // msgpack's own timestamps say what they are.
    let stamped = [0x81, 0xa4, b't', b'i', b'm', b'e', 0xd6, 0xff, 0, 0, 0, 9];
    assert_eq!(
        sent(&Rows::Packed(Some(rule("time", TimeFormat::Milliseconds))), &stamped),
        (json!({"time": 9}), true)
    );
}

#[test]
fn numbers_of_json_are_exact() {
    let check = |number: &str, expected: Value| {
        assert_eq!(
            sent(&Rows::Json(None), format!("{{\"n\":{number}}}").as_bytes()),
            (json!({"n": expected}), true),
            "{number}"
        );
    };
    check("0", json!(0));
    check("-9223372036854775808", json!(i64::MIN));
    check("18446744073709551615", json!(u64::MAX));
    check("18446744073709551616", json!("18446744073709551616"));
    check("-9223372036854775809", json!("-9223372036854775809"));
    check("1.50", json!(1.5));
    check("-0", json!(-0.0));
    check("1E+2", json!(100.0));
    check("0.30000000000000004", json!(0.1 + 0.2));
    check("0.000000000000000000000000012", json!(1.2e-26));
    check("100000000000000000000000.0", json!(1e23));
    check("0.123456789012345678", json!("0.123456789012345678"));
    check("9007199254740993.0", json!("9007199254740993.0"));
    check("9007199254740992.0", json!(9_007_199_254_740_992.0));
    check("5.684341886080802e-14", json!(5.684_341_886_080_802e-14));
    check("0.10000000000000001", json!(0.1));
    check("1.2345678901e-320", json!("1.2345678901e-320"));
    check("5e-324", json!(5e-324));
    check("1e400", json!("1e400"));
    check("1e-400", json!("1e-400"));
    check("0e0", json!(0.0));
}

#[test]
fn nested_values_and_escapes_are_kept() {
    let row = r#" { "a" : { "b" : [ 1 , [ ] , { } , "x\u00e4\ud83d\ude00\n\/" ] , "" : null } , "t" : true , "f" : false } "#;
    let expected = json!({"a": {"b": [1, [], {}, "xä😀\n/"], "": null}, "t": true, "f": false});
    assert_eq!(sent(&Rows::Json(None), row.as_bytes()), (expected, true));
}

#[test]
fn msgpack_without_times_to_read_goes_on_as_it_is() {
    for row in [&[0x81, 0xa1, b'a', 1][..], &[0x93, 1, 2, 3], &[0x05]] {
        for time in [None, Some(rule("time", TimeFormat::Seconds))] {
            let mut out = Vec::new();
            assert!(Rows::Packed(time).encode(row, true, &mut out));
            assert_eq!(out, row);
        }
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>()
            .prop_filter("JSON has only finite numbers", |n| n.is_finite())
            .prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map(".{0,6}", inner, 0..6).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn every_object_arrives_as_it_was_written(map in proptest::collection::btree_map(".{0,6}", any_json(), 0..6)) {
        let object: Value = map.into_iter().collect();
        for text in [object.to_string(), serde_json::to_string_pretty(&object).unwrap()] {
            prop_assert_eq!(sent(&Rows::Json(None), text.as_bytes()), (object.clone(), true));
        }
    }

    #[test]
    fn what_serde_refuses_is_refused(text in "[{}\\[\\]\",:0-9a-u\\\\ .eE+-]{0,30}") {
        let whole = serde_json::from_str::<serde_json::Map<String, Value>>(&text).is_ok();
        let (_, read) = sent(&Rows::Json(None), text.as_bytes());
        // Numbers beyond a double's range are text to us and an error to serde.
        prop_assert!(read == whole || (read && text.contains(['e', 'E'])), "{text}");
    }

    #[test]
    fn arbitrary_bytes_are_sent_and_no_panic(row in proptest::collection::vec(any::<u8>(), 1..60)) {
        let columns = [("time", ColumnType::Double), ("b", ColumnType::Boolean)];
        for rows in [
            Rows::Json(Some(rule("time", TimeFormat::Iso8601))),
            Rows::Packed(Some(rule("a", TimeFormat::Seconds))),
            delimited(Dialect::Csv, &columns, Some(rule("time", TimeFormat::Seconds))),
            delimited(Dialect::Tsv { escapes: true }, &columns, None),
        ] {
            let mut out = Vec::new();
            if matches!(rows, Rows::Packed(_)) && crate::msgpack::read::skip(&row) != Ok(row.len()) {
                continue;
            }
            rows.encode(&row, true, &mut out);
            prop_assert_eq!(crate::msgpack::read::skip(&out), Ok(out.len()));
        }
    }
}
