//! Every check, by name. A check reads the tree and says what is wrong with it.

pub(crate) mod advisories;
mod compiler;
mod licences;
mod lines;
mod policy;
mod words;

use crate::repo::Repo;

/// What a check found.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// What stands in the way. Empty: in order.
    pub(crate) problems: Vec<String>,
    /// What was looked at, or why nothing was.
    pub(crate) note: String,
}

impl Outcome {
    fn new(problems: Vec<String>, note: impl Into<String>) -> Self {
        Self {
            problems,
            note: note.into(),
        }
    }
}

/// A check.
pub(crate) type Check = fn(&Repo) -> anyhow::Result<Outcome>;

/// All of them, the quick ones first.
pub(crate) const ALL: &[(&str, Check)] = &[
    ("lines", lines::check),
    ("words", words::check),
    ("licences", licences::check),
    ("advisories", advisories::check),
    ("formatting", compiler::formatting),
    ("clippy", compiler::clippy),
];

/// The checks are tests too, so that a test run holds them. Clippy is not among them: it is the compiler of that run.
#[cfg(test)]
mod tests {
    use super::*;

    fn holds(check: Check) {
        let outcome = check(&Repo::find().unwrap()).unwrap();
        assert!(outcome.problems.is_empty(), "{:#?}", outcome.problems);
    }

    #[test]
    fn crates_import_earlier_lines_only() {
        holds(lines::check);
    }

    #[test]
    fn files_have_headers_and_nothing_unfinished() {
        holds(words::check);
    }

    #[test]
    fn every_licence_is_allowed() {
        holds(licences::check);
    }

    #[test]
    fn no_advisory_is_open() {
        holds(advisories::check);
    }

    #[test]
    fn formatting_is_that_of_rustfmt() {
        holds(compiler::formatting);
    }
}
