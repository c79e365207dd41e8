//! What will be done with a file, worked out from its beginning before anything is sent.
//!
//! Promise: what is recognised here is said ([`super::show`]) and holds for the whole file; what cannot be recognised for certain stops the import.
//!
//! Start at [`Plan::make`].

use std::collections::BTreeSet;

use super::chunks::Cut;
use super::format::Format;
use super::frames::{CsvRows, Found, Framing, Lines, Packed, Values};
use super::guess::{Evidence, Kind};
use super::rows::{Column, Delimited, Dialect, Rows};
use super::source::Source;
use super::time::{TimeFormat, TimeRule, Times};
use crate::cli::Import;
use crate::failure::{Exit, Failure, Outcome};
use crate::terminal::harmless;

/// Rows that are looked at.
pub(super) const SAMPLE_ROWS: usize = 10_000;

/// Everything needed to cut a file and to encode its rows.
pub(super) struct Plan {
    pub(super) rows: Rows,
    pub(super) cut: Cut,
    pub(super) sample: Sample,
    /// What the ids of chunks depend on besides their content: options that change what a row means.
    pub(super) meaning: Vec<String>,
    format: Format,
    header: bool,
}

/// What was seen.
pub(super) struct Sample {
    pub(super) rows: u64,
    /// Of these, rows that cannot be read.
    pub(super) unreadable: u64,
    /// For CSV and TSV, of each column.
    pub(super) evidence: Vec<Evidence>,
    pub(super) times: Times,
    /// TSV: whether there are backslashes whose meaning depends on `--no-escapes`.
    pub(super) backslashes: bool,
}

impl Plan {
    /// Looks at the beginning of a file.
    pub(super) fn make(source: &Source, args: &Import) -> Outcome<Self> {
        let delimited = matches!(source.format, Format::Csv | Format::Tsv);
        let told = !args.columns.is_empty() || !args.types.is_empty();
        if told && !delimited {
            return Err(Failure::new(Exit::Usage, "--columns and --types are for CSV and TSV")
                .why(format!("{} holds {}, which says both itself", source.name, source.format)));
        }
        let header = delimited && args.columns.is_empty();
        let mut plan = Self {
            rows: Rows::Json(None),
            cut: Cut {
                rows: args.chunk_rows as usize,
                bytes: Cut::BYTES,
                per_row: 0,
                weight: Cut::WEIGHT,
            },
            sample: Sample {
                rows: 0,
                unreadable: 0,
                evidence: Vec::new(),
                times: Times::default(),
                backslashes: false,
            },
            meaning: Vec::new(),
            format: source.format,
            header,
        };
        let sampled = plan.sampled(source);
        if delimited {
            plan.delimited(source, args, &sampled)?;
        } else {
            plan.nested(source, args, &sampled)?;
        }
        plan.sample.rows = sampled.len() as u64;
        let mut unused = Vec::new();
        for (row, sound) in sampled {
            unused.clear();
            plan.sample.unreadable += u64::from(!plan.rows.encode(row, sound, &mut unused));
        }
        plan.meaning.extend([
            "chunk rows".to_owned(),
            args.chunk_rows.to_string(),
            source.format.name().to_owned(),
        ]);
        Ok(plan)
    }

    /// How rows of this file are found.
    pub(super) fn framing(&self) -> Box<dyn Framing> {
        framing(self.format, self.header)
    }

    /// How the time of rows is known.
    pub(super) fn time(&self) -> Option<&TimeRule> {
        match &self.rows {
            Rows::Delimited(delimited) => delimited.time.as_ref(),
            Rows::Json(time) | Rows::Packed(time) => time.as_ref(),
        }
    }

    fn sampled<'a>(&self, source: &'a Source) -> Vec<(&'a [u8], bool)> {
        let mut framing = self.framing();
        let (mut at, mut rows) = (0, Vec::new());
        while at < source.head.len() && rows.len() < SAMPLE_ROWS {
            let rest = &source.head[at..];
            match framing.next(rest, source.is_short) {
                Ok(Found::Row { from, to, end, sound }) => {
                    rows.push((&rest[from..to], sound));
                    at += end;
                }
                Ok(Found::Between(length)) => at += length,
                // Damage is met again when the file is cut, and told with its place.
                Ok(Found::More) | Err(_) => break,
            }
        }
        rows
    }

    fn delimited(&mut self, source: &Source, args: &Import, sampled: &[(&[u8], bool)]) -> Outcome {
        let dialect = match source.format {
            Format::Csv => Dialect::Csv,
            _ => Dialect::Tsv { escapes: !args.no_escapes },
        };
        let names = if self.header {
            header_names(source, dialect)?
        } else {
            args.columns.clone()
        };
        check_names(source, &names)?;
        let mut evidence = vec![Evidence::default(); names.len()];
        let time_at = names.iter().position(|name| name == time_column(args));
        for (row, _) in sampled.iter().filter(|(_, sound)| *sound) {
            self.sample.backslashes |= dialect == (Dialect::Tsv { escapes: true }) && row.contains(&b'\\');
            let fields = dialect.fields(row);
            if fields.len() != names.len() {
                continue;
            }
            for (at, field) in fields.iter().enumerate() {
                let text = field.as_deref().filter(|field| !field.is_empty());
                let Some(text) = text.and_then(|field| std::str::from_utf8(field).ok()) else {
                    continue;
                };
                evidence[at].see(text);
                if time_at == Some(at) {
                    self.sample.times.see(text);
                }
            }
        }
        let unknown: Vec<&str> = args
            .types
            .iter()
            .map(|(name, _)| name.as_str())
            .chain(args.time_column.as_deref())
            .filter(|name| !names.iter().any(|known| known == name))
            .collect();
        if let Some(unknown) = unknown.first() {
            return Err(Failure::new(Exit::Usage, format!("{} has no column {unknown:?}", source.name))
                .why(format!("its columns are: {}", listed(&names)))
                .next("name one of these"));
        }
        if args.time_column.as_deref().is_some_and(|column| column != events::TIME) && names.iter().any(|name| name == events::TIME) {
            return Err(two_times(source, time_column(args)));
        }
        let time = match time_at {
            Some(_) => Some(self.time_rule(source, args)?),
            None => None,
        };
        let kinds = names.iter().zip(&evidence).map(|(name, evidence)| {
            let given = args.types.iter().rev().find(|(of, _)| of == name);
            given.map_or_else(|| Kind::Guessed(evidence.guess()), |(_, kind)| Kind::Given(*kind))
        });
        let columns: Vec<Column> = names
            .iter()
            .zip(kinds)
            .map(|(name, kind)| Column { name: name.clone(), kind })
            .collect();
        self.cut.per_row = names.iter().map(|name| name.len() + 4).sum();
        // Guessed types are left out: they follow from the content, and should a longer sample guess otherwise, these are the same rows.
        self.meaning.push(format!("{} columns", names.len()));
        self.meaning.extend(names);
        for (name, kind) in &args.types {
            self.meaning.extend(["type".to_owned(), name.clone(), kind.to_string()]);
        }
        self.meaning.push(format!("{dialect:?}"));
        self.sample.evidence = evidence;
        self.rows = Rows::Delimited(Delimited { dialect, columns, time });
        Ok(())
    }

    fn nested(&mut self, source: &Source, args: &Import, sampled: &[(&[u8], bool)]) -> Outcome {
        let column = time_column(args);
        self.rows = match source.format {
            Format::Msgpack | Format::Parquet => Rows::Packed(None),
            _ => Rows::Json(None),
        };
        let mut own = false;
        for (row, _) in sampled {
            self.rows.look_at_time(column, row, &mut |text| self.sample.times.see(text));
            if column != events::TIME {
                self.rows.look_at_time(events::TIME, row, &mut |_| own = true);
            }
        }
        if own {
            return Err(two_times(source, column));
        }
        if args.time_column.is_some() && self.sample.times.values == 0 && !sampled.is_empty() {
            return Err(Failure::new(Exit::Usage, format!("{} has no column {column:?}", source.name))
                .why(format!("none of its first {} rows has it", sampled.len()))
                .next("name the column that says when, or leave --time-column out"));
        }
        let rule = Some(self.time_rule(source, args)?);
        self.rows = match source.format {
            Format::Msgpack | Format::Parquet => Rows::Packed(rule),
            _ => Rows::Json(rule),
        };
        Ok(())
    }

    fn time_rule(&mut self, source: &Source, args: &Import) -> Outcome<TimeRule> {
        let (column, times) = (time_column(args), self.sample.times);
        let format = match (args.time_format, times.format()) {
            (Some(given), _) => given,
            (None, Some(recognised)) => recognised,
            // Should there be one later, this is what clients send.
            (None, None) if times.values == 0 => TimeFormat::Seconds,
            (None, None) => return Err(unclear(source, column, times)),
        };
        self.meaning
            .extend(["time".to_owned(), column.to_owned(), format.name().to_owned()]);
        Ok(TimeRule {
            column: column.to_owned(),
            format,
            given: args.time_format.is_some(),
        })
    }
}

fn framing(format: Format, header: bool) -> Box<dyn Framing> {
    match format {
        Format::Jsonl => Box::new(Lines::new(false)),
        Format::Tsv => Box::new(Lines::new(header)),
        Format::Csv => Box::new(CsvRows::new(header)),
        Format::Json => Box::new(Values::default()),
        Format::Msgpack | Format::Parquet => Box::new(Packed),
    }
}

fn time_column(args: &Import) -> &str {
    args.time_column.as_deref().unwrap_or(events::TIME)
}

fn header_names(source: &Source, dialect: Dialect) -> Outcome<Vec<String>> {
    let refused = |why: &str| {
        Failure::new(Exit::Refused, format!("the first line of {} is no header", source.name))
            .why(why)
            .next("name the columns with --columns a,b,c; then the first line is a row")
    };
    let mut framing = framing(source.format, false);
    let mut at = 0;
    while at < source.head.len() {
        let rest = &source.head[at..];
        match framing.next(rest, source.is_short) {
            Ok(Found::Row { from, to, sound: true, .. }) => {
                let fields = dialect.fields(&rest[from..to]);
                let names = fields
                    .iter()
                    .map(|field| String::from_utf8(field.as_deref().unwrap_or_default().to_vec()));
                return names.collect::<Result<_, _>>().map_err(|_| refused("it is not UTF-8"));
            }
            Ok(Found::Between(length)) => at += length,
            _ => return Err(refused("it cannot be read as a row")),
        }
    }
    Ok(Vec::new())
}

fn check_names(source: &Source, names: &[String]) -> Outcome {
    let mut known = BTreeSet::new();
    for (at, name) in names.iter().enumerate() {
        let why = if name.is_empty() {
            format!("column {} has no name", at + 1)
        } else if !known.insert(name) {
            format!("two columns are called {name:?}")
        } else {
            continue;
        };
        return Err(
            Failure::new(Exit::Refused, format!("the columns of {} cannot be told apart", source.name))
                .why(why)
                .next("name them with --columns a,b,c; the first line is a row then, so take the header out"),
        );
    }
    Ok(())
}

fn two_times(source: &Source, column: &str) -> Failure {
    Failure::new(Exit::Refused, format!("{} says twice when its rows happened", source.name))
        .why(format!(
            "rows have a column {:?} beside {column:?}, and a table has one time",
            events::TIME
        ))
        .next("rename one of the two in the file")
}

fn unclear(source: &Source, column: &str, times: Times) -> Failure {
    let all = [
        TimeFormat::Seconds,
        TimeFormat::Milliseconds,
        TimeFormat::Microseconds,
        TimeFormat::Iso8601,
    ];
    let mut kinds: Vec<String> = all
        .iter()
        .filter(|format| times.counts[**format as usize] > 0)
        .map(|format| format!("{} {}", times.counts[*format as usize], format.name()))
        .collect();
    let others = times.values - times.counts.iter().sum::<u64>();
    if others > 0 {
        kinds.push(format!("{others} that could be several things or none"));
    }
    Failure::new(Exit::Refused, format!("the times of {} are not clear", source.name))
        .why(format!(
            "of the first {} in column {column:?} there are {}",
            times.values,
            kinds.join(", ")
        ))
        .next("say what they are with --time-format; rows that are otherwise cannot be read")
}

fn listed(names: &[String]) -> String {
    const MOST: usize = 40;
    let mut text = names.iter().take(MOST).map(|name| harmless(name)).collect::<Vec<_>>().join(", ");
    if names.len() > MOST {
        text.push_str(", …");
    }
    text
}

#[cfg(test)]
mod tests;
