//! JSON: what it becomes, and what of it is set aside.

use super::*;

fn json(body: &str) -> Result<Decoded, DecodeError> {
    read_with(Syntax::Json, body.as_bytes(), |_| ())
}

fn taken(body: &str) -> Vec<Row> {
    let decoded = json(body).unwrap();
    assert_eq!(decoded.rejected, [], "{body}");
    rows_of(&decoded.batch)
}

/// The faults, and the texts that they are of.
fn aside<'a>(body: &'a str, decoded: &Decoded) -> Vec<(RowFault, &'a str)> {
    decoded.rejected.iter().map(|r| (r.fault, &body[r.sent.clone()])).collect()
}

fn text(text: &str) -> Value {
    Value::Str(text.to_owned())
}

#[test]
fn an_array_lines_and_objects_in_a_row_are_the_same_rows() {
    let expected = [
        row(&[("time", Value::Long(5)), ("a", text("x"))]),
        row(&[("time", Value::Long(NOW)), ("a", text("y"))]),
    ];
    for body in [
        r#"[{"time":5,"a":"x"},{"a":"y"}]"#,
        " [ {\"time\" : 5 , \"a\" : \"x\" }\n,\t{\"a\":\"y\"} ] \r\n",
        "{\"time\":5,\"a\":\"x\"}\n{\"a\":\"y\"}\n",
        "{\"time\":5,\"a\":\"x\"}\r\n\r\n{\"a\":\"y\"}",
        "{\"time\":5,\n \"a\":\"x\"}{\"a\":\"y\"}",
        "\u{feff}{\"time\":5,\"a\":\"x\"}\n{\"a\":\"y\"}",
    ] {
        assert_eq!(taken(body), expected, "{body}");
    }
    for empty in ["", " \n", "[]", " [ ] ", "\u{feff}"] {
        assert_eq!(taken(empty), [], "{empty:?}");
    }
}

#[test]
fn values_keep_their_kind_and_their_digits() {
    let check = |value: &str, expected: Value| assert_eq!(taken(&format!("{{\"x\":{value}}}"))[0]["x"], expected, "{value}");
    check("0", Value::Long(0));
    check("-17", Value::Long(-17));
    check("9223372036854775807", Value::Long(i64::MAX));
    check("-9223372036854775808", Value::Long(i64::MIN));
    check("9223372036854775808", text("9223372036854775808"));
    check("123456789012345678901234567890", text("123456789012345678901234567890"));
    check("1.5", Value::Double(1.5));
    check("-0", Value::Double(-0.0));
    check("1e3", Value::Double(1000.0));
    check("2.5E-2", Value::Double(0.025));
    check("1e999", text("1e999"));
    check("true", Value::Bool(true));
    check("false", Value::Bool(false));
    check(r#""""#, text(""));
    check(r#""a\"\\\/\b\f\n\r\t\u00e9\ud83c\udf89z""#, text("a\"\\/\u{8}\u{c}\n\r\té🎉z"));
    check(
        r#"[1, {"a" : [ ] , "b":{}} , "x\ny" , null,1.50]"#,
        text(r#"[1,{"a":[],"b":{}},"x\ny",null,1.50]"#),
    );
    assert_eq!(taken(r#"{"x":null}"#), [row(&[("time", Value::Long(NOW))])]);
    assert_eq!(taken(r#"{"\u0061":1,"a":2}"#)[0]["a"], Value::Long(2), "the last of equal keys");
}

#[test]
fn a_broken_line_is_set_aside_and_its_neighbours_are_taken() {
    let check = |bad: &str, fault: RowFault| {
        let body = format!("{{\"a\":1}}\n{bad}\n{{\"a\":2}}\n");
        let decoded = json(&body).unwrap();
        assert_eq!(aside(&body, &decoded), [(fault, bad)]);
        assert_eq!(decoded.rejected[0].row, 2);
        let longs = decoded.batch.column_by_name("a").unwrap().as_primitive::<Int64Type>();
        assert_eq!((longs.values().as_ref(), decoded.batch.num_columns()), (&[1, 2][..], 2), "{bad}");
    };
    for bad in [
        r#"{"a":"x","b":1"#,
        r#"{"a":01}"#,
        r#"{"a":1.}"#,
        r#"{"a":tru}"#,
        r#"{"a":"unclosed}"#,
        r#"{"a":"\x"}"#,
        r#"{a:1}"#,
        r#"{"a":1,}"#,
        r#"{"a" 1}"#,
        r#"{"a":NaN}"#,
        r#"{"a":[1,2}"#,
        "{",
        "hello",
        "}",
        "{\"a\":\"tab\there\"}",
    ] {
        check(bad, RowFault::NotJson);
    }
    check("[1,2]", RowFault::NotAMap);
    check("17", RowFault::NotAMap);
    check("\"text\"", RowFault::NotAMap);
    check("null", RowFault::NotAMap);
    check(r#"{"":1}"#, RowFault::Name { max: 512 });
    check(r#"{"time":"soon"}"#, RowFault::Time);
    check(r#"{"time":9e18}"#, RowFault::Time);
    check(r#"{"a":"\ud800"}"#, RowFault::NotUtf8);
    check(r#"{"a":"\udc00x"}"#, RowFault::NotUtf8);
    check(
        &format!("{{\"a\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000)),
        RowFault::TooDeep { max: 32 },
    );
    let keys: Vec<String> = (0..100_000).map(|i| format!("\"k{i}\":1")).collect();
    check(&format!("{{{}}}", keys[..1_001].join(",")), RowFault::TooManyKeys { max: 1_000 });
    check(&format!("{{{}}}", keys.join(",")), RowFault::TooManyKeys { max: 1_000 });
    check(
        &format!("{{\"a\":\"{}\"}}", "x".repeat(2 << 20)),
        RowFault::TooLarge { max: 1 << 20 },
    );
    check(
        &format!("{{\"a\":{{{}}}}}", keys[..1_001].join(",")),
        RowFault::TooManyKeys { max: 1_000 },
    );
}

#[test]
fn bytes_that_are_not_utf8_are_set_aside() {
    for bad in [&b"{\"a\":\"\xff\"}"[..], b"{\"\xff\":1}", b"{\"a\":[\"\xff\"]}"] {
        let body = [b"{\"a\":1}\n", bad, b"\n{\"a\":2}"].concat();
        let decoded = read_with(Syntax::Json, &body, |_| ()).unwrap();
        assert_eq!(decoded.batch.num_rows(), 2);
        assert_eq!(&body[decoded.rejected[0].sent.clone()], bad);
    }
}

#[test]
fn an_array_of_which_the_next_row_cannot_be_found_is_refused_whole() {
    let refused = |body: &str| json(body).unwrap_err();
    assert_eq!(refused(r#"[{"a":1},{"a":1"#), DecodeError::Truncated { row: 2 });
    assert_eq!(refused(r#"[{"a":1},{"a":}]"#), DecodeError::Damaged { row: 2, form: "JSON" });
    assert_eq!(refused(r#"[{"a":1},]"#), DecodeError::Damaged { row: 2, form: "JSON" });
    assert_eq!(refused(r#"[{"a":1} {"a":2}]"#), DecodeError::Damaged { row: 2, form: "JSON" });
    assert_eq!(refused(r#"[{"a":1}] {"a":2}"#), DecodeError::Damaged { row: 2, form: "JSON" });
    assert_eq!(refused("["), DecodeError::Truncated { row: 1 });
    assert_eq!(refused("nonsense"), DecodeError::NothingReadable { form: "JSON" });
    assert_eq!(refused("<html>\n<p>\n"), DecodeError::NothingReadable { form: "JSON" });
    assert_eq!(refused("\u{1f}\u{8b}"), DecodeError::NothingReadable { form: "JSON" });
    let body = r#"[{"a":1},7,[{"b":[2]}],{"a":{"b":[[[]]]}},{"time":"x"},{"a":3}]"#;
    let decoded = read_with(Syntax::Json, body.as_bytes(), |l| l.max_depth = 3).unwrap();
    assert_eq!(
        aside(body, &decoded),
        [
            (RowFault::NotAMap, "7"),
            (RowFault::NotAMap, r#"[{"b":[2]}]"#),
            (RowFault::TooDeep { max: 3 }, r#"{"a":{"b":[[[]]]}}"#),
            (RowFault::Time, r#"{"time":"x"}"#),
        ]
    );
    assert_eq!(decoded.rejected.iter().map(|r| r.row).collect::<Vec<_>>(), [2, 3, 4, 5]);
}

#[test]
fn a_value_of_a_row_that_is_none_is_no_other_row_s() {
    let check = |lines: &[&str]| {
        let decoded = json(&lines.join("\n")).unwrap();
        let longs = decoded.batch.column_by_name("a").unwrap().as_primitive::<Int64Type>();
        longs.iter().collect::<Vec<_>>()
    };
    let (none, junk) = (r#"{"a":2,"time":true}"#, r#"{"a":2} junk"#);
    assert_eq!(check(&[r#"{"a":1}"#, none, r#"{"b":1}"#, r#"{"a":3}"#]), [Some(1), None, Some(3)]);
    assert_eq!(check(&[r#"{"a":1}"#, none, r#"{"b":1}"#]), [Some(1), None]);
    assert_eq!(check(&["{", r#"{"a":1}"#, junk, r#"{"b":1}"#]), [Some(1), None]);
    assert_eq!(check(&[r#"{"a":1}"#, none]), [Some(1)]);
}

#[test]
fn many_broken_lines_cost_no_more_than_their_bytes() {
    // Each would be looked at to the end of the body, were it not for lines.
    let body = "[\n{\"a\":[\n".repeat(20_000).replacen('[', "{}\n[", 1);
    let decoded = json(&body).unwrap();
    assert_eq!(decoded.batch.num_rows(), 1);
    assert_eq!(decoded.rejected.len(), 40_000);
}

proptest! {
    #[test]
    fn json_and_msgpack_of_the_same_rows_are_the_same_batch(rows in any_rows()) {
        // What JSON cannot say is left out: bytes, extension values and what is no number.
        let plain = |value: &Value| !matches!(value, Value::Bin(_) | Value::Ext(..)) && !matches!(value, Value::Double(d) if !d.is_finite());
        fn deep(value: &Value, plain: &dyn Fn(&Value) -> bool) -> bool {
            plain(value) && match value {
                Value::Array(values) => values.iter().all(|value| deep(value, plain)),
                Value::Map(entries) => entries.iter().all(|(_, value)| deep(value, plain)),
                _ => true,
            }
        }
        let rows: Vec<Row> = rows
            .into_iter()
            .map(|row| row.into_iter().filter(|(_, value)| deep(value, &plain)).collect())
            .collect();
        let lines: Vec<String> = rows
            .iter()
            .map(|row| {
                let entries = row.iter().map(|(name, value)| (name.clone(), value.json()));
                serde_json::Value::Object(entries.collect()).to_string()
            })
            .collect();

        let expected = decode(&write_rows(&rows)).unwrap();
        for body in [lines.join("\n"), format!("[{}]", lines.join(",")), lines.join(" ")] {
            let found = json(&body).unwrap();
            prop_assert_eq!(&found.rejected, &[]);
            assert_same(&rows_of(&found.batch), &rows_of(&expected));
        }
    }
}
