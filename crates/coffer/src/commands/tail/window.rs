//! Which of the newest rows are new since the last look.
//!
//! Rows have no number, and those of one second come in no order. So two looks are compared as bags: what is in the second more often
//! than in the first has arrived in between.

use std::collections::HashMap;

use serde_json::Value;

use crate::failure::{Exit, Failure, Outcome};
use crate::msgpack::read;

/// Names and values, in order.
pub(super) type Row = Vec<(String, Value)>;

/// Rows as the server sends them, turned round: the oldest first.
pub(super) fn rows_of(bytes: &[u8]) -> Outcome<Vec<Row>> {
    let (mut rows, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        match read::value(&bytes[at..]) {
            Ok((Value::Object(row), length)) => {
                let mut row: Row = row.into_iter().collect();
                // The time first, as in tables.
                row.sort_by_key(|(name, _)| name != events::TIME);
                rows.push(row);
                at += length;
            }
            _ => return Err(Failure::new(Exit::Unverified, "the answer is no list of rows").next("is it a coffer of this version?")),
        }
    }
    rows.reverse();
    Ok(rows)
}

/// The columns of rows in the order in which they first appear.
pub(super) fn columns(rows: &[Row]) -> Vec<String> {
    let mut columns: Vec<String> = Vec::new();
    for (name, _) in rows.iter().flatten() {
        if !columns.contains(name) {
            columns.push(name.clone());
        }
    }
    columns
}

/// The last look.
#[derive(Debug, Default)]
pub(super) struct Window {
    known: HashMap<String, usize>,
}

/// What a look shows beyond the last one.
#[derive(Debug, Default, PartialEq)]
pub(super) struct New {
    pub(super) rows: Vec<Row>,
    /// Nothing of the last look is in this one: rows may have come and gone in between.
    pub(super) missed: bool,
}

impl Window {
    /// Takes the next look, oldest first.
    pub(super) fn advance(&mut self, rows: &[Row]) -> New {
        let mut left = std::mem::take(&mut self.known);
        let had = !left.is_empty();
        let mut new = New::default();
        let mut met = false;
        for row in rows {
            let print = print_of(row);
            match left.get_mut(&print) {
                Some(count) if *count > 0 => {
                    *count -= 1;
                    met = true;
                }
                _ => new.rows.push(row.clone()),
            }
            *self.known.entry(print).or_default() += 1;
        }
        new.missed = had && !met && !rows.is_empty();
        new
    }
}

/// A row's values as texts: a column that became wider in between shows the same text.
fn print_of(row: &Row) -> String {
    let mut parts: Vec<String> = row
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                    (None, Some(double)) if !number.is_u64() => events::double_text(double),
                    _ => number.to_string(),
                },
                other => other.to_string(),
            };
            format!("{}:{name}={}:{text}", name.len(), text.len())
        })
        .collect();
    parts.sort();
    parts.join(";")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(time: i64, value: Value) -> Row {
        vec![("time".into(), json!(time)), ("n".into(), value)]
    }

    #[test]
    fn a_row_is_new_once_however_the_rest_moves() {
        let mut window = Window::default();
        assert_eq!(window.advance(&[row(1, json!(1)), row(2, json!(2))]).rows.len(), 2);
        assert_eq!(window.advance(&[row(1, json!(1)), row(2, json!(2))]), New::default());
        // Rows of one second in another order, one of them twice now, and one that fell out.
        let new = window.advance(&[row(2, json!(3)), row(2, json!(2)), row(2, json!(2))]);
        assert_eq!(new.rows, [row(2, json!(3)), row(2, json!(2))]);
        assert!(!new.missed);
    }

    #[test]
    fn a_column_that_became_wider_makes_no_row_new() {
        let mut window = Window::default();
        window.advance(&[row(1, json!(5)), row(1, json!(2.5))]);
        assert_eq!(window.advance(&[row(1, json!("5")), row(1, json!("2.5"))]), New::default());
        let mut more = row(1, json!(5.0));
        more.push(("later".into(), Value::Null));
        assert_eq!(window.advance(&[more, row(1, json!(2.5))]), New::default());
    }

    #[test]
    fn a_gap_is_noticed() {
        let mut window = Window::default();
        assert!(!window.advance(&[]).missed);
        assert!(!window.advance(&[row(1, json!(1))]).missed);
        assert!(window.advance(&[row(5, json!(5))]).missed);
    }

    #[test]
    fn rows_come_the_oldest_first_with_the_time_in_front() {
        let bytes = [
            &[0x82, 0xa1, b'a', 7, 0xa4, b't', b'i', b'm', b'e', 9][..],
            &[0x81, 0xa4, b't', b'i', b'm', b'e', 8],
        ]
        .concat();
        let rows = rows_of(&bytes).unwrap();
        assert_eq!(rows[0], [("time".to_owned(), json!(8))]);
        assert_eq!(columns(&rows), ["time", "a"]);
        assert_eq!(rows_of(&[0x93, 1, 2, 3]).unwrap_err().exit, Exit::Unverified);
    }
}
