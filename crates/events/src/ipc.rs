//! Batches as Arrow IPC streams: what travels between roles and what a journal's segment holds.

use std::{collections::HashSet, panic::AssertUnwindSafe};

use arrow::{
    buffer::Buffer,
    datatypes::{DataType, Schema},
    error::ArrowError,
    ipc::{
        CompressionType, Message, MessageHeader, Precision, RecordBatch as BatchHead, Type,
        reader::StreamDecoder,
        root_as_message,
        writer::{IpcWriteOptions, StreamWriter},
    },
    record_batch::RecordBatch,
};
use base::ErrorKind;
use bytes::Bytes;

use crate::{TIME, types::stated};

/// What all buffers of a stream may inflate to.
const MAX_INFLATED: u64 = 4 << 30;
/// Rows of one batch, far above what is ever written.
const MAX_ROWS: i64 = 1 << 31;
/// What a buffer that is stored as it is says instead of its inflated length.
const STORED: i64 = -1;

/// Why bytes are not batches of ours.
#[derive(Debug, thiserror::Error)]
pub enum IpcError {
    /// Not a stream, cut short, or with lengths that do not fit.
    #[error("not a valid stream of batches: {0}")]
    Malformed(&'static str),
    /// Arrow refused it.
    #[error("the stream of batches could not be read")]
    Arrow(#[from] ArrowError),
}

impl IpcError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Corrupt
    }
}

/// One batch as an IPC stream with zstd in its buffers. Fields keep their metadata.
pub fn to_ipc(batch: &RecordBatch) -> Bytes {
    write(batch).expect("a batch of plain columns can be written to memory").into()
}

fn write(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let options = IpcWriteOptions::default()
        .try_with_compression(Some(CompressionType::ZSTD))?
        .try_with_compression_level(Some(1))?;
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), batch.schema_ref(), options)?;
    writer.write(batch)?;
    writer.into_inner()
}

/// The batches of a stream that came from somebody else.
///
/// Every length is checked against the bytes that are there before Arrow acts on it, because Arrow allocates what a
/// buffer claims and panics on some heads. Only columns that [`crate::decode`] makes are let in.
pub fn from_ipc(stream: &[u8]) -> Result<Vec<RecordBatch>, IpcError> {
    check_stream(stream)?;
    // The checks above should leave no way to a panic inside Arrow; a role must not fall over one that was missed.
    std::panic::catch_unwind(AssertUnwindSafe(|| read(stream))).map_err(|_| IpcError::Malformed("its heads contradict each other"))?
}

fn read(stream: &[u8]) -> Result<Vec<RecordBatch>, IpcError> {
    let mut decoder = StreamDecoder::new();
    let mut bytes = Buffer::from(stream);
    let mut batches = Vec::new();
    while let Some(batch) = decoder.decode(&mut bytes)? {
        batches.push(batch);
    }
    decoder.finish()?;
    check_schema(&*decoder.schema().ok_or(IpcError::Malformed("it has no schema"))?)?;
    Ok(batches)
}

fn check_schema(schema: &Schema) -> Result<(), IpcError> {
    let mut names = HashSet::new();
    for (index, field) in schema.fields().iter().enumerate() {
        let fits = if index == 0 {
            field.name() == TIME && *field.data_type() == DataType::Int64 && !field.is_nullable()
        } else {
            stated(field)
                .and_then(|seen| seen.column_type())
                .is_some_and(|held| held.data_type() == *field.data_type())
        };
        if !fits || !names.insert(field.name()) {
            return Err(IpcError::Malformed("its columns are not those of events"));
        }
    }
    if names.is_empty() {
        Err(IpcError::Malformed("it has no column `time`"))
    } else {
        Ok(())
    }
}

/// What the compressed buffers of a stream inflate to by their own account, which [`from_ipc`] holds them to. Inflates nothing.
pub fn inflated_len(stream: &[u8]) -> Result<u64, IpcError> {
    check_stream(stream)
}

/// Returns what the buffers claim to inflate to.
fn check_stream(stream: &[u8]) -> Result<u64, IpcError> {
    const CUT: IpcError = IpcError::Malformed("it is cut short");
    let mut rest = stream;
    let mut inflated = 0;
    let mut columns = None;
    loop {
        let (mark, after) = rest.split_first_chunk::<4>().ok_or(CUT)?;
        let (len, after) = after.split_first_chunk::<4>().ok_or(CUT)?;
        if *mark != [0xff; 4] {
            return Err(IpcError::Malformed("a message has no mark"));
        }
        let len = u32::from_le_bytes(*len) as usize;
        if len == 0 {
            return if after.is_empty() && columns.is_some() {
                Ok(inflated)
            } else {
                Err(IpcError::Malformed("it ends too early"))
            };
        }
        let (head, after) = after.split_at_checked(len).ok_or(CUT)?;
        let message = root_as_message(head).map_err(|_| IpcError::Malformed("a message has no valid head"))?;
        let body = usize::try_from(message.bodyLength()).map_err(|_| CUT)?;
        let (body, after) = after.split_at_checked(body).ok_or(CUT)?;
        match columns {
            None => columns = Some(check_schema_message(&message)?),
            Some(ref columns) => inflated += check_batch_message(&message, body, columns, MAX_INFLATED - inflated)?,
        }
        rest = after;
    }
}

/// The types of the columns.
fn check_schema_message(message: &Message<'_>) -> Result<Vec<Type>, IpcError> {
    const WRONG: IpcError = IpcError::Malformed("its schema is not one of events");
    let fields = message.header_as_schema().and_then(|schema| schema.fields()).ok_or(WRONG)?;
    for field in fields {
        let known = match field.type_type() {
            Type::Int => field.type_as_int().is_some_and(|int| int.bitWidth() == 64 && int.is_signed()),
            Type::FloatingPoint => field
                .type_as_floating_point()
                .is_some_and(|float| float.precision() == Precision::DOUBLE),
            Type::Utf8 => field.type_as_utf_8().is_some(),
            Type::Bool => field.type_as_bool().is_some(),
            _ => false,
        };
        let nested = field.children().is_some_and(|children| !children.is_empty());
        if !known || nested || field.name().is_none() || field.dictionary().is_some() {
            return Err(WRONG);
        }
    }
    Ok(fields.iter().map(|field| field.type_type()).collect())
}

/// How much the buffers claim to inflate to, at most `room`.
fn check_batch_message(message: &Message<'_>, body: &[u8], columns: &[Type], room: u64) -> Result<u64, IpcError> {
    const WRONG: IpcError = IpcError::Malformed("a batch has lengths that do not fit");
    if message.header_type() != MessageHeader::RecordBatch {
        return Err(IpcError::Malformed("it holds more than a schema and batches"));
    }
    let batch: BatchHead<'_> = message.header_as_record_batch().ok_or(WRONG)?;
    let rows = batch.length();
    let nodes = batch.nodes().ok_or(WRONG)?;
    let fits = |node_rows, nulls| node_rows == rows && (0..=rows).contains(&nulls);
    if !(0..=MAX_ROWS).contains(&rows) || nodes.len() != columns.len() || !nodes.iter().all(|n| fits(n.length(), n.null_count())) {
        return Err(WRONG);
    }
    let compressed = batch.compression().map(|compression| compression.codec());
    if compressed.is_some_and(|codec| codec != CompressionType::ZSTD) {
        return Err(IpcError::Malformed("its buffers are not zstd"));
    }
    // Counts of what only columns of views have.
    if batch.variadicBufferCounts().is_some_and(|counts| !counts.is_empty()) {
        return Err(WRONG);
    }
    let mut inflated = 0u64;
    let mut lengths = Vec::new();
    for buffer in batch.buffers().ok_or(WRONG)? {
        let (from, len) = (usize::try_from(buffer.offset()), usize::try_from(buffer.length()));
        let (Ok(from), Ok(len)) = (from, len) else { return Err(WRONG) };
        let bytes = body.get(from..).and_then(|bytes| bytes.get(..len)).ok_or(WRONG)?;
        let mut length = len as u64;
        if compressed.is_some() && !bytes.is_empty() {
            let claim = i64::from_le_bytes(*bytes.first_chunk().ok_or(WRONG)?);
            if claim == STORED {
                length -= 8;
            } else {
                length = u64::try_from(claim).map_err(|_| WRONG)?;
                inflated = inflated.saturating_add(length);
            }
        }
        lengths.push(length);
    }
    if !are_long_enough(&lengths, columns, rows as u64, nodes.iter().map(|node| node.null_count() > 0)) {
        return Err(WRONG);
    }
    if inflated > room {
        Err(IpcError::Malformed("its buffers claim more than the limit"))
    } else {
        Ok(inflated)
    }
}

/// Whether there are exactly the buffers that columns of these types have, each long enough for so many rows (Arrow columnar format,
/// "Buffer listing for each layout").
fn are_long_enough(lengths: &[u64], columns: &[Type], rows: u64, nulls: impl Iterator<Item = bool>) -> bool {
    let bits = rows.div_ceil(8);
    let mut lengths = lengths.iter().copied();
    let mut next = |least: u64, unit: u64| lengths.next().is_some_and(|length| length >= least && length.is_multiple_of(unit));
    let all = columns.iter().zip(nulls).all(|(column, nulls)| {
        next(if nulls { bits } else { 0 }, 1)
            && match *column {
                Type::Bool => next(bits, 1),
                // Without rows even the first offset may be missing. The texts are as long as the offsets say, which Arrow checks.
                Type::Utf8 => next(if rows == 0 { 0 } else { (rows + 1) * 4 }, 4) && next(0, 1),
                _ => next(rows * 8, 8),
            }
    });
    all && lengths.next().is_none()
}

#[cfg(test)]
mod tests;
