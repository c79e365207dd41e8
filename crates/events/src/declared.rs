//! What somebody declared the types of a table's columns to be.

use std::collections::HashMap;

use base::ErrorKind;

use crate::{ColumnType, OVERFLOW, Seen, TIME};

/// The most columns that can be declared: as many as a table may have.
pub const MAX_DECLARED: usize = 10_000;
/// The longest name of a column, in bytes: as long as a key of an event may be.
const MAX_NAME: usize = 512;

/// Why a list of columns cannot be declared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeclareError {
    /// Empty, or too long.
    #[error("the name of a column has 1 to {MAX_NAME} bytes")]
    Name,
    /// The same name twice.
    #[error("the column {name:?} is declared twice")]
    Twice {
        /// The name.
        name: String,
    },
    /// More columns than a table may have.
    #[error("{columns} columns are declared, a table has at most {MAX_DECLARED}: leave out those whose type may follow from their values")]
    TooMany {
        /// How many.
        columns: usize,
    },
    /// Another type for `time`.
    #[error("the column {TIME:?} is always a long, seconds since 1970: leave it out")]
    Time,
    /// A type for the column of values that fit nowhere.
    #[error("the column {OVERFLOW:?} holds what fits no other column and has no type to choose: leave it out")]
    Overflow,
    /// A type that there is not.
    #[error(
        "the column {name:?} cannot be of type {found:?}: the types are int, long, float, double, string, boolean, json, array<…> and map<…>"
    )]
    Type {
        /// The column.
        name: String,
        /// What was asked for.
        found: String,
    },
}

impl DeclareError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// Columns with the types that they were declared to be of, in the order in which they were. `time` is implied.
#[derive(Debug, Clone, Default)]
pub struct Declared {
    columns: Vec<(String, ColumnType)>,
    by_name: HashMap<String, ColumnType>,
}

impl PartialEq for Declared {
    fn eq(&self, other: &Self) -> bool {
        self.columns == other.columns
    }
}

impl Eq for Declared {}

impl Declared {
    /// Checks names and number. `time` may be named as the long that it is, and is left out.
    pub fn new(columns: impl IntoIterator<Item = (String, ColumnType)>) -> Result<Self, DeclareError> {
        let mut declared = Self::default();
        let mut time = false;
        for (name, of) in columns {
            if name == TIME {
                if of != ColumnType::Long {
                    return Err(DeclareError::Time);
                }
                if std::mem::replace(&mut time, true) {
                    return Err(DeclareError::Twice { name });
                }
                continue;
            }
            if name == OVERFLOW {
                return Err(DeclareError::Overflow);
            }
            if name.is_empty() || name.len() > MAX_NAME {
                return Err(DeclareError::Name);
            }
            if declared.by_name.insert(name.clone(), of).is_some() {
                return Err(DeclareError::Twice { name });
            }
            declared.columns.push((name, of));
        }
        match declared.columns.len() {
            columns if columns > MAX_DECLARED => Err(DeclareError::TooMany { columns }),
            _ => Ok(declared),
        }
    }

    /// The type of a column; `None` for one that is not declared.
    pub fn get(&self, name: &str) -> Option<ColumnType> {
        self.by_name.get(name).copied()
    }

    /// Names and types, in order.
    pub fn columns(&self) -> impl Iterator<Item = (&str, ColumnType)> {
        self.columns.iter().map(|(name, of)| (name.as_str(), *of))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// Whether nothing is declared.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }
}

impl ColumnType {
    /// From the name in a td table schema, in any case. Arrays and maps, whatever is in them, are JSON; so is `json`, which td does not
    /// have, as it does not have `boolean`.
    pub fn from_td_name(name: &str) -> Option<Self> {
        let name = name.trim().to_ascii_lowercase();
        let nested = |of: &str| {
            name.strip_prefix(of)
                .is_some_and(|rest| rest.starts_with('<') && rest.ends_with('>'))
        };
        match name.as_str() {
            "int" | "long" => Some(Self::Long),
            "float" | "double" => Some(Self::Double),
            "string" => Some(Self::String),
            "boolean" => Some(Self::Boolean),
            "json" => Some(Self::Json),
            _ if nested("array") || nested("map") => Some(Self::Json),
            _ => None,
        }
    }

    /// The widest of what a column of this type can have held.
    pub(crate) const fn widest(self) -> Seen {
        match self {
            Self::Long => Seen::LONG.union(Seen::BIG_LONG),
            Self::Double => Seen::DOUBLE,
            Self::String => Seen::STRING,
            Self::Boolean => Seen::BOOL,
            Self::Json => Seen::JSON,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(columns: &[(&str, ColumnType)]) -> Result<Declared, DeclareError> {
        Declared::new(columns.iter().map(|(name, of)| ((*name).to_owned(), *of)))
    }

    #[test]
    fn the_types_of_td_are_known_and_no_others() {
        let check = |name: &str, of| assert_eq!(ColumnType::from_td_name(name), of, "{name}");
        check("int", Some(ColumnType::Long));
        check(" LONG ", Some(ColumnType::Long));
        check("float", Some(ColumnType::Double));
        check("double", Some(ColumnType::Double));
        check("string", Some(ColumnType::String));
        check("boolean", Some(ColumnType::Boolean));
        check("array<map<string,long>>", Some(ColumnType::Json));
        check("map<string,string>", Some(ColumnType::Json));
        for wrong in ["", "array", "array<", "maps<a>", "varchar", "timestamp"] {
            check(wrong, None);
        }
        for of in ColumnType::ALL {
            assert_eq!(of.widest().column_type(), Some(of));
        }
    }

    #[test]
    fn what_cannot_be_a_column_cannot_be_declared() {
        use ColumnType::{Long, String};
        assert_eq!(declared(&[("", Long)]), Err(DeclareError::Name));
        assert_eq!(declared(&[(&"x".repeat(513), Long)]), Err(DeclareError::Name));
        assert_eq!(declared(&[("a", Long), ("a", Long)]), Err(DeclareError::Twice { name: "a".into() }));
        assert_eq!(declared(&[("time", String)]), Err(DeclareError::Time));
        assert_eq!(declared(&[("_overflow", ColumnType::Json)]), Err(DeclareError::Overflow));
        let ok = declared(&[("time", Long), ("b", Long), ("a", String)]).unwrap();
        assert_eq!(ok.columns().collect::<Vec<_>>(), [("b", Long), ("a", String)]);
        let many = (0..=MAX_DECLARED).map(|number| (number.to_string(), Long));
        assert_eq!(Declared::new(many), Err(DeclareError::TooMany { columns: MAX_DECLARED + 1 }));
    }
}
