use proptest::prelude::*;

use super::*;
use crate::model::{Value, any_value};

/// Enough for any test.
const ALL: usize = usize::MAX;

fn packed(rows: &[Vec<Value>]) -> Vec<u8> {
    let mut out = Vec::new();
    rows.iter().for_each(|row| Value::Array(row.clone()).write(&mut out));
    out
}

fn written(format: LineFormat, columns: &[&str], rows: &[Vec<Value>]) -> String {
    let mut lines = Lines::new(format, columns);
    let (packed, mut out) = (packed(rows), Vec::new());
    lines.header(&mut out);
    assert_eq!(lines.write(&packed, ALL, &mut out), Ok(packed.len()));
    String::from_utf8(out).unwrap()
}

fn text(text: &str) -> Value {
    Value::Str(text.to_owned())
}

/// What breaks a careless writer, with its text in each format.
fn awkward() -> Vec<(Value, &'static str, &'static str, &'static str)> {
    let map = Value::Map(vec![(
        "k\"".into(),
        Value::Array(vec![Value::Nil, text("a,\tb"), Value::Double(0.5)]),
    )]);
    vec![
        (Value::Nil, "null", "", ""),
        (text(""), r#""""#, r#""""#, r#""""#),
        (text("plain"), r#""plain""#, "plain", "plain"),
        (text(" spaces "), r#"" spaces ""#, " spaces ", " spaces "),
        (text("a,b"), r#""a,b""#, r#""a,b""#, "a,b"),
        (text("a\tb"), r#""a\tb""#, "a\tb", "\"a\tb\""),
        (text("say \"hi\""), r#""say \"hi\"""#, r#""say ""hi""""#, r#""say ""hi""""#),
        (text("\""), r#""\"""#, r#""""""#, r#""""""#),
        (text("one\ntwo"), r#""one\ntwo""#, "\"one\ntwo\"", "\"one\ntwo\""),
        (text("one\r\ntwo\r"), r#""one\r\ntwo\r""#, "\"one\r\ntwo\r\"", "\"one\r\ntwo\r\""),
        (text("back\\slash"), r#""back\\slash""#, "back\\slash", "back\\slash"),
        (text("Größe ✓ 🎉"), r#""Größe ✓ 🎉""#, "Größe ✓ 🎉", "Größe ✓ 🎉"),
        (text("NULL"), r#""NULL""#, "NULL", "NULL"),
        (text("=1+1"), r#""=1+1""#, "=1+1", "=1+1"),
        (Value::Bool(true), "true", "true", "true"),
        (Value::Bool(false), "false", "false", "false"),
        (
            Value::Long(i64::MIN),
            "-9223372036854775808",
            "-9223372036854775808",
            "-9223372036854775808",
        ),
        (
            Value::BigLong(u64::MAX),
            "18446744073709551615",
            "18446744073709551615",
            "18446744073709551615",
        ),
        (Value::Double(0.1), "0.1", "0.1", "0.1"),
        (Value::Double(5.0), "5.0", "5.0", "5.0"),
        (Value::Double(-0.0), "-0.0", "-0.0", "-0.0"),
        (Value::Double(1e300), "1e300", "1e300", "1e300"),
        (Value::Double(5e-324), "5e-324", "5e-324", "5e-324"),
        (Value::Double(f64::NAN), r#""NaN""#, "NaN", "NaN"),
        (Value::Double(f64::INFINITY), r#""Infinity""#, "Infinity", "Infinity"),
        (Value::Double(f64::NEG_INFINITY), r#""-Infinity""#, "-Infinity", "-Infinity"),
        (Value::Bin(b"text".to_vec()), r#""text""#, "text", "text"),
        (Value::Bin(vec![0xff]), r#""base64:/w==""#, "base64:/w==", "base64:/w=="),
        (Value::Array(vec![]), "[]", "[]", "[]"),
        (
            Value::Array(vec![Value::Long(1), Value::Nil]),
            "[1,null]",
            "\"[1,null]\"",
            "[1,null]",
        ),
        (
            map,
            r#"{"k\"":[null,"a,\tb",0.5]}"#,
            r#""{""k\"""":[null,""a,\tb"",0.5]}""#,
            r#""{""k\"""":[null,""a,\tb"",0.5]}""#,
        ),
        (
            Value::Ext(-1, vec![1]),
            r#"{"ext":-1,"data":"AQ=="}"#,
            r#""{""ext"":-1,""data"":""AQ==""}""#,
            r#""{""ext"":-1,""data"":""AQ==""}""#,
        ),
    ]
}

#[test]
fn each_value_has_its_text_in_each_format() {
    for (value, json, csv, tsv) in awkward() {
        let row = [vec![value.clone(), Value::Long(7)]];
        let columns = ["v", "n"];
        assert_eq!(written(LineFormat::Arrays, &columns, &row), format!("[\"v\",\"n\"]\n[{json},7]\n"));
        assert_eq!(written(LineFormat::Objects, &columns, &row), format!("{{\"v\":{json},\"n\":7}}\n"));
        assert_eq!(written(LineFormat::Csv, &columns, &row), format!("v,n\n{csv},7\n"), "{value:?}");
        assert_eq!(written(LineFormat::Tsv, &columns, &row), format!("v\tn\n{tsv}\t7\n"), "{value:?}");
    }
}

#[test]
fn null_and_the_empty_text_are_told_apart_even_alone() {
    let rows = [vec![Value::Nil], vec![text("")]];
    assert_eq!(written(LineFormat::Csv, &["v"], &rows), "v\n\n\"\"\n");
    assert_eq!(written(LineFormat::Tsv, &["v"], &rows), "v\n\n\"\"\n");
}

#[test]
fn names_are_written_as_carefully_as_values() {
    let columns = ["a,b", "", "say \"x\"", "tab\t", "ü"];
    assert_eq!(written(LineFormat::Csv, &columns, &[]), "\"a,b\",\"\",\"say \"\"x\"\"\",tab\t,ü\n");
    assert_eq!(
        written(LineFormat::Tsv, &columns, &[]),
        "a,b\t\"\"\t\"say \"\"x\"\"\"\t\"tab\t\"\tü\n"
    );
    assert_eq!(
        written(LineFormat::Arrays, &columns, &[]),
        "[\"a,b\",\"\",\"say \\\"x\\\"\",\"tab\\t\",\"ü\"]\n"
    );
    assert_eq!(written(LineFormat::Objects, &columns, &[]), "");
}

#[test]
fn columns_that_share_a_name_keep_a_key_each() {
    let row = [(0..5).map(Value::Long).collect()];
    let columns = ["a", "a", "a_2", "a", "b"];
    assert_eq!(
        written(LineFormat::Objects, &columns, &row),
        "{\"a\":0,\"a_2\":1,\"a_2_2\":2,\"a_3\":3,\"b\":4}\n"
    );
    assert_eq!(written(LineFormat::Csv, &columns, &row), "a,a,a_2,a,b\n0,1,2,3,4\n");
    let same = vec!["x"; 10_000];
    assert_eq!(distinct(&same).last().map(String::as_str), Some("x_10000"));
}

#[test]
fn rows_become_the_same_lines_however_they_are_cut() {
    // [1, "a\"b", null, 1.5, {"k": [true]}] in the short forms, twice.
    let row = [
        0x95, 1, 0xa3, b'a', b'"', b'b', 0xc0, 0xca, 0x3f, 0xc0, 0, 0, 0x81, 0xa1, b'k', 0x91, 0xc3,
    ];
    let rows = [row, row].concat();
    for (format, line) in [
        (LineFormat::Arrays, "[1,\"a\\\"b\",null,1.5,{\"k\":[true]}]\n"),
        (
            LineFormat::Objects,
            "{\"a\":1,\"b\":\"a\\\"b\",\"c\":null,\"d\":1.5,\"e\":{\"k\":[true]}}\n",
        ),
        (LineFormat::Csv, "1,\"a\"\"b\",,1.5,\"{\"\"k\"\":[true]}\"\n"),
        (LineFormat::Tsv, "1\t\"a\"\"b\"\t\t1.5\t\"{\"\"k\"\":[true]}\"\n"),
    ] {
        for cut in 0..=rows.len() {
            let mut lines = Lines::new(format, &["a", "b", "c", "d", "e"]);
            let mut out = Vec::new();
            let done = lines.write(&rows[..cut], ALL, &mut out).unwrap();
            assert_eq!(done, cut / row.len() * row.len());
            let rest = lines.write(&rows[done..], ALL, &mut out).unwrap();
            assert_eq!(done + rest, rows.len(), "{format:?} cut at {cut}");
            assert_eq!(String::from_utf8(out).unwrap(), line.repeat(2));
        }
    }
}

#[test]
fn writing_stops_once_it_is_enough() {
    let rows = packed(&vec![vec![text("0123456789")]; 100]);
    let mut lines = Lines::new(LineFormat::Csv, &["v"]);
    let (mut done, mut out, mut calls) = (0, Vec::new(), 0);
    while done < rows.len() {
        let mut some = Vec::new();
        done += lines.write(&rows[done..], 50, &mut some).unwrap();
        assert!(some.len() < 50 + 11, "{}", some.len());
        out.extend_from_slice(&some);
        calls += 1;
    }
    assert_eq!((out.len(), calls), (1100, 20));
}

#[test]
fn what_is_no_row_of_these_columns_is_refused() {
    for format in [LineFormat::Arrays, LineFormat::Objects, LineFormat::Csv, LineFormat::Tsv] {
        let refused = |bytes: &[u8]| Lines::new(format, &["v"]).write(bytes, ALL, &mut Vec::new());
        assert_eq!(refused(&[0x91, 1, 0x80]), Err(LinesError { row: 2 }), "a map");
        assert_eq!(refused(&[0x91, 0xc1]), Err(LinesError { row: 1 }), "no msgpack");
        assert_eq!(refused(&[0x90]), Err(LinesError { row: 1 }), "a value too few");
        assert_eq!(refused(&[0x91, 1, 0x92, 1, 2]), Err(LinesError { row: 2 }), "a value too many");
        let deep = [[0x91; 200].as_slice(), &[1]].concat();
        assert_eq!(refused(&deep), Err(LinesError { row: 1 }), "too deep");
        let mut lines = Lines::new(format, &["v"]);
        lines.write(&[0x91, 1, 0x91, 2], ALL, &mut Vec::new()).unwrap();
        assert_eq!(lines.write(&[0xc0], ALL, &mut Vec::new()), Err(LinesError { row: 3 }), "{format:?}");
    }
}

/// Rows of at least two columns: a reader skips the empty line that a single NULL is.
fn any_table() -> impl Strategy<Value = (usize, Vec<Vec<Value>>)> {
    (2usize..5).prop_flat_map(|width| {
        let text = "[a,\"\t\r\n \\\\é]{0,6}".prop_map(Value::Str);
        let row = prop::collection::vec(prop_oneof![3 => any_value(), 2 => text], width);
        (Just(width), prop::collection::vec(row, 0..20))
    })
}

/// Whether `field`, unquoted, says what `value` is.
fn says(value: &Value, field: &str) -> bool {
    match value {
        Value::Nil => field.is_empty(),
        Value::Bool(value) => field.parse() == Ok(*value),
        Value::Long(value) => field.parse() == Ok(*value),
        Value::BigLong(value) => field.parse() == Ok(*value),
        Value::Double(value) => field
            .parse()
            .is_ok_and(|read: f64| read.to_bits() == value.to_bits() || read.is_nan() && value.is_nan()),
        Value::Str(_) | Value::Bin(_) => value.json().as_str() == Some(field),
        // Both through one parser of JSON: it is not exact in the last digit of a double.
        _ => parsed(field) == parsed(&value.json().to_string()),
    }
}

fn parsed(json: &str) -> serde_json::Value {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

proptest! {
    #[test]
    fn what_is_written_as_csv_or_tsv_is_read_back_by_others((width, rows) in any_table()) {
        let columns = &["a", "b,\"", "\tc", "d"][..width];
        for (format, delimiter) in [(LineFormat::Csv, b','), (LineFormat::Tsv, b'\t')] {
            let text = written(format, columns, &rows);
            let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(text.as_bytes());
            prop_assert_eq!(reader.headers().unwrap(), columns);
            let read: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(read.len(), rows.len(), "{}", text);
            for (record, row) in read.iter().zip(&rows) {
                prop_assert_eq!(record.len(), width);
                for (field, value) in record.iter().zip(row) {
                    prop_assert!(says(value, field), "{:?} was read as {:?} from {:?}", value, field, text);
                }
            }
        }
    }

    #[test]
    fn what_is_written_as_json_is_read_back_by_others((width, rows) in any_table()) {
        let columns = &["a", "b,\"", "\tc", "d"][..width];
        let arrays = written(LineFormat::Arrays, columns, &rows);
        let objects = written(LineFormat::Objects, columns, &rows);
        prop_assert_eq!(arrays.lines().count(), rows.len() + 1);
        prop_assert_eq!(objects.lines().count(), rows.len());
        for ((array, object), row) in arrays.lines().skip(1).zip(objects.lines()).zip(&rows) {
            let expected: Vec<serde_json::Value> = row.iter().map(|value| parsed(&value.json().to_string())).collect();
            prop_assert_eq!(parsed(array), serde_json::Value::Array(expected.clone()));
            let named = columns.iter().map(|name| (*name).to_owned()).zip(expected);
            prop_assert_eq!(parsed(object), serde_json::Value::Object(named.collect()));
        }
    }
}
