//! Rows are found where they are, however the bytes arrive.

use proptest::prelude::*;

use super::*;

/// Everything that is found when `step` more bytes are shown each time: texts of rows, with a `!` before those that are not sound.
fn found(framing: &mut dyn Framing, bytes: &[u8], step: usize) -> Result<Vec<String>, Damage> {
    let (mut at, mut shown, mut rows) = (0, 0, Vec::new());
    while at < bytes.len() {
        if shown <= at {
            shown = (shown + step).min(bytes.len());
            continue;
        }
        match framing.next(&bytes[at..shown], shown == bytes.len())? {
            Found::Row { from, to, end, sound } => {
                let text = String::from_utf8_lossy(&bytes[at + from..at + to]);
                rows.push(format!("{}{text}", if sound { "" } else { "!" }));
                assert!(end > 0 && to <= end);
                at += end;
            }
            Found::Between(length) => {
                assert!(length > 0);
                at += length;
            }
            Found::More => {
                assert!(shown < bytes.len(), "more is wanted where there is no more");
                shown = (shown + step).min(bytes.len());
            }
        }
    }
    framing.end().map(|()| rows)
}

fn check(make: impl Fn() -> Box<dyn Framing>, text: &str, rows: &[&str]) {
    for step in [1, 2, 3, 7, text.len().max(1)] {
        assert_eq!(found(&mut *make(), text.as_bytes(), step).unwrap(), rows, "{text:?} by {step}");
    }
}

#[test]
fn a_line_is_a_row_and_an_empty_one_is_none() {
    let lines = |header| move || Box::new(Lines::new(header)) as Box<dyn Framing>;
    check(lines(false), "{\"a\":1}\r\n\n  \r\n{\"a\":2}", &["{\"a\":1}", "{\"a\":2}"]);
    check(lines(false), "\u{feff}x\ny\n", &["x", "y"]);
    check(lines(true), "\u{feff}\na\tb\n1\t2\n\t\n", &["1\t2", "\t"]);
    check(lines(true), "a\tb", &[]);
}

#[test]
fn a_file_of_one_header_only_because_its_lines_end_otherwise_is_refused() {
    for text in ["time,n\r1,2\r3,4", "time,n\r1,2\r3,4\r"] {
        assert!(found(&mut CsvRows::new(true), text.as_bytes(), 100).is_err(), "{text:?}");
        assert!(
            found(&mut Lines::new(true), text.replace(',', "\t").as_bytes(), 100).is_err(),
            "{text:?}"
        );
    }
}

#[test]
fn a_quoted_line_break_does_not_end_a_row() {
    let csv = |header| move || Box::new(CsvRows::new(header)) as Box<dyn Framing>;
    check(
        csv(true),
        "a,b\r\n1,\"x\r\ny\"\r\n\n2,\"say \"\"hi\"\"\n\",\r\n3,z",
        &["1,\"x\r\ny\"", "2,\"say \"\"hi\"\"\n\",", "3,z"],
    );
    check(csv(false), "a\"b\",c\n\"\"\n\"\",\n", &["a\"b\",c", "\"\"", "\"\","]);
    check(csv(false), "\u{feff}\"a\nb\"", &["\"a\nb\""]);
}

#[test]
fn a_row_that_breaks_the_rules_is_its_first_line_alone() {
    let csv = || Box::new(CsvRows::new(false)) as Box<dyn Framing>;
    check(csv, "1,\"never ends\n2,x\n3,y\n", &["!1,\"never ends", "2,x", "3,y"]);
    check(csv, "1,\"a\nb\"c,d\n2,x", &["!1,\"a", "b\"c,d", "2,x"]);
    check(csv, "1,\"a\"b", &["!1,\"a\"b"]);
    // Not however far away another quote is.
    let far = format!("1,\"{}\n2,\"ok\"\n", "x".repeat(2 << 20));
    let rows = found(&mut *csv(), far.as_bytes(), 100_000).unwrap();
    assert_eq!((rows.len(), rows[0].starts_with('!'), rows[1].as_str()), (2, true, "2,\"ok\""));
}

#[test]
fn fields_lose_their_quotes_and_nothing_else() {
    let split = |row: &str| {
        fields(row.as_bytes())
            .map(|f| String::from_utf8(f.into_owned()).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(split("a,b,,d"), ["a", "b", "", "d"]);
    assert_eq!(split("\"a,b\",\"\",\"say \"\"hi\"\"\"\"\""), ["a,b", "", "say \"hi\"\""]);
    assert_eq!(split("a\"b, c ,"), ["a\"b", " c ", ""]);
    assert_eq!(split("\"x\n\"\"\",\""), ["x\n\"", ""]);
    assert_eq!(split("\"only\""), ["only"]);
    assert_eq!(split(""), [""]);
}

#[test]
fn values_of_an_array_and_values_in_a_row_are_the_same_rows() {
    let values = || Box::new(Values::default()) as Box<dyn Framing>;
    let rows = ["{\"a\": \"]}\\\\\\\"\"}", "{\n \"b\": [1, {}]\n}", "7", "\"x\""];
    check(values, &format!("\u{feff} [ {} ]\n\n", rows.join(" ,\n")), &rows);
    check(values, &rows.join("\n"), &rows);
    check(values, "{}{}[]", &["{}", "{}", "[]"]);
    check(values, "[]", &[]);
    check(values, "1 2", &["1", "2"]);
    for damaged in ["[{\"a\":1}", "{\"a\": \"}", "[1] 2", "}", "[{}]]"] {
        assert!(found(&mut *values(), damaged.as_bytes(), 3).is_err(), "{damaged}");
    }
}

proptest! {
    #[test]
    fn what_is_found_does_not_depend_on_how_bytes_arrive(text in "[a\",\n\r {}\\[\\]\\\\\t1]{0,60}", step in 1_usize..9) {
        let makes: [fn() -> Box<dyn Framing>; 4] = [
            || Box::new(Lines::new(true)),
            || Box::new(CsvRows::new(false)),
            || Box::new(CsvRows::new(true)),
            || Box::new(Values::default()),
        ];
        for make in makes {
            let whole = found(&mut *make(), text.as_bytes(), text.len().max(1));
            prop_assert_eq!(found(&mut *make(), text.as_bytes(), step), whole);
        }
    }

    #[test]
    fn every_field_that_was_written_is_read(rows in proptest::collection::vec(proptest::collection::vec("[a\",\n\r é]{0,6}", 1..4), 1..5)) {
        let quoted = |field: &String| format!("\"{}\"", field.replace('"', "\"\""));
        let text: Vec<String> = rows.iter().map(|row| row.iter().map(quoted).collect::<Vec<_>>().join(",")).collect();
        let read = found(&mut CsvRows::new(false), text.join("\n").as_bytes(), 5).unwrap();
        let read: Vec<Vec<String>> = read
            .iter()
            .map(|row| fields(row.as_bytes()).map(|field| String::from_utf8(field.into_owned()).unwrap()).collect())
            .collect();
        prop_assert_eq!(read, rows);
    }
}
