//! People on their way out of a batch: identities become ids and personal values sealed texts, both by one call to the identity role.
//!
//! Promise: a batch that leaves [`People::replace`] holds neither any more.
//!
//! Start at [`Columns`] and [`People::gather`]. Does not know bodies, or what becomes of the batch.

use std::collections::HashMap;

use arrow::record_batch::RecordBatch;
use base::{ColumnNames, DatabaseName, ErrorKind, PersonalColumn, Secret, TableName, folded};
use events::ColumnType;
use events::identities::{self, Distinct, Together};
use events::personal::{self, Personal, PersonalValue};
use wire::v1::{Links, PersonalValue as Asked, ProductSettings, Together as Row, TranslateRequest};

use crate::calls::Call;
use crate::errors::ApiError;

/// How many identities one call translates, and how many personal values it seals.
const MAX_AT_ONCE: usize = 100_000;
/// How many identities the rows of one call name that says which stand together.
const MAX_TOGETHER: usize = 200_000;
/// What an identity takes in memory besides its text, with what is asked for it and the id that comes.
const IDENTITY: usize = 64;
/// Bytes of the identities of one call, ...
const MAX_IDENTITY_BYTES: usize = 32 << 20;
/// ... and of its personal values.
const MAX_PERSONAL_BYTES: usize = 32 << 20;

/// The columns of a table that are of people.
#[derive(Debug, Clone, Default)]
pub(crate) struct Columns {
    identities: Vec<String>,
    personal: Vec<String>,
    /// Both again, to be looked up by name.
    identity_names: ColumnNames,
    personal_names: ColumnNames,
    /// Whether the identities of one row are of one person.
    link: bool,
}

impl Columns {
    /// What the product says about this table.
    pub(crate) fn of(settings: &ProductSettings, database: &DatabaseName, table: &TableName) -> Result<Self, ApiError> {
        let mut personal: Vec<String> = Vec::new();
        for declared in &settings.personal_columns {
            // One that cannot be read might be of this table: rather nothing is taken than a value in clear.
            let column: PersonalColumn = declared.parse().map_err(|error| {
                tracing::error!(%error, "accounts tells of a personal column that cannot be one");
                ApiError::of(ErrorKind::Internal)
            })?;
            if column.is_in(database, table) && !personal.iter().any(|known| known == column.name()) {
                personal.push(column.name().to_owned());
            }
        }
        Ok(Self {
            link: settings.link_identities,
            ..Self::new(settings.identity_columns.clone(), personal)
        })
    }

    pub(crate) fn new(identities: Vec<String>, personal: Vec<String>) -> Self {
        Self {
            identity_names: ColumnNames::new(&identities),
            personal_names: ColumnNames::new(&personal),
            identities,
            personal,
            link: false,
        }
    }

    /// The names of those of identities, for whoever decodes.
    pub(crate) fn identities(&self) -> &[String] {
        &self.identities
    }

    /// The names of the personal ones.
    pub(crate) fn personal(&self) -> &[String] {
        &self.personal
    }

    /// The type that a column of people has whatever was sent, and what is in it.
    pub(crate) fn type_of(&self, name: &str) -> Option<(ColumnType, &'static str)> {
        if self.identity_names.contains(name) {
            Some((ColumnType::Long, "ids in place of identities"))
        } else if self.personal_names.contains(name) {
            Some((ColumnType::String, "sealed texts in place of personal values"))
        } else {
            None
        }
    }

    /// Whether any of them is personal.
    pub(crate) fn has_personal(&self) -> bool {
        !self.personal.is_empty()
    }
}

/// The people of one batch.
#[derive(Debug, Default)]
pub(crate) struct People {
    columns: Vec<String>,
    identities: Distinct,
    personal: Personal,
    /// Where identities are linked: who stands in one row, and the names of the columns of identities.
    together: Together,
    identity_columns: Vec<String>,
}

/// What takes their place.
#[derive(Debug, Default)]
pub(crate) struct Replacements {
    ids: Vec<i64>,
    sealed: Vec<Vec<u8>>,
}

impl People {
    /// Gathers them.
    pub(crate) fn gather(batch: &RecordBatch, columns: &Columns) -> Result<Self, ApiError> {
        let internal = |_| ApiError::of(ErrorKind::Internal);
        let identities = identities::distinct(batch, &columns.identities).map_err(internal)?;
        let personal = if columns.has_personal() {
            personal::gather(batch, &columns.personal, &columns.identities, &identities).map_err(internal)?
        } else {
            Personal::default()
        };
        let link = columns.link && !identities.is_empty();
        Ok(Self {
            columns: columns.personal.clone(),
            together: if link {
                identities.together(batch, &columns.identities)
            } else {
                Together::default()
            },
            identity_columns: if link {
                columns.identities.iter().map(|name| folded(name).into_owned()).collect()
            } else {
                Vec::new()
            },
            identities,
            personal,
        })
    }

    /// Who they are.
    #[cfg(test)]
    pub(crate) fn identities(&self) -> &[Secret] {
        self.identities.values()
    }

    /// About how much memory they take, and what takes their place.
    pub(crate) fn bytes(&self) -> usize {
        let identity = |value: &Secret| 2 * value.reveal().len() + IDENTITY;
        let identities: usize = self.identities.values().iter().map(identity).sum();
        let personal = if self.personal.is_empty() { 0 } else { self.personal.bytes() };
        let row = |row: &Vec<u32>| 2 * (size_of_val(&row[..]) + size_of::<Vec<u32>>());
        let together: usize = self.together.rows.iter().map(row).sum();
        identities.saturating_add(personal).saturating_add(together)
    }

    /// Their personal values.
    pub(crate) fn personal(&self) -> &Personal {
        &self.personal
    }

    /// What takes their place, asked of the identity role in the caller's name.
    pub(crate) async fn translate(&self, call: &Call) -> Result<Replacements, ApiError> {
        let mut made = Replacements {
            ids: vec![0; self.identities.values().len()],
            sealed: Vec::with_capacity(self.personal.values().len()),
        };
        // First those who stand together, because whoever gets an id alone keeps it.
        let mut asked = Vec::new();
        for (part, rows) in linked(self.identities.values(), &self.together.rows) {
            let request = TranslateRequest {
                links: Some(self.links(&part.identities, rows)),
                ..self.request(&part)
            };
            self.ask(call, &part, request, &mut made).await?;
            asked.resize(self.identities.values().len(), false);
            part.identities.iter().for_each(|place| asked[*place] = true);
        }
        let parts = parts(self.identities.values(), self.personal.values(), asked)?;
        for part in parts {
            let mut request = self.request(&part);
            if !self.identity_columns.is_empty() {
                request.links = Some(self.links(&part.identities, Vec::new()));
            }
            self.ask(call, &part, request, &mut made).await?;
        }
        Ok(made)
    }

    async fn ask(&self, call: &Call, part: &Part, request: TranslateRequest, made: &mut Replacements) -> Result<(), ApiError> {
        let answer = call.identity(request, |mut to, ask| async move { to.translate(ask).await }).await?;
        if answer.ids.len() != part.identities.len()
            || answer.ids.iter().any(|id| *id <= 0)
            || answer.sealed.len() != part.personal.len()
            || answer.sealed.iter().any(Vec::is_empty)
        {
            return Err(ApiError::of(ErrorKind::Internal));
        }
        for (place, id) in part.identities.iter().zip(answer.ids) {
            made.ids[*place] = id;
        }
        made.sealed.extend(answer.sealed);
        Ok(())
    }

    fn links(&self, identities: &[usize], rows: Vec<Row>) -> Links {
        Links {
            columns: self.identity_columns.clone(),
            column: identities
                .iter()
                .map(|place| self.together.columns.get(*place).copied().unwrap_or(0))
                .collect(),
            together: rows,
        }
    }

    /// The batch without them.
    pub(crate) fn replace(&self, batch: &RecordBatch, made: &Replacements) -> Result<RecordBatch, ApiError> {
        let failed = |error: identities::ReplaceError| match error.kind() {
            ErrorKind::TooLarge => too_large(),
            kind => ApiError::of(kind),
        };
        let batch = identities::replace(batch, &self.identities, &made.ids).map_err(failed)?;
        if self.personal.is_empty() {
            return Ok(batch);
        }
        personal::replace(&batch, &self.personal, &made.sealed).map_err(failed)
    }

    fn request(&self, part: &Part) -> TranslateRequest {
        let identities = part
            .identities
            .iter()
            .map(|place| self.identities.values()[*place].reveal().to_owned());
        let personal = part.personal.clone().zip(&part.owners).map(|(place, owner)| {
            let value = &self.personal.values()[place];
            Asked {
                owner: *owner,
                // There are as many columns as one can declare.
                column: value.column as u32,
                value: value.value.reveal().to_owned(),
            }
        });
        TranslateRequest {
            identities: identities.collect(),
            personal: personal.collect(),
            personal_columns: if part.owners.is_empty() { Vec::new() } else { self.columns.clone() },
            links: None,
        }
    }
}

/// The answer to an import whose personal values take more than there is.
pub(crate) fn too_large() -> ApiError {
    ApiError::new(
        ErrorKind::TooLarge,
        "the import is too large once its personal values are sealed; send the events in smaller parts",
    )
}

/// What one call asks for.
#[derive(Debug, Default)]
struct Part {
    /// Places of identities.
    identities: Vec<usize>,
    /// Places of personal values.
    personal: std::ops::Range<usize>,
    /// Bytes of these identities.
    identity_bytes: usize,
    /// Per personal value its owner among `identities`, from 1; 0 for nobody.
    owners: Vec<u32>,
}

impl Part {
    /// Whether there is room for one more identity, of this many bytes. The first has it always: no row has one that is near as long.
    fn has_room(&self, bytes: usize) -> bool {
        let room = MAX_IDENTITY_BYTES.saturating_sub(self.identity_bytes);
        self.identities.is_empty() || self.identities.len() < MAX_AT_ONCE && bytes <= room
    }

    fn ask_for(&mut self, place: usize, bytes: usize) {
        self.identities.push(place);
        self.identity_bytes += bytes;
    }

    /// Closes this part; what comes next begins behind it.
    fn cut(&mut self) -> Self {
        let full = std::mem::take(self);
        self.personal = full.personal.end..full.personal.end;
        full
    }
}

/// Cuts the rows in which several identities stand into calls, each with all identities of its rows.
fn linked(identities: &[Secret], rows: &[Vec<u32>]) -> Vec<(Part, Vec<Row>)> {
    let mut calls = Vec::new();
    let (mut part, mut of_part, mut places) = (Part::default(), Vec::new(), HashMap::<u32, u32>::new());
    let mut named = 0;
    for row in rows {
        let new: Vec<u32> = row.iter().copied().filter(|place| !places.contains_key(place)).collect();
        let len_of = |place: u32| identities.get(place as usize).map_or(0, |identity| identity.reveal().len());
        let bytes: usize = new.iter().map(|place| len_of(*place)).sum();
        let fits = part.identities.len() + new.len() <= MAX_AT_ONCE && part.identity_bytes + bytes <= MAX_IDENTITY_BYTES;
        if !of_part.is_empty() && (!fits || of_part.len() >= MAX_AT_ONCE || named + row.len() > MAX_TOGETHER) {
            calls.push((part.cut(), std::mem::take(&mut of_part)));
            places.clear();
            named = 0;
        }
        named += row.len();
        for place in row {
            places.entry(*place).or_insert_with(|| {
                part.ask_for(*place as usize, len_of(*place));
                // At most `MAX_AT_ONCE`.
                (part.identities.len() - 1) as u32
            });
        }
        of_part.push(Row {
            identities: row.iter().map(|place| places[place]).collect(),
        });
    }
    if !of_part.is_empty() {
        calls.push((part, of_part));
    }
    calls
}

/// Cuts what there is to ask into calls. All personal values are asked for in order, each together with its owner; every identity is
/// asked for at least once; `asked` are those that were before.
fn parts(identities: &[Secret], personal: &[PersonalValue], mut asked: Vec<bool>) -> Result<Vec<Part>, ApiError> {
    let mut parts = Vec::new();
    if !personal.is_empty() {
        asked.resize(identities.len(), false);
    }
    let (mut part, mut places, mut bytes) = (Part::default(), HashMap::<usize, u32>::new(), 0);
    let len_of = |place: usize| identities.get(place).map_or(0, |identity| identity.reveal().len());
    for (place, value) in personal.iter().enumerate() {
        let len = value.value.reveal().len();
        if len > MAX_PERSONAL_BYTES {
            return Err(ApiError::new(
                ErrorKind::TooLarge,
                format!("a personal value has more than {MAX_PERSONAL_BYTES} bytes; nothing of the body was stored"),
            ));
        }
        // With every value comes at most one owner: when there is room for the value there is for both, as far as their number goes.
        let new_owner = value.owner.filter(|owner| !places.contains_key(owner));
        let owner_fits = new_owner.is_none_or(|owner| part.has_room(len_of(owner)));
        if part.owners.len() >= MAX_AT_ONCE || bytes + len > MAX_PERSONAL_BYTES || !owner_fits {
            parts.push(part.cut());
            places.clear();
            bytes = 0;
        }
        let owner = match value.owner {
            None => 0,
            Some(owner) => *places.entry(owner).or_insert_with(|| {
                part.ask_for(owner, len_of(owner));
                // At most `MAX_AT_ONCE`.
                part.identities.len() as u32
            }),
        };
        if let Some(asked) = value.owner.and_then(|owner| asked.get_mut(owner)) {
            *asked = true;
        }
        part.owners.push(owner);
        part.personal.end = place + 1;
        bytes += len;
    }
    for place in 0..identities.len() {
        if asked.get(place) == Some(&true) {
            continue;
        }
        if !part.has_room(len_of(place)) {
            parts.push(part.cut());
        }
        part.ask_for(place, len_of(place));
    }
    if !part.identities.is_empty() || !part.owners.is_empty() {
        parts.push(part);
    }
    Ok(parts)
}

#[cfg(test)]
mod tests;
