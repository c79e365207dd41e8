use arrow::array::{Array, AsArray};
use proptest::prelude::*;

use super::*;
use crate::identities::{self, distinct};
use crate::model::{Row, Value, any_rows, decoded, write_rows};
use crate::{ColumnType, seen_of};

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn row(cells: &[(&str, Value)]) -> Row {
    cells.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

fn text(text: &str) -> Value {
    Value::Str(text.to_owned())
}

fn column(batch: &RecordBatch, name: &str) -> Vec<Option<String>> {
    let texts = batch.column_by_name(name).unwrap().as_string::<i32>();
    texts.iter().map(|text| text.map(str::to_owned)).collect()
}

/// As the identity role would, but for everyone to read.
fn sealed(personal: &Personal) -> Vec<Vec<u8>> {
    let sealed = |value: &PersonalValue| format!("{:?}/{}/{}", value.owner, value.column, value.value.reveal());
    personal.values().iter().map(|value| sealed(value).into_bytes()).collect()
}

#[test]
fn personal_values_leave_the_batch_and_sealed_texts_take_their_place() {
    let rows = [
        row(&[
            ("email", text("ada")),
            ("Phone", Value::Long(42)),
            ("name", text("Ada")),
            ("x", text("Ada")),
        ]),
        row(&[("email", text("ada")), ("Phone", text("42")), ("name", text(""))]),
        row(&[("email", text("bob")), ("Phone", text("42")), ("name", Value::Nil)]),
        row(&[("email", text("")), ("Phone", text("42"))]),
    ];
    let batch = decoded(&write_rows(&rows));
    let (personal, declared) = (names(&["name", "phone", "time", "absent"]), names(&["email"]));
    let people = distinct(&batch, &declared).unwrap();

    let found = gather(&batch, &personal, &declared, &people).unwrap();
    let swapped = replace(&batch, &found, &sealed(&found)).unwrap();

    let value = |owner, column, value: &str| PersonalValue {
        owner,
        column,
        value: Secret::new(value.to_owned()),
    };
    let mut values = found.values().to_vec();
    values.sort_by_key(|value| (value.column, value.owner, value.value.reveal().to_owned()));
    assert_eq!(
        values,
        [
            value(Some(0), 0, ""),
            value(Some(0), 0, "Ada"),
            value(None, 1, "42"),
            value(Some(0), 1, "42"),
            value(Some(1), 1, "42"),
        ]
    );
    assert!(!format!("{found:?}").contains("Ada"));
    let phones = column(&swapped, "Phone");
    assert!(phones.iter().flatten().all(|text| text.starts_with(SEALED_PREFIX)));
    assert_eq!(phones[0], phones[1], "42 and \"42\" of one person");
    assert!(phones[1] != phones[2] && phones[2] != phones[3] && phones[1] != phones[3]);
    let of_names = column(&swapped, "name");
    assert!(
        of_names[0].is_some() && of_names[1].is_some() && of_names[0] != of_names[1],
        "an empty text is a value"
    );
    assert_eq!(of_names[2..], [None, None]);
    assert_eq!(column(&swapped, "x")[0].as_deref(), Some("Ada"), "nobody declared that");
    assert_eq!(swapped.column(0), batch.column(0));
    let field = swapped.schema();
    assert_eq!(
        seen_of(field.field_with_name("Phone").unwrap()).column_type(),
        Some(ColumnType::String)
    );
    assert!(found.bytes() >= swapped.column_by_name("Phone").unwrap().get_array_memory_size() / 2);
}

#[test]
fn the_first_declared_identity_of_a_row_owns_it() {
    let rows = [
        row(&[("email", text("a@x")), ("id", Value::Long(7)), ("name", text("n"))]),
        row(&[("email", text("a@x")), ("name", text("n"))]),
        row(&[("name", text("n"))]),
    ];
    let batch = decoded(&write_rows(&rows));
    let owners = |declared: &[&str]| {
        let declared = names(declared);
        let people = distinct(&batch, &declared).unwrap();
        let found = gather(&batch, &names(&["name"]), &declared, &people).unwrap();
        let who = |owner: usize| people.values()[owner].reveal().to_owned();
        found.values().iter().map(|value| value.owner.map(who)).collect::<Vec<_>>()
    };
    let (id, email) = (Some("7".to_owned()), Some("a@x".to_owned()));
    assert_eq!(owners(&["id", "email"]), [id, email.clone(), None]);
    assert_eq!(owners(&["EMAIL", "id"]), [email, None], "the first two rows are one person's");
    assert_eq!(owners(&[]), [None]);
    assert!(
        gather(
            &batch,
            &names(&["email"]),
            &names(&["email"]),
            &distinct(&batch, &names(&["email"])).unwrap()
        )
        .unwrap()
        .is_empty(),
        "what is an identity becomes an id"
    );
}

#[test]
fn a_personal_column_is_found_however_its_name_is_typed_and_full_or_not() {
    let rows = [row(&[
        ("a", Value::Long(1)),
        ("PRE\u{301}NOM", text("Ada")),
        ("prénom", text("Ada")),
    ])];
    for max_columns in [0, 10] {
        let told = crate::Told {
            limits: &crate::Limits {
                max_columns,
                ..crate::Limits::default()
            },
            received_at: base::Timestamp::default(),
            identities: &[],
            personal: &names(&["Prénom"]),
        };
        let batch = crate::decode(crate::Syntax::Msgpack, &write_rows(&rows), &told).unwrap().batch;
        let found = gather(&batch, &names(&["Prénom"]), &[], &Distinct::default()).unwrap();
        let swapped = replace(&batch, &found, &sealed(&found)).unwrap();
        assert_eq!(found.values().len(), 1);
        for name in ["PRE\u{301}NOM", "prénom"] {
            assert!(column(&swapped, name)[0].as_ref().unwrap().starts_with(SEALED_PREFIX), "{name}");
        }
        let declared = names(&["prénom"]);
        let found = gather(&batch, &names(&["Prénom"]), &declared, &Distinct::default()).unwrap();
        assert!(found.is_empty(), "what is an identity becomes an id");
    }
}

#[test]
fn values_beyond_the_number_of_columns_are_not_left_in_overflow() {
    let rows = [row(&[
        ("a", Value::Long(1)),
        ("b", Value::Long(2)),
        ("c", text("c")),
        ("z", text("personal")),
    ])];
    let told = crate::Told {
        limits: &crate::Limits {
            max_columns: 1,
            ..crate::Limits::default()
        },
        received_at: base::Timestamp::default(),
        identities: &[],
        personal: &names(&["Z"]),
    };
    let batch = crate::decode(crate::Syntax::Msgpack, &write_rows(&rows), &told).unwrap().batch;

    let found = gather(&batch, &names(&["z"]), &[], &Distinct::default()).unwrap();

    assert_eq!(found.values().len(), 1);
    assert!(!column(&batch, crate::OVERFLOW)[0].as_ref().unwrap().contains("personal"));
}

#[test]
fn sealed_values_of_another_count_or_batch_are_refused() {
    let one = decoded(&write_rows(&[row(&[("name", text("n"))])]));
    let none = decoded(&[]);
    let found = gather(&one, &names(&["name"]), &[], &Distinct::default()).unwrap();

    assert!(matches!(
        replace(&one, &found, &[]),
        Err(ReplaceError::SealedCount { values: 1, sealed: 0 })
    ));
    assert!(matches!(replace(&none, &found, &[vec![1]]), Err(ReplaceError::OtherBatch)));
}

proptest! {
    #[test]
    fn whatever_rows_hold_no_personal_value_stays_and_nothing_else_changes(rows in any_rows()) {
        let batch = decoded(&write_rows(&rows));
        let (personal, declared) = (names(&["a", "b"]), names(&["c", "d"]));
        let people = distinct(&batch, &declared).unwrap();
        let found = gather(&batch, &personal, &declared, &people).unwrap();
        let tokens: Vec<Vec<u8>> = (0..found.values().len()).map(|n| n.to_string().into_bytes()).collect();
        let swapped = replace(&batch, &found, &tokens).unwrap();
        let ids: Vec<i64> = (1..).take(people.values().len()).collect();
        // Both replacements fit together, whichever comes first.
        identities::replace(&swapped, &people, &ids).unwrap();

        let mut token_of: HashMap<String, (Option<usize>, usize, Secret)> = HashMap::new();
        let owners = people.owners(&batch, &declared);
        for (field, (before, after)) in batch.schema().fields().iter().zip(batch.columns().iter().zip(swapped.columns())) {
            let Some(place) = personal.iter().position(|name| name == field.name()) else {
                prop_assert_eq!(before, after);
                continue;
            };
            let (before, after) = (cells_as_text(before).unwrap(), after.as_string::<i32>());
            for (at, owner) in owners.iter().enumerate() {
                prop_assert_eq!(before.is_null(at), after.is_null(at));
                if before.is_null(at) {
                    continue;
                }
                let triple = (owner.map(|owner| owner as usize), place, Secret::new(before.value(at).to_owned()));
                let known = token_of.entry(after.value(at).to_owned()).or_insert_with(|| triple.clone());
                prop_assert_eq!(&*known, &triple);
            }
        }
        prop_assert_eq!(token_of.len(), found.values().len());
    }
}
