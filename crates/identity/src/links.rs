//! Identities that stand in one row: which of those that are new are whose.
//!
//! Only for products that say so. An id, once given, never changes: what is decided here is whether somebody new is a person of their
//! own or one who is known, or new in the same call, under another identity. Columns are told apart by how much they say of who
//! somebody is: a sign-in says more than a device, which several people may use.
//!
//! Promise: two who were known as two stay two. Whoever is known by an identity is never given a second one of a column that says as
//! much, or more, on the word of one that says less: two who sign in on one device stay two.
//!
//! Start at [`Plan`]. Does not know identities, only their hashes.

use std::collections::{BTreeSet, HashMap};

use base::{ErrorKind, PersonId};

use crate::keys::Hash;

/// Rows in one call.
pub(crate) const MOST_ROWS: usize = 100_000;
/// Identities in all of them, each as often as it stands there.
const MOST_MEMBERS: usize = 200_000;
/// Columns that hold identities, and so identities in one row.
const MOST_COLUMNS: usize = 32;
/// Bytes of a name as it is compared, which can be longer than as it was declared.
const LONGEST_COLUMN: usize = 2_048;

/// Which identities of a call stand together.
#[derive(Debug, Default)]
pub(crate) struct Links {
    /// Names of columns, the one that says most first.
    pub(crate) columns: Vec<String>,
    /// Of each identity the column, as a place among these.
    pub(crate) column: Vec<usize>,
    /// Rows, in the order in which they were sent: places among the identities of the call.
    pub(crate) together: Vec<Vec<usize>>,
}

/// Why links cannot be. Never says of whom.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinksError {
    #[error(
        "{rows} rows with {members} identities in one call, at most {MOST_ROWS} with {MOST_MEMBERS} are possible; ask for them in parts"
    )]
    TooMany { rows: usize, members: usize },
    #[error("a call has at most {MOST_COLUMNS} identity columns, each of 1 to {LONGEST_COLUMN} bytes, and one of them for each identity")]
    Columns,
    #[error("row number {0} names fewer than two or too many identities, or one that the call does not have")]
    Row(usize),
}

impl LinksError {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::TooMany { .. } => ErrorKind::TooLarge,
            Self::Columns | Self::Row(_) => ErrorKind::Invalid,
        }
    }
}

impl Links {
    /// Refuses what is more than a call may hold, and what points to nothing; `identities` is how many the call has.
    pub(crate) fn check(&self, identities: usize) -> Result<(), LinksError> {
        let (rows, members) = (self.together.len(), self.members());
        if rows > MOST_ROWS || members > MOST_MEMBERS {
            return Err(LinksError::TooMany { rows, members });
        }
        let good = |name: &String| (1..=LONGEST_COLUMN).contains(&name.len());
        let named = self.column.len() == identities && self.column.iter().all(|place| *place < self.columns.len());
        if self.columns.len() > MOST_COLUMNS || !self.columns.iter().all(good) || !named {
            return Err(LinksError::Columns);
        }
        let wrong = |row: &Vec<usize>| !(2..=MOST_COLUMNS).contains(&row.len()) || row.iter().any(|place| *place >= identities);
        match self.together.iter().position(wrong) {
            Some(index) => Err(LinksError::Row(index + 1)),
            None => Ok(()),
        }
    }

    /// How many identities would be as much work.
    pub(crate) fn work(&self) -> usize {
        self.members() / 2
    }

    fn members(&self) -> usize {
        self.together.iter().map(Vec::len).sum()
    }
}

/// Somebody of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) hash: Hash,
    /// Which of the caller's columns the identity is of: the lower, the more it says.
    pub(crate) column: usize,
}

/// What one caller says about those who are new.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rows {
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<Member>>,
}

/// Whose an identity is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Who {
    /// Somebody's who has an id.
    Known(PersonId),
    /// Somebody's who gets one now: which of those.
    New(usize),
}

/// By what somebody is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KnownBy {
    /// Columns of their identities. Empty: it was not noted, and may be any.
    pub(crate) columns: BTreeSet<String>,
    /// How many identities they have.
    pub(crate) identities: u64,
}

/// Decides, row after row.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    ids: &'a HashMap<Hash, PersonId>,
    known_by: HashMap<Who, KnownBy>,
    decided: HashMap<Hash, Who>,
    count: usize,
}

impl<'a> Plan<'a> {
    /// `ids` are of those who have one; `known_by` is what is kept of them, as far as a row names them.
    pub(crate) fn new(ids: &'a HashMap<Hash, PersonId>, known_by: HashMap<PersonId, KnownBy>) -> Self {
        Self {
            ids,
            known_by: known_by.into_iter().map(|(id, by)| (Who::Known(id), by)).collect(),
            decided: HashMap::new(),
            count: 0,
        }
    }

    /// How many people are new so far.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Whose this identity is: somebody's of their own, if no row said otherwise.
    pub(crate) fn who(&mut self, hash: &Hash) -> Who {
        self.of(hash).unwrap_or_else(|| self.alone(*hash))
    }

    /// Takes a row into account.
    pub(crate) fn row(&mut self, columns: &[String], row: &[Member]) {
        let mut members: Vec<&Member> = row.iter().collect();
        members.sort_by_key(|member| member.column);
        for member in &members {
            if self.of(&member.hash).is_some() {
                continue;
            }
            // Of those in the row who are somebody's by now, the one that says most.
            let anchor = members.iter().find_map(|other| Some((self.of(&other.hash)?, other.column)));
            let who = match anchor {
                Some((who, column)) if self.may_join(who, column, member.column, columns) => {
                    self.decided.insert(member.hash, who);
                    who
                }
                _ => self.alone(member.hash),
            };
            let by = self.known_by.entry(who).or_default();
            by.columns.extend(columns.get(member.column).cloned());
            by.identities += 1;
        }
    }

    /// Whether a new identity of the column `new` is `who`'s, on the word of one of the column `anchor`.
    fn may_join(&self, who: Who, anchor: usize, new: usize, columns: &[String]) -> bool {
        if anchor < new {
            return true;
        }
        let Some(by) = self.known_by.get(&who) else { return false };
        // The one that is known is the one in the row, of the row's column, whatever was noted then.
        let only = by.identities == 1 && anchor > new;
        let says_less = |name: &String| columns.iter().position(|column| column == name).is_some_and(|place| place > new);
        only || by.columns.iter().all(says_less)
    }

    fn of(&self, hash: &Hash) -> Option<Who> {
        self.ids
            .get(hash)
            .map(|id| Who::Known(*id))
            .or_else(|| self.decided.get(hash).copied())
    }

    fn alone(&mut self, hash: Hash) -> Who {
        let who = Who::New(self.count);
        self.count += 1;
        self.decided.insert(hash, who);
        who
    }
}

#[cfg(test)]
mod tests;
