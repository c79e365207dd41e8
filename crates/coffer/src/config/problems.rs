//! Finding every problem, not just the first: what does not fit is taken out and the rest is read again.

use std::fmt;
use std::path::Path;

use base::Role;
use serde::Deserialize;
use toml::de::{DeTable, DeValue, Deserializer};
use zones::Place;
use zones::s3::Address;

use super::Shape;

/// One thing that is wrong, and where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    place: String,
    message: String,
}

impl Problem {
    pub(super) fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// No file has more problems than anybody wants to read.
const MOST: usize = 100;

/// What a file says, without what is wrong with it.
pub(super) fn file(path: &Path, text: &str, problems: &mut Vec<Problem>) -> toml::Table {
    let line = |at: usize| text.get(..at).map_or(1, |before| before.matches('\n').count() + 1);
    let place = |at: Option<usize>| match at {
        Some(at) => format!("{}:{}", path.display(), line(at)),
        None => path.display().to_string(),
    };
    let (mut root, broken) = DeTable::parse_recoverable(text);
    let unreadable = !broken.is_empty();
    problems.extend(broken.iter().map(|e| Problem::new(place(e.span().map(|s| s.start)), e.message())));
    if unreadable {
        // What was recovered from broken syntax may stand in the wrong section; judging it would only confuse.
        return toml::Table::new();
    }
    while problems.len() < MOST {
        let Err(error) = Shape::deserialize(Deserializer::from(root.clone())) else {
            break;
        };
        let at = error.span();
        problems.push(Problem::new(place(at.as_ref().map(|s| s.start)), with_hint(error.message())));
        if !at.is_some_and(|span| remove(root.get_mut(), &span)) {
            break;
        }
    }
    toml::Table::deserialize(Deserializer::from(root)).unwrap_or_default()
}

/// Takes the innermost entry out whose name or value covers `span`.
fn remove(table: &mut DeTable<'_>, span: &std::ops::Range<usize>) -> bool {
    let covers = |outer: std::ops::Range<usize>| outer.start <= span.start && span.end <= outer.end;
    let mut found = None;
    for (name, value) in table.iter_mut() {
        if name.span() == *span {
            found = Some(name.clone());
            break;
        }
        let inside = match value.get_mut() {
            DeValue::Table(inner) => remove(inner, span),
            DeValue::Array(items) => items.iter_mut().any(|item| match item.get_mut() {
                DeValue::Table(inner) => remove(inner, span),
                _ => false,
            }),
            _ => false,
        };
        if inside {
            return true;
        }
        if covers(value.span()) || covers(name.span()) {
            found = Some(name.clone());
            break;
        }
    }
    found.is_some_and(|name| table.remove(&name).is_some())
}

/// Variables that the commands themselves read.
const OURS: &[&str] = &[
    "COFFER_CONFIG",
    "COFFER_DATA",
    "COFFER_DATABASE",
    "COFFER_ENDPOINT",
    "COFFER_CA",
    "COFFER_LOG",
    "COFFER_LOG_FORMAT",
    "COFFER_WRITE_KEY",
    "COFFER_READ_KEY",
    "COFFER_ADMIN_KEY",
    "COFFER_REVEAL_KEY",
];

/// What a variable says goes into `table`, when it fits.
pub(super) fn variable(name: &str, value: &str, table: &mut toml::Table, problems: &mut Vec<Problem>) {
    if OURS.contains(&name) {
        return;
    }
    let key = name.trim_start_matches("COFFER_").to_ascii_lowercase();
    let path: Vec<&str> = key.split("__").collect();
    // `true`, `5` and `["a"]` are what they look like; everything else is a text.
    let texts = [format!("x = {value}"), format!("x = {}", toml::Value::String(value.to_owned()))];
    let tries = texts.iter().filter_map(|text| text.parse::<toml::Table>().ok()?.remove("x"));
    let mut first_error = None;
    for value in tries {
        let mut alone = toml::Table::new();
        put(&mut alone, &path, value.clone());
        match alone.try_into::<Shape>() {
            Ok(_) => return put(table, &path, value),
            Err(error) => first_error = first_error.or(Some(with_hint(error.message()))),
        }
    }
    // Never the value: it may be a secret in the wrong variable.
    problems.push(Problem::new(name, first_error.unwrap_or_else(|| "not a value".into())));
}

fn put(table: &mut toml::Table, path: &[&str], value: toml::Value) {
    match path {
        [] => {}
        [last] => drop(table.insert((*last).to_owned(), value)),
        [first, rest @ ..] => {
            let entry = table.entry((*first).to_owned()).or_insert_with(|| toml::Table::new().into());
            if !entry.is_table() {
                *entry = toml::Table::new().into();
            }
            if let Some(inner) = entry.as_table_mut() {
                put(inner, rest, value);
            }
        }
    }
}

/// What can be judged only when all is read.
pub(super) fn together(shape: &Shape, problems: &mut Vec<Problem>) {
    let certificate = &shape.certificate;
    if certificate.chain.is_some() != certificate.key.is_some() {
        problems.push(Problem::new(
            "certificate",
            "chain and key belong together: give both, or neither and the vault issues one",
        ));
    }
    if certificate.chain.is_some() && !certificate.names.is_empty() {
        problems.push(Problem::new(
            "certificate.names",
            "only a certificate from the vault takes names; yours has its own",
        ));
    }
    zones(shape, problems);
    if shape
        .listen
        .plain
        .is_some_and(|plain| plain.port() != 0 && plain == shape.listen.public)
    {
        problems.push(Problem::new("listen.plain", "the same address as listen.public"));
    }
}

/// A role may write wherever its zones lie, and next to them: so that no role reaches another's, nothing may lie there but its own.
fn zones(shape: &Shape, problems: &mut Vec<Problem>) {
    let mut parents: Vec<(Role, &Path)> = Vec::new();
    let mut stores: Vec<(Role, Address)> = Vec::new();
    let mut keys: Vec<(Role, &Path)> = Vec::new();
    for (role, settings) in shape.zones() {
        let place = format!("{role}.zones");
        if settings.zones.is_empty() {
            continue;
        }
        if let Err(error) = settings.check() {
            problems.push(Problem::new(place.as_str(), error.to_string()));
        }
        stores.extend(settings.stores().into_iter().map(|address| (role, address)));
        let files = settings.zones.iter().filter_map(|zone| zone.credentials.as_deref());
        keys.extend(files.map(|file| (role, file)));
        for zone in settings.zones.iter().filter(|zone| matches!(zone.place(), Ok(Place::Directory(_)))) {
            match zone.path.parent() {
                Some(parent) if zone.path.is_absolute() => parents.push((role, parent)),
                _ => problems.push(Problem::new(
                    place.as_str(),
                    format!("the path of zone {} must begin with /", zone.name),
                )),
            }
        }
    }
    for (role, parent) in &parents {
        if let Some((other, _)) = parents
            .iter()
            .find(|(other, at)| other < role && (at.starts_with(parent) || parent.starts_with(at)))
        {
            problems.push(Problem::new(
                format!("{role}.zones"),
                format!(
                    "its zones and those of {other} lie in one directory ({}); give each role a directory of its own",
                    parent.display()
                ),
            ));
            break;
        }
    }
    for (role, file) in &keys {
        if let Some((other, _)) = keys.iter().find(|(other, at)| other < role && at == file) {
            problems.push(Problem::new(
                format!("{role}.zones"),
                format!(
                    "its zones and those of {other} share the credentials {}; give each role an access key of its own, with rights to its own \
                     buckets or prefixes only",
                    file.display()
                ),
            ));
            break;
        }
    }
    for (role, address) in &stores {
        if let Some((other, _)) = stores.iter().find(|(other, at)| other < role && at.meets(address)) {
            problems.push(Problem::new(
                format!("{role}.zones"),
                format!("one of its zones and one of {other} lie in one place of a store; give each role a bucket or a prefix of its own"),
            ));
            break;
        }
    }
}

/// Adds the nearest known name to the words of serde about an unknown one.
pub(super) fn with_hint(message: &str) -> String {
    let message = message.trim();
    let Some(rest) = message.strip_prefix("unknown field `") else {
        return message.to_owned();
    };
    let Some((unknown, rest)) = rest.split_once('`') else {
        return message.to_owned();
    };
    let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    let nearest = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(unknown, name), *name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 3)
        .min();
    match nearest {
        Some((_, name)) => format!("unknown name `{unknown}`; did you mean `{name}`?"),
        None if known.is_empty() => format!("unknown name `{unknown}`; there is nothing to set here"),
        None => format!("unknown name `{unknown}`; there are {}", known.join(", ")),
    }
}
