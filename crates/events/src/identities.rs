//! Identity columns: their distinct values taken out for translation, and ids put in their place.
//!
//! Promise: after [`replace`] no text of these columns is in the batch any more.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, Int64Array},
    datatypes::{Field, Schema},
    error::ArrowError,
    record_batch::RecordBatch,
};
use base::{ColumnNames, ErrorKind, Secret};

use crate::{AdaptError, Seen, field, widen::cells_as_text};

/// Why ids could not be put in place of identities, or sealed texts in place of personal values.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    /// Not one id for each identity.
    #[error("{ids} ids came for {identities} identities")]
    Count {
        /// How many identities were asked for.
        identities: usize,
        /// How many ids came.
        ids: usize,
    },
    /// Not one sealed value for each.
    #[error("{sealed} sealed values came for {values} personal values")]
    SealedCount {
        /// How many personal values were asked for.
        values: usize,
        /// How many sealed ones came.
        sealed: usize,
    },
    /// What was gathered is of another batch or other columns.
    #[error("what was gathered is not of this batch")]
    OtherBatch,
    /// Sealed, a column is larger than one may be.
    #[error("a personal column is too large once sealed")]
    TooMuchText,
    /// Arrow could not make the batch.
    #[error("the batch could not be rebuilt")]
    Arrow(#[from] ArrowError),
}

impl ReplaceError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::TooMuchText => ErrorKind::TooLarge,
            _ => ErrorKind::Internal,
        }
    }
}

/// The distinct identities of a batch, each once, and where each stood.
///
/// The same text from a number and from a string (42 and "42") is one identity. Empty text is none.
#[derive(Debug, Default)]
pub struct Distinct {
    values: Vec<Secret>,
    /// Per identity column of the batch: its index there, and per row which value, or [`NOBODY`].
    cells: Vec<(usize, Vec<u32>)>,
}

const NOBODY: u32 = u32::MAX;

/// Identities of one row that [`Together`] names: as many as columns can be declared. More there are only where one is spelled in
/// several ways.
const MOST_TOGETHER: usize = 32;

/// Which identities of a batch stand in one row.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Together {
    /// Per identity, in order of [`Distinct::values`], which of the declared columns it stands in: of several the one declared first.
    pub columns: Vec<u32>,
    /// Rows with several, each combination once, in order of first sight: places among the identities.
    pub rows: Vec<Vec<u32>>,
}

impl Distinct {
    /// The identities, in order of first sight.
    pub fn values(&self) -> &[Secret] {
        &self.values
    }

    /// Per identity column its place among the declared ones and who stands in it, as declared first to last.
    fn in_order(&self, batch: &RecordBatch, declared: &[String]) -> Vec<(Option<usize>, &Vec<u32>)> {
        let schema = batch.schema();
        let declared = ColumnNames::new(declared);
        let place = |index: usize| {
            let name = schema.fields().get(index).map(|field| field.name().as_str()).unwrap_or_default();
            declared.position(name)
        };
        let mut columns: Vec<_> = self.cells.iter().map(|(index, cells)| (place(*index), cells)).collect();
        columns.sort_by_key(|(place, _)| *place);
        columns
    }

    /// Who stands in one row with whom.
    pub fn together(&self, batch: &RecordBatch, declared: &[String]) -> Together {
        let columns = self.in_order(batch, declared);
        let mut of = vec![u32::MAX; self.values.len()];
        for (place, cells) in &columns {
            // There are as many columns as one can declare.
            let place = place.map_or(u32::MAX, |place| place as u32);
            for cell in cells.iter().filter(|cell| **cell != NOBODY) {
                if let Some(known) = of.get_mut(*cell as usize) {
                    *known = place.min(*known);
                }
            }
        }
        let mut seen = HashSet::new();
        let mut rows = Vec::new();
        for row in 0..batch.num_rows() {
            let mut members: Vec<u32> = Vec::new();
            for cell in columns.iter().filter_map(|(_, cells)| cells.get(row).copied()) {
                if cell != NOBODY && members.len() < MOST_TOGETHER && !members.contains(&cell) {
                    members.push(cell);
                }
            }
            if members.len() > 1 && seen.insert(members.clone()) {
                rows.push(members);
            }
        }
        Together { columns: of, rows }
    }

    /// Per row who owns it, as a place among the values: whoever stands in the first of the declared columns that has somebody.
    pub(crate) fn owners(&self, batch: &RecordBatch, declared: &[String]) -> Vec<Option<u32>> {
        let columns = self.in_order(batch, declared);
        let owner = |row: usize| {
            let mut cells = columns.iter().filter_map(|(_, cells)| cells.get(row).copied());
            cells.find(|cell| *cell != NOBODY)
        };
        (0..batch.num_rows()).map(owner).collect()
    }

    /// Whether there is nothing to translate. [`replace`] is still needed: empty texts go.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

/// Gathers the distinct identities of those `columns` that the batch has. `Email` is meant by `email` and `PRÉNOM` by `prénom`
/// ([`base::folded`]): the spelling of a key must not decide who learns of a person.
pub fn distinct(batch: &RecordBatch, columns: &[String]) -> Result<Distinct, AdaptError> {
    let schema = batch.schema();
    let columns = ColumnNames::new(columns);
    let mut found = Vec::new();
    for (index, field) in schema.fields().iter().enumerate().skip(1) {
        if columns.contains(field.name()) {
            found.push((index, cells_as_text(batch.column(index))?));
        }
    }
    let mut numbers: HashMap<&str, u32> = HashMap::new();
    let mut values = Vec::new();
    let mut cells = Vec::new();
    for (index, texts) in &found {
        let rows = texts.iter().map(|text| match text {
            None | Some("") => NOBODY,
            Some(text) => *numbers.entry(text).or_insert_with(|| {
                values.push(Secret::new(text.to_owned()));
                // Rows are far fewer than 2^32: a column's offsets have 31 bits.
                (values.len() - 1) as u32
            }),
        });
        cells.push((*index, rows.collect()));
    }
    Ok(Distinct { values, cells })
}

/// The key in a field's metadata that says that ids stand here in place of identities.
const TRANSLATED: &str = "translated";

fn translated(name: &str) -> Field {
    let field = field(name, Seen::LONG | Seen::BIG_LONG);
    let mut metadata = field.metadata().clone();
    metadata.insert(TRANSLATED.to_owned(), String::new());
    field.with_metadata(metadata)
}

/// Whether ids stand in this column in place of identities: [`replace`] made it.
pub fn is_translated(field: &Field) -> bool {
    field.metadata().contains_key(TRANSLATED)
}

/// The batch with ids in place of identities, in order of [`Distinct::values`]. The columns become longs; nobody becomes null.
pub fn replace(batch: &RecordBatch, distinct: &Distinct, ids: &[i64]) -> Result<RecordBatch, ReplaceError> {
    if ids.len() != distinct.values.len() {
        return Err(ReplaceError::Count {
            identities: distinct.values.len(),
            ids: ids.len(),
        });
    }
    let schema = batch.schema();
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    let mut arrays: Vec<ArrayRef> = batch.columns().to_vec();
    for (index, cells) in &distinct.cells {
        if *index >= arrays.len() || cells.len() != batch.num_rows() {
            return Err(ReplaceError::OtherBatch);
        }
        let rows: Int64Array = cells.iter().map(|cell| ids.get(*cell as usize).copied()).collect();
        fields[*index] = Arc::new(translated(schema.field(*index).name()));
        arrays[*index] = Arc::new(rows);
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}

#[cfg(test)]
mod tests {
    use arrow::{array::AsArray, datatypes::Int64Type};

    use super::*;
    use crate::{model::decoded, seen_of};

    #[test]
    fn identities_leave_the_batch_and_ids_take_their_place() {
        // {"u": 42, "e": "ada", "x": "ada"} {"u": "42", "e": ""} {"u": nil, "e": "bob"}
        let body = [
            &[
                0x83, 0xa1, b'u', 42, 0xa1, b'e', 0xa3, b'a', b'd', b'a', 0xa1, b'x', 0xa3, b'a', b'd', b'a',
            ][..],
            &[0x82, 0xa1, b'u', 0xa2, b'4', b'2', 0xa1, b'e', 0xa0],
            &[0x82, 0xa1, b'u', 0xc0, 0xa1, b'e', 0xa3, b'b', b'o', b'b'],
        ]
        .concat();
        let batch = decoded(&body);
        let columns = ["e", "u", "absent", "time"].map(str::to_owned);

        let found = distinct(&batch, &columns).unwrap();
        let batch = replace(&batch, &found, &[100, 200, 300]).unwrap();

        let texts: Vec<_> = found.values().iter().map(Secret::reveal).collect();
        assert_eq!(texts, ["42", "ada", "bob"]);
        assert!(!format!("{found:?}").contains("ada"));
        let column = |name| {
            batch
                .column_by_name(name)
                .unwrap()
                .as_primitive::<Int64Type>()
                .iter()
                .collect::<Vec<_>>()
        };
        assert_eq!(column("u"), [Some(100), Some(100), None]);
        assert_eq!(column("e"), [Some(200), None, Some(300)]);
        assert_eq!(column("time"), [Some(0), Some(0), Some(0)]);
        assert_eq!(seen_of(batch.schema().field_with_name("u").unwrap()), Seen::LONG | Seen::BIG_LONG);
        assert_eq!(batch.column_by_name("x").unwrap().as_string::<i32>().value(0), "ada");
    }

    #[test]
    fn a_column_is_one_of_identities_however_its_name_is_typed() {
        let keys = ["prénom", "PRÉNOM", "pre\u{301}nom", "PRE\u{301}NOM", "\u{a0}Prénom ", "ｐｒéｎｏｍ"];
        let body: Vec<u8> = keys
            .iter()
            .flat_map(|key| [&[0x81, 0xa0 + key.len() as u8][..], key.as_bytes(), b"\xa3ada"].concat())
            .collect();
        let batch = decoded(&body);
        for declared in keys {
            let columns = [declared.to_owned()];
            let found = distinct(&batch, &columns).unwrap();
            let batch = replace(&batch, &found, &[100]).unwrap();
            let ids = batch.columns().iter().skip(1).map(|column| column.as_primitive_opt::<Int64Type>());
            assert_eq!((ids.flatten().count(), found.values().len()), (keys.len(), 1), "{declared}");
            assert_eq!(found.owners(&batch, &columns), [Some(0); 6], "{declared}");
        }
        let found = distinct(&batch, &["prenom".to_owned()]).unwrap();
        assert!(found.is_empty(), "another letter is another name");
    }

    #[test]
    fn who_stands_in_one_row_is_told_once() {
        // {"e": "ada", "d": "x"} {"d": "x", "e": "ada"} {"d": "y"} {"d": "y", "e": "y"} {"D": "z", "d": "y", "e": "ada"}
        let body: &[&[u8]] = &[
            b"\x82\xa1e\xa3ada\xa1d\xa1x",
            b"\x82\xa1d\xa1x\xa1e\xa3ada",
            b"\x81\xa1d\xa1y",
            b"\x82\xa1d\xa1y\xa1e\xa1y",
            b"\x83\xa1D\xa1z\xa1d\xa1y\xa1e\xa3ada",
        ];
        let batch = decoded(&body.concat());
        let declared = ["e", "absent", "d"].map(str::to_owned);
        let found = distinct(&batch, &declared).unwrap();
        let place = |text: &str| found.values().iter().position(|value| value.reveal() == text).unwrap();

        let together = found.together(&batch, &declared);

        let column = |text| together.columns[place(text)];
        assert_eq!((column("ada"), column("x"), column("y"), column("z")), (0, 2, 0, 2));
        let rows: Vec<Vec<&str>> = together
            .rows
            .iter()
            .map(|row| row.iter().map(|place| found.values()[*place as usize].reveal()).collect())
            .collect();
        assert_eq!(rows.len(), 2, "{rows:?}");
        assert_eq!(rows[0], ["ada", "x"]);
        assert_eq!((rows[1][0], rows[1].len()), ("ada", 3));
    }

    #[test]
    fn ids_of_another_count_or_batch_are_refused() {
        let one = decoded(&[0x81, 0xa1, b'u', 1]);
        let none = decoded(&[]);
        let found = distinct(&one, &["u".to_owned()]).unwrap();

        assert!(matches!(
            replace(&one, &found, &[]),
            Err(ReplaceError::Count { identities: 1, ids: 0 })
        ));
        assert!(matches!(replace(&none, &found, &[1]), Err(ReplaceError::OtherBatch)));
    }
}
