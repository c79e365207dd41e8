//! What must hold for every body of rows that is taken, in whatever syntax it was written.

use std::collections::HashSet;

use arrow::array::{Array, StringArray};
use base::Timestamp;
use events::{Decoded, Limits, OVERFLOW, Syntax, TIME, Told};

/// Limits that a few hundred bytes come up against.
fn tight() -> Limits {
    Limits {
        max_body: 1 << 16,
        max_inflated: 1 << 16,
        max_row: 200,
        max_depth: 4,
        max_keys: 8,
        max_name: 20,
        max_columns: 3,
        max_rows: 50,
        max_cells: 400,
        max_text: 1_000,
        max_rejected: 20,
        max_rejected_bytes: 2_000,
    }
}

/// The limits under which each body is read.
pub(crate) fn limits() -> [Limits; 2] {
    [tight(), Limits::default()]
}

/// Reads a body, and holds what comes back against what was promised.
pub(crate) fn decode(syntax: Syntax, body: &[u8], limits: &Limits) -> Result<Decoded, events::DecodeError> {
    let told = Told {
        limits,
        received_at: Timestamp::from_secs(1_763_900_000),
        identities: &["id".to_owned()],
        personal: &[],
    };
    let decoded = events::decode(syntax, body, &told)?;
    let (taken, columns) = (decoded.batch.num_rows(), decoded.batch.num_columns());
    assert!(taken + decoded.rejected.len() <= limits.max_rows, "more rows than allowed");
    assert!(taken * columns <= limits.max_cells, "more cells than allowed");
    // A byte may become ten: `\0` in text, an extension, a truth value.
    let most = 32 * taken * columns + 40 * body.len() + (16 << 10);
    assert!(decoded.batch.get_array_memory_size() <= most, "more memory than {most} bytes");
    let (mut row, mut at) = (0, 0);
    for rejected in &decoded.rejected {
        assert!(rejected.row > row, "rows set aside are in order");
        assert!(at <= rejected.sent.start && rejected.sent.start < rejected.sent.end && rejected.sent.end <= body.len());
        (row, at) = (rejected.row, rejected.sent.end);
    }
    assert!(row <= taken + decoded.rejected.len());
    Ok(decoded)
}

/// Holds that nothing which was sent is missing: `sent` says of each row of the body, the rejected included, how many of its keys
/// other than `time` have a value.
pub(crate) fn nothing_is_missing(decoded: &Decoded, sent: &[usize]) {
    let aside: HashSet<usize> = decoded.rejected.iter().map(|rejected| rejected.row - 1).collect();
    assert_eq!(
        decoded.batch.num_rows() + aside.len(),
        sent.len(),
        "what was sent is what was taken and what was set aside"
    );
    let taken = sent
        .iter()
        .enumerate()
        .filter(|(row, _)| !aside.contains(row))
        .map(|(_, values)| values);
    for (row, values) in taken.enumerate() {
        assert_eq!(stored(decoded, row), *values, "values of row {row} of those taken");
    }
}

/// How many values a row holds, in columns of their own and in its overflow.
fn stored(decoded: &Decoded, row: usize) -> usize {
    let batch = &decoded.batch;
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns());
    columns
        .filter(|(field, array)| field.name() != TIME && array.is_valid(row))
        .map(|(field, array)| if field.name() == OVERFLOW { overflowing(array, row) } else { 1 })
        .sum()
}

fn overflowing(array: &dyn Array, row: usize) -> usize {
    let texts = array.as_any().downcast_ref::<StringArray>().expect("the overflow is text");
    let object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(texts.value(row)).expect("the overflow of a row is a JSON object");
    object.iter().filter(|(name, value)| *name != TIME && !value.is_null()).count()
}
