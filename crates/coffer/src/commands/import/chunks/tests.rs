//! Nothing lost, nothing twice, always the same.

use proptest::prelude::*;

use super::super::frames::{CsvRows, Lines, Values};
use super::*;

/// A reader that gives at most `step` bytes at a time.
struct Slow<'a>(&'a [u8], usize);

impl Read for Slow<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = into.len().min(self.1).min(self.0.len());
        let (now, later) = self.0.split_at(length);
        into[..length].copy_from_slice(now);
        self.0 = later;
        Ok(length)
    }
}

fn cut(rows: usize) -> Cut {
    Cut {
        rows,
        bytes: Cut::BYTES,
        per_row: 0,
        weight: Cut::WEIGHT,
    }
}

fn chunks(reader: impl Read, framing: Box<dyn Framing>, cut: Cut) -> Vec<Chunk> {
    let mut cutter = Cutter::new(reader, framing, cut);
    std::iter::from_fn(|| cutter.next_chunk().unwrap()).collect()
}

fn rows_of(chunks: &[Chunk]) -> Vec<Vec<u8>> {
    chunks
        .iter()
        .flat_map(|chunk| chunk.rows.iter().map(|row| chunk.row(*row).to_vec()))
        .collect()
}

proptest! {
    #[test]
    fn every_byte_is_in_one_chunk_and_no_row_in_two(
        text in "([a-z]{0,5},\"[a-z\n,]{0,6}\"\r?\n|[a-z\"\n,]{0,8}){0,12}",
        per_chunk in 1_usize..5,
        step in 1_usize..20,
    ) {
        let all = chunks(text.as_bytes(), Box::new(CsvRows::new(true)), cut(per_chunk));
        let slowly = chunks(Slow(text.as_bytes(), step), Box::new(CsvRows::new(true)), cut(per_chunk));
        let as_one = chunks(text.as_bytes(), Box::new(CsvRows::new(true)), cut(usize::MAX));

        let mut at = 0;
        for (index, chunk) in all.iter().enumerate() {
            prop_assert_eq!((chunk.index, chunk.start), (index as u64, at));
            prop_assert!(chunk.rows.len() <= per_chunk);
            at = chunk.end();
        }
        let together: Vec<u8> = all.iter().flat_map(|chunk| chunk.bytes.clone()).collect();
        prop_assert_eq!(together, text.as_bytes());
        prop_assert_eq!(rows_of(&all), rows_of(&as_one));
        let places = |chunks: &[Chunk]| chunks.iter().map(|chunk| (chunk.start, chunk.end(), chunk.rows.clone())).collect::<Vec<_>>();
        prop_assert_eq!(places(&all), places(&slowly));
    }
}

#[test]
fn chunks_are_cut_at_each_of_their_bounds() {
    let text = "0123456789\n".repeat(100);
    let count = |cut: Cut| chunks(text.as_bytes(), Box::new(Lines::new(false)), cut).len();
    assert_eq!(count(cut(30)), 4);
    assert_eq!(count(Cut { bytes: 110, ..cut(1_000) }), 10);
    assert_eq!(
        count(Cut {
            per_row: 89,
            weight: 1_000,
            ..cut(1_000)
        }),
        10
    );
    assert_eq!(count(cut(1_000)), 1);
}

#[test]
fn a_file_without_rows_has_no_chunk_with_rows() {
    assert!(chunks(&b""[..], Box::new(Lines::new(false)), cut(5)).is_empty());
    let all = chunks(&b"a,b\n\n"[..], Box::new(CsvRows::new(true)), cut(5));
    assert_eq!((all.len(), all[0].rows.len(), all[0].bytes.len()), (1, 0, 5));
}

#[test]
fn a_row_beyond_all_bounds_is_refused_where_it_begins() {
    let text = ["short\n".as_bytes(), &vec![b'x'; MAX_ROW * 2 + BLOCK]].concat();
    let mut cutter = Cutter::new(&text[..], Box::new(Lines::new(false)), cut(5));
    assert!(matches!(cutter.next_chunk(), Err(CutError::RowTooLong(6))));
}

#[test]
fn damage_is_named_by_its_place() {
    let mut cutter = Cutter::new(&b"[{\"a\":1}] x"[..], Box::new(Values::default()), cut(5));
    assert!(matches!(cutter.next_chunk(), Err(CutError::Damaged(10, _))));
}
