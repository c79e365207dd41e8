//! Tables for people.

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use serde_json::Value;

use super::delimited;
use crate::terminal;

/// The whole table: numbers to the right, nothing that a terminal would obey.
pub(super) fn draw(columns: &[String], rows: &[Vec<Value>]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic);
    if !terminal::shows_output() {
        table.set_content_arrangement(ContentArrangement::Disabled);
    }
    table.set_header(columns.iter().map(|name| Cell::new(terminal::harmless(name))));
    for row in rows {
        table.add_row(row.iter().map(cell));
    }
    table
}

fn cell(value: &Value) -> Cell {
    let text = delimited::text(value);
    let cell = Cell::new(terminal::harmless(text.as_deref().unwrap_or("NULL")));
    if value.is_number() {
        cell.set_alignment(CellAlignment::Right)
    } else {
        cell
    }
}
