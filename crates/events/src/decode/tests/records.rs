//! Records: envelopes, ids beside the rows, and the address that is filled in.

use super::*;

const ID: &str = "0e4f1c2a-9b7d-4c55-8f10-aabbccddeeff";

fn records(body: &str, single: bool, address: Address) -> Result<Decoded, DecodeError> {
    read_with(Syntax::Records(Records { single, address }), body.as_bytes(), |limits| {
        limits.max_row = 1_000;
    })
}

fn enveloped(body: &str) -> Result<Decoded, DecodeError> {
    records(body, false, Address::Untold)
}

fn ids(decoded: &Decoded) -> Vec<Option<&str>> {
    decoded.ids.iter().map(|id| id.as_ref().map(RecordId::as_str)).collect()
}

fn text(text: &str) -> Value {
    Value::Str(text.to_owned())
}

#[test]
fn both_envelopes_and_a_record_by_itself_are_the_same_rows() {
    let expected = [row(&[("time", Value::Long(5)), ("a", text("x"))])];
    for body in [
        r#"{"events":[{"time":5,"a":"x"}]}"#,
        r#"{"records":[{"time":5,"a":"x"}]}"#,
        "\u{feff} { \"events\" :\n[ {\"time\":5,\"a\":\"x\"} ] } \n",
    ] {
        let decoded = enveloped(body).unwrap();
        assert_eq!((rows_of(&decoded.batch), decoded.ids), (expected.to_vec(), vec![None]), "{body}");
    }
    let single = records(r#" {"time":5,"a":"x"} "#, true, Address::Untold).unwrap();
    assert_eq!((rows_of(&single.batch), single.ids), (expected.to_vec(), vec![None]));
    assert_eq!(enveloped(r#"{"events":[]}"#).unwrap().ids, []);
}

#[test]
fn what_is_no_envelope_is_refused_whole_without_showing_it() {
    for body in [
        "",
        "secret",
        "[]",
        r#"{"secret":[]}"#,
        r#"{"events":{}}"#,
        r#"{"events":"secret"}"#,
        r#"{"events":[],"records":[]}"#,
        r#"{"events":[],"secret":1}"#,
        r#"{"secret":1,"events":[]}"#,
    ] {
        let error = enveloped(body).unwrap_err();
        assert_eq!((&error, error.kind()), (&DecodeError::NoEnvelope, ErrorKind::Invalid), "{body}");
    }
    for (body, single) in [
        (r#"{"events":[{"a":1}"#, false),
        (r#"{"events":[{"a":1]}"#, false),
        (r#"{"events":[{"a":1}{"a":2}]}"#, false),
        (r#"{"events":[{"a":1}]} secret"#, false),
        (r#"{"a":1"#, true),
        (r#"{"a":1}{"a":2}"#, true),
        ("", true),
        ("secret", true),
    ] {
        let error = records(body, single, Address::Untold).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{body}");
        assert!(!error.to_string().contains("secret"));
    }
}

#[test]
fn a_uuid_stands_beside_its_row_and_what_is_none_stays_a_value() {
    let upper = ID.to_uppercase();
    let body = format!(
        r#"{{"events":[{{"uuid":"{ID}","a":1}},{{"a":2}},{{"a":3,"uuid":"{upper}"}},{{"uuid":null}},
            {{"uuid":"17","a":4}},{{"uuid":17}},{{"uuid":["{ID}"]}},{{"uuid":"\u0030e4f1c2a-9b7d-4c55-8f10-aabbccddeeff"}}]}}"#
    );
    let decoded = enveloped(&body).unwrap();
    let expected = [Some(ID), None, Some(upper.as_str()), None, None, None, None, Some(ID)];
    assert_eq!(ids(&decoded), expected);
    let kept: Vec<Option<Value>> = rows_of(&decoded.batch).iter().map(|row| row.get("uuid").cloned()).collect();
    let values = [
        None,
        None,
        None,
        None,
        Some(text("17")),
        Some(text("17")),
        Some(text(&format!("[\"{ID}\"]"))),
        None,
    ];
    assert_eq!(kept, values);
    let alone = enveloped(&format!(r#"{{"records":[{{"uuid":"{ID}"}}]}}"#)).unwrap();
    assert_eq!((alone.batch.num_columns(), ids(&alone)), (1, vec![Some(ID)]), "it makes no column");
}

#[test]
fn a_uuid_that_is_declared_a_column_of_people_is_that_and_no_id() {
    let body = format!(r#"{{"events":[{{"uuid":"{ID}","a":1}},{{"uuid":"{ID}","a":2}},{{"uuid":"{ID}","time":"x"}}]}}"#);
    let records = Records {
        single: false,
        address: Address::Untold,
    };
    let declared: [(&[&str], &[&str]); 3] = [(&["uuid"], &[]), (&[" UUID "], &[]), (&[], &["uuid"])];
    for people in declared {
        let decoded = read_of_people(Syntax::Records(records), body.as_bytes(), &Limits::default(), people).unwrap();
        assert_eq!((ids(&decoded), decoded.rejected.len()), (vec![None; 3], 1));
        let kept: Vec<_> = rows_of(&decoded.batch).iter().map(|row| row["uuid"].clone()).collect();
        assert_eq!(kept, [text(ID), text(ID)], "it is there to be replaced");
    }
}

#[test]
fn a_record_that_cannot_be_a_row_keeps_its_place_among_the_ids() {
    let large = format!(r#"{{"uuid":"{ID}","a":"{}"}}"#, "x".repeat(1_000));
    let body = format!(
        r#"{{"events":[{{"a":1}},{large},7,{{"a":2,"uuid":"{ID}"}},{{"time":"secret", "b" : [{{"uuid":1}}] , "uuid" :"{ID}","c":1}}]}}"#
    );
    let decoded = enveloped(&body).unwrap();
    assert_eq!(ids(&decoded), [None, Some(ID), None, Some(ID), Some(ID)]);
    let rejected: Vec<_> = decoded.rejected.iter().map(|rejected| (rejected.row, rejected.fault)).collect();
    assert_eq!(
        rejected,
        [(2, RowFault::TooLarge { max: 1_000 }), (3, RowFault::NotAMap), (5, RowFault::Time)]
    );
    assert_eq!(&body[decoded.rejected[0].sent.clone()], large);
    assert_eq!(decoded.batch.num_rows(), 2);
    let single = records("[]", true, Address::Untold).unwrap();
    assert_eq!((single.rejected[0].fault, single.ids), (RowFault::NotAMap, vec![None]));
}

#[test]
fn an_address_is_filled_in_where_it_is_asked_for() {
    let body = r#"{"events":[{"td_ip":"td_ip"},{"td_ip":"192.0.2.1"},{"a":1},{"td_ip":null},{"td_ip":7},{"a":"td_ip"}]}"#;
    let addresses = |address| {
        let rows = rows_of(&records(body, false, address).unwrap().batch);
        rows.iter().map(|row| row.get("td_ip").cloned()).collect::<Vec<_>>()
    };
    let ip = || "::ffff:203.0.113.9".parse().unwrap();
    let (sent, own, seven) = (Some(text("203.0.113.9")), Some(text("192.0.2.1")), Some(text("7")));
    let asked = Some(text("td_ip"));
    assert_eq!(addresses(Address::Untold), [asked, own.clone(), None, None, seven.clone(), None]);
    assert_eq!(
        addresses(Address::WhereAsked(ip())),
        [sent.clone(), own.clone(), None, None, seven.clone(), None]
    );
    assert_eq!(
        addresses(Address::Everywhere(ip())),
        [sent.clone(), own, sent.clone(), sent.clone(), seven, sent]
    );
}

fn any_record() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::json;
    let id = prop_oneof![
        any::<[u8; 16]>().prop_map(|bytes| {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            json!(format!(
                "{}-{}-{}-{}-{}",
                &hex[..8],
                &hex[8..12],
                &hex[12..16],
                &hex[16..20],
                &hex[20..]
            ))
        }),
        any::<String>().prop_map(|text| json!(text)),
        any::<i64>().prop_map(|number| json!(number)),
        Just(json!(null)),
    ];
    let other = prop_oneof![any::<i32>().prop_map(|number| json!(number)), ".{0,8}".prop_map(|text| json!(text))];
    (prop::option::of(id), prop::option::of(other)).prop_map(|(id, other)| {
        let mut record = serde_json::Map::new();
        record.extend(id.map(|id| ("uuid".to_owned(), id)));
        record.extend(other.map(|other| ("a".to_owned(), other)));
        record.into()
    })
}

proptest! {
    #[test]
    fn each_record_has_its_id_beside_it_or_what_it_sent_in_its_column(records in prop::collection::vec(any_record(), 0..20)) {
        let body = serde_json::json!({ "events": records }).to_string();
        let decoded = enveloped(&body).unwrap();
        prop_assert_eq!(&decoded.rejected, &[]);
        prop_assert_eq!(decoded.ids.len(), records.len());
        for ((record, id), row) in records.iter().zip(&decoded.ids).zip(rows_of(&decoded.batch)) {
            let sent = record["uuid"].as_str().map_or_else(|| record["uuid"].to_string(), str::to_owned);
            match id {
                Some(id) => prop_assert_eq!((id.as_str(), row.get("uuid")), (sent.as_str(), None)),
                None if record["uuid"].is_null() => prop_assert_eq!(row.get("uuid"), None),
                None => {
                    let kept = row.get("uuid").map(|kept| kept.json());
                    let kept = kept.map(|kept| kept.as_str().map_or_else(|| kept.to_string(), str::to_owned));
                    prop_assert_eq!(kept, Some(sent));
                }
            }
        }
    }

    #[test]
    fn arbitrary_bytes_are_records_or_a_refusal(body in prop::collection::vec(any::<u8>(), 0..60), single: bool) {
        let opened = [b"{\"events\":[", body.as_slice()].concat();
        for body in [body.as_slice(), &opened] {
            let syntax = Syntax::Records(Records { single, address: Address::Untold });
            if let Ok(decoded) = read_with(syntax, body, |_| ()) {
                assert_eq!(decoded.ids.len(), decoded.batch.num_rows() + decoded.rejected.len());
            }
        }
    }
}
