use std::sync::Arc;

use arrow::{
    array::{
        BinaryArray, Date32Array, Decimal128Array, DictionaryArray, Float32Array, Int16Array, Int64Builder, IntervalMonthDayNanoArray,
        LargeListArray, ListArray, MapArray, MapBuilder, NullArray, StringBuilder, StructArray, TimestampMicrosecondArray,
        TimestampNanosecondArray, UInt32Array,
    },
    datatypes::{Field, Int32Type, IntervalMonthDayNano, Schema},
};

use super::*;
use crate::{LineFormat, Lines, model::Value};

fn batch(columns: Vec<ArrayRef>) -> RecordBatch {
    let fields = columns
        .iter()
        .enumerate()
        .map(|(i, array)| Field::new(format!("c{i}"), array.data_type().clone(), true));
    RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns).unwrap()
}

fn column(array: impl Array + 'static) -> Vec<Value> {
    let mut out = Vec::new();
    encode_arrays(&batch(vec![Arc::new(array)]), &mut out).unwrap();
    let only = |value| match value {
        Value::Array(mut values) if values.len() == 1 => values.remove(0),
        other => panic!("{other:?} is not a row of one column"),
    };
    Value::read_all(&out).into_iter().map(only).collect()
}

fn text(text: &str) -> Value {
    Value::Str(text.to_owned())
}

#[test]
fn numbers_take_their_shortest_form_and_read_back() {
    let edges = [
        0,
        1,
        127,
        128,
        255,
        256,
        65_535,
        65_536,
        4_294_967_295,
        4_294_967_296,
        i64::MAX,
        -1,
        -32,
        -33,
        -128,
        -129,
        -32_768,
        -32_769,
        -2_147_483_648,
        -2_147_483_649,
        i64::MIN,
    ];
    assert_eq!(column(Int64Array::from(edges.to_vec())), edges.map(Value::Long));
    assert_eq!(column(Int16Array::from(vec![Some(-300), None])), [Value::Long(-300), Value::Nil]);
    assert_eq!(column(UInt32Array::from(vec![u32::MAX])), [Value::Long(i64::from(u32::MAX))]);
    assert_eq!(column(UInt64Array::from(vec![u64::MAX])), [Value::BigLong(u64::MAX)]);
    assert_eq!(column(Float32Array::from(vec![0.5])), [Value::Double(0.5)]);
    assert_eq!(
        column(Float64Array::from(vec![Some(-0.1), None])),
        [Value::Double(-0.1), Value::Nil]
    );
    let mut out = Vec::new();
    encode_arrays(&batch(vec![Arc::new(Int64Array::from(vec![127, -32, 128]))]), &mut out).unwrap();
    assert_eq!(out, [0x91, 127, 0x91, 0xe0, 0x91, 0xcc, 128]);
}

#[test]
fn texts_and_bytes_of_every_length_read_back() {
    for len in [0, 31, 32, 255, 256, 65_535, 65_536] {
        let long = "x".repeat(len);
        assert_eq!(
            column(StringArray::from(vec![Some(long.as_str()), None])),
            [text(&long), Value::Nil]
        );
        assert_eq!(column(StringViewArray::from(vec![long.as_str()])), [text(&long)]);
        assert_eq!(column(LargeStringArray::from(vec![long.as_str()])), [text(&long)]);
        assert_eq!(
            column(BinaryArray::from(vec![long.as_bytes()])),
            [Value::Bin(long.clone().into_bytes())]
        );
    }
    let dictionary: DictionaryArray<Int32Type> = vec![Some("a"), None, Some("a")].into_iter().collect();
    assert_eq!(column(dictionary), [text("a"), Value::Nil, text("a")]);
    assert_eq!(
        column(BooleanArray::from(vec![Some(true), None, Some(false)])),
        [Value::Bool(true), Value::Nil, Value::Bool(false)]
    );
    assert_eq!(column(NullArray::new(1)), [Value::Nil]);
}

#[test]
fn what_msgpack_has_no_type_for_is_text() {
    let micros = TimestampMicrosecondArray::from(vec![Some(1_700_000_000_123_456), Some(-1), None]);
    assert_eq!(
        column(micros),
        [text("2023-11-14 22:13:20.123"), text("1969-12-31 23:59:59.999"), Value::Nil]
    );
    let zoned = TimestampNanosecondArray::from(vec![0]).with_timezone("UTC");
    assert_eq!(column(zoned), [text("1970-01-01 00:00:00.000 UTC")]);
    assert_eq!(column(Date32Array::from(vec![19_675])), [text("2023-11-14")]);
    let decimal = Decimal128Array::from(vec![Some(-12_345), None])
        .with_precision_and_scale(10, 2)
        .unwrap();
    assert_eq!(column(decimal), [text("-123.45"), Value::Nil]);
    let interval = IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(1, 2, 0)]);
    assert_eq!(column(interval), [text("1 mons 2 days")]);
}

#[test]
fn nested_columns_nest() {
    let list = || ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]);
    let expected = [Value::Array(vec![Value::Long(1), Value::Nil]), Value::Nil, Value::Array(vec![])];
    assert_eq!(column(list()), expected);
    assert_eq!(column(list().slice(1, 2)), expected[1..]);
    let large = LargeListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(7)])]);
    assert_eq!(column(large), [Value::Array(vec![Value::Long(7)])]);
    let field = Arc::new(Field::new("a", DataType::Int64, true));
    let structs = StructArray::from(vec![(field, Arc::new(Int64Array::from(vec![5])) as ArrayRef)]);
    assert_eq!(column(structs), [Value::Map(vec![("a".into(), Value::Long(5))])]);
    let mut builder = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    builder.keys().append_value("k");
    builder.values().append_value(1);
    builder.append(true).unwrap();
    let map: MapArray = builder.finish();
    assert_eq!(column(map), [Value::Map(vec![("k".into(), Value::Long(1))])]);
}

#[test]
fn rows_with_many_columns_read_back() {
    for count in [0, 15, 16, 70_000] {
        let columns = (0..count)
            .map(|i| Arc::new(Int64Array::from(vec![i])) as ArrayRef)
            .collect::<Vec<_>>();
        if columns.is_empty() {
            continue;
        }
        let mut out = Vec::new();
        encode_arrays(&batch(columns), &mut out).unwrap();
        assert_eq!(Value::read_all(&out), [Value::Array((0..count).map(Value::Long).collect())]);
    }
}

#[test]
fn maps_leave_nulls_out_and_stay_in_their_range() {
    let batch = batch(vec![
        Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])),
        Arc::new(StringArray::from(vec!["a", "b", "c"])),
    ]);
    let mut out = Vec::new();
    encode_maps(&batch, 1..9, &mut out).unwrap();
    let row = |entries: &[(&str, Value)]| Value::Map(entries.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect());
    assert_eq!(
        Value::read_all(&out),
        [row(&[("c1", text("b"))]), row(&[("c0", Value::Long(3)), ("c1", text("c"))])]
    );
}

#[test]
fn arrays_become_lines_of_json() {
    let batch = batch(vec![
        Arc::new(Int64Array::from(vec![Some(1), None])),
        Arc::new(StringArray::from(vec!["ü", "\""])),
    ]);
    let (mut rows, mut lines) = (Vec::new(), Vec::new());
    encode_arrays(&batch, &mut rows).unwrap();
    Lines::new(LineFormat::Arrays, &["n", "text"])
        .write(&rows, usize::MAX, &mut lines)
        .unwrap();
    assert_eq!(String::from_utf8(lines).unwrap(), "[1,\"ü\"]\n[null,\"\\\"\"]\n");
}
