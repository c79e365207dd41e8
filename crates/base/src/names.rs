//! Names of databases and tables, as td clients allow them.

use std::{fmt, str::FromStr};

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a {what} name has 3 to 255 characters of a-z, 0-9 and _")]
pub struct NameError {
    what: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
                if (3..=255).contains(&text.len()) && text.bytes().all(allowed) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(NameError { what: $what })
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// A database of a product: `^[a-z0-9_]{3,255}$`.
    DatabaseName, "database"
);
name!(
    /// A table of a database: `^[a-z0-9_]{3,255}$`.
    TableName, "table"
);

/// What the name of a table ends with that holds what could not be rows of another.
const ASIDE: &str = "$rejected";

impl TableName {
    /// The name of the table for what could not be rows of this one. No sender can name it: it is no name that can be read from a text.
    pub fn aside(&self) -> Self {
        Self(format!("{}{ASIDE}", self.0.trim_end_matches(ASIDE)))
    }

    /// The table whose rejects this one holds; `None` for any other.
    pub fn of_aside(&self) -> Option<Self> {
        self.0.strip_suffix(ASIDE).map(|name| Self(name.to_owned()))
    }

    /// A name that we wrote down ourselves: one that a sender can choose, or the one beside it.
    pub fn from_stored(text: &str) -> Result<Self, NameError> {
        match text.strip_suffix(ASIDE) {
            Some(name) => name.parse().map(|name: Self| name.aside()),
            None => text.parse(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_beside_a_table_has_a_name_that_nobody_can_send() {
        let events: TableName = "events".parse().unwrap();
        let aside = events.aside();
        assert_eq!(
            (aside.as_str(), aside.of_aside(), events.of_aside()),
            ("events$rejected", Some(events.clone()), None)
        );
        assert_eq!(
            (aside.aside(), TableName::from_stored("events$rejected")),
            (aside.clone(), Ok(aside))
        );
        assert_eq!(TableName::from_stored("events"), Ok(events));
        assert!("events$rejected".parse::<TableName>().is_err());
        for bad in ["events$", "ev$rejected", "events$rejected$rejected", "$rejected"] {
            assert!(TableName::from_stored(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_those_td_clients_allow() {
        for good in ["web", "a_1", &"x".repeat(255)] {
            assert!(good.parse::<TableName>().is_ok(), "{good}");
        }
        for bad in ["", "ab", "Web", "a-b", "a.b", "../x", "käse", "a b", &"x".repeat(256)] {
            assert!(bad.parse::<DatabaseName>().is_err(), "{bad}");
        }
    }
}
