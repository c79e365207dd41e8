use std::sync::Arc;

use arrow::datatypes::Field;
use proptest::prelude::*;

use super::*;
use crate::model::{any_rows, decoded, write_rows};

fn any_batch() -> impl Strategy<Value = RecordBatch> {
    any_rows().prop_map(|rows| decoded(&write_rows(&rows)))
}

/// Without the net under it, so that a panic shows.
fn from_ipc_bare(stream: &[u8]) -> Result<Vec<RecordBatch>, IpcError> {
    check_stream(stream)?;
    read(stream)
}

proptest! {
    #[test]
    fn a_batch_comes_back_as_it_was(batch in any_batch()) {
        prop_assert_eq!(from_ipc(&to_ipc(&batch)).unwrap(), [batch]);
    }

    #[test]
    fn damage_is_an_error_and_no_panic(batch in any_batch(), flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), cut in any::<Option<prop::sample::Index>>()) {
        let mut stream = to_ipc(&batch).to_vec();
        for (at, byte) in flips {
            let at = at.index(stream.len());
            stream[at] = byte;
        }
        let cut = cut.map_or(stream.len(), |cut| cut.index(stream.len()));
        let read = from_ipc_bare(&stream[..cut]);
        prop_assert!(cut == stream.len() || read.is_err());
    }

    #[test]
    fn arbitrary_bytes_are_no_stream(stream in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(from_ipc_bare(&stream).is_err());
    }
}

#[test]
fn a_buffer_that_claims_a_terabyte_is_refused_before_it_is_made() {
    let body = b"\x81\xa1x\xd9\x60".iter().copied().chain([b'a'; 96]).collect::<Vec<_>>();
    let batch = decoded(&body);
    let mut stream = to_ipc(&batch).to_vec();
    let claim = 96u64.to_le_bytes();
    let at = stream
        .windows(8)
        .rposition(|window| window == claim)
        .expect("the text buffer states its length");
    stream[at..at + 8].copy_from_slice(&(1u64 << 40).to_le_bytes());

    assert!(matches!(
        from_ipc(&stream),
        Err(IpcError::Malformed("its buffers claim more than the limit"))
    ));
}

#[test]
fn columns_that_no_event_has_are_refused() {
    let check = |fields: Vec<Field>| {
        let batch = RecordBatch::new_empty(Arc::new(Schema::new(fields)));
        assert!(from_ipc(&to_ipc(&batch)).is_err());
    };
    let time = crate::time_field;
    check(vec![]);
    check(vec![Field::new("other", DataType::Int64, false)]);
    check(vec![Field::new("time", DataType::Int64, true)]);
    check(vec![time(), Field::new("x", DataType::Int64, true)]);
    check(vec![
        time(),
        Field::new("x", DataType::Utf8, true).with_metadata(crate::field("x", crate::Seen::LONG).metadata().clone()),
    ]);
    check(vec![
        time(),
        crate::field("x", crate::Seen::LONG),
        crate::field("x", crate::Seen::LONG),
    ]);
    check(vec![time(), Field::new("x", DataType::Date32, true)]);
}
