//! What was recognised, said to a person before anything is sent. Names of columns, types and forms; never a value.

use super::format::Compression;
use super::guess::{Kind, is_named_like_identity};
use super::plan::Plan;
use super::rows::Rows;
use super::source::Source;
use crate::terminal::{grouped, harmless};

/// More columns are counted, not listed.
const MOST_COLUMNS: usize = 60;
const WIDEST_NAME: usize = 32;

/// Lines about one file.
pub(super) fn lines(source: &Source, plan: &Plan) -> Vec<String> {
    let packed = match source.compression {
        Compression::None => String::new(),
        packed => format!(" in {}", packed.name()),
    };
    let mut lines = vec![format!("{}: {}{packed}", source.name, source.format)];
    columns(source, plan, &mut lines);
    lines.push(format!("  time: {}", time(plan)));
    if plan.sample.backslashes {
        lines.push(
            "  \\t, \\n, \\r, \\\\ and \\N are read as tab, line feed, return, backslash and nothing; --no-escapes leaves them".into(),
        );
    }
    if plan.sample.unreadable > 0 {
        lines.push(format!(
            "  {} of the first {} rows cannot be read: the server will set them aside",
            grouped(plan.sample.unreadable),
            grouped(plan.sample.rows)
        ));
    }
    lines
}

fn columns(source: &Source, plan: &Plan, lines: &mut Vec<String>) {
    let Rows::Delimited(delimited) = &plan.rows else {
        let names = source.columns.iter().map(|(name, kind)| format!("{} {kind}", harmless(name)));
        let names: Vec<String> = names.take(MOST_COLUMNS).collect();
        if !names.is_empty() {
            lines.push(format!("  columns: {}", names.join(", ")));
        }
        return;
    };
    let shown = delimited.columns.iter().zip(&plan.sample.evidence);
    let rows: Vec<[String; 4]> = shown
        .take(MOST_COLUMNS)
        .map(|(column, evidence)| {
            let is_time = delimited
                .time
                .as_ref()
                .is_some_and(|rule| rule.column == column.name && rule.replaces());
            let kind = match column.kind {
                _ if is_time => "time".to_owned(),
                Kind::Given(kind) => format!("{kind} (as you say)"),
                Kind::Guessed(kind) => kind.to_string(),
            };
            let form = if is_named_like_identity(&column.name) {
                "(not shown)".to_owned()
            } else if !is_time && matches!(column.kind, Kind::Guessed(_)) && evidence.is_numbers_as_text() {
                format!(
                    "{}  (1.50 would become 1.5 in a number; --types {}=double if it may)",
                    evidence.shape.as_deref().unwrap_or_default(),
                    harmless(&column.name)
                )
            } else {
                evidence.shape.clone().unwrap_or_default()
            };
            [shortened(&harmless(&column.name)), kind, grouped(evidence.seen), form]
        })
        .collect();
    if rows.is_empty() {
        return;
    }
    let head = ["column", "type", "values", "such as"].map(str::to_owned);
    let width = |at: usize| {
        rows.iter()
            .chain([&head])
            .map(|row| row[at].chars().count())
            .max()
            .unwrap_or_default()
    };
    let (name, kind, seen) = (width(0), width(1), width(2));
    for row in [&head].into_iter().chain(&rows) {
        let line = format!("  {:<name$}  {:<kind$}  {:>seen$}  {}", row[0], row[1], row[2], row[3]);
        lines.push(line.trim_end().to_owned());
    }
    let more = delimited.columns.len().saturating_sub(MOST_COLUMNS);
    if more > 0 {
        lines.push(format!("  and {more} more columns"));
    }
    lines.push(format!(
        "  types are guessed from the first {} rows; a value that does not fit is sent as the text it is",
        grouped(plan.sample.rows)
    ));
}

fn time(plan: &Plan) -> String {
    let Some(rule) = plan.time() else {
        return "there is no column `time`: rows get the time at which they arrive (--time-column names another)".into();
    };
    let column = harmless(&rule.column);
    let says = if rule.given { "as you say" } else { "recognised" };
    match plan.sample.times.values {
        0 if rule.given => format!("{column}, {}; none of the first rows has one", rule.format.in_words()),
        0 => format!("none of the first rows has one in {column}: rows without one get the time at which they arrive"),
        _ => format!("{column}, {says} as {}", rule.format.in_words()),
    }
    .replace("as you say as", "as you say,")
}

fn shortened(name: &str) -> String {
    if name.chars().count() <= WIDEST_NAME {
        return name.to_owned();
    }
    name.chars().take(WIDEST_NAME - 1).chain(['…']).collect()
}
