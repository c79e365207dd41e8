use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;
use crate::{
    Declared, encode_maps, from_ipc,
    model::{Row, Value, any_rows, decoded, types_of, write_rows},
    to_ipc,
};

fn any_type() -> impl Strategy<Value = ColumnType> {
    proptest::sample::select(ColumnType::ALL.to_vec())
}

fn any_declaration() -> impl Strategy<Value = Declared> {
    proptest::collection::btree_map("[a-f]", any_type(), 0..6).prop_map(|columns| Declared::new(columns).unwrap())
}

fn rows_of(batch: &RecordBatch) -> Vec<Row> {
    let mut out = Vec::new();
    encode_maps(batch, 0..batch.num_rows(), &mut out).unwrap();
    let map = |value| match value {
        Value::Map(entries) => entries.into_iter().collect(),
        other => panic!("{other:?} is not a row"),
    };
    Value::read_all(&out).into_iter().map(map).collect()
}

/// Numbers are equal as numbers.
fn is_same_json(one: &Json, other: &Json) -> bool {
    match (one, other) {
        (Json::Number(a), Json::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Json::Array(a), Json::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same_json(a, b)),
        (Json::Object(a), Json::Object(b)) => a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| is_same_json(a, b))),
        _ => one == other,
    }
}

/// The JSON of a value as the reader of tests has it: it reads some fractions a little wrong.
fn json_of(sent: &Value) -> Json {
    serde_json::from_str(&sent.json().to_string()).unwrap()
}

/// Whether a value of this kind is what the type is for.
fn is_native(sent: &Value, of: ColumnType) -> bool {
    matches!(
        (sent, of),
        (Value::Long(_), ColumnType::Long)
            | (Value::Double(_), ColumnType::Double)
            | (Value::Bool(_), ColumnType::Boolean)
            | (_, ColumnType::String)
            | (Value::Array(_) | Value::Map(_) | Value::Ext(..), ColumnType::Json)
    )
}

/// Whether the cell of a declared type can be nothing but what was sent.
fn reads_back(sent: &Value, cell: &Value, of: ColumnType) -> bool {
    // The text of anything, as a column of strings has it.
    let text = sent.held_as(ColumnType::String);
    match (cell, of) {
        (Value::Long(cell), ColumnType::Long) => match sent {
            Value::Long(sent) => sent == cell,
            Value::Double(sent) => (*cell as f64).to_bits() == sent.to_bits(),
            Value::Str(_) | Value::Bin(_) => text == Value::Str(cell.to_string()),
            _ => false,
        },
        (Value::Double(cell), ColumnType::Double) => match sent {
            Value::Double(_) => sent.same(&Value::Double(*cell)),
            Value::Long(sent) => *cell as i128 == i128::from(*sent),
            Value::Str(_) | Value::Bin(_) | Value::BigLong(_) => text == Value::Str(crate::double_text(*cell)),
            _ => false,
        },
        (Value::Bool(cell), ColumnType::Boolean) => match sent {
            Value::Bool(sent) => sent == cell,
            Value::Str(_) | Value::Bin(_) => text == Value::Str(cell.to_string()),
            _ => false,
        },
        (Value::Str(json), ColumnType::String | ColumnType::Json) => match sent {
            Value::Str(_) | Value::Bin(_) => text == *cell,
            _ if of == ColumnType::String && !is_native(sent, ColumnType::Json) => text == *cell,
            _ => is_same_json(&serde_json::from_str(json).unwrap(), &json_of(sent)),
        },
        _ => false,
    }
}

fn check(rows: &[Row], declared: &Declared, kept: &BTreeSet<String>) {
    let batch = decoded(&write_rows(rows));
    let again = from_ipc(&to_ipc(&batch)).unwrap().remove(0);
    let fitted = fit(&again, declared, |field| kept.contains(field.name())).unwrap();
    assert_eq!(fitted, fit(&batch, declared, |field| kept.contains(field.name())).unwrap());

    let types = types_of(rows);
    for field in fitted
        .schema()
        .fields()
        .iter()
        .filter(|field| field.name() != TIME && field.name() != OVERFLOW)
    {
        let of = declared.get(field.name()).or(seen_of(field).column_type()).unwrap();
        assert_eq!(*field.data_type(), of.data_type());
        assert!(
            declared.get(field.name()).is_some() || kept.contains(field.name()),
            "{}",
            field.name()
        );
    }
    for (sent, mut shown) in rows.iter().zip(rows_of(&fitted)) {
        let mut overflow = match shown.remove(OVERFLOW) {
            Some(Value::Str(json)) => serde_json::from_str::<serde_json::Map<String, Json>>(&json).unwrap(),
            None => serde_json::Map::new(),
            other => panic!("{other:?}"),
        };
        shown.remove(TIME);
        for (name, value) in sent.iter().filter(|(name, value)| *name != TIME && **value != Value::Nil) {
            let of = declared.get(name);
            match (shown.remove(name), overflow.remove(name)) {
                (Some(cell), None) => match of {
                    Some(of) => assert!(reads_back(value, &cell, of), "{value:?} is shown as {cell:?} in a column of {of}"),
                    None => {
                        let held = value.held_as(types[name].column_type().unwrap());
                        let json = |value: &Value| match value {
                            Value::Str(text) => serde_json::from_str::<Json>(text).ok(),
                            _ => None,
                        };
                        assert!(
                            cell.same(&held) || json(&cell).is_some() && json(&cell) == json(&held),
                            "{cell:?} {held:?}"
                        );
                    }
                },
                (None, Some(json)) => {
                    assert!(is_same_json(&json, &json_of(value)), "{value:?} overflows as {json}");
                    assert!(of.is_some() || !kept.contains(name));
                    assert!(of.is_none_or(|of| !is_native(value, of)), "{value:?} in a column of {of:?}");
                }
                twice => panic!("{name}: {value:?} is shown as {twice:?}"),
            }
        }
        assert!(shown.is_empty() && overflow.is_empty(), "nobody sent {shown:?} {overflow:?}");
    }
}

proptest! {
    #[test]
    fn column_and_overflow_together_hold_every_value_that_was_sent(
        rows in any_rows(),
        declared in any_declaration(),
        kept in proptest::collection::btree_set("[a-e]", 0..6),
    ) {
        check(&rows, &declared, &kept);
    }

    #[test]
    fn rows_that_are_kept_are_told_as_they_were_sent(rows in any_rows(), chance in any::<u64>()) {
        let batch = decoded(&write_rows(&rows));
        let keep: Vec<bool> = (0..rows.len()).map(|row| chance >> (row % 64) & 1 == 1).collect();
        let all = |batch: &RecordBatch| overflow_of(&fit(batch, &Declared::default(), |_| false).unwrap());
        let one_by_one = all(&batch).into_iter().chain(std::iter::repeat_n("-".to_owned(), rows.len()));
        let expected: Vec<String> = one_by_one.zip(&keep).filter(|(_, keep)| **keep).map(|(text, _)| text).collect();
        let mut found = all(&keep_rows(&batch, &keep).unwrap());
        found.resize(expected.len(), "-".to_owned());
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn no_batch_overflows_with_more_than_was_foreseen(rows in any_rows()) {
        let batch = decoded(&write_rows(&rows));
        let folded = fit(&batch, &Declared::default(), |_| false).unwrap();
        let bytes: usize = overflow_of(&folded).iter().map(|text| if text == "-" { 0 } else { text.len() }).sum();
        prop_assert!(bytes <= super::overflow_of(&batch, |_| true).unwrap());
        prop_assert!(super::overflow_of(&batch, |_| true).unwrap() <= most_overflow(&batch, |_| true, |text| text.len() * 6).unwrap());
        can_overflow(&batch).unwrap();
    }

    #[test]
    fn without_a_declaration_a_batch_stays_as_it_is(rows in any_rows()) {
        let batch = decoded(&write_rows(&rows));
        let all = fit(&batch, &Declared::default(), |_| true).unwrap();
        prop_assert_eq!(all, batch);
    }
}

fn json(rows: &str) -> RecordBatch {
    let told = crate::Told {
        limits: &crate::Limits {
            max_columns: 3,
            ..crate::Limits::default()
        },
        received_at: base::Timestamp::default(),
        identities: &[],
        personal: &[],
    };
    crate::decode(crate::Syntax::Json, rows.as_bytes(), &told).unwrap().batch
}

fn overflow_of(batch: &RecordBatch) -> Vec<String> {
    let Some(array) = batch.column_by_name(OVERFLOW) else {
        return Vec::new();
    };
    let texts = cells_as_text(array).unwrap();
    texts.iter().map(|text| text.unwrap_or("-").to_owned()).collect()
}

#[test]
fn values_of_one_batch_overflow_as_each_was_sent() {
    let batch = json(
        r#"{"x":42} {"x":"042"} {"x":"42"} {"x":true} {"x":1.5} {"x":[1,"a"]} {"x":null} {"x":18446744073709551615} {"x":"true"} {"x":7}"#,
    );
    let declared = Declared::new([("x".to_owned(), ColumnType::Long)]).unwrap();

    let fitted = fit(&batch, &declared, |_| true).unwrap();

    let longs = arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(fitted.column(1));
    let shown: Vec<Option<i64>> = longs.iter().collect();
    assert_eq!(shown, [Some(42), None, Some(42), None, None, None, None, None, None, Some(7)]);
    assert_eq!(
        overflow_of(&fitted),
        [
            "-",
            r#"{"x":"042"}"#,
            "-",
            r#"{"x":true}"#,
            r#"{"x":1.5}"#,
            r#"{"x":[1,"a"]}"#,
            "-",
            r#"{"x":18446744073709551615}"#,
            r#"{"x":"true"}"#,
            "-"
        ]
    );
}

#[test]
fn what_overflowed_before_stays_beside_what_does_not_fit() {
    let batch = json(r#"{"a":1,"b":"x","c":2,"d":{"deep":1}} {"a":1,"_overflow":"mine"} {"a":"y"}"#);
    let declared = Declared::new([("b".to_owned(), ColumnType::Double)]).unwrap();

    let fitted = fit(&batch, &declared, |field| field.name() != "a").unwrap();

    assert_eq!(
        overflow_of(&fitted),
        [r#"{"d":{"deep":1},"a":1,"b":"x"}"#, r#"{"_overflow":"mine","a":1}"#, r#"{"a":"y"}"#]
    );
    assert!(fitted.column_by_name("a").is_none());
}

#[test]
fn a_table_tells_when_a_declaration_changes_nothing() {
    let mut table = crate::TableSchema::new();
    table.merge(&json(r#"{"long":1,"mixed":1,"json":[1]} {"mixed":"a"}"#));
    let declared = |columns: &[(&str, ColumnType)]| Declared::new(columns.iter().map(|(name, of)| ((*name).to_owned(), *of))).unwrap();
    let same = [
        ("long", ColumnType::Long),
        ("mixed", ColumnType::String),
        ("json", ColumnType::Json),
        ("new", ColumnType::Boolean),
    ];
    assert!(table.looks_the_same_under(&declared(&same)));
    assert!(!table.looks_the_same_under(&declared(&[("long", ColumnType::Double)])));
    table.declare(Arc::new(declared(&[("mixed", ColumnType::Long)])));
    assert!(!table.looks_the_same_under(&Declared::default()));
    let names: Vec<String> = table.arrow_schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["time", "mixed", "long", "json"]);
    assert_eq!(table.len(), 3);
}
