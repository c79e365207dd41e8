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

#[cfg(test)]
mod tests {
    use super::*;

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
