//! What each role got of what: a table that can be printed, read and compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use base::Role;

use super::{Attempt, Came};

/// A row for what there is to get, a column for each role, and in each cell what the role got.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Matrix(BTreeMap<(String, Role), BTreeSet<String>>);

const NOTHING: &str = "–";

impl Matrix {
    /// Adds what came of one attack by `role`.
    pub(crate) fn note(&mut self, role: Role, attempt: &Attempt) {
        let cell = self.0.entry((attempt.asset.clone(), role)).or_default();
        if attempt.came == Came::Got {
            cell.insert(attempt.act.clone());
        }
    }

    /// The table below the line `begin` of a document, up to the first line after it that is none of a table.
    pub(crate) fn read(document: &str, begin: &str) -> Result<Self, String> {
        let mut lines = document
            .lines()
            .skip_while(|line| *line != begin)
            .skip(1)
            .skip_while(|line| line.is_empty());
        let missing = || format!("there is no table below {begin:?}");
        let head = cells(lines.next().ok_or_else(missing)?).ok_or_else(missing)?;
        let roles: Vec<Role> = head
            .iter()
            .skip(1)
            .map(|name| name.parse().map_err(|_| format!("{name:?} is no role")))
            .collect::<Result<_, _>>()?;
        let mut matrix = Self::default();
        for line in lines.skip(1) {
            let Some(row) = cells(line) else { break };
            if row.len() != roles.len() + 1 {
                return Err(format!("the row {:?} has {} cells", row[0], row.len()));
            }
            for (role, cell) in roles.iter().zip(&row[1..]) {
                let words = cell.split(", ").filter(|word| !word.is_empty() && *word != NOTHING);
                let before = matrix.0.insert((row[0].clone(), *role), words.map(str::to_owned).collect());
                if before.is_some() {
                    return Err(format!("there are two rows {:?}", row[0]));
                }
            }
        }
        Ok(matrix)
    }

    /// The table as a document has it. A row of methods that nobody got an answer from is left out.
    pub(crate) fn table(&self) -> String {
        let rows: BTreeSet<&String> = self.0.keys().map(|(asset, _)| asset).collect();
        let mut text = String::from("| what |");
        for role in Role::ALL {
            let _ = write!(text, " {role} |");
        }
        text.push_str("\n|---|---|---|---|---|---|\n");
        for asset in rows {
            let got = Role::ALL.map(|role| self.got(asset, role));
            if asset.starts_with("call ") && got.iter().all(|words| words == NOTHING) {
                continue;
            }
            let _ = writeln!(text, "| {asset} | {} |", got.join(" | "));
        }
        text
    }

    fn got(&self, asset: &str, role: Role) -> String {
        let cell = self.0.get(&(asset.to_owned(), role));
        let words: Vec<&str> = cell.into_iter().flatten().map(String::as_str).collect();
        if words.is_empty() { NOTHING.to_owned() } else { words.join(", ") }
    }

    /// In what `self`, as it came out, differs from what a document says. What the document says nothing of it says is got by nobody.
    pub(crate) fn differs(&self, said: &Self) -> Vec<String> {
        let none = BTreeSet::new();
        let keys: BTreeSet<_> = self.0.keys().chain(said.0.keys()).collect();
        let mut differences = Vec::new();
        for key in keys {
            let (asset, role) = key;
            let (got, expected) = (self.0.get(key).unwrap_or(&none), said.0.get(key).unwrap_or(&none));
            for word in got.difference(expected) {
                differences.push(format!("MORE than it may have: {role}, {asset}: {word}"));
            }
            for word in expected.difference(got) {
                differences.push(format!("less than is written: {role}, {asset}: {word}"));
            }
        }
        differences
    }

    /// Whether `role` got this of that.
    pub(crate) fn has(&self, role: Role, asset: &str, word: &str) -> bool {
        self.0.get(&(asset.to_owned(), role)).is_some_and(|got| got.contains(word))
    }

    /// Without some of its cells, of which nothing is known.
    pub(crate) fn without(mut self, unknown: impl Fn(&str, Role) -> bool) -> Self {
        self.0.retain(|(asset, role), _| !unknown(asset, *role));
        self
    }

    /// What one role got, row by row.
    #[cfg(test)]
    pub(crate) fn of(&self, role: Role) -> impl Iterator<Item = (&str, &BTreeSet<String>)> {
        self.0
            .iter()
            .filter(move |((_, of), _)| *of == role)
            .map(|((asset, _), got)| (asset.as_str(), got))
    }
}

fn cells(line: &str) -> Option<Vec<String>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split('|').map(|cell| cell.trim().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(asset: &str, act: &str, came: Came) -> Attempt {
        Attempt {
            asset: asset.into(),
            act: act.into(),
            target: String::new(),
            came,
            says: String::new(),
        }
    }

    fn matrix() -> Matrix {
        let mut matrix = Matrix::default();
        matrix.note(Role::Vault, &attempt("own directory", "read", Came::Got));
        matrix.note(Role::Vault, &attempt("own directory", "write", Came::Got));
        matrix.note(Role::Gateway, &attempt("programs", "run", Came::Refused));
        matrix.note(Role::Gateway, &attempt("call Vault/Renew", "answered", Came::Got));
        matrix.note(Role::Gateway, &attempt("call Vault/Other", "answered", Came::Refused));
        matrix
    }

    #[test]
    fn what_is_printed_reads_back_as_the_same() {
        let text = format!("# A document\n\n## Got\n\n{}\nMore words.\n", matrix().table());
        let read = Matrix::read(&text, "## Got").unwrap();
        assert!(matrix().differs(&read).is_empty(), "{:?}", matrix().differs(&read));
        assert!(!text.contains("Vault/Other"), "{text}");
        assert!(Matrix::read(&text, "## Other").is_err());
    }

    #[test]
    fn more_and_less_are_both_told() {
        let text = format!("## Got\n\n{}", matrix().table());
        let said = Matrix::read(&text, "## Got").unwrap();
        let mut more = matrix();
        more.note(Role::Gateway, &attempt("programs", "run", Came::Got));
        assert_eq!(more.differs(&said), ["MORE than it may have: gateway, programs: run"]);
        let less = Matrix::default().differs(&said);
        assert_eq!(less.len(), 3, "{less:?}");
        assert!(less.iter().all(|line| line.starts_with("less than")), "{less:?}");
        let mut fresh = matrix();
        fresh.note(Role::Gateway, &attempt("call Vault/Other", "answered", Came::Got));
        assert_eq!(fresh.differs(&said).len(), 1, "a method that no document has");
    }

    #[test]
    fn what_is_absent_is_not_got() {
        let mut matrix = Matrix::default();
        matrix.note(Role::Vault, &attempt("programs", "run", Came::Absent));
        assert_eq!(matrix.differs(&Matrix::default()), Vec::<String>::new());
    }
}
