//! Arrow back into msgpack: rows of query results as arrays, rows of tables as maps.

use std::ops::Range;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, LargeBinaryArray, LargeStringArray, StringArray, StringViewArray,
        UInt64Array,
    },
    buffer::NullBuffer,
    compute::cast,
    datatypes::{DataType, Float64Type, Int64Type, TimeUnit},
    error::ArrowError,
    record_batch::RecordBatch,
    util::display::{ArrayFormatter, FormatOptions},
};
use base::{ErrorKind, Timestamp};

/// A column of a result has a type that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("a column of the result cannot be written as msgpack")]
pub struct EncodeError(#[from] ArrowError);

impl EncodeError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }
}

/// Appends every row as a msgpack array, columns in order.
pub fn encode_arrays(batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let rows = MsgpackRows::new(batch)?;
    (0..batch.num_rows()).for_each(|row| rows.array(row, out));
    Ok(())
}

/// Appends the rows of `range` as msgpack maps from column to value. Nulls are left out.
pub fn encode_maps(batch: &RecordBatch, range: Range<usize>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let range = range.start.min(batch.num_rows())..range.end.min(batch.num_rows());
    let rows = MsgpackRows::new(&batch.slice(range.start, range.len()))?;
    (0..range.len()).for_each(|row| rows.map(row, out));
    Ok(())
}

/// The rows of one batch, ready to be written one by one.
///
/// What msgpack has no type for becomes text: timestamps `YYYY-MM-DD hh:mm:ss.fff` (with ` UTC` where a zone is
/// declared), dates, decimals, intervals. Lists, structs and maps nest; JSON columns are strings, as stored.
pub struct MsgpackRows {
    columns: Vec<(String, Cells)>,
}

impl MsgpackRows {
    /// Looks at each column once, so that rows need not.
    pub fn new(batch: &RecordBatch) -> Result<Self, EncodeError> {
        let schema = batch.schema();
        let columns = schema.fields().iter().zip(batch.columns());
        let columns = columns.map(|(field, array)| Ok((field.name().clone(), Cells::of(array)?)));
        Ok(Self {
            columns: columns.collect::<Result<_, ArrowError>>()?,
        })
    }

    /// Appends one row as an array.
    pub fn array(&self, row: usize, out: &mut Vec<u8>) {
        put_head(out, 0x90, 0xdc, self.columns.len());
        for (_, cells) in &self.columns {
            cells.put(row, out);
        }
    }

    /// Appends one row as a map without its nulls.
    pub fn map(&self, row: usize, out: &mut Vec<u8>) {
        let present = || self.columns.iter().filter(|(_, cells)| !cells.is_null(row));
        put_head(out, 0x80, 0xde, present().count());
        for (name, cells) in present() {
            put_str(out, name);
            cells.put(row, out);
        }
    }
}

/// A column in one of the forms that are written.
enum Cells {
    Nulls,
    Bools(BooleanArray),
    Longs(Int64Array),
    Unsigned(UInt64Array),
    Doubles(Float64Array),
    Texts(StringArray),
    LargeTexts(LargeStringArray),
    TextViews(StringViewArray),
    Bytes(LargeBinaryArray),
    /// Where each row's values begin and end among all values.
    Lists {
        nulls: Option<NullBuffer>,
        ranges: Vec<Range<usize>>,
        values: Box<Cells>,
    },
    Maps {
        nulls: Option<NullBuffer>,
        ranges: Vec<Range<usize>>,
        keys: Box<Cells>,
        values: Box<Cells>,
    },
    Structs {
        nulls: Option<NullBuffer>,
        fields: Vec<(String, Cells)>,
    },
}

impl Cells {
    fn of(array: &ArrayRef) -> Result<Self, ArrowError> {
        use DataType as T;
        let nulls = || array.nulls().cloned();
        Ok(match array.data_type() {
            T::Null => Self::Nulls,
            T::Boolean => Self::Bools(array.as_boolean().clone()),
            T::Int64 => Self::Longs(array.as_primitive().clone()),
            T::UInt64 => Self::Unsigned(array.as_primitive().clone()),
            T::Int8 | T::Int16 | T::Int32 | T::UInt8 | T::UInt16 | T::UInt32 => {
                Self::Longs(cast(array, &T::Int64)?.as_primitive::<Int64Type>().clone())
            }
            T::Float64 => Self::Doubles(array.as_primitive().clone()),
            T::Float16 | T::Float32 => Self::Doubles(cast(array, &T::Float64)?.as_primitive::<Float64Type>().clone()),
            T::Utf8 => Self::Texts(array.as_string().clone()),
            T::LargeUtf8 => Self::LargeTexts(array.as_string().clone()),
            T::Utf8View => Self::TextViews(array.as_string_view().clone()),
            T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => {
                Self::Bytes(cast(array, &T::LargeBinary)?.as_binary::<i64>().clone())
            }
            T::Dictionary(_, values) => Self::of(&cast(array, values)?)?,
            T::Timestamp(unit, zone) => {
                let suffix = if zone.is_some() { " UTC" } else { "" };
                let per_second = match unit {
                    TimeUnit::Second => 1,
                    TimeUnit::Millisecond => 1_000,
                    TimeUnit::Microsecond => 1_000_000,
                    TimeUnit::Nanosecond => 1_000_000_000,
                };
                let ticks = cast(array, &T::Int64)?;
                let text = |ticks| timestamp_text(ticks, per_second, suffix);
                Self::Texts(ticks.as_primitive::<Int64Type>().iter().map(|ticks| ticks.map(text)).collect())
            }
            T::List(_) => {
                let list = array.as_list::<i32>();
                let ranges = list.offsets().windows(2).map(|w| w[0] as usize..w[1] as usize).collect();
                Self::Lists {
                    nulls: nulls(),
                    ranges,
                    values: Box::new(Self::of(list.values())?),
                }
            }
            T::LargeList(_) => {
                let list = array.as_list::<i64>();
                let ranges = list.offsets().windows(2).map(|w| w[0] as usize..w[1] as usize).collect();
                Self::Lists {
                    nulls: nulls(),
                    ranges,
                    values: Box::new(Self::of(list.values())?),
                }
            }
            T::FixedSizeList(..) => {
                let list = array.as_fixed_size_list();
                let length = usize::try_from(list.value_length()).unwrap_or_default();
                let ranges = (0..list.len()).map(|row| row * length..(row + 1) * length).collect();
                Self::Lists {
                    nulls: nulls(),
                    ranges,
                    values: Box::new(Self::of(list.values())?),
                }
            }
            T::Map(..) => {
                let map = array.as_map();
                let ranges = map.offsets().windows(2).map(|w| w[0] as usize..w[1] as usize).collect();
                let (keys, values) = (Box::new(Self::of(map.keys())?), Box::new(Self::of(map.values())?));
                Self::Maps {
                    nulls: nulls(),
                    ranges,
                    keys,
                    values,
                }
            }
            T::Struct(fields) => {
                let columns = fields.iter().zip(array.as_struct().columns());
                let columns = columns.map(|(field, column)| Ok((field.name().clone(), Self::of(column)?)));
                Self::Structs {
                    nulls: nulls(),
                    fields: columns.collect::<Result<_, ArrowError>>()?,
                }
            }
            _ => Self::Texts(formatted(array)?),
        })
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Nulls => true,
            Self::Bools(a) => a.is_null(row),
            Self::Longs(a) => a.is_null(row),
            Self::Unsigned(a) => a.is_null(row),
            Self::Doubles(a) => a.is_null(row),
            Self::Texts(a) => a.is_null(row),
            Self::LargeTexts(a) => a.is_null(row),
            Self::TextViews(a) => a.is_null(row),
            Self::Bytes(a) => a.is_null(row),
            Self::Lists { nulls, .. } | Self::Maps { nulls, .. } | Self::Structs { nulls, .. } => {
                nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
            }
        }
    }

    fn put(&self, row: usize, out: &mut Vec<u8>) {
        if self.is_null(row) {
            out.push(0xc0);
            return;
        }
        match self {
            Self::Nulls => out.push(0xc0),
            Self::Bools(bools) => out.push(if bools.value(row) { 0xc3 } else { 0xc2 }),
            Self::Longs(longs) => put_long(out, longs.value(row)),
            Self::Unsigned(longs) => put_unsigned(out, longs.value(row)),
            Self::Doubles(doubles) => {
                out.push(0xcb);
                out.extend_from_slice(&doubles.value(row).to_be_bytes());
            }
            Self::Texts(texts) => put_str(out, texts.value(row)),
            Self::LargeTexts(texts) => put_str(out, texts.value(row)),
            Self::TextViews(texts) => put_str(out, texts.value(row)),
            Self::Bytes(bytes) => put_bin(out, bytes.value(row)),
            Self::Lists { ranges, values, .. } => {
                put_head(out, 0x90, 0xdc, ranges[row].len());
                ranges[row].clone().for_each(|value| values.put(value, out));
            }
            Self::Maps { ranges, keys, values, .. } => {
                put_head(out, 0x80, 0xde, ranges[row].len());
                for entry in ranges[row].clone() {
                    keys.put(entry, out);
                    values.put(entry, out);
                }
            }
            Self::Structs { fields, .. } => {
                put_head(out, 0x80, 0xde, fields.len());
                for (name, cells) in fields {
                    put_str(out, name);
                    cells.put(row, out);
                }
            }
        }
    }
}

fn timestamp_text(ticks: i64, per_second: i64, suffix: &str) -> String {
    let (secs, rest) = (ticks.div_euclid(per_second), ticks.rem_euclid(per_second));
    let millis = i128::from(rest) * 1000 / i128::from(per_second);
    let text = Timestamp::from_secs(secs).td_string();
    format!("{}.{millis:03}{suffix}", text.strip_suffix(" UTC").unwrap_or(&text))
}

/// Each value in Arrow's own words.
fn formatted(array: &ArrayRef) -> Result<StringArray, ArrowError> {
    let options = FormatOptions::default().with_display_error(false);
    let formatter = ArrayFormatter::try_new(array, &options)?;
    let texts = (0..array.len()).map(|row| {
        if array.is_null(row) {
            Ok(None)
        } else {
            formatter.value(row).try_to_string().map(Some)
        }
    });
    texts.collect::<Result<Vec<Option<String>>, _>>().map(StringArray::from)
}

fn put_long(out: &mut Vec<u8>, value: i64) {
    if let Ok(value) = u64::try_from(value) {
        put_unsigned(out, value);
    } else if value >= -32 {
        out.push(value as u8);
    } else if let Ok(value) = i8::try_from(value) {
        put(out, 0xd0, &value.to_be_bytes());
    } else if let Ok(value) = i16::try_from(value) {
        put(out, 0xd1, &value.to_be_bytes());
    } else if let Ok(value) = i32::try_from(value) {
        put(out, 0xd2, &value.to_be_bytes());
    } else {
        put(out, 0xd3, &value.to_be_bytes());
    }
}

fn put_unsigned(out: &mut Vec<u8>, value: u64) {
    if value < 0x80 {
        out.push(value as u8);
    } else if let Ok(value) = u8::try_from(value) {
        put(out, 0xcc, &[value]);
    } else if let Ok(value) = u16::try_from(value) {
        put(out, 0xcd, &value.to_be_bytes());
    } else if let Ok(value) = u32::try_from(value) {
        put(out, 0xce, &value.to_be_bytes());
    } else {
        put(out, 0xcf, &value.to_be_bytes());
    }
}

fn put_str(out: &mut Vec<u8>, text: &str) {
    match text.len() {
        len @ ..32 => out.push(0xa0 | len as u8),
        len => put_length(out, 0xd9, len),
    }
    out.extend_from_slice(text.as_bytes());
}

fn put_bin(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, 0xc4, bytes.len());
    out.extend_from_slice(bytes);
}

/// A length in 1, 2 or 4 bytes, whose leads follow each other. Arrow's own offsets keep values below 4 GiB.
fn put_length(out: &mut Vec<u8>, lead: u8, len: usize) {
    if let Ok(len) = u8::try_from(len) {
        put(out, lead, &[len]);
    } else {
        put_long_length(out, lead + 1, len);
    }
}

/// The head of an array or a map: the short form, or one of two longer ones that follow each other.
fn put_head(out: &mut Vec<u8>, short: u8, long: u8, len: usize) {
    if len < 16 {
        out.push(short | len as u8);
    } else {
        put_long_length(out, long, len);
    }
}

fn put_long_length(out: &mut Vec<u8>, lead: u8, len: usize) {
    match u16::try_from(len) {
        Ok(len) => put(out, lead, &len.to_be_bytes()),
        Err(_) => put(out, lead + 1, &(len as u32).to_be_bytes()),
    }
}

fn put(out: &mut Vec<u8>, lead: u8, bytes: &[u8]) {
    out.push(lead);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests;
