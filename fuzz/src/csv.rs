//! CSV as `coffer import` reads it.
//!
//! Held: every byte belongs to a row or to what stands between rows; where rows begin and end does not depend on how the bytes arrive;
//! and of a row that keeps to the rules another reader makes the same fields.

use std::borrow::Cow;
use std::ops::Range;

use events::frames::{CsvRows, Found, Framing as _, fields};

/// Takes any bytes as a file: the first says how many of the others are shown at a time, and whether there is a header.
pub fn one(data: &[u8]) {
    let Some((&first, file)) = data.split_first() else { return };
    let (step, header) = (usize::from(first >> 1) + 1, first & 1 == 1);
    let whole = rows(file, header, file.len().max(1));
    assert_eq!(whole, rows(file, header, step), "rows depend on how bytes arrive");
    for (range, sound) in whole.into_iter().flatten() {
        let row = &file[range];
        assert!(!row.is_empty(), "an empty line is no row");
        let ours: Vec<Cow<'_, [u8]>> = fields(row).collect();
        if sound {
            assert_eq!(ours, others(row), "fields of {:?}", String::from_utf8_lossy(row));
        }
    }
}

/// None for a file whose header says that its lines end as they did on old Macs.
fn rows(file: &[u8], header: bool, step: usize) -> Option<Vec<(Range<usize>, bool)>> {
    let mut framing = CsvRows::new(header);
    let (mut at, mut shown, mut rows) = (0, 0, Vec::new());
    while at < file.len() {
        if shown <= at {
            shown = (shown + step).min(file.len());
            continue;
        }
        let ended = shown == file.len();
        let found = match framing.next(&file[at..shown], ended) {
            Ok(found) => found,
            Err(damage) => {
                assert!(
                    header && rows.is_empty() && file.contains(&b'\r'),
                    "CSV is never beyond reading on: {damage:?}"
                );
                return None;
            }
        };
        match found {
            Found::Row { from, to, end, sound } => {
                assert!(from <= to && to <= end && end > 0 && at + end <= shown);
                rows.push((at + from..at + to, sound));
                at += end;
            }
            Found::Between(length) => {
                assert!(length > 0 && at + length <= shown);
                at += length;
            }
            Found::More => {
                assert!(!ended, "more is wanted where there is no more");
                shown = (shown + step).min(file.len());
            }
        }
    }
    Some(rows)
}

fn others(row: &[u8]) -> Vec<Cow<'static, [u8]>> {
    // It would take a mark off the first row, wherever that stands in our file.
    let after_another = [b"x\n", row].concat();
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(true)
        .flexible(true)
        .terminator(csv::Terminator::Any(b'\n'))
        .from_reader(&*after_another);
    let mut records = reader.byte_records();
    let record = records.next().expect("there is a row").expect("it can be read");
    assert!(records.next().is_none(), "one row is one row");
    record.iter().map(|field| Cow::Owned(field.to_vec())).collect()
}
