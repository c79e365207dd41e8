//! Which cells of a column of texts were sent as something else.
//!
//! A column that has to hold a text and a number holds texts. Its field says which cells were numbers, so that each can still be told
//! as it was sent: the raw log loses nothing to a neighbour in the same batch.
//!
//! Invariant: runs are in order and do not overlap. A run may span nulls, never a cell that was sent as text.

use std::fmt::Write;

use arrow::datatypes::Field;

/// The key in a field's metadata under which they travel.
const KEY: &str = "kinds";

/// What a cell of a column of texts was sent as, when not as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    Long,
    Double,
    /// A number that neither long nor double holds exactly: its digits.
    Number,
    Json,
}

impl Kind {
    const LETTERS: [(Self, char); 5] = [
        (Self::Bool, 'b'),
        (Self::Long, 'l'),
        (Self::Double, 'd'),
        (Self::Number, 'n'),
        (Self::Json, 'j'),
    ];

    fn letter(self) -> char {
        Self::LETTERS
            .iter()
            .find(|(kind, _)| *kind == self)
            .map_or('?', |(_, letter)| *letter)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    kind: Kind,
    from: u32,
    to: u32,
}

/// The kinds of the cells of one column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Kinds {
    runs: Vec<Run>,
    /// A text came after the last run.
    ended: bool,
}

impl Kinds {
    /// The cell of this row, after all others so far, is of this kind.
    pub(crate) fn note(&mut self, row: usize, kind: Kind) {
        // Rows of a batch are far fewer than 2^32.
        let row = u32::try_from(row).unwrap_or(u32::MAX - 1);
        match self.runs.last_mut() {
            Some(last) if last.kind == kind && !self.ended => last.to = row + 1,
            _ => self.runs.push(Run {
                kind,
                from: row,
                to: row + 1,
            }),
        }
        self.ended = false;
    }

    /// The next cell is a text.
    #[inline]
    pub(crate) fn text(&mut self) {
        self.ended = true;
    }

    /// All cells of the first `rows` are of this kind, or null.
    pub(crate) fn fill(&mut self, rows: usize, kind: Kind) {
        self.clear();
        if rows > 0 {
            self.note(rows - 1, kind);
            self.runs[0].from = 0;
        }
    }

    /// Forgets the rows from `rows` on.
    pub(crate) fn truncate(&mut self, rows: usize) {
        while let Some(last) = self.runs.last_mut() {
            if last.from as usize >= rows {
                self.runs.pop();
                self.ended = true;
            } else {
                last.to = last.to.min(u32::try_from(rows).unwrap_or(u32::MAX));
                return;
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The field with the kinds in its metadata, in place of what it said before.
    pub(crate) fn noted_in(&self, field: Field) -> Field {
        let mut metadata = field.metadata().clone();
        metadata.remove(KEY);
        if self.runs.is_empty() {
            return field.with_metadata(metadata);
        }
        let mut text = String::with_capacity(self.runs.len() * 8);
        for Run { kind, from, to } in &self.runs {
            let _ = match to - from {
                1 => write!(text, "{}{from}", kind.letter()),
                _ => write!(text, "{}{from}-{to}", kind.letter()),
            };
        }
        metadata.insert(KEY.to_owned(), text);
        field.with_metadata(metadata)
    }

    /// What a field says. Nothing, where it says what cannot be.
    pub(crate) fn of(field: &Field) -> Self {
        let runs = field.metadata().get(KEY).and_then(|text| read(text)).unwrap_or_default();
        Self { runs, ended: true }
    }

    /// Those of the rows that are kept, in their new places.
    pub(crate) fn kept(&self, keep: &[bool]) -> Self {
        let mut kinds = Self::default();
        for (row, old) in keep.iter().enumerate().filter(|(_, keep)| **keep).map(|(old, _)| old).enumerate() {
            match self.at(old) {
                Some(kind) => kinds.note(row, kind),
                None => kinds.text(),
            }
        }
        kinds
    }

    /// The kind of the cell in this row; `None` for a text.
    pub(crate) fn at(&self, row: usize) -> Option<Kind> {
        let after = self.runs.partition_point(|run| run.from as usize <= row);
        let run = self.runs.get(after.checked_sub(1)?)?;
        ((run.to as usize) > row).then_some(run.kind)
    }
}

fn read(text: &str) -> Option<Vec<Run>> {
    let mut runs: Vec<Run> = Vec::new();
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let (kind, _) = Kind::LETTERS.into_iter().find(|(_, known)| *known == letter)?;
        rest = rest.get(1..)?;
        let end = rest.find(|c: char| c.is_ascii_lowercase()).unwrap_or(rest.len());
        let (rows, after) = rest.split_at(end);
        rest = after;
        let (from, to) = match rows.split_once('-') {
            Some((from, to)) => (from.parse().ok()?, to.parse().ok()?),
            None => {
                let row: u32 = rows.parse().ok()?;
                (row, row.checked_add(1)?)
            }
        };
        if from >= to || runs.last().is_some_and(|last| last.to > from) {
            return None;
        }
        runs.push(Run { kind, from, to });
    }
    Some(runs)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;
    use proptest::prelude::*;

    use super::*;

    fn any_kind() -> impl Strategy<Value = Option<Kind>> {
        proptest::option::of(proptest::sample::select(Kind::LETTERS.map(|(kind, _)| kind).to_vec()))
    }

    proptest! {
        #[test]
        fn a_field_says_of_every_cell_what_it_was(cells in proptest::collection::vec(any_kind(), 0..40), kept in 0usize..50) {
            let mut kinds = Kinds::default();
            for (row, cell) in cells.iter().enumerate() {
                match cell {
                    Some(kind) => kinds.note(row, *kind),
                    None => kinds.text(),
                }
            }
            kinds.truncate(kept);
            let field = kinds.noted_in(Field::new("x", DataType::Utf8, true));
            let read = Kinds::of(&field);
            for (row, cell) in cells.iter().enumerate() {
                prop_assert_eq!(read.at(row), if row < kept { *cell } else { None });
            }
        }
    }

    #[test]
    fn what_was_a_column_of_one_kind_is_told_by_one_run() {
        let mut kinds = Kinds::default();
        kinds.fill(0, Kind::Bool);
        assert_eq!(kinds, Kinds::default());
        kinds.fill(7, Kind::Long);
        assert_eq!((kinds.at(0), kinds.at(6), kinds.at(7)), (Some(Kind::Long), Some(Kind::Long), None));
        assert_eq!(kinds.runs.len(), 1);
    }

    #[test]
    fn metadata_that_says_what_cannot_be_says_nothing() {
        for wrong in ["x", "l", "l-3", "l3-3", "l5l4", "l1-9l3", "l99999999999", "é1"] {
            let field = Field::new("x", DataType::Utf8, true).with_metadata([(KEY.to_owned(), wrong.to_owned())].into());
            assert_eq!(Kinds::of(&field).runs, [], "{wrong}");
        }
    }
}
