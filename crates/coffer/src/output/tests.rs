//! Every form, on values that would break a careless one.

use serde_json::{Value, json};

use super::*;

fn rendered(format: Format, header: bool, columns: &[&str], rows: &[Value]) -> String {
    let mut out = Vec::new();
    let mut to = Rows::new(&mut out, format, header, columns);
    for row in rows {
        to.row(row.as_array().unwrap().clone()).unwrap();
    }
    to.finish().unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn csv_quotes_what_needs_it_and_tells_empty_from_missing() {
    let rows = [json!(["a,b", "say \"hi\"", null]), json!(["", "line\nbreak", {"k": [1, "x"]}])];
    assert_eq!(
        rendered(Format::Csv, true, &["one", "two,three", "json"], &rows),
        "one,\"two,three\",json\n\"a,b\",\"say \"\"hi\"\"\",\n\"\",\"line\nbreak\",\"{\"\"k\"\":[1,\"\"x\"\"]}\"\n"
    );
}

#[test]
fn tsv_keeps_one_row_on_one_line() {
    let rows = [json!(["a\tb", "c\nd\r", "e\\f"]), json!([null, "", 1.5])];
    assert_eq!(
        rendered(Format::Tsv, false, &["x", "y", "z"], &rows),
        "a\\tb\tc\\nd\\r\te\\\\f\n\\N\t\t1.5\n"
    );
}

#[test]
fn header_is_there_even_without_rows() {
    assert_eq!(rendered(Format::Tsv, true, &["x", "y"], &[]), "x\ty\n");
    assert_eq!(rendered(Format::Json, true, &["x"], &[]), "[]\n");
    assert_eq!(rendered(Format::Jsonl, true, &["x"], &[]), "");
}

#[test]
fn objects_keep_the_order_and_every_column() {
    let rows = [json!([2, 9_007_199_254_740_993_i64, "é"])];
    assert_eq!(
        rendered(Format::Jsonl, true, &["b", "a", "b"], &rows),
        "{\"b\":2,\"a\":9007199254740993,\"b_2\":\"é\"}\n"
    );
    let all: Value = serde_json::from_str(&rendered(Format::Json, true, &["b", "a", "b"], &[rows[0].clone(), rows[0].clone()])).unwrap();
    assert_eq!(all.as_array().map(Vec::len), Some(2));
}

#[test]
fn a_table_shows_nothing_a_terminal_would_obey() {
    let drawn = rendered(
        Format::Table,
        true,
        &["event", "n"],
        &[json!(["\u{1b}[31mred", 7]), json!([null, 123])],
    );
    assert!(!drawn.contains('\u{1b}'), "{drawn}");
    assert!(drawn.contains("NULL") && drawn.contains("┆   7 │"), "{drawn}");
}

#[test]
fn a_row_of_another_width_is_refused() {
    let mut to = Rows::new(Vec::new(), Format::Csv, true, &["x"]);
    assert_eq!(to.row(vec![json!(1), json!(2)]).unwrap_err().exit, Exit::Unverified);
}

#[test]
fn a_table_is_full_at_some_point_and_what_streams_never_is() {
    let full_after = |format, row: &Value| {
        let mut to = Rows::new(io::sink(), format, true, &["x"]);
        (1..=20_000).find(|_| {
            to.row(row.as_array().unwrap().clone()).unwrap();
            to.is_full()
        })
    };
    assert_eq!(full_after(Format::Table, &json!([1])), Some(10_000));
    let long = json!([["y".repeat(100_000)]]);
    assert!(full_after(Format::Table, &long).is_some_and(|rows| (600..=672).contains(&rows)));
    for format in [Format::Json, Format::Jsonl, Format::Csv, Format::Tsv] {
        assert_eq!(full_after(format, &json!([1])), None, "{format:?}");
    }
}
