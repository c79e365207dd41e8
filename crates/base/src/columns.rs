//! Names of columns as they are compared where it matters whose they are: identities and personal values.
//!
//! Promise: what a reader takes for the same word is the same name, however it was typed: capitals, accents that stand by themselves,
//! wide letters and space around it make no difference. Two names that are the same once are the same wherever they are compared.
//!
//! Start at [`ColumnNames`]. Does not know of columns in general: those of a table are told apart byte for byte.

use std::borrow::Cow;
use std::collections::HashMap;

use unicode_normalization::{UnicodeNormalization as _, is_nfkc};

/// Bytes of one identity, as text. What is longer is no name of a person.
pub const LONGEST_IDENTITY: usize = 1_024;

/// How often folding may change what it has folded: never seen to be more than twice.
const MOST_ROUNDS: usize = 4;

/// A column's name, in the form in which names of identity and personal columns are compared.
///
/// Compatibility composition (Unicode NFKC) and small letters, which ß and SS have in common; no space around it. Folding it again
/// changes nothing. What is ASCII and small already is not copied.
pub fn folded(name: &str) -> Cow<'_, str> {
    let name = name.trim();
    if name.is_ascii() {
        return if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(name.to_ascii_lowercase())
        } else {
            Cow::Borrowed(name)
        };
    }
    let mut folded = round(name);
    for _ in 1..MOST_ROUNDS {
        let again = round(&folded);
        if again == folded {
            break;
        }
        folded = again;
    }
    Cow::Owned(folded)
}

/// Letters that differ only as small and capital ones become the same; what that takes apart is put together again.
fn round(name: &str) -> String {
    let composed: String = if is_nfkc(name) { name.to_owned() } else { name.nfkc().collect() };
    let small: String = composed
        .chars()
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .nfkc()
        .collect();
    small.trim().to_owned()
}

/// Names of columns that were declared, ready to be looked up.
#[derive(Debug, Clone, Default)]
pub struct ColumnNames {
    places: HashMap<String, usize>,
}

impl ColumnNames {
    /// Of names as they were declared; of equal ones the first counts.
    pub fn new<'n>(declared: impl IntoIterator<Item = &'n String>) -> Self {
        let mut places = HashMap::new();
        for (place, name) in declared.into_iter().enumerate() {
            places.entry(folded(name).into_owned()).or_insert(place);
        }
        Self { places }
    }

    /// Whether a column of this name is meant.
    pub fn contains(&self, name: &str) -> bool {
        self.position(name).is_some()
    }

    /// Which of the declared names means a column of this name.
    pub fn position(&self, name: &str) -> Option<usize> {
        if self.places.is_empty() {
            return None;
        }
        self.places.get(folded(name).as_ref()).copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_the_same_however_they_are_typed() {
        for (one, other) in [
            ("Email", " eMAIL\t"),
            ("prénom", "PRÉNOM"),
            ("prénom", "pre\u{301}nom"),
            ("PRE\u{301}NOM", "\u{a0}prénom"),
            ("ｅｍａｉｌ", "EMAIL"),
            ("straße", "STRASSE"),
            ("όνομας", "ΌΝΟΜΑΣ"),
            ("имя", "ИМЯ"),
        ] {
            assert_eq!(folded(one), folded(other));
        }
        for (one, other) in [("prénom", "prenom"), ("e mail", "email"), ("имя", "имена")] {
            assert_ne!(folded(one), folded(other));
        }
        assert!(matches!(folded(" email "), Cow::Borrowed("email")));
    }

    #[test]
    fn every_letter_folds_once_and_with_its_capital() {
        for letter in '\0'..=char::MAX {
            let text = letter.to_string();
            let once = folded(&text).into_owned();
            assert_eq!(folded(&once), once, "{letter:?}");
            assert_eq!(folded(&letter.to_uppercase().to_string()), once, "{letter:?}");
            assert_eq!(folded(&letter.to_lowercase().to_string()), once, "{letter:?}");
        }
    }

    #[test]
    fn of_declared_names_the_first_that_is_meant_counts() {
        let names = ColumnNames::new(&["Email".to_owned(), "prénom".to_owned(), "EMAIL".to_owned()]);
        assert_eq!(names.position(" email"), Some(0));
        assert_eq!(names.position("PRE\u{301}NOM"), Some(1));
        assert!(!names.contains("e-mail") && !ColumnNames::default().contains("email"));
    }

    proptest! {
        #[test]
        fn what_is_folded_folds_to_itself(name in "\\PC{0,12}") {
            let once = folded(&name).into_owned();
            prop_assert_eq!(folded(&once).into_owned(), once);
        }
    }
}
