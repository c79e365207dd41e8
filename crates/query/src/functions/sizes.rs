//! How many bytes the values of an array hold, row by row.
//!
//! Promise: what two rows share is counted for each, as a copy of both would need it. Knows arrays; does not know functions.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, OffsetSizeTrait};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{ArrowDictionaryKeyType, ByteArrayType, DataType, Int8Type, Int16Type, Int32Type, Int64Type};
use datafusion::arrow::datatypes::{UInt8Type, UInt16Type, UInt32Type, UInt64Type};

/// The least that a place in a list takes.
pub(super) const PLACE: u64 = 8;

/// The bytes of each row. A missing value has none.
pub(super) fn sizes(array: &dyn Array) -> Vec<u64> {
    let mut sizes = values(array);
    if let Some(nulls) = array.logical_nulls() {
        for (size, there) in sizes.iter_mut().zip(&nulls) {
            *size = if there { *size } else { 0 };
        }
    }
    sizes
}

/// How many items each row of a list has; none where there is no list.
pub(super) fn items(array: &dyn Array) -> Vec<u64> {
    let lengths: Vec<u64> = match array.data_type() {
        DataType::List(_) => array.as_list::<i32>().offsets().lengths().map(|length| length as u64).collect(),
        DataType::LargeList(_) => array.as_list::<i64>().offsets().lengths().map(|length| length as u64).collect(),
        DataType::Map(..) => array.as_map().offsets().lengths().map(|length| length as u64).collect(),
        DataType::FixedSizeList(_, length) => vec![u64::try_from(*length).unwrap_or(0); array.len()],
        _ => vec![0; array.len()],
    };
    let there = |row: usize| !array.is_null(row);
    lengths
        .into_iter()
        .enumerate()
        .map(|(row, length)| if there(row) { length } else { 0 })
        .collect()
}

/// How many values that are no lists themselves each row of a list has, lists within it included.
pub(super) fn leaves(array: &dyn Array) -> Vec<u64> {
    let leaves = match array.data_type() {
        DataType::List(_) => spans(array.as_list::<i32>().offsets(), &leaves(array.as_list::<i32>().values()), 0),
        DataType::LargeList(_) => spans(array.as_list::<i64>().offsets(), &leaves(array.as_list::<i64>().values()), 0),
        DataType::FixedSizeList(_, length) => {
            let leaves = leaves(array.as_fixed_size_list().values());
            let length = usize::try_from(*length).unwrap_or(0).max(1);
            leaves.chunks(length).map(|items| items.iter().sum()).collect()
        }
        _ => vec![1; array.len()],
    };
    leaves
        .into_iter()
        .enumerate()
        .map(|(row, leaves)| if array.is_null(row) { 1 } else { leaves })
        .collect()
}

/// What one value of this type takes even where it is missing.
pub(super) fn width(data_type: &DataType) -> u64 {
    let length = |length: i32| u64::try_from(length).unwrap_or(0);
    match data_type {
        DataType::FixedSizeBinary(bytes) => length(*bytes),
        DataType::FixedSizeList(item, items) => length(*items).saturating_mul(width(item.data_type())),
        DataType::Struct(fields) => fields
            .iter()
            .fold(0, |sum: u64, field| sum.saturating_add(width(field.data_type()))),
        _ => PLACE,
    }
}

fn values(array: &dyn Array) -> Vec<u64> {
    match array.data_type() {
        DataType::Utf8 => texts::<datafusion::arrow::datatypes::Utf8Type>(array),
        DataType::LargeUtf8 => texts::<datafusion::arrow::datatypes::LargeUtf8Type>(array),
        DataType::Binary => texts::<datafusion::arrow::datatypes::BinaryType>(array),
        DataType::LargeBinary => texts::<datafusion::arrow::datatypes::LargeBinaryType>(array),
        // The lower half of a view is the length.
        DataType::Utf8View => array.as_string_view().views().iter().map(|view| u64::from(*view as u32)).collect(),
        DataType::BinaryView => array.as_binary_view().views().iter().map(|view| u64::from(*view as u32)).collect(),
        DataType::List(_) => within(array.as_list::<i32>().offsets(), array.as_list::<i32>().values()),
        DataType::LargeList(_) => within(array.as_list::<i64>().offsets(), array.as_list::<i64>().values()),
        DataType::Map(..) => {
            let map = array.as_map();
            let entries = summed([sizes(map.keys()), sizes(map.values())], map.entries().len());
            spans(map.offsets(), &entries, PLACE)
        }
        DataType::FixedSizeList(_, length) => {
            let length = usize::try_from(*length).unwrap_or(0);
            if length == 0 {
                return vec![0; array.len()];
            }
            let items = sizes(array.as_fixed_size_list().values());
            items.chunks(length).map(|items| sum(items, PLACE)).collect()
        }
        DataType::Struct(_) => summed(array.as_struct().columns().iter().map(|column| sizes(column)), array.len()),
        DataType::Dictionary(key, _) => match key.as_ref() {
            DataType::Int8 => chosen::<Int8Type>(array),
            DataType::Int16 => chosen::<Int16Type>(array),
            DataType::Int32 => chosen::<Int32Type>(array),
            DataType::Int64 => chosen::<Int64Type>(array),
            DataType::UInt8 => chosen::<UInt8Type>(array),
            DataType::UInt16 => chosen::<UInt16Type>(array),
            DataType::UInt32 => chosen::<UInt32Type>(array),
            _ => chosen::<UInt64Type>(array),
        },
        DataType::FixedSizeBinary(length) => vec![u64::try_from(*length).unwrap_or(0); array.len()],
        // Numbers and moments: sixteen bytes are as much as the usual ones have. Unions and runs are not made here.
        other => vec![other.primitive_width().unwrap_or(1) as u64; array.len()],
    }
}

fn texts<T: ByteArrayType>(array: &dyn Array) -> Vec<u64> {
    array.as_bytes::<T>().offsets().lengths().map(|length| length as u64).collect()
}

fn within<O: OffsetSizeTrait>(offsets: &OffsetBuffer<O>, values: &ArrayRef) -> Vec<u64> {
    spans(offsets, &sizes(values), PLACE)
}

fn spans<O: OffsetSizeTrait>(offsets: &OffsetBuffer<O>, items: &[u64], least: u64) -> Vec<u64> {
    let of = |pair: &[O]| sum(items.get(pair[0].as_usize()..pair[1].as_usize()).unwrap_or_default(), least);
    offsets.windows(2).map(of).collect()
}

/// The items of a list, each as `least` at least.
fn sum(items: &[u64], least: u64) -> u64 {
    items.iter().fold(0, |sum, item| sum.saturating_add((*item).max(least)))
}

fn summed(columns: impl IntoIterator<Item = Vec<u64>>, rows: usize) -> Vec<u64> {
    columns.into_iter().fold(vec![0; rows], |mut sums, column| {
        for (sum, size) in sums.iter_mut().zip(column) {
            *sum = sum.saturating_add(size);
        }
        sums
    })
}

fn chosen<K: ArrowDictionaryKeyType>(array: &dyn Array) -> Vec<u64> {
    let dictionary = array.as_dictionary::<K>();
    let sizes = sizes(dictionary.values());
    dictionary
        .keys_iter()
        .map(|key| key.and_then(|key| sizes.get(key)).copied().unwrap_or(0))
        .collect()
}
