//! What can be done to a product.

use std::{fmt, str::FromStr};

use crate::ErrorKind;

/// One thing that can be done to a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Send events.
    Append,
    /// Ask questions. Only this leads to the product's private key.
    Query,
    /// Make and delete databases and tables.
    Manage,
    /// Forget a person for good.
    Erase,
    /// Be told who somebody is, and what stands in personal columns of theirs.
    Reveal,
}

impl Verb {
    /// Every verb, for tables that must be complete.
    pub const ALL: [Self; 5] = [Self::Append, Self::Query, Self::Manage, Self::Erase, Self::Reveal];

    const fn bit(self) -> u32 {
        match self {
            Self::Append => 1,
            Self::Query => 2,
            Self::Manage => 4,
            Self::Erase => 16,
            Self::Reveal => 32,
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Append => "append",
            Self::Query => "query",
            Self::Manage => "manage",
            Self::Erase => "erase",
            Self::Reveal => "reveal",
        })
    }
}

/// A set of verbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Verbs(u32);

impl Verbs {
    /// The set of these.
    pub fn of(verbs: &[Verb]) -> Self {
        Self(verbs.iter().fold(0, |set, verb| set | verb.bit()))
    }

    /// From stored bits. Bits that no verb has are refused: they would be rights nobody can name.
    pub fn from_bits(bits: u32) -> Result<Self, ErrorKind> {
        if bits & !Self::of(&Verb::ALL).0 == 0 {
            Ok(Self(bits))
        } else {
            Err(ErrorKind::Invalid)
        }
    }

    /// The stored form.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether `verb` is in the set.
    pub const fn contains(self, verb: Verb) -> bool {
        self.0 & verb.bit() != 0
    }
}

/// The kinds of product key that can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// Sends events; can read nothing.
    Write,
    /// Asks questions.
    Read,
    /// Sends, asks, makes, deletes and erases; is told of nobody who they are.
    Admin,
    /// Asks questions, and is told who people are.
    Reveal,
}

impl KeyKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Write, Self::Read, Self::Admin, Self::Reveal];

    /// What a key of this kind may do.
    pub fn verbs(self) -> Verbs {
        match self {
            Self::Write => Verbs::of(&[Verb::Append]),
            Self::Read => Verbs::of(&[Verb::Query]),
            // Not all there are: whoever may reveal was given a key for that, and nobody by the way.
            Self::Admin => Verbs::of(&[Verb::Append, Verb::Query, Verb::Manage, Verb::Erase]),
            Self::Reveal => Verbs::of(&[Verb::Query, Verb::Reveal]),
        }
    }

    /// Whether such a key can lead to the product's private key.
    pub fn is_readable(self) -> bool {
        self.verbs().contains(Verb::Query)
    }

    /// The name, as on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
            Self::Admin => "admin",
            Self::Reveal => "reveal",
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for KeyKind {
    type Err = ErrorKind;
    fn from_str(text: &str) -> Result<Self, ErrorKind> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(ErrorKind::Invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_key_cannot_read_and_a_read_key_cannot_write() {
        assert!(!KeyKind::Write.is_readable());
        assert!(!KeyKind::Read.verbs().contains(Verb::Append));
        assert!(Verbs::from_bits(8).is_err() && Verbs::from_bits(64).is_err());
    }

    #[test]
    fn a_key_reveals_only_if_it_was_made_to_and_then_changes_nothing() {
        let may = |kind: KeyKind| {
            Verb::ALL
                .into_iter()
                .filter(|verb| kind.verbs().contains(*verb))
                .collect::<Vec<_>>()
        };
        assert_eq!(may(KeyKind::Reveal), [Verb::Query, Verb::Reveal]);
        assert_eq!(may(KeyKind::Admin), [Verb::Append, Verb::Query, Verb::Manage, Verb::Erase]);
        assert_eq!(KeyKind::Admin.verbs().bits(), 1 | 2 | 4 | 16, "keys of before have these bits");
    }
}
