//! Columns that hold something personal, as an operator names them.

use std::{fmt, str::FromStr};

use crate::{DatabaseName, TableName, folded};

/// Why a text names no column that can be personal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PersonalColumnError {
    /// The name.
    #[error("a personal column is a name of 1 to 128 bytes without comma, or database.table:name")]
    Name,
    /// The table in front of it.
    #[error("what stands before the colon of a personal column has to be database.table")]
    Table,
    /// It is a column of our own.
    #[error("the columns `time` and `_overflow` cannot be personal")]
    Reserved,
}

/// A column whose values are sealed before they are stored: `phone` in every table of a product, or `shop.orders:phone` in one.
///
/// Names are compared as those of identity columns are: [`folded`]. Here they are that already.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersonalColumn {
    table: Option<(DatabaseName, TableName)>,
    name: String,
}

impl PersonalColumn {
    /// The column's name, folded.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether that table's column of this name is meant.
    pub fn is_in(&self, database: &DatabaseName, table: &TableName) -> bool {
        self.table.as_ref().is_none_or(|(d, t)| d == database && t == table)
    }
}

impl FromStr for PersonalColumn {
    type Err = PersonalColumnError;

    fn from_str(text: &str) -> Result<Self, PersonalColumnError> {
        let (table, name) = match text.split_once(':') {
            None => (None, text),
            Some((table, name)) => {
                let (database, table) = table.trim().split_once('.').ok_or(PersonalColumnError::Table)?;
                let wrong = |_| PersonalColumnError::Table;
                (Some((database.parse().map_err(wrong)?, table.parse().map_err(wrong)?)), name)
            }
        };
        let name = folded(name).into_owned();
        if !(1..=128).contains(&name.len()) || name.contains(|c: char| c == ',' || c.is_control()) {
            return Err(PersonalColumnError::Name);
        }
        if name == "time" || name == "_overflow" {
            return Err(PersonalColumnError::Reserved);
        }
        Ok(Self { table, name })
    }
}

impl fmt::Display for PersonalColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((database, table)) = &self.table {
            write!(f, "{database}.{table}:")?;
        }
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_personal_everywhere_or_in_one_table() {
        let (web, shop) = ("web".parse().unwrap(), "shop".parse().unwrap());
        let orders: TableName = "orders".parse().unwrap();
        let everywhere: PersonalColumn = " Phone ".parse().unwrap();
        assert_eq!((everywhere.name(), everywhere.to_string().as_str()), ("phone", "phone"));
        assert!(everywhere.is_in(&web, &orders));
        let accented: PersonalColumn = "PRE\u{301}NOM".parse().unwrap();
        assert_eq!((accented.name(), accented.to_string().parse()), ("prénom", Ok(accented.clone())));
        let in_one: PersonalColumn = "shop.orders:Ship:To".parse().unwrap();
        assert_eq!((in_one.name(), in_one.to_string().as_str()), ("ship:to", "shop.orders:ship:to"));
        assert!(in_one.is_in(&shop, &orders) && !in_one.is_in(&web, &orders));
        assert_eq!(in_one.to_string().parse(), Ok(in_one));
    }

    #[test]
    fn what_names_no_personal_column_is_refused() {
        let refused = |text: &str, error| assert_eq!(text.parse::<PersonalColumn>(), Err(error), "{text:?}");
        for text in ["", " ", "a,b", "a\nb", "shop.orders:", &"x".repeat(129)] {
            refused(text, PersonalColumnError::Name);
        }
        for text in ["a:b", ":a", "shop:a", "s.orders:a", "Shop.orders:a", "a.b.c:d"] {
            refused(text, PersonalColumnError::Table);
        }
        for text in ["time", "Time", "_overflow", "shop.orders:time"] {
            refused(text, PersonalColumnError::Reserved);
        }
    }
}
