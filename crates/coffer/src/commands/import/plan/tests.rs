//! What is made of the beginning of a file.

use clap::Parser;

use super::super::guess::ColumnType;
use super::super::{ids, show};
use super::*;
use crate::cli::{Cli, Command};

fn args(words: &str) -> Import {
    let line = format!("coffer import x --table web.events {words}");
    match Cli::parse_from(line.split_whitespace()).command {
        Command::Import(args) => *args,
        _ => panic!("{line}"),
    }
}

fn planned(name: &str, content: &str, words: &str) -> Outcome<(Plan, Vec<String>)> {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join(name);
    std::fs::write(&path, content).unwrap();
    let args = args(words);
    let source = Source::open(&path, args.format)?;
    let plan = Plan::make(&source, &args)?;
    let lines = show::lines(&source, &plan);
    Ok((plan, lines))
}

fn kinds(plan: &Plan) -> Vec<(&str, Kind)> {
    let Rows::Delimited(delimited) = &plan.rows else {
        panic!("no columns")
    };
    delimited.columns.iter().map(|column| (column.name.as_str(), column.kind)).collect()
}

#[test]
fn types_are_guessed_per_column_and_named_ones_win() {
    let content = "time,n,price,zip,email,empty\n1700000000,1,1.5,01234,ada@example.com,\n1700000001,,12.25,99999,bob@example.com,\n";
    let (plan, lines) = planned("x.csv", content, "--types zip=string,n=double").unwrap();
    use ColumnType::*;
    assert_eq!(
        kinds(&plan),
        [
            ("time", Kind::Guessed(Long)),
            ("n", Kind::Given(Double)),
            ("price", Kind::Guessed(Double)),
            ("zip", Kind::Given(String)),
            ("email", Kind::Guessed(String)),
            ("empty", Kind::Guessed(String)),
        ]
    );
    assert_eq!(plan.time().map(|rule| rule.format), Some(TimeFormat::Seconds));
    assert_eq!((plan.sample.rows, plan.sample.unreadable), (2, 0));

    let shown = lines.join("\n");
    assert!(
        shown.contains("CSV") && shown.contains("9.9") && shown.contains("seconds since 1970"),
        "{shown}"
    );
    for hidden in ["ada", "@", "01234", "12.25"] {
        assert!(!shown.contains(hidden), "{hidden:?} is in\n{shown}");
    }
}

#[test]
fn numbers_that_stay_text_are_told_with_the_way_out() {
    let (plan, lines) = planned("x.csv", "price\n12.50\n3.00\n", "").unwrap();
    assert_eq!(kinds(&plan), [("price", Kind::Guessed(ColumnType::String))]);
    assert!(lines.iter().any(|line| line.contains("--types price=double")), "{lines:?}");
}

#[test]
fn a_header_that_names_no_columns_is_refused() {
    for (content, why) in [("a,a\n1,2\n", "called"), ("a,\n1,2\n", "no name"), ("\"a\nb\n", "no header")] {
        let failure = planned("x.csv", content, "").map(drop).unwrap_err();
        assert!(failure.exit == Exit::Refused && failure.to_string().contains(why), "{failure}");
    }
    let (plan, _) = planned("x.csv", "1,2\n", "--columns a,b").unwrap();
    assert_eq!((kinds(&plan).len(), plan.sample.rows), (2, 1));
    assert_eq!(planned("x.csv", "a,b\n", "--types c=long").map(drop).unwrap_err().exit, Exit::Usage);
    assert_eq!(
        planned("x.csv", "a,b\n", "--time-column c").map(drop).unwrap_err().exit,
        Exit::Usage
    );
    assert_eq!(planned("x.jsonl", "{}\n", "--columns c").map(drop).unwrap_err().exit, Exit::Usage);
}

#[test]
fn a_time_is_recognised_only_when_all_of_it_is_of_one_kind() {
    let check = |name: &str, content: &str, words: &str, expected: Option<TimeFormat>| {
        let format = planned(name, content, words).map(|(plan, _)| plan.time().map(|rule| rule.format));
        assert_eq!(format.ok().flatten(), expected, "{content}");
    };
    use TimeFormat::*;
    check("x.csv", "time\n1700000000000\n\"\"\n1700000000001\n", "", Some(Milliseconds));
    check("x.csv", "time\n1700000000000\n1700000000\n", "", None);
    check("x.csv", "time\n1700000000000\n1700000000\n", "--time-format seconds", Some(Seconds));
    check("x.csv", "at,n\n2023-11-14,1\n", "--time-column at", Some(Iso8601));
    check("x.csv", "at,time\n2023-11-14,1700000000\n", "--time-column at", None);
    check("x.csv", "n\n1\n", "", None);
    check("x.jsonl", "{\"time\":1700000000000000}\n", "", Some(Microseconds));
    check("x.jsonl", "{\"time\":true}\n", "", None);
    check("x.jsonl", "{\"a\":1}\n", "", Some(Seconds));
    check("x.jsonl", "{\"a\":1}\n", "--time-column at", None);
    check("x.jsonl", "{\"at\":\"2023-11-14\",\"time\":1}\n", "--time-column at", None);
    check("x.json", "[{\"at\":\"2023-11-14\"}]", "--time-column at", Some(Iso8601));
}

#[test]
fn rows_of_the_sample_that_cannot_be_read_are_counted_and_told() {
    let (plan, lines) = planned("x.csv", "a,b\n1,2\n1\n1,2,3\n\"x\"y,2\n", "").unwrap();
    assert_eq!((plan.sample.rows, plan.sample.unreadable), (4, 3));
    assert!(lines.iter().any(|line| line.contains("3 of the first 4 rows")), "{lines:?}");
}

#[test]
fn what_changes_the_meaning_changes_the_ids_and_a_guess_does_not() {
    let meaning = |content: &str, words: &str| {
        let (plan, _) = planned("x.csv", content, words).unwrap();
        ids::Meaning::new(&"web".parse().unwrap(), &"events".parse().unwrap(), &plan.meaning, "", "").hex()
    };
    let plain = meaning("time,a\n1700000000,1\n", "");
    assert_eq!(plain, meaning("time,a\n1700000000,x\n", ""));
    assert_eq!(plain, meaning("time,a\n1700000000,1\n", "--time-format seconds"));
    for (content, words) in [
        ("time,a\n1700000000,1\n", "--types a=string"),
        ("time,b\n1700000000,1\n", ""),
        ("time,a\n1700000000000,1\n", ""),
        ("time,a\n1700000000,1\n", "--chunk-rows 10"),
    ] {
        assert_ne!(plain, meaning(content, words), "{content} {words}");
    }
    assert_ne!(
        meaning("1700000000,1\n", "--columns time,a"),
        meaning("1700000000,1\n", "--columns time,b")
    );
}
