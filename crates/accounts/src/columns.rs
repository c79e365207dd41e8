//! Which columns a product may declare as those of identities and as personal.

use base::{ColumnNames, PersonalColumn, folded};

use crate::state::ProductError;

/// The columns that hold an identity, unless said otherwise.
pub(crate) const IDENTITY_COLUMNS: [&str; 3] = ["identity", "user_id", "email"];
/// The key under which a record brings its own id: it is no column, and goes to the role that stores events as it is.
const RECORD_ID: &str = "uuid";
/// What cannot hold identities: columns of our own, and what is none.
const RESERVED: [&str; 3] = ["time", "_overflow", RECORD_ID];
pub(crate) const MOST_IDENTITY_COLUMNS: usize = 32;
pub(crate) const MOST_PERSONAL_COLUMNS: usize = 256;

/// What a product says about the people in its events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    /// Columns whose values are identities; none: the usual ones.
    pub identity_columns: Vec<String>,
    /// Columns whose values are sealed: encoded [`base::PersonalColumn`].
    pub personal_columns: Vec<String>,
    /// Whether the identities of one row are of one person.
    pub link_identities: bool,
}

/// What of that is to be so from now on; what is `None` stays as it is.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Columns whose values are identities.
    pub identity_columns: Option<Vec<String>>,
    /// Columns whose values are sealed.
    pub personal_columns: Option<Vec<String>>,
    /// Whether the identities of one row are of one person.
    pub link_identities: Option<bool>,
}

/// What a product says about its columns; every name once, and none both of an identity and personal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Columns {
    pub(crate) identity: Vec<String>,
    pub(crate) personal: Vec<String>,
}

impl Columns {
    /// Refuses what cannot be. No identity columns at all means the usual ones.
    pub(crate) fn of(identity: &[String], personal: &[String]) -> Result<Self, ProductError> {
        let identity = identities(identity)?;
        if personal.len() > MOST_PERSONAL_COLUMNS {
            return Err(ProductError::TooManyPersonal);
        }
        let declared = ColumnNames::new(&identity);
        let mut columns: Vec<PersonalColumn> = Vec::with_capacity(personal.len());
        for text in personal {
            let column: PersonalColumn = text.parse().map_err(ProductError::PersonalColumn)?;
            if column.name() == RECORD_ID {
                return Err(ProductError::Reserved(RECORD_ID));
            }
            if declared.contains(column.name()) {
                return Err(ProductError::Both(column.name().to_owned()));
            }
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
        let personal = columns.iter().map(ToString::to_string).collect();
        Ok(Self { identity, personal })
    }
}

fn identities(given: &[String]) -> Result<Vec<String>, ProductError> {
    if given.is_empty() {
        return Ok(IDENTITY_COLUMNS.map(str::to_owned).to_vec());
    }
    let good = |name: &String| (1..=128).contains(&name.trim().len()) && !name.contains(|c: char| c == ',' || c.is_control());
    if given.len() > MOST_IDENTITY_COLUMNS || !given.iter().all(good) {
        return Err(ProductError::IdentityColumns);
    }
    let mut names: Vec<String> = Vec::with_capacity(given.len());
    for name in given {
        let meant = folded(name);
        if let Some(reserved) = RESERVED.into_iter().find(|reserved| *reserved == meant) {
            return Err(ProductError::Reserved(reserved));
        }
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(identity: &[&str], personal: &[&str]) -> Result<Columns, String> {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        Columns::of(&names(identity), &names(personal)).map_err(|error| error.to_string())
    }

    #[test]
    fn no_column_of_our_own_and_no_id_of_a_record_is_declared() {
        for reserved in ["uuid", " UUID", "time", "Time ", "_overflow", "_OverFlow"] {
            let refused = of(&["email", reserved], &[]).unwrap_err();
            assert!(refused.contains(&format!("`{}`", reserved.trim().to_lowercase())), "{refused}");
        }
        for reserved in ["uuid", "Uuid ", "shop.orders:UUID"] {
            let refused = of(&["email"], &[reserved]).unwrap_err();
            assert!(refused.contains("`uuid`"), "{refused}");
        }
        assert!(of(&["email"], &["time"]).is_err() && of(&["email"], &[" _Overflow"]).is_err());
        assert!(of(&[" "], &[]).is_err(), "a name of space alone is none");
        assert!(of(&["uuid_of_user"], &["my_time"]).is_ok());
    }

    #[test]
    fn what_is_an_identity_however_it_is_typed_is_not_personal() {
        assert!(of(&["prénom"], &["PRÉNOM"]).is_err() && of(&["Pre\u{301}nom"], &["shop.orders:prénom"]).is_err());
        assert_eq!(of(&["email"], &["PRÉNOM", "pre\u{301}nom"]).unwrap().personal, ["prénom"]);
    }
}
